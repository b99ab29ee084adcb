//! Where bytes come from: a file, a pipe, or memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::limits::INGEST_READ_BYTES;

/// What is opened, and opened again for the next lap.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory(Bytes),
}

impl Place {
    /// `-` is the standard input.
    pub(super) fn of(path: &Path) -> Self {
        Self::File(if path.as_os_str() == "-" { PathBuf::from("/dev/stdin") } else { path.to_owned() })
    }

    pub(super) fn open(&self) -> io::Result<Input> {
        let path = match self {
            Self::File(path) => path,
            Self::Memory(bytes) => return Ok(Input::Memory(Cursor::new(bytes.clone()))),
        };
        // A pipe without a writer, or whose writer pauses, must not keep a thread from being stopped. Opened by its name
        // the standard input has this flag here alone, and not where it was inherited from.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(if metadata.is_file() { Input::File(file) } else { Input::Pipe { file, begun: false } })
    }
}

/// Something open.
#[derive(Debug)]
pub(super) enum Input {
    File(File),
    Pipe {
        file: File,
        /// Something was read: that nothing more is there is the end, and not that nobody writes yet.
        begun: bool,
    },
    Memory(Cursor<Bytes>),
}

/// What a read gave.
pub(super) enum Part {
    Bytes(Bytes),
    /// Nothing, yet.
    Wait,
    End,
}

impl Input {
    pub(super) const fn is_seekable(&self) -> bool {
        !matches!(self, Self::Pipe { .. })
    }

    /// The next bytes.
    pub(super) fn part(&mut self) -> io::Result<Part> {
        let mut buffer = vec![0; INGEST_READ_BYTES];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => {
                    return Ok(if matches!(self, Self::Pipe { begun: false, .. }) { Part::Wait } else { Part::End });
                }
                Ok(read) => {
                    buffer.truncate(read);
                    if let Self::Pipe { begun, .. } = self {
                        *begun = true;
                    }
                    return Ok(Part::Bytes(buffer.into()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Part::Wait),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) | Self::Pipe { file, .. } => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) | Self::Pipe { file, .. } => file.seek(to),
            Self::Memory(bytes) => bytes.seek(to),
        }
    }
}

/// All that a bounded reader gives.
pub(super) fn read_up_to(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(bytes)
}
