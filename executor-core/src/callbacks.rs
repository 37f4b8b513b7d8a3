//! A lane of small closures, run one after another on the workers.
//!
//! The lane's word is that of a stream (`strand_word`): whoever makes it busy by a push puts it into
//! a worker's lane; its owner takes all that is queued as a snapshot and runs it in order. After a
//! worker's budget it goes to the back of the worker's lane, so neither a long snapshot nor a call
//! that queues its successor keeps others from running.
//!
//! # Invariants
//! - I1. `taken` is the owner's alone, as `strand_word` says who that is.
//! - I2. While the lane is in a worker's lane or being run, one count of its `Arc` belongs to that;
//!   each delayed call has one more until it was admitted.

use std::cell::Cell as StdCell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cell::{Cell, CellList, Header, Job, Scope, Step, drop_quietly, expose, link_to};
use crate::completion::Completion;
use crate::core::{CoreShared, WorkerCore, refused};
use crate::envelope::Envelope;
use crate::error::{Failure, Rejected};
use crate::frame;
use crate::lane::{Link, LinkVTable};
use crate::lifecycle::{Lifecycle, Report, Shutdown};
use crate::metrics::Outcome;
use crate::slice::Slice;
use crate::strand_word::{LetGo, Push, StrandWord};
use crate::sync::{AtomicU8, Ordering};
use crate::task::{Call, Nowhere, promise, scope_of};
use crate::time::When;
use crate::time::clockwork::Clockwork;
use crate::time::delayed::Delayed;
use crate::time::kind::{Kind, end_cell};
use crate::time::sleep::within;
use crate::worker::Turn;

const OPEN: u8 = 0;
/// No handle is left: nothing is delayed any more.
const ABANDONED: u8 = 1;
const CLOSED: u8 = 2;
const ABORTING: u8 = 3;

/// A lane to which any thread queues closures, which run on the workers one after another, in the
/// order of the calls; made by [`WorkerCore::callbacks`].
///
/// Cheap to clone; all clones are one lane. A closure that panics ends its own call alone. A closure
/// may queue others, which run after everything that is queued already. Dropping the last handle ends
/// what is delayed as aborted; what is queued still runs.
///
/// # Examples
/// ```
/// # use executor_core::WorkerCore;
/// let core = WorkerCore::threads(2).build()?;
/// let lane = core.callbacks();
/// lane.call_detached(|| println!("first"))?;
/// let second = lane.call(|| "second")?;
/// assert_eq!(second.into_completion().wait()?, "second");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Callbacks {
    /// One count for each handle: a callback often holds a handle, to queue its successor.
    life: Arc<Life>,
}

/// What ends with the last handle.
struct Life(Arc<CallbackLane>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.phase.fetch_max(ABANDONED, Ordering::SeqCst);
        self.0.end_delayed();
    }
}

#[repr(C)]
struct CallbackLane {
    link: Link,
    word: StrandWord,
    /// What is left of the snapshot, oldest first.
    taken: StdCell<*mut Header>,
    phase: AtomicU8,
    core: WorkerCore,
}

// SAFETY: the plain field is the owner's (I1); closures and their results are `Send`.
unsafe impl Send for CallbackLane {}
// SAFETY: as above.
unsafe impl Sync for CallbackLane {}

static VTABLE: LinkVTable = LinkVTable {
    run: CallbackLane::run,
};

/// A closure that comes to its lane later.
struct LaneCall<F>(F);

impl<R, F> Job for LaneCall<F>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Value = R;
    type Error = Infallible;
    type Message = ();
    type Future = Ready<Result<R, Infallible>>;
    type Scope = InLane;

    #[inline]
    fn begin(self, _: NonNull<Header>, _: &InLane) -> Result<Self::Future, Failure> {
        Ok(ready(Ok((self.0)())))
    }

    fn into_message(self) -> Envelope<()> {
        drop_quietly(self.0);
        Envelope::new(())
    }
}

/// What a delayed call keeps of its lane, which is alive while the call is delayed or queued.
struct InLane(*const CallbackLane);

impl Scope for InLane {
    fn home(&self) -> *const () {
        ptr::null()
    }

    // A call is never woken.
    unsafe fn hold(_: *const ()) {}
    unsafe fn unhold(_: *const ()) {}
    unsafe fn wake(_: NonNull<Header>, _: *const ()) {}
    #[inline]
    fn retire(&self, _: Outcome) {}

    unsafe fn run(_: NonNull<Link>, _: &Turn<'_>) {
        unreachable!("a lane's calls are run by the lane");
    }
}

/// A delayed call.
static DUE: Kind = Kind {
    admit: |cell, _| {
        // SAFETY: the cell is ours to run, and a call of a lane.
        let lane = unsafe { scope_of::<InLane>(cell) }.0;
        // SAFETY: I2.
        unsafe { CallbackLane::push(lane, cell) }.then_some(lane.cast())
    },
    // SAFETY: the count was the timer's (I2).
    settle: |lane| unsafe { Arc::decrement_strong_count(lane.cast::<CallbackLane>()) },
    end: |cell| {
        // SAFETY: the cell is ours to run, and a call of a lane.
        let lane = unsafe { scope_of::<InLane>(cell) }.0;
        // SAFETY: it was not started.
        unsafe { end_cell(cell) };
        // SAFETY: the count was the timer's (I2).
        unsafe { Arc::decrement_strong_count(lane) };
    },
    // SAFETY: the cell is ours to run, and a call of a lane.
    owner: |cell| unsafe { scope_of::<InLane>(cell) }.0.cast(),
    is_awaited: false,
};

impl CallbackLane {
    fn core(&self) -> &CoreShared {
        self.core.shared()
    }

    /// Queues a call; false: the lane is closed.
    ///
    /// # Safety
    /// The lane lives in an `Arc`, from which the pointer is.
    #[inline]
    unsafe fn push(lane: *const Self, cell: NonNull<Header>) -> bool {
        // SAFETY: as the caller says.
        let this = unsafe { &*lane };
        match (this.word).push(expose(cell), |older| link_to(cell, older)) {
            Push::Scheduled => {
                // SAFETY: as the caller says. The count goes with the lane (I2).
                unsafe { Arc::increment_strong_count(lane) };
                // SAFETY: it is not null.
                let link = unsafe { NonNull::new_unchecked(lane.cast_mut()) };
                this.core().push_admitted(link.cast());
            }
            Push::Queued => {}
            Push::Closed => return false,
        }
        true
    }

    /// Runs a slice.
    ///
    /// # Safety
    /// The link heads a lane, and its ownership and count (I2) are the caller's.
    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        // SAFETY: I2.
        let this = unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) };
        let budget = turn.core.options.budget;
        let mut slice = Slice::default();
        loop {
            let Some(cell) = this.next() else {
                if this.word.let_go() == LetGo::Kept {
                    continue;
                }
                return;
            };
            // SAFETY: a queued cell is alive, and the owner's to run.
            let vtable = unsafe { cell.as_ref() }.vtable();
            let abort = this.phase.load(Ordering::Relaxed) == ABORTING;
            let run = if abort { vtable.abort } else { vtable.poll };
            // SAFETY: as above. A call is never pending.
            let step = unsafe { run(cell) };
            debug_assert_eq!(step, Step::Finished);
            if slice.is_over(budget, !this.taken.get().is_null()) {
                let _ = Arc::into_raw(this);
                turn.end_slice(&slice, link);
                return;
            }
        }
    }

    /// The next call of the snapshot, or of a new one.
    #[inline]
    fn next(&self) -> Option<NonNull<Header>> {
        if self.taken.get().is_null() {
            let newest = self.word.take();
            // SAFETY: the owner took the whole list (I1).
            let list = unsafe { CellList::reversed(newest) };
            self.taken.set(list.into_raw());
        }
        // SAFETY: I1: the list is the owner's.
        let mut list = unsafe { CellList::from_raw(self.taken.get()) };
        let cell = list.pop()?;
        self.taken.set(list.into_raw());
        Some(cell)
    }

    fn end_delayed(&self) {
        let owner = ptr::from_ref(self).cast();
        self.core().sweep_timers(Some(owner));
    }

    /// Waits until what is queued has run; false: not within the deadline.
    async fn has_run(&self, deadline: Duration) -> bool {
        let Some(over) = self.mark() else { return true };
        let in_time = within(&self.core.handle.0, deadline, over).await;
        in_time.is_some()
    }

    /// A completion that is ready when what is queued has run; none: nothing is.
    fn mark(&self) -> Option<Completion<()>> {
        let (done, over) = promise();
        let marker = Call(move || done.fulfil(()));
        let cell = Cell::with_job(marker, Nowhere, false);
        let queued = self
            .word
            .push_if_busy(expose(cell), |older| link_to(cell, older));
        if !queued {
            // SAFETY: it was not pushed, so nobody else has it.
            unsafe { end_cell(cell) };
        }
        queued.then_some(over)
    }
}

impl Lifecycle for CallbackLane {
    fn close(
        &self,
        mode: Shutdown,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        self.refuse(mode);
        Box::pin(async move {
            Report {
                still_running: Lifecycle::settle(self, deadline).await,
                ..Report::default()
            }
        })
    }

    fn settle(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(async move {
            // From inside a call it would wait for itself.
            let over = frame::is_outermost() && self.has_run(deadline).await;
            u64::from(!over && self.word.is_busy())
        })
    }

    fn refuse(&self, mode: Shutdown) {
        let phase = match mode {
            Shutdown::Drain => CLOSED,
            Shutdown::Abort => ABORTING,
        };
        self.phase.fetch_max(phase, Ordering::SeqCst);
        self.word.close();
        self.end_delayed();
    }

    fn is_idle(&self) -> bool {
        !self.word.is_busy()
    }
}

impl Callbacks {
    #[inline]
    fn lane(&self) -> &Arc<CallbackLane> {
        &self.life.0
    }

    /// Queues a closure, to run when its turn comes.
    ///
    /// It gives a [`Delayed`] for the sake of [`Delayed::cancel`], which takes the call back while
    /// it is queued. The call is admitted at once, so that nothing in the docs of [`Delayed`] about
    /// its time applies: it is not pending and cannot be rescheduled, a drain of the core waits for
    /// it, and a shutdown in drain mode and the drop of the last handle let it run.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    #[inline]
    pub fn call<R, F>(&self, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let cell = self.queue(call, true)?;
        // SAFETY: the job's types are these, and it was made joined.
        Ok(Delayed::queued(unsafe { Completion::new(cell) }))
    }

    /// Queues a closure, to run when its turn comes, and drops its result.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    #[inline]
    pub fn call_detached<R, F>(&self, call: F) -> Result<(), Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.queue(call, false).map(drop)
    }

    #[inline]
    fn queue<R, F>(&self, call: F, joined: bool) -> Result<NonNull<Header>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        // Without the lane's address a small call is one line of the cache.
        let cell = Cell::with_job(Call(call), Nowhere, joined);
        // SAFETY: the lane is in this `Arc`.
        if unsafe { CallbackLane::push(Arc::as_ptr(self.lane()), cell) } {
            Ok(cell)
        } else {
            // SAFETY: it was not pushed, so nobody else has it.
            Err(refused(unsafe { Cell::<Call<F>>::into_job(cell) }.0))
        }
    }

    /// Queues a closure after `delay`: never earlier, and at most a tick plus scheduling later. Those
    /// with the same time are queued in the order of the calls.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    pub fn call_after<R, F>(&self, delay: Duration, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.delay(When::After(delay), call)
    }

    /// Queues a closure at `instant`, or at once if that is past; see [`Callbacks::call_after`].
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    pub fn call_at<R, F>(&self, instant: Instant, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.delay(When::At(instant), call)
    }

    fn delay<R, F>(&self, when: When, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let lane = self.lane();
        if lane.phase.load(Ordering::SeqCst) >= CLOSED || !lane.core().timers.is_open() {
            return Err(refused(call));
        }
        let tick = lane.core().timers.tick_of(when);
        let home = Arc::into_raw(Arc::clone(lane));
        let cell = Cell::with_job(LaneCall(call), InLane(home), true);
        // SAFETY: the job's types are these, and it was made joined.
        let completion = unsafe { Completion::new(cell) };
        let index = Clockwork::lane_of(home.addr());
        // SAFETY: the cell is a new call of the lane, of which it has a count, and the timer its
        // runner from now on.
        let timer = unsafe { lane.core().schedule(&DUE, cell, index, tick) };
        if lane.phase.load(Ordering::SeqCst) != OPEN || !lane.core().timers.is_open() {
            // It may have come too late to be ended.
            lane.end_delayed();
        }
        Ok(Delayed::new(completion, timer))
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("is_busy", &self.lane().word.is_busy())
            .finish_non_exhaustive()
    }
}

impl WorkerCore {
    /// A new lane of closures.
    #[must_use]
    pub fn callbacks(&self) -> Callbacks {
        let lane = Arc::new(CallbackLane {
            link: Link {
                next: StdCell::new(ptr::null_mut()),
                vtable: &raw const VTABLE,
            },
            word: StrandWord::new(),
            taken: StdCell::new(ptr::null_mut()),
            phase: AtomicU8::new(OPEN),
            core: self.clone(),
        });
        let weak: std::sync::Weak<CallbackLane> = Arc::downgrade(&lane);
        if !self.shared().adopt(weak) {
            lane.refuse(Shutdown::Drain);
        }
        Callbacks {
            life: Arc::new(Life(lane)),
        }
    }
}
