//! The parallel executor as a subject of the contract.

use executor_core::{BuildError, WorkerCore};
use executor_parallel::ParallelExecutor;

use crate::contract::Kind;

pub(crate) struct Subject;

impl Kind for Subject {
    type Executor = ParallelExecutor;
    type State = ();
    type Key = ();

    fn build(core: &WorkerCore, name: &str) -> Result<ParallelExecutor, BuildError> {
        ParallelExecutor::builder(core)
            .max_concurrency(8)
            .name(name)
            .build()
    }

    fn narrow(core: &WorkerCore, queue: usize) -> ParallelExecutor {
        ParallelExecutor::builder(core)
            .max_concurrency(1)
            .queue(queue)
            .build()
            .expect("legal options")
    }

    fn lending<T: Send + Sync + 'static>(core: &WorkerCore, service: T) -> ParallelExecutor {
        ParallelExecutor::builder(core)
            .service(service)
            .build()
            .expect("legal options")
    }

    fn zeros(core: &WorkerCore) -> Vec<(&'static str, Option<BuildError>)> {
        let builder = || ParallelExecutor::builder(core);
        vec![
            (
                "max_concurrency",
                builder().max_concurrency(0).build().err(),
            ),
            ("queue", builder().queue(0).build().err()),
        ]
    }

    fn is_whole(executor: &ParallelExecutor) -> bool {
        let metrics = executor.metrics();
        executor.available_permits() == metrics.limit
            && metrics.waiting == 0
            && metrics.running == 0
    }
}
