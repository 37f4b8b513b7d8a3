//! The caller's end of a message, and what it is told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use executor_core::{ExecuteError, Failure};

use crate::subject::{Later, Outcome};
use crate::tracked::{Tracked, defuse};
use crate::waiting::{Woken, eventually};

/// What a caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Value,
    Error,
    Panicked,
    Cancelled,
    Expired,
    Aborted,
    Rejected,
}

impl Seen {
    /// Reads an outcome, and drops it.
    fn outcome(outcome: Result<Tracked, Failure<Tracked>>) -> Self {
        let seen = match &outcome {
            Ok(value) => {
                value.look();
                Self::Value
            }
            Err(Failure::Panicked(_)) => Self::Panicked,
            Err(Failure::Cancelled) => Self::Cancelled,
            Err(Failure::Expired) => Self::Expired,
            Err(Failure::Aborted) => Self::Aborted,
            Err(Failure::Handler(_) | Failure::State(_)) => Self::Error,
        };
        defuse(|| drop(outcome));
        seen
    }

    fn execution(outcome: Result<Tracked, ExecuteError<Tracked, Tracked>>) -> Self {
        let seen = match &outcome {
            Ok(value) => {
                value.look();
                Self::Value
            }
            Err(ExecuteError::Panicked(_)) => Self::Panicked,
            Err(ExecuteError::Cancelled) => Self::Cancelled,
            Err(ExecuteError::Expired) => Self::Expired,
            Err(ExecuteError::Aborted) => Self::Aborted,
            Err(ExecuteError::Rejected(rejected)) => {
                rejected.work.payload.look();
                Self::Rejected
            }
            Err(ExecuteError::Handler(_) | ExecuteError::State(_)) => Self::Error,
        };
        defuse(|| drop(outcome));
        seen
    }
}

/// An execution that tells what was seen.
struct Seeing<F>(Pin<Box<F>>);

impl<F> Future for Seeing<F>
where
    F: Future<Output = Result<Tracked, ExecuteError<Tracked, Tracked>>>,
{
    type Output = Seen;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Seen> {
        self.0.as_mut().poll(context).map(Seen::execution)
    }
}

/// A completion, an execution, or nothing any more.
pub(crate) enum Held<'a> {
    Completion(Outcome),
    Delayed(Later),
    Execution(Pin<Box<dyn Future<Output = Seen> + Send + 'a>>),
    Gone,
}

impl<'a> Held<'a> {
    pub(crate) fn execution(
        execution: impl Future<Output = Result<Tracked, ExecuteError<Tracked, Tracked>>> + Send + 'a,
    ) -> Self {
        Self::Execution(Box::pin(Seeing(Box::pin(execution))))
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    /// Polls once; what is told is told once.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Seen> {
        defuse(|| self.poll_or_blow(waker)).flatten()
    }

    /// The same; a panic of the waker comes back to who polls.
    pub(crate) fn poll_or_blow(&mut self, waker: &Waker) -> Option<Seen> {
        let mut context = Context::from_waker(waker);
        let polled = match self {
            Self::Completion(completion) => {
                let polled = Pin::new(completion).poll(&mut context);
                polled.map(Seen::outcome)
            }
            Self::Delayed(delayed) => {
                let polled = Pin::new(delayed).poll(&mut context);
                polled.map(Seen::outcome)
            }
            Self::Execution(execution) => execution.as_mut().poll(&mut context),
            Self::Gone => panic!("nothing is left to poll"),
        };
        match polled {
            Poll::Ready(seen) => {
                self.drop_now();
                Some(seen)
            }
            Poll::Pending => None,
        }
    }

    /// Waits for the outcome.
    pub(crate) fn wait(mut self) -> Seen {
        let woken = Arc::new(Woken::default());
        let waker = woken.waker();
        loop {
            let before = woken.count();
            if let Some(seen) = self.poll(&waker) {
                return seen;
            }
            eventually("a wake of who waits", || woken.count() != before);
        }
    }

    /// Drops it, whatever its value's drop does.
    pub(crate) fn drop_now(&mut self) {
        let held = std::mem::replace(self, Self::Gone);
        defuse(|| drop(held));
    }

    pub(crate) fn forget(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Gone));
    }

    /// Lets the timer of what is delayed be, and keeps its completion.
    pub(crate) fn let_timer_be(&mut self) {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Delayed(delayed) => Self::Completion(delayed.into_completion()),
            held => held,
        };
    }

    /// Cancels a completion; it stays when its handler has started.
    pub(crate) fn cancel(&mut self) -> Option<Seen> {
        match std::mem::replace(self, Self::Gone) {
            Self::Completion(completion) => match completion.cancel() {
                Ok(message) => {
                    message.payload.look();
                    defuse(|| drop(message));
                    Some(Seen::Cancelled)
                }
                Err(completion) => {
                    *self = Self::Completion(completion);
                    None
                }
            },
            Self::Delayed(delayed) => match delayed.recover() {
                Ok(message) => {
                    message.payload.look();
                    defuse(|| drop(message));
                    Some(Seen::Cancelled)
                }
                Err(delayed) => {
                    *self = Self::Delayed(delayed);
                    None
                }
            },
            _ => panic!("only a completion can be cancelled"),
        }
    }
}
