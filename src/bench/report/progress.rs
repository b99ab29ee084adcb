//! What is shown meanwhile.

use crate::bench::Progress;

/// A display that is told which scenario runs.
pub trait Display: Progress {
    /// Scenario `name`, the `at`th of `of` (from 1), begins.
    fn scenario(&self, name: &str, at: usize, of: usize);

    /// Nothing more comes.
    fn finish(&self);
}

/// The display for standard error.
#[must_use]
pub fn display() -> Box<dyn Display> {
    Box::new(Plain)
}

/// A line for each step.
#[derive(Debug, Default)]
struct Plain;

impl Progress for Plain {
    fn step(&self, done: usize, all: usize, what: &str) {
        eprintln!("{}/{all} {what}", done + 1);
    }

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

impl Display for Plain {
    fn scenario(&self, name: &str, at: usize, of: usize) {
        eprintln!("{name} {at} of {of}");
    }

    fn finish(&self) {}
}
