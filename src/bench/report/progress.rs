//! What is shown while a scenario runs: a bar on a terminal, else a line per step.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use parking_lot::Mutex;

use super::super::Progress;
use super::columns::clean;
use crate::clock::{Clock, Instant};

/// A display that is told which scenario runs.
pub trait Display: Progress {
    /// Scenario `name`, the `at`th of `of` (from 1), begins.
    fn scenario(&self, name: &str, at: usize, of: usize);

    /// Nothing more comes.
    fn finish(&self);
}

/// The display for standard error: a [`Bar`] where that is a terminal, else [`Plain`].
#[must_use]
pub fn display() -> Box<dyn Display> {
    if io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Plain::new(io::stderr())) }
}

/// One line at the bottom of the terminal: scenario, a bar of its steps, what runs, how long it took and will take.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// Draws on standard error; nothing, if that is no terminal.
    #[must_use]
    pub fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        // The clock goes on through a step that takes long. Twice a second wakes a core that measures as little as can be.
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar }
    }

    fn style(template: &str) -> ProgressStyle {
        // The templates are constants below, which a test draws.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Before the first step is done, nothing tells how long the others take.
        let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
            if state.pos() > 0 {
                let _ = write!(out, ", {:#} left", HumanDuration(state.eta()));
            }
        };
        style.with_key("left", left).progress_chars("━╸─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

const STEPS: &str = "{spinner:.cyan} {prefix:.bold}  {bar:24.cyan/dim} {pos}/{len}  {elapsed}{left}  {wide_msg:.dim}";
const WAITS: &str = "{spinner:.cyan} {prefix:.bold}  {elapsed}  {wide_msg:.dim}";

impl Progress for Bar {
    fn step(&self, done: usize, all: usize, what: &str) {
        if self.bar.length() != Some(all as u64) {
            self.bar.set_style(Self::style(STEPS));
            self.bar.set_length(all as u64);
        }
        self.bar.set_message(clean(what));
        self.bar.set_position(done as u64);
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{}", clean(text)));
    }
}

impl Display for Bar {
    fn scenario(&self, name: &str, at: usize, of: usize) {
        self.bar.set_style(Self::style(WAITS));
        self.bar.unset_length();
        self.bar.reset();
        self.bar.set_message("");
        let place = if of > 1 { format!("  {at} of {of}") } else { String::new() };
        self.bar.set_prefix(format!("{}{place}", clean(name)));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line per step and note, for logs: `   12.3 s  relay 3/40  1000 players, floor`.
#[derive(Debug)]
pub struct Plain<W: Write> {
    clock: Clock,
    inner: Mutex<Inner<W>>,
}

#[derive(Debug)]
struct Inner<W> {
    out: W,
    scenario: String,
    last: String,
}

impl<W: Write> Plain<W> {
    /// Writes there; what cannot be written is left out, since a report matters more than how it came about.
    pub fn new(out: W) -> Self {
        let inner = Inner { out, scenario: String::new(), last: String::new() };
        Self { clock: Clock::start(), inner: Mutex::new(inner) }
    }

    fn line(&self, text: &str) {
        let elapsed = self.clock.instant().since(Instant::ZERO).as_secs_f64();
        let mut inner = self.inner.lock();
        // A scenario may say the same step more than once.
        if inner.last != text {
            let _ = writeln!(inner.out, "{elapsed:>7.1} s  {text}").and_then(|()| inner.out.flush());
            text.clone_into(&mut inner.last);
        }
    }
}

impl<W: Write> Progress for Plain<W> {
    fn step(&self, done: usize, all: usize, what: &str) {
        let scenario = self.inner.lock().scenario.clone();
        // `done` steps are done, so the one that begins is the next; the last call may only say that all are.
        let text = if done < all { format!("{}/{all}  {}", done + 1, clean(what)) } else { clean(what) };
        self.line(format!("{scenario} {text}").trim());
    }

    fn note(&self, text: &str) {
        self.line(&clean(text));
    }
}

impl<W: Write> Display for Plain<W> {
    fn scenario(&self, name: &str, at: usize, of: usize) {
        let name = clean(name);
        let place = if of > 1 { format!(" ({at} of {of})") } else { String::new() };
        self.line(&format!("{name}{place}"));
        self.inner.lock().scenario = name;
    }

    fn finish(&self) {
        self.line("done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_one_line_per_step_with_the_scenario_before_it() {
        let plain = Plain::new(Vec::new());
        plain.scenario("relay", 2, 3);
        plain.step(0, 2, "floor");
        plain.step(0, 2, "floor");
        plain.step(1, 2, "shard\ncast");
        plain.note("2 cores: \x1b[2Jfew");
        plain.step(2, 2, "measured");
        plain.finish();

        let text = String::from_utf8(plain.inner.into_inner().out).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(" s  ").unwrap().1).collect();
        let expected = [
            "relay (2 of 3)",
            "relay 1/2  floor",
            "relay 2/2  shard cast",
            "2 cores:  [2Jfew",
            "relay measured",
            "done",
        ];
        assert_eq!(lines, expected);
        assert!(text.lines().all(|line| line.split_once(" s  ").unwrap().0.trim().parse::<f64>().is_ok()), "{text}");
    }

    #[test]
    fn a_full_disk_is_no_panic() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let plain = Plain::new(Full);
        plain.note("text");
        assert_eq!(plain.inner.lock().last, "text");
    }

    #[test]
    fn the_bar_knows_its_place_and_its_templates_are_valid() {
        for template in [STEPS, WAITS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        let bar = Bar::on(ProgressDrawTarget::hidden());
        bar.scenario("relay", 2, 3);
        bar.step(3, 40, "1000 players\n");
        assert_eq!((bar.bar.position(), bar.bar.length()), (3, Some(40)));
        assert_eq!((&*bar.bar.prefix(), &*bar.bar.message()), ("relay  2 of 3", "1000 players "));
        bar.scenario("hop", 3, 3);
        assert_eq!((bar.bar.position(), bar.bar.length(), &*bar.bar.message()), (0, None, ""));
        bar.finish();
        assert!(bar.bar.is_finished());
    }
}
