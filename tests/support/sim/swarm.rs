//! What a seed may do: each enables a random part of all that can happen, so that rare things meet.

use std::sync::Arc;
use std::time::Duration;

use shardcast::limits::Limits;
use shardcast::protocol::Merge;
use shardcast::shard::{Config, LossPolicy, OnLoss};
use shardcast::stream::{Absent, AppSpec, Conflict, GopCache, LagPolicy};

use super::encoder::{EncoderClock, Taste};
use super::net::NetFaults;
use super::rng::Rng;

/// Something that may happen at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    PeerPublishes,
    HostPublishes,
    SourceStarts,
    PeerPlays,
    HostSubscribes,
    SinkAttaches,
    PublisherEnds,
    PublisherBreaks,
    ConfigChanges,
    PlayStops,
    PlayPauses,
    PeerLeaves,
    PeerHalfCloses,
    PeerMisbehaves,
    ReaderChanges,
    SubscriberLeaves,
    Kicks,
    Inspects,
    ShardPanics,
    ShardPauses,
    SinkMoodChanges,
    DescriptorsRunOut,
    ClockJumps,
    WallJumps,
    Reconfigures,
    /// A publisher that stands by is chosen by command.
    Switches,
}

/// Always possible, else nothing happens at all.
const BASIC: [Op; 8] = [
    Op::PeerPublishes,
    Op::HostPublishes,
    Op::PeerPlays,
    Op::PeerPlays,
    Op::HostSubscribes,
    Op::SinkAttaches,
    Op::SubscriberLeaves,
    Op::PeerLeaves,
];

const RARE: [Op; 19] = [
    Op::SourceStarts,
    Op::PublisherEnds,
    Op::PublisherBreaks,
    Op::ConfigChanges,
    Op::PlayStops,
    Op::PlayPauses,
    Op::PeerHalfCloses,
    Op::PeerMisbehaves,
    Op::ReaderChanges,
    Op::Kicks,
    Op::Inspects,
    Op::ShardPanics,
    Op::ShardPauses,
    Op::SinkMoodChanges,
    Op::DescriptorsRunOut,
    Op::ClockJumps,
    Op::WallJumps,
    Op::Reconfigures,
    Op::Switches,
];

#[derive(Debug)]
pub struct Swarm {
    pub shards: usize,
    pub ring_slots: usize,
    pub names: usize,
    pub length_ms: u64,
    pub ops: Vec<Op>,
    /// Between two of them, in ms.
    pub pace: u64,
    pub faults: NetFaults,
    pub denies: u64,
    pub late: u64,
    pub config: Arc<Config>,
    pub flood: bool,
    /// Half of the peers speak RTMP.
    #[cfg_attr(
        not(feature = "rtmp"),
        expect(dead_code, reason = "drawn all the same, so that a seed means the same")
    )]
    pub rtmp: bool,
    pub big: bool,
    pub drains: bool,
    /// Nobody has a reason to be behind: nothing may be left out.
    pub gapless: bool,
    /// Peers get nothing that is older, in ns.
    pub budget: Option<u64>,
    /// Publishers come, go, fall silent and are switched, and no viewer may be sent away for it.
    pub steadfast: bool,
    pub pipe: (usize, usize),
}

impl Swarm {
    pub fn new(rng: &mut Rng) -> Self {
        let mut ops = BASIC.to_vec();
        for op in RARE {
            if rng.one_in(2) {
                ops.push(op);
            }
        }
        let rarely = |rng: &mut Rng, n: &[u64]| if rng.one_in(2) { 0 } else { rng.pick(n) };
        let faults = NetFaults {
            short_reads: rarely(rng, &[2, 10]),
            short_writes: rarely(rng, &[2, 10]),
            failed_accepts: rarely(rng, &[5]),
            failed_registers: rarely(rng, &[20]),
            tells_all: rng.one_in(2),
            late_room: rng.one_in(2),
            wide: false,
        };
        let shards = rng.pick(&[1, 2, 2, 3, 3, 4]);
        let mut config = config(rng);
        if rng.one_in(4) {
            // So little that a few publishers and viewers fill it.
            let each = rng.pick(&[1_700_000, 2_500_000, 6_000_000]);
            config.limits.memory = Some(config.limits.structure_bytes(shards) + each * shards as u64);
            config.limits = config.limits.within_memory(shards);
        }
        Self {
            shards,
            ring_slots: rng.pick(&[4, 16, 64, 1024]),
            names: rng.pick(&[1, 1, 2, 3]),
            length_ms: rng.within(1_000, 6_000),
            ops,
            pace: rng.pick(&[10, 40, 100]),
            faults,
            denies: rarely(rng, &[5]),
            late: rarely(rng, &[2, 5]),
            config: Arc::new(config),
            flood: rng.one_in(4),
            rtmp: rng.one_in(4),
            big: rng.one_in(3),
            drains: rng.one_in(2),
            gapless: false,
            budget: None,
            steadfast: false,
            pipe: (rng.pick(&[2_000, 60_000, 400_000]), rng.pick(&[1_000, 8_000, 200_000])),
        }
    }

    /// Subscribers join and leave three shards at any moment, and nothing goes wrong.
    pub fn joins(rng: &mut Rng) -> Self {
        let mut swarm = Self::new(rng);
        // Less than a GOP is old, so that what a joiner is given can be over its budget.
        let max_age = Duration::from_millis(rng.pick(&[500, 3_000]));
        let app = AppSpec::new("*").lag(LagPolicy { max_age, ..LagPolicy::default() }).delay_max(delay_max(rng));
        let mut config = Config { apps: vec![Arc::new(app)], on_loss: GOES_ON, ..Config::default() };
        config.limits.request_deadline = Duration::from_millis(1_500);
        config.limits.close_deadline = Duration::from_millis(500);
        let joins = [Op::PeerPlays, Op::HostSubscribes, Op::SinkAttaches];
        swarm.ops = joins.iter().chain(&joins).copied().collect();
        swarm.ops.extend([Op::SubscriberLeaves, Op::PlayStops, Op::PeerLeaves, Op::ConfigChanges]);
        let faults = swarm.faults;
        let faults = NetFaults { failed_accepts: 0, failed_registers: 0, wide: true, ..faults };
        Self {
            shards: 3,
            ring_slots: rng.pick(&[64, 1024]),
            names: rng.pick(&[1, 2]),
            length_ms: 2_000,
            pace: rng.pick(&[2, 8, 20]),
            faults,
            denies: 0,
            config: Arc::new(config),
            flood: rng.one_in(3),
            gapless: true,
            budget: None,
            pipe: (1 << 20, rng.pick(&[100_000, 1 << 20])),
            ..swarm
        }
    }

    /// Large frames, viewers who do not read, and far too little memory for all of it.
    pub fn crowds(rng: &mut Rng) -> Self {
        let mut swarm = Self::new(rng);
        let lag = LagPolicy { max_age: Duration::from_secs(rng.pick(&[3, 20])), ..LagPolicy::default() };
        let mut config = Config { apps: vec![Arc::new(AppSpec::new("*").lag(lag))], ..Config::default() };
        config.limits.request_deadline = Duration::from_millis(1_500);
        config.limits.close_deadline = Duration::from_millis(500);
        let each = rng.pick(&[1_700_000, 2_000_000, 3_000_000]);
        config.limits.memory = Some(config.limits.structure_bytes(swarm.shards) + each * swarm.shards as u64);
        config.limits = config.limits.within_memory(swarm.shards);
        swarm.ops = BASIC.to_vec();
        swarm.ops.extend([Op::PeerPlays, Op::ReaderChanges, Op::ReaderChanges, Op::PeerPublishes, Op::ShardPauses]);
        Self {
            names: 3,
            length_ms: rng.within(3_000, 8_000),
            pace: 20,
            config: Arc::new(config),
            flood: true,
            big: true,
            pipe: (400_000, rng.pick(&[1_000, 8_000])),
            ..swarm
        }
    }

    /// Peers read slowly, in bursts, or not for seconds, while nothing else goes wrong: what they get is never older
    /// than their budget.
    pub fn slow(rng: &mut Rng) -> Self {
        let swarm = Self::joins(rng);
        let age = rng.pick(&[1_000, 2_000, 3_000]);
        let evict = Duration::from_secs(60);
        let max_age = Duration::from_millis(age);
        let lag = LagPolicy { max_age, evict_window: evict, evict_lost: evict, ..LagPolicy::default() };
        let app = AppSpec::new("*").lag(lag).delay_max(delay_max(rng));
        let config = Config { apps: vec![Arc::new(app)], ..(*swarm.config).clone() };
        Self {
            shards: rng.pick(&[1, 2]),
            names: 1,
            length_ms: 15_000,
            ops: vec![Op::PeerPlays],
            pace: 300,
            config: Arc::new(config),
            flood: false,
            rtmp: false,
            big: false,
            late: 0,
            gapless: false,
            faults: NetFaults { wide: false, ..swarm.faults },
            budget: Some(age * 1_000_000),
            // Far more than the router lets wait in a socket.
            pipe: (1 << 20, rng.pick(&[8_000, 64_000, 1 << 20])),
            ..swarm
        }
    }

    /// Publishers end, break, fall silent, stand by and return, and nobody who watches is sent away.
    pub fn switches(rng: &mut Rng) -> Self {
        let mut swarm = Self::joins(rng);
        let mut config = (*swarm.config).clone();
        let ms = Duration::from_millis;
        let app = AppSpec::new("*")
            // Longer than the run.
            .republish_grace(ms(4_000))
            .absent(Absent::Wait(ms(4_000)))
            .conflict(rng.pick(&[Conflict::TakeOver, Conflict::Backup, Conflict::Backup, Conflict::Backup]))
            .stall_after(ms(rng.pick(&[150, 400, 700])))
            .return_after(rng.pick(&[None, Some(ms(0)), Some(ms(300))]));
        config.apps = vec![Arc::new(app)];
        swarm.ops.retain(|op| *op != Op::PeerLeaves);
        let happens = [Op::PeerPublishes, Op::HostPublishes, Op::PublisherEnds, Op::PublisherBreaks, Op::Switches];
        swarm.ops.extend(happens.iter().chain(&happens));
        Self {
            shards: rng.pick(&[1, 2, 3]),
            length_ms: 3_000,
            config: Arc::new(config),
            flood: false,
            gapless: false,
            steadfast: true,
            ..swarm
        }
    }

    pub fn taste(&self, rng: &mut Rng) -> Taste {
        let video = !rng.one_in(6);
        Taste {
            video,
            audio: !video || !rng.one_in(4),
            second_video: video && rng.one_in(4),
            data: rng.one_in(4),
            metadata: rng.one_in(2),
            gop: rng.pick(&[3, 10, 25, 60]),
            // Nobody is to be late where nothing may be left out.
            rate: if self.flood && rng.one_in(2) { rng.pick(&[4, if self.gapless { 4 } else { 20 }]) } else { 1 },
            sloppy: rng.one_in(5),
            disposable: rng.one_in(2),
            big: self.big && rng.one_in(2),
            // The last lies just before 2^32 ms, where RTMP's timestamps wrap.
            base: rng.pick(&[0, 0, 7_000_000, 3_600_000_000_000, 4_294_966_296_000_000]),
            clock: rng.pick(&[
                EncoderClock::Steady,
                EncoderClock::Steady,
                EncoderClock::Steady,
                EncoderClock::Set,
                EncoderClock::SetAlone,
            ]),
        }
    }
}

pub fn config(rng: &mut Rng) -> Config {
    let ms = Duration::from_millis;
    let mut limits = Limits::default();
    limits.handshake_deadline = ms(1_000);
    limits.request_deadline = ms(1_500);
    limits.publisher_idle = ms(4_000);
    limits.close_deadline = ms(500);
    if rng.one_in(8) {
        limits.connections = 6;
    }
    if rng.one_in(8) {
        limits.publishers = 2;
    }
    if rng.one_in(8) {
        limits.streams = 2;
    }
    if rng.one_in(8) {
        limits.subscribers_per_stream = 4;
    }
    if rng.one_in(8) {
        limits.host_subscribers = 2;
    }
    let gop = GopCache::default();
    let cache = match rng.below(6) {
        0 => GopCache::OFF,
        1 => GopCache { frames: rng.pick(&[5, 30]), ..gop },
        2 => GopCache { bytes: rng.pick(&[5_000, 50_000]), ..gop },
        3 => GopCache { age: ms(rng.pick(&[200, 2_000])), ..gop },
        _ => gop,
    };
    let lag = LagPolicy {
        max_age: ms(rng.pick(&[200, 1_000, 3_000])),
        max_bytes: rng.pick(&[50_000, 16 * 1024 * 1024]),
        evict_window: ms(rng.pick(&[1_500, 10_000])),
        evict_lost: ms(rng.pick(&[1_000, 9_000])),
    };
    let merge = match rng.below(4) {
        0 => Merge::Off,
        1 => Merge::Window(ms(rng.pick(&[20, 100]))),
        _ => Merge::AudioRides,
    };
    let app = AppSpec::new("*")
        .delay_max(delay_max(rng))
        .gop_cache(cache)
        .lag(lag)
        .merge(merge)
        .republish_grace(ms(rng.pick(&[0, 0, 300, 2_000])))
        .absent(if rng.one_in(2) { Absent::Refuse } else { Absent::Wait(ms(rng.pick(&[300, 3_000]))) })
        .conflict(rng.pick(&[Conflict::Refuse, Conflict::TakeOver, Conflict::Backup]))
        .stall_after(ms(rng.pick(&[200, 700])))
        .return_after(rng.pick(&[None, Some(ms(0)), Some(ms(500))]));
    Config { limits, apps: vec![Arc::new(app)], sample_every: rng.pick(&[0, 1, 3, 64]), ..Config::default() }
}

fn delay_max(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.pick(&[0, 0, 300, 1_500]))
}

/// The writer is a thread of the real world: what it has no time for must change nothing in this one.
const GOES_ON: LossPolicy = LossPolicy { decisions: OnLoss::Continue, telemetry: OnLoss::Continue };
