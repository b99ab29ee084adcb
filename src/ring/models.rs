//! Every interleaving of a few operations, found by loom: the ring, the doorbell, and two shards that use both.
//!
//! A lost wake-up or a mesh that waits for itself shows as loom's deadlock; a slot that both sides touch as its
//! causality violation; a message that nobody dropped as its leak. `tools/loom.sh` runs them.

use std::collections::VecDeque;

use loom::alloc::Track;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{Consumer, Doorbell, Producer, PushError, Wake, ring};

#[test]
fn messages_arrive_in_order_through_a_ring_that_is_full_and_wraps() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            for n in 0..3 {
                push_patiently(&mut producer, n);
            }
        });

        for n in 0..3 {
            assert_eq!(pop_patiently(&mut consumer), n);
        }

        sender.join().unwrap();
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn full_and_empty_are_answers_and_nothing_is_lost() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            let mut sent = VecDeque::new();
            for n in 0..4 {
                let room = producer.free();
                match producer.push(n) {
                    Ok(()) => sent.push_back(n),
                    Err(PushError::Full(back)) => assert!(back == n && room == 0),
                    Err(PushError::Closed(_)) => unreachable!("the consumer outlives this thread"),
                }
            }
            sent
        });

        let mut taken: VecDeque<_> = (0..3).filter_map(|_| consumer.pop()).collect();

        let sent = sender.join().unwrap();
        taken.extend(std::iter::from_fn(|| consumer.pop()));
        assert_eq!(taken, sent);
        assert!(sent.len() >= 2);
    });
}

#[test]
fn sides_that_leave_with_messages_inside_drop_each_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            for n in 0..3 {
                // What comes back is dropped here, what went through there or with the ring.
                drop(producer.push(Track::new(n)));
            }
        });

        drop(consumer.pop());
        drop(consumer);

        sender.join().unwrap();
    });
}

#[test]
fn a_producer_learns_that_the_consumer_is_gone() {
    loom::model(|| {
        let (mut producer, consumer) = ring(2);
        let receiver = thread::spawn(move || drop(consumer));

        let mut sent = 0;
        let back = loop {
            match producer.push(Track::new(sent)) {
                Ok(()) => sent += 1,
                Err(PushError::Full(_)) => thread::yield_now(),
                Err(PushError::Closed(back)) => break back,
            }
        };

        assert!(*back.get_ref() == sent && producer.is_closed());
        receiver.join().unwrap();
    });
}

#[test]
fn a_consumer_gets_everything_before_it_learns_that_the_producer_is_gone() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            assert!(producer.push(Track::new(0)).is_ok());
            assert!(producer.push(Track::new(1)).is_ok());
        });

        let mut taken = 0;
        while !consumer.is_closed() {
            match consumer.pop() {
                Some(message) => {
                    assert_eq!(*message.get_ref(), taken);
                    taken += 1;
                }
                None => thread::yield_now(),
            }
        }

        assert_eq!(taken, 2);
        sender.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let (bell, bed) = bell();
        let ringer = bell.clone();
        let sender = thread::spawn(move || {
            for n in 0..2 {
                assert!(producer.push(n).is_ok());
                ringer.ring();
            }
        });

        let mut next = 0;
        while next < 2 {
            while let Some(n) = consumer.pop() {
                assert_eq!(n, next);
                next += 1;
            }
            if next < 2 {
                bell.announce_sleep();
                if consumer.is_empty() {
                    bed.sleep();
                }
                bell.awake();
            }
        }

        sender.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost_between_two_senders() {
    bounded(3, || {
        let (bell, bed) = bell();
        let (mut consumers, senders): (Vec<_>, Vec<_>) = (0..2)
            .map(|n| {
                let (mut producer, consumer) = ring(1);
                let ringer = bell.clone();
                let sender = thread::spawn(move || {
                    assert!(producer.push(n).is_ok());
                    ringer.ring();
                });
                (consumer, sender)
            })
            .unzip();

        let mut taken = 0;
        while taken < 2 {
            taken += consumers.iter_mut().filter_map(Consumer::pop).count();
            if taken < 2 {
                bell.announce_sleep();
                if consumers.iter_mut().all(Consumer::is_empty) {
                    bed.sleep();
                }
                bell.awake();
            }
        }

        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn two_shards_with_full_rings_neither_wait_for_each_other_nor_lose_a_message() {
    bounded(3, || {
        let (to_right, from_left) = ring(1);
        let (to_left, from_right) = ring(1);
        let (left_bell, left_bed) = bell();
        let (right_bell, right_bed) = bell();
        let left = Shard::new(to_right, from_right, (left_bell.clone(), left_bed), right_bell.clone());
        let right = Shard::new(to_left, from_left, (right_bell, right_bed), left_bell);

        let right = thread::spawn(move || right.run());
        left.run();

        right.join().unwrap();
    });
}

/// One of two shards: two messages to send through a ring of one, and two to receive.
struct Shard {
    /// Control messages that found the ring full wait here; the shard goes on with its turn.
    backlog: VecDeque<u32>,
    received: u32,
    outbox: Producer<u32>,
    inbox: Consumer<u32>,
    bell: Doorbell,
    bed: Arc<Bed>,
    peer: Doorbell,
}

impl Shard {
    const MESSAGES: u32 = 2;

    fn new(outbox: Producer<u32>, inbox: Consumer<u32>, (bell, bed): (Doorbell, Arc<Bed>), peer: Doorbell) -> Self {
        Self { backlog: (0..Self::MESSAGES).collect(), received: 0, outbox, inbox, bell, bed, peer }
    }

    fn run(mut self) {
        while !self.backlog.is_empty() || self.received < Self::MESSAGES {
            if !self.turn() {
                self.sleep();
            }
        }
    }

    /// Takes what came, sends what fits, and rings once: the peer waits for our messages and for our credits.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        while let Some(n) = self.inbox.pop() {
            assert_eq!(n, self.received);
            self.received += 1;
            worked = true;
        }
        while let Some(n) = self.backlog.pop_front() {
            match self.outbox.push(n) {
                Ok(()) => worked = true,
                Err(PushError::Full(n)) => {
                    self.backlog.push_front(n);
                    break;
                }
                Err(PushError::Closed(_)) => unreachable!("a shard stays until it has received everything"),
            }
        }
        if worked {
            self.peer.ring();
        }
        worked
    }

    fn sleep(&mut self) {
        self.bell.announce_sleep();
        if self.inbox.is_empty() && (self.backlog.is_empty() || self.outbox.free() == 0) {
            self.bed.sleep();
        }
        self.bell.awake();
    }
}

/// What a shard sleeps in: like `mio::Poll`, a wake that comes first is not lost.
struct Bed {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Bed {
    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

struct Waker(Arc<Bed>);

impl Wake for Waker {
    fn wake(&self) {
        *self.0.woken.lock().unwrap() = true;
        self.0.wake.notify_one();
    }
}

fn bell() -> (Doorbell, Arc<Bed>) {
    let bed = Arc::new(Bed { woken: Mutex::new(false), wake: Condvar::new() });
    (Doorbell::new(Waker(Arc::clone(&bed))), bed)
}

fn push_patiently<T>(producer: &mut Producer<T>, mut message: T) {
    while let Err(PushError::Full(back)) = producer.push(message) {
        message = back;
        thread::yield_now();
    }
}

fn pop_patiently<T>(consumer: &mut Consumer<T>) -> T {
    loop {
        match consumer.pop() {
            Some(message) => return message,
            None => thread::yield_now(),
        }
    }
}

/// A model too large for every interleaving: those with at most so many preemptions.
fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}
