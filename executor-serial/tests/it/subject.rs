//! The serial executor as a subject of the contract.

use executor_core::{BuildError, WorkerCore};
use executor_serial::SerialExecutor;

use crate::contract::Kind;
use crate::contract::eventually::eventually;

pub(crate) struct Subject;

impl Kind for Subject {
    type Executor = SerialExecutor<u64>;
    type State = ();
    type Key = u64;

    fn build(core: &WorkerCore, name: &str) -> Result<SerialExecutor<u64>, BuildError> {
        SerialExecutor::builder(core).name(name).build()
    }

    fn narrow(core: &WorkerCore, queue: usize) -> SerialExecutor<u64> {
        SerialExecutor::builder(core)
            .queue_per_stream(queue)
            .build()
            .expect("legal options")
    }

    fn lending<T: Send + Sync + 'static>(core: &WorkerCore, service: T) -> SerialExecutor<u64> {
        SerialExecutor::builder(core)
            .service(service)
            .build()
            .expect("legal options")
    }

    fn zeros(core: &WorkerCore) -> Vec<(&'static str, Option<BuildError>)> {
        let builder = || SerialExecutor::<u64>::builder(core);
        vec![
            (
                "queue_per_stream",
                builder().queue_per_stream(0).build().err(),
            ),
            ("queue_total", builder().queue_total(0).build().err()),
            (
                "resident_streams",
                builder().resident_streams(0).build().err(),
            ),
        ]
    }

    fn is_whole(executor: &SerialExecutor<u64>) -> bool {
        // A stream is let go just after its last message is over.
        eventually("no stream is busy", || {
            let metrics = executor.metrics();
            metrics.busy == 0 && metrics.depth == 0
        });
        true
    }
}
