//! Publishers that stand by: each keeps its newest GOP, and the stream goes on with it, at a keyframe of its, when the
//! one that leads ends or sends nothing, by command, or because it is preferred and back.
//!
//! What is known of all publishers of a name, on whichever shard, stands in the directory: whoever acts asks there, and
//! the promotion itself is atomic in it.

use super::Shard;
use super::caps::Spent;
use super::env::Env;
use super::local::{Home, LocalStream, PublisherRef};
use super::message::Control;
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::fact::{Fact, FactKind, Who};
use crate::id::{ConnectionId, StreamKey};
use crate::media::Frame;
use crate::protocol::Description;
use crate::reason::Reason;
use crate::stream::{AppSpec, GopCache, RateWindow, StreamLog, SwitchCause};
use std::time::Duration;

/// A publisher that stands by.
pub(crate) struct Standby {
    pub(crate) publisher: PublisherRef,
    pub(crate) who: Who,
    pub(crate) bitrate: RateWindow,
    pub(crate) spent: Spent,
    pub(crate) description: Description,
    pub(crate) last_frame: Instant,
    pub(crate) bytes: u64,
    since: Instant,
    key_asked: Instant,
    /// Its configuration, and everything since its newest keyframe; on its own timeline.
    log: StreamLog,
    /// Since when a decoder could start with it.
    ready_since: Option<Instant>,
    /// It leads from its next keyframe on.
    wanted: Option<SwitchCause>,
}

impl Standby {
    pub(crate) fn new(publisher: PublisherRef, who: Who, spec: &AppSpec, now: Instant) -> Self {
        // Also where nothing is kept for joiners.
        let cache = if spec.gop_cache == GopCache::OFF { GopCache::default() } else { spec.gop_cache };
        Self {
            publisher,
            who,
            bitrate: RateWindow::default(),
            spent: Spent::default(),
            description: Description::default(),
            last_frame: now,
            bytes: 0,
            since: now,
            key_asked: Instant::ZERO,
            log: StreamLog::new(cache, Duration::ZERO),
            ready_since: None,
            wanted: None,
        }
    }

    /// One that led until now: a decoder needs a new keyframe, but the configuration was sent once.
    fn demoted(home: Home, configs: Vec<Frame>, spec: &AppSpec, now: Instant) -> Self {
        let Home { publisher, who, bitrate, spent, description, qos, .. } = home;
        let mut standby = Self::new(publisher, who, spec, now);
        (standby.bitrate, standby.spent) = (bitrate, spent);
        (standby.description, standby.last_frame) = (description, qos.last_frame);
        for config in configs {
            standby.log.append(now, config);
        }
        standby
    }

    /// Whether a decoder could start with what is held.
    fn can_start(&self, now: Instant) -> bool {
        let sound_alone = !self.log.has_video() && self.log.has_media();
        self.log.key().is_some() || (sound_alone && now.since(self.since) >= SOUND_ALONE_AFTER)
    }

    /// Whether the frame that came last is one to begin with.
    fn at_start(&self) -> bool {
        !self.log.has_video() || self.log.key().is_some_and(|key| key + 1 == self.log.head())
    }

    /// What it leads with: the configuration in force at its keyframe, and everything since then.
    fn start(&self) -> Vec<Frame> {
        let from = self.log.key().unwrap_or_else(|| self.log.head());
        let rest = (from..self.log.head()).filter_map(|seq| self.log.frame(seq));
        self.log.configs(0, from).chain(rest).cloned().collect()
    }

    /// Bytes of memory; payloads of a host's publisher are in no buffer of ours.
    pub(crate) fn memory(&self) -> u64 {
        let own = matches!(self.publisher, PublisherRef::Port(_));
        let payloads = if own { self.log.bytes_held() + self.log.config_bytes() } else { 0 };
        (size_of::<Self>() + self.log.table_bytes()) as u64 + payloads
    }

    /// Payloads that it holds and others are counted for.
    pub(crate) fn uncounted(&self) -> u64 {
        if matches!(self.publisher, PublisherRef::Port(_)) { 0 } else { self.log.bytes_held() }
    }

    /// Nobody will begin with what is held: it is too old, or there is no room for it.
    fn forget_gop(&mut self, now: Instant) {
        let configs: Vec<Frame> = self.log.current_configs().cloned().collect();
        self.log.restart();
        self.log.shrink();
        for config in configs {
            self.log.append(now, config);
        }
    }
}

impl<E: Env> Shard<E> {
    /// Takes a publisher in behind the one that leads; the directory has a seat for it.
    pub(super) fn stand_by(&mut self, index: usize, standby: Standby, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let fact = Fact::new(FactKind::Standby, now, self.id).stream(&stream.key).who(&standby.who);
        let at = now.mono + stream.spec.stall_after;
        stream.standbys.push(standby);
        self.recount_stream(index);
        self.tell(fact);
        self.watch(index, at);
    }

    /// Who led until now stands by: its connection notices nothing.
    pub(super) fn demote(&mut self, index: usize, home: Home, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let configs = stream.log.current_configs().cloned().collect();
        let standby = Standby::demoted(home, configs, &stream.spec, now.mono);
        self.stand_by(index, standby, now);
    }

    /// Keeps the frame of a publisher that does not lead. Late ones of a publisher that is over are for nobody.
    pub(super) fn keep_frame(&mut self, index: usize, from: PublisherRef, frame: Frame, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(standby) = stream.standby_mut(from) else { return };
        self.counters.frames_standby += 1;
        let growth = standby.log.growth() as u64;
        if growth > 0 && !self.memory.has_room(growth) {
            standby.forget_gop(now.mono);
        }
        standby.last_frame = now.mono;
        standby.bytes += frame.payload.len() as u64;
        standby.log.append(now.mono, frame);
        standby.log.sweep();
        let (ready, was_ready) = (standby.can_start(now.mono), standby.ready_since.is_some());
        let wanted = standby.wanted.filter(|_| ready && standby.at_start());
        if ready != was_ready {
            standby.ready_since = ready.then_some(now.mono);
        }
        if self.memory.is_capped() {
            self.recount_stream(index);
        }
        if ready != was_ready {
            self.note_ready(index, from, ready, now);
        } else if let Some(cause) = wanted {
            self.lead(index, from, cause, now);
        }
    }

    /// Lets go of what those keep who stand by; how many had a GOP.
    pub(super) fn shed_standbys(&mut self, index: usize, now: Now) -> u64 {
        let mut cost = 0;
        for at in 0.. {
            let Some(standby) = self.streams.get_mut(index).and_then(|stream| stream.standbys.get_mut(at)) else {
                break;
            };
            let publisher = standby.publisher;
            standby.forget_gop(now.mono);
            if standby.ready_since.take().is_some() {
                cost += 1;
                self.note_ready(index, publisher, false, now);
            }
        }
        cost
    }

    /// A standby can be started with, or can't any more.
    fn note_ready(&mut self, index: usize, publisher: PublisherRef, ready: bool, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let after = stream.spec.return_after.unwrap_or(Duration::MAX).min(stream.spec.stall_after);
        let (key, at) = (stream.key.clone(), now.mono + after);
        let Some(standby) = stream.standby_mut(publisher) else { return };
        let (connection, wanted) = (standby.who.connection, standby.wanted);
        self.shared.directory.set_ready(&key, connection, ready);
        if !ready {
            return;
        }
        self.watch(index, at);
        if let Some(cause) = wanted {
            self.lead(index, publisher, cause, now);
        } else if self.shared.directory.is_vacant(&key) {
            self.lead(index, publisher, SwitchCause::Vacant, now);
        }
    }

    /// A standby leads from now on, if the cause still holds: with its newest keyframe, and what it has sent since.
    fn lead(&mut self, index: usize, publisher: PublisherRef, cause: SwitchCause, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let key = stream.key.clone();
        let Some(standby) = stream.standby_mut(publisher) else { return };
        standby.wanted = None;
        if self.draining.is_some() {
            return;
        }
        let connection = standby.who.connection;
        let Some(claim) = self.shared.directory.promote(&key, connection, cause) else { return };
        let frames = standby.start();
        let mut home =
            Home::new(publisher, standby.who.clone(), claim.generation, claim.resume, claim.line.clone(), now.mono);
        home.description = standby.description.clone();
        (home.bitrate, home.spent) = (standby.bitrate, std::mem::take(&mut standby.spent));
        // Its slot stays needed meanwhile.
        self.go_live(index, home, claim, Some(cause), now);
        self.streams[index].standbys.retain(|standby| standby.publisher != publisher);
        self.recount_stream(index);
        for frame in frames {
            self.take_in(index, frame, now);
        }
    }

    /// Lets the best of those who stand by lead, on whichever shard it is.
    pub(super) fn hand_over(&mut self, key: &StreamKey, cause: SwitchCause, now: Now) {
        let Some(seat) = self.shared.directory.successor(key) else { return };
        if seat.shard == self.id {
            self.on_promote(key, seat.connection, cause, now);
        } else {
            let control = Control::Promote { key: key.clone(), connection: seat.connection, cause };
            self.mesh.control(seat.shard, control);
        }
    }

    /// A standby of this shard is to lead.
    pub(super) fn on_promote(&mut self, key: &StreamKey, connection: ConnectionId, cause: SwitchCause, now: Now) {
        let found = self.find_standby(key, connection);
        let Some((index, publisher, ready)) = found else {
            // It has gone meanwhile; the directory knows.
            return self.hand_over(key, cause, now);
        };
        if ready {
            self.lead(index, publisher, cause, now);
        }
    }

    /// By command a standby leads from its next keyframe on, or at once where nobody leads.
    pub(super) fn switch_to(&mut self, key: &StreamKey, connection: ConnectionId, now: Now) -> Result<(), Reason> {
        let Some((index, publisher, ready)) = self.find_standby(key, connection) else {
            return Err(Reason::NotFound);
        };
        if !ready {
            return Err(Reason::Stalled);
        }
        if self.shared.directory.is_vacant(key) {
            self.lead(index, publisher, SwitchCause::Command, now);
        } else {
            self.await_keyframe(index, publisher, SwitchCause::Command, now);
        }
        Ok(())
    }

    /// It leads from its next keyframe on: so nothing is shown twice, and nothing is left out.
    fn await_keyframe(&mut self, index: usize, publisher: PublisherRef, cause: SwitchCause, now: Now) {
        let Some(standby) = self.streams.get_mut(index).and_then(|stream| stream.standby_mut(publisher)) else {
            return;
        };
        standby.wanted = Some(cause);
        let mut asked = standby.key_asked;
        self.ask_for_keyframe(publisher, &mut asked, now);
        if let Some(standby) = self.streams.get_mut(index).and_then(|stream| stream.standby_mut(publisher)) {
            standby.key_asked = asked;
        }
    }

    /// Whoever stands by here leads if nobody does: who would have told so is lost.
    pub(super) fn fill_vacancy(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get(index).filter(|stream| !stream.standbys.is_empty()) else { return };
        let key = stream.key.clone();
        if self.shared.directory.is_vacant(&key) {
            self.hand_over(&key, SwitchCause::Vacant, now);
        }
    }

    /// A publisher that stood by is over.
    pub(super) fn end_standby(&mut self, index: usize, publisher: PublisherRef, reason: Reason, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(at) = stream.standbys.iter().position(|standby| standby.publisher == publisher) else { return };
        let standby = stream.standbys.swap_remove(at);
        let key = stream.key.clone();
        self.recount_stream(index);
        self.shared.directory.leave(&key, standby.who.connection);
        if let PublisherRef::Port(port) = publisher {
            self.close_port(port, reason);
        }
        let fact = Fact::new(FactKind::StandbyEnd, now, self.id).stream(&key).who(&standby.who).reason(reason);
        self.tell(fact.totals(standby.bytes, now.mono.since(standby.since)));
        self.forget_if_idle(index);
    }

    // --- who sends nothing, and who is back --------------------------------------------------------------------

    /// Looks at the publishers of this stream at that time, or before.
    pub(super) fn watch(&mut self, index: usize, at: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if at < stream.watch_at {
            stream.watch_at = at;
            self.timers.arm(at, Due::Watch(index, stream.uid));
        }
    }

    /// One timer for each stream that may have several publishers; it is armed as long as one of them sends.
    pub(super) fn watch_due(&mut self, index: usize, uid: u64, now: Now) {
        let Some(stream) = self.streams.get_mut(index).filter(|stream| stream.uid == uid) else { return };
        if stream.watch_at > now.mono {
            return;
        }
        stream.watch_at = Instant::FAR;
        let mut next = self.watch_lead(index, now);
        let standbys = self.streams.get(index).map_or(0, |stream| stream.standbys.len());
        for at in 0..standbys {
            next = next.min(self.watch_standby(index, at, now));
        }
        if next < Instant::FAR {
            self.watch(index, next);
        }
    }

    fn watch_lead(&mut self, index: usize, now: Now) -> Instant {
        let Some(stream) = self.streams.get_mut(index) else { return Instant::FAR };
        let (key, stall_after) = (stream.key.clone(), stream.spec.stall_after);
        let Some(home) = stream.home_mut() else { return Instant::FAR };
        let at = home.qos.last_frame + stall_after;
        if at > now.mono {
            home.stalled = false;
            return at;
        }
        let generation = home.generation;
        if !std::mem::replace(&mut home.stalled, true) {
            let fact = Fact::new(FactKind::Stall, now, self.id).stream(&key).generation(generation).who(&home.who);
            self.tell(fact.reason(Reason::Stalled));
        }
        self.hand_over(&key, SwitchCause::Stalled(generation), now);
        now.mono + STALLED_LOOKS_APART
    }

    fn watch_standby(&mut self, index: usize, at: usize, now: Now) -> Instant {
        let Some(stream) = self.streams.get_mut(index) else { return Instant::FAR };
        let (stall_after, return_after) = (stream.spec.stall_after, stream.spec.return_after);
        let Some(standby) = stream.standbys.get_mut(at) else { return Instant::FAR };
        let (publisher, connection) = (standby.publisher, standby.who.connection);
        let Some(since) = standby.ready_since else { return Instant::FAR };
        let stalls = standby.last_frame + stall_after;
        if stalls <= now.mono {
            (standby.ready_since, standby.wanted) = (None, None);
            standby.forget_gop(now.mono);
            self.note_ready(index, publisher, false, now);
            return Instant::FAR;
        }
        let Some(returns) = return_after.map(|after| since + after).filter(|_| standby.wanted.is_none()) else {
            return stalls;
        };
        if returns > now.mono {
            return stalls.min(returns);
        }
        let key = stream.key.clone();
        if self.shared.directory.prefers(&key, connection) {
            self.await_keyframe(index, publisher, SwitchCause::Return, now);
        }
        stalls
    }

    fn find_standby(&self, key: &StreamKey, connection: ConnectionId) -> Option<(usize, PublisherRef, bool)> {
        let index = *self.by_key.get(key)?;
        let standby = self.streams[index].standbys.iter().find(|standby| standby.who.connection == connection)?;
        Some((index, standby.publisher, standby.ready_since.is_some()))
    }
}

impl LocalStream {
    pub(crate) fn standby_mut(&mut self, publisher: PublisherRef) -> Option<&mut Standby> {
        self.standbys.iter_mut().find(|standby| standby.publisher == publisher)
    }
}

/// A stream without a picture for so long, though it has sound, has none.
const SOUND_ALONE_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether there is somebody to go on with, while the one that leads sends nothing.
const STALLED_LOOKS_APART: Duration = Duration::from_millis(100);
