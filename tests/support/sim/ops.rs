//! What happens to the world, one thing at a time.

use std::sync::Arc;

use crossbeam_channel::bounded;
use shardcast::shard::{Command, KickTarget};
use shardcast::stream::Spread;

use super::client::Reading;
use super::host::SinkMood;
use super::proto::Say;
use super::swarm::{Op, config};
use super::world::World;

impl World {
    pub fn perform(&mut self, op: Op) {
        self.book.lock().trace(|| format!("op {op:?}"));
        match op {
            Op::PeerPublishes => self.peer_publishes(),
            Op::HostPublishes => self.host_publishes(),
            Op::SourceStarts => {
                let (key, shard) = (self.any_key(), self.any_shard());
                if self.sources.len() < 4 {
                    self.run_source(&key, shard);
                }
            }
            Op::PeerPlays => self.peer_plays(),
            Op::HostSubscribes => {
                let (key, shard, options) = (self.any_key(), self.any_shard(), self.options());
                let slots = self.rng.pick(&[4, 16, 256]);
                if self.subscribers.iter().filter(|host| !host.over).count() < MOST {
                    self.host_subscribe(&key, shard, options, slots);
                }
            }
            Op::SinkAttaches => {
                let (key, shard, options) = (self.any_key(), self.any_shard(), self.options());
                if self.sinks.iter().filter(|sink| !sink.state.lock().over).count() < MOST {
                    self.attach_sink(&key, shard, options);
                }
            }
            Op::PublisherEnds => self.publisher_ends(),
            Op::PublisherBreaks => self.publisher_breaks(),
            Op::ConfigChanges => {
                for client in &mut self.clients {
                    if let Some(encoder) = &mut client.encoder {
                        encoder.change();
                    }
                }
                for publisher in &mut self.publishers {
                    publisher.encoder.change();
                }
                for source in &self.sources {
                    source.state.lock().change = true;
                }
            }
            Op::PlayStops => {
                if let Some((client, handle)) = self.any_play() {
                    self.clients[client].say(Say::Stop, handle, &[]);
                    self.clients[client].plays.remove(&handle);
                }
            }
            Op::PlayPauses => self.play_pauses(),
            Op::PeerLeaves => {
                let stays = |world: &Self, at: usize| world.swarm.gapless && world.clients[at].encoder.is_some();
                if let Some(at) = self.any_client().filter(|at| self.rng.one_in(2) && !stays(self, *at)) {
                    if self.rng.one_in(3) { self.clients[at].reset() } else { self.clients[at].close() }
                }
            }
            Op::PeerHalfCloses => {
                if let Some(at) = self.any_client() {
                    self.clients[at].half_close();
                }
            }
            Op::PeerMisbehaves => self.peer_misbehaves(),
            Op::ReaderChanges => self.reader_changes(),
            Op::SubscriberLeaves => self.subscriber_leaves(),
            Op::Kicks => self.kicks(),
            Op::Inspects => self.inspects(),
            Op::ShardPanics => {
                let shard = self.any_shard();
                if self.rng.one_in(3) {
                    let _ = self.cluster.seats[shard].post.send(Command::Panic);
                }
                if self.rng.one_in(8) {
                    // Two at once.
                    for shard in [shard, self.any_shard()] {
                        let _ = self.cluster.seats[shard].post.send(Command::Panic);
                    }
                }
            }
            Op::ShardPauses => {
                let shard = self.any_shard();
                let ms = self.rng.pick(&[20, 300, 1_500, 4_000]);
                self.cluster.seats[shard].paused_until = self.now() + ms * 1_000_000;
                self.book.lock().trace(|| format!("shard {shard} pauses for {ms} ms"));
            }
            Op::SinkMoodChanges => {
                let explodes = self.swarm.ops.contains(&Op::ShardPanics) && self.rng.one_in(8);
                let moods = [SinkMood::Takes, SinkMood::Busy(2), SinkMood::Stuck, SinkMood::Done];
                let mood = if explodes { SinkMood::Explodes } else { self.rng.pick(&moods) };
                let at = self.rng.below(self.sinks.len());
                if let Some(sink) = self.sinks.get(at) {
                    sink.state.lock().mood = mood;
                }
            }
            Op::DescriptorsRunOut => {
                let until = self.now() + self.rng.within(100, 1_500) * 1_000_000;
                let mut net = self.net.borrow_mut();
                (net.exhausted_until, net.refuses) = (until, self.rng.one_in(2));
            }
            Op::ClockJumps => {
                // The machine slept.
                let ms = self.rng.within(100, 5_000);
                self.clocks.advance(ms * 1_000_000);
            }
            Op::WallJumps => {
                let hour = 3_600_000_000_000;
                let wall = self.clocks.wall.get();
                self.clocks.wall.set(if self.rng.one_in(2) { wall + hour } else { wall - hour });
            }
            Op::Switches => {
                let key = self.any_key();
                let (_, standbys) = self.cluster.shared.directory.seats(&key);
                if !standbys.is_empty() {
                    let seat = self.rng.pick(&standbys);
                    let (reply, _) = bounded(1);
                    let switch = Command::Switch(key, seat.connection, reply);
                    let _ = self.cluster.seats[usize::from(seat.shard.0)].post.send(switch);
                }
            }
            Op::Reconfigures => {
                // Other applications; the limits stay, since they are checked after every step.
                let mut other = config(&mut self.rng);
                other.limits = self.config.limits.clone();
                let other = Arc::new(other);
                for seat in &self.cluster.seats {
                    let _ = seat.post.send(Command::Configure(Arc::clone(&other)));
                }
            }
        }
    }

    fn live_publishers(&self) -> usize {
        let peers = self.clients.iter().filter(|client| client.encoder.is_some()).count();
        let hosts = self.publishers.iter().filter(|publisher| !publisher.over).count();
        peers + hosts + self.sources.iter().filter(|source| !source.state.lock().over).count()
    }

    fn peer_publishes(&mut self) {
        if self.live_publishers() > PUBLISHERS_MOST {
            return;
        }
        let (key, shard) = (self.any_key(), self.any_shard());
        let rtmp = self.peer(shard).tongue.is_rtmp();
        let encoder = self.encoder(&key, rtmp);
        if let Some(client) = self.clients.last_mut() {
            client.publish(encoder);
        }
    }

    fn host_publishes(&mut self) {
        if self.live_publishers() > PUBLISHERS_MOST {
            return;
        }
        let (key, shard) = (self.any_key(), self.any_shard());
        let slots = self.rng.pick(&[2, 16, 256]);
        self.host_publish(&key, shard, slots);
    }

    fn peer_plays(&mut self) {
        if self.clients.iter().filter(|client| !client.over).count() > 2 * MOST {
            return;
        }
        let (key, shard) = (self.any_key(), self.any_shard());
        let start = self.start();
        let merge = self.rng.pick(&[0, 0, 1, 2, 50]);
        let hurried = !self.swarm.gapless;
        let max_age = if hurried && !self.swarm.steadfast { self.rng.pick(&[0, 0, 0, 100, 500]) } else { 0 };
        if self.swarm.budget.is_some() {
            // One who keeps its way of reading, and a connection of its own.
            let reading = self.steady_reading();
            let max_age = self.rng.pick(&[0, 0, 1_500]);
            let client = self.peer(shard);
            client.reading = reading;
            return client.play(&key, start, merge, max_age);
        }
        let old = self.any_client().filter(|at| self.rng.one_in(4) && !self.clients[*at].tongue.is_rtmp());
        let reading = if hurried && self.rng.one_in(6) { self.any_reading() } else { Reading::Fast };
        match old {
            // A second play on one connection, or a publisher that plays.
            Some(at) => self.clients[at].play(&key, start, merge, max_age),
            None => {
                let client = self.peer(shard);
                client.reading = reading;
                client.play(&key, start, merge, max_age);
            }
        }
    }

    fn any_client(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.clients.len()).filter(|at| !self.clients[*at].over).collect();
        (!open.is_empty()).then(|| self.rng.pick(&open))
    }

    fn any_play(&mut self) -> Option<(usize, u32)> {
        let at = self.any_client()?;
        let handle = self.clients[at].plays.keys().next().copied()?;
        Some((at, handle))
    }

    fn any_reading(&mut self) -> Reading {
        let rate = self.rng.pick(&[10, 100, 1_000, 10_000]);
        self.rng.pick(&[Reading::Fast, Reading::Slow(rate), Reading::Slow(rate), Reading::Stalled])
    }

    fn steady_reading(&mut self) -> Reading {
        let (rate, pause) = (self.rng.within(4, 40), self.rng.pick(&[30, 200, 700, 2_500, 6_000]));
        self.rng.pick(&[Reading::Fast, Reading::Slow(rate), Reading::Slow(rate), Reading::Bursts(pause)])
    }

    fn publisher_ends(&mut self) {
        let at = self.rng.below(self.publishers.len() + self.clients.len() + self.sources.len());
        if let Some(publisher) = self.publishers.get_mut(at) {
            if !publisher.over {
                publisher.end();
            }
        } else if let Some(client) = self.clients.get_mut(at - self.publishers.len()) {
            if client.encoder.is_some() {
                client.unpublish();
            }
        } else if let Some(source) = self.sources.get(at - self.publishers.len() - self.clients.len()) {
            source.state.lock().stop = true;
        }
    }

    fn publisher_breaks(&mut self) {
        let publishing: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].encoder.is_some()).collect();
        if publishing.is_empty() {
            return;
        }
        let at = self.rng.pick(&publishing);
        match self.rng.below(3) {
            0 => self.clients[at].close(),
            1 => self.clients[at].reset(),
            // It falls silent.
            _ => {
                let later = self.now() + 6_000_000_000;
                if let Some(encoder) = &mut self.clients[at].encoder {
                    encoder.catch_up(later);
                }
            }
        }
    }

    fn play_pauses(&mut self) {
        if let Some((client, handle)) = self.any_play() {
            let paused = self.clients[client].plays[&handle].paused;
            self.clients[client].pause(handle, !paused);
            if self.rng.one_in(3) {
                self.clients[client].say(Say::NeedKey, handle, &[]);
            }
        }
    }

    fn peer_misbehaves(&mut self) {
        let what = self.rng.below(4);
        if what == 0 {
            // Connects and says nothing of use.
            let shard = self.any_shard();
            self.peer(shard).lingers = true;
            return;
        }
        let Some(at) = self.any_client() else { return };
        match what {
            1 => self.clients[at].say_garbage(),
            2 => self.clients[at].say(Say::Explode, 0, &[]),
            // RTMP knows no such word.
            _ if self.clients[at].tongue.is_rtmp() => self.clients[at].close(),
            _ => {
                self.clients[at].say(Say::Bye, 0, &[]);
                // What it would send behind that is for nobody.
                self.clients[at].encoder = None;
            }
        }
    }

    fn reader_changes(&mut self) {
        let reading = self.any_reading();
        if self.rng.one_in(2) {
            if let Some(at) = self.any_client() {
                self.clients[at].reading = reading;
            }
        } else if !self.subscribers.is_empty() {
            let at = self.rng.below(self.subscribers.len());
            self.subscribers[at].reading = reading;
        }
    }

    fn subscriber_leaves(&mut self) {
        let at = self.rng.below(self.subscribers.len() + self.sinks.len());
        if let Some(subscriber) = self.subscribers.get_mut(at) {
            let silently = self.rng.one_in(2);
            subscriber.leave(silently);
        } else if let Some(sink) = self.sinks.get(at.saturating_sub(self.subscribers.len())) {
            for seat in &self.cluster.seats {
                let _ = seat.post.send(Command::Detach(sink.connection));
            }
        }
    }

    fn kicks(&mut self) {
        let (reply, _) = bounded(8);
        let target = match self.rng.below(3) {
            0 => KickTarget::Publisher(self.any_key()),
            1 if !self.subscribers.is_empty() => {
                let at = self.rng.below(self.subscribers.len());
                KickTarget::Connection(self.subscribers[at].connection)
            }
            _ if !self.publishers.is_empty() => {
                let at = self.rng.below(self.publishers.len());
                KickTarget::Connection(self.publishers[at].connection)
            }
            _ => return,
        };
        for seat in &self.cluster.seats {
            let _ = seat.post.send(Command::Kick(target.clone(), reply.clone()));
        }
    }

    fn inspects(&mut self) {
        let key = self.any_key();
        for index in 0..self.cluster.seats.len() {
            let (reply, answer) = bounded(1);
            let _ = self.cluster.seats[index].post.send(Command::Inspect(key.clone(), reply));
            self.asked.push(answer);
        }
        // The cache of every configuration here is no larger than the default one.
        let bounds = (4096 + 1, 48 * 1024 * 1024 + 200_000);
        self.asked.retain(|answer| {
            let Ok(Some(part)) = answer.try_recv() else { return answer.is_empty() };
            if let Some(info) = part.info
                && (info.log.0 > bounds.0 || info.log.1 > bounds.1)
            {
                self.book.lock().trouble(format!("{}: the log holds {:?}", part.key, info.log));
            }
            let stages = part.audience.stages;
            let counts = [&stages.append, &stages.relay, &stages.first, &stages.age].map(Spread::count);
            if counts[2] > counts[3] {
                self.book.lock().trouble(format!("{}: so many times of each stage: {counts:?}", part.key));
            }
            false
        });
    }
}

/// Peers, subscribers and sinks of each kind.
const MOST: usize = 5;
const PUBLISHERS_MOST: usize = 4;
