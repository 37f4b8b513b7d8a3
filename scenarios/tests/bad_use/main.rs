//! Uses that nobody should make: each has a result that is defined, within a bound.

#[expect(unsafe_code, reason = "it lives with the tests of the core")]
#[path = "../../../executor-core/tests/awkward/mod.rs"]
mod awkward;
mod durations;
mod handlers;
mod options;
mod threads;
mod values;
mod wakers;

use std::convert::Infallible;

use executor_core::{Envelope, Shutdown, WorkerCore};
use executor_scenarios::{DEADLINE, block_on};
use executor_serial::SerialExecutor;

async fn echo<S>(
    message: Envelope<u64>,
    _: executor_core::PolicyContext<S>,
) -> Result<u64, Infallible> {
    Ok(message.payload)
}

fn core(workers: usize) -> WorkerCore {
    WorkerCore::threads(workers).build().expect("threads start")
}

fn serial(core: &WorkerCore) -> SerialExecutor<u64> {
    SerialExecutor::builder(core).build().expect("legal")
}

/// The value of an outcome that came in time.
fn value<E, C>(outcome: Result<Result<u64, E>, C>) -> u64 {
    let Ok(Ok(value)) = outcome else {
        panic!("no value in time");
    };
    value
}

/// Whether a core still works, and ends.
fn check(core: &WorkerCore) {
    let executor = serial(core);
    assert_eq!(
        block_on(executor.execute(1, Envelope::new(5), echo)).expect("handled"),
        5
    );
    let submitted = executor.submit(1, Envelope::new(6), echo).expect("open");
    assert_eq!(
        submitted
            .wait_timeout(DEADLINE)
            .expect("in time")
            .expect("handled"),
        6
    );
    let report = block_on(core.shutdown(Shutdown::Drain, DEADLINE));
    assert!(report.is_complete(), "{report:?}");
}
