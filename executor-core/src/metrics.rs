//! Counts, kept where nobody shares a line for each message.

use crossbeam_utils::CachePadded;

use crate::error::Failure;
use crate::sync::{AtomicU64, Ordering};
use crate::thread_id;

/// How an admitted message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value,
    Failed,
    Panicked,
    Cancelled,
    Expired,
    Aborted,
}

impl Outcome {
    #[inline]
    pub(crate) fn of<T, E>(output: &Result<T, Failure<E>>) -> Self {
        match output {
            Ok(_) => Self::Value,
            Err(failure) => Self::of_failure(failure),
        }
    }

    #[inline]
    pub(crate) fn of_value<T, E>(value: &Result<T, E>) -> Self {
        if value.is_ok() {
            Self::Value
        } else {
            Self::Failed
        }
    }

    #[cold]
    pub(crate) fn of_failure<E>(failure: &Failure<E>) -> Self {
        match failure {
            Failure::Handler(_) | Failure::State(_) => Self::Failed,
            Failure::Panicked(_) => Self::Panicked,
            Failure::Cancelled => Self::Cancelled,
            Failure::Expired => Self::Expired,
            Failure::Aborted => Self::Aborted,
        }
    }
}

/// How many messages ended how, since the executor was built. Tasks and callbacks are no messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Handlers that returned `Ok`.
    pub handled: u64,
    /// Handlers that returned `Err`, and state factories that failed.
    pub failed: u64,
    /// Handlers and state factories that panicked.
    pub panicked: u64,
    /// Messages cancelled before they started, and structured executions dropped before their end.
    pub cancelled: u64,
    /// Messages whose deadline passed before they started.
    pub expired: u64,
    /// Messages that a shutdown in abort mode ended, delayed ones that any shutdown or the drop of
    /// the last handle ended, and what a runtime that was dropped has left.
    pub aborted: u64,
    /// Messages that were not admitted.
    pub refused: u64,
    /// Submissions that had to wait for room or a permit.
    pub waited: u64,
}

impl Totals {
    /// Messages with an outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.handled + self.failed + self.panicked + self.cancelled + self.expired + self.aborted
    }
}

const SHARDS: usize = 8;
const KINDS: usize = 8;

/// Counters, one line for every few threads.
pub(crate) struct Counters {
    shards: Box<[CachePadded<[AtomicU64; KINDS]>]>,
}

/// What is counted beside outcomes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Refused = 6,
    Waited = 7,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let shard = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        self.add(outcome as usize, 1);
    }

    pub(crate) fn note(&self, event: Event) {
        self.add(event as usize, 1);
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add_handled(&self, handled: u64) {
        self.add(Outcome::Value as usize, handled);
    }

    fn add(&self, kind: usize, by: u64) {
        self.shards[thread_id::current() % SHARDS][kind].fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let sum = |kind: usize| {
            self.shards
                .iter()
                .map(|shard| shard[kind].load(Ordering::Relaxed))
                .sum()
        };
        Totals {
            handled: sum(Outcome::Value as usize),
            failed: sum(Outcome::Failed as usize),
            panicked: sum(Outcome::Panicked as usize),
            cancelled: sum(Outcome::Cancelled as usize),
            expired: sum(Outcome::Expired as usize),
            aborted: sum(Outcome::Aborted as usize),
            refused: sum(Event::Refused as usize),
            waited: sum(Event::Waited as usize),
        }
    }
}

/// Counters for an executor outside this crate.
pub struct Counts(Counters);

impl Default for Counts {
    fn default() -> Self {
        Self(Counters::new())
    }
}

impl Counts {
    /// Counts how a message ended.
    pub fn ended(&self, ended: crate::task::Ended) {
        self.0.count(ended.0);
    }

    /// Counts messages that were handled.
    pub fn handled(&self, messages: u64) {
        self.0.add_handled(messages);
    }

    /// Counts a refusal.
    pub fn refused(&self) {
        self.0.note(Event::Refused);
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.0.totals()
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.totals().fmt(f)
    }
}
