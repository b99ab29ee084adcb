//! The asking end of the control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::cli::control::model::{Reply, Stats, VERSION};

pub(super) struct Client {
    stream: BufReader<UnixStream>,
    shown: String,
}

impl Client {
    pub(super) fn connect(path: &Path) -> Result<Self, String> {
        let shown = path.display().to_string();
        let stream = UnixStream::connect(path).map_err(|error| {
            format!("no server answers at {shown} ({error}): is it running, and is that its path?")
        })?;
        let timed =
            stream.set_read_timeout(Some(ANSWER_WITHIN)).and_then(|()| stream.set_write_timeout(Some(ANSWER_WITHIN)));
        timed.map_err(|error| format!("{shown}: {error}"))?;
        Ok(Self { stream: BufReader::new(stream), shown })
    }

    /// Where the server is asked.
    pub(super) fn path(&self) -> &str {
        &self.shown
    }

    pub(super) fn stats(&mut self) -> Result<Stats, String> {
        let request = format!("{{\"v\":{VERSION},\"get\":\"stats\"}}\n");
        // A server that refuses us says so before it closes: what it said is read also if this fails.
        let asked = self.stream.get_mut().write_all(request.as_bytes());
        let mut line = String::new();
        let read = self.stream.by_ref().take(ANSWER_BYTES_MAX).read_line(&mut line);
        if line.is_empty() {
            let why = asked.and(read).map_or_else(|error| format!(": {error}"), |_| String::new());
            return Err(format!("the server at {} has closed the connection{why}", self.shown));
        }
        let reply: Reply = serde_json::from_str(&line)
            .map_err(|error| format!("what answers at {} is no shardcast of this version: {error}", self.shown))?;
        match reply {
            Reply { error: Some(sentence), .. } => Err(format!("the server at {} says: {sentence}", self.shown)),
            Reply { stats: Some(stats), .. } => Ok(stats),
            Reply { .. } => Err(format!("the server at {} did not say what it was asked for", self.shown)),
        }
    }
}

/// A server that is alive answers in milliseconds; one with a shard that hangs, in seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Half a kilobyte for each stream, and many of them.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
