//! A message of a sequence: what its handler waits for, how it ended, and where it is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use executor_core::{Completion, Delayed, ExecuteError, Failure, RejectReason};

/// What a handler waits for.
#[derive(Default)]
pub(super) struct Door {
    pub(super) open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Door {
    pub(super) fn open(&self) {
        let mut wakers = self.wakers.lock().expect("whole");
        self.open.store(true, Ordering::SeqCst);
        let woken = std::mem::take(&mut *wakers);
        drop(wakers);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Keeps no waker when it is ready: one that outlives its message would keep the stream resident.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut wakers = self.wakers.lock().expect("whole");
        if self.open.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Value(u64),
    Cancelled,
    Aborted,
    /// It went with the future of its caller.
    Dropped,
}

fn end_of(outcome: Result<u64, Failure>) -> End {
    match outcome {
        Ok(value) => End::Value(value),
        Err(Failure::Cancelled) => End::Cancelled,
        Err(Failure::Aborted) => End::Aborted,
        Err(other) => panic!("{other:?}"),
    }
}

type Later = Delayed<u64, Infallible, u64>;
type Now = Completion<u64, Infallible, u64>;
pub(super) type Handling = Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;
type Execution = Pin<Box<dyn Future<Output = Result<u64, ExecuteError<u64, Infallible>>>>>;

/// The caller's end of a message.
pub(super) enum Held {
    Now(Now),
    Later(Later),
    Execution(Execution),
    Gone,
}

impl Held {
    pub(super) fn poll(&mut self) -> Option<End> {
        let mut context = Context::from_waker(Waker::noop());
        let polled = match self {
            Self::Now(completion) => Pin::new(completion).poll(&mut context).map(end_of),
            Self::Later(delayed) => Pin::new(delayed).poll(&mut context).map(end_of),
            Self::Execution(execution) => {
                execution
                    .as_mut()
                    .poll(&mut context)
                    .map(|outcome| match outcome {
                        Ok(value) => End::Value(value),
                        Err(ExecuteError::Aborted) => End::Aborted,
                        Err(ExecuteError::Rejected(rejected)) => {
                            assert_eq!(rejected.reason, RejectReason::Closed);
                            End::Dropped
                        }
                        Err(other) => panic!("{other:?}"),
                    })
            }
            Self::Gone => return None,
        };
        match polled {
            Poll::Ready(end) => {
                *self = Self::Gone;
                Some(end)
            }
            Poll::Pending => None,
        }
    }

    /// Cancels what can be cancelled; true: it will never run.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        let (back, rest) = match std::mem::replace(self, Self::Gone) {
            Self::Now(completion) => match completion.cancel() {
                Ok(message) => (Some(message), Self::Gone),
                Err(completion) => (None, Self::Now(completion)),
            },
            Self::Later(delayed) => match delayed.recover() {
                Ok(message) => (Some(message), Self::Gone),
                Err(delayed) => (None, Self::Later(delayed)),
            },
            other => (None, other),
        };
        *self = rest;
        back.is_some_and(|message| {
            assert_eq!(message.payload, id, "another message came back");
            true
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Timer(u64),
    /// Its time has come, and there is no room.
    Line,
    Queued,
    Running,
    Over(End),
}

/// A message, as the model knows it.
pub(super) struct Message {
    pub(super) key: u64,
    pub(super) waits: bool,
    pub(super) door: Arc<Door>,
    pub(super) place: Place,
    /// Whether it runs in the future of its caller.
    pub(super) structured: bool,
    pub(super) held: Held,
}
