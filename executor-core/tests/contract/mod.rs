//! What every executor does, on every host: included by the tests of each executor, which supply a
//! `crate::subject::Subject`.

mod cancelling;
mod ending;
#[path = "../it/eventually.rs"]
pub(crate) mod eventually;
mod outcomes;
mod policy;
mod shutting;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use executor_core::{BuildError, Executor, WorkerCore};
use tokio::sync::Semaphore;

pub(crate) use eventually::DEADLINE;

/// An executor under test.
pub(crate) trait Kind {
    /// The executor.
    type Executor: Executor<Key = Self::Key, State = Self::State> + Clone + Debug + 'static;
    /// What its contexts reach.
    type State: Send + 'static;
    /// Its key.
    type Key: Default + Clone + Send + Sync + 'static;

    /// An executor with room for everything, whose name is `name`.
    fn build(core: &WorkerCore, name: &str) -> Result<Self::Executor, BuildError>;
    /// The same, on a core that is open.
    fn wide(core: &WorkerCore, name: &str) -> Self::Executor {
        Self::build(core, name).expect("legal options")
    }
    /// An executor that runs one message of a key at a time and queues `queue` more.
    fn narrow(core: &WorkerCore, queue: usize) -> Self::Executor;
    /// An executor that lends a service to its handlers.
    fn lending<T: Send + Sync + 'static>(core: &WorkerCore, service: T) -> Self::Executor;
    /// What building says when each option is 0, with the option's name.
    fn zeros(core: &WorkerCore) -> Vec<(&'static str, Option<BuildError>)>;
    /// Whether nothing is held back: all permits free, no stream busy.
    fn is_whole(executor: &Self::Executor) -> bool;
}

/// Where the workers run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Host {
    /// On two threads of the core's own.
    Threads,
    /// On a tokio runtime of two threads.
    TokioMany,
    /// On a tokio runtime that only the test's own thread drives.
    TokioOne,
}

/// Runs a case on a host, under the deadline.
pub(crate) fn run<F: Future<Output = ()>>(host: Host, case: impl FnOnce(WorkerCore) -> F) {
    let runtime = match host {
        Host::TokioMany => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build(),
        Host::Threads | Host::TokioOne => tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build(),
    };
    let runtime = runtime.expect("a runtime");
    let core = match host {
        Host::Threads => WorkerCore::threads(2),
        Host::TokioMany | Host::TokioOne => WorkerCore::tokio(runtime.handle()),
    };
    let core = core.build().expect("legal options");
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, case(core))
            .await
            .expect("the case ends in time")
    });
}

/// What handlers wait at, or count with.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets everybody pass from now on.
    pub(crate) fn open(&self) {
        self.0.add_permits(1 << 20);
    }

    /// Lets one pass.
    pub(crate) fn one(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }

    #[allow(dead_code, reason = "not every executor that includes this needs it")]
    pub(crate) async fn pass_times(&self, times: u32) {
        self.0
            .acquire_many(times)
            .await
            .expect("never closed")
            .forget();
    }

    /// How often `one` was called and nobody passed.
    pub(crate) fn count(&self) -> usize {
        self.0.available_permits()
    }
}

/// Polls once and says whether it is pending.
pub(crate) async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

macro_rules! on_every_host {
    ($($case:ident),* $(,)?) => {
        mod threads {
            $(#[test] fn $case() { super::super::run(super::super::Host::Threads, super::$case::<crate::subject::Subject>); })*
        }
        mod tokio_many {
            $(#[test] fn $case() { super::super::run(super::super::Host::TokioMany, super::$case::<crate::subject::Subject>); })*
        }
        mod tokio_one {
            $(#[test] fn $case() { super::super::run(super::super::Host::TokioOne, super::$case::<crate::subject::Subject>); })*
        }
    };
}
pub(crate) use on_every_host;
