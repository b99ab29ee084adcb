//! The files of a trail, as far as they are written: a test puts others in their place, which fail.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder of files that are only appended to.
pub(super) trait Disk: Debug + Send {
    /// Makes a file that is not there yet, for the owner alone, and sees to it that its name is durable.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>>;

    /// Opens one that may be there, to go on with it.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Appended>>;

    /// Takes so many bytes of the disk by a file that holds nothing, unless one of that size is there.
    fn reserve(&self, path: &Path, bytes: usize) -> io::Result<()>;

    /// Gives them back.
    fn release(&self, path: &Path) -> io::Result<()>;
}

/// One of them.
pub(super) trait Appended: Debug + Send {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable. After an error nobody knows what is: it is never asked again.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off what a failed write left behind `length`.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        let file = open(path, OpenOptions::new().append(true).create_new(true))?;
        sync_folder(path)?;
        Ok(Box::new(file))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        let file = open(path, OpenOptions::new().append(true).create(true))?;
        sync_folder(path)?;
        Ok(Box::new(file))
    }

    fn reserve(&self, path: &Path, bytes: usize) -> io::Result<()> {
        if std::fs::metadata(path).is_ok_and(|there| there.len() == bytes as u64) {
            return Ok(());
        }
        let mut file = open(path, OpenOptions::new().write(true).create(true).truncate(true))?;
        // Written, and not only said to be so long: a file of holes takes no room.
        Write::write_all(&mut file, &vec![0; bytes])?;
        file.sync_all()
    }

    fn release(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

impl Appended for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

pub(in crate::audit) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

pub(in crate::audit) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Else a file that was just made might be gone after a power loss, with all that was synced into it.
pub(in crate::audit) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new("."))).and_then(|folder| folder.sync_all())
}

/// The segments of a trail, by number.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(dir, "", ".jsonl", 8)
}

/// The counters of boots, by number.
pub(super) fn pages(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(dir, "counters-", "", 1)
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

pub(super) fn page_path(dir: &Path, boot: u64) -> PathBuf {
    dir.join(format!("counters-{boot}"))
}

fn numbered(dir: &Path, prefix: &str, suffix: &str, digits: usize) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix));
        let number = number.filter(|number| number.len() >= digits && number.bytes().all(|c| c.is_ascii_digit()));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
