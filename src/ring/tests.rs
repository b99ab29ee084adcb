//! The ring against a `VecDeque`, with counted drops, and under load; these run under ThreadSanitizer too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::{Consumer, Doorbell, Producer, PushError, Wake, ring};

#[test]
fn capacity_is_rounded_up_to_a_power_of_two() {
    for (asked, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (1000, 1024), (1024, 1024)] {
        let (producer, consumer) = ring::<u8>(asked);
        assert_eq!((producer.capacity(), consumer.capacity()), (given, given));
    }
}

#[test]
fn full_gives_the_message_back() {
    let (mut producer, mut consumer) = ring(2);
    assert!(producer.push("a").is_ok() && producer.push("b").is_ok());

    let refused = producer.push("c");

    assert!(matches!(refused, Err(PushError::Full("c"))));
    assert_eq!(consumer.pop(), Some("a"));
    assert!(producer.push("c").is_ok());
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some("b"), Some("c"), None));
}

#[test]
fn room_comes_back_every_eighth_and_when_the_ring_is_found_empty() {
    let (mut producer, mut consumer) = ring(64);
    for n in 0..64 {
        assert!(producer.push(n).is_ok());
    }
    assert_eq!(producer.free(), 0);

    for _ in 0..7 {
        consumer.pop();
    }
    assert_eq!(producer.free(), 0, "not yet an eighth");
    consumer.pop();
    assert_eq!(producer.free(), 8);
    for _ in 0..55 {
        consumer.pop();
    }
    assert!(!consumer.is_empty());
    assert_eq!(producer.free(), 56);
    consumer.pop();
    assert_eq!(producer.free(), 64);

    assert!(producer.push(1).is_ok());
    consumer.pop();
    assert_eq!(producer.free(), 63);
    assert!(consumer.is_empty());
    assert_eq!(producer.free(), 64);
}

#[test]
fn push_after_the_consumer_is_gone_gives_the_message_back() {
    let (mut producer, consumer) = ring(2);
    assert!(!producer.is_closed());
    assert!(producer.push(1).is_ok() && producer.push(2).is_ok());

    drop(consumer);

    assert!(producer.is_closed());
    let refused = producer.push(3);
    assert!(matches!(refused, Err(PushError::Closed(3))), "closed, although full as well");
    assert_eq!(refused.unwrap_err().to_string(), "the ring's consumer is gone");
}

#[test]
fn what_a_gone_producer_sent_is_still_delivered() {
    let (mut producer, mut consumer) = ring(4);
    assert!(producer.push(1).is_ok());
    assert!(!consumer.is_closed());

    drop(producer);

    assert!(!consumer.is_closed(), "one is left");
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_closed());
    assert_eq!(consumer.pop(), None);
}

#[test]
fn messages_of_every_size_pass() {
    fn passes<T: Send + PartialEq + std::fmt::Debug + Clone>(message: &T) {
        let (mut producer, mut consumer) = ring(2);
        for _ in 0..5 {
            assert!(producer.push(message.clone()).is_ok());
            assert_eq!(consumer.pop().as_ref(), Some(message));
        }
    }
    passes(&());
    passes(&7u8);
    passes(&[7u64; 7]);
    passes(&[7u64; 100]);
    passes(&String::from("on the heap"));
}

#[test]
fn positions_wrap_around() {
    let (mut producer, mut consumer) = ring(4);
    let start = usize::MAX - 5;
    // As if so many had passed: whatever the slots hold is of another lap.
    (producer.tail, producer.head) = (start, start);
    (consumer.head, consumer.handed_back) = (start, start);
    producer.shared().credits.0.store(start, Ordering::Relaxed);

    for n in 0..20 {
        assert!(producer.push(2 * n).is_ok() && producer.push(2 * n + 1).is_ok());
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(2 * n), Some(2 * n + 1), None));
    }
    assert_eq!(producer.free(), 4);
}

#[test]
fn a_message_that_panics_in_its_drop_is_not_dropped_twice() {
    struct Fuse(Arc<AtomicUsize>, bool);
    impl Drop for Fuse {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!(!self.1, "this one panics");
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    // Credits go back in eighths, so that the panic finds some that were not.
    let (mut producer, consumer) = ring(64);
    for panics in [false, true, false, false] {
        assert!(producer.push(Fuse(Arc::clone(&drops), panics)).is_ok());
    }

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(consumer)));

    assert!(panicked.is_err() && producer.is_closed());
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    drop(producer);
    assert_eq!(drops.load(Ordering::Relaxed), 4);
}

/// One step of the oracle's run.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Pop,
    LookFree,
    LookEmpty,
    DropProducer,
    DropConsumer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => Just(Step::Push),
        25 => Just(Step::Pop),
        5 => Just(Step::LookFree),
        5 => Just(Step::LookEmpty),
        1 => Just(Step::DropProducer),
        1 => Just(Step::DropConsumer),
    ];
    prop::collection::vec(step, 0..300)
}

/// Counts under its number when it is dropped. Atomics, no lock: ThreadSanitizer does not see into the shipped one.
struct Counted(usize, Arc<Vec<AtomicUsize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1[self.0].fetch_add(1, Ordering::Relaxed);
    }
}

fn counters() -> Arc<Vec<AtomicUsize>> {
    Arc::new((0..MESSAGES_COUNTED).map(|_| AtomicUsize::new(0)).collect())
}

/// Whether each of the messages that were made was dropped once.
fn each_once(drops: &[AtomicUsize], made: usize) -> bool {
    drops.iter().enumerate().all(|(n, drops)| drops.load(Ordering::Relaxed) == usize::from(n < made))
}

proptest! {
    #[test]
    fn ring_does_what_a_queue_does_and_drops_each_message_once(asked in 1usize..40, steps in steps()) {
        let drops = counters();
        let (producer, consumer) = ring(asked);
        let (mut producer, mut consumer): (Option<Producer<Counted>>, Option<Consumer<Counted>>) =
            (Some(producer), Some(consumer));
        let capacity = asked.next_power_of_two();
        let mut queue = VecDeque::new();
        let mut held_back = 0; // taken, but not yet handed back
        let mut made = 0;

        for step in steps {
            match step {
                Step::Push => {
                    let Some(producer) = &mut producer else { continue };
                    let result = producer.push(Counted(made, Arc::clone(&drops)));
                    if consumer.is_none() {
                        prop_assert!(matches!(result, Err(PushError::Closed(Counted(n, _))) if n == made));
                    } else if queue.len() + held_back == capacity {
                        prop_assert!(matches!(result, Err(PushError::Full(Counted(n, _))) if n == made));
                    } else {
                        prop_assert!(result.is_ok());
                        queue.push_back(made);
                    }
                    made += 1;
                }
                Step::Pop => {
                    let Some(consumer) = &mut consumer else { continue };
                    let expected = queue.pop_front();
                    prop_assert_eq!(consumer.pop().map(|counted| counted.0), expected);
                    held_back = match expected {
                        Some(_) if held_back + 1 < (capacity / 8).max(1) => held_back + 1,
                        _ => 0,
                    };
                    prop_assert_eq!(consumer.is_closed(), producer.is_none() && queue.is_empty());
                }
                Step::LookFree => {
                    let Some(producer) = &mut producer else { continue };
                    prop_assert_eq!(producer.is_closed(), consumer.is_none());
                    if consumer.is_some() {
                        prop_assert_eq!(producer.free(), capacity - queue.len() - held_back);
                    }
                }
                Step::LookEmpty => {
                    let Some(consumer) = &mut consumer else { continue };
                    prop_assert_eq!(consumer.is_empty(), queue.is_empty());
                    if queue.is_empty() {
                        held_back = 0;
                    }
                }
                Step::DropProducer => producer = None,
                Step::DropConsumer => {
                    consumer = None;
                    queue.clear();
                }
            }
        }

        drop((producer, consumer));
        prop_assert!(each_once(&drops, made));
    }
}

/// Fills a cache line of the ring, and is torn if its words differ.
fn line(n: u64) -> [u64; 7] {
    [n; 7]
}

#[test]
fn stress_a_million_messages_arrive_whole_and_in_order() {
    for capacity in [2, 64, 1024] {
        let (mut producer, mut consumer) = ring(capacity);
        let count = STRESS_MESSAGES;
        let sender = thread::spawn(move || {
            for n in 0..count {
                let mut message = line(n);
                while let Err(PushError::Full(back)) = producer.push(message) {
                    message = back;
                    give_way();
                }
            }
        });

        for n in 0..count {
            let message = loop {
                match consumer.pop() {
                    Some(message) => break message,
                    None => give_way(),
                }
            };
            assert_eq!(message, line(n));
        }

        sender.join().unwrap();
        assert_eq!(consumer.pop(), None);
        assert!(consumer.is_closed());
    }
}

#[test]
fn stress_a_side_that_leaves_in_the_middle_drops_each_message_once() {
    for round in 0..STRESS_ROUNDS {
        let drops = counters();
        let (mut producer, mut consumer) = ring(8);
        let counters = Arc::clone(&drops);
        let sender = thread::spawn(move || {
            let mut made = 0;
            // Half of the rounds end by the producer, half by the consumer.
            let most = if round % 2 == 0 { round % 40 } else { usize::MAX };
            while made < most {
                let mut message = Counted(made, Arc::clone(&counters));
                made += 1;
                loop {
                    match producer.push(message) {
                        Ok(()) => break,
                        Err(PushError::Full(back)) => message = back,
                        Err(PushError::Closed(_)) => return made,
                    }
                    give_way();
                }
            }
            made
        });

        let mut taken = 0;
        while !consumer.is_closed() && (round % 2 == 0 || taken < round % 40) {
            match consumer.pop() {
                Some(_) => taken += 1,
                None => give_way(),
            }
        }
        drop(consumer);

        let made = sender.join().unwrap();
        assert!(each_once(&drops, made));
    }
}

/// Wakes a parked thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[test]
fn doorbell_wakes_once_and_only_who_sleeps() {
    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let wakes = Arc::new(AtomicUsize::new(0));
    let bell = Doorbell::new(Count(Arc::clone(&wakes)));

    assert!(!bell.ring());
    bell.announce_sleep();
    assert!(bell.is_sleeping());
    assert!(bell.ring() && !bell.ring() && !bell.is_sleeping());
    bell.announce_sleep();
    bell.awake();
    assert!(!bell.ring());

    assert_eq!(wakes.load(Ordering::Relaxed), 1);
}

#[test]
fn stress_no_wake_is_lost() {
    // The bell is made by the sleeper, since only it knows its thread.
    let (mut producer, mut consumer) = ring(64);
    let (tell, told) = std::sync::mpsc::channel();
    let count = STRESS_MESSAGES / 20;
    let sleeper = thread::spawn(move || {
        let bell = Doorbell::new(Unpark(thread::current()));
        tell.send(bell.clone()).unwrap();
        let mut next = 0;
        while next < count {
            while let Some(message) = consumer.pop() {
                assert_eq!(message, line(next));
                next += 1;
            }
            bell.announce_sleep();
            if consumer.is_empty() && next < count {
                thread::park();
            }
            bell.awake();
        }
        bell
    });
    let bell = told.recv().unwrap();

    for n in 0..count {
        let mut message = line(n);
        while let Err(PushError::Full(back)) = producer.push(message) {
            message = back;
            give_way();
        }
        bell.ring();
    }

    sleeper.join().unwrap();
}

/// Lets the other side run where threads outnumber cores; never sleeps.
fn give_way() {
    std::hint::spin_loop();
    thread::yield_now();
}

const STRESS_MESSAGES: u64 = if cfg!(miri) { 300 } else { 1_000_000 };
/// More than one round of any test here makes.
const MESSAGES_COUNTED: usize = 400;
const STRESS_ROUNDS: usize = if cfg!(miri) { 20 } else { 2_000 };
