//! Connections that do nothing: handshake, `connect`, `createStream`, `play` of a stream that is not there.
//!
//! The client half runs in a process of its own and holds its connections until its input ends.

use std::rc::Rc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::error::RelayError;
use super::link::{Link, Ready};
use super::plan::{Held, Said};
use super::session::{Progress, Purpose, Role};
use super::talk::Orders;

/// Connections that may be between `connect` and `play` at once: less than any listener's queue.
const OPENING_MAX: usize = 64;
/// Without progress for so long, the rest is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens them, says how many it holds, and at its end how many are left.
pub(crate) fn run(
    plan: &Held,
    listen: impl FnOnce(Waker) -> Orders,
    say: &mut dyn FnMut(&Said),
) -> Result<(), RelayError> {
    let purpose = Purpose {
        role: Role::Play,
        app: plan.app.as_str().into(),
        host: Rc::from(plan.host.as_str()),
        stream: Rc::from("absent"),
        number: 0,
    };
    let mut poll = Poll::new().map_err(RelayError::system("cannot make a poll"))?;
    let waker = Waker::new(poll.registry(), Token(plan.connections));
    let orders = listen(waker.map_err(RelayError::system("cannot make a waker"))?);
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut links: Vec<Option<Link>> = Vec::with_capacity(plan.connections);
    let (mut settled, mut lost, mut reported) = (0, 0, false);
    while !orders.is_over() {
        while links.len() < plan.connections && links.len() - settled - lost < OPENING_MAX {
            let link = Link::connect(poll.registry(), Token(links.len()), plan.address, purpose.clone(), None);
            links.push(Some(link.map_err(RelayError::system("cannot connect"))?));
        }
        match poll.poll(&mut events, Some(PATIENCE)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(RelayError::system("cannot poll")(error));
            }
            _ => {}
        }
        let stuck = events.is_empty();
        for event in &events {
            let Some(slot) = links.get_mut(event.token().0) else { continue };
            let Some(link) = slot else { continue };
            let before = is_settled(link);
            let mut result = link.on_ready(Ready::from(event));
            if event.is_readable() && result.is_ok() {
                result = link.on_readable(&mut buffer, false, |_| {}).map(drop);
            }
            let after = result.is_ok() && is_settled(link);
            match (before, after) {
                (false, true) => settled += 1,
                (true, false) => settled -= 1,
                _ => {}
            }
            if result.is_err() {
                lost += 1;
                *slot = None;
            }
        }
        if !reported && (settled + lost == plan.connections || stuck) {
            reported = true;
            say(&Said::Held(settled));
        }
    }
    say(&Said::Left(settled));
    Ok(())
}

/// Whether it has asked to play.
fn is_settled(link: &Link) -> bool {
    matches!(link.session().progress(), Progress::Asked | Progress::Started)
}
