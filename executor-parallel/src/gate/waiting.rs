//! A place in line for a permit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use executor_core::engine::abandon;
use executor_core::{Completion, RejectReason};

use super::Gate;

/// What a caller of `wait` got.
pub(crate) enum Wait<'a> {
    /// A permit.
    Taken,
    InLine(InLine<'a>),
}

/// A place in line, a future of the permit; dropped before it is ready, it is given up.
///
/// Of those that are turned away it tells [`RejectReason::Closed`].
pub(crate) struct InLine<'a> {
    gate: &'a Gate,
    generation: u32,
    /// None once it was ready.
    granted: Option<Completion<()>>,
}

impl<'a> InLine<'a> {
    pub(super) fn new(gate: &'a Gate, generation: u32, granted: Completion<()>) -> Self {
        let granted = Some(granted);
        Self {
            gate,
            generation,
            granted,
        }
    }
}

impl Future for InLine<'_> {
    type Output = Result<(), RejectReason>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let granted = self.granted.as_mut().expect("it was not ready before");
        let granted = ready!(Pin::new(granted).poll(context));
        self.granted = None;
        // Only who is turned away is told nothing.
        Poll::Ready(granted.map_err(|_| RejectReason::Closed))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let Some(granted) = self.granted.take() else {
            return;
        };
        match abandon(granted) {
            Some(Ok(())) => self.gate.give(self.generation),
            Some(Err(_)) => {}
            None => self.gate.gave_up(),
        }
    }
}
