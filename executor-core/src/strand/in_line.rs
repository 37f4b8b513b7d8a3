//! An execution that found its stream's queue full: its message waits in line, and is queued in its turn,
//! whether its caller is polled then or not.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use super::queue::Draft;
use super::{Strand, StreamOwner};
use crate::cell::CellRef;
use crate::completion::Completion;
use crate::context::PolicyContext;
use crate::envelope::Envelope;
use crate::error::RejectReason;
use crate::frame;
use crate::room::{InLine, Room, Slot, SlotWaiter, Waiter};
use crate::strand_word::Push;
use crate::task::{Promise, promise};

/// What became of a message that waited: it is queued, or comes back since the stream is closed.
pub type Verdict<M, H, T, E> = Result<Completion<T, E, M>, Draft<M, H>>;

struct Waiting<O, M, H, F, T, E>
where
    O: StreamOwner,
    M: Send + 'static,
    H: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    strand: Arc<Strand<O>>,
    message: Draft<M, H>,
    /// The handler that waits for it, and its generation, if it is of this executor.
    caller: Option<CellRef>,
    inherited: Option<u32>,
    queued: Option<Completion<T, E, M>>,
    /// None once it was fulfilled.
    promise: Option<Promise<Verdict<M, H, T, E>>>,
    future: PhantomData<fn() -> F>,
}

impl<O, M, H, F, T, E> Waiter for Waiting<O, M, H, F, T, E>
where
    O: StreamOwner,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn room(&self) -> &Room {
        self.strand.room()
    }

    fn admit(&mut self) -> Push {
        // Our own reference stays until after the lock: the last one drops what is the user's.
        let (message, caller) = (&mut self.message, self.caller.clone());
        match self.strand.place(message, caller, self.inherited) {
            Ok((queued, pushed)) => {
                self.queued = Some(queued);
                pushed
            }
            Err(_closed) => Push::Closed,
        }
    }

    fn tell(&mut self, pushed: Push) {
        if pushed == Push::Scheduled {
            self.strand.schedule();
        }
        if let (Some(promise), Some(queued)) = (self.promise.take(), self.queued.take()) {
            promise.fulfil(Ok(queued));
        }
    }
}

impl<O, M, H, F, T, E> Drop for Waiting<O, M, H, F, T, E>
where
    O: StreamOwner,
    M: Send + 'static,
    H: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            promise.fulfil(Err(self.message.take()));
        }
    }
}

impl<O: StreamOwner> Strand<O> {
    /// Waits in line for a place in the queue.
    ///
    /// # Errors
    /// [`RejectReason::WouldDeadlock`] to a handler of the stream itself, and to one that it waits for,
    /// unless others can make room.
    #[cold]
    pub fn wait_for_room(self: &Arc<Self>) -> Result<InLine<O, Slot<O>>, RejectReason> {
        if self.owner().shared().room().is_full(self.room())
            && let Some(chain) = self.reentered()
        {
            return Err(RejectReason::WouldDeadlock(chain));
        }
        let (promise, told) = promise();
        let waiter = SlotWaiter::new(Arc::clone(self), promise);
        Ok(self.line_up(waiter, told))
    }

    /// Waits in line with a message, for a caller that waits for its outcome.
    #[cold]
    pub fn wait_in_line<M, H, F, T, E>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
    ) -> InLine<O, Verdict<M, H, T, E>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (promise, told) = promise();
        let waiting = Waiting::<O, M, H, F, T, E> {
            strand: Arc::clone(self),
            message: message.take(),
            caller: frame::caller(),
            inherited: self.inherited(),
            queued: None,
            promise: Some(promise),
            future: PhantomData,
        };
        self.line_up(waiting, told)
    }

    fn line_up<V: Send + 'static>(
        self: &Arc<Self>,
        waiter: impl Waiter + 'static,
        told: Completion<V>,
    ) -> InLine<O, V> {
        let shared = self.owner().shared();
        shared.note_waited();
        let in_line = shared.room().wait(self, waiter, told);
        if shared.is_closed() {
            // It may have come too late to be turned away.
            shared.turn_waiters_away();
        }
        in_line
    }
}
