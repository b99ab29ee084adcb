//! The past of a GOP for one who catches up: bytes of its own, until it shares those of the others.

use super::catch_up::push_once;
use super::{Outlets, Served};
use crate::limits::CATCH_UP_BYTES_PER_TURN;
use crate::reason::Reason;
use crate::shard::env::Env;
use crate::shard::group::{Packets, Subscriber};
use crate::stream::{Cursor, StreamLog};

impl<E: Env> Outlets<'_, E> {
    /// Sends frames on timestamps of this subscriber's own, up to `edge`; `None` when what follows is as it was
    /// published. Never more waits in the connection than one piece and the frame that ends it.
    pub(super) fn send_past(
        &mut self,
        slot: usize,
        sub: &mut Subscriber,
        cursor: &mut Cursor,
        packets: &mut Packets,
        log: &StreamLog,
        edge: u64,
    ) -> Option<Served> {
        let Some(connection) = self.connections.get_mut(slot) else { return Some(Served::Gone(Reason::PeerClosed)) };
        let mut budget = CATCH_UP_BYTES_PER_TURN;
        loop {
            while cursor.is_squeezed() && cursor.next() < edge && connection.cold.pending_bytes < PIECE_BYTES {
                let seq = cursor.next();
                if let Some(frame) = log.frame(seq)
                    && !cursor.spares(frame)
                    && cursor.admits(frame)
                    && let Some(stamped) = cursor.stamp(frame)
                    && push_once(connection, packets, &stamped)
                {
                    self.counters.deliveries += 1;
                    sub.bytes += stamped.payload.len() as u64;
                }
                cursor.pass(log, seq + 1);
            }
            let waiting = connection.cold.pending_bytes;
            if waiting == 0 {
                return None;
            }
            self.counters.sends += 1;
            let Ok(empty) = connection.flush(self.env, self.now) else {
                connection.fail();
                return Some(Served::Gone(Reason::Reset));
            };
            let sent = waiting - connection.cold.pending_bytes;
            self.counters.bytes_out += sent as u64;
            if !empty && !connection.writable {
                return Some(Served::Blocked);
            }
            budget = budget.saturating_sub(sent);
            if budget == 0 {
                return Some(Served::More);
            }
        }
    }
}

/// What is made for one subscriber at once: with more, most of it would wait for its socket.
const PIECE_BYTES: usize = 32 * 1024;
