//! How far a destination is, kept on disk: replaced whole, so that it is the old one or the new one after any crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::trail::disk::{make_folder, open, sync_folder};
use super::super::trail::{Hash, from_hex, hex};
use super::destination::TrailRecord;
use super::reader::ReadError;

/// Why a follower cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// A name that is none.
    #[error("{0:?} is no name of a follower: it has 1 to 64 letters, digits, - and _")]
    Name(String),
    /// Two of one name would share a cursor.
    #[error("two followers of the audit trail are named {0:?}")]
    Twice(String),
    /// A file.
    #[error("the cursor {path}: cannot {action}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried: a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody has put another trail there.
    #[error(
        "{path} is the cursor of the trail {cursor}, and this is {trail}: give the follower another name, or move the file away to deliver this trail from its beginning"
    )]
    OtherTrail {
        /// The cursor.
        path: PathBuf,
        /// The trail that it is of.
        cursor: String,
        /// The one that is here.
        trail: String,
    },
    /// The trail cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No thread.
    #[error("cannot start a thread for the follower {0}: {1}")]
    Thread(String, #[source] io::Error),
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last record that it has, or that was put aside.
    pub(super) delivered: u64,
    /// The last record that it has.
    pub(super) taken: u64,
    /// The hash of [`Position::delivered`], where that is known.
    pub(super) hash: Option<Hash>,
    /// The last record of a batch that was offered: it may have come through. None is on its way if it is
    /// [`Position::delivered`].
    pub(super) offered: u64,
    /// Records that were put aside, in all.
    pub(super) refused: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    aside: PathBuf,
    log: String,
    pub(super) at: Position,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    log: String,
    delivered: u64,
    taken: u64,
    hash: Option<String>,
    offered: u64,
    refused: u64,
}

impl Cursor {
    pub(super) fn open(trail: &Path, name: &str, log: &str) -> Result<Self, CursorError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(CursorError::Name(name.into()));
        }
        let folder = trail.join(FOLDER);
        make_folder(&folder).map_err(failed(&folder, "make"))?;
        let path = folder.join(format!("{name}.json"));
        let at = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Position::default(),
            Err(error) => return Err(failed(&path, "read")(error)),
            Ok(bytes) => {
                let stored: Stored =
                    serde_json::from_slice(&bytes).map_err(|error| failed(&path, "read")(error.into()))?;
                if stored.log != log {
                    return Err(CursorError::OtherTrail { path, cursor: stored.log, trail: log.into() });
                }
                Position {
                    delivered: stored.delivered,
                    taken: stored.taken,
                    hash: stored.hash.and_then(|hash| from_hex(hash.as_bytes())),
                    offered: stored.offered,
                    refused: stored.refused,
                }
            }
        };
        let aside = folder.join(format!("{name}.refused.jsonl"));
        Ok(Self { path, aside, log: log.into(), at })
    }

    pub(super) fn log(&self) -> &str {
        &self.log
    }

    /// Keeps another position.
    pub(super) fn set(&mut self, at: Position) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        let Position { delivered, taken, hash, offered, refused } = at;
        let hash = hash.map(|hash| hex(&hash));
        let stored = Stored { log: self.log.clone(), delivered, taken, hash, offered, refused };
        let new = self.path.with_extension("new");
        let mut file = open(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
        serde_json::to_writer(&mut file, &stored)?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        sync_folder(&self.path)?;
        self.at = at;
        Ok(())
    }

    /// Puts a record aside that no destination will take, durably, with the reason.
    pub(super) fn put_aside(&self, record: &TrailRecord, why: &str) -> io::Result<()> {
        let mut file = open(&self.aside, OpenOptions::new().append(true).read(true).create(true))?;
        // A crash may have torn the last line off.
        let torn = !ends_with_line(&file)?;
        let mut line = if torn { b"\n".to_vec() } else { Vec::new() };
        line.extend_from_slice(format!("{{\"refused\":{},\"why\":", record.seq).as_bytes());
        serde_json::to_writer(&mut line, why)?;
        line.extend_from_slice(b",\"record\":");
        line.extend_from_slice(&record.line);
        line.extend_from_slice(b"}\n");
        file.write_all(&line)?;
        file.sync_data()?;
        sync_folder(&self.aside)
    }
}

fn ends_with_line(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata()?.len();
    let mut last = [0];
    Ok(length == 0 || (file.read_at(&mut last, length - 1)? == 1 && last == [b'\n']))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> CursorError {
    let path = path.to_owned();
    move |source| CursorError::File { path, action, source }
}

const FOLDER: &str = "followers";
const NAME_BYTES_MAX: usize = 64;
