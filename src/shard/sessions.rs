//! Sessions and what they want: the shard's side of the contract in `protocol/mod.rs`.
//!
//! A session that panics costs its own connection: it is called behind a boundary and touches nothing of the
//! shard's. What it wants is carried out afterwards, outside.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::Shard;
use super::connection::{Connection, Phase, Publishing};
use super::env::Env;
use super::local::PublisherRef;
use super::seats::{Part, Seat};
use super::timers::Due;
use crate::clock::{Instant, Now};
use crate::extension::{Action, AuthReply, AuthRequest, Credentials, Decision};
use crate::fact::{Fact, FactKind};
use crate::id::{ConnectionId, StreamKey};
use crate::limits::{Limit, SHARED_BYTES_MAX};
use crate::protocol::{Input, Output, PlayRequest, PublishRequest, StreamHandle};
use crate::reason::{Blame, Reason};
use crate::stream::{Conflict, Located};

/// Something a session is to be told, in its turn.
pub(super) struct Task {
    pub(super) slot: usize,
    pub(super) id: ConnectionId,
    pub(super) input: Input,
}

/// A request that waits for an authenticator.
pub(super) struct Asked {
    pub(super) who: AskedBy,
    pub(super) key: StreamKey,
}

/// Whose request it is, and what is done with a yes.
pub(super) enum AskedBy {
    Publish { slot: usize, id: ConnectionId, handle: StreamHandle, backup: bool },
    Play { slot: usize, id: ConnectionId, request: Box<PlayRequest> },
    HostPublish(Box<super::HostPublish>),
    HostSubscribe(Box<super::HostSubscribe>),
}

impl<E: Env> Shard<E> {
    /// Gives a session its input, then does what it wants.
    pub(super) fn feed(&mut self, slot: usize, input: Input, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_closing() {
            return;
        }
        let result = ask(connection, now, input, &mut self.outputs);
        if matches!(result, Err(Reason::Panic)) {
            self.counters.session_panics += 1;
        }
        self.carry_out(slot, now);
        match result {
            Ok(()) => {
                self.flush(slot, now);
                self.arm_connection(slot, now);
            }
            Err(reason) => self.close_quietly(slot, reason, now),
        }
        self.recount_connection(slot);
    }

    /// Tells sessions what they are to be told, until nothing is left.
    pub(super) fn run_tasks(&mut self, now: Now) {
        while let Some(Task { slot, id, input }) = self.tasks.pop_front() {
            if self.connections.get(slot).is_some_and(|connection| connection.cold.id == id) {
                self.feed(slot, input, now);
            }
        }
    }

    pub(super) fn queue_task(&mut self, slot: usize, input: Input) {
        if let Some(connection) = self.connections.get(slot) {
            self.tasks.push_back(Task { slot, id: connection.cold.id, input });
        }
    }

    /// Does what a session wants, in order.
    fn carry_out(&mut self, slot: usize, now: Now) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            if let Err(reason) = self.carry_out_one(slot, output, now) {
                self.close(slot, reason, now);
            }
        }
        self.outputs = outputs;
    }

    fn carry_out_one(&mut self, slot: usize, output: Output, now: Now) -> Result<(), Reason> {
        match output {
            Output::Frame(handle, frame) => {
                if let Some(stream) = self.published(slot, handle) {
                    return self.route(stream, PublisherRef::Connection { slot, handle }, frame, now);
                }
                Ok(())
            }
            Output::Send(bytes) => self.send(slot, bytes),
            Output::Share(bytes) => self.share(slot, bytes),
            Output::Established => {
                match self.connections.get_mut(slot).map(|connection| &mut connection.cold) {
                    Some(cold) if cold.phase == Phase::Idle => cold.phase_since = now.mono,
                    Some(cold) if cold.phase == Phase::Handshake => self.set_phase(slot, Phase::Idle, now),
                    _ => {}
                }
                Ok(())
            }
            Output::Publish(request) => {
                self.ask_to_publish(slot, *request, now);
                Ok(())
            }
            Output::Play(request) => {
                self.ask_to_play(slot, request, now);
                Ok(())
            }
            Output::Buffer(part, bytes) => {
                self.memory.pins.add(part, bytes);
                Ok(())
            }
            Output::Describe(handle, description) => {
                let publisher = PublisherRef::Connection { slot, handle };
                if let Some(stream) = self.published(slot, handle) {
                    let stream = &mut self.streams[stream];
                    if let Some(home) = stream.home_of(publisher) {
                        home.description = *description;
                    } else if let Some(standby) = stream.standby_mut(publisher) {
                        standby.description = *description;
                    }
                }
                Ok(())
            }
            Output::Wrapped(handle) => {
                if let Some(stream) = self.published(slot, handle)
                    && let Some(home) = self.streams[stream].home_of(PublisherRef::Connection { slot, handle })
                {
                    home.timeline.wrapped();
                    self.note_corrections(stream, now);
                }
                Ok(())
            }
            Output::Unpublish(handle) => {
                if let Some(stream) = self.published(slot, handle) {
                    let publishes = &mut self.connections[slot].cold.publishes;
                    publishes.retain(|publishing| publishing.handle != handle);
                    self.end_publish(stream, PublisherRef::Connection { slot, handle }, Reason::Ended, now);
                    self.settle_phase(slot, now);
                }
                Ok(())
            }
            Output::Stop(handle) => {
                if let Some(place) = self.played(slot, handle) {
                    self.connections[slot].cold.plays.retain(|play| play.handle != handle);
                    self.end_subscriber(place, Reason::Ended, now);
                    self.settle_phase(slot, now);
                }
                Ok(())
            }
            Output::Pause(handle, paused) => {
                if let Some(place) = self.played(slot, handle) {
                    self.pause_subscriber(place, paused);
                }
                Ok(())
            }
            Output::NeedKeyframe(handle) => {
                if let Some(place) = self.played(slot, handle)
                    && let Some(stream) = self.places.get(place).map(super::group::Place::stream)
                {
                    self.want_keyframe(stream, now);
                }
                Ok(())
            }
            Output::Close(reason) => {
                self.close_quietly(slot, reason, now);
                Ok(())
            }
        }
    }

    fn published(&self, slot: usize, handle: StreamHandle) -> Option<usize> {
        let cold = &self.connections.get(slot)?.cold;
        cold.publishes.iter().find(|publishing| publishing.handle == handle).map(|publishing| publishing.stream)
    }

    fn played(&self, slot: usize, handle: StreamHandle) -> Option<usize> {
        let cold = &self.connections.get(slot)?.cold;
        cold.plays.iter().find(|play| play.handle == handle).map(|play| play.place)
    }

    fn send(&mut self, slot: usize, bytes: Bytes) -> Result<(), Reason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        // A player that is behind has the rest of one message pending besides its replies.
        let allowed = self.config.limits.reply_bytes + connection.cold.pending_media;
        if connection.cold.pending_bytes + bytes.len() > allowed {
            return Err(Reason::Limit(Limit::ReplyBytes));
        }
        connection.push_reply(bytes);
        Ok(())
    }

    /// Not a reply: it counts where it is held as well.
    fn share(&mut self, slot: usize, bytes: Bytes) -> Result<(), Reason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        if connection.cold.pending_bytes + bytes.len() > SHARED_BYTES_MAX {
            return Err(Reason::Limit(Limit::ReplyBytes));
        }
        connection.cold.sharing = true;
        connection.push_media(bytes);
        Ok(())
    }

    // --- authorization ---------------------------------------------------------------------------------------

    fn ask_to_publish(&mut self, slot: usize, request: PublishRequest, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.cold.asking += 1;
        let id = connection.cold.id;
        let backup = request.credentials.param("backup").is_some();
        let by = AskedBy::Publish { slot, id, handle: request.handle, backup };
        if let Err(reason) = self.may_start(&request.key) {
            return self.answer_asked(Asked { who: by, key: request.key }, Err(reason), now);
        }
        self.authorize(by, Action::Publish, request.key, request.credentials, now);
    }

    fn ask_to_play(&mut self, slot: usize, mut request: Box<PlayRequest>, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.cold.asking += 1;
        let id = connection.cold.id;
        let key = request.key.clone();
        let credentials = std::mem::take(&mut request.credentials);
        let by = AskedBy::Play { slot, id, request };
        if let Err(reason) = self.may_start(&key) {
            return self.answer_asked(Asked { who: by, key }, Err(reason), now);
        }
        self.authorize(by, Action::Play, key, credentials, now);
    }

    /// What stands against any new session on this stream.
    pub(super) fn may_start(&self, key: &StreamKey) -> Result<(), Reason> {
        if self.draining.is_some() {
            return Err(Reason::Shutdown);
        }
        if self.memory.refuses() {
            return Err(Reason::Limit(Limit::Memory));
        }
        if self.audit_stands_against() {
            return Err(Reason::AuditUnavailable);
        }
        self.config.app(key.app()).map(|_| ()).ok_or(Reason::UnknownApp)
    }

    /// Asks the authenticator; the answer comes as a command, or the deadline denies.
    pub(super) fn authorize(
        &mut self,
        by: AskedBy,
        action: Action,
        key: StreamKey,
        credentials: Credentials,
        now: Now,
    ) {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let ticket = self.next_ticket;
        let (connection, peer, protocol) = match &by {
            AskedBy::Publish { slot, id, .. } | AskedBy::Play { slot, id, .. } => {
                let who = self.connections.get(*slot).map(|connection| &connection.cold.who);
                (*id, who.and_then(|who| who.peer), who.map_or("", |who| who.protocol))
            }
            AskedBy::HostPublish(request) => (request.connection, None, "host"),
            AskedBy::HostSubscribe(request) => (request.connection, None, "host"),
        };
        self.asked.insert(ticket, Asked { who: by, key: key.clone() });
        self.timers.arm(now.mono + self.config.limits.auth_deadline, Due::Auth(ticket));
        let request = AuthRequest::new(action, key, credentials, connection, peer, protocol, now);
        let back = std::sync::Arc::new(self.shared.shards[usize::from(self.id.0)].clone());
        let authenticator = std::sync::Arc::clone(&self.shared.authenticator.read());
        authenticator.authorize(request, AuthReply::new(ticket, back));
    }

    pub(super) fn take_answer(&mut self, ticket: u64, decision: Decision, now: Now) {
        // Answered twice, or after the deadline: the first answer stands.
        let Some(asked) = self.asked.remove(&ticket) else { return };
        match decision {
            Decision::Allow { principal } => self.settle(asked, principal, now),
            Decision::Deny(reason) => self.answer_asked(asked, Err(reason), now),
        }
    }

    pub(super) fn auth_due(&mut self, ticket: u64, now: Now) {
        if let Some(asked) = self.asked.remove(&ticket) {
            self.answer_asked(asked, Err(Reason::AuthTimeout), now);
        }
    }

    pub(super) fn answer_asked(
        &mut self,
        asked: Asked,
        answer: Result<Option<std::sync::Arc<str>>, Reason>,
        now: Now,
    ) {
        let Asked { who, key } = asked;
        match who {
            AskedBy::Publish { slot, id, handle, backup } => {
                let Some(who) = self.answered(slot, id, &answer) else { return };
                let result = answer.and_then(|_| self.start_connection_publish(&key, slot, handle, who, backup, now));
                if let Err(reason) = result {
                    self.tell_refusal(FactKind::PublishRefuse, &key, slot, reason, now);
                }
                self.settle_phase(slot, now);
                self.queue_task(slot, Input::Published(handle, result));
                self.resume_read(slot);
            }
            AskedBy::Play { slot, id, request } => {
                if self.answered(slot, id, &answer).is_none() {
                    return;
                }
                let result = answer.and_then(|_| self.start_play(slot, &request, now));
                if let Err(reason) = result {
                    self.tell_refusal(FactKind::PlayRefuse, &key, slot, reason, now);
                }
                self.settle_phase(slot, now);
                self.queue_task(slot, Input::Playing(request.handle, result));
                self.resume_read(slot);
            }
            AskedBy::HostPublish(request) => self.host_publish_answered(*request, answer, now),
            AskedBy::HostSubscribe(request) => self.host_subscribe_answered(*request, answer, now),
        }
    }

    /// A connection got an answer; who it is known as from now on. `None` if it is gone.
    fn answered(
        &mut self,
        slot: usize,
        id: ConnectionId,
        answer: &Result<Option<std::sync::Arc<str>>, Reason>,
    ) -> Option<crate::fact::Who> {
        let connection = self.live_connection(slot, id)?;
        connection.cold.asking = connection.cold.asking.saturating_sub(1);
        if let Ok(Some(principal)) = answer {
            connection.cold.who.principal = Some(std::sync::Arc::clone(principal));
        }
        (!connection.is_closing()).then(|| connection.cold.who.clone())
    }

    fn start_connection_publish(
        &mut self,
        key: &StreamKey,
        slot: usize,
        handle: StreamHandle,
        who: crate::fact::Who,
        backup: bool,
        now: Now,
    ) -> Result<(), Reason> {
        let cold = &self.connections[slot].cold;
        if cold.publishes.len() + cold.plays.len() >= self.config.limits.streams_per_connection {
            return Err(Reason::Limit(Limit::StreamsPerConnection));
        }
        let seat = self.take_seats(slot, Part::Publisher, key, &who)?;
        let stream = self.start_publish(key, PublisherRef::Connection { slot, handle }, who, backup, now)?;
        self.connections[slot].cold.publishes.push(Publishing { handle, stream, seat });
        Ok(())
    }

    /// Takes a seat for one more publisher or viewer, and for the connection where it is new to the application.
    pub(super) fn take_seats(
        &mut self,
        slot: usize,
        part: Part,
        key: &StreamKey,
        who: &crate::fact::Who,
    ) -> Result<Option<Box<Seat>>, Reason> {
        let (app, limits) = (key.app(), &self.config.limits);
        let spec = self.config.app(app).ok_or(Reason::UnknownApp)?;
        let seats = &self.shared.gauges.seats;
        if self.connections[slot].cold.seats.len() >= self.config.limits.streams_per_connection {
            return Err(Reason::Limit(Limit::StreamsPerConnection));
        }
        let known = self.connections[slot].cold.seats.iter().any(|(known, _)| **known == *app);
        // Whoever takes over a stream takes the place of another.
        let replaces = part == Part::Publisher
            && spec.conflict == Conflict::TakeOver
            && matches!(self.shared.directory.locate(key), Located::Live(..));
        let take = |part| seats.take(part, app, who, spec, limits, replaces).map_err(Reason::Limit);
        let own = if known { None } else { take(Part::Connection)? };
        let seat = take(part)?;
        if own.is_some() {
            self.connections[slot].cold.seats.push((app.into(), own));
        }
        Ok(seat)
    }

    fn live_connection(&mut self, slot: usize, id: ConnectionId) -> Option<&mut Connection<E::Socket>> {
        self.connections.get_mut(slot).filter(|connection| connection.cold.id == id)
    }

    fn tell_refusal(&mut self, kind: FactKind, key: &StreamKey, slot: usize, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get(slot) else { return };
        let fact = Fact::new(kind, now, self.id).stream(key).who(&connection.cold.who).reason(reason);
        self.tell_refused(fact);
    }

    // --- the connection's life -------------------------------------------------------------------------------

    pub(super) fn set_phase(&mut self, slot: usize, phase: Phase, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.cold.phase != phase {
            connection.cold.phase = phase;
            connection.cold.phase_since = now.mono;
            self.arm_connection(slot, now);
        }
    }

    /// Busy if it publishes or plays, idle if not.
    pub(super) fn settle_phase(&mut self, slot: usize, now: Now) {
        let Some(connection) = self.connections.get(slot) else { return };
        if connection.is_closing() || connection.cold.phase == Phase::Handshake {
            return;
        }
        let busy = !connection.cold.publishes.is_empty() || !connection.cold.plays.is_empty();
        if !busy && let Some(connection) = self.connections.get_mut(slot) {
            connection.cold.seats = Vec::new();
        }
        self.set_phase(slot, if busy { Phase::Busy } else { Phase::Idle }, now);
    }

    /// The socket has room again: what waits first, then media from each subscriber's own place.
    pub(super) fn on_writable(&mut self, slot: usize, now: Now) {
        self.flush(slot, now);
        let Some(connection) = self.connections.get(slot) else { return };
        if !connection.writable || connection.cold.flushing {
            return;
        }
        for play in &connection.cold.plays {
            self.behind.push_back(play.place);
        }
    }

    /// Sends what waits; a connection that is closing is finished when nothing is left.
    pub(super) fn flush(&mut self, slot: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.writable && !connection.cold.pending.is_empty() {
            self.counters.sends += 1;
        }
        let before = connection.bytes_out;
        let flushed = connection.flush(&mut self.env, now.mono);
        self.counters.bytes_out += connection.bytes_out - before;
        match flushed {
            Ok(true) => {
                let rest = connection.cold.rest.take();
                let shared = std::mem::take(&mut connection.cold.sharing);
                if let Phase::Closing(reason) = connection.cold.phase {
                    self.env.finish(&mut connection.socket);
                    connection.cold.phase = Phase::Finished(reason);
                }
                if let Some(rest) = rest {
                    self.rest_accepted(rest);
                }
                if shared {
                    self.queue_task(slot, Input::Sent);
                    self.resume_read(slot);
                }
            }
            Ok(false) if connection.writable && !connection.cold.flushing => {
                connection.cold.flushing = true;
                self.flushing.push_back(slot);
            }
            Ok(false) => {}
            Err(_) => self.lose(slot, Reason::Reset, now),
        }
    }

    /// Closes a connection by the router's will: the session may say why, then the socket is ended in order.
    pub(super) fn close(&mut self, slot: usize, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_closing() {
            return;
        }
        let mut words = Vec::new();
        // Its last words; whatever else it wants is too late.
        let _ = ask(connection, now, Input::Closing(reason), &mut words);
        for output in words {
            if let Output::Send(bytes) = output {
                connection.push_reply(bytes);
            }
        }
        self.close_quietly(slot, reason, now);
    }

    /// Closes a connection whose session has said what it had to say.
    fn close_quietly(&mut self, slot: usize, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_closing() {
            return;
        }
        self.end_everything_of(slot, reason, now);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !matches!(reason.blame(), Blame::Nobody | Blame::Operator) {
            self.counters.peer_errors += 1;
        }
        connection.clear = false;
        connection.cold.asking = 0;
        connection.cold.rests_until = Instant::ZERO;
        self.set_phase(slot, Phase::Closing(reason), now);
        self.flush(slot, now);
        // What the peer still sends is read and thrown away until its end, so that it is not reset.
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.cold.readable = true;
        }
        self.resume_read(slot);
    }

    /// The connection is gone: nothing can be said any more.
    pub(super) fn lose(&mut self, slot: usize, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get(slot) else { return };
        let reason = match connection.cold.phase {
            Phase::Closing(first) | Phase::Finished(first) => first,
            _ => reason,
        };
        self.end_everything_of(slot, reason, now);
        let Some(connection) = self.connections.try_remove(slot) else { return };
        self.shared.gauges.leave(connection.cold.peer.ip());
        self.memory.connections -= connection.cold.counted;
        self.counters.closed += 1;
        let cold = &connection.cold;
        let fact = Fact::new(FactKind::ConnectionClose, now, self.id)
            .who(&cold.who)
            .reason(reason)
            .totals(cold.bytes_in + connection.bytes_out, now.mono.since(cold.opened));
        self.tell(fact);
    }

    fn end_everything_of(&mut self, slot: usize, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let publishes = std::mem::take(&mut connection.cold.publishes);
        let plays = std::mem::take(&mut connection.cold.plays);
        for publishing in publishes {
            let publisher = PublisherRef::Connection { slot, handle: publishing.handle };
            self.end_publish(publishing.stream, publisher, reason, now);
        }
        for play in plays {
            self.end_subscriber(play.place, reason, now);
        }
    }

    /// When this connection must be looked at again.
    fn connection_deadline(&self, slot: usize) -> Option<(Instant, Reason)> {
        let connection = self.connections.get(slot)?;
        let cold = &connection.cold;
        let limits = &self.config.limits;
        let phase = match cold.phase {
            Phase::Handshake => Some((cold.opened + limits.handshake_deadline, Reason::HandshakeTimeout)),
            Phase::Idle => Some((cold.phase_since + limits.request_deadline, Reason::RequestTimeout)),
            Phase::Busy => None,
            Phase::Closing(reason) | Phase::Finished(reason) => {
                Some((cold.phase_since + limits.close_deadline, reason))
            }
        };
        let session = if connection.is_closing() { None } else { cold.session.deadline() };
        match (phase, session) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    pub(super) fn arm_connection(&mut self, slot: usize, _now: Now) {
        let Some((at, _)) = self.connection_deadline(slot) else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if at < connection.cold.timer_at {
            connection.cold.timer_at = at;
            let id = connection.cold.id;
            self.timers.arm(at, Due::Connection(slot, id));
        }
    }

    pub(super) fn connection_due(&mut self, slot: usize, id: ConnectionId, now: Now) {
        let Some(connection) = self.live_connection(slot, id) else { return };
        if connection.cold.timer_at > now.mono {
            return;
        }
        connection.cold.timer_at = Instant::FAR;
        let closing = connection.is_closing();
        let asking = connection.cold.asking > 0;
        let Some((at, reason)) = self.connection_deadline(slot) else { return };
        if at > now.mono {
            self.arm_connection(slot, now);
        } else if closing {
            self.lose(slot, reason, now);
        } else if asking && reason == Reason::RequestTimeout {
            // It asked in time; the authenticator has a deadline of its own.
            self.connections[slot].cold.phase_since = now.mono;
            self.arm_connection(slot, now);
        } else if matches!(reason, Reason::HandshakeTimeout | Reason::RequestTimeout) {
            self.close(slot, reason, now);
        } else {
            self.feed(slot, Input::Deadline, now);
            self.arm_connection(slot, now);
        }
    }
}

/// Calls a session behind the boundary, and collects what it wants.
fn ask<S>(connection: &mut Connection<S>, now: Now, input: Input, outputs: &mut Vec<Output>) -> Result<(), Reason> {
    let session = &mut connection.cold.session;
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let result = session.handle(now, input);
        while let Some(output) = session.poll() {
            outputs.push(output);
        }
        result
    }));
    asked.unwrap_or_else(|_| {
        outputs.clear();
        Err(Reason::Panic)
    })
}
