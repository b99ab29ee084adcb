//! What memory a stream, a subscriber and a connection hold when nothing happens, and how often a frame allocates.
//!
//! * resident: by how much the process grew, as the system sees it, its allocator's own share included.
//! * requested: what the allocator was asked for. That, and the number of allocations, only a program with a counting
//!   allocator can tell: `cargo bench --bench memory`, and a `shardcast` built with the feature `count-allocations`.
//!   The program that serves has none: counting costs 17 ns for each allocation (12 ns without, 29 with), and more
//!   where several cores count at once.
//!
//! Tables grow in steps, so that the last one to come may pay for many: counted is what all of them hold together,
//! divided by their number, for two numbers: just before a table grows would be the best case, just after the worst.
//! Each measurement has a process of its own: in one that has done something before, what comes first fills the holes.
//! Sockets and kernel buffers are not counted.

mod parts;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::figures::{Found, Row};
use super::model::Scenario;
use super::{BenchError, Context, Size, setting};
use parts::{PARTS, Part};

/// What a counting allocator has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes allocated so far, reallocations included.
    pub allocated: u64,
    /// Bytes freed so far.
    pub freed: u64,
    /// Allocations and reallocations so far.
    pub allocations: u64,
}

/// Asks the counting allocator of the program.
pub type Count = fn() -> Counted;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Times that everything is measured.
    pub repetitions: usize,
    /// Streams, sinks, players and connections.
    pub counts: Vec<usize>,
    /// Publishers and subscriptions of the host.
    pub hosts: usize,
    /// Frames whose allocations are counted.
    pub frames: usize,
    /// How this program is started again to measure a part in a process of its own; without it, everything is
    /// measured in this one, and the resident bytes are too few.
    pub again: Option<Again>,
    /// The program's counting allocator, if it has one. [`Settings::again`] starts a program that has the same.
    pub count: Option<Count>,
}

/// A program and its first arguments; the name of a part and a number follow. It calls [`part`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

impl Again {
    /// The program that is running, with these arguments.
    ///
    /// # Errors
    /// The system does not tell which program is running.
    pub fn this(arguments: &[&str]) -> Result<Self, BenchError> {
        let program = std::env::current_exe();
        let program = program.map_err(|source| BenchError::System { action: "find this program", source })?;
        Ok(Self { program, arguments: arguments.iter().map(|&word| word.to_owned()).collect() })
    }
}

impl Settings {
    /// The settings of a size.
    #[must_use]
    pub fn of(size: Size, again: Option<Again>, count: Option<Count>) -> Self {
        let counts: &[usize] = match size {
            Size::Test => &[100],
            Size::Smoke => &[10_000],
            Size::Standard | Size::Full => &[10_000, 16_384],
        };
        Self {
            repetitions: size.pick([1, 3, 5, 9]),
            counts: counts.to_vec(),
            hosts: size.pick([8, 256, 512, 512]),
            frames: size.pick([64, 2_000, 20_000, 50_000]),
            again,
            count,
        }
    }
}

/// Runs it.
///
/// # Errors
/// A setting that makes no sense; a part that could not be started or failed; an allocator that does not count.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<Scenario, BenchError> {
    setting("repetitions", settings.repetitions, settings.repetitions > 0, "at least 1")?;
    for count in settings.counts.iter().chain([&settings.hosts]) {
        setting("count", *count, (1..=100_000).contains(count), "1 to 100,000")?;
    }
    let mut found = Found::new(
        "memory",
        "Bytes that an idle stream, subscriber and connection hold, and allocations of a frame",
        settings.repetitions,
    );
    found.config("publishers and subscriptions of the host", settings.hosts);
    found.config("frames", settings.frames);
    if settings.count.is_none() {
        found.warn(
            "this program does not count allocations: only resident bytes are told. `cargo bench --bench memory`, or a \
             build with the feature count-allocations, tells the rest"
                .to_owned(),
        );
    }
    if settings.again.is_none() {
        found.warn("all measured in one process: what was freed before makes the resident bytes too few".to_owned());
    }
    let wanted: Vec<(&Part, usize)> = PARTS
        .iter()
        .filter(|part| part.frames_per.is_none() || settings.count.is_some())
        .flat_map(|part| {
            let counts = if part.frames_per.is_some() {
                vec![settings.frames]
            } else if part.of_host {
                vec![settings.hosts]
            } else {
                settings.counts.clone()
            };
            counts.into_iter().map(move |count| (part, count))
        })
        .collect();
    let steps = settings.repetitions * wanted.len();
    for repetition in 0..settings.repetitions {
        for (index, (part, count)) in wanted.iter().enumerate() {
            context.progress.step(repetition * wanted.len() + index, steps, part.what);
            let held = match &settings.again {
                Some(again) => in_its_own_process(again, part.name, *count)?,
                None => self::part(part.name, *count, settings.count)?,
            };
            push(&mut found, part, *count, held);
        }
    }
    Ok(found.finish())
}

fn push(found: &mut Found, part: &Part, count: usize, held: Held) {
    if let Some(subscribers) = part.frames_per {
        let row = Row::new("shardcast", "allocations per frame", "").param("frame", part.what);
        let row = row.param("subscribers", subscribers).goal(1.0, "none for a delivery, at most one for a frame");
        if let Some(allocations) = held.allocations {
            found.push(row, allocations);
        }
        return;
    }
    let row = |metric| Row::new("shardcast", metric, "B").param("of", part.what).param("count", count);
    if let Some(requested) = held.requested {
        let mut row = row("requested bytes each");
        if let Some(goal) = part.goal {
            row = row.goal(goal, "what a small one may hold");
        }
        found.push(row, requested);
    }
    found.push(row("resident bytes each"), held.resident);
}

/// What each of so many holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Bytes by which the process grew.
    pub resident: f64,
    /// Bytes that the allocator was asked for.
    pub requested: Option<f64>,
    /// Allocations.
    pub allocations: Option<f64>,
}

/// Measures one part in this process: what a program that [`Again`] starts does, which then prints it as JSON.
///
/// # Errors
/// There is no such part, its router does not start, or the allocator does not count.
pub fn part(name: &str, count: usize, counting: Option<Count>) -> Result<Held, BenchError> {
    let part = PARTS.iter().find(|part| part.name == name).ok_or(BenchError::Setting {
        name: "part",
        value: 0,
        rule: "one of the parts that the scenario `memory` starts",
    })?;
    if let Some(counting) = counting {
        let before = counting();
        let block = std::hint::black_box(vec![1u8; PROBE_BYTES]);
        let (after, found) = (counting(), "bytes that the allocator counted of 4,096");
        let counted = (after.allocated - before.allocated).saturating_sub(after.freed - before.freed);
        super::all_of(found, counted, block.len() as u64)?;
    }
    (part.measure)(&Meter { count: counting }, count)
}

/// What the allocator has to count before it is believed.
const PROBE_BYTES: usize = 4096;

/// Measures a part in a process of its own.
///
/// # Errors
/// It could not be started, or failed.
pub fn in_its_own_process(again: &Again, name: &str, count: usize) -> Result<Held, BenchError> {
    let mut command = Command::new(&again.program);
    command.args(&again.arguments).arg(name).arg(count.to_string()).stdin(Stdio::null());
    let output = command.output().map_err(|source| BenchError::System { action: "start a part", source })?;
    let told = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success());
    told.ok_or_else(|| BenchError::Part {
        status: output.status,
        output: String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).trim().to_owned(),
    })
}

/// Looks at the process before and after.
pub struct Meter {
    /// Its counting allocator, if it has one.
    pub count: Option<Count>,
}

impl Meter {
    /// What `work` leaves held, for each of `count`; and what it made, still held.
    ///
    /// # Errors
    /// The system does not tell how large the process is.
    pub fn each<T>(&self, count: usize, work: impl FnOnce() -> T) -> Result<(Held, T), BenchError> {
        let each = |bytes: f64| bytes / count as f64;
        // Looking at the system allocates: it is done before the counting begins, and after it ends.
        std::thread::sleep(SETTLING);
        let before = resident()?;
        let counted_before = self.count.map(|count| count());
        let kept = work();
        // The audit writer has written what it was told, and let go of it.
        std::thread::sleep(SETTLING);
        let counted = counted_before.zip(self.count.map(|count| count()));
        let after = resident()?;
        let held = |counted: Counted| counted.allocated as f64 - counted.freed as f64;
        Ok((
            Held {
                resident: each(after - before),
                requested: counted.map(|(before, after)| each(held(after) - held(before))),
                allocations: counted.map(|(before, after)| each((after.allocations - before.allocations) as f64)),
            },
            kept,
        ))
    }
}

/// Longer than the audit writer's longest pause.
const SETTLING: Duration = Duration::from_millis(50);

/// Bytes of memory that this process has for itself.
fn resident() -> Result<f64, BenchError> {
    let system = |source| BenchError::System { action: "read /proc/self/smaps_rollup", source };
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").map_err(system)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kb.map(|kb| kb * 1024.0).ok_or_else(|| system(std::io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::tests::{finite, on_all_cores};

    #[test]
    fn every_part_tells_its_resident_bytes() {
        let scenario = on_all_cores(|context| run(&Settings::of(Size::Test, None, None), context)).unwrap();

        finite(&scenario);
        let of: Vec<&str> = scenario.figures.iter().map(|figure| &*figure.params[0].1).collect();
        assert_eq!(of.len(), PARTS.iter().filter(|part| part.frames_per.is_none()).count());
        for what in ["idle stream", "sink on a shard", "RTMP connection, connected, idle"] {
            assert!(of.iter().any(|of| of.starts_with(what)), "{what}: {of:?}");
        }
        assert!(scenario.warnings.iter().any(|warning| warning.contains("does not count")));
    }

    #[test]
    fn what_is_held_is_seen_by_the_system() {
        let meter = Meter { count: None };
        // Far above what other tests in this process do meanwhile.
        let (held, kept) = meter.each(1, || vec![7u8; 64 << 20]).unwrap();
        assert_eq!(kept.len(), 64 << 20);
        assert!(held.resident > f64::from(40 << 20), "{held:?}");
    }

    #[test]
    fn an_allocator_that_does_not_count_is_not_believed() {
        let found = part("sink", 1, Some(Counted::default));
        assert!(matches!(found, Err(BenchError::Wrong { found: 0, .. })), "{found:?}");
    }

    #[test]
    fn a_part_that_fails_says_what_it_said() {
        let again =
            Again { program: "/bin/sh".into(), arguments: vec!["-c".into(), "echo no such thing; exit 3".into()] };
        let failed = in_its_own_process(&again, "sink", 1).unwrap_err().to_string();
        assert!(failed.contains("no such thing") && failed.contains('3'), "{failed}");
    }
}
