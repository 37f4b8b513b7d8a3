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
/// How many streams may be resident before idle ones are evicted, unless the builder says
/// otherwise.
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
    /// Gives each stream a state, which `make` makes from its key.
    ///
    /// A state is a cache: it is made at the stream's first message, again after a handler
    /// panicked, and again after the stream was evicted ([`SerialBuilder::resident_streams`],
    /// [`SerialExecutor::evict_idle`]). What must last belongs in storage and is loaded again in
    /// [`SerialBuilder::try_state`], or a [`Stream`](crate::Stream) is kept, which keeps the stream
    /// resident.
    ///
    /// `make` runs where the handler is about to start: on a worker, or on the caller of `execute`.
    /// It is no future, and what it waits for blocks that thread. When it panics the message that
    /// needed the state fails, and no other.
    pub fn state<T: Send + 'static>(
        self,
        make: impl Fn(&K) -> T + Send + Sync + 'static,
    ) -> SerialBuilder<K, T> {
        self.with_factory(Box::new(move |key| Ok(make(key))))
    }

    /// As [`SerialBuilder::state`], with a factory that can fail: the place to load what must last,
    /// since a state that is gone (a panic, an eviction) is made here again.
    ///
    /// A failure fails the message that needed the state, with its text in
    /// [`ExecuteError::State`](executor_core::ExecuteError::State) or
    /// [`Failure::State`](executor_core::Failure::State), and no other; the next message tries
    /// again.
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

    /// The executor's name, in errors, in traces and in [`SerialExecutor::name`]; any text, default
    /// `serial`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.environment.name = name.into();
        self
    }

    /// How many messages of one stream may be queued and not started: 1 to 4,294,967,295, default
    /// [`DEFAULT_QUEUE_PER_STREAM`], 1,024.
    pub fn queue_per_stream(mut self, messages: usize) -> Self {
        self.queue_per_stream = messages;
        self
    }

    /// How many messages of all streams together may be queued and not started: 1 to 4,294,967,295;
    /// default: no bound but those of the streams. All queued messages share one counter for it.
    pub fn queue_total(mut self, messages: usize) -> Self {
        self.queue_total = Some(messages);
        self
    }

    /// How many streams may be resident, busy or idle, before idle ones are evicted: at least 1,
    /// default [`DEFAULT_RESIDENT_STREAMS`], 65,536.
    ///
    /// It is no bound: busy streams stay, however many there are. The call that makes one stream
    /// more sweeps before it goes on: it visits all streams and evicts every idle one, however
    /// lately it was used, unless a [`Stream`](crate::Stream), a delayed message or a kept waker
    /// holds it. Their states are dropped, on that thread, and are made again by the next message
    /// of the key: see [`SerialBuilder::state`]. The next sweep comes when half as many as
    /// this number, or as are left if these are more, have been added.
    pub fn resident_streams(mut self, streams: usize) -> Self {
        self.resident_streams = streams;
        self
    }

    /// Whether `execute` on an idle stream runs its handler on the caller, at most
    /// [`INLINE_DEPTH`](executor_core::INLINE_DEPTH) of them one inside the other; default true. If
    /// not, it is queued for the workers.
    pub fn inline(mut self, inline: bool) -> Self {
        self.inline = inline;
        self
    }

    /// Lends a service to all handlers, by its type, in place of an earlier one of that type;
    /// default: none. See [`PolicyContext::service`](executor_core::PolicyContext::service).
    pub fn service<T: std::any::Any + Send + Sync>(mut self, service: T) -> Self {
        self.environment.services.insert(service);
        self
    }

    /// Names streams in errors and traces, behind the executor's name; default: the key type's name
    /// in angle brackets, the same for all streams.
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
