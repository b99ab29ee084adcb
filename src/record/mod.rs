//! Recording and packaging: frames → containers → storage, on threads that may wait for a disk.

pub mod recorder;
pub mod storage;
