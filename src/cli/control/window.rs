//! What one client is told next: everything since it asked before.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use shardcast::Router;
use shardcast::clock::Instant;
use shardcast::id::{ShardId, StreamKey};
use shardcast::shard::{Counters, ShardStats, StageHistograms, StreamInfo};
use shardcast::stream::{Spread, Stages};

use super::model::{self, Times};

/// Sums since a client asked before.
#[derive(Debug)]
pub(super) struct Window {
    since: Instant,
    /// As they were then; a shard that was restarted begins anew.
    counters: HashMap<ShardId, Counters>,
    shards: HashMap<ShardId, (Histogram<u64>, StageHistograms)>,
    streams: HashMap<StreamKey, Stages<Spread>>,
}

impl Window {
    /// Since the start of the server.
    pub(super) fn new() -> Self {
        let (counters, shards, streams) = Default::default();
        Self { since: Instant::ZERO, counters, shards, streams }
    }

    /// Adds what was just taken from the shards.
    pub(super) fn add(&mut self, shards: &[ShardStats], streams: &[StreamInfo]) {
        for one in shards {
            match self.shards.get_mut(&one.shard) {
                None => drop(self.shards.insert(one.shard, (one.turn_ns.clone(), one.stages.clone()))),
                Some((turn_ns, stages)) => {
                    let pairs = [
                        (turn_ns, &one.turn_ns),
                        (&mut stages.append, &one.stages.append),
                        (&mut stages.relay, &one.stages.relay),
                        (&mut stages.first, &one.stages.first),
                        (&mut stages.age, &one.stages.age),
                    ];
                    // All have the same bounds.
                    for (sum, more) in pairs {
                        let _ = sum.add(more);
                    }
                }
            }
        }
        // Those that ended are of no interest to anybody.
        self.streams.retain(|key, _| streams.binary_search_by(|one| one.key.cmp(key)).is_ok());
        for one in streams {
            self.streams.entry(one.key.clone()).or_default().merge(&one.audience.stages);
        }
    }

    /// Everything since the last time, and begins anew.
    pub(super) fn tell(
        &mut self,
        router: &Router,
        shards: &[ShardStats],
        streams: &[StreamInfo],
        now: Instant,
    ) -> model::Stats {
        let span = now.since(std::mem::replace(&mut self.since, now)).as_secs_f64().max(0.001);
        let (times, spreads) = (std::mem::take(&mut self.shards), std::mem::take(&mut self.streams));
        let cores: HashMap<ShardId, Option<usize>> =
            router.shards().into_iter().map(|shard| (shard.id, shard.core)).collect();
        let mut rows = Vec::new();
        for one in shards {
            let before = self.counters.insert(one.shard, one.counters.clone()).unwrap_or_default();
            let mut row = shard(one, &before, span);
            row.core = cores.get(&one.shard).copied().flatten();
            if let Some((turn_ns, stages)) = times.get(&one.shard) {
                row.turn = of_histogram(turn_ns);
                row.stages = model::Stages {
                    append: of_histogram(&stages.append),
                    relay: of_histogram(&stages.relay),
                    first: of_histogram(&stages.first),
                    age: of_histogram(&stages.age),
                };
            }
            rows.push(row);
        }
        let streams: Vec<model::Stream> =
            streams.iter().map(|one| stream(one, spreads.get(&one.key).unwrap_or(&one.audience.stages))).collect();
        let audit = router.audit_stats().unwrap_or_default();
        model::Stats {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: router.clock().instant().since(Instant::ZERO).as_secs_f64(),
            window_s: span,
            connections: rows.iter().map(|row| row.connections).sum(),
            viewers: streams.iter().map(|row| row.viewers).sum(),
            bytes_in_per_s: rows.iter().map(|row| row.bytes_in_per_s).sum(),
            bytes_out_per_s: rows.iter().map(|row| row.bytes_out_per_s).sum(),
            shards: rows,
            streams,
            audit: model::Audit {
                attempted: audit.attempted,
                written: audit.written,
                lost: audit.lost,
                sink_errors: audit.sink_errors,
                last_error: audit.last_error.map(|error| error.to_string()),
                // Not the router's.
                followers: Vec::new(),
            },
        }
    }
}

fn shard(one: &ShardStats, before: &Counters, span: f64) -> model::Shard {
    let now = &one.counters;
    // A shard that was restarted counts from zero.
    let rate = |count: fn(&Counters) -> u64| number(count(now).saturating_sub(count(before))) / span;
    model::Shard {
        shard: one.shard.0,
        core: None,
        busy: rate(|counters| counters.busy_ns) / 1e9,
        turns_per_s: rate(|counters| counters.turns),
        frames_in_per_s: rate(|counters| counters.frames_in),
        relays_per_s: rate(|counters| counters.relays),
        deliveries_per_s: rate(|counters| counters.deliveries),
        bytes_in_per_s: rate(|counters| counters.bytes_in),
        bytes_out_per_s: rate(|counters| counters.bytes_out),
        connections: one.connections,
        homes: one.homes,
        replicas: one.replicas,
        subscribers: one.subscribers,
        log_bytes: one.log_bytes,
        skipped: now.skipped,
        evicted: now.evicted,
        ring_full: now.ring_full,
        refused: now.refused,
        turn: Times::default(),
        stages: model::Stages::default(),
    }
}

fn stream(one: &StreamInfo, stages: &Stages<Spread>) -> model::Stream {
    model::Stream {
        stream: one.key.to_string(),
        home: one.home.0,
        publisher: model::Publisher {
            connection: one.connection.to_string(),
            protocol: one.protocol.into(),
            peer: one.peer.map(|peer| peer.to_string()),
            principal: one.principal.as_deref().map(Into::into),
        },
        uptime_s: one.uptime.as_secs_f64(),
        viewers: one.audience.viewers,
        codecs: one.tracks.iter().map(|track| track.codec.name().into()).collect(),
        video_bps: one.video_bitrate,
        audio_bps: one.audio_bitrate,
        fps: one.frame_rate,
        frames: one.frames,
        skipped: one.audience.skipped,
        evicted: one.audience.evicted,
        stages: model::Stages {
            append: of_spread(&stages.append),
            relay: of_spread(&stages.relay),
            first: of_spread(&stages.first),
            age: of_spread(&stages.age),
        },
    }
}

fn of_histogram(histogram: &Histogram<u64>) -> Times {
    let at = |quantile| number(histogram.value_at_quantile(quantile)) / 1e6;
    Times {
        count: histogram.len(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: if histogram.is_empty() { 0.0 } else { number(histogram.max()) / 1e6 },
    }
}

fn of_spread(spread: &Spread) -> Times {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Times {
        count: spread.count(),
        p50_ms: ms(spread.at_quantile(0.5)),
        p99_ms: ms(spread.at_quantile(0.99)),
        max_ms: ms(spread.max()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
const fn number(count: u64) -> f64 {
    count as f64
}
