//! The lines of a trail, one after the other, across its segments.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use shardcast::audit::trail::segments;
use shardcast::limits::AUDIT_LINE_BYTES_MAX;

/// Reads a trail from its beginning, or goes on with what was appended.
pub(super) struct Lines {
    dir: PathBuf,
    /// The segment that is read, and how far.
    current: Option<(u64, BufReader<File>)>,
    /// A line as far as it is there.
    part: Vec<u8>,
    /// That was the beginning of a line that is longer than any of ours.
    passing: bool,
}

impl Lines {
    /// # Errors
    /// There is no trail.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        if segments(dir)?.is_empty() {
            let why =
                format!("there is no audit trail in {}: it has no segment such as 00000001.jsonl", dir.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        Ok(Self { dir: dir.to_path_buf(), current: None, part: Vec::new(), passing: false })
    }

    /// The next whole line, without its end; `None` at the end of what is there now.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((_, reader)) = &mut self.current {
                let room = AUDIT_LINE_BYTES_MAX.saturating_sub(self.part.len());
                let read = reader.by_ref().take(room as u64).read_until(b'\n', &mut self.part)?;
                if self.part.ends_with(b"\n") {
                    self.part.pop();
                    let line = std::mem::take(&mut self.part);
                    // The end of one that was passed over is no line.
                    if std::mem::take(&mut self.passing) {
                        continue;
                    }
                    return Ok(Some(line));
                }
                if read == room {
                    self.part.clear();
                    self.passing = true;
                    continue;
                }
            }
            let after = self.current.as_ref().map_or(0, |(number, _)| *number);
            let next = segments(&self.dir)?.into_iter().find(|(number, _)| *number > after);
            let Some((number, path)) = next else { return Ok(None) };
            // What a crash left of a line in the segment before is nobody's.
            self.part.clear();
            self.passing = false;
            self.current = Some((number, BufReader::with_capacity(READ_BYTES, File::open(path)?)));
        }
    }
}

const READ_BYTES: usize = 256 * 1024;
