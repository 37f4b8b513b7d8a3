//! Where the caller of our side is: on a worker, as the peers' callers are, or on a plain thread.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_benches::block_on;
use executor_core::{Completion, Envelope, WorkerCore};
use executor_serial::Stream;

/// Completions in a vector that keeps its room, which belongs to the caller and not to a message.
pub(crate) type Kept<M> = Vec<Completion<u64, Infallible, M>>;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller<'a> {
    /// A task of the core.
    Worker(&'a WorkerCore),
    /// The thread of the report.
    Thread,
}

impl Caller<'_> {
    pub(crate) fn run<T: Send + 'static>(
        self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self {
            Self::Worker(core) => {
                let task = core.spawn(work).expect("the core is open");
                task.wait().expect("the task does not panic")
            }
            Self::Thread => block_on(work),
        }
    }
}

/// A handler that gives the payload back.
///
/// A macro, so that it is another one wherever it stands, as a program has one for each kind of message:
/// one that many cases share is put into none of them.
macro_rules! answer {
    () => {
        |message: executor_core::Envelope<u64>, _| async move {
            Ok::<u64, std::convert::Infallible>(message.payload)
        }
    };
}
pub(crate) use answer;

/// Sums the result of one execution for each message.
///
/// A macro, so that every case has the loop in its own code, as a program with one such place has,
/// rather than in a function whose inlining depends on how many cases share it.
macro_rules! execute_each {
    ($messages:expr, |$message:ident| $execution:expr) => {
        async {
            let mut sum = 0;
            for $message in 0..$messages {
                sum += $execution.await.expect("it is handled");
            }
            sum
        }
    };
}
pub(crate) use execute_each;

/// Awaits all; the sum of the results.
pub(crate) async fn await_all<M>(kept: &mut Kept<M>) -> u64 {
    let mut sum = 0;
    for completion in kept.drain(..) {
        sum += completion.await.expect("it is handled");
    }
    sum
}

/// Submits `messages`, and then awaits all; the sum of the results.
pub(crate) async fn submit_all(stream: &Stream<u64>, kept: &mut Kept<u64>, messages: u64) -> u64 {
    let submit = |message| stream.submit(Envelope::new(message), answer!());
    kept.extend((0..messages).map(|message| submit(message).expect("there is room")));
    await_all(kept).await
}

/// Spawns a closure that gives its number back.
pub(crate) fn spawn_fn(core: &WorkerCore, task: u64) -> Completion<u64> {
    let spawned = core.spawn_fn(move || black_box(task));
    spawned.expect("the core is open")
}

/// Spawns a future that gives its number back.
pub(crate) fn spawn_future(core: &WorkerCore, task: u64) -> Completion<u64> {
    let spawned = core.spawn(async move { black_box(task) });
    spawned.expect("the core is open")
}

/// Spawns `tasks`, and then awaits all; the sum of the results.
pub(crate) async fn spawn_all(
    core: &WorkerCore,
    kept: &mut Kept<()>,
    tasks: u64,
    spawn: impl Fn(&WorkerCore, u64) -> Completion<u64>,
) -> u64 {
    kept.extend((0..tasks).map(|task| spawn(core, task)));
    await_all(kept).await
}

/// Submits a message whose handler works and submits the next one, while the stream is to be hot.
pub(crate) fn heat<S: Send + 'static>(
    stream: &Stream<u64, S>,
    hot: &Arc<AtomicBool>,
    work: impl Fn() + Copy + Send + 'static,
) {
    let (next, still) = (stream.clone(), Arc::clone(hot));
    let handler = move |_: Envelope<()>, _| async move {
        work();
        if still.load(Ordering::Relaxed) {
            heat(&next, &still, work);
        }
        Ok::<_, Infallible>(())
    };
    let submitted = stream.submit_detached(Envelope::new(()), handler);
    submitted.expect("there is room");
}
