//! What the handlers report: how many events were handled, how long each took, and which were wrong.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::aggregate::{FileChanged, Violation};

const SHARDS: usize = 16;
/// Violations that are kept to be shown; the others are counted.
const KEPT: usize = 10;
/// Longer latencies, in nanoseconds, are recorded as this one.
const LONGEST: u64 = 600 * 1_000_000_000;

/// Counters that every handler writes and the report reads.
///
/// A thread writes to its own shard, so that counting does not make the threads wait for each other.
#[derive(Debug)]
pub(crate) struct Tally {
    shards: [Shard; SHARDS],
    violations: Mutex<Violations>,
}

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    handled: AtomicU64,
    /// Events that were the first of their path.
    paths: AtomicU64,
    nanoseconds: Mutex<Histogram<u64>>,
}

/// Every wrong event by number, the first ones in full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Violations {
    pub(crate) count: u64,
    pub(crate) first: Vec<Violation>,
}

impl Tally {
    /// Made once for a run, and never freed: handlers refer to it without counting references.
    pub(crate) fn leak() -> &'static Self {
        let shards = std::array::from_fn(|_| Shard {
            handled: AtomicU64::new(0),
            paths: AtomicU64::new(0),
            nanoseconds: Mutex::new(latencies()),
        });
        Box::leak(Box::new(Self {
            shards,
            violations: Mutex::default(),
        }))
    }

    /// Counts an event that has now been handled, rightly or not.
    pub(crate) fn record(&self, event: &FileChanged, verdict: &Result<(), Box<Violation>>) {
        let shard = &self.shards[shard_of_this_thread()];
        let nanoseconds = u64::try_from(event.submitted.elapsed().as_nanos()).unwrap_or(LONGEST);
        lock(&shard.nanoseconds).saturating_record(nanoseconds);
        shard.handled.fetch_add(1, Ordering::Relaxed);
        if event.sequence == 0 {
            shard.paths.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(violation) = verdict {
            self.record_violation(violation);
        }
    }

    /// How many events were handled so far.
    pub(crate) fn handled(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.handled.load(Ordering::Relaxed))
            .sum()
    }

    /// On how many paths events were handled so far.
    pub(crate) fn paths(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.paths.load(Ordering::Relaxed))
            .sum()
    }

    /// The violations so far.
    pub(crate) fn violations(&self) -> Violations {
        lock(&self.violations).clone()
    }

    /// How long the events took that were handled so far.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = latencies();
        for shard in &self.shards {
            // Histograms of the same bounds can always be added.
            let _ = all.add(&*lock(&shard.nanoseconds));
        }
        Latencies {
            p50: Duration::from_nanos(all.value_at_quantile(0.5)),
            p99: Duration::from_nanos(all.value_at_quantile(0.99)),
            longest: Duration::from_nanos(all.max()),
        }
    }

    #[cold]
    fn record_violation(&self, violation: &Violation) {
        let mut violations = lock(&self.violations);
        violations.count += 1;
        if violations.first.len() < KEPT {
            violations.first.push(violation.clone());
        }
    }
}

/// From submission to handled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latencies {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) longest: Duration,
}

/// An empty histogram with all its memory, so that recording never allocates.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds and the precision are valid")
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SHARD.get().unwrap_or_else(|| {
        let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(shard));
        shard
    })
}

/// Counters stay right whatever a panicking thread left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
