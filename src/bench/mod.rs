//! The benchmark harness: scenarios, what they found ([`model`]), and how that is shown ([`report`]).
//!
//! `shardcast bench` and the programs under `benches/` run the same scenarios from here. A scenario measures one thing
//! in repetitions that take turns with the others, verifies what was delivered, and returns figures; it prints nothing.
//! Nothing outside of this module, the command line and the comparison with others in `tools/peers/` uses it.

pub mod audit;
pub mod fair;
pub mod fanout;
pub mod figures;
pub mod frames;
pub mod hop;
pub mod join;
pub mod line;
pub mod machine;
pub mod memory;
pub mod model;
pub mod program;
pub mod publish;
pub mod relay;
pub mod report;
pub mod ring;
pub mod suite;
mod trail;
mod world;

use std::io;

use crate::reason::Reason;
use crate::router::StartError;

/// How much is measured: by default each scenario takes its own numbers from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So little that it only shows that everything works: what `cargo test --benches` runs.
    Test,
    /// The whole suite within a minute; the numbers are rough.
    Smoke,
    /// At least five repetitions of everything; ten minutes or so.
    Standard,
    /// Every parameter of every scenario; an hour or so.
    Full,
}

impl Size {
    /// The word for it on the command line and in a [`model::Report`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Smoke => "smoke",
            Self::Standard => "standard",
            Self::Full => "full",
        }
    }

    /// One of four, in the order of the sizes.
    #[must_use]
    pub const fn pick<T: Copy>(self, [test, smoke, standard, full]: [T; 4]) -> T {
        match self {
            Self::Test => test,
            Self::Smoke => smoke,
            Self::Standard => standard,
            Self::Full => full,
        }
    }
}

/// What every scenario is given besides its own settings.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// How much is measured.
    pub size: Size,
    /// The cores that it may pin threads to, the first two first.
    pub cores: &'a [usize],
    /// Who waits meanwhile.
    pub progress: &'a dyn Progress,
}

impl Context<'_> {
    /// The core at this place, or the last if there are fewer.
    #[must_use]
    pub fn core(&self, index: usize) -> usize {
        self.cores.get(index).or_else(|| self.cores.last()).copied().unwrap_or(0)
    }

    /// What to warn of if a scenario wants more cores than there are.
    #[must_use]
    pub fn too_few_cores(&self, wanted: usize, what: &str) -> Option<String> {
        let cores = self.cores.len();
        (cores < wanted).then(|| format!("{wanted} cores are wanted, {cores} may be used: {what}"))
    }
}

/// Who waits for a scenario and wants to know how far it is.
pub trait Progress {
    /// `done` of `all` steps are done; the next one is `what`.
    fn step(&self, done: usize, all: usize, what: &str);

    /// Something that the person should see at once: a warning, a result.
    fn note(&self, text: &str);
}

/// Why a scenario has no result. A run in which something was lost or wrong is a failure, not a number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A router did not start.
    #[error("cannot start a router: {0}")]
    Start(#[from] StartError),
    /// The operating system said no.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried: a verb and its object.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The router refused what the scenario asked it for.
    #[error("the router refused to serve the scenario: {0}")]
    Refused(#[from] Reason),
    /// What was counted is not what had to come: something was lost, repeated, out of order or damaged.
    #[error("not valid: {what}: {found} instead of {expected}")]
    Wrong {
        /// What was counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// What it had to be.
        expected: u64,
    },
    /// Others took the machine away too often.
    #[error("not valid: only {valid} of {all} repetitions of {what} were undisturbed")]
    Disturbed {
        /// What was repeated.
        what: &'static str,
        /// Repetitions that can be used.
        valid: usize,
        /// All of them.
        all: usize,
    },
    /// The scenario says nothing on so few cores.
    #[error("it needs {wanted} cores, and may use {there}")]
    Cores {
        /// How many it needs.
        wanted: usize,
        /// How many it may use.
        there: usize,
    },
    /// A setting that makes no sense.
    #[error("{name} of {value}: {rule}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it was set to.
        value: u64,
        /// What it has to be.
        rule: &'static str,
    },
    /// The load over sockets could not be run.
    #[error(transparent)]
    Relay(#[from] relay::RelayError),
    /// A part of the scenario that runs as a process of its own failed.
    #[error("the part of the scenario that runs as a process of its own failed ({status}): {output}")]
    Part {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        output: String,
    },
}

impl BenchError {
    /// Whether the one who asked is to blame, and not the machine or what was measured.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Setting { .. } => true,
            Self::Relay(error) => error.is_usage(),
            _ => false,
        }
    }

    /// Whether the scenario ran and its numbers are not to be told.
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Wrong { .. } | Self::Disturbed { .. })
    }
}

/// All of them came, or the run is not valid.
const fn all_of(what: &'static str, found: u64, expected: u64) -> Result<(), BenchError> {
    if found == expected { Ok(()) } else { Err(BenchError::Wrong { what, found, expected }) }
}

/// Within bounds, or it makes no sense.
fn setting(name: &'static str, value: usize, ok: bool, rule: &'static str) -> Result<(), BenchError> {
    if ok { Ok(()) } else { Err(BenchError::Setting { name, value: value as u64, rule }) }
}
