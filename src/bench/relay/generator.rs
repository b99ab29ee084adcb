//! One thread that is publishers and viewers: the load on the server, and its judge.
//!
//! Runs in a process of its own on a core of its own. Between any two sockets it looks whether a publisher's next
//! message is due, so that a burst of receipts does not delay the schedule. Who started it says when the viewers may
//! join and which span of the shared clock is measured.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::crowd::Crowd;
use super::error::RelayError;
use super::histogram::Recorder;
use super::link::{Link, Ready};
use super::media::{self, Bank};
use super::outcome::Outcome;
use super::plan::{Load, Order, Said};
use super::publisher::Publisher;
use super::session::{Purpose, Role};
use super::talk::Orders;
use super::timing::{MILLISECOND, SECOND, Timing};

/// The viewers may join when the youngest stream is this old.
const LEAD_IN: u64 = SECOND / 2;
/// How long a server may take to accept the publishers, and the viewers to see their first keyframes.
const PATIENCE: u64 = 6 * SECOND;
/// How long frames of the window may take to arrive after it.
const DRAIN: u64 = 3 * SECOND;
/// How long slow readers read on after it, to see what became of them.
const SLOW_DRAIN: u64 = SECOND;
/// What one read takes at most.
const READ_LEN: usize = 256 * 1024;

/// Tokens from here on are publishers, below are viewers; the last one is the voice of the parent.
const PUBLISHERS: usize = 1 << 40;
const ORDERS: Token = Token(usize::MAX - 1);

/// Where the run is, and when that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until all publishers have been accepted and their streams have run for a while.
    Publishing {
        until: u64,
    },
    /// Until the parent says that others have come so far, too.
    Published,
    Joining {
        since: u64,
        until: u64,
    },
    /// Until the parent names the window.
    Joined,
    /// The window is known; visitors come and go from `since`.
    WarmUp {
        since: u64,
        from: u64,
        until: u64,
    },
    Window {
        since: u64,
        until: u64,
    },
    Drain {
        least: u64,
        until: u64,
    },
    Over,
}

struct Generator<'a> {
    load: &'a Load,
    say: &'a mut dyn FnMut(&Said),
    timing: Timing,
    poll: Poll,
    orders: Orders,
    phase: Phase,
    publishers: Vec<Publisher>,
    /// When which publisher has something to send.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    crowd: Crowd,
    window: std::ops::Range<u64>,
    lateness: Recorder,
    sent: u64,
    blocked: u64,
    expected: u64,
}

/// Does what the plan says and what the orders say; says how far it is, and returns what it saw.
pub(crate) fn run(
    load: &Load,
    listen: impl FnOnce(Waker) -> Orders,
    say: &mut dyn FnMut(&Said),
) -> Result<Outcome, RelayError> {
    let timing = Timing::start();
    let poll = Poll::new().map_err(RelayError::system("cannot make a poll"))?;
    let waker = Waker::new(poll.registry(), ORDERS).map_err(RelayError::system("cannot make a waker"))?;
    let mut generator = Generator {
        load,
        say,
        timing,
        poll,
        orders: listen(waker),
        phase: Phase::Publishing { until: timing.now() + PATIENCE },
        publishers: Vec::new(),
        due: BinaryHeap::new(),
        crowd: Crowd::new(load),
        window: 0..0,
        lateness: Recorder::new(0..0),
        sent: 0,
        blocked: 0,
        expected: 0,
    };
    generator.start_publishers()?;
    generator.run()?;
    let due = generator.publishers.iter().filter_map(Publisher::t0);
    let due = due.map(|t0| media::Schedule::due_in(t0, &generator.window)).sum();
    Ok(Outcome {
        due,
        sent: generator.sent,
        blocked: generator.blocked,
        lateness: generator.lateness.encode(),
        clock_step: timing.step_ns(),
        ..generator.crowd.outcome(timing.now())
    })
}

impl Generator<'_> {
    fn start_publishers(&mut self) -> Result<(), RelayError> {
        if self.load.bare {
            return Ok(());
        }
        let bank = Rc::new(Bank::new(self.load.kbps));
        let (app, host): (Rc<str>, Rc<str>) = (self.load.app.as_str().into(), self.load.host.as_str().into());
        let own = (0_u32..).zip(&self.load.publish).skip(self.load.generator).step_by(self.load.generators);
        for (number, name) in own {
            let (app, host) = (Rc::clone(&app), Rc::clone(&host));
            let purpose = Purpose { role: Role::Publish, app, host, stream: name.as_str().into(), number };
            let token = Token(PUBLISHERS + self.publishers.len());
            let link =
                Link::connect(self.poll.registry(), token, self.load.address, purpose, None).map_err(|error| {
                    RelayError::Publisher { stream: number, why: format!("could not connect: {error}") }
                })?;
            self.publishers.push(Publisher::new(link, number, Rc::clone(&bank)));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), RelayError> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; READ_LEN];
        while self.phase != Phase::Over {
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout()))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(RelayError::system("cannot poll")(error));
            }
            for event in &events {
                let ready = Ready::from(event);
                match event.token() {
                    ORDERS => {}
                    Token(key) if key >= PUBLISHERS => {
                        self.on_publisher(key - PUBLISHERS, ready, &mut buffer)?;
                    }
                    Token(key) => self.crowd.on_event(key, ready, &mut buffer, &self.timing),
                }
                self.publish()?;
            }
            self.publish()?;
            self.crowd.trickle(&mut buffer, &self.timing);
            self.move_viewers()?;
            self.advance(&mut buffer)?;
        }
        Ok(())
    }

    /// Until what comes next; whole milliseconds, and no sleep for the last one, for epoll oversleeps.
    fn timeout(&self) -> Duration {
        let publish = self.due.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let phase = match self.phase {
            Phase::Joining { since, until } => until.min(self.crowd.join_due(self.load, since).unwrap_or(until)),
            Phase::WarmUp { since, from, until } => from.min(self.crowd.visit_due(self.load, since, until)),
            Phase::Window { since, until } => until.min(self.crowd.visit_due(self.load, since, until)),
            Phase::Publishing { until } | Phase::Drain { until, .. } => until,
            Phase::Published | Phase::Joined => u64::MAX,
            Phase::Over => 0,
        };
        let next = publish.min(phase).min(self.crowd.trickle_due());
        Duration::from_millis((next.saturating_sub(self.timing.now()) / MILLISECOND).min(20))
    }

    /// Sends what is due.
    fn publish(&mut self) -> Result<(), RelayError> {
        while let Some(Reverse((due, index))) = self.due.peek().copied() {
            let now = self.timing.now();
            if due > now {
                break;
            }
            self.due.pop();
            let publisher = &mut self.publishers[index];
            let sent = publisher.send_next(now).map_err(|error| lost(publisher, &error))?;
            if let Some(sent) = sent.filter(|sent| self.window.contains(&sent.due)) {
                self.lateness.record(sent.due, now - sent.due);
                self.sent += 1;
                self.blocked += u64::from(sent.blocked);
            }
            self.due.extend(self.publishers[index].due().map(|due| Reverse((due, index))));
        }
        Ok(())
    }

    fn on_publisher(&mut self, index: usize, ready: Ready, buffer: &mut [u8]) -> Result<(), RelayError> {
        let Some(publisher) = self.publishers.get_mut(index) else { return Ok(()) };
        let mut result = publisher.link.on_ready(ready);
        if ready.readable && result.is_ok() {
            result = publisher.link.on_readable(buffer, false, |_| {}).map(drop);
        }
        if result.is_ok() && publisher.can_begin() {
            let stagger = media::stagger(publisher.stream(), u32::try_from(self.load.publish.len()).unwrap_or(1));
            result = publisher.begin(self.timing.now() + stagger);
            self.due.extend(publisher.due().map(|due| Reverse((due, index))));
        }
        result.map_err(|error| lost(publisher, &error))
    }

    /// Lets viewers join, come and go as they are to.
    fn move_viewers(&mut self) -> Result<(), RelayError> {
        let cannot = |error| RelayError::system("a viewer cannot connect")(error);
        match self.phase {
            Phase::Joining { since, .. } => {
                while let Some(due) = self.crowd.join_due(self.load, since) {
                    let now = self.timing.now();
                    if due > now {
                        break;
                    }
                    self.crowd.join(self.load, self.poll.registry(), now).map_err(cannot)?;
                    self.publish()?;
                }
            }
            Phase::WarmUp { since, until, .. } | Phase::Window { since, until } => {
                let now = self.timing.now();
                self.crowd.visit(self.load, self.poll.registry(), now, (since, until)).map_err(cannot)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<(), RelayError> {
        let now = self.timing.now();
        if self.orders.is_over() {
            return Err(RelayError::Part("whoever started this part has gone".into()));
        }
        self.phase = match self.phase {
            Phase::Publishing { until } => {
                if self.publishers.iter().all(|one| one.t0().is_some_and(|t0| t0 + LEAD_IN <= now)) {
                    (self.say)(&Said::Published);
                    Phase::Published
                } else if let Some(late) = self.publishers.iter().find(|one| now >= until && one.t0().is_none()) {
                    let why = format!("was not accepted within {} s", PATIENCE / SECOND);
                    return Err(RelayError::Publisher { stream: late.stream(), why });
                } else {
                    return Ok(());
                }
            }
            Phase::Published => match self.orders.next() {
                Some(Order::Join) => {
                    let ramp = self.load.players as u64 * SECOND / self.load.joins_per_s;
                    Phase::Joining { since: now, until: now + ramp + PATIENCE }
                }
                _ => return Ok(()),
            },
            Phase::Joining { until, .. } if now >= until || self.crowd.has_joined(self.load) => {
                (self.say)(&Said::Joined);
                Phase::Joined
            }
            Phase::Joined => match self.orders.next() {
                Some(Order::Window { from, until }) => {
                    self.window = from..until;
                    self.lateness = Recorder::new(from..until);
                    self.crowd.set_window(from..until);
                    Phase::WarmUp { since: now, from, until }
                }
                _ => return Ok(()),
            },
            Phase::WarmUp { since, from, until } if now >= from => {
                self.crowd.open_window();
                Phase::Window { since, until }
            }
            Phase::Window { until, .. } if now >= until => {
                self.crowd.close_window();
                let slow = self.load.slow_permille > 0;
                if slow {
                    self.crowd.resume(buffer, &self.timing);
                }
                self.expected = self.crowd.expected_and_received().0;
                Phase::Drain { least: now + if slow { SLOW_DRAIN } else { 0 }, until: now + DRAIN }
            }
            Phase::Drain { until, .. } if now >= until => Phase::Over,
            Phase::Drain { least, .. } if now >= least && self.crowd.received() >= self.expected => Phase::Over,
            unchanged => unchanged,
        };
        Ok(())
    }
}

fn lost(publisher: &Publisher, error: &std::io::Error) -> RelayError {
    RelayError::Publisher { stream: publisher.stream(), why: format!("was lost: {error}") }
}
