//! What every executor does.

use std::future::Future;
use std::time::Duration;

use crate::completion::Completion;
use crate::context::PolicyContext;
use crate::envelope::Envelope;
use crate::error::{ExecuteError, Rejected};
use crate::lifecycle::{Report, Shutdown};
use crate::metrics::Totals;

/// What a submission gives: a completion, or the envelope with the reason.
pub type Submission<T, E, M> = Result<Completion<T, E, M>, Rejected<Envelope<M>>>;

/// An executor of messages.
///
/// # Obligations
/// An implementation keeps these for every message it admits:
/// - it starts at most once, and has exactly one outcome, also under panic, shutdown and drop;
/// - the completion is ready only after the handler's future was dropped;
/// - dropping a completion or a polled future of a *submitted* message changes nothing for it;
/// - a panic ends its own message alone;
/// - a message that is not admitted comes back with the reason;
/// - `execute` is lazy: nothing happens before its first poll.
pub trait Executor: Send + Sync {
    /// What chooses a message's stream; `()` where there are none.
    type Key: Clone + Send + Sync;
    /// What a stream keeps between messages; `()` where there are none.
    type State: Send + 'static;

    /// The name that the builder was given.
    fn name(&self) -> &str;

    /// Admits a message at the first poll and waits for its outcome.
    ///
    /// Inside a handler of the same executor it may wait for itself, and not everything of the kind
    /// is found: see the executor's own `execute`, also for what dropping the future does.
    fn execute<M, H, F, T, E>(
        &self,
        key: Self::Key,
        envelope: Envelope<M>,
        handler: H,
    ) -> impl Future<Output = Result<T, ExecuteError<M, E>>> + Send
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<Self::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static;

    /// Admits a message now, without waiting, to run on the workers.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    fn try_submit<M, H, F, T, E>(
        &self,
        key: Self::Key,
        envelope: Envelope<M>,
        handler: H,
    ) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<Self::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static;

    /// Waits until what was admitted before, and what its handlers admitted, is handled.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and everything goes on as
    /// before.
    fn drain(&self, deadline: Duration) -> impl Future<Output = Report> + Send;

    /// Refuses new messages, and ends what was admitted as `mode` says.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and the shutdown goes on.
    fn shutdown(&self, mode: Shutdown, deadline: Duration) -> impl Future<Output = Report> + Send;

    /// How many messages ended how so far.
    fn totals(&self) -> Totals;
}
