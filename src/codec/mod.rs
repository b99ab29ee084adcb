//! What is inside of a payload, as far as containers need to know it.

pub mod adts;
pub mod annexb;
