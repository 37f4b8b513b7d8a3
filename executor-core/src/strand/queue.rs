//! The way into a stream's queue, one message or many at a time.

use std::future::Future;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use super::scope::StrandScope;
use super::{Strand, StreamOwner};
use crate::batch::Batch;
use crate::cell::{Cell, CellRef, Header, Job, drop_quietly, expose, link_to};
use crate::completion::Completion;
use crate::context::PolicyContext;
use crate::envelope::Envelope;
use crate::error::{RejectReason, Rejected};
use crate::frame;
use crate::message::Message;
use crate::metrics::Event;
use crate::receipt::{Admitted, Receipt};
use crate::room::Slot;
use crate::strand_word::Push;
use crate::task::scope_of;

/// A message on its way in: taken when it is admitted, left when it is refused.
pub type Draft<M, H> = Option<(Envelope<M>, H)>;

impl<O: StreamOwner> Strand<O> {
    /// Admits a message at the end of the queue, if there is room; `awaited` says that the handler
    /// that runs here, if any, waits for it.
    ///
    /// # Errors
    /// There is no room, or the stream is closed; the draft is as it was.
    #[inline(always)]
    pub fn enqueue<M, H, F, T, E, R>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        awaited: bool,
    ) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        match self.head.shared.room().try_enter(&self.head.room) {
            Ok(()) => self.push(message, awaited),
            Err(reason) => Err(self.why_not(reason)),
        }
    }

    /// Why there was no place: a closed stream says so, full or not.
    #[cold]
    fn why_not(&self, reason: RejectReason) -> RejectReason {
        if self.head.word.is_closed() {
            RejectReason::Closed
        } else {
            reason
        }
    }

    /// Admits as many messages as there is room for, contiguous and in order, with one push.
    pub fn enqueue_batch<M, H, F, T, E>(
        self: &Arc<Self>,
        envelopes: impl IntoIterator<Item = Envelope<M>>,
        handler: H,
    ) -> Batch<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = self.owner.shared();
        // The user's iterator and clones run before anything is pushed: if one panics, the cells
        // made so far are dropped by the chain, and nothing was admitted.
        let mut rest = envelopes.into_iter();
        let mut chain = Chain::<O, Message<M, H, O::State, StrandScope>>::new(self);
        let mut refused = None;
        let inherited = self.inherited();
        for envelope in rest.by_ref() {
            if let Err(reason) = shared.room().try_enter(&self.head.room) {
                refused = Some((self.why_not(reason), envelope));
                break;
            }
            let place = Slot::new(Arc::clone(self));
            let job = Message::new(envelope, handler.clone());
            let scope = self.scope(0);
            chain.prepend(Cell::with_job(job, scope, true));
            let _used = place.into_strand();
        }
        let mut refused = refused.map(|(reason, first)| {
            let work: Vec<_> = std::iter::once(first).chain(rest).collect();
            Rejected { reason, work }
        });
        // The iterator may have taken long.
        chain.set_generation(shared.generation_of(inherited));
        let accepted = match self.push_chain(&mut chain) {
            Ok(accepted) => {
                shared.note_admitted(inherited);
                accepted
            }
            Err(envelopes) => {
                let late = refused.map(|refused| refused.work).unwrap_or_default();
                let work = envelopes.into_iter().chain(late).collect();
                refused = Some(Rejected {
                    reason: RejectReason::Closed,
                    work,
                });
                Vec::new()
            }
        };
        for _ in refused.iter().flat_map(|refused| &refused.work) {
            shared.counters().note(Event::Refused);
        }
        Batch { accepted, refused }
    }

    /// Pushes a whole chain; closed, the messages come back in order.
    fn push_chain<M, H, F, T, E>(
        self: &Arc<Self>,
        chain: &mut Chain<'_, O, Message<M, H, O::State, StrandScope>>,
    ) -> Result<Vec<Completion<T, E, M>>, Vec<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (Some(newest), Some(&oldest)) = (chain.cells.last().copied(), chain.cells.first())
        else {
            return Ok(Vec::new());
        };
        match self
            .head
            .word
            .push(expose(newest), |older| link_to(oldest, older))
        {
            Push::Scheduled => self.schedule(),
            Push::Queued => {}
            Push::Closed => {
                let cells = std::mem::take(&mut chain.cells);
                return Err(cells
                    .into_iter()
                    .map(|cell| {
                        self.leave_room();
                        // SAFETY: it was not pushed, so nobody else has it.
                        unsafe { Cell::<Message<M, H, O::State, StrandScope>>::into_job(cell) }
                            .envelope
                    })
                    .collect());
            }
        }
        let cells = std::mem::take(&mut chain.cells);
        // SAFETY: the jobs' types are these, and they were made joined.
        Ok(cells
            .into_iter()
            .map(|cell| unsafe { Completion::new(cell) })
            .collect())
    }

    /// Counts a refusal.
    #[cold]
    pub fn refuse<M>(&self, reason: RejectReason, envelope: Envelope<M>) -> Rejected<Envelope<M>> {
        self.owner.shared().counters().note(Event::Refused);
        Rejected {
            reason,
            work: envelope,
        }
    }

    /// Pushes a message that has room.
    ///
    /// Always inlined: the envelope is made where it is to lie, in the cell.
    ///
    /// # Panics
    /// When `message` was taken before.
    #[inline(always)]
    pub(crate) fn push<M, H, F, T, E, R>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        awaited: bool,
    ) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let (caller, inherited) = if frame::is_outermost() {
            (None, None)
        } else {
            (awaited.then(frame::caller).flatten(), self.inherited())
        };
        match self.place(message, caller, inherited) {
            Ok((receipt, pushed)) => {
                if pushed == Push::Scheduled {
                    self.schedule();
                }
                Ok(receipt)
            }
            Err(reason) => {
                self.leave_room();
                Err(reason)
            }
        }
    }

    /// Pushes a message that has room and says what the push found: the caller puts the stream into a lane,
    /// if it has become its owner; or gives the place back, if the stream is closed.
    #[inline(always)]
    pub(super) fn place<M, H, F, T, E, R>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        caller: Option<CellRef>,
        inherited: Option<u32>,
    ) -> Result<(R, Push), RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let shared = &*self.head.shared;
        let generation = shared.generation_of(inherited);
        let (envelope, handler) = message.take().expect("a message is admitted once");
        let job = Message::<M, H, O::State, StrandScope>::new(envelope, handler);
        let cell = Cell::with_job(job, self.scope(generation), R::JOINED);
        if let Some(caller) = caller {
            // SAFETY: it is new, and ours.
            unsafe { cell.as_ref() }.near.set_caller(caller);
        }
        let pushed = self
            .head
            .word
            .push(expose(cell), |older| link_to(cell, older));
        if pushed == Push::Closed {
            // SAFETY: it was not pushed, so nobody else has it.
            let job = unsafe { Cell::<Message<M, H, O::State, StrandScope>>::into_job(cell) };
            *message = Some((job.envelope, job.handler));
            return Err(RejectReason::Closed);
        }
        shared.note_admitted(inherited);
        // SAFETY: the job's types are these, and it was made joined if it is to be.
        Ok((R::of(unsafe { Admitted::new(cell) }), pushed))
    }
}

/// Cells that are to be pushed as one, the newest linked to the older ones.
struct Chain<'a, O: StreamOwner, J: Job> {
    /// Where each cell has a place in the queue.
    strand: &'a Strand<O>,
    /// Oldest first.
    cells: Vec<NonNull<Header>>,
    jobs: PhantomData<J>,
}

impl<'a, O: StreamOwner, J: Job> Chain<'a, O, J> {
    fn new(strand: &'a Strand<O>) -> Self {
        Self {
            strand,
            cells: Vec::new(),
            jobs: PhantomData,
        }
    }

    fn prepend(&mut self, cell: NonNull<Header>) {
        if let Some(older) = self.cells.last() {
            link_to(cell, expose(*older));
        }
        self.cells.push(cell);
    }

    fn set_generation(&self, generation: u32) {
        for &cell in &self.cells {
            // SAFETY: it is ours, and a message of a stream.
            unsafe { scope_of::<StrandScope>(cell) }
                .generation
                .set(generation);
        }
    }
}

impl<O: StreamOwner, J: Job> Drop for Chain<'_, O, J> {
    fn drop(&mut self) {
        for cell in self.cells.drain(..) {
            self.strand.leave_room();
            // SAFETY: cells that are still in the chain were not pushed.
            drop_quietly(unsafe { Cell::<J>::into_job(cell) });
        }
    }
}
