//! What a handler is given beside its message.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::cell::{self, CellRef, Header};
use crate::deadline::Deadline;
use crate::envelope::{Envelope, Lineage};
use crate::frame;
use crate::services::MissingService;
use crate::sync::{AtomicU8, Ordering};
use crate::trail::Trail;

const GONE: u8 = 0;
const LIVE: u8 = 1;
const AWAITED: u8 = 2;

/// The cell's side of a context.
///
/// # Invariants
/// - I1. While the flag is not `GONE`, the message is not handled: the cell, its home and the state
///   behind `state` live, and no other message of the stream runs.
/// - I2. There is at most one context for a message, so `&mut` of the context is `&mut` of the state.
pub(crate) struct Mooring {
    /// The stream's `S`, made before the context is.
    pub(crate) state: *mut (),
    flag: AtomicU8,
}

impl Mooring {
    pub(crate) fn new(state: *mut ()) -> Self {
        Self {
            state,
            flag: AtomicU8::new(GONE),
        }
    }

    /// Whether the context has left the handler's future and is still alive; if so its drop will
    /// wake the cell.
    #[inline]
    pub(crate) fn is_straying(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of the context's drop: what it did to the state
        // comes before the next message.
        self.flag.load(Ordering::Acquire) != GONE
            && self.flag.swap(AWAITED, Ordering::AcqRel) != GONE
    }
}

/// The context's side.
struct Anchor {
    cell: NonNull<Header>,
    mooring: NonNull<Mooring>,
}

impl Drop for Anchor {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Mooring, I1.
        let mooring = unsafe { self.mooring.as_ref() };
        if frame::is_polling(self.cell.as_ptr()) {
            // This thread is the runner, so it cannot be looking at the flag now.
            mooring.flag.store(GONE, Ordering::Release);
        } else {
            self.drop_elsewhere();
        }
    }
}

impl Anchor {
    #[cold]
    fn drop_elsewhere(&self) {
        // SAFETY: Mooring, I1: the cell and its home live until the swap below.
        let held = unsafe { CellRef::new(self.cell) };
        // SAFETY: as above.
        let flag = unsafe { &self.mooring.as_ref().flag };
        if flag.swap(GONE, Ordering::AcqRel) == AWAITED {
            // SAFETY: `held` keeps both alive.
            unsafe { cell::wake(self.cell) };
        }
        drop(held);
    }
}

/// A message's identity, limits, helpers, and exclusive access to its stream's state.
///
/// A handler owns its context. The message counts as handled only when the context is gone too: a
/// context that is sent elsewhere keeps its stream waiting until it is dropped there, and one that
/// is forgotten, or returned as the handler's own value, keeps it waiting for ever.
///
/// ```compile_fail,E0382
/// # fn f(context: executor_core::PolicyContext) {
/// let trail = context.finish();
/// context.attempt(); // used after it was given back
/// # }
/// ```
pub struct PolicyContext<S = ()> {
    anchor: Option<Anchor>,
    lineage: Lineage,
    deadline: Deadline,
    started: u64,
    attempt: u32,
    trail: Trail,
    state: PhantomData<fn() -> S>,
}

// SAFETY: the state is reached through `&mut self` alone (Mooring, I2), so `S: Send` is what it
// takes to use the context on another thread; the anchor's own accesses are atomic.
unsafe impl<S: Send> Send for PolicyContext<S> {}
// SAFETY: a shared context gives no access to the state.
unsafe impl<S: Send> Sync for PolicyContext<S> {}

impl<S: Send + 'static> PolicyContext<S> {
    /// A context that is tied to its message's cell.
    ///
    /// # Safety
    /// `mooring` lies in `cell`, whose message is being started; `mooring.state` is null or points
    /// at the stream's `S`. It is called once for a message.
    #[inline(always)]
    pub(crate) unsafe fn moored<M>(
        cell: NonNull<Header>,
        mooring: &Mooring,
        envelope: &Envelope<M>,
    ) -> Self {
        mooring.flag.store(LIVE, Ordering::Relaxed);
        Self::with_anchor(
            Some(Anchor {
                cell,
                mooring: NonNull::from(mooring),
            }),
            envelope,
        )
    }

    /// A context without a cell, for a structured execution.
    #[doc(hidden)]
    #[inline(always)]
    pub fn free<M>(envelope: &Envelope<M>) -> Self {
        Self::with_anchor(None, envelope)
    }

    #[inline(always)]
    fn with_anchor<M>(anchor: Option<Anchor>, envelope: &Envelope<M>) -> Self {
        Self {
            anchor,
            lineage: envelope.lineage(),
            deadline: envelope.raw_deadline(),
            started: 0,
            attempt: 1,
            trail: Trail::default(),
            state: PhantomData,
        }
    }

    /// The stream's state.
    ///
    /// It was made by the executor's state factory, and is dropped with the stream, or when a
    /// handler panics.
    ///
    /// # Panics
    /// In a `PolicyContext<S>` that was made outside a serial executor, which only a parallel
    /// executor does, for `S = ()`.
    #[must_use]
    pub fn state(&mut self) -> &mut S {
        let anchor = self
            .anchor
            .as_ref()
            .expect("only serial executors have state");
        // SAFETY: Mooring, I1.
        let state = unsafe { anchor.mooring.as_ref() }.state.cast::<S>();
        assert!(!state.is_null(), "only serial executors have state");
        // SAFETY: Mooring, I1 and I2: it lives and nobody else reaches it.
        unsafe { &mut *state }
    }
}

impl<S> PolicyContext<S> {
    /// The message's id.
    #[must_use]
    pub fn message_id(&self) -> uuid::Uuid {
        self.lineage.id
    }

    /// The id that all messages of one conversation share.
    #[must_use]
    pub fn correlation_id(&self) -> uuid::Uuid {
        self.lineage.correlation
    }

    /// An envelope for a message that this one causes: it inherits the correlation, and its
    /// causation is this message's id.
    #[inline]
    pub fn envelope<M>(&self, payload: M) -> Envelope<M> {
        Envelope::child_of(self.lineage, payload)
    }

    /// When the message expires; it was checked before the start, and is the handler's to heed now.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// When the handler started, read from the clock at the first call.
    #[must_use]
    pub fn started(&mut self) -> Instant {
        let elapsed = crate::clock::coarse_monotonic_nanos().saturating_sub(self.started_nanos());
        Instant::now() - std::time::Duration::from_nanos(elapsed)
    }

    fn started_nanos(&mut self) -> u64 {
        if self.started == 0 {
            self.started = crate::clock::coarse_monotonic_nanos();
        }
        self.started
    }

    /// How often the message was tried, this time included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the holder of the completion asked for cancellation after the start.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: Mooring, I1: the cell lives.
        self.anchor
            .as_ref()
            .is_some_and(|anchor| unsafe { anchor.cell.as_ref() }.status.is_cancel_requested())
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
        unsafe { &*frame.environment }.services.get::<T>()
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
        self.trail.record(rule, matched, reason);
    }

    /// The decisions so far.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Gives the context back and keeps the decisions.
    pub fn finish(mut self) -> Trail {
        std::mem::take(&mut self.trail)
    }
}

impl<S> fmt::Debug for PolicyContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyContext")
            .field("message_id", &self.lineage.id)
            .field("correlation_id", &self.lineage.correlation)
            .field("deadline", &self.deadline())
            .field("attempt", &self.attempt)
            .field("trail", &self.trail)
            .finish_non_exhaustive()
    }
}
