//! What keeps an executor for the messages that were submitted to it.
//!
//! A message keeps its executor, or its permit had nowhere to go back to. Were that one reference count,
//! every submission on every core would write its line: so there is one for each shard of threads.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use executor_core::Environment;
use executor_core::engine::{Ended, Limiter, Parked};

use crate::gate::Gate;
use crate::permits::{home_of_thread, shards};

/// Keeps the gate for messages that threads of one shard submit.
pub(crate) struct Hold(CachePadded<Arc<Gate>>);

/// All of them, a power of two.
pub(crate) struct Holds(Box<[Arc<Hold>]>);

impl Holds {
    pub(crate) fn new(gate: &Arc<Gate>) -> Self {
        let hold = |_| Arc::new(Hold(CachePadded::new(Arc::clone(gate))));
        Self((0..shards()).map(hold).collect())
    }

    /// That of this thread's shard.
    #[inline]
    pub(crate) fn here(&self) -> Arc<Hold> {
        Arc::clone(&self.0[home_of_thread(self.0.len())])
    }
}

impl Limiter for Hold {
    #[inline]
    fn environment(&self) -> &Environment {
        self.0.environment()
    }

    #[inline]
    fn retire(&self, outcome: Ended, generation: u32) {
        self.0.retire(outcome, generation);
    }

    #[inline]
    fn is_aborting(&self) -> bool {
        self.0.is_aborting()
    }

    fn generation(&self) -> u32 {
        Limiter::generation(&**self.0)
    }

    fn admit(&self, generation: u32, message: Parked) -> Result<(), Parked> {
        self.0.admit(generation, message)
    }

    fn forgo(&self, outcome: Ended) {
        self.0.forgo(outcome);
    }
}
