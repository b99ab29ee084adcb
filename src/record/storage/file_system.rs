//! Objects as files below a folder that is held open.
//!
//! Every step of a path is opened relative to the folder before it and follows no symbolic link: what somebody puts
//! into the tree, or does to its parents, leads nowhere else. Names with a `+`, which no object has, are ours.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::extension::{ObjectInfo, ObjectName, ObjectWriter, StorageBackend, StorageError};
use crate::limits::OBJECT_COMPONENTS_MAX;

/// For the owner alone.
const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// Slices of one write.
const SLICES_MAX: usize = 256;

/// A folder on this machine. A clone is the same folder.
#[derive(Clone, Debug)]
pub struct FileSystem {
    root: Arc<OwnedFd>,
    /// Of the next temporary name.
    temporary: Arc<AtomicU64>,
}

impl FileSystem {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or opened, or is no folder.
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE.as_raw_mode());
        builder.recursive(true).create(&folder)?;
        // The root itself may be a link: whoever configures it says so.
        let flags = FOLDER.difference(OFlags::NOFOLLOW);
        let root = openat(CWD, folder.as_ref(), flags, Mode::empty())?;
        Ok(Self { root: Arc::new(root), temporary: Arc::default() })
    }

    /// The folder that a name is in, and its last component.
    fn folder<'a>(&self, name: &'a ObjectName, make: bool) -> Result<(OwnedFd, &'a str), StorageError> {
        let mut folder = self.root.try_clone()?;
        let mut components = name.components();
        let last = components.next_back().unwrap_or_default();
        for component in components {
            folder = step(folder.as_fd(), component, make)?;
        }
        Ok((folder, last))
    }

    fn file(&self, name: &ObjectName, flags: OFlags) -> Result<File, StorageError> {
        let (folder, last) = self.folder(name, false)?;
        let file = File::from(openat(&folder, last, flags | FILE, Mode::empty()).map_err(failed)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(StorageError::NotFound) }
    }
}

fn step(folder: BorrowedFd<'_>, component: &str, make: bool) -> Result<OwnedFd, StorageError> {
    match openat(folder, component, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) if make => {}
        opened => return opened.map_err(failed),
    }
    match mkdirat(folder, component, FOLDER_MODE) {
        // Somebody else was faster.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    sync_folder(folder)?;
    openat(folder, component, FOLDER, Mode::empty()).map_err(failed)
}

/// Else a file that was just made might be gone after a power loss, with all that was synced into it.
fn sync_folder(folder: BorrowedFd<'_>) -> Result<(), StorageError> {
    rustix::fs::fsync(folder).map_err(failed)
}

fn failed(error: Errno) -> StorageError {
    // A link where a folder or a file of ours should be.
    if error == Errno::LOOP { StorageError::Denied } else { io::Error::from(error).into() }
}

/// Writes all pieces in as few calls as can be.
fn write_all(mut file: &File, pieces: &[Bytes]) -> io::Result<()> {
    for pieces in pieces.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

impl StorageBackend for FileSystem {
    fn put(&self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError> {
        let (folder, last) = self.folder(name, true)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("+{}-{number}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | FILE;
        let file = File::from(openat(&folder, &*temporary, flags, FILE_MODE).map_err(failed)?);
        let written = write_all(&file, pieces).and_then(|()| file.sync_data()).map_err(StorageError::from);
        let put = written.and_then(|()| renameat(&folder, &*temporary, &folder, last).map_err(failed));
        if put.is_err() {
            let _ = unlinkat(&folder, &*temporary, AtFlags::empty());
        }
        put?;
        sync_folder(folder.as_fd())
    }

    fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, StorageError> {
        let (folder, last) = self.folder(name, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | FILE;
        let file = File::from(openat(&folder, last, flags, FILE_MODE).map_err(failed)?);
        sync_folder(folder.as_fd())?;
        Ok(Box::new(Growing { file, folder, name: last.into(), length: 0, broken: false }))
    }

    fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let file = self.file(name, OFlags::RDONLY)?;
        let end = range.end.min(file.metadata()?.len());
        let length = usize::try_from(end.saturating_sub(range.start)).map_err(|_| StorageError::TooLong)?;
        let mut bytes = BytesMut::zeroed(length);
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, range.start.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(read);
        Ok(bytes.freeze())
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StorageError> {
        Ok(self.file(name, OFlags::RDONLY)?.metadata()?.len())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let (folder, last) = self.folder(name, false)?;
        unlinkat(&folder, last, AtFlags::empty()).map_err(failed)
    }

    fn list(
        &self,
        prefix: Option<&ObjectName>,
        found: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut start = self.root.try_clone()?;
        for component in prefix.iter().flat_map(|prefix| prefix.components()) {
            start = match step(start.as_fd(), component, false) {
                Ok(folder) => folder,
                // The prefix names nothing, or a file.
                Err(StorageError::NotFound) => return Ok(()),
                Err(StorageError::Exists) => {
                    let (Some(name), Ok(bytes)) = (prefix, prefix.map_or(Ok(0), |name| self.size(name))) else {
                        return Ok(());
                    };
                    let _ = found(ObjectInfo { name: name.clone(), bytes });
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
        }
        // Depth first, with one open folder per level at most. Each is opened anew: a duplicate of the root would go on
        // where the last list has ended.
        let depth = prefix.map_or(0, |prefix| prefix.components().count());
        let mut open = vec![(
            Dir::read_from(&start).map_err(failed)?,
            prefix.map_or_else(String::new, |name| format!("{name}/")),
        )];
        loop {
            let level = depth + open.len();
            let Some((dir, path)) = open.last_mut() else { return Ok(()) };
            let Some(entry) = dir.read() else {
                open.pop();
                continue;
            };
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(object) = ObjectName::new(&format!("{path}{name}")) else { continue };
            let folder = dir.fd().map_err(failed)?;
            let kind = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
            // One that is deleted meanwhile is not there.
            let Ok(stat) = kind else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                    if found(ObjectInfo { name: object, bytes }).is_break() {
                        return Ok(());
                    }
                }
                FileType::Directory if level < OBJECT_COMPONENTS_MAX => match step(folder, name, false) {
                    Ok(inner) => open.push((Dir::read_from(&inner).map_err(failed)?, format!("{object}/"))),
                    Err(StorageError::NotFound) => {}
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
    }

    fn append(&self, name: &ObjectName, bytes: &Bytes) -> Result<(), StorageError> {
        let (folder, last) = self.folder(name, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | FILE;
        let file = File::from(openat(&folder, last, flags, FILE_MODE).map_err(failed)?);
        let before = file.metadata()?.len();
        if let Err(error) = write_all(&file, std::slice::from_ref(bytes)).and_then(|()| file.sync_data()) {
            file.set_len(before).map_err(|_| StorageError::Broken)?;
            return Err(error.into());
        }
        if before == 0 { sync_folder(folder.as_fd()) } else { Ok(()) }
    }

    fn cut(&self, name: &ObjectName, length: u64) -> Result<(), StorageError> {
        let file = self.file(name, OFlags::WRONLY)?;
        if file.metadata()?.len() > length {
            file.set_len(length)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

/// A file that is appended to in place: a crash leaves all that was written whole.
struct Growing {
    file: File,
    folder: OwnedFd,
    name: Box<str>,
    length: u64,
    broken: bool,
}

impl ObjectWriter for Growing {
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StorageError> {
        if self.broken {
            return Err(StorageError::Broken);
        }
        if let Err(error) = write_all(&self.file, pieces) {
            // Half a piece is none.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error.into());
        }
        self.length = pieces.iter().fold(self.length, |sum, piece| sum.saturating_add(piece.len() as u64));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        // After an error the kernel may have dropped what it could not write: nobody knows what is there.
        self.file.sync_data().inspect_err(|_| self.broken = true).map_err(Into::into)
    }

    fn finish(mut self: Box<Self>) -> Result<(), StorageError> {
        self.sync()
    }

    fn abort(self: Box<Self>) {
        let _ = unlinkat(&self.folder, &*self.name, AtFlags::empty());
    }
}
