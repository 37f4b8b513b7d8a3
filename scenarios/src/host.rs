//! Where the workers of a scenario's core run.

use std::fmt;
use std::thread::{self, JoinHandle};

use executor_core::{CoreBuilder, WorkerCore};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Where the workers of a core run.
#[derive(Debug, Clone)]
pub enum Host {
    /// On so many threads of its own.
    Threads(usize),
    /// On a runtime with so many.
    Tokio(Handle),
}

impl Host {
    /// A core whose workers run here.
    pub fn core(&self) -> CoreBuilder {
        match self {
            Self::Threads(workers) => WorkerCore::threads(*workers),
            Self::Tokio(runtime) => WorkerCore::tokio(runtime),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(workers) => write!(f, "{workers} threads of its own"),
            Self::Tokio(runtime) => {
                let threads = runtime.metrics().num_workers();
                write!(f, "a {:?} runtime of {threads}", runtime.runtime_flavor())
            }
        }
    }
}

/// The runtimes on which cores run, one after the other.
#[derive(Debug)]
pub struct Runtimes {
    many: Runtime,
    one: Handle,
    /// Ends the thread that drives `one`.
    end: Option<oneshot::Sender<()>>,
    driver: Option<JoinHandle<()>>,
}

impl Runtimes {
    /// Starts one with two threads, and one that a thread of its own drives.
    ///
    /// # Panics
    /// When the threads do not start.
    #[must_use]
    pub fn start() -> Self {
        let many = Builder::new_multi_thread().worker_threads(2).build();
        let one = Builder::new_current_thread().build().expect("a runtime");
        let (end, ended) = oneshot::channel();
        Self {
            many: many.expect("a runtime"),
            one: one.handle().clone(),
            end: Some(end),
            driver: Some(thread::spawn(move || {
                // An error: `end` was dropped, which is as good.
                let _either = one.block_on(ended);
            })),
        }
    }

    /// Every kind of host.
    #[must_use]
    pub fn hosts(&self) -> [Host; 4] {
        [
            Host::Threads(1),
            Host::Threads(2),
            Host::Tokio(self.many.handle().clone()),
            Host::Tokio(self.one.clone()),
        ]
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        self.end.take();
        if let Some(driver) = self.driver.take() {
            driver.join().expect("no task's panic leaves its task");
        }
    }
}
