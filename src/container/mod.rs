//! Containers: bytes ↔ frames, shared by protocols and recorders.

#[cfg(feature = "media")]
pub mod mpegts;
