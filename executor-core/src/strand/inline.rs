//! A message on its caller: from the first poll of an `execute` to its end or its first wait.

use std::future::Future;
use std::ptr::NonNull;
use std::sync::Arc;

use super::queue::Draft;
use super::scope::StrandScope;
use super::{INLINE_DEPTH, Strand, StreamOwner};
use crate::cell::{Cell, Header, Polled, Ran, Scope, Step, drop_quietly};
use crate::completion::Completion;
use crate::context::PolicyContext;
use crate::core::CoreShared;
use crate::envelope::Envelope;
use crate::error::{Failure, RejectReason};
use crate::frame;
use crate::message::{self, Message};
use crate::metrics::Outcome;
use crate::wait::must_not_block;

/// The cell of a message with a handler `H` on a stream with a state `S`.
type MessageCell<M, H, S> = Cell<Message<M, H, S, StrandScope>>;

/// What the first poll of an `execute` led to.
pub enum Started<T, E, M> {
    /// The handler ran on the caller and returned.
    Ready(Result<T, E>),
    /// It ended on the caller without a value.
    Failed(Failure<E>),
    /// It is admitted.
    Admitted(Completion<T, E, M>),
    /// It is not, and left to the caller.
    Refused(RejectReason),
}

impl<T, E, M> std::fmt::Debug for Started<T, E, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Failed(_) => "Failed",
            Self::Admitted(_) => "Admitted",
            Self::Refused(_) => "Refused",
        })
    }
}

/// Looks for some microseconds whether a worker has done what is queued, where that keeps nobody else waiting:
/// a worker that was just woken may be waiting for this processor.
#[cold]
#[inline(never)]
fn look_briefly<T, E, M>(core: &CoreShared, completion: &Completion<T, E, M>) {
    if core.options.patience != 0 && !must_not_block() && !core.awaits_worker() {
        completion.look_briefly();
    }
}

impl<O: StreamOwner> Strand<O> {
    /// Admits a message for a caller that waits, and runs it here if the stream is idle; one that is
    /// refused is left in `back`.
    #[inline(always)]
    pub fn start<M, H, F, T, E>(
        self: &Arc<Self>,
        envelope: Envelope<M>,
        handler: H,
        back: &mut Draft<M, H>,
    ) -> Started<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = &*self.head.shared;
        let (may_nest, inherited) = if frame::is_outermost() {
            (true, None)
        } else if let Some(chain) = self.reentered() {
            *back = Some((envelope, handler));
            return Started::Refused(RejectReason::WouldDeadlock(chain));
        } else {
            (frame::depth() < INLINE_DEPTH, self.inherited())
        };
        // Idle or not: who waits in line for a place came before.
        let may_run = may_nest && shared.runs_inline() && !shared.room().has_line(&self.head.room);
        if may_run && self.head.word.try_own() {
            shared.note_admitted(inherited);
            return self.run_inline(envelope, handler, shared.generation_of(inherited));
        }
        *back = Some((envelope, handler));
        match self.enqueue(back, true) {
            Ok(completion) => {
                look_briefly(shared.core(), &completion);
                Started::Admitted(completion)
            }
            Err(reason) => Started::Refused(reason),
        }
    }

    /// Starts a message on this thread, which owns the stream.
    #[inline(always)]
    fn run_inline<M, H, F, T, E>(
        self: &Arc<Self>,
        envelope: Envelope<M>,
        handler: H,
        generation: u32,
    ) -> Started<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let scope = self.scope(generation);
        let cell = MessageCell::<M, H, O::State>::vacant(scope, false);
        // SAFETY: the cell is private.
        let header = unsafe { cell.as_ref() };
        header.status.start_private();
        let start = |scope: &StrandScope| {
            // SAFETY: the cell is the message's, which is started once.
            match unsafe { message::start::<false, _, _, _, _>(cell, scope, &envelope) } {
                Ok(context) => Ok(handler(envelope, context)),
                Err(failure) => {
                    drop_quietly((envelope, handler));
                    Err(failure)
                }
            }
        };
        let mut polled = Polled::new();
        // SAFETY: we are the runner, by owning the stream; the body is empty.
        let ran = unsafe { MessageCell::<M, H, O::State>::begin(cell, start, &mut polled) };
        // SAFETY: the runner's hold keeps the cell alive.
        let scope = unsafe { MessageCell::<M, H, O::State>::scope(cell) };
        if !matches!(ran, Ran::Returned) || !header.near.is_bare() {
            return self.leave_inline::<M, H, F, T, E>(cell, ran, polled);
        }
        // SAFETY: returned, and taken once.
        let value = unsafe { polled.take_value() };
        scope.retire(Outcome::of_value(&value));
        // SAFETY: the body is empty, nobody joined, and this is the runner's last act.
        unsafe { MessageCell::<M, H, O::State>::release_bare(cell) };
        self.let_go();
        Started::Ready(value)
    }

    /// What follows a caller-run that did not simply return.
    #[cold]
    #[inline(never)]
    fn leave_inline<M, H, F, T, E>(
        self: &Arc<Self>,
        cell: NonNull<Header>,
        ran: Ran,
        mut polled: Polled<Message<M, H, O::State, StrandScope>>,
    ) -> Started<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        // SAFETY: the runner's hold keeps the cell alive.
        let scope = unsafe { MessageCell::<M, H, O::State>::scope(cell) };
        // SAFETY: as above.
        let header = unsafe { cell.as_ref() };
        if matches!(ran, Ran::Failed) && header.near.is_bare() {
            // SAFETY: failed, and taken once.
            let failure = unsafe { polled.take_failure() };
            scope.retire(Outcome::of_failure(&failure));
            // SAFETY: the body is empty, nobody joined, and this is the runner's last act.
            unsafe { MessageCell::<M, H, O::State>::release_bare(cell) };
            self.let_go();
            return Started::Failed(failure);
        }
        if let Some(caller) = frame::caller() {
            header.near.set_caller(caller);
        }
        header.status.join_before_sharing();
        // SAFETY: we are the runner; what is over has left the body empty.
        match unsafe { MessageCell::<M, H, O::State>::settle_if_over(cell, ran, polled) } {
            // The straying context was dropped just now. With its completion, it was counted.
            Step::Finished | Step::Handled => self.let_go(),
            Step::Pending => self.park_inline(cell),
        }
        // SAFETY: it was made joined; the types are the job's.
        Started::Admitted(unsafe { Completion::new(cell) })
    }

    /// Leaves a started message to its waker, or to a worker if it was woken already.
    fn park_inline(self: &Arc<Self>, cell: NonNull<Header>) {
        self.head.current.set(cell.as_ptr());
        // I2: from here on the stream is not the caller's any more.
        let held = Arc::clone(self);
        let parked = self.head.word.park();
        let _ = Arc::into_raw(held);
        if !parked {
            self.push_to_lane();
        }
    }
}
