#![doc = include_str!("../README.md")]

mod batch;
mod callbacks;
mod cell;
mod clock;
mod completion;
mod context;
mod core;
mod deadline;
#[doc(hidden)]
pub mod engine;
mod envelope;
mod environment;
mod error;
mod executor;
mod fetch;
mod fork;
mod frame;
mod host;
mod id;
mod in_place;
mod join;
mod lane;
mod lifecycle;
mod message;
mod metrics;
#[cfg(all(loom, test))]
mod model;
mod park;
mod pool;
mod receipt;
mod room;
mod serial_shared;
mod services;
mod sleep;
mod slice;
mod status;
mod strand;
mod strand_word;
mod sync;
mod task;
mod thread_id;
mod time;
mod trail;
mod wait;
mod waiting;
mod worker;

pub use batch::Batch;
pub use callbacks::Callbacks;
pub use completion::Completion;
pub use context::PolicyContext;
pub use core::{CoreBuilder, CoreMetrics, DEFAULT_BUDGET, MAX_WORKERS, WorkerCore};
pub use envelope::{Envelope, Hop, HopKind};
pub use environment::Environment;
pub use error::{
    BuildError, CallChain, ExecuteError, Failure, Panic, RejectReason, Rejected, StateError,
};
pub use executor::{Executor, Submission};
pub use join::{JoinAll, join_all};
pub use lifecycle::{Report, Shutdown};
pub use metrics::Totals;
pub use pool::{
    BLOCK_ALIGN, BLOCK_SIZES, CHUNK_CELLS, MAGAZINE_CELLS, PoolMetrics, RETAINED_BYTES,
    pool_metrics,
};
pub use services::{MissingService, Services};
pub use strand::INLINE_DEPTH;
pub use time::clock::VirtualClock;
pub use time::delayed::Delayed;
pub use time::every::{Schedule, Tick};
pub use time::sleep::{Elapsed, Interval, MissedTick, Sleep};
pub use time::{DEFAULT_TICK, When};
pub use trail::{Decision, RETAINED_TRAILS, Trail, retained_trails};
pub use uuid::Uuid;
pub use worker::MAX_BATCH;
