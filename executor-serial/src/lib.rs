#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod delay;
mod execute;
mod executor;
mod orphans;
mod registry;
mod stream;

pub use builder::{DEFAULT_QUEUE_PER_STREAM, DEFAULT_RESIDENT_STREAMS, SerialBuilder};
pub use delay::Delay;
pub use executor::SerialExecutor;
pub use executor_core::{
    Batch, BuildError, CallChain, Callbacks, Completion, CoreBuilder, CoreMetrics, Decision,
    Delayed, Elapsed, Envelope, ExecuteError, Executor, Failure, Hop, HopKind, Interval, JoinAll,
    MissedTick, MissingService, Panic, PolicyContext, RejectReason, Rejected, Report, Schedule,
    Shutdown, Sleep, StateError, Submission, Tick, Totals, Trail, Uuid, VirtualClock, When,
    WorkerCore, join_all,
};
pub use registry::SerialMetrics;
pub use stream::Stream;
