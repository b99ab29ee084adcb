//! One run: chaos for a while, then calm in which everything must flow again, then the end at which nothing may be
//! left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use shardcast::audit::{AuditPipeline, Entry, MemorySink, Record};
use shardcast::clock::Clock;
use shardcast::fact::FactKind;
use shardcast::id::{ConnectionId, StreamKey};
use shardcast::media::FrameKind;
use shardcast::protocol::{Merge, PlayOptions, Start};
use shardcast::shard::{Command, Config, StreamPart};
use shardcast::stream::Located;

use super::auth::Porter;
use super::book::{Book, BookRef, Placed};
use super::client::{Client, Reading};
use super::cluster::{Cluster, LISTENERS};
use super::encoder::Encoder;
use super::env::Clocks;
use super::host::{HostPublisher, HostSubscriber, SinkHandle, SinkMood, SourceHandle};
use super::net::{Net, NetFaults, NetRef};
use super::proto::{PlainTongue, Tongue};
use super::rng::Rng;
use super::swarm::{Op, Swarm};
use super::watcher::Watcher;

pub struct World {
    pub rng: Rng,
    pub swarm: Swarm,
    pub config: Arc<Config>,
    pub cluster: Cluster,
    pub clocks: Clocks,
    pub net: NetRef,
    pub book: BookRef,
    audit: Option<AuditPipeline>,
    trail: MemorySink,
    pub keys: Vec<StreamKey>,
    pub clients: Vec<Client>,
    pub publishers: Vec<HostPublisher>,
    pub subscribers: Vec<HostSubscriber>,
    pub sinks: Vec<SinkHandle>,
    pub sources: Vec<SourceHandle>,
    /// Questions that wait for their answers.
    pub asked: Vec<Receiver<Option<StreamPart>>>,
    next_host: u64,
    next_op: u64,
    silent_since: u64,
    runnable: Vec<Turn>,
    pub steps: u64,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Shard(usize),
    Client(usize),
    Publisher(usize),
    Subscriber(usize),
    Op,
}

impl World {
    pub fn new(seed: u64, swarm: impl FnOnce(&mut Rng) -> Swarm, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let swarm = swarm(&mut rng);
        let book: BookRef = Arc::new(Mutex::new(Book::new(tracing)));
        book.lock().trace(|| format!("seed {seed}: {swarm:#?}"));
        let net = Net::new(swarm.shards, LISTENERS, rng.fork(), swarm.faults);
        let clocks = Clocks::default();
        clocks.advance(1_000_000_000);
        clocks.wall.set(1_700_000_000_000_000_000);
        let porter = Porter::new(rng.fork(), swarm.denies, swarm.late);
        let trail = MemorySink::new(1 << 20);
        let audit = AuditPipeline::start(vec![Box::new(trail.clone())], 1 << 16, Clock::start());
        let config = Arc::clone(&swarm.config);
        let cluster =
            Cluster::new(swarm.shards, swarm.ring_slots, &config, &net, &clocks, &book, porter, &audit, &mut rng);
        let keys = (0..swarm.names).map(|n| StreamKey::new("live", &format!("s{n}")).expect("a name")).collect();
        Self {
            rng,
            swarm,
            config,
            cluster,
            clocks,
            net,
            book,
            audit: Some(audit),
            trail,
            keys,
            clients: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            sinks: Vec::new(),
            sources: Vec::new(),
            asked: Vec::new(),
            next_host: 0,
            next_op: 0,
            silent_since: 0,
            runnable: Vec::new(),
            steps: 0,
        }
    }

    /// The whole story; what was wrong, if anything was.
    pub fn run(&mut self) -> Result<(), String> {
        self.next_op = self.now();
        self.book.lock().gapless = self.swarm.gapless;
        self.book.lock().budget = self.swarm.budget;
        if self.swarm.gapless || self.swarm.budget.is_some() {
            self.publish_everything();
        }
        if self.swarm.steadfast {
            self.book.lock().steadfast = true;
            self.publish_everything();
        }
        self.live_for(self.swarm.length_ms, true)?;
        self.book.lock().steadfast = false;
        self.calm_down()?;
        if self.swarm.drains { self.drain() } else { self.leave() }?;
        self.check_the_end()
    }

    pub fn now(&self) -> u64 {
        self.clocks.mono.get()
    }

    /// Lets time pass, with or without more happening.
    pub fn live_for(&mut self, ms: u64, ops: bool) -> Result<(), String> {
        let until = self.now() + ms * 1_000_000;
        while self.now() < until {
            self.steps += 1;
            if self.steps > STEPS_MOST {
                return Err("it does not come to rest: too many steps".into());
            }
            self.arrive();
            if !self.take_a_turn(ops) {
                let next = self.next_event(ops).min(until);
                let now = self.now();
                self.clocks.advance(next.max(now + 1) - now);
            }
            self.look()?;
        }
        Ok(())
    }

    fn arrive(&mut self) {
        let now = self.now();
        self.book.lock().now = now;
        self.net.borrow_mut().advance(now);
        self.cluster.porter.advance(now);
    }

    /// Somebody who wants to takes a turn; whether anybody wanted to.
    fn take_a_turn(&mut self, ops: bool) -> bool {
        let now = self.now();
        let mut runnable = std::mem::take(&mut self.runnable);
        runnable.clear();
        let shards = (0..self.cluster.seats.len()).filter(|index| self.cluster.is_runnable(*index, now));
        runnable.extend(shards.map(Turn::Shard));
        let due = |index: usize, due: u64, turn: fn(usize) -> Turn| (due <= now).then(|| turn(index));
        let clients = self.clients.iter().enumerate();
        runnable.extend(clients.filter_map(|(index, client)| due(index, client.due(now), Turn::Client)));
        let publishers = self.publishers.iter().enumerate();
        runnable.extend(publishers.filter_map(|(index, host)| due(index, host.due(now), Turn::Publisher)));
        let subscribers = self.subscribers.iter().enumerate();
        runnable.extend(subscribers.filter_map(|(index, host)| due(index, host.due(now), Turn::Subscriber)));
        if ops && self.next_op <= now {
            runnable.push(Turn::Op);
        }
        let turn = if runnable.is_empty() { None } else { Some(self.rng.pick(&runnable)) };
        self.runnable = runnable;
        match turn {
            None => return false,
            Some(Turn::Shard(index)) => self.cluster.step(index),
            Some(Turn::Client(index)) => self.clients[index].step(now),
            Some(Turn::Publisher(index)) => self.publishers[index].step(now),
            Some(Turn::Subscriber(index)) => self.subscribers[index].step(now),
            Some(Turn::Op) => {
                let op = self.swarm.ops[self.rng.below(self.swarm.ops.len())];
                self.perform(op);
                let pace = self.swarm.pace;
                self.next_op = now + self.rng.within(1, 2 * pace) * 1_000_000;
            }
        }
        let cost = self.rng.within(500, 20_000);
        self.clocks.advance(cost);
        true
    }

    fn next_event(&self, ops: bool) -> u64 {
        let now = self.now();
        let mut next = self.cluster.due(now).min(self.cluster.porter.due());
        next = next.min(self.net.borrow().next_arrival().unwrap_or(u64::MAX));
        next = next.min(self.clients.iter().map(|client| client.due(now)).min().unwrap_or(u64::MAX));
        next = next.min(self.publishers.iter().map(|host| host.due(now)).min().unwrap_or(u64::MAX));
        next = next.min(self.subscribers.iter().map(|host| host.due(now)).min().unwrap_or(u64::MAX));
        if ops { next.min(self.next_op) } else { next }
    }

    /// What must hold after every step.
    fn look(&self) -> Result<(), String> {
        if let Some(trouble) = self.book.lock().troubles.first() {
            return Err(trouble.clone());
        }
        let (limits, shared) = (&self.config.limits, &self.cluster.shared);
        let within = |what: &str, count: usize, limit: usize| {
            if count > limit { Err(format!("{count} {what}, though the limit is {limit}")) } else { Ok(()) }
        };
        within("connections", shared.gauges.connections.load(Ordering::Relaxed), limits.connections)?;
        within(
            "host's subscribers",
            shared.gauges.host_subscribers.load(Ordering::Relaxed),
            limits.host_subscribers,
        )?;
        if let Some(memory) = limits.memory {
            let shards = shared.beats.iter().map(|beat| beat.memory.load(Ordering::Relaxed)).sum::<u64>();
            let used = limits.structure_bytes(self.swarm.shards) + shards;
            if used > memory {
                return Err(format!("{used} bytes of memory are held, though the limit is {memory}"));
            }
        }
        within("publishers", shared.directory.publishers(), limits.publishers)?;
        within("names", shared.directory.names(), limits.streams)
    }

    // --- those who take part ---------------------------------------------------------------------------------

    pub fn any_key(&mut self) -> StreamKey {
        let at = self.rng.below(self.keys.len());
        self.keys[at].clone()
    }

    pub fn any_shard(&mut self) -> usize {
        self.rng.below(self.swarm.shards)
    }

    pub fn host_id(&mut self) -> ConnectionId {
        self.next_host += 1;
        ConnectionId(0xffff << 48 | self.next_host)
    }

    pub fn encoder(&mut self, key: &StreamKey, rtmp: bool) -> Encoder {
        let mut taste = self.swarm.taste(&mut self.rng);
        if rtmp {
            taste = taste.plain();
        }
        Encoder::new(&self.book, key, taste, self.now(), self.rng.fork())
    }

    /// A peer connects, and says hello.
    pub fn peer(&mut self, shard: usize) -> &mut Client {
        let latency = self.rng.pick(&[10_000, 1_000_000, 30_000_000]);
        let (listener, tongue) = self.tongue();
        let conn = self.net.borrow_mut().connect(shard, listener, self.swarm.pipe, latency);
        let number = u16::try_from(shard).expect("few shards");
        let mut client = Client::new(&self.net, &self.book, tongue, conn, number, self.rng.fork());
        client.lingers = self.rng.one_in(4);
        client.hello();
        self.clients.push(client);
        self.clients.last_mut().expect("just pushed")
    }

    #[cfg(feature = "rtmp")]
    fn tongue(&mut self) -> (usize, Box<dyn Tongue>) {
        if self.swarm.rtmp && self.rng.one_in(2) {
            let random = [self.rng.next(), self.rng.next(), self.rng.next(), self.rng.next()];
            let chunk_size = self.rng.pick(&[1, 128, 4096, 60_000]);
            return (1, Box::new(super::rtmp::RtmpTongue::new(random, chunk_size)));
        }
        (0, Box::new(PlainTongue))
    }

    #[cfg(not(feature = "rtmp"))]
    fn tongue(&mut self) -> (usize, Box<dyn Tongue>) {
        (0, Box::new(PlainTongue))
    }

    pub fn start(&mut self) -> Start {
        match self.rng.below(8) {
            0 | 1 => Start::Live,
            2 | 3 => Start::CatchUp,
            4 => Start::Behind(Duration::from_millis(self.rng.pick(&[50, 300, 800]))),
            _ => Start::Instant,
        }
    }

    pub fn options(&mut self) -> PlayOptions {
        let mut options = PlayOptions::starting(self.start());
        if self.rng.one_in(4) && !self.swarm.gapless && !self.swarm.steadfast {
            options = options.max_age(Duration::from_millis(self.rng.pick(&[100, 500, 5_000])));
        }
        if self.rng.one_in(4) {
            options.merge = Some(Merge::Off);
        }
        options
    }

    pub fn watcher(&self, name: &str, key: &StreamKey, shard: usize) -> Watcher {
        Watcher::new(&self.book, name.into(), key, u16::try_from(shard).expect("few shards"))
    }

    pub fn host_subscribe(&mut self, key: &StreamKey, shard: usize, options: PlayOptions, slots: usize) {
        let id = self.host_id();
        let watcher = self.watcher(&format!("host {:x}", id.0), key, shard).starting(options.start);
        let post = self.cluster.seats[shard].post.clone();
        let most = self.config.limits.host_subscribers;
        let shared = Arc::clone(&self.cluster.shared);
        let joined = HostSubscriber::new(&shared, most, &post, id, watcher, options, slots);
        self.subscribers.extend(joined);
    }

    pub fn host_publish(&mut self, key: &StreamKey, shard: usize, slots: usize) {
        let (id, encoder) = (self.host_id(), self.encoder(key, false));
        let post = self.cluster.seats[shard].post.clone();
        self.publishers.push(HostPublisher::new(&self.book, &post, id, encoder, slots));
    }

    pub fn attach_sink(&mut self, key: &StreamKey, shard: usize, options: PlayOptions) {
        let id = self.host_id();
        let watcher = self.watcher(&format!("sink {:x}", id.0), key, shard).starting(options.start);
        let post = self.cluster.seats[shard].post.clone();
        let rng = self.rng.fork();
        self.sinks.push(SinkHandle::attach(&post, id, watcher, options, rng));
    }

    /// A publisher for each name, as a peer, from the host's thread or on a shard.
    fn publish_everything(&mut self) {
        for key in self.keys.clone() {
            let shard = self.any_shard();
            match self.rng.below(3) {
                0 => self.host_publish(&key, shard, 256),
                1 => self.run_source(&key, shard),
                _ => {
                    let rtmp = self.peer(shard).tongue.is_rtmp();
                    let encoder = self.encoder(&key, rtmp);
                    if let Some(client) = self.clients.last_mut() {
                        client.publish(encoder);
                    }
                }
            }
        }
    }

    pub fn run_source(&mut self, key: &StreamKey, shard: usize) {
        let (id, encoder) = (self.host_id(), self.encoder(key, false));
        let post = self.cluster.seats[shard].post.clone();
        self.sources.push(SourceHandle::run(&self.book, &post, id, encoder));
    }

    // --- the calm and the end --------------------------------------------------------------------------------

    /// Faults stop; then everything flows, and nobody is behind.
    pub fn calm_down(&mut self) -> Result<(), String> {
        self.book.lock().trace(|| "calm".into());
        let now = self.now();
        {
            let mut net = self.net.borrow_mut();
            net.faults = NetFaults { tells_all: net.faults.tells_all, wide: net.faults.wide, ..NetFaults::default() };
            net.exhausted_until = 0;
            net.widen();
        }
        self.cluster.porter.calm();
        for seat in &mut self.cluster.seats {
            seat.paused_until = seat.paused_until.min(now);
        }
        for client in self.clients.iter_mut().filter(|client| !client.over) {
            client.reading = Reading::Fast;
            if let Some(encoder) = &mut client.encoder {
                encoder.wake(now);
            }
            let paused: Vec<u32> = client.plays.iter().filter(|(_, w)| w.paused).map(|(handle, _)| *handle).collect();
            for handle in paused {
                client.pause(handle, false);
            }
        }
        for subscriber in &mut self.subscribers {
            subscriber.reading = Reading::Fast;
        }
        for sink in &self.sinks {
            sink.state.lock().mood = SinkMood::Takes;
        }
        // Twice, since somebody may join late who had to wait for the porter.
        for ms in [1_000, 1_500] {
            self.live_for(ms, false)?;
            for client in &mut self.clients {
                if let Some(encoder) = &mut client.encoder {
                    encoder.want_key();
                }
            }
            for publisher in &mut self.publishers {
                publisher.encoder.want_key();
            }
        }
        self.live_for(1_000, false)?;
        self.silence();
        self.live_for(1_000, false)?;
        self.check_edges()
    }

    fn silence(&mut self) {
        let later = self.now() + 3_000_000_000;
        self.silent_since = self.now();
        for client in &mut self.clients {
            if let Some(encoder) = &mut client.encoder {
                encoder.catch_up(later);
            }
        }
        for publisher in &mut self.publishers {
            publisher.encoder.catch_up(later);
        }
        for source in &self.sources {
            source.state.lock().stop = true;
        }
    }

    /// Whoever is on a live stream has all of it.
    fn check_edges(&self) -> Result<(), String> {
        let patience = self.config.limits.request_deadline + self.config.limits.close_deadline * 2;
        for client in self.clients.iter().filter(|client| !client.over) {
            let idle = client.idle_since.map_or(0, |since| self.now() - since);
            if u128::from(idle) > patience.as_nanos() {
                return Err(format!(
                    "peer {} has been idle for {} ms and is still there",
                    client.conn,
                    idle / 1_000_000
                ));
            }
        }
        let book = self.book.lock();
        let live = |key: &StreamKey| {
            let Located::Live(_, generation) = self.cluster.shared.directory.locate(key) else { return None };
            let at = book.lives.iter().position(|life| life.generation == generation.0)?;
            // One that has sent nothing but configuration shows nothing yet.
            let media = |frame: &Placed| !matches!(frame.kind, FrameKind::Config | FrameKind::Data);
            let life = &book.lives[at];
            // Where no GOP is kept, one that leads since all fell silent has nothing for the other shards.
            let whole = self.swarm.steadfast || life.began < self.silent_since;
            (whole && life.placed.iter().any(media)).then(|| u32::try_from(at).expect("few publishers"))
        };
        let sinks: Vec<_> = self.sinks.iter().map(|sink| sink.state.lock()).collect();
        let players = self.clients.iter().filter(|client| !client.over).flat_map(|client| client.plays.values());
        let hosts = self.subscribers.iter().filter(|host| !host.over).map(|host| &host.watcher);
        let sinks = sinks.iter().filter(|sink| !sink.over).map(|sink| &sink.watcher);
        for watcher in players.chain(hosts).chain(sinks) {
            if let Some(live) = live(&watcher.key) {
                watcher.is_at_the_edge(&book, live)?;
            }
        }
        Ok(())
    }

    /// Everybody leaves.
    fn leave(&mut self) -> Result<(), String> {
        self.book.lock().trace(|| "everybody leaves".into());
        for client in self.clients.iter_mut().filter(|client| !client.over) {
            client.close();
        }
        for publisher in self.publishers.iter_mut().filter(|publisher| !publisher.over) {
            publisher.end();
        }
        for subscriber in &mut self.subscribers {
            subscriber.leave(false);
        }
        for source in &self.sources {
            source.state.lock().stop = true;
        }
        for sink in &self.sinks {
            if !sink.state.lock().over {
                for seat in &self.cluster.seats {
                    let _ = seat.post.send(Command::Detach(sink.connection));
                }
            }
        }
        // Whoever is behind may read on to the end for as long as it may be behind.
        let lag = self.config.apps.iter().map(|app| app.lag.max_age.as_secs()).max().unwrap_or(0);
        self.live_for(6_000.max(1_000 * (lag + 3)), false)?;
        let answers: Vec<_> = (0..self.cluster.seats.len()).map(|index| self.cluster.ask_stats(index)).collect();
        self.live_for(10, false)?;
        for answer in answers {
            let stats = answer.and_then(|answer| answer.try_recv().ok()).ok_or("a shard does not answer")?;
            let left = (stats.connections, stats.homes, stats.replicas, stats.subscribers, stats.log_bytes);
            if left != (0, 0, 0, 0, 0) {
                return Err(format!(
                    "shard {} keeps {} connections, {} homes, {} replicas, {} subscribers, {} bytes",
                    stats.shard, left.0, left.1, left.2, left.3, left.4
                ));
            }
        }
        self.check_nothing_is_left()?;
        self.cluster.drain(Duration::ZERO);
        self.live_for(100, false)
    }

    /// The router stops while all is under way.
    fn drain(&mut self) -> Result<(), String> {
        self.book.lock().trace(|| "drain".into());
        self.cluster.drain(Duration::from_secs(2));
        if self.swarm.ops.contains(&Op::ShardPanics) && self.rng.one_in(2) {
            let shard = self.any_shard();
            let _ = self.cluster.seats[shard].post.send(Command::Panic);
        }
        self.live_for(2_500, false)
    }

    fn check_nothing_is_left(&self) -> Result<(), String> {
        let shared = &self.cluster.shared;
        let gauges = &shared.gauges;
        let left = [
            ("names", shared.directory.names()),
            ("publishers", shared.directory.publishers()),
            ("connections", gauges.connections.load(Ordering::Relaxed)),
            ("host's subscribers", gauges.host_subscribers.load(Ordering::Relaxed)),
        ];
        if let Some((what, count)) = left.into_iter().find(|(_, count)| *count > 0) {
            return Err(format!("{count} {what} are left at the end"));
        }
        match self.book.lock().open_sessions().first() {
            Some(open) => Err(format!("no end was told of {open}")),
            None => Ok(()),
        }
    }

    fn check_the_end(&mut self) -> Result<(), String> {
        if !self.cluster.is_drained() {
            return Err("a shard does not drain".into());
        }
        self.check_nothing_is_left()?;
        for subscriber in &self.subscribers {
            let (skipped, told) = (subscriber.skipped.load(Ordering::Relaxed), subscriber.watcher.told());
            if told > skipped {
                return Err(format!(
                    "{}: {told} frames told to be left out, {skipped} counted",
                    subscriber.watcher.name
                ));
            }
        }
        if let Some(audit) = self.audit.take() {
            let stats = audit.stop(Duration::from_secs(5));
            let told = self.book.lock().told;
            let recorded: u64 = self.trail.records().iter().map(stands_for).sum();
            if stats.attempted != stats.written + stats.lost || recorded + stats.lost != told {
                return Err(format!(
                    "{told} facts were told, {recorded} are on record, and the trail says {stats:?}"
                ));
            }
        }
        Ok(())
    }
}

/// How many facts were told for this record: refusals of one source that came again within a second have one together.
fn stands_for(record: &Record) -> u64 {
    match &record.entry {
        Entry::Fact(fact) if matches!(fact.kind, FactKind::PublishRefuse | FactKind::PlayRefuse) => fact.count.max(1),
        Entry::Fact(_) => 1,
        Entry::Loss(_) => 0,
    }
}

/// Far more than any run needs.
const STEPS_MOST: u64 = 3_000_000;
