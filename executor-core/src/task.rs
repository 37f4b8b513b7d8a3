//! Tasks without a stream: closures, futures, and messages that run under a permit.

mod limit;
mod promise;

use std::cell::Cell as StdCell;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll};

pub use self::limit::UNADMITTED;
pub(crate) use self::limit::UnderLimit;
pub use self::limit::{Ended, Limiter};
pub(crate) use self::promise::Promised;
pub use self::promise::{Promise, promise};
use crate::cell::{Header, Job, Scope, Step, drop_quietly};
use crate::core::CoreShared;
use crate::envelope::Envelope;
use crate::error::Failure;
use crate::lane::Link;
use crate::metrics::Outcome;
use crate::worker::Turn;

/// A closure as a job.
pub(crate) struct Call<F>(pub(crate) F);

impl<R, F> Job for Call<F>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Value = R;
    type Error = Infallible;
    type Message = ();
    type Future = Ready<Result<R, Infallible>>;
    type Scope = Nowhere;

    #[inline]
    fn begin(self, _: NonNull<Header>, _: &Nowhere) -> Result<Self::Future, Failure> {
        Ok(ready(Ok((self.0)())))
    }

    fn into_message(self) -> Envelope<()> {
        drop_quietly(self.0);
        Envelope::new(())
    }
}

/// A future as a job.
pub(crate) struct Spawned<F>(pub(crate) F);

/// A future whose value is never an error.
pub(crate) struct Infallibly<F>(F);

impl<F: Future> Future for Infallibly<F> {
    type Output = Result<F::Output, Infallible>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the only field is pinned with the struct, and never moved out of it.
        let inner = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        inner.poll(context).map(Ok)
    }
}

impl<F> Job for Spawned<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Value = F::Output;
    type Error = Infallible;
    type Message = ();
    type Future = Infallibly<F>;
    type Scope = OnCore;

    #[inline]
    fn begin(self, _: NonNull<Header>, _: &OnCore) -> Result<Self::Future, Failure> {
        Ok(Infallibly(self.0))
    }

    fn into_message(self) -> Envelope<()> {
        drop_quietly(self.0);
        Envelope::new(())
    }
}

/// The scope of work that is never woken.
pub(crate) struct Nowhere;

impl Scope for Nowhere {
    fn home(&self) -> *const () {
        ptr::null()
    }

    unsafe fn hold(_: *const ()) {}
    unsafe fn unhold(_: *const ()) {}
    unsafe fn wake(_: NonNull<Header>, _: *const ()) {}
    #[inline]
    fn retire(&self, _: Outcome) {}

    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        let cell = link.cast::<Header>();
        // SAFETY: the caller owns the cell.
        let vtable = unsafe { cell.as_ref() }.vtable();
        let run = if turn.core.is_aborting() {
            vtable.abort
        } else {
            vtable.poll
        };
        // SAFETY: as above. A call is never pending.
        let step = unsafe { run(cell) };
        debug_assert_eq!(step, Step::Finished);
    }
}

/// The scope of a spawned future: the core whose lanes it goes back to.
pub(crate) struct OnCore {
    core: *const CoreShared,
    /// Where the core has it noted, once it had to wait.
    pub(crate) note: StdCell<u64>,
}

/// No note.
pub(crate) const UNNOTED: u64 = u64::MAX;

impl OnCore {
    pub(crate) fn new(core: &Arc<CoreShared>) -> Self {
        Self {
            // From the `Arc`, so that the pointer may be turned into counts of it.
            core: Arc::as_ptr(core),
            note: StdCell::new(UNNOTED),
        }
    }

    fn core(&self) -> &CoreShared {
        // SAFETY: the core lives while a task of it is not done, and while wakers hold it.
        unsafe { &*self.core }
    }

    #[inline]
    fn strike(&self) {
        if self.note.get() != UNNOTED {
            self.strike_note();
        }
    }

    #[cold]
    fn strike_note(&self) {
        self.core().waiting.strike(self.note.replace(UNNOTED));
        self.core().check_exit();
    }

    /// Polls or aborts a cell whose scope has `this`; not by reference, since both may be freed by that.
    ///
    /// # Safety
    /// The caller owns the cell, and `this` lies in its scope.
    unsafe fn run_cell(
        this: NonNull<Self>,
        cell: NonNull<Header>,
        turn: &Turn<'_>,
        is_aborting: impl FnOnce() -> bool,
    ) {
        // SAFETY: the caller owns the cell.
        let vtable = unsafe { cell.as_ref() }.vtable();
        let run = if turn.core.is_aborting() {
            vtable.abort
        } else {
            vtable.poll
        };
        // SAFETY: as above.
        if unsafe { run(cell) } == Step::Pending {
            // SAFETY: pending: the cell is still ours until it is parked.
            let note = unsafe { &this.as_ref().note };
            if note.get() == UNNOTED {
                note.set(turn.core.waiting.note(cell));
                // An abort that looked at those who wait before this note is seen here, by way of
                // the notes' lock; one that looks later wakes the task. Running, it is not pushed.
                if turn.core.is_aborting() || is_aborting() {
                    // SAFETY: pending: the cell is still ours until it is parked.
                    let _running = unsafe { cell.as_ref() }.status.notify();
                }
            }
            // SAFETY: pending: the cell is still ours until it is parked.
            if unsafe { cell.as_ref() }.status.park() {
                turn.core.push_admitted(cell.cast());
            }
        }
    }
}

impl Scope for OnCore {
    fn home(&self) -> *const () {
        self.core.cast()
    }

    unsafe fn hold(home: *const ()) {
        // SAFETY: the home is a core that lives in an `Arc`.
        unsafe { Arc::increment_strong_count(home.cast::<CoreShared>()) };
    }

    unsafe fn unhold(home: *const ()) {
        // SAFETY: balances `hold`.
        unsafe { Arc::decrement_strong_count(home.cast::<CoreShared>()) };
    }

    unsafe fn wake(cell: NonNull<Header>, home: *const ()) {
        // SAFETY: the caller keeps the cell alive.
        if unsafe { cell.as_ref() }.status.notify() {
            // SAFETY: the caller keeps the home alive.
            let core = unsafe { &*home.cast::<CoreShared>() };
            core.push_admitted(cell.cast());
        }
    }

    #[inline]
    fn retire(&self, _: Outcome) {
        self.strike();
    }

    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        // SAFETY: the cell's virtual table led here, so this is its scope.
        let scope = unsafe { scope_in::<Self>(link.cast()) };
        // SAFETY: as the caller says.
        unsafe { Self::run_cell(scope, link.cast(), turn, || false) };
    }
}

/// Where the scope of a cell lies.
///
/// # Safety
/// The cell is alive, and its scope is a `P`.
unsafe fn scope_in<P>(cell: NonNull<Header>) -> NonNull<P> {
    // SAFETY: as the caller says.
    let offset = unsafe { cell.as_ref() }.vtable().scope_offset;
    // SAFETY: the scope lies there, in the cell.
    unsafe { cell.byte_add(offset) }.cast()
}

/// The scope of a cell.
///
/// # Safety
/// The cell's scope is a `P`, and the cell outlives the use of the reference.
pub(crate) unsafe fn scope_of<'a, P>(cell: NonNull<Header>) -> &'a P {
    // SAFETY: as the caller says.
    let scope = unsafe { scope_in::<P>(cell) };
    // SAFETY: as the caller says.
    unsafe { scope.as_ref() }
}
