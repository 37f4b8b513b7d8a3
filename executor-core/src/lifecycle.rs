//! The ways an executor ends, and what it reports.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::metrics::Totals;

/// What a shutdown does with accepted work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything accepted is handled; what is delayed is not accepted yet, and ends as aborted.
    Drain,
    /// What has not started never runs, what waits is dropped; both end as aborted, as does what is
    /// delayed.
    Abort,
}

/// What happened between the call of a drain or shutdown and its return.
///
/// It counts messages, of the executor or, for a shutdown of a core, of all its executors. Tasks
/// and callbacks are not counted, but in `still_running`; the report of
/// [`WorkerCore::drain`](crate::WorkerCore::drain) has nothing but that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "the report says whether anything is left"]
#[non_exhaustive]
pub struct Report {
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
    /// Messages that ended as aborted; see [`Totals::aborted`].
    pub aborted: u64,
    /// Messages that were not admitted.
    pub refused: u64,
    /// What was not finished when the caller was told: busy streams, messages that have a permit or
    /// wait for one, busy lanes of callbacks, and tasks that wait. 0: nothing that was waited for
    /// is left. More is an estimate, in which a message may count twice.
    pub still_running: u64,
}

impl Report {
    /// What has changed between two readings.
    pub fn between(before: Totals, after: Totals, still_running: u64) -> Self {
        Self {
            handled: after.handled - before.handled,
            failed: after.failed - before.failed,
            panicked: after.panicked - before.panicked,
            cancelled: after.cancelled - before.cancelled,
            expired: after.expired - before.expired,
            aborted: after.aborted - before.aborted,
            refused: after.refused - before.refused,
            still_running,
        }
    }

    /// Whether nothing was left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.still_running == 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.handled += other.handled;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.aborted += other.aborted;
        self.refused += other.refused;
        self.still_running += other.still_running;
    }
}

/// What a core needs of its executors to shut them down.
pub trait Lifecycle: Send + Sync {
    /// Shuts the executor down.
    fn close(
        &self,
        mode: Shutdown,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;
    /// Waits until everything admitted before, and everything its handlers admit, is handled; says how
    /// much is left when `deadline` is over first, or when a handler asks.
    fn settle(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>>;
    /// Refuses new messages from now on and, in abort mode, makes what is accepted end as aborted;
    /// waits for nothing.
    fn refuse(&self, mode: Shutdown);
    /// Whether nothing of it runs, waits or is queued.
    fn is_idle(&self) -> bool;
}
