//! What a subscriber may expect, checked at every frame that it gets.
//!
//! * Frames are those of the publisher, whole, in the order of its home's log, none twice.
//! * Where it starts, and after every gap, it first gets the configuration in force there, then a keyframe; each
//!   video track begins with a keyframe of its own. Configuration is given again nowhere else.
//! * Save for frames that nothing refers to: where only such are left out, it goes on anywhere.
//! * One who catches up may get the pictures that were there before it started later than they were, and their sound
//!   not at all; whatever came since is as it was placed. One who is to be behind gets nothing that is younger,
//!   and one who wants the next keyframe nothing that was there before.
//! * Gaps are marked for the host, and counted: the mark lies between the frames that are left out (configuration,
//!   which is given again, not counted) and their distance in the log. Delta frames of a track that waits for its
//!   keyframe are part of the start and not counted, also where they waited on the way to another shard. On a shard
//!   that is not the stream's home, configuration that was given again on the way may be counted besides.
//! * Between two publishers of a name the count is what this shard knows to have been left out of the former.
//! * A player over a socket gets no marks: a hole must look like a start.
//! * Decoding times never fall within a track, and are those of the home's log.

use std::collections::{BTreeMap, BTreeSet};

use shardcast::id::StreamKey;
use shardcast::media::{Frame, FrameKind};
use shardcast::protocol::Start;
use shardcast::reason::Reason;

use super::book::{Book, BookRef, Life, Placed};
use super::payload::Tag;

pub struct Watcher {
    pub name: String,
    pub key: StreamKey,
    pub shard: u16,
    book: BookRef,
    /// Gaps are marked.
    marks: bool,
    carries_data: bool,
    /// It speaks RTMP: the first video and the first audio track, in milliseconds.
    rtmp: bool,
    budget: Option<Budget>,
    /// It is to be so far behind, in ns.
    delay: u64,
    catches_up: bool,
    /// It wants nothing that came to the router before.
    not_before: u64,
    /// The first frame, by its encoder's number, that came after one who catches up had started.
    live_from: Option<u32>,
    /// A gap was told, and not yet what is left out.
    gapped: bool,
    /// As many were told to be left out as nothing refers to.
    excused: bool,
    /// The life of the stream that it is in.
    publisher: Option<u32>,
    /// The last frame that came in order.
    last: Option<usize>,
    /// At a start or behind a gap: configuration may come.
    fresh: bool,
    gap: u64,
    told: u64,
    given: BTreeMap<u8, (u32, usize)>,
    /// Since the start or gap, before the first frame.
    given_now: BTreeSet<(u32, usize)>,
    /// Tracks that had a keyframe since the start or gap, by bit.
    keyed: u32,
    /// Those that had one before the gap.
    was_keyed: u32,
    last_dts: [i64; 16],
    /// Configuration that was placed in several lives: the first frame behind it tells in which it is in force.
    held: Vec<Seen>,
    pub frames: u64,
    pub gaps: u64,
    pub ended: Option<Reason>,
    /// It asked for nothing meanwhile.
    pub paused: bool,
}

/// A frame as a subscriber got it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub tag: Option<Tag>,
    pub track: u8,
    pub kind: FrameKind,
    pub dts: i64,
    pub pts: i64,
    /// When the router's socket took its first byte; 0 if it came by no socket.
    pub handed: u64,
}

/// How old a player's frames may be, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// What was there before is given to a joiner however old it is.
    pub since: u64,
    /// When the router's socket takes the first byte.
    pub handed: u64,
    /// When the player has the last one, from `settled` on: only then it is known how fast it reads.
    pub read: u64,
    pub settled: u64,
}

impl Seen {
    pub fn frame(frame: &Frame) -> Self {
        Self {
            tag: Tag::read(&frame.payload),
            track: frame.track.0,
            kind: frame.kind,
            dts: frame.dts.0,
            pts: frame.pts.0,
            handed: 0,
        }
    }
}

impl Seen {
    /// A 32-bit time stands for many: the one that is nearest.
    fn unwrapped_near(self, time: i64) -> Self {
        const WRAP: i64 = (1 << 32) * 1_000_000;
        let by = (time - self.dts + WRAP / 2).div_euclid(WRAP) * WRAP;
        Self { dts: self.dts + by, pts: self.pts + by, ..self }
    }
}

impl Watcher {
    pub fn new(book: &BookRef, name: String, key: &StreamKey, shard: u16) -> Self {
        Self {
            name,
            key: key.clone(),
            shard,
            book: book.clone(),
            marks: true,
            carries_data: true,
            rtmp: false,
            budget: None,
            delay: 0,
            catches_up: false,
            not_before: 0,
            live_from: None,
            gapped: false,
            excused: false,
            publisher: None,
            last: None,
            fresh: true,
            gap: 0,
            told: 0,
            given: BTreeMap::new(),
            given_now: BTreeSet::new(),
            keyed: 0,
            was_keyed: 0,
            last_dts: [i64::MIN; 16],
            held: Vec::new(),
            frames: 0,
            gaps: 0,
            ended: None,
            paused: false,
        }
    }

    /// A player over a socket.
    #[must_use]
    pub fn unmarked(mut self, carries_data: bool) -> Self {
        self.marks = false;
        self.carries_data = carries_data;
        self
    }

    /// A player over RTMP.
    #[must_use]
    pub fn over_rtmp(mut self) -> Self {
        self.rtmp = true;
        self
    }

    #[must_use]
    pub fn promised(mut self, budget: Option<Budget>) -> Self {
        self.budget = budget;
        self
    }

    #[must_use]
    pub fn starting(mut self, start: Option<Start>) -> Self {
        match start {
            Some(Start::CatchUp) => self.catches_up = true,
            Some(Start::Live) => self.not_before = self.book.lock().now,
            Some(Start::Behind(delay)) => self.delay = u64::try_from(delay.as_nanos()).expect("short"),
            _ => {}
        }
        self
    }

    /// Frames that it was told are left out so far.
    pub fn told(&self) -> u64 {
        self.told
    }

    pub fn gap(&mut self, frames: u64) {
        let book = self.book.clone();
        self.settle(&mut book.lock(), None);
        self.gap += frames;
        self.told += frames;
        self.gaps += 1;
        self.gapped = true;
        let mut book = self.book.lock();
        book.trace(|| format!("{}: gap of {frames}", self.name));
        if book.gapless {
            book.trouble(format!("{}: a gap of {frames}, for which there is no reason", self.name));
        }
    }

    pub fn end(&mut self, reason: Reason) {
        self.book.lock().trace(|| format!("{}: end, {reason:?}, after {} frames", self.name, self.frames));
        self.ended = Some(reason);
        let mut book = self.book.lock();
        if book.steadfast && reason != Reason::Ended {
            book.trouble(format!("{}: sent away, {reason:?}", self.name));
        }
    }

    pub fn frame(&mut self, seen: Seen) {
        let book = self.book.clone();
        let mut book = book.lock();
        book.trace(|| match seen.tag {
            Some(tag) => format!("{}: {:?} {} of {}", self.name, seen.kind, tag.seq, tag.publisher),
            None => format!("{}: {seen:?}", self.name),
        });
        self.frames += 1;
        self.check_age(&mut book, seen);
        let several = seen.tag.is_some_and(|tag| book.lives_with(tag) > 1);
        if seen.kind == FrameKind::Config && (several || !self.held.is_empty()) {
            self.held.push(seen);
            return;
        }
        let life = seen.tag.and_then(|tag| book.life_of(tag, self.shows(seen)));
        self.settle(&mut book, life);
        self.judge(&mut book, seen, None);
    }

    /// Judges what was held, which is in no later life than the frame behind it.
    fn settle(&mut self, book: &mut Book, newest: Option<u32>) {
        for seen in std::mem::take(&mut self.held) {
            self.judge(book, seen, newest);
        }
    }

    fn judge(&mut self, book: &mut Book, seen: Seen, newest: Option<u32>) {
        if let Err(what) = self.check(book, seen, newest) {
            book.trouble(format!("{} ({}): {what}", self.name, self.key));
        }
    }

    /// Configuration is given again at a start, with the time of that.
    fn shows(&self, seen: Seen) -> impl Fn(&Placed) -> bool + use<> {
        let rtmp = self.rtmp;
        move |placed| {
            let seen = if rtmp { seen.unwrapped_near(placed.dts) } else { seen };
            placed.dts <= seen.dts + if rtmp { 1_000_000 } else { 0 }
        }
    }

    /// Whether it has everything that is in the log of the publisher's home.
    pub fn is_at_the_edge(&self, book: &Book, live: u32) -> Result<(), String> {
        let publisher = &book.lives[live as usize];
        if self.publisher != Some(live) {
            return Err(format!("{} still has nothing of life {live}", self.name));
        }
        let from = self.last.map_or(0, |last| last + 1);
        let is_held = |frame: &&Placed| {
            let tags = self.held.iter().filter_map(|seen| seen.tag);
            frame.kind == FrameKind::Config && { tags }
                .any(|tag| (tag.publisher, tag.seq) == (publisher.publisher, frame.seq))
        };
        let rest = publisher.placed[from..].iter().filter(|frame| self.must_get(frame));
        let missing = rest.filter(|frame| !is_held(frame)).count();
        if missing > 0 { Err(format!("{} is {missing} frames behind publisher {live}", self.name)) } else { Ok(()) }
    }

    /// Nothing is older than its budget when it is sent, nor when it is read by one whose pace is known.
    fn check_age(&self, book: &mut Book, seen: Seen) {
        let Some((budget, tag)) = self.budget.zip(seen.tag) else { return };
        let Some(life) = book.life_of(tag, |_| true).map(|life| &book.lives[life as usize]) else { return };
        let Some(position) = life.position(tag.seq) else { return };
        let placed = life.placed[position];
        if seen.kind == FrameKind::Config || placed.origin < budget.since {
            return;
        }
        let ages = [
            (seen.handed, budget.handed, "handed to its socket"),
            (if placed.origin < budget.settled { placed.origin } else { book.now }, budget.read, "read"),
        ];
        for (index, (at, most, what)) in ages.into_iter().enumerate() {
            let age = at.saturating_sub(placed.origin);
            book.oldest[index] = book.oldest[index].max(age * 100 / most);
            if age > most + CLOCKS_APART {
                let (age, most) = (age / 1_000_000, most / 1_000_000);
                book.trouble(format!("{}: frame {position} was {age} ms old when {what}, not {most}", self.name));
            }
        }
    }

    /// What was left out before `position`: frames that nothing refers to, or so that it is a start.
    fn judge_gap(&mut self, publisher: &Life, position: usize) {
        let from = self.last.map_or(0, |last| last + 1);
        let between = publisher.placed.get(from..position).unwrap_or_default();
        let hole = between.iter().filter(|frame| self.must_get(frame)).count() as u64;
        self.excused = self.last.is_some() && self.gap == hole;
        if self.excused && self.is_spared(between) {
            self.gap = 0;
        } else {
            self.begin();
        }
    }

    /// Whether nothing is missing but frames that nothing refers to, and that was told.
    fn is_spared(&self, between: &[Placed]) -> bool {
        let mut missing = between.iter().filter(|frame| self.must_get(frame));
        !self.fresh && missing.all(|frame| frame.disposable && self.excused)
    }

    fn begin(&mut self) {
        if !self.fresh {
            self.was_keyed = self.keyed;
        }
        self.fresh = true;
        self.keyed = 0;
        self.given_now.clear();
    }

    fn check(&mut self, book: &Book, seen: Seen, newest: Option<u32>) -> Result<(), String> {
        let tag = seen.tag.ok_or("a frame that nobody made")?;
        if self.ended.is_some() {
            return Err(format!("frame {tag:?} after the end"));
        }
        let generation = |life: u32| book.lives[life as usize].generation;
        let shown = book.life_of(tag, self.shows(seen)).or_else(|| book.life_of(tag, |_| true));
        let shown = shown.map(|life| newest.filter(|newest| generation(*newest) < generation(life)).unwrap_or(life));
        // What was in force before, in whichever of its lives that was placed, is the current one's.
        let again = self.publisher.filter(|current| {
            let life = &book.lives[*current as usize];
            let older = |shown: u32| generation(shown) < life.generation;
            tag.kind == FrameKind::Config
                && life.publisher == tag.publisher
                && life.position(tag.seq).is_some()
                && shown.is_some_and(older)
        });
        let life = again.or(shown);
        let number = life.ok_or_else(|| format!("{tag:?} is in no log"))?;
        let publisher = &book.lives[number as usize];
        if publisher.key != self.key {
            return Err(format!("a frame of {}", publisher.key));
        }
        let position = publisher.position(tag.seq).ok_or_else(|| format!("{tag:?} is in no log"))?;
        if (seen.track, seen.kind) != (tag.track, tag.kind) {
            return Err(format!("{tag:?} came as track {} {:?}", seen.track, seen.kind));
        }
        if self.publisher != Some(number) {
            self.turn_to(book, number)?;
        }
        // It may start anew as long as it had nothing but configuration.
        if self.catches_up && (self.live_from.is_none() || self.last.is_none()) {
            self.live_from = Some(publisher.placed.last().map_or(0, |last| last.seq + 1));
        }
        self.excused = !self.marks;
        if std::mem::take(&mut self.gapped) {
            self.judge_gap(publisher, position);
        }
        let age = (book.now + CLOCKS_APART).saturating_sub(publisher.placed[position].origin);
        if self.delay > age && seen.kind != FrameKind::Config {
            return Err(format!("frame {position} is {age} ns old, and was to be {}", self.delay));
        }
        let was_there = publisher.placed[position].origin + UNDER_WAY < self.not_before;
        if book.gapless && seen.kind != FrameKind::Config && was_there {
            return Err(format!("frame {position} was there before it came"));
        }
        if seen.kind == FrameKind::Config {
            return self.check_config(publisher, number, position, seen);
        }
        let fresh = self.fresh;
        self.check_place(publisher, position)?;
        if book.gapless && self.fresh && !fresh {
            return Err(format!("a hole before {position}, for which there is no reason"));
        }
        self.check_media(publisher, number, position, seen)?;
        self.last = Some(position);
        self.fresh = false;
        Ok(())
    }

    /// Another publisher goes on with the stream.
    fn turn_to(&mut self, book: &Book, number: u32) -> Result<(), String> {
        if let Some(former) = self.publisher {
            let life = |number: u32| book.lives[number as usize].generation;
            if life(former) > life(number) {
                return Err(format!("a frame of publisher {number} after its successor {former}"));
            }
            let publisher = &book.lives[former as usize];
            let rest = &publisher.placed[self.last.map_or(0, |last| last + 1)..];
            let left_out = rest.iter().filter(|frame| self.must_get(frame)).count() as u64;
            let known = publisher.home == self.shard;
            if self.marks && known && self.last.is_some() && self.gap < left_out {
                return Err(format!("{left_out} frames of publisher {former} left out, but only {} told", self.gap));
            }
        }
        self.publisher = Some(number);
        self.last = None;
        self.gap = 0;
        self.gapped = false;
        if self.live_from.is_some() {
            // That was its first start.
            self.catches_up = false;
        }
        self.begin();
        self.was_keyed = 0;
        Ok(())
    }

    fn check_config(&mut self, publisher: &Life, number: u32, position: usize, seen: Seen) -> Result<(), String> {
        let in_order = self.last.is_none_or(|last| position > last);
        if !self.fresh {
            let from = self.last.map_or(0, |last| last + 1);
            let between = publisher.placed.get(from..position).unwrap_or_default();
            if in_order && (self.is_spared(between) || self.only_tracks_pause(between)) {
                self.last = Some(position);
            } else if self.marks {
                return Err(format!("configuration at {position} behind {:?} without a gap", self.last));
            } else {
                self.begin();
            }
        }
        if self.marks && self.fresh && !self.given_now.insert((number, position)) {
            return Err(format!("configuration {position} twice at one start"));
        }
        self.given.insert(seen.track, (number, position));
        Ok(())
    }

    /// Whether a frame may follow the last one.
    fn check_place(&mut self, publisher: &Life, position: usize) -> Result<(), String> {
        if self.last.is_some_and(|last| position <= last) {
            return Err(format!("frame {position} after frame {:?}: twice, or out of order", self.last));
        }
        let from = self.last.map_or(0, |last| last + 1);
        let between = &publisher.placed[from..position];
        let at_home = publisher.home == self.shard;
        let counts = |f: &&Placed| match f.kind {
            FrameKind::Config => false,
            // On the way here they may have waited for their keyframe.
            FrameKind::Delta if !at_home && f.track != 0 => false,
            _ => self.must_get(f),
        };
        let spared = self.is_spared(between);
        let left_out = if spared { 0 } else { between.iter().filter(counts).count() as u64 };
        let configs = between.iter().filter(|f| f.kind == FrameKind::Config && self.must_get(f)).count() as u64;
        let gap = std::mem::take(&mut self.gap);
        if !self.marks {
            if !self.fresh && left_out + configs > 0 && !spared && !self.only_tracks_pause(between) {
                self.begin();
            }
            return Ok(());
        }
        // Before the first frame nothing was promised, but some may have been begun with.
        if gap < left_out && self.last.is_some() {
            return Err(format!("{left_out} frames left out before {position}, but only {gap} told"));
        }
        let repeats = if at_home { 0 } else { REPEATED_CONFIGS };
        if gap > between.len() as u64 + repeats {
            return Err(format!("{} frames left out before {position}, but {gap} told", between.len()));
        }
        Ok(())
    }

    fn check_media(&mut self, publisher: &Life, number: u32, position: usize, seen: Seen) -> Result<(), String> {
        let placed = publisher.placed[position];
        let tolerance: i64 = if self.rtmp { 1_000_000 } else { 0 };
        let seen = if self.rtmp { seen.unwrapped_near(placed.dts) } else { seen };
        // RTMP's audio has one time.
        let pts = if self.rtmp && seen.kind == FrameKind::Audio { placed.dts } else { placed.pts };
        let later = self.is_past(&placed) && seen.dts >= placed.dts - tolerance && seen.pts >= pts - tolerance;
        let allowed = u64::try_from(tolerance).expect("positive");
        if !later && (placed.dts.abs_diff(seen.dts) > allowed || pts.abs_diff(seen.pts) > allowed) {
            return Err(format!("{placed:?} came with other times: {seen:?}"));
        }
        let bit = 1 << seen.track;
        match seen.kind {
            FrameKind::Key => self.keyed |= bit,
            FrameKind::Delta if self.keyed & bit == 0 => {
                return Err(format!("frame {position} of track {} without a keyframe", seen.track));
            }
            _ => {}
        }
        let video = |frame: &Placed| frame.kind == FrameKind::Key && self.carries(frame.track);
        if self.fresh && seen.kind != FrameKind::Key && publisher.placed[..position].iter().any(video) {
            return Err(format!("it starts at frame {position}, which is no keyframe"));
        }
        let wanted = publisher.config_at(seen.track, position);
        if let Some(wanted) = wanted
            && self.given.get(&seen.track) != Some(&(number, wanted))
        {
            let given = self.given.get(&seen.track);
            return Err(format!("frame {position} needs configuration {wanted}, but {given:?} is in force"));
        }
        let last = &mut self.last_dts[usize::from(seen.track)];
        if seen.dts < *last {
            return Err(format!("dts of track {} falls from {last} to {} at {position}", seen.track, seen.dts));
        }
        *last = seen.dts;
        Ok(())
    }

    /// Whether a frame has to come once it is this subscriber's turn.
    fn must_get(&self, frame: &Placed) -> bool {
        if !self.carries(frame.track) {
            return false;
        }
        match frame.kind {
            FrameKind::Delta => {
                let keyed = if self.fresh { self.was_keyed } else { self.keyed };
                keyed & (1 << frame.track) != 0
            }
            FrameKind::Data => self.carries_data && !self.is_past(frame),
            FrameKind::Audio => !self.is_past(frame),
            FrameKind::Config | FrameKind::Key => true,
        }
    }

    /// Whether a frame was there before this one, which catches up, had started.
    fn is_past(&self, frame: &Placed) -> bool {
        self.catches_up && self.live_from.is_none_or(|live| frame.seq < live)
    }

    /// Whether a hole without a mark is nothing but deltas of further video tracks, which waited for a keyframe on
    /// their way to this shard: they go on at one, and the others were not touched.
    fn only_tracks_pause(&mut self, between: &[Placed]) -> bool {
        // Besides, it may be spared frames that nothing refers to.
        let hole: Vec<&Placed> = between.iter().filter(|frame| self.must_get(frame) && !frame.disposable).collect();
        let further = |frame: &&Placed| frame.kind == FrameKind::Delta && frame.track != 0;
        if self.marks || !hole.iter().all(further) {
            return false;
        }
        for frame in hole {
            self.keyed &= !(1 << frame.track);
        }
        true
    }

    fn carries(&self, track: u8) -> bool {
        !self.rtmp || track <= 1
    }
}

/// Configuration that may have been given again on the way to another shard, within one gap.
const REPEATED_CONFIGS: u64 = 64;
/// What a clock that is rounded on the way to another shard may be wrong by, and what a step takes, in ns.
const CLOCKS_APART: u64 = 1_000_000;
/// What may be under way to a shard where nothing is slow, in ns: far less than most GOPs are old.
const UNDER_WAY: u64 = 100_000_000;
