//! What a handler is given beside its message.

use std::alloc::Layout;
use std::any::Any;
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::cell::{self, CellRef, Header, LiveCell};
use crate::deadline::Deadline;
use crate::envelope::{Envelope, Lineage};
use crate::frame;
use crate::pool::{self, Class};
use crate::services::MissingService;
use crate::strand;
use crate::sync::{AtomicU8, Ordering};
use crate::trail::Trail;

const GONE: u8 = 0;
const LIVE: u8 = 1;
const AWAITED: u8 = 2;

const _: () = assert!(size_of::<PolicyContext>() == size_of::<usize>());
const _: () = assert!(size_of::<Mooring>() <= 80);

/// Where a context has its parts: in its message's scope, or in a block of its own.
///
/// # Invariants
/// - I1. While the flag is not `GONE`, the message is not handled: the cell, its home and the
///   stream's state live, and no other message of the stream runs.
/// - I2. There is at most one context for a mooring, so `&mut` of the context is `&mut` of the
///   state; `parts` are written when it is made, and are its alone until it is dropped.
/// - I3. A mooring without a cell is a block of its own, and belongs to its context.
#[repr(C)]
pub(crate) struct Mooring {
    flag: AtomicU8,
    // Last: a message that is queued leaves them unwritten, and so their cache lines alone.
    parts: UnsafeCell<MaybeUninit<Parts>>,
}

/// What a context is made of.
///
/// Packed, since the ids' alignment would cost each message sixteen bytes, and most of them the next
/// larger block.
#[repr(C, packed(8))]
struct Parts {
    /// The message's cell; null for a structured execution.
    cell: *const Header,
    lineage: Lineage,
    deadline: Deadline,
    trail: Trail,
    /// Nanoseconds of the coarse clock; 0: nobody has asked.
    started: u64,
    attempt: NonZeroU32,
}

impl Parts {
    #[inline(always)]
    fn new<M>(cell: *const Header, envelope: &Envelope<M>) -> Self {
        Self {
            cell,
            lineage: envelope.lineage(),
            deadline: envelope.raw_deadline(),
            trail: Trail::new(),
            started: 0,
            attempt: envelope.attempt(),
        }
    }
}

impl Mooring {
    /// The block of a context without a cell.
    const CLASS: Class = Class::of(Layout::new::<Self>());

    /// Makes a mooring without a context, of which only the flag is written.
    ///
    /// # Safety
    /// There is room for a mooring at `slot`.
    #[inline]
    pub(crate) unsafe fn make_at(slot: *mut Self) {
        // SAFETY: as the caller says.
        let flag = unsafe { &raw mut (*slot).flag };
        // SAFETY: as the caller says; the rest needs no value.
        unsafe { flag.write(AtomicU8::new(GONE)) };
    }

    /// Whether the context has left the handler's future and is still alive; if so its drop will
    /// wake the cell.
    #[inline]
    pub(crate) fn is_straying(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of the context's drop: what it did to the state
        // comes before the next message.
        match self.flag.load(Ordering::Acquire) {
            GONE => false,
            // Asked before: the drop that is to come will see it.
            AWAITED => true,
            // Never over `GONE`: a flag without a context would be waited for for ever.
            _ => self
                .flag
                .compare_exchange(LIVE, AWAITED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok(),
        }
    }
}

/// A message's identity, limits, helpers, and exclusive access to its stream's state.
///
/// A handler owns its context. The message counts as handled only when the context is gone too: a
/// context that is sent elsewhere keeps its stream waiting until it is dropped there. One that the
/// handler returns in its own value cannot be had: the value waits for the context that is in it,
/// until the completion is dropped or a shutdown aborts the message. One that is forgotten keeps the
/// stream waiting for ever.
///
/// ```compile_fail,E0382
/// # fn f(context: executor_core::PolicyContext) {
/// let trail = context.finish();
/// context.attempt(); // used after it was given back
/// # }
/// ```
///
/// The state's type is exactly `S`, lifetimes within it included:
///
/// ```compile_fail
/// # use executor_core::PolicyContext;
/// fn narrow(context: PolicyContext<for<'a> fn(&'a str)>) -> PolicyContext<fn(&'static str)> {
///     context
/// }
/// ```
pub struct PolicyContext<S = ()> {
    mooring: NonNull<Mooring>,
    /// Invariant: the state is lent as `&mut S`.
    state: PhantomData<fn(S) -> S>,
}

// SAFETY: the state is reached through `&mut self` alone (Mooring, I2), so `S: Send` is what it
// takes to use the context on another thread; accesses to what the cell's runner sees are atomic.
unsafe impl<S: Send> Send for PolicyContext<S> {}
// SAFETY: a shared context gives no access to the state, and its parts are `Sync`.
unsafe impl<S: Send> Sync for PolicyContext<S> {}

impl<S> Drop for PolicyContext<S> {
    #[inline]
    fn drop(&mut self) {
        // Emptied rather than dropped: a trail without decisions needs no drop.
        drop(std::mem::take(&mut self.parts_mut().trail));
        let Some(cell) = self.cell() else {
            // SAFETY: Mooring, I3: the block is ours, from `free`, and has nothing left to drop.
            return unsafe { pool::give(Mooring::CLASS, self.mooring.cast()) };
        };
        if frame::is_polling(cell.as_ptr()) {
            // This thread is the runner, so it cannot be looking at the flag now.
            self.mooring().flag.store(GONE, Ordering::Release);
        } else {
            // SAFETY: the context was the only one, and is not used any more.
            unsafe { leave_from_elsewhere(self.mooring, cell) };
        }
    }
}

/// Lets go of a mooring outside the poll of its message's handler.
///
/// # Safety
/// The mooring's context is being dropped, and `cell` is that of its message.
#[cold]
unsafe fn leave_from_elsewhere(mooring: NonNull<Mooring>, cell: NonNull<Header>) {
    // SAFETY: Mooring, I1: the cell and its home live until the swap below.
    let held = unsafe { CellRef::new(cell) };
    // SAFETY: as above.
    let flag = unsafe { &mooring.as_ref().flag };
    if flag.swap(GONE, Ordering::AcqRel) == AWAITED {
        // SAFETY: `held` keeps both alive.
        unsafe { cell::wake(cell) };
    }
    drop(held);
}

impl PolicyContext<()> {
    /// A context without a cell, for a structured execution.
    #[doc(hidden)]
    #[inline(always)]
    pub fn free<M>(envelope: &Envelope<M>) -> Self {
        let mooring = pool::take(Mooring::CLASS).cast::<Mooring>();
        let value = Mooring {
            flag: AtomicU8::new(LIVE),
            parts: UnsafeCell::new(MaybeUninit::new(Parts::new(ptr::null(), envelope))),
        };
        // SAFETY: the block is ours, and its class is that of a mooring.
        unsafe { mooring.write(value) };
        Self {
            mooring,
            state: PhantomData,
        }
    }
}

impl<S: Send + 'static> PolicyContext<S> {
    /// A context that is tied to its message's cell.
    ///
    /// # Safety
    /// `mooring` is that of `cell`, whose message is being started; unless `S` has no size, the
    /// cell's home is a stream whose state is an `S`. It is called once for a message.
    #[inline(always)]
    pub(crate) unsafe fn moored<M>(
        cell: NonNull<Header>,
        mooring: NonNull<Mooring>,
        envelope: &Envelope<M>,
    ) -> Self {
        // SAFETY: it lives in the cell.
        let place = unsafe { mooring.as_ref() };
        let parts = place.parts.get().cast::<Parts>();
        // SAFETY: Mooring, I2: there is no context yet, so nobody else looks at the parts.
        unsafe { parts.write(Parts::new(cell.as_ptr(), envelope)) };
        place.flag.store(LIVE, Ordering::Relaxed);
        Self {
            mooring,
            state: PhantomData,
        }
    }

    /// The stream's state.
    ///
    /// It was made by the executor's state factory, and is dropped with the stream, or when a
    /// handler panics.
    #[must_use]
    pub fn state(&mut self) -> &mut S {
        let state = if size_of::<S>() == 0 {
            // Nothing to reach, and maybe nowhere to reach for it: a parallel executor has none.
            NonNull::dangling()
        } else {
            // SAFETY: a context without a cell has no state: see `free`.
            let cell = unsafe { self.cell().unwrap_unchecked() };
            // SAFETY: Mooring, I1: the cell lives.
            let cell = unsafe { LiveCell::new(cell) };
            // SAFETY: the cell's stream lives with it.
            unsafe { strand::state_of(cell.home()) }
        };
        // SAFETY: Mooring, I1 and I2: it lives and nobody else reaches it.
        unsafe { &mut *state.as_ptr() }
    }
}

impl<S> PolicyContext<S> {
    #[inline]
    fn mooring(&self) -> &Mooring {
        // SAFETY: Mooring, I1 and I3: it lives.
        unsafe { self.mooring.as_ref() }
    }

    /// The message's cell; a structured execution has none.
    #[inline]
    fn cell(&self) -> Option<NonNull<Header>> {
        NonNull::new(self.parts().cell.cast_mut())
    }

    #[inline]
    fn parts(&self) -> &Parts {
        let parts = self.mooring().parts.get().cast::<Parts>();
        // SAFETY: Mooring, I2: initialised, and shared through `&self` alone.
        unsafe { &*parts }
    }

    #[inline]
    fn parts_mut(&mut self) -> &mut Parts {
        let parts = self.mooring().parts.get().cast::<Parts>();
        // SAFETY: Mooring, I2: initialised, and borrowed with `&mut self`.
        unsafe { &mut *parts }
    }

    /// The message's id.
    #[must_use]
    pub fn message_id(&self) -> uuid::Uuid {
        let lineage = self.parts().lineage;
        lineage.id()
    }

    /// The id that all messages of one conversation share.
    #[must_use]
    pub fn correlation_id(&self) -> uuid::Uuid {
        let lineage = self.parts().lineage;
        lineage.correlation_id()
    }

    /// An envelope for a message that this one causes: it inherits the correlation, and its
    /// causation is this message's id.
    #[inline]
    pub fn envelope<M>(&self, payload: M) -> Envelope<M> {
        Envelope::child_of(self.parts().lineage, payload)
    }

    /// When the message expires; it was checked before the start, and is the handler's to heed now.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.parts().deadline.instant()
    }

    /// Waits until the message's deadline, by the clock of the executor's core; for ever if it has
    /// none.
    ///
    /// # Panics
    /// When it is polled for the first time outside of the handler.
    pub async fn expired(&self) {
        let Some(deadline) = self.deadline() else {
            return std::future::pending().await;
        };
        let core = frame::current()
            // SAFETY: the executor outlives the polls of its handlers.
            .and_then(|frame| unsafe { &*frame.environment() }.core().cloned())
            .expect("a handler asks for its own deadline");
        crate::time::sleep::until(&core, deadline).await;
    }

    /// When the handler started, read from the clock at the first call.
    #[must_use]
    pub fn started(&mut self) -> Instant {
        let elapsed = crate::clock::coarse_monotonic_nanos().saturating_sub(self.started_nanos());
        Instant::now() - std::time::Duration::from_nanos(elapsed)
    }

    fn started_nanos(&mut self) -> u64 {
        let started = &mut self.parts_mut().started;
        if *started == 0 {
            *started = crate::clock::coarse_monotonic_nanos();
        }
        *started
    }

    /// How often the message was tried, this time included; see [`Envelope::with_attempt`].
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts().attempt.get()
    }

    /// Whether the holder of the completion asked for cancellation after the start.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: Mooring, I1: the cell lives.
        self.cell()
            .is_some_and(|cell| unsafe { cell.as_ref() }.status.is_cancel_requested())
    }

    /// Waits until cancellation is asked for.
    ///
    /// It is woken through the handler's own task, so poll it there (with `select!` or `join!`), not
    /// in a task of its own.
    pub async fn cancelled(&self) {
        std::future::poll_fn(|_| {
            if self.is_cancelled() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// A service that the executor was built with.
    ///
    /// # Errors
    /// [`MissingService`] names the type when there is none, or when the call is not made from
    /// inside the handler.
    pub fn service<T: Any + Send + Sync>(&self) -> Result<Arc<T>, MissingService> {
        let Some(frame) = frame::current() else {
            return Err(MissingService {
                type_name: std::any::type_name::<T>(),
            });
        };
        // SAFETY: the executor outlives the polls of its handlers.
        unsafe { &*frame.environment() }.services.get::<T>()
    }

    /// Records a decision: which rule, whether it matched, and why.
    ///
    /// Static texts cost no allocation; the buffer comes from a pool, at the first decision.
    pub fn decide(
        &mut self,
        rule: impl Into<Cow<'static, str>>,
        matched: bool,
        reason: impl Into<Cow<'static, str>>,
    ) {
        self.parts_mut().trail.record(rule, matched, reason);
    }

    /// The decisions so far.
    pub fn trail(&self) -> &Trail {
        &self.parts().trail
    }

    /// Gives the context back and keeps the decisions.
    pub fn finish(mut self) -> Trail {
        std::mem::take(&mut self.parts_mut().trail)
    }
}

impl<S> fmt::Debug for PolicyContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyContext")
            .field("message_id", &self.message_id())
            .field("correlation_id", &self.correlation_id())
            .field("deadline", &self.deadline())
            .field("attempt", &self.attempt())
            .field("trail", self.trail())
            .finish_non_exhaustive()
    }
}
