//! Events through the parallel executor: many at once, in any order.
//!
//! A mutex for each path keeps two events from changing a state at the same time. It does not keep them in order, and a
//! history needs its order; so this is the drive that must fail, and the check the one that must find it out.
//!
//! An event that is handled faster than the next one comes is in order by luck. So every second event of a path waits
//! until the one after it has been handled, as it may for many reasons where there is no order.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use executor_core::WorkerCore;
use executor_parallel::ParallelExecutor;

use crate::aggregate::FileChanged;
use crate::drive::{Disagreed, Drive, Finished, end, settle};
use crate::error::ReplayError;
use crate::mutex::{SharedStates, collect_states, handle};
use crate::producer::Causes;
use crate::tally::Tally;

/// How many events are handled at a time: many, so that two of one path are, though others lie between them.
const AT_ONCE: usize = 4_096;
/// How long an event waits for the one after it, of which it does not know whether there is one.
const PATIENCE: Duration = Duration::from_millis(100);

/// Handles events on all workers, whichever comes first.
#[derive(Debug)]
pub(crate) struct ParallelDrive {
    executor: ParallelExecutor,
    states: Arc<SharedStates>,
    tally: &'static Tally,
}

impl ParallelDrive {
    pub(crate) fn new(core: &WorkerCore, tally: &'static Tally) -> Result<Self, ReplayError> {
        let executor = ParallelExecutor::builder(core)
            .name("files")
            .max_concurrency(AT_ONCE)
            .build()?;
        Ok(Self {
            executor,
            states: Arc::default(),
            tally,
        })
    }
}

/// Waits at every second event of a path until the one after it has been handled, or does not come.
async fn let_the_next_pass(states: &SharedStates, event: &FileChanged) {
    if event.sequence % 2 == 1 {
        return;
    }
    let began = Instant::now();
    let has_passed = || {
        states.get(&event.path).is_some_and(|state| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.next() > event.sequence
        })
    };
    while !has_passed() && began.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
}

impl Drive for ParallelDrive {
    type Lane = Causes;

    fn lane(&self) -> Causes {
        Causes::default()
    }

    fn submit(&self, causes: &mut Causes, event: FileChanged) -> Result<(), ReplayError> {
        let (states, tally) = (Arc::clone(&self.states), self.tally);
        let handled = self
            .executor
            .submit(causes.envelope(event), move |envelope, _| async move {
                let_the_next_pass(&states, &envelope.payload).await;
                let verdict = handle(&states, &envelope);
                tally.record(&envelope.payload, &verdict);
                verdict.map_err(|_| Disagreed)
            });
        // The verdict is in the tally, so nobody needs to wait for it here.
        handled.map(drop).map_err(|rejected| ReplayError::Refused {
            path: rejected.work.payload.path,
            commit: rejected.work.payload.commit,
            reason: rejected.reason,
        })
    }

    fn settle(&self) -> Result<(), ReplayError> {
        settle(&self.executor)
    }

    fn finish(self, _: Vec<Causes>) -> Result<Finished, ReplayError> {
        let totals = end(&self.executor)?;
        Ok(Finished {
            states: collect_states(&self.states),
            waited: Some(totals.waited),
        })
    }
}
