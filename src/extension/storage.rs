//! Where segments and recordings lie: objects by name, on a disk or behind a network.
//!
//! A backend is called on storage threads alone and may take its time; no shard ever waits for it.

use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::{
    OBJECT_COMPONENT_BYTES_MAX, OBJECT_COMPONENTS_MAX, OBJECT_COPY_BYTES_MAX, OBJECT_NAME_BYTES_MAX,
};

/// Keeps objects. Synchronous, for threads that may wait.
pub trait StorageBackend: Send + Sync {
    /// Writes a whole object, given in pieces, in place of one that may be there: whoever reads gets the old one or
    /// the new one, also after a crash. It is durable when this returns.
    ///
    /// # Errors
    /// It is not there; one that was there before still is.
    fn put(&self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError>;

    /// Begins an object that grows.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if one has this name: no recording ever writes over another one.
    fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, StorageError>;

    /// Reads those bytes of a range that the object has: fewer than were asked for, or none, where it ends.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// Bytes of an object.
    ///
    /// # Errors
    /// There is none, or nobody can tell.
    fn size(&self, name: &ObjectName) -> Result<u64, StorageError>;

    /// Deletes an object.
    ///
    /// # Errors
    /// There is none, or it could not be deleted.
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError>;

    /// Shows the objects whose names begin with these components, or all of them, in no order, until told to stop.
    ///
    /// # Errors
    /// Not all could be listed.
    fn list(
        &self,
        prefix: Option<&ObjectName>,
        found: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
    ) -> Result<(), StorageError>;

    /// Adds to the end of an object, which is made if there is none. All of it or nothing is there afterwards, save
    /// for a crash in the middle. It is durable when this returns.
    ///
    /// # Errors
    /// Nothing was added.
    fn append(&self, name: &ObjectName, bytes: &Bytes) -> Result<(), StorageError> {
        let before = match self.size(name) {
            Ok(size) => self.get(name, 0..checked(size)?)?,
            Err(StorageError::NotFound) => Bytes::new(),
            Err(error) => return Err(error),
        };
        self.put(name, &[before, bytes.clone()])
    }

    /// Cuts an object to so many bytes, if it has more.
    ///
    /// # Errors
    /// It is as it was.
    fn cut(&self, name: &ObjectName, length: u64) -> Result<(), StorageError> {
        if self.size(name)? <= length {
            return Ok(());
        }
        let kept = self.get(name, 0..checked(length)?)?;
        self.put(name, &[kept])
    }
}

fn checked(length: u64) -> Result<u64, StorageError> {
    if length > OBJECT_COPY_BYTES_MAX { Err(StorageError::TooLong) } else { Ok(length) }
}

/// An object that grows. One that is dropped without [`ObjectWriter::finish`] keeps what was written.
pub trait ObjectWriter: Send {
    /// Adds these pieces. After an error the object ends where it ended before, and more may be tried, except after
    /// [`StorageError::Broken`].
    ///
    /// # Errors
    /// None of it is there.
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StorageError>;

    /// What was written so far survives a power loss from now on, and can be read.
    ///
    /// # Errors
    /// It may be lost.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Nothing follows; syncs.
    ///
    /// # Errors
    /// The end may be lost.
    fn finish(self: Box<Self>) -> Result<(), StorageError>;

    /// Takes the object away.
    fn abort(self: Box<Self>);
}

/// An object as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Bytes of it.
    pub bytes: u64,
}

/// Why storage did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The caller's: no object has this name.
    #[error("there is no such object")]
    NotFound,
    /// The caller's: an object has this name already, or a folder has, or an object stands where a folder should.
    #[error("something of this name is there already")]
    Exists,
    /// The caller's: the object is longer than this backend can hold or copy.
    #[error("the object is longer than the storage can hold")]
    TooLong,
    /// The operator's: no room, or the quota is used up.
    #[error("the storage is full")]
    NoRoom,
    /// The operator's: not allowed, read-only, or a symbolic link where a folder of ours should be.
    #[error("the storage does not allow it")]
    Denied,
    /// The storage's: it failed, or is not there. Later it may be.
    #[error("the storage failed: {0}")]
    Unavailable(io::ErrorKind),
    /// The storage's: a server that answers with this status.
    #[error("the storage answers with status {0}")]
    Refused(u16),
    /// The storage's: nobody knows any more what of this object is there.
    #[error("an earlier failure left the object in an unknown state")]
    Broken,
}

impl StorageError {
    /// Whether the same may succeed later, with nobody in this process doing anything about it.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        !matches!(self, Self::NotFound | Self::Exists | Self::TooLong | Self::Broken)
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::DirectoryNotEmpty => Self::Exists,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom,
            ErrorKind::FileTooLarge => Self::TooLong,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            kind => Self::Unavailable(kind),
        }
    }
}

/// The name of an object: a relative path that cannot lead out of its storage.
///
/// Components of `A-Z a-z 0-9 _ . ~ -`, with `/` between them; none is empty, `.` or `..`. There are at most
/// [`OBJECT_COMPONENTS_MAX`] of them, of [`OBJECT_COMPONENT_BYTES_MAX`] bytes each and [`OBJECT_NAME_BYTES_MAX`]
/// together. Whoever has one need not look again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ObjectNameError`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, ObjectNameError> {
        if text.len() > OBJECT_NAME_BYTES_MAX {
            return Err(ObjectNameError::TooLong);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-/".contains(&byte);
        if let Some(at) = text.bytes().position(|byte| !allowed(byte)) {
            return Err(ObjectNameError::Character { at });
        }
        let mut count = 0;
        for component in text.split('/') {
            count += 1;
            match component {
                "" => return Err(ObjectNameError::Empty),
                "." | ".." => return Err(ObjectNameError::DotComponent),
                _ if component.len() > OBJECT_COMPONENT_BYTES_MAX => return Err(ObjectNameError::TooLong),
                _ => {}
            }
        }
        if count > OBJECT_COMPONENTS_MAX {
            return Err(ObjectNameError::TooDeep);
        }
        Ok(Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components: at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it begins with the components of another one, or is the same.
    #[must_use]
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectName({})", self.0)
    }
}

impl std::str::FromStr for ObjectName {
    type Err = ObjectNameError;
    fn from_str(text: &str) -> Result<Self, ObjectNameError> {
        Self::new(text)
    }
}

/// Why a text is no [`ObjectName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectNameError {
    /// No characters, a slash at an end, or two together.
    #[error("a component of the name is empty")]
    Empty,
    /// More bytes than [`OBJECT_NAME_BYTES_MAX`], or than [`OBJECT_COMPONENT_BYTES_MAX`] in one component.
    #[error("the name or one of its components is too long")]
    TooLong,
    /// More components than [`OBJECT_COMPONENTS_MAX`].
    #[error("the name has more than {OBJECT_COMPONENTS_MAX} components")]
    TooDeep,
    /// A character outside of the allowed set, by its byte offset.
    #[error("the name holds a character at byte {at} that is not one of A-Z a-z 0-9 _ . ~ - /")]
    Character {
        /// Offset in bytes.
        at: usize,
    },
    /// `.` or `..`.
    #[error("a component of the name is '.' or '..'")]
    DotComponent,
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for (text, error) in [
            ("", ObjectNameError::Empty),
            ("/a", ObjectNameError::Empty),
            ("a//b", ObjectNameError::Empty),
            ("a/", ObjectNameError::Empty),
            ("..", ObjectNameError::DotComponent),
            ("a/../b", ObjectNameError::DotComponent),
            ("./a", ObjectNameError::DotComponent),
            ("a\\b", ObjectNameError::Character { at: 1 }),
            ("a\0", ObjectNameError::Character { at: 1 }),
            ("C:", ObjectNameError::Character { at: 1 }),
            ("%2e%2e", ObjectNameError::Character { at: 0 }),
        ] {
            assert_eq!(ObjectName::new(text), Err(error), "{text:?}");
        }
        assert_eq!(ObjectName::new(&"a".repeat(OBJECT_COMPONENT_BYTES_MAX + 1)), Err(ObjectNameError::TooLong));
        assert_eq!(ObjectName::new(&"a/".repeat(OBJECT_NAME_BYTES_MAX)), Err(ObjectNameError::TooLong));
        let deep = vec!["a"; OBJECT_COMPONENTS_MAX + 1].join("/");
        assert_eq!(ObjectName::new(&deep), Err(ObjectNameError::TooDeep));
    }

    #[test]
    fn a_prefix_ends_between_components() {
        let name = |text| ObjectName::new(text).unwrap();
        assert!(name("a/b/c").is_below(&name("a/b")) && name("a/b").is_below(&name("a/b")));
        assert!(!name("a/bc").is_below(&name("a/b")) && !name("a").is_below(&name("a/b")));
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_stays_within_its_root(text in "[a.~/\\\\ ]{0,12}") {
            let plain = |text: &str| {
                let parts: Vec<_> = Path::new(text).components().collect();
                let normal = parts.iter().all(|part| matches!(part, Component::Normal(_)));
                // Path passes over "a//b", "a/." and "a/".
                normal && parts.len() == text.split('/').count()
            };
            let right = !text.is_empty() && plain(&text) && !text.contains(['\\', ' ']);
            prop_assert_eq!(ObjectName::new(&text).is_ok(), right);
        }
    }
}
