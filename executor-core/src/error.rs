//! Why work was refused, and how accepted work ended without a value.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;

use crate::envelope::Envelope;

/// Why a message or task was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The queue that it would have joined is full.
    #[error("the queue is full at {limit} messages: retry later, or wait with `submit_wait`")]
    Full {
        /// The bound that was reached, in messages.
        limit: usize,
    },
    /// All queues of the executor together are full.
    #[error(
        "the executor is full at {limit} queued messages over all streams: retry later, or wait with `submit_wait`"
    )]
    TotalFull {
        /// The bound that was reached, in messages.
        limit: usize,
    },
    /// No permit is free, or somebody waits for one.
    #[error("none of the {limit} permits is free: retry later, or wait with `execute`")]
    NoPermit {
        /// How many handlers may run at a time.
        limit: usize,
    },
    /// The executor or its core no longer accepts work.
    #[error("closed: shutdown has begun, send the message elsewhere")]
    Closed,
    /// Waiting for this message would wait for itself.
    #[error(
        "would deadlock: {0}; `submit` it behind the running handler, and do not await it there"
    )]
    WouldDeadlock(CallChain),
}

impl RejectReason {
    /// Whether there was no room, so that waiting may help.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::TotalFull { .. } | Self::NoPermit { .. }
        )
    }
}

/// The streams that a handler runs under, outermost first, ending with the one called again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallChain(pub(crate) Vec<String>);

impl CallChain {
    /// The names, outermost first; the last one is the stream that was called again.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for CallChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" -> "))
    }
}

/// Work that was not admitted, with the reason and the work itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected<W> {
    /// Why it was refused.
    pub reason: RejectReason,
    /// What was refused: the envelope, future or closure, untouched.
    pub work: W,
}

impl<W> fmt::Debug for Rejected<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<W> fmt::Display for Rejected<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not admitted: {}", self.reason)
    }
}

/// Without a source: the reason is in its text already.
impl<W> std::error::Error for Rejected<W> {}

/// What a handler panicked with.
///
/// One pointer: every result has room for it.
pub struct Panic(Box<Payload>);

/// What a panic carries.
type Payload = Box<dyn Any + Send>;

// SAFETY: shared, it lends its payload only as text, a `&'static str` or a `String`, which are `Sync`.
unsafe impl Sync for Panic {}

impl std::error::Error for Panic {}

impl Panic {
    pub(crate) fn new(payload: Payload) -> Self {
        Self(Box::new(payload))
    }

    /// The message, when the payload is a string, as `panic!` makes it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        let text = self.0.downcast_ref::<&'static str>().copied();
        text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str))
    }

    /// The payload, to pass to [`std::panic::resume_unwind`].
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        *self.0
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic")
            .field(&self.message().unwrap_or("a payload that is no text"))
            .finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the handler panicked: {}",
            self.message().unwrap_or("a payload that is no text")
        )
    }
}

/// What a state factory said when it could not make a stream's state.
///
/// One pointer, as [`Panic`] is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state factory failed: {}", self.0.text)]
pub struct StateError(Box<FactorySaid>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FactorySaid {
    text: String,
}

impl StateError {
    pub(crate) fn new(text: String) -> Self {
        Self(Box::new(FactorySaid { text }))
    }

    /// The factory's own words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

const _: () = assert!(size_of::<Result<u64, ExecuteError<[u64; 8], ()>>>() == 16);

/// How admitted work ended without a value.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E = Infallible> {
    /// The handler returned this error.
    #[error(transparent)]
    Handler(E),
    /// The handler panicked; later messages are not affected.
    #[error(transparent)]
    Panicked(Panic),
    /// It was cancelled before it started.
    #[error("cancelled before it started")]
    Cancelled,
    /// Its deadline passed before it started.
    #[error("expired: its deadline passed before it started")]
    Expired,
    /// Its executor, core or runtime ended before it did.
    #[error("aborted: its executor, core or runtime ended before it did")]
    Aborted,
    /// The stream's state could not be made; the next message tries again.
    #[error(transparent)]
    State(StateError),
}

/// Why `execute` gave no value.
#[derive(thiserror::Error)]
pub enum ExecuteError<M, E> {
    /// It was not admitted; the envelope is inside. In a box, so that the results of the messages
    /// that were admitted stay small.
    #[error(transparent)]
    Rejected(Box<Rejected<Envelope<M>>>),
    /// The handler returned this error.
    #[error(transparent)]
    Handler(E),
    /// The handler panicked; later messages are not affected.
    #[error(transparent)]
    Panicked(Panic),
    /// It was cancelled before it started.
    #[error("cancelled before it started")]
    Cancelled,
    /// Its deadline passed before it started.
    #[error("expired: its deadline passed before it started")]
    Expired,
    /// Its executor, core or runtime ended before it did.
    #[error("aborted: its executor, core or runtime ended before it did")]
    Aborted,
    /// The stream's state could not be made; the next message tries again.
    #[error(transparent)]
    State(StateError),
}

/// Whatever the message is.
impl<M, E: fmt::Debug> fmt::Debug for ExecuteError<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => f.debug_tuple("Rejected").field(rejected).finish(),
            Self::Handler(error) => f.debug_tuple("Handler").field(error).finish(),
            Self::Panicked(panic) => f.debug_tuple("Panicked").field(panic).finish(),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Expired => f.write_str("Expired"),
            Self::Aborted => f.write_str("Aborted"),
            Self::State(error) => f.debug_tuple("State").field(error).finish(),
        }
    }
}

impl<M, E> From<Failure<E>> for ExecuteError<M, E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Handler(error) => Self::Handler(error),
            Failure::Panicked(panic) => Self::Panicked(panic),
            Failure::Cancelled => Self::Cancelled,
            Failure::Expired => Self::Expired,
            Failure::Aborted => Self::Aborted,
            Failure::State(error) => Self::State(error),
        }
    }
}

impl<M, E> From<Rejected<Envelope<M>>> for ExecuteError<M, E> {
    fn from(rejected: Rejected<Envelope<M>>) -> Self {
        Self::Rejected(Box::new(rejected))
    }
}

/// Why a core or an executor could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option has a value that makes no sense.
    #[error("`{option}` is {value}, but must be from {least} to {most}")]
    OutOfRange {
        /// The builder method.
        option: &'static str,
        /// What was given.
        value: usize,
        /// The least legal value.
        least: usize,
        /// The greatest legal value.
        most: usize,
    },
    /// The operating system refused a thread.
    #[error("could not start worker thread {index}: {error}")]
    Thread {
        /// Which worker, from 0.
        index: usize,
        /// What the operating system said.
        error: String,
    },
    /// The core is shutting down.
    #[error("the core is closed")]
    Closed,
}

/// Checks an option against its range.
///
/// # Errors
/// [`BuildError::OutOfRange`] names the option, the value and the range.
pub fn check_range(
    option: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<usize, BuildError> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(BuildError::OutOfRange {
            option,
            value,
            least,
            most,
        })
    }
}
