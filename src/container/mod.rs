//! Containers: bytes ↔ frames, shared by protocols and recorders.

pub mod flv;
#[cfg(feature = "media")]
pub mod mpegts;
