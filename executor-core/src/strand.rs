//! A serial stream: its word, what its owner keeps, and the life of its messages.
//!
//! # The life of one message
//! 1. *Admission*: `execute` takes an idle stream and becomes its owner, or pushes a cell; `submit`
//!    pushes. Whoever made the stream non-idle by a push puts it into a lane.
//! 2. *Start*: on the caller, or on the worker that found the stream in a lane.
//! 3. *Pending*: the handler waits; the stream is parked, and its waker puts it into a lane.
//! 4. *Handled*: the future is dropped, the outcome counted, the completion resolved.
//! 5. The owner takes the next cell, or lets the stream go.
//!
//! # Invariants
//! - I1. Ownership is that of `strand_word`; `taken`, `current`, `ready` and the state are the
//!   owner's alone.
//! - I2. While a stream is in a lane, being run by a worker, or parked, one strong count of its
//!   `Arc` belongs to that: `schedule` and `park_inline` take it, `run` gives it up or passes it on.
//! - I3. During a caller-run the caller's own `Arc` keeps the stream.
//! - I4. The state is made before a context sees it, and dropped only between messages or with the
//!   stream.

mod due;

use std::cell::{Cell as StdCell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::batch::Batch;
use crate::cell::{Cell, CellRef, Header, Job, MakeScope, Polled, Ran, Scope, Step, drop_quietly};
use crate::completion::Completion;
use crate::context::{Mooring, PolicyContext};
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::error::{CallChain, Failure, RejectReason, Rejected};
use crate::frame;
use crate::lane::{Link, LinkVTable, List};
use crate::message::{self, Message, MessageScope};
use crate::metrics::{Event, Outcome};
use crate::room::{Room, Slot};
use crate::serial_shared::SerialShared;
use crate::strand_word::{LetGo, Push, StrandWord};
use crate::sync::{AtomicU64, Ordering};
use crate::worker::Turn;

/// How deep caller-runs nest on one thread before messages are queued instead.
pub const INLINE_DEPTH: u32 = if cfg!(executor_tiny) { 1 } else { 16 };
/// After how many messages of a slice the clock is read.
const CLOCK_INTERVAL: usize = 16;
/// How long a slice may last while others wait, in nanoseconds.
const SLICE_NANOS: u64 = 5_000_000;

/// What a serial executor tells the core about one of its streams.
pub trait StreamOwner: Send + Sync + 'static {
    /// What the stream keeps between messages.
    type State: Send + 'static;
    /// What all streams of the executor share.
    fn shared(&self) -> &Arc<SerialShared>;
    /// Makes the state, at the stream's first message and after a panic.
    ///
    /// # Errors
    /// The text fails the message that needed the state, and no other.
    fn make_state(&self) -> Result<Self::State, String>;
    /// The stream's name in errors.
    fn label(&self) -> String;
}

/// The part of a stream whose type does not depend on its owner.
#[repr(C)]
pub(crate) struct Head {
    link: Link,
    word: StrandWord,
    /// Queued cells that the owner took, oldest first.
    taken: StdCell<*mut Link>,
    /// The started message.
    current: StdCell<*mut Header>,
    /// Whether the state exists.
    ready: StdCell<bool>,
    /// Messages queued and not started.
    room: Room,
    /// Handlers that returned `Ok`; written by the owner alone.
    handled: AtomicU64,
    /// The owner's, for those who know only the head. Dropped by the strand's drop.
    shared: ManuallyDrop<Arc<SerialShared>>,
}

#[repr(C)]
struct StrandVTable {
    link: LinkVTable,
    hold: unsafe fn(NonNull<Head>),
    unhold: unsafe fn(NonNull<Head>),
    prepare: unsafe fn(NonNull<Head>) -> Result<(), String>,
    forget_state: unsafe fn(NonNull<Head>),
    label: unsafe fn(*const ()) -> String,
}

/// A serial stream with its state and its owner's part; always behind an [`Arc`].
#[repr(C)]
pub struct Strand<O: StreamOwner> {
    head: Head,
    /// Initialised iff `ready` is set.
    state: UnsafeCell<MaybeUninit<O::State>>,
    /// Dropped by the strand's drop, under a guard: the last to have the strand may be a worker.
    owner: ManuallyDrop<O>,
}

// SAFETY: the plain fields and the state belong to one owner at a time (I1), who may be on any
// thread, for which `O::State: Send` suffices; the rest is atomic or `Sync`.
unsafe impl<O: StreamOwner> Send for Strand<O> {}
// SAFETY: as above.
unsafe impl<O: StreamOwner> Sync for Strand<O> {}

/// The cell of a message with a handler `H` on a stream with a state `S`.
type MessageCell<M, H, S> = Cell<Message<M, H, S, StrandScope>>;

/// A message on its way in: taken when it is admitted, left when it is refused.
pub type Draft<M, H> = Option<(Envelope<M>, H)>;

/// What the first poll of an `execute` led to.
pub enum Started<T, E, M> {
    /// The handler ran on the caller and returned.
    Ready(Result<T, E>),
    /// It ended on the caller without a value.
    Failed(Failure<E>),
    /// It is admitted.
    Admitted(Completion<T, E, M>),
    /// It is not; the draft is as it was.
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

impl<O: StreamOwner> Strand<O> {
    const VTABLE: &'static StrandVTable = &StrandVTable {
        link: LinkVTable { run: Self::run },
        // SAFETY: in all of these: the head is the first field of a strand in an `Arc`, and the
        // callers keep it alive.
        hold: |head| unsafe { Arc::increment_strong_count(head.cast::<Self>().as_ptr()) },
        // SAFETY: as above.
        unhold: |head| unsafe { Arc::decrement_strong_count(head.cast::<Self>().as_ptr()) },
        // SAFETY: as above.
        prepare: |head| unsafe { head.cast::<Self>().as_ref() }.make_state(),
        // SAFETY: as above.
        forget_state: |head| unsafe { head.cast::<Self>().as_ref() }.forget_state(),
        // SAFETY: as above.
        label: |head| unsafe { &*head.cast::<Self>() }.owner.label(),
    };

    /// A new idle stream.
    #[must_use]
    pub fn new(owner: O) -> Arc<Self> {
        let vtable = ptr::from_ref(Self::VTABLE).cast::<LinkVTable>();
        let strand = Self {
            head: Head {
                link: Link {
                    next: StdCell::new(ptr::null_mut()),
                    vtable,
                },
                word: StrandWord::new(),
                taken: StdCell::new(ptr::null_mut()),
                current: StdCell::new(ptr::null_mut()),
                ready: StdCell::new(false),
                room: Room::new(),
                handled: AtomicU64::new(0),
                shared: ManuallyDrop::new(Arc::clone(owner.shared())),
            },
            state: UnsafeCell::new(MaybeUninit::uninit()),
            owner: ManuallyDrop::new(owner),
        };
        if strand.owner.shared().is_closed() {
            strand.head.word.close();
        }
        Arc::new(strand)
    }

    /// What the executor keeps with the stream.
    pub fn owner(&self) -> &O {
        &self.owner
    }

    /// Messages queued and not started.
    pub fn depth(&self) -> usize {
        self.head.room.depth()
    }

    /// Whether a message is queued, running or waiting.
    pub fn is_busy(&self) -> bool {
        self.head.word.is_busy()
    }

    /// Handlers that returned `Ok` so far.
    pub fn handled(&self) -> u64 {
        self.head.handled.load(Ordering::Relaxed)
    }

    /// Moves what an idle stream has counted to the executor's counts, before it is evicted.
    pub fn settle_counts(&mut self) {
        let handled = self.head.handled.swap(0, Ordering::Relaxed);
        self.owner.shared().counters().add_handled(handled);
    }

    /// Drops the state of an idle stream, in its turn: a message that comes meanwhile waits, and
    /// then starts from fresh state.
    pub fn retire_state(self: &Arc<Self>) {
        if self.head.word.try_own() {
            self.forget_state();
            self.let_go();
        }
    }

    /// Whether nothing would be lost with the stream: it is idle, and has no state or no future.
    pub fn is_spent(&mut self) -> bool {
        !self.head.word.is_busy() && (!self.head.ready.get() || self.head.word.is_closed())
    }

    /// Refuses messages from now on.
    pub fn close(&self) {
        self.head.word.close();
    }

    /// Makes a waiting handler run, to see that it is aborted.
    pub fn kick(self: &Arc<Self>) {
        if self.head.word.wake() {
            self.schedule_parked();
        }
    }

    /// Queues `call` behind what the stream has, closed or not; false: it is idle, and `call` is
    /// dropped.
    pub fn after_queued<C: FnOnce() + Send + 'static>(self: &Arc<Self>, call: C) -> bool {
        let scope = self.scope(0, None);
        let cell = Cell::<Control<C>>::with_job(Control(call), scope, false);
        let pushed = self
            .head
            .word
            .push_if_busy(expose(cell), |next| set_next(cell, next));
        if !pushed {
            // SAFETY: it was not pushed, so nobody else has it.
            drop(unsafe { Cell::<Control<C>>::into_job(cell) });
        }
        pushed
    }

    fn head_ptr(self: &Arc<Self>) -> NonNull<Head> {
        // From the `Arc`, so that the pointer may be used for the whole strand.
        // SAFETY: `Arc::as_ptr` is never null.
        unsafe { NonNull::new_unchecked(Arc::as_ptr(self).cast_mut().cast()) }
    }

    #[inline]
    fn scope(self: &Arc<Self>, generation: u32, caller: Option<CellRef>) -> NewScope {
        NewScope {
            head: self.head_ptr(),
            generation,
            caller,
        }
    }

    fn name(self: &Arc<Self>) -> StreamName {
        StreamName(self.head_ptr())
    }

    /// The chain, if this thread's handlers run under this stream.
    #[inline]
    fn reentered(self: &Arc<Self>) -> Option<CallChain> {
        frame::chain_through(self.name())
    }

    fn generation(&self) -> u32 {
        let shared = self.owner.shared();
        frame::inherited_generation(shared.environment()).map_or_else(
            || shared.generation(),
            |generation| {
                shared.note_descendant(generation);
                generation
            },
        )
    }

    // ---- execute ----------------------------------------------------------------------------

    /// Admits a message for a caller that waits, and runs it here if the stream is idle.
    ///
    /// # Panics
    /// When `message` was taken before.
    #[inline(always)]
    pub fn start<M, H, F, T, E>(self: &Arc<Self>, message: &mut Draft<M, H>) -> Started<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = &*self.head.shared;
        let (may_nest, generation) = if frame::is_outermost() {
            (true, shared.generation())
        } else if let Some(chain) = self.reentered() {
            return Started::Refused(RejectReason::WouldDeadlock(chain));
        } else {
            (frame::depth() < INLINE_DEPTH, self.generation())
        };
        if may_nest && shared.runs_inline() && self.head.word.try_own() {
            return self.run_inline(message, generation);
        }
        match self.enqueue(message, true) {
            Ok(completion) => Started::Admitted(completion),
            Err(reason) => Started::Refused(reason),
        }
    }

    /// Starts a message on this thread, which owns the stream.
    #[inline(always)]
    fn run_inline<M, H, F, T, E>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        generation: u32,
    ) -> Started<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let scope = self.scope(generation, None);
        let cell = MessageCell::<M, H, O::State>::vacant(scope, false);
        // SAFETY: the cell is private.
        let header = unsafe { cell.as_ref() };
        header.status.start_private();
        let start = |scope: &StrandScope| {
            let (envelope, _) = message.as_ref().expect("a message is started once");
            // SAFETY: the cell is the message's, which is started once.
            let context = unsafe { message::start(cell, scope, envelope) }?;
            let (envelope, handler) = message.take().expect("it is there still");
            Ok(handler(envelope, context))
        };
        let mut polled = Polled::new();
        // SAFETY: we are the runner, by owning the stream; the body is empty.
        let ran = unsafe { MessageCell::<M, H, O::State>::begin(cell, start, &mut polled) };
        // SAFETY: the runner's hold keeps the cell alive.
        let scope = unsafe { MessageCell::<M, H, O::State>::scope(cell) };
        if !matches!(ran, Ran::Returned) || scope.is_straying() {
            return self.leave_inline::<M, H, F, T, E>(cell, ran, polled);
        }
        // SAFETY: returned, and taken once.
        let value = unsafe { polled.take_value() };
        scope.retire(Outcome::of_value(&value));
        // SAFETY: the body is empty, nobody joined, and this is the runner's last act.
        unsafe { MessageCell::<M, H, O::State>::release(cell) };
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
        if matches!(ran, Ran::Failed) && !scope.is_straying() {
            // SAFETY: failed, and taken once.
            let failure = unsafe { polled.take_failure() };
            scope.retire(Outcome::of_failure(&failure));
            // SAFETY: the body is empty, nobody joined, and this is the runner's last act.
            unsafe { MessageCell::<M, H, O::State>::release(cell) };
            self.let_go();
            return Started::Failed(failure);
        }
        if let Some(caller) = frame::caller() {
            scope.set_caller(caller);
        }
        // SAFETY: the runner's hold keeps the cell alive.
        unsafe { cell.as_ref() }.status.join_before_sharing();
        // SAFETY: we are the runner; what is over has left the body empty.
        match unsafe { MessageCell::<M, H, O::State>::settle_if_over(cell, ran, polled) } {
            // The straying context was dropped just now.
            Step::Finished => self.let_go(),
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

    /// Lets the stream go after a caller-run, or gives what was queued meanwhile to the workers.
    #[inline]
    fn let_go(self: &Arc<Self>) {
        match self.head.word.let_go() {
            LetGo::Idle => {}
            LetGo::Over => self.let_workers_go(),
            LetGo::Kept => self.schedule(),
        }
    }

    /// The workers of a closed core may have stayed for this stream alone.
    #[cold]
    fn let_workers_go(&self) {
        self.owner.shared().core().check_exit();
    }

    // ---- submit -----------------------------------------------------------------------------

    /// Admits a message at the end of the queue, if there is room; `awaited` says that the handler
    /// that runs here, if any, waits for it.
    ///
    /// # Errors
    /// There is no room, or the stream is closed; the draft is as it was.
    #[inline(always)]
    pub fn enqueue<M, H, F, T, E>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        awaited: bool,
    ) -> Result<Completion<T, E, M>, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
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
        for envelope in rest.by_ref() {
            if let Err(reason) = shared.room().try_enter(&self.head.room) {
                refused = Some((self.why_not(reason), envelope));
                break;
            }
            let place = Slot::new(Arc::clone(self));
            let job = Message::new(envelope, handler.clone());
            let scope = self.scope(self.generation(), None);
            chain.prepend(Cell::with_job(job, scope, true));
            let _used = place.into_strand();
        }
        let mut refused = refused.map(|(reason, first)| {
            let work: Vec<_> = std::iter::once(first).chain(rest).collect();
            Rejected { reason, work }
        });
        let accepted = match self.push_chain(&mut chain) {
            Ok(accepted) => accepted,
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
            .push(expose(newest), |next| set_next(oldest, next))
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
    pub(crate) fn push<M, H, F, T, E>(
        self: &Arc<Self>,
        message: &mut Draft<M, H>,
        awaited: bool,
    ) -> Result<Completion<T, E, M>, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (caller, generation) = if frame::is_outermost() {
            (None, self.head.shared.generation())
        } else {
            (awaited.then(frame::caller).flatten(), self.generation())
        };
        let scope = self.scope(generation, caller);
        let (envelope, handler) = message.take().expect("a message is admitted once");
        let job = Message::<M, H, O::State, StrandScope>::new(envelope, handler);
        let cell = Cell::with_job(job, scope, true);
        match self
            .head
            .word
            .push(expose(cell), |next| set_next(cell, next))
        {
            Push::Scheduled => self.schedule(),
            Push::Queued => {}
            Push::Closed => {
                self.leave_room();
                // SAFETY: it was not pushed, so nobody else has it.
                let job = unsafe { Cell::<Message<M, H, O::State, StrandScope>>::into_job(cell) };
                *message = Some((job.envelope, job.handler));
                return Err(RejectReason::Closed);
            }
        }
        // SAFETY: the job's types are these, and it was made joined.
        Ok(unsafe { Completion::new(cell) })
    }

    pub(crate) fn leave_room(&self) {
        self.owner.shared().room().leave(&self.head.room);
    }

    pub(crate) fn room(&self) -> &Room {
        &self.head.room
    }

    /// Puts the stream, which the caller owns, into a lane.
    fn schedule(self: &Arc<Self>) {
        let _ = Arc::into_raw(Arc::clone(self));
        self.push_to_lane();
    }

    /// The same for a stream that was parked, whose count passes on (I2).
    fn schedule_parked(self: &Arc<Self>) {
        self.push_to_lane();
    }

    fn push_to_lane(self: &Arc<Self>) {
        self.owner
            .shared()
            .core()
            .push_admitted(self.head_ptr().cast());
    }

    // ---- the owner on a worker --------------------------------------------------------------

    /// Runs a slice of the stream.
    ///
    /// # Safety
    /// The link heads a strand of this type, and its ownership and count (I2) are the caller's.
    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        // SAFETY: I2: the count that came with the stream.
        let this = unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) };
        let head = &this.head;
        let budget = turn.core.options.budget;
        let mut began = 0;
        let mut ran = 0;
        // SAFETY: I1: the list is the owner's.
        let mut queued = unsafe { List::from_raw(head.taken.replace(ptr::null_mut())) };
        let mut current = NonNull::new(head.current.replace(ptr::null_mut()));
        loop {
            let Some(cell) = current.take().or_else(|| this.next_cell(&mut queued)) else {
                if head.word.let_go() == LetGo::Kept {
                    continue;
                }
                return;
            };
            head.word.begin_poll();
            if this.run_cell(cell) == Step::Pending {
                head.current.set(cell.as_ptr());
                head.taken.set(queued.into_raw());
                // The count stays with the stream, parked or in a lane (I2).
                let raw = Arc::into_raw(this);
                // SAFETY: that count keeps it alive until the park, and after a failed park.
                if !unsafe { &(*raw).head.word }.park() {
                    turn.core.push_admitted(link);
                }
                return;
            }
            ran += 1;
            let mut over = ran >= budget;
            if ran % CLOCK_INTERVAL == 0 {
                let now = crate::clock::coarse_monotonic_nanos();
                if began == 0 {
                    began = now;
                }
                over |= now.saturating_sub(began) > SLICE_NANOS;
            }
            if over {
                head.taken.set(queued.into_raw());
                let _ = Arc::into_raw(this);
                turn.core.push_admitted(link);
                return;
            }
        }
    }

    /// The next queued cell; `queued` is what the owner has taken of them.
    #[inline]
    fn next_cell(&self, queued: &mut List) -> Option<NonNull<Header>> {
        if queued.is_empty() {
            let newest = self.head.word.take();
            // SAFETY: the owner took the whole list (I1).
            *queued = unsafe { List::reversed(ptr::with_exposed_provenance_mut(newest)) };
        }
        let cell = queued.pop()?.cast::<Header>();
        queued.prefetch();
        // SAFETY: queued cells are alive.
        if !unsafe { cell.as_ref() }.vtable().control {
            self.leave_room();
        }
        Some(cell)
    }

    #[inline]
    fn run_cell(&self, cell: NonNull<Header>) -> Step {
        // SAFETY: the cell is the owner's to run.
        let vtable = unsafe { cell.as_ref() }.vtable();
        let abort = self.owner.shared().is_aborting() && !vtable.control;
        let run = if abort { vtable.abort } else { vtable.poll };
        // SAFETY: as above.
        unsafe { run(cell) }
    }

    // ---- the state --------------------------------------------------------------------------

    fn make_state(&self) -> Result<(), String> {
        let state = self.owner.make_state()?;
        // SAFETY: I1: the owner calls this, between messages.
        unsafe { self.state.get().cast::<O::State>().write(state) };
        self.head.ready.set(true);
        Ok(())
    }

    fn forget_state(&self) {
        if self.head.ready.replace(false) {
            // SAFETY: I1 and I4: the owner calls this when the context is gone.
            drop_quietly(unsafe { self.state.get().cast::<O::State>().read() });
        }
    }
}

impl<O: StreamOwner> Drop for Strand<O> {
    fn drop(&mut self) {
        // A stream with messages is held by its lane or its waker; only one whose handler dropped
        // all its wakers, or that was never run because its core is gone, gets here with any.
        let cells = [self.head.current.get(), self.head.taken.get().cast()];
        debug_assert!(
            cells.iter().all(|cell| cell.is_null()),
            "a dropped stream is idle"
        );
        self.settle_counts();
        self.forget_state();
        // SAFETY: dropped once, here, and not used any more.
        drop_quietly(unsafe { ManuallyDrop::take(&mut self.owner) });
        // SAFETY: as above.
        drop_quietly(unsafe { ManuallyDrop::take(&mut self.head.shared) });
    }
}

impl<O: StreamOwner> std::fmt::Debug for Strand<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.owner.label())
            .field("depth", &self.depth())
            .field("busy", &self.is_busy())
            .field("handled", &self.handled())
            .finish()
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
            set_next(cell, expose(*older));
        }
        self.cells.push(cell);
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

fn expose(cell: NonNull<Header>) -> usize {
    cell.as_ptr().expose_provenance()
}

fn set_next(cell: NonNull<Header>, next: usize) {
    // SAFETY: the pusher owns the cell until its exchange publishes it.
    unsafe { cell.as_ref() }
        .link
        .next
        .set(ptr::with_exposed_provenance_mut(next));
}

/// # Safety
/// `home` is not null.
unsafe fn head_of(home: *const ()) -> NonNull<Head> {
    // SAFETY: as the caller says.
    unsafe { NonNull::new_unchecked(home.cast_mut().cast()) }
}

/// The state of the stream `home`.
///
/// # Safety
/// `home` is that of a message of a live stream whose state is an `S`.
pub(crate) unsafe fn state_of<S>(home: *const ()) -> NonNull<S> {
    // `Strand` is `repr(C)`: the state follows the head at its own alignment.
    let offset = size_of::<Head>().next_multiple_of(align_of::<S>());
    // SAFETY: as the caller says.
    let head = unsafe { head_of(home) };
    // SAFETY: heads are pointed at with the provenance of their whole strand.
    unsafe { head.byte_add(offset) }.cast()
}

fn vtable_of(head: NonNull<Head>) -> &'static StrandVTable {
    // SAFETY: heads are passed about only while their strand is alive.
    let vtable = unsafe { head.as_ref() }.link.vtable.cast::<StrandVTable>();
    // SAFETY: every strand's link points at a whole `StrandVTable` in a static.
    unsafe { &*vtable }
}

/// A stream's identity, from which its name can be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamName(NonNull<Head>);

impl StreamName {
    /// # Safety
    /// The stream is alive.
    pub(crate) unsafe fn label(self) -> String {
        // SAFETY: as the caller says.
        unsafe { (vtable_of(self.0).label)(self.0.as_ptr().cast_const().cast()) }
    }
}

/// A closure of the framework's own, in its turn among the messages.
struct Control<F>(F);

impl<F: FnOnce() + Send + 'static> Job for Control<F> {
    type Value = ();
    type Error = std::convert::Infallible;
    type Message = ();
    type Future = std::future::Ready<Result<(), std::convert::Infallible>>;
    type Scope = StrandScope;
    const CONTROL: bool = true;

    fn begin(self, _: NonNull<Header>, _: &StrandScope) -> Result<Self::Future, Failure> {
        (self.0)();
        Ok(std::future::ready(Ok(())))
    }

    fn into_message(self) -> Envelope<()> {
        Envelope::new(())
    }
}

/// What a message keeps of its stream.
#[repr(C)]
pub(crate) struct StrandScope {
    head: NonNull<Head>,
    /// The drain generation; that of a delayed message is set when it is admitted.
    generation: StdCell<u32>,
    /// The cell that waits for this one, from a [`CellRef`]; set before anybody asks, or by
    /// `adopt` at the end of the first poll.
    caller: std::sync::atomic::AtomicPtr<Header>,
    /// Last, since its own last part is not written before the start.
    mooring: Mooring,
}

/// What the scope of a new message is made from.
struct NewScope {
    head: NonNull<Head>,
    generation: u32,
    caller: Option<CellRef>,
}

impl MakeScope<StrandScope> for NewScope {
    #[inline]
    unsafe fn make_at(self, slot: *mut StrandScope) {
        let caller = self
            .caller
            .map_or(ptr::null_mut(), |caller| caller.into_raw());
        // SAFETY: there is room for the whole scope, here and in the next lines.
        let mooring = unsafe { &raw mut (*slot).mooring };
        // SAFETY: as above.
        unsafe { Mooring::make_at(mooring) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).head };
        // SAFETY: as above.
        unsafe { place.write(self.head) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).generation };
        // SAFETY: as above.
        unsafe { place.write(StdCell::new(self.generation)) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).caller };
        // SAFETY: as above.
        unsafe { place.write(caller.into()) };
    }
}

impl StrandScope {
    fn set_caller(&self, caller: CellRef) {
        // ORDERING: Release publishes the caller's cell to threads that walk the chain.
        self.caller
            .store(caller.into_raw(), std::sync::atomic::Ordering::Release);
    }

    fn head(&self) -> &Head {
        // SAFETY: a message's stream lives while the message is not handled.
        unsafe { self.head.as_ref() }
    }

    fn shared(&self) -> &SerialShared {
        &self.head().shared
    }
}

impl Drop for StrandScope {
    #[inline]
    fn drop(&mut self) {
        if !self.caller.get_mut().is_null() {
            drop(self.take_caller());
        }
    }
}

impl Scope for StrandScope {
    fn home(&self) -> *const () {
        self.head.as_ptr().cast_const().cast()
    }

    unsafe fn hold(home: *const ()) {
        // SAFETY: the home is the head of a live strand.
        let head = unsafe { head_of(home) };
        // SAFETY: as above.
        unsafe { (vtable_of(head).hold)(head) };
    }

    unsafe fn unhold(home: *const ()) {
        // SAFETY: the home is the head of a live strand.
        let head = unsafe { head_of(home) };
        // SAFETY: balances `hold`.
        unsafe { (vtable_of(head).unhold)(head) };
    }

    unsafe fn wake(_: NonNull<Header>, home: *const ()) {
        // SAFETY: the caller keeps the home alive.
        let head = unsafe { head_of(home) };
        // SAFETY: as above.
        if unsafe { head.as_ref() }.word.wake() {
            // SAFETY: as above. The parked stream's count passes on to the lane (Strand, I2).
            let shared = unsafe { &head.as_ref().shared };
            shared.core().push_admitted(head.cast());
        }
    }

    unsafe fn stream(home: *const ()) -> Option<StreamName> {
        NonNull::new(home.cast_mut().cast::<Head>()).map(StreamName)
    }

    fn caller(&self) -> *const Header {
        self.caller.load(std::sync::atomic::Ordering::Acquire)
    }

    fn take_caller(&mut self) -> Option<CellRef> {
        let caller = std::mem::replace(self.caller.get_mut(), ptr::null_mut());
        // SAFETY: it came from a `CellRef`, and is given up once.
        NonNull::new(caller).map(|caller| unsafe { CellRef::from_raw(caller) })
    }

    fn environment(&self) -> *const Environment {
        self.shared().environment()
    }

    fn generation(&self) -> u32 {
        self.generation.get()
    }

    #[inline]
    fn is_straying(&self) -> bool {
        self.mooring.is_straying()
    }

    #[inline]
    fn retire(&self, outcome: Outcome) {
        let head = self.head();
        if outcome == Outcome::Value {
            head.handled
                .store(head.handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.retire_failed(outcome);
        }
    }

    unsafe fn run(_: NonNull<Link>, _: &Turn<'_>) {
        unreachable!("a stream's messages are run by the stream");
    }
}

impl StrandScope {
    #[cold]
    fn retire_failed(&self, outcome: Outcome) {
        self.shared().counters().count(outcome);
        if outcome == Outcome::Panicked {
            // SAFETY: the message's stream lives.
            let stream = unsafe { StreamName(self.head).label() };
            tracing::error!(
                stream,
                "a handler panicked: its stream starts from fresh state"
            );
            // SAFETY: the message's stream lives, and we are its owner.
            unsafe { (vtable_of(self.head).forget_state)(self.head) };
        }
    }

    #[cold]
    fn make_state(&self) -> Result<(), String> {
        // SAFETY: the message's stream lives, and we are its owner.
        unsafe { (vtable_of(self.head).prepare)(self.head) }
    }
}

// SAFETY: the mooring lies there.
unsafe impl MessageScope for StrandScope {
    const MOORING: usize = offset_of!(Self, mooring);

    #[inline]
    fn prepare(&self) -> Result<(), String> {
        if self.head().ready.get() {
            Ok(())
        } else {
            self.make_state()
        }
    }
}
