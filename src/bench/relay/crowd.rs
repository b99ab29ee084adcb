//! The viewers of one generator: those that stay, those that visit, and those that read too slowly.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use hdrhistogram::Histogram;
use mio::{Registry, Token};
use slab::Slab;

use super::histogram::{Recorder, Samples, histogram};
use super::link::{Link, Ready};
use super::media::{Schedule, Track, video_offset};
use super::outcome::Outcome;
use super::plan::Load;
use super::session::{Purpose, Role};
use super::settings::SlowKind;
use super::timing::{MILLISECOND, SECOND, Timing};
use super::watch::{Counts, Watch};

/// How long a slow reader sleeps between two pieces.
const TRICKLE: u64 = 100 * MILLISECOND;
/// What the kernel may keep for a slow reader, so that the server and not the kernel has to cope with it.
const SLOW_BUFFER: usize = 64 * 1024;

/// One viewer.
#[derive(Debug)]
struct Player {
    link: Link,
    watch: Watch,
    kind: Kind,
    stream: usize,
    /// When it began to connect.
    started: u64,
    joined: Option<u64>,
    /// Frames of the window that came.
    received: u64,
    /// Whether it checks each body.
    checks: bool,
}

/// What a viewer is here for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stays,
    Slow,
    Visits,
}

/// What is remembered of the frames of all viewers together.
#[derive(Debug)]
struct Tally {
    window: Range<u64>,
    /// When each stream's first frame was due, by the first stamp seen.
    origins: Vec<Option<u64>>,
    age: Recorder,
    age_since_sent: Recorder,
    counts: Counts,
    slow: Counts,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Crowd {
    players: Slab<Player>,
    purposes: Vec<Purpose>,
    tally: Tally,
    join: Histogram<u64>,
    visitors_join: Histogram<u64>,
    /// Keys of slow readers that trickle, and when they next read.
    trickling: Vec<usize>,
    trickle_due: u64,
    trickle_len: usize,
    /// Whether slow readers read like others now.
    resumed: bool,
    /// Viewers of the ramp that were begun, that joined, and that were lost before or after that.
    begun: usize,
    joined: usize,
    /// Visitors that were begun, of all generators' numbering, and when each has to leave.
    visits: u64,
    leaving: VecDeque<(u64, usize, u64)>,
    bytes: u64,
    outcome: Outcome,
}

impl Crowd {
    pub(crate) fn new(load: &Load) -> Self {
        let role = if load.bare { Role::Sink } else { Role::Play };
        let (app, host): (Rc<str>, Rc<str>) = (load.app.as_str().into(), load.host.as_str().into());
        let purpose = |(number, name): (u32, &String)| Purpose {
            role,
            app: Rc::clone(&app),
            host: Rc::clone(&host),
            stream: name.as_str().into(),
            number,
        };
        let kbytes = usize::try_from(load.kbps / 8).unwrap_or(usize::MAX);
        Self {
            players: Slab::new(),
            purposes: (0..).zip(&load.play).map(purpose).collect(),
            tally: Tally::new(load.play.len()),
            join: histogram(),
            visitors_join: histogram(),
            trickling: Vec::new(),
            trickle_due: u64::MAX,
            // A quarter of what comes in a tenth of a second.
            trickle_len: (kbytes * 1000 / 40).max(1),
            resumed: false,
            begun: 0,
            joined: 0,
            visits: 0,
            leaving: VecDeque::new(),
            bytes: 0,
            outcome: Outcome::default(),
        }
    }

    /// When the next viewer of the ramp is to join, which began at `since`; `None` if all have.
    pub(crate) fn join_due(&self, load: &Load, since: u64) -> Option<u64> {
        let number = load.generator + self.begun * load.generators;
        (number < load.players).then(|| since + number as u64 * SECOND / load.joins_per_s)
    }

    /// Begins to connect the next viewer of the ramp.
    pub(crate) fn join(&mut self, load: &Load, registry: &Registry, now: u64) -> io::Result<()> {
        let number = load.generator + self.begun * load.generators;
        let place = number / self.purposes.len();
        // Evenly spread: the share of slow ones is kept by each stream.
        let slow_before = |place: usize| place * load.slow_permille / 1000;
        let kind = if slow_before(place + 1) > slow_before(place) { Kind::Slow } else { Kind::Stays };
        let stream = number % self.purposes.len();
        let checks = self.begun.is_multiple_of(load.check_every);
        self.begun += 1;
        match kind {
            Kind::Slow => self.outcome.slow_players += 1,
            Kind::Stays | Kind::Visits => self.outcome.players += 1,
        }
        let key = self.connect(load, registry, now, (kind, stream, checks))?;
        if kind == Kind::Slow && load.slow == SlowKind::Trickling {
            self.trickling.push(key);
            self.trickle_due = self.trickle_due.min(now + TRICKLE);
        }
        Ok(())
    }

    /// Whether every viewer of the ramp has joined, or has been lost.
    pub(crate) fn has_joined(&self, load: &Load) -> bool {
        let lost = usize::try_from(self.outcome.lost + self.outcome.slow_ended).unwrap_or(usize::MAX);
        self.join_due(load, 0).is_none() && self.joined + lost >= self.begun
    }

    /// When the next visitor comes or goes, if they come from `since` to `until`.
    pub(crate) fn visit_due(&self, load: &Load, since: u64, until: u64) -> u64 {
        let comes = self.comes(load, since).filter(|due| *due < until).unwrap_or(u64::MAX);
        self.leaving.front().map_or(comes, |(goes, ..)| comes.min(*goes))
    }

    fn comes(&self, load: &Load, since: u64) -> Option<u64> {
        let number = load.generator as u64 + self.visits * load.generators as u64;
        Some(since + (number * SECOND).checked_div(load.churn_per_s)?)
    }

    /// Lets visitors come and go that are to at `now`.
    pub(crate) fn visit(
        &mut self,
        load: &Load,
        registry: &Registry,
        now: u64,
        (since, until): (u64, u64),
    ) -> io::Result<()> {
        while let Some((_, key, started)) = self.leaving.front().copied().filter(|(goes, ..)| *goes <= now) {
            self.leaving.pop_front();
            // Its place may be another's by now.
            if self.players.get(key).is_some_and(|player| player.started == started) {
                self.leave(key, now);
            }
        }
        while let Some(due) = self.comes(load, since).filter(|due| *due <= now && *due < until) {
            let number = load.generator + usize::try_from(self.visits).unwrap_or(0) * load.generators;
            self.visits += 1;
            let stream = number % self.purposes.len();
            let key = self.connect(load, registry, now, (Kind::Visits, stream, true))?;
            self.leaving.push_back((due + load.stay, key, now));
            self.outcome.visitors += u64::from(self.tally.window.contains(&due));
        }
        Ok(())
    }

    /// The socket of viewer `key` can be read or written.
    pub(crate) fn on_event(&mut self, key: usize, ready: Ready, buffer: &mut [u8], timing: &Timing) {
        let Some(player) = self.players.get_mut(key) else { return };
        let mut result = player.link.on_ready(ready);
        let sleeps = player.kind == Kind::Slow && player.joined.is_some() && !self.resumed;
        if ready.readable && result.is_ok() && !sleeps {
            result = self.read(key, buffer, timing, true);
        }
        if let Err(error) = result {
            self.lose(key, &error, timing.now());
        }
    }

    /// Lets slow readers that trickle read a piece each, if it is time.
    pub(crate) fn trickle(&mut self, buffer: &mut [u8], timing: &Timing) {
        if timing.now() < self.trickle_due {
            return;
        }
        self.trickle_due += TRICKLE;
        let len = self.trickle_len.min(buffer.len());
        let keys = std::mem::take(&mut self.trickling);
        for key in keys {
            let Some(player) = self.players.get(key) else { continue };
            let result = match player.joined {
                Some(_) if !self.resumed => self.read(key, &mut buffer[..len], timing, false),
                _ => Ok(()),
            };
            match result {
                Ok(()) => self.trickling.push(key),
                Err(error) => self.lose(key, &error, timing.now()),
            }
        }
    }

    /// When [`Self::trickle`] has something to do.
    pub(crate) fn trickle_due(&self) -> u64 {
        self.trickle_due
    }

    /// From here on slow readers read what there is.
    pub(crate) fn resume(&mut self, buffer: &mut [u8], timing: &Timing) {
        self.resumed = true;
        self.trickle_due = u64::MAX;
        let slow = self.players.iter().filter(|(_, player)| player.kind == Kind::Slow).map(|(key, _)| key);
        for key in slow.collect::<Vec<_>>() {
            if let Err(error) = self.read(key, buffer, timing, true) {
                self.lose(key, &error, timing.now());
            }
        }
    }

    /// Frames that are due in `window` will be measured.
    pub(crate) fn set_window(&mut self, window: Range<u64>) {
        self.tally.age = Recorder::new(window.clone());
        self.tally.age_since_sent = Recorder::new(window.clone());
        self.tally.window = window;
    }

    /// The window begins: what was received until now is not of it.
    pub(crate) fn open_window(&mut self) {
        self.bytes = 0;
    }

    /// The window is over: what was received in it.
    pub(crate) fn close_window(&mut self) {
        self.outcome.bytes = self.bytes;
    }

    /// Frames of the window that those who stay must have got, and that they have got.
    pub(crate) fn expected_and_received(&self) -> (u64, u64) {
        let due = |origin: &Option<u64>| origin.map_or(0, |origin| Schedule::due_in(origin, &self.tally.window));
        let due: Vec<u64> = self.tally.origins.iter().map(due).collect();
        let staying = self.staying();
        staying
            .fold((0, 0), |(expected, received), player| (expected + due[player.stream], received + player.received))
    }

    /// Frames of the window that those who stay have got.
    pub(crate) fn received(&self) -> u64 {
        self.staying().map(|player| player.received).sum()
    }

    /// What they saw.
    pub(crate) fn outcome(mut self, now: u64) -> Outcome {
        (self.outcome.expected, self.outcome.received) = self.expected_and_received();
        self.outcome.stayed = self.staying().count() as u64;
        let present: Vec<usize> = self.players.iter().map(|(key, _)| key).collect();
        for key in present {
            let player = &self.players[key];
            let late =
                player.kind == Kind::Stays && player.joined.is_none_or(|joined| joined > self.tally.window.start);
            self.outcome.never_joined += u64::from(late);
            self.remove(key, now);
        }
        Outcome {
            counts: self.tally.counts,
            slow: self.tally.slow,
            age: self.tally.age.encode(),
            age_since_sent: self.tally.age_since_sent.encode(),
            join: Samples::whole(&self.join),
            visitors_join: Samples::whole(&self.visitors_join),
            ..self.outcome
        }
    }

    /// Those that are there from before the window.
    fn staying(&self) -> impl Iterator<Item = &Player> {
        let from = self.tally.window.start;
        let here = move |player: &&Player| player.joined.is_some_and(|joined| joined <= from);
        self.players.iter().map(|(_, player)| player).filter(|player| player.kind == Kind::Stays).filter(here)
    }

    fn connect(
        &mut self,
        load: &Load,
        registry: &Registry,
        now: u64,
        (kind, stream, checks): (Kind, usize, bool),
    ) -> io::Result<usize> {
        let entry = self.players.vacant_entry();
        let key = entry.key();
        let buffer = (kind == Kind::Slow).then_some(SLOW_BUFFER);
        let link = Link::connect(registry, Token(key), load.address, self.purposes[stream].clone(), buffer)?;
        let number = self.purposes[stream].number;
        let (watch, joined) = (Watch::new(number), None);
        entry.insert(Player { link, watch, kind, stream, started: now, joined, received: 0, checks });
        Ok(key)
    }

    /// Reads all there is, or as much as the buffer holds.
    fn read(&mut self, key: usize, buffer: &mut [u8], timing: &Timing, all: bool) -> io::Result<()> {
        let Self { players, tally, bytes, join, visitors_join, joined: all_joined, .. } = self;
        let Some(Player { link, watch, kind, stream, started, joined, received, checks }) = players.get_mut(key)
        else {
            return Ok(());
        };
        let media = |message: &super::chunk::Message<'_>| {
            let counts = if *kind == Kind::Slow { &mut tally.slow } else { &mut tally.counts };
            let Some(judged) = watch.on_media(message, counts) else { return };
            let (now, stamp) = (timing.now(), judged.stamp);
            if judged.track == Track::Video && tally.origins[*stream].is_none() {
                tally.origins[*stream] = Some(stamp.due.saturating_sub(video_offset(stamp.index)));
            }
            if judged.joins {
                *joined = Some(now);
                match kind {
                    Kind::Visits if tally.window.contains(started) => {
                        visitors_join.saturating_record(now.saturating_sub(*started));
                    }
                    Kind::Visits => {}
                    Kind::Stays => join.saturating_record(now.saturating_sub(*started)),
                    Kind::Slow => {}
                }
                *all_joined += usize::from(*kind != Kind::Visits);
            }
            if *kind == Kind::Stays && judged.fresh && tally.window.contains(&stamp.due) {
                *received += 1;
                if judged.track == Track::Video {
                    tally.age.record(stamp.due, now.saturating_sub(stamp.due));
                    tally.age_since_sent.record(stamp.due, now.saturating_sub(stamp.sent));
                }
            }
        };
        let read =
            if all { link.on_readable(buffer, *checks, media) } else { link.read_once(buffer, *checks, media) };
        *bytes += read? as u64;
        Ok(())
    }

    /// The connection of `key` has ended, and not by us.
    fn lose(&mut self, key: usize, error: &io::Error, now: u64) {
        let Some(player) = self.players.get(key) else { return };
        match player.kind {
            Kind::Stays => {
                self.outcome.lost += 1;
                self.outcome.first_loss.get_or_insert_with(|| error.to_string());
            }
            Kind::Slow => self.outcome.slow_ended += 1,
            Kind::Visits => self.outcome.visitors_failed += 1,
        }
        // It counts as one that was lost, and no more as one that joined.
        self.joined -= usize::from(player.joined.is_some() && player.kind != Kind::Visits);
        self.remove(key, now);
    }

    /// Closes the connection of `key` as a viewer does that has seen enough.
    fn leave(&mut self, key: usize, now: u64) {
        let Some(player) = self.players.get(key) else { return };
        self.outcome.visitors_failed += u64::from(player.kind == Kind::Visits && player.joined.is_none());
        self.remove(key, now);
    }

    fn remove(&mut self, key: usize, now: u64) {
        let player = self.players.remove(key);
        let Range { start, end } = self.tally.window;
        let from = player.joined.unwrap_or(now).max(start);
        self.outcome.viewer_ns += now.min(end).saturating_sub(from);
    }
}

impl Tally {
    fn new(streams: usize) -> Self {
        let recorder = || Recorder::new(0..0);
        Self {
            window: 0..0,
            origins: vec![None; streams],
            age: recorder(),
            age_since_sent: recorder(),
            counts: Counts::default(),
            slow: Counts::default(),
        }
    }
}
