#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod delay;
mod execute;
mod executor;
mod gate;
mod hold;
mod lifecycle;
#[cfg(all(loom, test))]
mod model;
mod permits;
mod submit;

pub use builder::{DEFAULT_QUEUE, MAX_CONCURRENCY, ParallelBuilder};
pub use delay::Delay;
pub use execute::Execute;
pub use executor::{ParallelExecutor, ParallelMetrics};
pub use executor_core::{
    BuildError, CallChain, Callbacks, Completion, CoreBuilder, CoreMetrics, Decision, Delayed,
    Elapsed, Envelope, ExecuteError, Executor, Failure, Hop, HopKind, Interval, JoinAll,
    MissedTick, MissingService, Panic, PolicyContext, RejectReason, Rejected, Report, Schedule,
    Shutdown, Sleep, StateError, Submission, Tick, Totals, Trail, Uuid, VirtualClock, When,
    WorkerCore, join_all,
};
