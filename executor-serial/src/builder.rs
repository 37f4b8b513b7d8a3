//! The options of a serial executor.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use executor_core::engine::{SerialShared, adopt, check_range};
use executor_core::{BuildError, Environment, WorkerCore};

use crate::executor::SerialExecutor;
use crate::registry::{Common, KeyKind, Registry};

/// How many messages of one stream are queued at most, unless the builder says otherwise.
pub const DEFAULT_QUEUE_PER_STREAM: usize = 1_024;
/// How many idle streams stay resident, unless the builder says otherwise.
pub const DEFAULT_RESIDENT_STREAMS: usize = 65_536;
/// The greatest queue bound.
const MAX_QUEUE: usize = u32::MAX as usize;

/// Builds a [`SerialExecutor`].
#[must_use = "a builder does nothing until `build`"]
pub struct SerialBuilder<K, S = ()> {
    core: WorkerCore,
    environment: Environment,
    queue_per_stream: usize,
    queue_total: Option<usize>,
    resident_streams: usize,
    inline: bool,
    kind: KeyKind<K, S>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> SerialBuilder<K> {
    pub(crate) fn new(core: &WorkerCore) -> Self {
        let environment = Environment {
            name: "serial".into(),
            ..Environment::default()
        };
        Self {
            core: core.clone(),
            environment,
            queue_per_stream: DEFAULT_QUEUE_PER_STREAM,
            queue_total: None,
            resident_streams: DEFAULT_RESIDENT_STREAMS,
            inline: true,
            kind: KeyKind {
                make_state: Box::new(|_| Ok(())),
                name: None,
            },
        }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static, S: Send + 'static> SerialBuilder<K, S> {
    /// Gives each stream a state, made at its first message and again after a panic.
    pub fn state<T: Send + 'static>(
        self,
        make: impl Fn(&K) -> T + Send + Sync + 'static,
    ) -> SerialBuilder<K, T> {
        self.with_factory(Box::new(move |key| Ok(make(key))))
    }

    /// The same with a factory that can fail; a failure fails only the message that needed the state.
    pub fn try_state<T: Send + 'static, E: fmt::Display>(
        self,
        make: impl Fn(&K) -> Result<T, E> + Send + Sync + 'static,
    ) -> SerialBuilder<K, T> {
        self.with_factory(Box::new(move |key| {
            make(key).map_err(|error| error.to_string())
        }))
    }

    fn with_factory<T>(
        self,
        make_state: Box<dyn Fn(&K) -> Result<T, String> + Send + Sync>,
    ) -> SerialBuilder<K, T> {
        SerialBuilder {
            core: self.core,
            environment: self.environment,
            queue_per_stream: self.queue_per_stream,
            queue_total: self.queue_total,
            resident_streams: self.resident_streams,
            inline: self.inline,
            kind: KeyKind {
                make_state,
                name: self.kind.name,
            },
        }
    }

    /// The executor's name in errors and metrics; default `serial`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.environment.name = name.into();
        self
    }

    /// How many messages of one stream may be queued and not started; default 1,024.
    pub fn queue_per_stream(mut self, messages: usize) -> Self {
        self.queue_per_stream = messages;
        self
    }

    /// How many messages of all streams together may be queued and not started; default: no bound
    /// but those of the streams. It costs one shared counter for each queued message.
    pub fn queue_total(mut self, messages: usize) -> Self {
        self.queue_total = Some(messages);
        self
    }

    /// How many streams stay resident when idle; default 65,536. When there are more, streams that
    /// were idle since the last sweep are evicted with their state.
    pub fn resident_streams(mut self, streams: usize) -> Self {
        self.resident_streams = streams;
        self
    }

    /// Whether `execute` on an idle stream runs its handler on the caller; default true.
    pub fn inline(mut self, inline: bool) -> Self {
        self.inline = inline;
        self
    }

    /// Lends a service to all handlers, by its type.
    pub fn service<T: std::any::Any + Send + Sync>(mut self, service: T) -> Self {
        self.environment.services.insert(service);
        self
    }

    /// Names streams in errors; default: the key type's name.
    pub fn key_names(mut self, name: impl Fn(&K) -> String + Send + Sync + 'static) -> Self {
        self.kind.name = Some(Box::new(name));
        self
    }

    /// Makes the executor.
    ///
    /// # Errors
    /// [`BuildError`] names the option that is out of range, or says that the core is closed.
    pub fn build(self) -> Result<SerialExecutor<K, S>, BuildError> {
        check_range("queue_per_stream", self.queue_per_stream, 1, MAX_QUEUE)?;
        if let Some(total) = self.queue_total {
            check_range("queue_total", total, 1, MAX_QUEUE)?;
        }
        check_range("resident_streams", self.resident_streams, 1, usize::MAX)?;
        let core = self.core.clone();
        let shared = SerialShared::new(
            self.core,
            self.environment,
            self.inline,
            self.queue_per_stream,
            self.queue_total,
        );
        let registry = Registry::new(shared, self.kind, self.resident_streams);
        let weak: Weak<Common<K, S>> = Arc::downgrade(&registry.common);
        adopt(&core, weak)?;
        Ok(SerialExecutor::new(registry))
    }
}

impl<K, S> fmt::Debug for SerialBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialBuilder")
            .field("name", &self.environment.name)
            .field("queue_per_stream", &self.queue_per_stream)
            .field("queue_total", &self.queue_total)
            .field("resident_streams", &self.resident_streams)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}
