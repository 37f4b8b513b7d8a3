//! What a handler is given beside its message.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::cell::{CellRef, Header, LiveCell};
use crate::deadline::{Deadline, now, origin};
use crate::envelope::{Envelope, Lineage};
use crate::environment::Environment;
use crate::frame;
use crate::pool::{BLOCK_SIZES, PoolBox};
use crate::services::MissingService;
use crate::strand;
use crate::trail::Trail;

const _: () = assert!(size_of::<PolicyContext>() == size_of::<usize>());
const _: () = assert!(size_of::<Parts>() <= BLOCK_SIZES[0]);

/// What a context is made of, in a block that is taken when the handler starts: a message that is queued
/// needs none.
struct Parts {
    origin: Origin,
    lineage: Lineage,
    deadline: Deadline,
    /// Cleared by the context's drop.
    trail: ManuallyDrop<Trail>,
    /// The low bits of the milliseconds from [`origin`] to when the start was asked for; 0: it was not.
    started: u32,
    attempt: NonZeroU32,
}

/// Where a message runs: in its cell or, without one, as a structured execution of this executor; these are
/// told apart by the lowest bit.
#[derive(Clone, Copy)]
struct Origin(*const ());

const _: () = assert!(align_of::<Header>() > 1 && align_of::<Environment>() > 1);

impl Origin {
    #[inline(always)]
    fn of_cell(cell: NonNull<Header>) -> Self {
        Self(cell.as_ptr().cast_const().cast())
    }

    #[inline(always)]
    fn structured(environment: *const Environment) -> Self {
        Self(environment.cast::<()>().wrapping_byte_add(1))
    }

    #[inline(always)]
    fn cell(self) -> Option<NonNull<Header>> {
        let cell = NonNull::new(self.0.cast_mut().cast());
        cell.filter(|_| self.0.addr() & 1 == 0)
    }

    /// The executor, if it is running the execution on this thread: only then is it known to live.
    fn environment(self) -> Option<*const Environment> {
        let environment = self.0.wrapping_byte_sub(1).cast();
        frame::is_under(environment).then_some(environment)
    }
}

impl Parts {
    #[inline(always)]
    fn new<M>(origin: Origin, envelope: &Envelope<M>) -> PoolBox<Self> {
        let (lineage, deadline) = envelope.lineage_and_deadline();
        #[expect(
            clippy::multiple_unsafe_ops_per_block,
            reason = "they are all the fields of one place"
        )]
        let make = |parts: *mut Self| {
            // SAFETY: there is room for the parts.
            unsafe {
                (&raw mut (*parts).origin).write(origin);
                (&raw mut (*parts).lineage).write(lineage);
                (&raw mut (*parts).deadline).write(deadline);
                (&raw mut (*parts).trail).write(ManuallyDrop::new(Trail::new()));
                (&raw mut (*parts).started).write(0);
                (&raw mut (*parts).attempt).write(envelope.attempt());
            }
        };
        // SAFETY: every field is written.
        unsafe { PoolBox::with(make) }
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
///
/// # Examples
/// ```
/// # use executor_core::{Envelope, Executor, PolicyContext};
/// // A handler of streams whose state is a balance in cents.
/// async fn deposit(cents: Envelope<u64>, mut account: PolicyContext<u64>) -> Result<u64, String> {
///     account.decide("limit", cents.payload > 10_000, "10,000 cents");
///     *account.state() += cents.payload;
///     Ok(*account.state())
/// }
/// # async fn f(accounts: impl Executor<Key = u64, State = u64>) {
/// let balance = accounts.execute(7, Envelope::new(500), deposit).await;
/// # }
/// ```
pub struct PolicyContext<S = ()> {
    /// Dropped by the context's drop.
    parts: ManuallyDrop<PoolBox<Parts>>,
    /// Invariant: the state is lent as `&mut S`.
    state: PhantomData<fn(S) -> S>,
}

// SAFETY: the state is reached through `&mut self` alone (near, I2), so `S: Send` is what it
// takes to use the context on another thread; accesses to what the cell's runner sees are atomic.
unsafe impl<S: Send> Send for PolicyContext<S> {}
// SAFETY: a shared context gives no access to the state, and its parts are `Sync`.
unsafe impl<S: Send> Sync for PolicyContext<S> {}

impl<S> Drop for PolicyContext<S> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: they are not used any more.
        let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
        if parts.trail.is_rented() {
            return end(parts);
        }
        if let Some(cell) = parts.origin.cell() {
            if !frame::is_polling(cell.as_ptr()) {
                return end(parts);
            }
            // SAFETY: near, I1: the cell lives.
            unsafe { cell.as_ref() }.near.context_dropped();
        }
    }
}

/// What follows the drop of a context that has decisions or has strayed.
///
/// Apart, so that a handler that drops its context in its first line, as many do, is small enough to be
/// inlined itself, and its future made where it is to lie.
#[cold]
#[inline(never)]
fn end(mut parts: PoolBox<Parts>) {
    // Before the message can be over: its texts are the user's.
    parts.trail.clear();
    let Some(cell) = parts.origin.cell() else {
        return;
    };
    if frame::is_polling(cell.as_ptr()) {
        // SAFETY: near, I1: the cell lives.
        unsafe { cell.as_ref() }.near.context_dropped();
    } else {
        // SAFETY: the context was the only one, and is not used any more.
        unsafe { leave_from_elsewhere(cell) };
    }
}

/// Lets a message end whose context was dropped outside the poll of its handler.
///
/// # Safety
/// The context of `cell` is being dropped.
#[cold]
unsafe fn leave_from_elsewhere(cell: NonNull<Header>) {
    // SAFETY: near, I1: the cell and its home live until the context is noted as dropped.
    let held = unsafe { CellRef::new(cell) };
    // SAFETY: as above.
    if unsafe { cell.as_ref() }.near.context_dropped_elsewhere() {
        held.wake();
    }
}

impl PolicyContext<()> {
    /// A context without a cell, for a structured execution.
    #[doc(hidden)]
    #[inline(always)]
    pub fn free<M>(environment: &Environment, envelope: &Envelope<M>) -> Self {
        let origin = Origin::structured(environment);
        Self {
            parts: ManuallyDrop::new(Parts::new(origin, envelope)),
            state: PhantomData,
        }
    }
}

impl<S: Send + 'static> PolicyContext<S> {
    /// A context that is tied to its message's cell.
    ///
    /// # Safety
    /// The message of `cell` is being started; unless `S` has no size, the cell's home is a stream whose
    /// state is an `S`. It is called once for a message; that `is_new`, no user code ran for.
    #[inline(always)]
    pub(crate) unsafe fn of_cell<M>(
        cell: NonNull<Header>,
        envelope: &Envelope<M>,
        is_new: bool,
    ) -> Self {
        let parts = Parts::new(Origin::of_cell(cell), envelope);
        // SAFETY: it is being started, on this thread.
        unsafe { cell.as_ref() }.near.context_made(is_new);
        Self {
            parts: ManuallyDrop::new(parts),
            state: PhantomData,
        }
    }

    /// The stream's state.
    ///
    /// It is a cache. The executor's state factory made it at the stream's first message, and makes
    /// it again after a handler panicked and after the stream was evicted; in both cases what is in
    /// it is dropped. What must last belongs in storage, from which the factory (`try_state`) loads
    /// it again, or a `Stream` handle is kept, which keeps the stream resident.
    #[must_use]
    pub fn state(&mut self) -> &mut S {
        let state = if size_of::<S>() == 0 {
            // Nothing to reach, and maybe nowhere to reach for it: a parallel executor has none.
            NonNull::dangling()
        } else {
            // SAFETY: a context without a cell has no state: see `free`.
            let cell = unsafe { self.cell().unwrap_unchecked() };
            // SAFETY: near, I1: the cell lives.
            let cell = unsafe { LiveCell::new(cell) };
            // SAFETY: the cell's stream lives with it.
            unsafe { strand::state_of(cell.home()) }
        };
        // SAFETY: near, I1 and I2: it lives and nobody else reaches it.
        unsafe { &mut *state.as_ptr() }
    }
}

impl<S> PolicyContext<S> {
    /// The message's cell; a structured execution has none.
    #[inline]
    fn cell(&self) -> Option<NonNull<Header>> {
        self.parts.origin.cell()
    }

    /// The message's id.
    #[must_use]
    pub fn message_id(&self) -> uuid::Uuid {
        self.parts.lineage.id()
    }

    /// The id that all messages of one conversation share.
    #[must_use]
    pub fn correlation_id(&self) -> uuid::Uuid {
        self.parts.lineage.correlation_id()
    }

    /// An envelope for a message that this one causes: it inherits the correlation, and its
    /// causation is this message's id.
    ///
    /// It inherits nothing else. Its id and time are new, it is a first attempt, and it has no
    /// deadline, flags, tags, metadata, hops, stream key or aggregate but those that it is given.
    #[inline]
    pub fn envelope<M>(&self, payload: M) -> Envelope<M> {
        Envelope::child_of(self.parts.lineage, payload)
    }

    /// When the message expires, by the clock of the executor's core; it was checked before the
    /// start, and is the handler's to heed now.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.deadline.instant()
    }

    /// Waits until the message's deadline, by the clock of the executor's core; for ever if it has
    /// none. Once all workers of the core have left a deadline is over at once.
    ///
    /// # Cancel safety
    /// Dropping it cancels its timer; the deadline may be waited for again.
    ///
    /// # Panics
    /// When the message has a deadline, the context is that of a structured execution
    /// (`ParallelExecutor::execute`), and the first poll is not inside its handler.
    pub async fn expired(&self) {
        let Some(deadline) = self.deadline() else {
            return std::future::pending().await;
        };
        let core = self.environment().and_then(Environment::core).cloned();
        let core =
            core.expect("`expired` must be polled inside the handler, not in a task of its own");
        crate::time::sleep::until(&core, deadline).await;
    }

    /// When the handler started, in whole milliseconds of the clock of the executor's core, read at the
    /// first call.
    ///
    /// A later call from outside the handler goes by the system's clock, and says at the earliest now if
    /// that is behind. A handler that runs for more than 24 days is taken to have started later.
    #[must_use]
    pub fn started(&mut self) -> Instant {
        let now = now().saturating_duration_since(origin()).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        if self.parts.started == 0 {
            self.parts.started = low_bits(now).max(1);
        }
        let age = low_bits(now).wrapping_sub(self.parts.started).cast_signed();
        let age = u64::try_from(age).unwrap_or(0);
        origin() + Duration::from_millis(now.saturating_sub(age))
    }

    /// How often the message was tried, this time included; see [`Envelope::with_attempt`].
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.attempt.get()
    }

    /// Whether cancellation was asked for after the start, by the holder of the completion, of the
    /// [`Delayed`](crate::Delayed) or of the [`Schedule`](crate::Schedule).
    ///
    /// Nobody can ask for that of an `execute` or a detached message, where it is never true. An
    /// `execute` of a serial executor goes on when its future is dropped; one of a parallel
    /// executor is cancelled by that drop, which drops the handler. An abort drops the handler too,
    /// and does not ask.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: near, I1: the cell lives.
        self.cell()
            .is_some_and(|cell| unsafe { cell.as_ref() }.status.is_cancel_requested())
    }

    /// Waits until cancellation is asked for; for ever where nobody can, as in an `execute`: see
    /// [`PolicyContext::is_cancelled`].
    ///
    /// It is woken through the handler's own task, so poll it there (with `select!` or `join!`), not
    /// in a task of its own.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing; what was asked for stays so.
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
    /// [`MissingService`] names the type when there is none, or when the context is that of a structured
    /// execution (`ParallelExecutor::execute`) and the call is not made from inside its handler.
    pub fn service<T: Any + Send + Sync>(&self) -> Result<Arc<T>, MissingService> {
        let environment = self.environment();
        let environment = environment.ok_or(MissingService::OutsideHandler {
            type_name: std::any::type_name::<T>(),
        })?;
        environment.services.get::<T>()
    }

    /// The executor's; without a cell it is known inside the handler alone.
    fn environment(&self) -> Option<&Environment> {
        let environment = match self.cell() {
            // SAFETY: near, I1: the cell lives.
            Some(cell) => unsafe { LiveCell::new(cell) }.environment(),
            None => self.parts.origin.environment()?,
        };
        // SAFETY: the executor outlives its messages and the polls of its handlers.
        Some(unsafe { &*environment })
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
        self.parts.trail.record(rule, matched, reason);
    }

    /// The decisions so far.
    pub fn trail(&self) -> &Trail {
        &self.parts.trail
    }

    /// Gives the context back and keeps the decisions.
    pub fn finish(mut self) -> Trail {
        std::mem::take(&mut *self.parts.trail)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the rest is added again")]
const fn low_bits(millis: u64) -> u32 {
    millis as u32
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
