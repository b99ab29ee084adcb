//! Watches whether shards finish their turns. One that hangs can't be ended; it can be told of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::audit::AuditProducer;
use crate::clock::{Clock, Instant};
use crate::extension::Health;
use crate::fact::{Fact, FactKind};
use crate::id::ShardId;
use crate::shard::Shared;

pub(super) struct Watch {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    stop: AtomicBool,
    /// A bit for each of the first 64 shards that hang.
    hanging: AtomicU64,
    stall: Duration,
}

impl Watch {
    pub(super) fn start(
        shared: Arc<Shared>,
        stall: Duration,
        clock: Clock,
        audit: AuditProducer,
    ) -> std::io::Result<Self> {
        let state = Arc::new(State { stop: AtomicBool::new(false), hanging: AtomicU64::new(0), stall });
        let watched = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("shardcast-watch".into())
            .spawn(move || watch(&watched, &shared, clock, audit))?;
        Ok(Self { state, thread: Some(thread) })
    }

    pub(super) fn health(&self) -> Health {
        let hanging = self.state.hanging.load(Ordering::Relaxed);
        if hanging == 0 {
            return Health::Healthy;
        }
        let stall = self.state.stall;
        Health::Unhealthy(format!("shard {} has not finished its turn for {stall:?}", hanging.trailing_zeros()))
    }

    pub(super) fn stop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(state: &State, shared: &Shared, clock: Clock, mut audit: AuditProducer) {
    let mut seen: Vec<(u64, Instant)> = vec![(0, clock.instant()); shared.shards.len()];
    while !state.stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(LOOK_EVERY.min(state.stall));
        let now = clock.now();
        for (index, post) in shared.shards.iter().enumerate() {
            let turns = shared.beats[index].turns.load(Ordering::Relaxed);
            let (last, since) = &mut seen[index];
            let bit = if index < 64 { 1 << index } else { 0 };
            if turns != *last || post.doorbell().is_sleeping() {
                (*last, *since) = (turns, now.mono);
                state.hanging.fetch_and(!bit, Ordering::Relaxed);
            } else if now.mono.since(*since) >= state.stall
                && state.hanging.fetch_or(bit, Ordering::Relaxed) & bit == 0
            {
                let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
                let fact = Fact::new(FactKind::ShardStall, now, shard);
                shared.tell(&fact);
                audit.emit(fact);
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
