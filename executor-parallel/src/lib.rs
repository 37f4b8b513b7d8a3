#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod execute;
mod executor;
mod gate;
#[cfg(all(loom, test))]
mod model;
mod permits;

pub use builder::{DEFAULT_QUEUE, MAX_CONCURRENCY, ParallelBuilder};
pub use execute::Execute;
pub use executor::{ParallelExecutor, ParallelMetrics};
pub use executor_core::{
    BuildError, Completion, CoreBuilder, CoreMetrics, Decision, Envelope, ExecuteError, Executor,
    Failure, Hop, HopKind, JoinAll, MissingService, Panic, PolicyContext, RejectReason, Rejected,
    Report, Shutdown, Submission, Totals, Trail, WorkerCore, join_all,
};
