//! A serial executor on virtual time, whose messages are waited for by the system's clock.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use executor_serial::{
    Completion, Delayed, Envelope, Failure, PolicyContext, SerialExecutor, VirtualClock, WorkerCore,
};
use tokio::sync::Semaphore;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Rig {
    pub(crate) clock: VirtualClock,
    pub(crate) core: WorkerCore,
    pub(crate) executor: SerialExecutor<u64>,
}

pub(crate) fn rig(queue: usize) -> Rig {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build();
    let core = core.expect("the threads start");
    let executor = SerialExecutor::builder(&core).queue_per_stream(queue);
    Rig {
        clock,
        executor: executor.build().expect("legal options"),
        core,
    }
}

pub(crate) fn finish<T: Send, M: Send>(delayed: Delayed<T, Infallible, M>) -> Result<T, Failure> {
    wait(delayed.into_completion())
}

pub(crate) fn wait<T: Send, M: Send>(
    completion: Completion<T, Infallible, M>,
) -> Result<T, Failure> {
    completion
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::yield_now();
    }
}

pub(crate) async fn echo(message: Envelope<u64>, _: PolicyContext<()>) -> Result<u64, Infallible> {
    Ok(message.payload)
}

/// A message of stream 1 that runs until the gate has a permit.
pub(crate) fn held(rig: &Rig, gate: &Arc<Semaphore>) -> Completion<(), Infallible, u64> {
    let gate = Arc::clone(gate);
    let held = rig.executor.submit(1, Envelope::new(0), |_, _| async move {
        gate.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || rig.executor.stream(&1).depth() == 0);
    held.expect("room")
}
