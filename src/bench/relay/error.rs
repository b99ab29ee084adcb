//! Why a run has no result.

use std::io;
use std::path::PathBuf;

/// Why `relay` could not do what it was asked for, sorted by whose fault that is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A server's address that is none.
    #[error("{url}: {why}; expected rtmp://host[:port]/app[/name][?query][#PID]")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A setting outside of what makes sense.
    #[error("{name} of {value}: {rule}")]
    Setting {
        /// Its name on the command line.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        rule: &'static str,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A server could not be started.
    #[error("{name} did not start: {why}")]
    NotStarted {
        /// Of which kind.
        name: String,
        /// What was seen.
        why: String,
    },
    /// The program that is to be started is not there.
    #[error("{} is not there; build it first", path.display())]
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The server ended while it was measured.
    #[error("the server ended while it was measured")]
    ServerEnded,
    /// A process of ours could not go on.
    #[error("{0}")]
    Part(String),
    /// A process of ours said something else than expected, or nothing.
    #[error("the {part} ended without a result: {said}")]
    Silent {
        /// Which.
        part: &'static str,
        /// What it said instead.
        said: String,
    },
    /// More open files are needed than the system allows.
    #[error("{needed} open files are needed, {allowed} are allowed (ulimit -n)")]
    OpenFiles {
        /// For all connections.
        needed: usize,
        /// The hard limit.
        allowed: usize,
    },
    /// A publisher did not get through.
    #[error("the publisher of stream {stream} {why}")]
    Publisher {
        /// Which.
        stream: u32,
        /// What happened to it.
        why: String,
    },
}

impl RelayError {
    /// Whether the one who asked is to blame, and not the machine or the server.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Setting { .. })
    }

    /// The system refused to do `what`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }
}
