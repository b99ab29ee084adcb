//! The publishers of one name: the one that leads, and those that stand by.
//!
//! Ranks say who is preferred. The primary's seat, rank 0, goes to the first who comes while nobody has it and who
//! does not call itself a backup; so a primary that went away and returns gets it again. Everybody else is a backup,
//! rank 1, in the order in which they came.

use crate::id::{ConnectionId, Generation, ShardId};
use crate::limits::{Limit, STANDBYS_MAX};
use crate::reason::Reason;

/// One publisher of a name that may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seat {
    /// The publisher's connection.
    pub connection: ConnectionId,
    /// The shard that it is on.
    pub shard: ShardId,
    /// 0 for the primary; the lower of two is preferred.
    pub rank: u8,
    /// It delivers, and a decoder could start with what it has sent. Of who leads that is not told here.
    pub ready: bool,
}

/// A publisher that wants a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its connection.
    pub connection: ConnectionId,
    /// The shard that it is on.
    pub shard: ShardId,
    /// It calls itself a backup.
    pub backup: bool,
    /// It only fills the time in which nobody publishes.
    pub filler: bool,
}

/// Why a stream goes on with another of its publishers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchCause {
    /// The one before has ended.
    Vacant,
    /// The one before, in this life of the stream, sends nothing.
    Stalled(Generation),
    /// Somebody with the right to do so wants it.
    Command,
    /// One that is preferred is back, and has proved steady.
    Return,
}

impl SwitchCause {
    /// The same in the words of records.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Vacant => Reason::Ended,
            Self::Stalled(_) => Reason::Stalled,
            Self::Command => Reason::Switched,
            Self::Return => Reason::Returned,
        }
    }
}

/// Who publishes one name.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) lead: Option<Seat>,
    /// At most [`STANDBYS_MAX`], in the order in which they came.
    pub(super) standbys: Vec<Seat>,
}

impl Seats {
    /// Where a newcomer would sit.
    pub(super) fn place(&self, newcomer: Newcomer) -> Result<Seat, Reason> {
        if self.all().any(|seat| seat.connection == newcomer.connection) {
            // It publishes the name already.
            return Err(Reason::NameTaken);
        }
        let primary = self.all().any(|seat| seat.rank == PRIMARY);
        let rank = match newcomer {
            Newcomer { filler: true, .. } => FILLER,
            Newcomer { backup: true, .. } => BACKUP,
            _ if primary => BACKUP,
            _ => PRIMARY,
        };
        Ok(Seat { connection: newcomer.connection, shard: newcomer.shard, rank, ready: false })
    }

    /// Takes a newcomer in behind who leads.
    pub(super) fn add(&mut self, newcomer: Newcomer) -> Result<(), Reason> {
        let seat = self.place(newcomer)?;
        if self.standbys.len() >= STANDBYS_MAX {
            return Err(Reason::Limit(Limit::Standbys));
        }
        self.standbys.push(seat);
        Ok(())
    }

    pub(super) fn standby(&mut self, connection: ConnectionId) -> Option<&mut Seat> {
        self.standbys.iter_mut().find(|seat| seat.connection == connection)
    }

    /// The one to go on with, if any of them could.
    pub(super) fn best(&self) -> Option<Seat> {
        self.standbys.iter().filter(|seat| seat.ready).min_by_key(|seat| seat.rank).copied()
    }

    /// Whether a standby is preferred to who leads.
    pub(super) fn prefers(&self, connection: ConnectionId) -> bool {
        let mut standbys = self.standbys.iter();
        let rank = standbys.find(|seat| seat.connection == connection).map(|seat| seat.rank);
        rank.zip(self.lead).is_some_and(|(rank, lead)| rank < lead.rank)
    }

    /// Whether nobody leads but a filler: it makes room for anybody.
    pub(super) fn is_filled(&self) -> bool {
        self.lead.is_some_and(|lead| lead.rank == FILLER)
    }

    /// A standby leads from now on, and who led until now stands by, unless that was a filler. By command it becomes
    /// the primary, or the former one would be back at once.
    pub(super) fn promote(&mut self, connection: ConnectionId, by_command: bool) -> bool {
        let Some(at) = self.standbys.iter().position(|seat| seat.connection == connection) else { return false };
        let mut seat = self.standbys.remove(at);
        if let Some(former) = self.lead.take().filter(|former| former.rank != FILLER) {
            self.standbys.push(Seat { ready: false, ..former });
        }
        if by_command {
            for other in &mut self.standbys {
                other.rank = other.rank.max(BACKUP);
            }
            seat.rank = PRIMARY;
        }
        self.lead = Some(seat);
        true
    }

    /// Who leads, then those who stand by.
    pub(super) fn all(&self) -> impl Iterator<Item = &Seat> {
        self.lead.iter().chain(&self.standbys)
    }
}

const PRIMARY: u8 = 0;
const BACKUP: u8 = 1;
const FILLER: u8 = 2;
