//! The benchmark harness: scenarios, what they found ([`model`]), and how that is shown ([`report`]).
//!
//! `shardcast bench` and the programs under `benches/` run the same scenarios from here. A scenario measures one thing
//! in repetitions that take turns with the others, verifies what was delivered, and returns figures; it prints nothing.
//! Nothing outside of this module and the command line uses it.

pub mod model;
pub mod relay;
pub mod report;

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

/// Who waits for a scenario and wants to know how far it is.
pub trait Progress {
    /// `done` of `all` steps are done; the next one is `what`.
    fn step(&self, done: usize, all: usize, what: &str);

    /// Something that the person should see at once: a warning, a result.
    fn note(&self, text: &str);
}
