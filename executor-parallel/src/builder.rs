//! The options of a parallel executor.

use std::fmt;
use std::sync::Arc;

use executor_core::engine::{adopt, check_range};
use executor_core::{BuildError, Environment, WorkerCore};

use crate::executor::ParallelExecutor;
use crate::gate::Gate;
use crate::permits::MAX_PERMITS;

/// The greatest limit, 16,777,215.
pub const MAX_CONCURRENCY: usize = MAX_PERMITS;
/// How many submitted messages wait for a permit at most, unless the builder says otherwise.
pub const DEFAULT_QUEUE: usize = 65_536;

/// Builds a [`ParallelExecutor`].
#[must_use = "a builder does nothing until `build`"]
pub struct ParallelBuilder {
    core: WorkerCore,
    environment: Environment,
    max_concurrency: usize,
    queue: usize,
}

impl ParallelBuilder {
    pub(crate) fn new(core: &WorkerCore) -> Self {
        let environment = Environment {
            name: "parallel".into(),
            ..Environment::default()
        };
        let max_concurrency = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            core: core.clone(),
            environment,
            max_concurrency,
            queue: DEFAULT_QUEUE,
        }
    }

    /// How many handlers are live at most: 1 to [`MAX_CONCURRENCY`], default: as many as the
    /// process has processors, or 1 if that is not known.
    pub fn max_concurrency(mut self, handlers: usize) -> Self {
        self.max_concurrency = handlers;
        self
    }

    /// How many may wait for a permit before a submission is refused: 1 to 4,294,967,295, default
    /// [`DEFAULT_QUEUE`], 65,536. Callers in line and messages whose time has come count, but are
    /// not refused themselves.
    pub fn queue(mut self, messages: usize) -> Self {
        self.queue = messages;
        self
    }

    /// The executor's name, in traces and in [`ParallelExecutor::name`]; any text, default
    /// `parallel`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.environment.name = name.into();
        self
    }

    /// Lends a service to all handlers, by its type, in place of an earlier one of that type;
    /// default: none. See [`PolicyContext::service`](executor_core::PolicyContext::service).
    pub fn service<T: std::any::Any + Send + Sync>(mut self, service: T) -> Self {
        self.environment.services.insert(service);
        self
    }

    /// Makes the executor.
    ///
    /// # Errors
    /// [`BuildError`] names the option that is out of range, or says that the core is closed.
    pub fn build(self) -> Result<ParallelExecutor, BuildError> {
        check_range("max_concurrency", self.max_concurrency, 1, MAX_CONCURRENCY)?;
        check_range("queue", self.queue, 1, u32::MAX as usize)?;
        let core = self.core.clone();
        let gate = Gate::new(
            self.core,
            self.environment,
            self.max_concurrency,
            self.queue,
        );
        let weak: std::sync::Weak<Gate> = Arc::downgrade(&gate);
        adopt(&core, weak)?;
        Ok(ParallelExecutor::new(gate))
    }
}

impl fmt::Debug for ParallelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelBuilder")
            .field("name", &self.environment.name)
            .field("max_concurrency", &self.max_concurrency)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
