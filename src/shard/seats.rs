//! Who takes how many seats: connections, publishers and viewers of one application, one principal, one address.
//!
//! Taken at publish and play, given back by dropping; never touched per frame. Only what has a limit is counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fact::Who;
use crate::limits::{Limit, Limits};
use crate::stream::AppSpec;

/// Seats that are taken, over all shards.
#[derive(Debug, Default)]
pub struct Seats {
    // std's SipHash: peers choose the names. Each entry is held by a publisher or viewer, which are bounded.
    taken: Mutex<HashMap<Whose, usize>>,
}

/// Whose seats are counted, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Whose(Owner, Part);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    App(Box<str>),
    Principal(Arc<str>),
    Address(IpAddr),
}

/// What a seat is taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// A connection that publishes or plays, however much.
    Connection,
    Publisher,
    Viewer,
}

/// Seats that are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    whose: Vec<Whose>,
}

impl Seats {
    /// Takes a seat with the application, the principal and the address, or none of them. `None` where nothing is
    /// limited. One who `replaces` another may be one more than the limit: the other is on its way out.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn take(
        self: &Arc<Self>,
        part: Part,
        app: &str,
        who: &Who,
        spec: &AppSpec,
        limits: &Limits,
        replaces: bool,
    ) -> Result<Option<Box<Seat>>, Limit> {
        let (of_app, of_principal, of_address) = match part {
            Part::Connection => (
                (spec.seats.connections, Limit::AppConnections),
                (limits.connections_per_principal, Limit::ConnectionsPerPrincipal),
                (None, Limit::ConnectionsPerAddress),
            ),
            Part::Publisher => (
                (spec.seats.publishers, Limit::AppPublishers),
                (limits.publishers_per_principal, Limit::PublishersPerPrincipal),
                (limits.publishers_per_address, Limit::PublishersPerAddress),
            ),
            Part::Viewer => (
                (spec.seats.viewers, Limit::AppViewers),
                (limits.viewers_per_principal, Limit::ViewersPerPrincipal),
                (limits.viewers_per_address, Limit::ViewersPerAddress),
            ),
        };
        let owners = [
            (of_app, Some(Owner::App(app.into()))),
            (of_principal, who.principal.clone().map(Owner::Principal)),
            (of_address, who.peer.map(|peer| Owner::Address(peer.ip()))),
        ];
        let limited =
            owners.into_iter().filter_map(|((most, limit), owner)| Some((most?, limit, Whose(owner?, part))));
        let wanted: Vec<(usize, Limit, Whose)> = limited.collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut taken = self.taken.lock();
        for (most, limit, whose) in &wanted {
            if taken.get(whose).copied().unwrap_or(0) >= most.saturating_add(usize::from(replaces)) {
                return Err(*limit);
            }
        }
        let whose: Vec<Whose> = wanted.into_iter().map(|(_, _, whose)| whose).collect();
        for one in &whose {
            *taken.entry(one.clone()).or_default() += 1;
        }
        Ok(Some(Box::new(Seat { seats: Arc::clone(self), whose })))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        for one in &self.whose {
            if let Some(count) = taken.get_mut(one) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(one);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnectionId;

    fn who(principal: Option<&str>, address: &str) -> Who {
        Who {
            connection: ConnectionId(1),
            peer: Some(address.parse().unwrap()),
            protocol: "rtmp",
            principal: principal.map(Into::into),
        }
    }

    #[test]
    fn a_refusal_takes_nothing_and_what_was_taken_is_given_back_to_nothing() {
        let seats = Arc::new(Seats::default());
        let mut spec = AppSpec::new("live");
        spec.seats.viewers = Some(2);
        let limits = Limits { viewers_per_principal: Some(1), ..Limits::default() };
        let take = |who: &Who| seats.take(Part::Viewer, "live", who, &spec, &limits, false);
        let (anna, ben, nobody) =
            (who(Some("anna"), "10.0.0.1:1"), who(Some("ben"), "10.0.0.1:2"), who(None, "[::1]:3"));
        let first = take(&anna).unwrap();
        assert_eq!(take(&anna).unwrap_err(), Limit::ViewersPerPrincipal);
        let second = take(&nobody).unwrap();
        assert_eq!(take(&ben).unwrap_err(), Limit::AppViewers);
        drop(second);
        // Had the refusal taken one, ben would be refused.
        let third = take(&ben).unwrap();
        // Who takes over from one of them is let in, once.
        let over = |who: &Who| seats.take(Part::Viewer, "live", who, &spec, &limits, true);
        let fourth = over(&nobody).unwrap();
        assert_eq!(over(&nobody).unwrap_err(), Limit::AppViewers);
        drop(fourth);
        drop((first, third));
        assert!(seats.taken.lock().is_empty());
    }

    #[test]
    fn what_has_no_limit_is_not_counted() {
        let seats = Arc::new(Seats::default());
        let took = seats.take(
            Part::Viewer,
            "live",
            &who(None, "10.0.0.1:1"),
            &AppSpec::new("live"),
            &Limits::default(),
            false,
        );
        assert!(took.is_ok_and(|seat| seat.is_none()) && seats.taken.lock().is_empty());
    }
}
