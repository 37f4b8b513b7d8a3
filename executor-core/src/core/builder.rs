//! The options of a core.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::runtime::Handle;

use super::leftovers::Leftovers;
use super::shared::{OPEN, Options};
use super::{CoreHandle, CoreShared, DEFAULT_BUDGET, MAX_WORKERS, WorkerCore};
use crate::error::{BuildError, check_range};
use crate::host::{self, Ushers};
use crate::sleep::Sleepers;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, AtomicUsize, Farewell};
use crate::time::clock::{Clock, VirtualClock};
use crate::time::keeper::Keeper;
use crate::time::{DEFAULT_TICK, Timers};
use crate::waiting::Waiting;
use crate::worker::{MAX_BATCH, Worker};

/// How a core is hosted.
pub(super) enum Host {
    Threads { runtime: Option<Handle> },
    Tokio(Handle),
}

/// Builds a [`WorkerCore`].
#[must_use = "a builder does nothing until `build`"]
pub struct CoreBuilder {
    host: Host,
    workers: usize,
    options: Options,
    clock: Clock,
    tick: Duration,
}

impl CoreBuilder {
    pub(super) fn new(host: Host, workers: usize) -> Self {
        let options = Options {
            name: "executor".into(),
            batch: MAX_BATCH,
            budget: DEFAULT_BUDGET,
            patience: match host {
                Host::Threads { .. } => host::patience(),
                // Its workers may wait for the very thread that pushes.
                Host::Tokio(_) => 0,
            },
        };
        Self {
            host,
            workers,
            options,
            clock: Clock::system(),
            tick: DEFAULT_TICK,
        }
    }

    /// The prefix of the threads' names, which end in `-0`, `-1` and so on; without a zero byte,
    /// default `executor`. A tokio runtime names its threads itself: there it is shown by the
    /// core's `Debug` alone.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// How many workers: 1 to [`MAX_WORKERS`], 1,024. Default: what [`WorkerCore::threads`] was
    /// given, or as many as the tokio runtime has.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Lets handlers on own threads use the I/O and time of this runtime; default: none. On a core
    /// that is hosted by a tokio runtime it does nothing: handlers have that runtime.
    pub fn runtime(mut self, handle: Handle) -> Self {
        if let Host::Threads { runtime } = &mut self.host {
            *runtime = Some(handle);
        }
        self
    }

    /// How many tasks or streams a worker takes at once: 1 to [`MAX_BATCH`], 128, which is the
    /// default.
    pub fn batch(mut self, batch: usize) -> Self {
        self.options.batch = batch;
        self
    }

    /// How many messages of one stream, or calls of one lane of callbacks, run in a row while
    /// others wait: 1 to 4,294,967,295, default [`DEFAULT_BUDGET`], 128.
    ///
    /// A stream or lane lets the others come also when it has run for five milliseconds. It looks at
    /// the coarse clock after 1, 2, 4, 8 and each 16 messages; no handler is interrupted for it.
    pub fn budget(mut self, budget: usize) -> Self {
        self.options.budget = budget;
        self
    }

    /// The clock by which timers and deadlines go; default: the system's monotonic clock.
    pub fn clock(mut self, clock: &VirtualClock) -> Self {
        self.clock = Clock::Virtual(clock.clone());
        self
    }

    /// The length of a tick: a microsecond to a second, default [`DEFAULT_TICK`], a millisecond.
    /// Timers fire at the first tick that is not before their time: never early, and up to a tick
    /// late. Those of one tick fire in the order in which they were scheduled.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`BuildError`] names the option that is out of range, or the thread that did not start or
    /// cannot have its name.
    pub fn build(self) -> Result<WorkerCore, BuildError> {
        let workers = check_range("workers", self.workers, 1, MAX_WORKERS)?;
        check_range("batch", self.options.batch, 1, MAX_BATCH)?;
        check_range("budget", self.options.budget, 1, u32::MAX as usize)?;
        let micros = usize::try_from(self.tick.as_micros()).unwrap_or(usize::MAX);
        check_range("tick (in microseconds)", micros, 1, 1_000_000)?;
        if matches!(self.host, Host::Threads { .. }) && self.options.name.contains('\0') {
            // The standard library panics.
            return Err(BuildError::Thread {
                index: 0,
                error: "its name has a zero byte".into(),
            });
        }
        let core = self.unstarted(workers);
        let shared = &core.handle.0;
        match self.host {
            Host::Threads { runtime } => host::start_threads(shared, runtime.as_ref())?,
            Host::Tokio(handle) => host::start_tasks(shared, &handle),
        }
        Ok(core)
    }

    /// A core whose workers are yet to be started.
    fn unstarted(&self, workers: usize) -> WorkerCore {
        let keeper = match (&self.host, &self.clock) {
            (Host::Tokio(handle), Clock::System { .. }) => Some(Keeper::new(handle.clone())),
            _ => None,
        };
        let timers = Timers::new(self.clock.clone(), self.tick, keeper);
        let ushers = match &self.host {
            Host::Tokio(handle) => Ushers::new(handle),
            Host::Threads { .. } => None,
        };
        let shared = Arc::new(CoreShared {
            farewell: Farewell::new(),
            workers: (0..workers)
                .map(|_| CachePadded::new(Worker::new()))
                .collect(),
            sleepers: Sleepers::new(workers),
            waiting: Waiting::new(workers),
            phase: AtomicU8::new(OPEN),
            leftovers: Leftovers::new(),
            running: AtomicUsize::new(workers),
            watchers: Mutex::default(),
            watched: AtomicUsize::new(0),
            executors: Mutex::default(),
            timers,
            ushers,
            options: self.options.clone(),
        });
        shared.timers.attach(&shared);
        WorkerCore {
            handle: Arc::new(CoreHandle(shared)),
        }
    }

    /// A core whose workers a test runs by hand.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn unhosted(self) -> WorkerCore {
        self.unstarted(self.workers)
    }
}

impl fmt::Debug for CoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreBuilder")
            .field("workers", &self.workers)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
