//! Frames → StreamLog of their home. What happens to a frame happens here, once.

use std::time::Duration;

use super::Shard;
use super::env::Env;
use super::host::Feed;
use super::local::{Placed, PublisherRef, Source};
use super::message::{Message, PackedFrame};
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::extension::SourcePoll;
use crate::fact::{Fact, FactKind};
use crate::limits::{CONFIG_BYTES_MAX, HOST_FRAMES_PER_TURN, Limit, TRACKS_MAX};
use crate::media::{Frame, FrameFlags, FrameKind};
use crate::reason::Reason;

impl<E: Env> Shard<E> {
    /// Appends a publisher's frame to its stream, or keeps it if another one leads.
    pub(super) fn route(&mut self, index: usize, from: PublisherRef, frame: Frame, now: Now) -> Result<(), Reason> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        let limits = &self.config.limits;
        if usize::from(frame.track.0) >= TRACKS_MAX {
            return Err(Reason::Limit(Limit::Tracks));
        }
        let most = if frame.kind == FrameKind::Config { CONFIG_BYTES_MAX } else { limits.message_bytes };
        if frame.payload.len() > most {
            return Err(Reason::Limit(Limit::MessageBytes));
        }
        if stream.spec.publisher.is_some() {
            self.hold_to_caps(index, from, &frame, now)?;
        }
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        let limits = &self.config.limits;
        let (bitrate, who, leads) = match stream.home_of(from) {
            Some(home) => (&mut home.bitrate, &home.who, true),
            None => match stream.standby_mut(from) {
                Some(standby) => (&mut standby.bitrate, &standby.who, false),
                None => return Ok(()),
            },
        };
        if let Some(limit) = limits.publisher_bitrate
            && bitrate.add(now.mono, frame.payload.len() as u64 * 8) > limit
        {
            let reason = Reason::Limit(Limit::PublisherBitrate);
            let fact = Fact::new(FactKind::RateLimit, now, self.id).who(who).reason(reason);
            let fact = fact.stream(&stream.key);
            self.tell(fact);
            return Err(reason);
        }
        if leads {
            self.take_in(index, frame, now);
        } else {
            self.keep_frame(index, from, frame, now);
        }
        Ok(())
    }

    /// Appends a frame of the publisher that leads.
    #[inline]
    pub(super) fn take_in(&mut self, index: usize, mut frame: Frame, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(home) = stream.home_mut() else { return };
        let corrected = match home.place(&mut frame) {
            Placed::BeforeKey => {
                self.counters.before_key += 1;
                return;
            }
            // Its end is on its way; this came after it.
            Placed::Ousted => return,
            Placed::Taken { corrected } => corrected,
        };
        // What it kept while it stood by reaches the stream now.
        frame.origin = frame.origin.max(home.started);
        frame.flags = frame.flags.without(FrameFlags::TIMED);
        if home.sampler.is_due() && frame.kind != FrameKind::Config {
            // For those that follow this is a count and no more.
            if home.sampler.takes(self.config.sample_every, self.env.random()) {
                frame.flags = frame.flags.union(FrameFlags::TIMED);
            }
        }
        home.qos.record(now.mono, &frame);
        self.counters.frames_in += 1;
        self.counters.payload_in += frame.payload.len() as u64;
        if self.shared.observes_frames {
            for observer in self.shared.observers.iter().filter(|observer| observer.wants_frames()) {
                observer.on_frame(&stream.key, &frame);
            }
        }
        if corrected {
            self.note_corrections(index, now);
        }
        self.append(index, frame, now);
    }

    /// Counts what was put right in a publisher's timestamps, and tells what was more than noise.
    pub(super) fn note_corrections(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Source::Home(home) = &mut stream.source else { return };
        let corrections = home.timeline.take_corrections();
        self.counters.corrections += corrections;
        home.untold += corrections.events();
        if let Some(count) = home.clock_fact(now.mono) {
            let fact = Fact::new(FactKind::TimestampJump, now, self.id).stream(&stream.key).who(&home.who);
            let fact = fact.generation(home.generation).count(count);
            self.tell(fact);
        }
    }

    /// Appends a frame to a log, home or replica, and notes that it is to be flushed.
    pub(super) fn append(&mut self, index: usize, frame: Frame, now: Now) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let own = stream.own_payloads;
        let grows = self.memory.is_capped().then(|| stream.growth()).filter(|bytes| *bytes > 0);
        if grows.is_some_and(|bytes| !self.memory.has_room(bytes as u64)) {
            self.shed_instead_of_growing(index, now);
        }
        let Some(stream) = self.streams.get_mut(index) else { return };
        let timed = frame.is_timed().then_some(frame.origin);
        let appended = stream.log.append(now.mono, frame);
        if grows.is_some() {
            stream.grow();
        }
        let measure = stream.pace.is_due(now.mono);
        if let Some(frames) = appended.gop_dropped {
            self.counters.gops_dropped += 1;
            let mut fact = Fact::new(FactKind::GopDrop, now, self.id).stream(&stream.key).count(frames);
            fact.who = stream.home().map(|home| home.who.clone());
            self.tell(fact);
        }
        if grows.is_some() || (own && self.memory.is_capped()) {
            self.recount_stream(index);
        }
        if let Some(origin) = timed {
            self.timed_frame_appended(index, appended.seq, origin);
        }
        self.mark_dirty(index);
        if measure {
            self.measure_pace(index, now);
        }
    }

    /// Takes frames from the host's publishers.
    pub(super) fn drain_ports(&mut self, now: Now) -> usize {
        let mut work = 0;
        for port in 0..self.ports.capacity() {
            work += self.drain_port(port, now);
        }
        work
    }

    fn drain_port(&mut self, index: usize, now: Now) -> usize {
        let mut taken = 0;
        while taken < HOST_FRAMES_PER_TURN {
            let Some(port) = self.ports.get_mut(index).filter(|port| port.rests_until == Instant::ZERO) else {
                return taken;
            };
            let Feed::Ring { frames, .. } = &mut port.feed else { return taken };
            let Some(stream) = port.stream else { return taken };
            let next = port.held.take().map(Message::Frame).or_else(|| frames.pop());
            let closed = next.is_none() && frames.is_closed();
            let result = match next {
                Some(Message::Frame(frame)) if !self.has_room_for(frame.payload_len(), now) => {
                    self.ports[index].held = Some(frame);
                    return taken;
                }
                Some(Message::Frame(frame)) => {
                    self.route(stream, PublisherRef::Port(index), frame.unpack(now.mono), now)
                }
                Some(Message::Control(reason)) => Err(*reason),
                None if closed => Err(Reason::Ended),
                None => return taken,
            };
            taken += 1;
            if let Err(reason) = result {
                self.end_publish(stream, PublisherRef::Port(index), reason, now);
            }
        }
        taken
    }

    /// Whether there is memory for a frame of the host. One that is too long needs none: it is refused.
    #[inline]
    fn has_room_for(&mut self, bytes: usize, now: Now) -> bool {
        let room = !self.memory.is_capped()
            || bytes > self.config.limits.message_bytes
            || self.memory.has_room(bytes as u64);
        if !room {
            self.look_at_memory_again(now);
        }
        room
    }

    pub(super) fn ports_have_frames(&mut self) -> bool {
        self.ports.iter_mut().any(|(_, port)| match &mut port.feed {
            Feed::Ring { frames, .. } => {
                port.held.is_none()
                    && port.rests_until == Instant::ZERO
                    && port.stream.is_some()
                    && (!frames.is_empty() || frames.is_closed())
            }
            Feed::Source { .. } => false,
        })
    }

    /// Asks a source of the host for what is due.
    pub(super) fn poll_source(&mut self, index: usize, now: Now) {
        for _ in 0..HOST_FRAMES_PER_TURN {
            let Some(port) = self.ports.get_mut(index).filter(|port| port.rests_until == Instant::ZERO) else {
                return;
            };
            let Feed::Source { source, not_before } = &mut port.feed else { return };
            if *not_before > now.mono {
                return;
            }
            let Some(stream) = port.stream else { return };
            let next = port
                .held
                .take()
                .map_or_else(|| source.poll_frame(now), |held| SourcePoll::Frame(held.unpack(now.mono)));
            let result = match next {
                SourcePoll::Frame(mut frame) => {
                    frame.origin = now.mono;
                    if !self.has_room_for(frame.payload.len(), now) {
                        self.ports[index].held = Some(PackedFrame::pack(&frame, 0));
                        self.timers.arm(now.mono + SOURCE_WAITS, Due::Source(index));
                        return;
                    }
                    self.route(stream, PublisherRef::Port(index), frame, now)
                }
                SourcePoll::NotBefore(at) => {
                    // In this turn it was asked already, also if it names a time that is over.
                    let at = at.max(now.mono + SOURCE_RESTS);
                    *not_before = at;
                    self.timers.arm(at, Due::Source(index));
                    return;
                }
                SourcePoll::End => Err(Reason::Ended),
            };
            if let Err(reason) = result {
                self.end_publish(stream, PublisherRef::Port(index), reason, now);
                return;
            }
        }
        // It always has a frame: its neighbours have their turn first.
        self.timers.arm(now.mono + SOURCE_RESTS, Due::Source(index));
    }
}

/// How long a source waits for memory.
const SOURCE_WAITS: Duration = Duration::from_millis(5);
/// Just so long that the timer does not fire in the turn that armed it.
const SOURCE_RESTS: Duration = Duration::from_nanos(1);
