//! The trail as a file of JSON lines.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::json::write_line;
use super::record::{AuditError, AuditSink, Record};

/// Appends records to a file, one JSON object per line; see [`write_line`].
///
/// The file and its folder are made if need be, for the owner alone (0600, 0700), and locked: two pipelines cannot
/// write one file. A batch is in the file whole or not at all, unless the process is killed meanwhile; then the
/// torn line stays, with its line end added at the next start. [`AuditSink::flush`] is `fdatasync`.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    /// A failed write may have left a part of a line behind `length`.
    torn: bool,
    lines: Vec<u8>,
}

impl FileSink {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`AuditError::File`] with what could not be done, or [`AuditError::InUse`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AuditError> {
        let path = path.into();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            make_folder(folder).map_err(failed(&path, "make the folder of"))?;
        }
        let mut file = open_private(&path).map_err(failed(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditError::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(failed(&path, "lock")(error)),
        }
        let length = end_last_line(&mut file).map_err(failed(&path, "end the last line of"))?;
        // Else a file that was just made might be gone after a power loss, with all that was synced into it.
        File::open(folder.unwrap_or_else(|| Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed(&path, "sync the folder of"))?;
        Ok(Self { file, path, length, torn: false, lines: Vec::new() })
    }

    /// Where it writes to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AuditSink for FileSink {
    fn write(&mut self, records: &[Record]) -> Result<(), AuditError> {
        if self.torn {
            self.file.set_len(self.length).map_err(failed(&self.path, "cut a torn line off"))?;
            self.torn = false;
        }
        self.lines.clear();
        self.lines.shrink_to(LINES_BYTES_KEPT);
        for record in records {
            write_line(record, &mut self.lines);
        }
        self.torn = true;
        self.file.write_all(&self.lines).map_err(failed(&self.path, "append to"))?;
        self.torn = false;
        self.length += self.lines.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(failed(&self.path, "sync"))
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::File { path, action, source }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).read(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A process that was killed may have left half a line: the next record begins on its own. Gives the length.
fn end_last_line(file: &mut File) -> std::io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

/// Of the buffer of a batch; a larger one goes back after its use.
const LINES_BYTES_KEPT: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;
    use crate::audit::Entry;
    use crate::clock::Now;
    use crate::fact::{Fact, FactKind};
    use crate::id::ShardId;

    /// A folder that is gone after the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("shardcast-audit-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("audit/audit.jsonl")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(seq: u64) -> Record {
        let fact = Fact::new(FactKind::RouterStart, Now::default(), ShardId(0));
        Record { seq, producer: 0, producer_seq: seq, entry: Entry::Fact(fact) }
    }

    fn seqs(path: &Path) -> Vec<Option<u64>> {
        let lines = fs::read_to_string(path).unwrap();
        assert!(lines.ends_with('\n'));
        lines.lines().map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64()).collect()
    }

    #[test]
    fn records_are_appended_to_what_an_earlier_run_wrote() {
        let folder = Folder::new("append");
        for seq in 1..=2 {
            let mut sink = FileSink::open(folder.file()).unwrap();
            sink.write(&[record(seq)]).unwrap();
            sink.flush().unwrap();
        }

        assert_eq!(seqs(&folder.file()), [Some(1), Some(2)]);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_but_the_owner_may_read_the_file_or_look_into_its_folder() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("mode");
        let sink = FileSink::open(folder.file()).unwrap();

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(sink.path()), mode(sink.path().parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_file_that_another_pipeline_writes_is_refused() {
        let folder = Folder::new("lock");
        let first = FileSink::open(folder.file()).unwrap();

        assert!(matches!(FileSink::open(folder.file()), Err(AuditError::InUse { .. })));
        drop(first);
        assert!(FileSink::open(folder.file()).is_ok());
    }

    #[test]
    fn a_line_that_a_kill_has_torn_does_not_spoil_the_next() {
        let folder = Folder::new("torn");
        drop(FileSink::open(folder.file()).unwrap());
        fs::write(folder.file(), "{\"v\":1,\"seq\":1}\n{\"v\":1,\"se").unwrap();

        FileSink::open(folder.file()).unwrap().write(&[record(3)]).unwrap();

        assert_eq!(seqs(&folder.file()), [Some(1), None, Some(3)]);
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next() {
        let folder = Folder::new("failed");
        let mut sink = FileSink::open(folder.file()).unwrap();
        sink.write(&[record(1)]).unwrap();
        // As a disk that became full in the middle of a line.
        sink.file.write_all(b"{\"v\":1,\"se").unwrap();
        sink.torn = true;

        sink.write(&[record(2)]).unwrap();

        assert_eq!(seqs(&folder.file()), [Some(1), Some(2)]);
    }

    #[test]
    fn an_error_names_the_file_and_what_was_tried() {
        let folder = Folder::new("error");
        fs::create_dir_all(folder.file()).unwrap();

        let error = FileSink::open(folder.file()).unwrap_err().to_string();
        assert!(error.contains("audit.jsonl: cannot open: "), "{error}");
    }
}
