//! Where recordings go: backends of [`StorageBackend`](crate::extension::StorageBackend).

mod file_system;
mod memory;
#[cfg(test)]
mod tests;

pub use file_system::FileSystem;
pub use memory::Memory;
