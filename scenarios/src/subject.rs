//! The executor of a scenario.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use executor_core::{
    Completion, Delayed, Rejected, Report, Shutdown, Totals, VirtualClock, WorkerCore,
};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;

use crate::axes::{Entry, Scenario};
use crate::held::Held;
use crate::script::Stage;
use crate::tracked::{Ledger, Tracked};
use crate::waiting::DEADLINE;

/// The stream of all messages.
const KEY: u64 = 7;
/// How long a delayed message is delayed.
pub(crate) const DELAY: Duration = Duration::from_secs(1);

/// An executor that runs one handler at a time.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Serial(SerialExecutor<u64, Tracked>),
    Parallel(ParallelExecutor),
}

pub(crate) type Outcome = Completion<Tracked, Tracked, Tracked>;
pub(crate) type Later = Delayed<Tracked, Tracked, Tracked>;
pub(crate) type Refused = Rejected<executor_core::Envelope<Tracked>>;
type Ending = Pin<Box<dyn Future<Output = Report> + Send>>;

impl Subject {
    pub(crate) fn new(core: &WorkerCore, scenario: &Scenario, ledger: &Ledger) -> Self {
        if scenario.entry.is_serial() {
            let ledger = ledger.clone();
            let serial = SerialExecutor::<u64>::builder(core).state(move |_| ledger.value(false));
            let serial = if scenario.path.is_in_line() {
                serial.queue_per_stream(1)
            } else {
                serial
            };
            Self::Serial(serial.build().expect("legal options"))
        } else {
            let parallel = ParallelExecutor::builder(core).max_concurrency(1);
            Self::Parallel(parallel.build().expect("legal options"))
        }
    }

    pub(crate) fn submit(&self, stage: &Arc<Stage>) -> Result<Outcome, Refused> {
        match self {
            Self::Serial(serial) => serial.try_submit(KEY, stage.message(), stage.handler()),
            Self::Parallel(parallel) => parallel.try_submit(stage.message(), stage.handler()),
        }
    }

    /// Brings the message in by a submission.
    pub(crate) fn admit(&self, entry: Entry, stage: &Arc<Stage>) -> Held<'static> {
        match (entry, self) {
            (Entry::Batch, Self::Serial(serial)) => {
                let mut batch = serial.submit_batch(KEY, [stage.message()], stage.handler());
                assert!(batch.refused.is_none(), "there is room");
                Held::Completion(batch.accepted.pop().expect("one was accepted"))
            }
            _ => Held::Completion(self.submit(stage).expect("there is room")),
        }
    }

    /// Schedules the message, [`DELAY`] from now.
    pub(crate) fn delay(&self, clock: &VirtualClock, stage: &Arc<Stage>) -> Result<Later, Refused> {
        match self {
            Self::Serial(serial) => {
                serial.submit_after(KEY, DELAY, stage.message(), stage.handler())
            }
            Self::Parallel(parallel) => {
                parallel.submit_at(clock.now() + DELAY, stage.message(), stage.handler())
            }
        }
    }

    /// Brings the message in by an execution.
    pub(crate) fn execute(&self, stage: &Arc<Stage>) -> Held<'_> {
        match self {
            Self::Serial(serial) => {
                Held::execution(serial.execute(KEY, stage.message(), stage.handler()))
            }
            Self::Parallel(parallel) => {
                Held::execution(parallel.execute(stage.message(), stage.handler()))
            }
        }
    }

    pub(crate) fn drain(&self) -> Ending {
        let this = self.clone();
        Box::pin(async move {
            match this {
                Self::Serial(serial) => serial.drain(DEADLINE).await,
                Self::Parallel(parallel) => parallel.drain(DEADLINE).await,
            }
        })
    }

    pub(crate) fn shutdown(&self, mode: Shutdown) -> Ending {
        let this = self.clone();
        Box::pin(async move {
            match this {
                Self::Serial(serial) => serial.shutdown(mode, DEADLINE).await,
                Self::Parallel(parallel) => parallel.shutdown(mode, DEADLINE).await,
            }
        })
    }

    pub(crate) fn evict_idle(&self) -> usize {
        match self {
            Self::Serial(serial) => serial.evict_idle(),
            Self::Parallel(_) => 0,
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        match self {
            Self::Serial(serial) => serial.metrics().totals,
            Self::Parallel(parallel) => parallel.metrics().totals,
        }
    }

    /// Whether nothing is held back: no stream busy, the permit free.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Serial(serial) => {
                let metrics = serial.metrics();
                metrics.busy == 0 && metrics.depth == 0
            }
            Self::Parallel(parallel) => {
                let metrics = parallel.metrics();
                parallel.available_permits() == 1 && metrics.waiting == 0
            }
        }
    }
}
