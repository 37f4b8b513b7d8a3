//! What an executor lends to all its handlers: its name and its services.

use std::fmt;
use std::sync::Arc;

use crate::core::{CoreShared, WorkerCore};
use crate::services::Services;

/// Name and services of one executor.
#[derive(Debug, Default)]
pub struct Environment {
    /// The executor's name, for errors, traces and metrics.
    pub name: String,
    /// What handlers can ask their context for.
    pub services: Services,
    /// The time of the core on which the handlers run.
    #[doc(hidden)]
    pub time: Lent,
}

/// The time of a core, as executors lend it to their handlers.
#[derive(Default)]
pub struct Lent(Option<Arc<CoreShared>>);

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.0.is_some()).finish()
    }
}

static NONE: Environment = Environment {
    name: String::new(),
    services: Services::new(),
    time: Lent(None),
};

impl Environment {
    /// The same, with the time of `core`.
    #[doc(hidden)]
    #[must_use]
    pub fn with_time(mut self, core: &WorkerCore) -> Self {
        self.time = Lent(Some(Arc::clone(&core.handle.0)));
        self
    }

    /// The core whose time handlers go by.
    pub(crate) fn core(&self) -> Option<&Arc<CoreShared>> {
        self.time.0.as_ref()
    }

    /// The environment of work that belongs to no executor.
    pub(crate) fn none() -> &'static Self {
        &NONE
    }
}
