//! A place in line for a permit, and the permit that comes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use executor_core::engine::Ended;
use executor_core::{Completion, RejectReason};

use super::Gate;

/// What a caller of `wait` got.
pub(crate) enum Wait<'a> {
    Taken,
    InLine(InLine<'a>),
}

/// A place in line, a future of the permit; dropped before it is ready, it is given up.
///
/// Of those that are turned away it tells [`RejectReason::Closed`].
pub(crate) struct InLine<'a> {
    gate: &'a Gate,
    /// None once it was ready.
    permit: Option<Completion<Permit>>,
}

impl<'a> InLine<'a> {
    pub(super) fn new(gate: &'a Gate, permit: Completion<Permit>) -> Self {
        let permit = Some(permit);
        Self { gate, permit }
    }
}

impl Future for InLine<'_> {
    type Output = Result<Permit, RejectReason>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let permit = self.permit.as_mut().expect("it was not ready before");
        let granted = ready!(Pin::new(permit).poll(context));
        self.permit = None;
        // Only who is turned away is told nothing.
        Poll::Ready(granted.map_err(|_| RejectReason::Closed))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            drop(permit);
            self.gate.gave_up();
        }
    }
}

/// A permit that was waited for; given back when dropped.
pub(crate) struct Permit {
    /// None once it was passed on.
    gate: Option<Arc<Gate>>,
    generation: u32,
}

impl Permit {
    /// A permit that was taken for a message of `generation`.
    pub(super) fn new(gate: Arc<Gate>, generation: u32) -> Self {
        let gate = Some(gate);
        Self { gate, generation }
    }

    /// Counts how the message that runs under it ended.
    pub(crate) fn count(&self, ended: Ended) {
        if let Some(gate) = &self.gate {
            gate.counts.ended(ended);
        }
    }

    /// Leaves it to the message that runs under it to give the permit back.
    pub(crate) fn pass_on(mut self) {
        self.gate = None;
    }
}

impl Drop for Permit {
    #[inline(never)]
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.give(self.generation);
        }
    }
}
