//! What is sent, what handles it, and what is counted.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use crossbeam_queue::ArrayQueue;
use executor_benches::yield_once;
use executor_core::{Completion, Envelope, PolicyContext};

/// The limit of the parallel executor.
pub(crate) const LIMIT: u64 = 3;

/// Counters that order nothing.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the producers know of one executor.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) admitted: Count,
    /// Executions dropped before their end: whether they were admitted is not known.
    pub(crate) dropped: Count,
    pub(crate) refused: Count,
    pub(crate) cancelled: Count,
    pub(crate) started: Count,
    pub(crate) values: Count,
}

/// What all threads of a round share.
pub(crate) struct Round {
    pub(crate) serial: Ledger,
    pub(crate) evicting: Ledger,
    pub(crate) parallel: Ledger,
    pub(crate) spawned: Ledger,
    /// Payloads made and dropped.
    pub(crate) made: Count,
    pub(crate) gone: Count,
    /// What the states had counted when they were dropped.
    pub(crate) counted: Count,
    /// What the states had counted after a wait, or from another thread.
    pub(crate) counted_late: Count,
    pub(crate) late: Count,
    pub(crate) reordered: Count,
    pub(crate) live: AtomicU64,
    pub(crate) over_limit: Count,
    pub(crate) kicks: ArrayQueue<Kick>,
    pub(crate) stop: AtomicBool,
    pub(crate) stop_kicker: AtomicBool,
}

/// What another thread does for a handler.
pub(crate) enum Kick {
    Wake(Waker),
    /// Uses the state, and gives the stream back.
    Finish(PolicyContext<Tally>),
}

/// A stream's state: plain integers.
pub(crate) struct Tally {
    pub(crate) round: &'static Round,
    pub(crate) count: u64,
    pub(crate) late: u64,
    pub(crate) last: Vec<u64>,
}

impl Tally {
    pub(crate) fn new(round: &'static Round, producers: usize) -> Self {
        Self {
            round,
            count: 0,
            late: 0,
            last: vec![0; producers],
        }
    }

    pub(crate) fn note(&mut self, producer: usize, sequence: u64) {
        self.count += 1;
        if self.last[producer] >= sequence {
            self.round.reordered.add(1);
        }
        self.last[producer] = sequence;
    }

    pub(crate) fn note_late(&mut self) {
        self.late += 1;
        self.round.late.add(1);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.round.counted.add(self.count);
        self.round.counted_late.add(self.late);
    }
}

/// A payload that is counted when it is made and when it is dropped.
pub(crate) struct Token {
    pub(crate) round: &'static Round,
    pub(crate) producer: usize,
    /// One more than the producer's token before.
    pub(crate) sequence: u64,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.round.gone.add(1);
    }
}

/// One of the handlers under the parallel limit.
pub(crate) struct Live(pub(crate) &'static Round);

impl Live {
    pub(crate) fn new(round: &'static Round) -> Self {
        if round.live.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            round.over_limit.add(1);
        }
        Self(round)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a handler does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Return,
    Fail,
    Panic,
    Yield,
    /// Waits for another thread to wake it.
    Park,
    /// Leaves its context to another thread.
    Stray,
}

pub(crate) type Outcome = Completion<u64, &'static str, Token>;

/// Waits until another thread has woken it.
pub(crate) async fn parked(round: &'static Round) {
    let mut kicked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut kicked, true) {
            return Poll::Ready(());
        }
        kick(round, Kick::Wake(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

pub(crate) fn kick(round: &Round, kick: Kick) {
    if let Err(kick) = round.kicks.push(kick) {
        kick.perform();
    }
}

impl Kick {
    pub(crate) fn perform(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Finish(mut context) => context.state().note_late(),
        }
    }
}

pub(crate) async fn in_stream(
    message: Envelope<Token>,
    mut context: PolicyContext<Tally>,
    ledger: &'static Ledger,
    deed: Deed,
) -> Result<u64, &'static str> {
    ledger.started.add(1);
    let token = &message.payload;
    context.state().note(token.producer, token.sequence);
    match deed {
        Deed::Return => {}
        Deed::Fail => return Err("as it was told"),
        Deed::Panic => resume_unwind(Box::new("as it was told")),
        Deed::Yield => {
            yield_once().await;
            context.state().note_late();
        }
        Deed::Park => {
            parked(token.round).await;
            context.state().note_late();
        }
        Deed::Stray => kick(token.round, Kick::Finish(context)),
    }
    Ok(1)
}

pub(crate) async fn under_limit(
    message: Envelope<Token>,
    _: PolicyContext,
    deed: Deed,
) -> Result<u64, &'static str> {
    let round = message.payload.round;
    let _live = Live::new(round);
    round.parallel.started.add(1);
    match deed {
        Deed::Return | Deed::Stray => {}
        Deed::Fail => return Err("as it was told"),
        Deed::Panic => resume_unwind(Box::new("as it was told")),
        Deed::Yield => yield_once().await,
        Deed::Park => parked(round).await,
    }
    Ok(1)
}
