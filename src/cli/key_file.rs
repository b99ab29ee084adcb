//! Files that hold a key.

use std::fmt::Display;
use std::path::Path;

use super::Failure;

/// Reads a key; `what` says which one it is, should it be of no use.
pub(super) fn read<T, E: Display>(
    what: &str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    let failed = |why: &dyn Display| Failure::runtime(format!("{what} in {} cannot be used: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse(&text).map_err(|error| failed(&error))
}
