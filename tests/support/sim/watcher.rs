//! What a subscriber may expect, checked at every frame that it gets.
//!
//! * Frames are those of the publisher, whole, in the order of its home's log, none twice.
//! * Where it starts, and after every gap, it first gets the configuration in force there, then a keyframe; each
//!   video track begins with a keyframe of its own. Configuration is given again nowhere else.
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
}

impl Seen {
    pub fn frame(frame: &Frame) -> Self {
        Self {
            tag: Tag::read(&frame.payload),
            track: frame.track.0,
            kind: frame.kind,
            dts: frame.dts.0,
            pts: frame.pts.0,
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
        self.begin();
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
        self.begin();
        self.was_keyed = 0;
        Ok(())
    }

    fn check_config(&mut self, publisher: &Life, number: u32, position: usize, seen: Seen) -> Result<(), String> {
        let in_order = self.last.is_none_or(|last| position > last);
        if !self.fresh {
            let from = self.last.map_or(0, |last| last + 1);
            let between = publisher.placed.get(from..position).unwrap_or_default();
            if in_order && (!between.iter().any(|frame| self.must_get(frame)) || self.only_tracks_pause(between)) {
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
        let left_out = between.iter().filter(counts).count() as u64;
        let configs = between.iter().filter(|f| f.kind == FrameKind::Config && self.must_get(f)).count() as u64;
        let gap = std::mem::take(&mut self.gap);
        if !self.marks {
            if !self.fresh && left_out + configs > 0 && !self.only_tracks_pause(between) {
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
        let seen = if self.rtmp { seen.unwrapped_near(placed.dts) } else { seen };
        let tolerance = if self.rtmp { 1_000_000 } else { 0 };
        // RTMP's audio has one time.
        let pts = if self.rtmp && seen.kind == FrameKind::Audio { placed.dts } else { placed.pts };
        if placed.dts.abs_diff(seen.dts) > tolerance || pts.abs_diff(seen.pts) > tolerance {
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
            FrameKind::Data => self.carries_data,
            FrameKind::Config | FrameKind::Key | FrameKind::Audio => true,
        }
    }

    /// Whether a hole without a mark is nothing but deltas of further video tracks, which waited for a keyframe on
    /// their way to this shard: they go on at one, and the others were not touched.
    fn only_tracks_pause(&mut self, between: &[Placed]) -> bool {
        let hole: Vec<&Placed> = between.iter().filter(|frame| self.must_get(frame)).collect();
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
