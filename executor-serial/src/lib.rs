#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod execute;
mod executor;
mod orphans;
mod registry;
mod stream;

pub use builder::{DEFAULT_QUEUE_PER_STREAM, DEFAULT_RESIDENT_STREAMS, SerialBuilder};
pub use executor::SerialExecutor;
pub use executor_core::{
    Batch, BuildError, CallChain, Completion, CoreBuilder, CoreMetrics, Decision, Envelope,
    ExecuteError, Executor, Failure, Hop, HopKind, JoinAll, MissingService, Panic, PolicyContext,
    RejectReason, Rejected, Report, Shutdown, Submission, Totals, Trail, WorkerCore, join_all,
};
pub use registry::SerialMetrics;
pub use stream::Stream;
