//! Bare mechanisms: the least that the work of a case could cost on this machine.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use executor_bench_peers::{Round, team};
use executor_core::Envelope;
use rustix::thread::futex;

/// Takes an idle word and lets it go, with the message between.
pub(crate) fn two_atomics(messages: u64) -> u64 {
    each_between_two_atomics(messages, |message| message)
}

/// The same for messages in envelopes, with the id and the time that each has.
pub(crate) fn envelope_and_two_atomics(messages: u64) -> u64 {
    each_between_two_atomics(messages, |message| {
        black_box(&Envelope::new(message)).payload
    })
}

#[inline(always)]
fn each_between_two_atomics(messages: u64, handle: impl Fn(u64) -> u64) -> u64 {
    let word = AtomicU64::new(0);
    let word = black_box(&word);
    let mut sum = 0;
    for message in 0..messages {
        if word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            sum += black_box(handle(message));
            word.swap(0, Ordering::Release);
        }
    }
    sum
}

/// How the two ends of a ping-pong wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Futex,
    Spin,
    Park,
}

/// A thread that answers each message with itself.
pub(crate) struct PingPong {
    shared: Arc<Shared>,
    answering: Option<JoinHandle<()>>,
}

struct Shared {
    wait: Wait,
    /// Counts the messages sent, and so wakes the other thread.
    asked: AtomicU32,
    answered: AtomicU32,
    message: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// Waits until `word` is no longer `seen`.
    fn wait(&self, word: &AtomicU32, seen: u32) {
        let mut patience = Patience(0);
        while word.load(Ordering::Acquire) == seen {
            match self.wait {
                Wait::Spin => patience.wait(),
                Wait::Park => thread::park(),
                Wait::Futex => {
                    // Woken, interrupted or changed in between: the loop looks again.
                    let _ = futex::wait(word, futex::Flags::PRIVATE, seen, None);
                }
            }
        }
    }

    fn wake(&self, word: &AtomicU32, other: &thread::Thread) {
        word.fetch_add(1, Ordering::Release);
        match self.wait {
            Wait::Spin => {}
            Wait::Park => other.unpark(),
            Wait::Futex => {
                // It cannot fail for a word of our own.
                let _ = futex::wake(word, futex::Flags::PRIVATE, 1);
            }
        }
    }
}

impl PingPong {
    pub(crate) fn new(wait: Wait) -> Self {
        let shared = Arc::new(Shared {
            wait,
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            message: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let answering = {
            let (shared, caller) = (Arc::clone(&shared), thread::current());
            thread::spawn(move || {
                let mut seen = 0;
                loop {
                    shared.wait(&shared.asked, seen);
                    seen = seen.wrapping_add(1);
                    if shared.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    black_box(shared.message.load(Ordering::Relaxed));
                    shared.wake(&shared.answered, &caller);
                }
            })
        };
        Self {
            shared,
            answering: Some(answering),
        }
    }

    fn send(&self) {
        if let Some(answering) = &self.answering {
            self.shared.wake(&self.shared.asked, answering.thread());
        }
    }

    /// Sends each message, and waits for the answer; the sum.
    pub(crate) fn each(&self, messages: u64) -> u64 {
        (0..messages).map(|message| self.ask(message)).sum()
    }

    /// Sends a message, and waits for the answer.
    pub(crate) fn ask(&self, message: u64) -> u64 {
        self.shared.message.store(message, Ordering::Relaxed);
        let seen = self.shared.answered.load(Ordering::Relaxed);
        self.send();
        self.shared.wait(&self.shared.answered, seen);
        self.shared.message.load(Ordering::Relaxed)
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.send();
        if let Some(answering) = self.answering.take() {
            // It has nothing to panic about.
            let _ = answering.join();
        }
    }
}

/// Spins, and now and then lets another thread have the processor.
struct Patience(u32);

impl Patience {
    fn wait(&mut self) {
        self.0 = self.0.wrapping_add(1);
        if self.0.is_multiple_of(1_024) {
            thread::yield_now();
        } else {
            spin_loop();
        }
    }
}

/// A list that producers push to with an exchange and a consumer takes whole, without allocation.
pub(crate) struct TakeAll {
    /// The index of the newest node, plus one.
    head: AtomicU32,
    next: Vec<AtomicU32>,
    done: Vec<AtomicBool>,
}

impl TakeAll {
    pub(crate) fn new(messages: u64) -> Self {
        Self {
            head: AtomicU32::new(0),
            next: (0..messages).map(|_| AtomicU32::new(0)).collect(),
            done: (0..messages).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn push(&self, node: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[node as usize].store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                node + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes whatever is there, until there were `messages`.
    fn consume(&self, messages: u64) {
        let mut taken = 0;
        let mut patience = Patience(0);
        while taken < messages {
            // A look before the exchange, which takes the line from the producers.
            if self.head.load(Ordering::Relaxed) == 0 {
                patience.wait();
                continue;
            }
            let mut node = self.head.swap(0, Ordering::Acquire);
            while let Some(index) = (node as usize).checked_sub(1) {
                taken += 1;
                node = self.next[index].load(Ordering::Relaxed);
                self.done[index].store(true, Ordering::Release);
            }
        }
    }

    /// Pushes all from this thread while another consumes, then looks at each result, so many times
    /// over; the sum.
    pub(crate) fn submit_all(&self, times: u64) -> Round {
        let messages = self.next.len() as u64;
        let mut patience = Patience(0);
        let mut submit = || {
            for node in 0..self.next.len() {
                self.push(node as u32);
            }
            let mut sum = 0;
            for (message, done) in self.done.iter().enumerate() {
                while !done.swap(false, Ordering::Acquire) {
                    patience.wait();
                }
                sum += message as u64;
            }
            sum
        };
        thread::scope(|scope| {
            let (started, has_started) = mpsc::channel();
            scope.spawn(move || {
                // The one who starts it waits for this.
                let _ = started.send(());
                self.consume(times * messages);
            });
            has_started.recv().expect("it starts");
            Round::of(|| (0..times).map(|_| submit()).sum())
        })
    }

    /// Pushes from `producers` threads while another consumes; measures the pushing.
    pub(crate) fn produce(&self, producers: usize) -> Round {
        let messages = self.next.len() as u64;
        let each = self.next.len() / producers;
        let mut round = thread::scope(|scope| {
            scope.spawn(|| self.consume(messages));
            team::together(producers, |producer| {
                for node in producer * each..(producer + 1) * each {
                    self.push(node as u32);
                }
                0
            })
        });
        // Each producer's messages are numbered from 0, as the peers' are.
        let arrived = self.done.iter().enumerate();
        let arrived = arrived.filter(|(_, done)| done.swap(false, Ordering::Acquire));
        round.sum = arrived.map(|(node, _)| (node % each) as u64).sum();
        round
    }
}
