//! Tasks without a stream: closures, futures, and messages that run under a permit.

use std::cell::Cell as StdCell;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::mem::offset_of;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::cell::{Cell, Header, Job, MakeScope, Scope, Step, drop_quietly};
use crate::context::Mooring;
use crate::core::CoreShared;
use crate::engine::Parked;
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::error::Failure;
use crate::lane::Link;
use crate::message::MessageScope;
use crate::metrics::Outcome;
use crate::strand::StreamName;
use crate::time::kind::{Kind, end_cell};
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
    unsafe fn stream(_: *const ()) -> Option<StreamName> {
        None
    }

    fn caller(&self) -> *const Header {
        ptr::null()
    }

    fn environment(&self) -> *const Environment {
        Environment::none()
    }

    fn generation(&self) -> u32 {
        0
    }

    #[inline]
    fn is_straying(&self) -> bool {
        false
    }

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

    /// # Safety
    /// The caller owns the link, which heads a cell whose scope derefs to this.
    unsafe fn run_cell(
        &self,
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
            if self.note.get() == UNNOTED {
                self.note.set(turn.core.waiting.note(cell));
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

    unsafe fn stream(_: *const ()) -> Option<StreamName> {
        None
    }

    fn caller(&self) -> *const Header {
        ptr::null()
    }

    fn environment(&self) -> *const Environment {
        Environment::none()
    }

    fn generation(&self) -> u32 {
        0
    }

    #[inline]
    fn is_straying(&self) -> bool {
        false
    }

    #[inline]
    fn retire(&self, _: Outcome) {
        self.strike();
    }

    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        // SAFETY: the cell's virtual table led here, so this is its scope.
        let scope = unsafe { scope_of::<Self>(link.cast()) };
        // SAFETY: as the caller says.
        unsafe { scope.run_cell(link.cast(), turn, || false) };
    }
}

/// The scope of a cell.
///
/// # Safety
/// The cell's scope is a `P`, and the cell outlives the use of the reference.
pub(crate) unsafe fn scope_of<'a, P>(cell: NonNull<Header>) -> &'a P {
    // SAFETY: as the caller says.
    let offset = unsafe { cell.as_ref() }.vtable().scope_offset;
    // SAFETY: the scope lies there, in the cell.
    let scope = unsafe { cell.byte_add(offset) }.cast::<P>();
    // SAFETY: as the caller says.
    unsafe { scope.as_ref() }
}

/// What the owner of a limit is told about its messages.
pub trait Limiter: Send + Sync + 'static {
    /// The executor's environment.
    fn environment(&self) -> &Environment;
    /// A message ended; its permit is free.
    #[doc(hidden)]
    fn retire(&self, outcome: Ended, generation: u32);
    /// Whether a shutdown in abort mode runs.
    fn is_aborting(&self) -> bool;
    /// The drain generation of messages admitted now.
    fn generation(&self) -> u32;
    /// Admits a delayed message whose time has come, behind all that wait; it waits for nothing, and
    /// runs no code of the user.
    ///
    /// # Errors
    /// The message comes back when new ones are refused.
    fn admit(&self, generation: u32, message: Parked) -> Result<(), Parked>;
    /// Counts a delayed message that ended before it was admitted.
    fn forgo(&self, outcome: Ended);
}

/// How a message ended, for a [`Limiter`].
#[derive(Debug, Clone, Copy)]
pub struct Ended(pub(crate) Outcome);

impl Ended {
    /// The handler returned `Ok`.
    pub const VALUE: Self = Self(Outcome::Value);
    /// The handler returned `Err`.
    pub const FAILED: Self = Self(Outcome::Failed);

    /// Whether the handler returned `Ok`.
    #[inline]
    #[must_use]
    pub fn is_value(self) -> bool {
        self.0 == Outcome::Value
    }

    /// How a structured execution ended.
    #[inline]
    pub fn of<T, E>(output: &Result<T, Failure<E>>) -> Self {
        Self(Outcome::of(output))
    }
}

/// The generation of a delayed message before its time.
pub(crate) const UNADMITTED: u32 = u32::MAX;

/// The scope of a message of a parallel executor.
#[repr(C)]
pub(crate) struct UnderLimit<L: Limiter> {
    on_core: OnCore,
    limiter: Arc<L>,
    /// The drain generation; that of a delayed message is set when it is admitted.
    generation: StdCell<u32>,
    /// Last, since its own last part is not written before the start.
    mooring: Mooring,
}

/// What the scope of a new message under a limit is made from.
pub(crate) struct NewUnderLimit<L: Limiter> {
    pub(crate) on_core: OnCore,
    pub(crate) limiter: Arc<L>,
    pub(crate) generation: u32,
}

impl<L: Limiter> MakeScope<UnderLimit<L>> for NewUnderLimit<L> {
    #[inline]
    unsafe fn make_at(self, slot: *mut UnderLimit<L>) {
        // SAFETY: there is room for the whole scope, here and in the next lines.
        let mooring = unsafe { &raw mut (*slot).mooring };
        // SAFETY: as above.
        unsafe { Mooring::make_at(mooring) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).on_core };
        // SAFETY: as above.
        unsafe { place.write(self.on_core) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).limiter };
        // SAFETY: as above.
        unsafe { place.write(self.limiter) };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*slot).generation };
        // SAFETY: as above.
        unsafe { place.write(StdCell::new(self.generation)) };
    }
}

impl<L: Limiter> UnderLimit<L> {
    /// A delayed message whose time has come: the cell is ours to run, and has this scope.
    fn admit(cell: NonNull<Header>, _: &CoreShared) -> Option<*const ()> {
        // SAFETY: as above.
        let scope = unsafe { scope_of::<Self>(cell) };
        let limiter = Arc::clone(&scope.limiter);
        scope.generation.set(limiter.generation());
        let parked = Parked::new(cell);
        match limiter.admit(scope.generation.get(), parked) {
            Ok(()) => Some(ptr::null()),
            Err(_refused) => {
                scope.generation.set(UNADMITTED);
                None
            }
        }
    }

    /// A delayed message under a limit.
    pub(crate) const DUE: &'static Kind = &Kind {
        admit: Self::admit,
        settle: |_| {},
        end: end_cell,
        owner: |cell| {
            // SAFETY: the cell is ours to run, and has this scope.
            let scope = unsafe { scope_of::<Self>(cell) };
            Arc::as_ptr(&scope.limiter).cast()
        },
        is_awaited: false,
    };
}

impl<L: Limiter> Scope for UnderLimit<L> {
    fn home(&self) -> *const () {
        self.on_core.home()
    }

    unsafe fn hold(home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::hold(home) };
    }

    unsafe fn unhold(home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::unhold(home) };
    }

    unsafe fn wake(cell: NonNull<Header>, home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::wake(cell, home) };
    }

    unsafe fn stream(_: *const ()) -> Option<StreamName> {
        None
    }

    fn caller(&self) -> *const Header {
        ptr::null()
    }

    fn environment(&self) -> *const Environment {
        self.limiter.environment()
    }

    fn generation(&self) -> u32 {
        self.generation.get()
    }

    #[inline]
    fn is_straying(&self) -> bool {
        self.mooring.is_straying()
    }

    fn retire(&self, outcome: Outcome) {
        self.on_core.strike();
        match self.generation.get() {
            UNADMITTED => self.limiter.forgo(Ended(outcome)),
            generation => self.limiter.retire(Ended(outcome), generation),
        }
    }

    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        let cell = link.cast::<Header>();
        // SAFETY: as for `OnCore`.
        let scope = unsafe { scope_of::<Self>(cell) };
        if scope.limiter.is_aborting() {
            // SAFETY: the caller owns the cell.
            let abort = unsafe { cell.as_ref() }.vtable().abort;
            // SAFETY: as above.
            if unsafe { abort(cell) } == Step::Finished {
                return;
            }
            // A straying context keeps it: wait for that like for any wake.
        }
        // SAFETY: as the caller says.
        unsafe {
            scope
                .on_core
                .run_cell(cell, turn, || scope.limiter.is_aborting())
        };
    }
}

// SAFETY: the mooring lies there.
unsafe impl<L: Limiter> MessageScope for UnderLimit<L> {
    const MOORING: usize = offset_of!(Self, mooring);

    #[inline]
    fn prepare(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The job of a [`Promise`]: nothing runs, somebody keeps the other end.
pub(crate) struct Promised<T>(std::marker::PhantomData<fn() -> T>);

impl<T: Send + 'static> Job for Promised<T> {
    type Value = T;
    type Error = Infallible;
    type Message = ();
    type Future = Ready<Result<T, Infallible>>;
    type Scope = Nowhere;

    fn begin(self, _: NonNull<Header>, _: &Nowhere) -> Result<Self::Future, Failure> {
        unreachable!("a promise never runs")
    }

    fn into_message(self) -> Envelope<()> {
        Envelope::new(())
    }
}

/// The end of a pooled one-shot channel that gives the value.
///
/// Dropped without a value, its completion ends as aborted.
pub struct Promise<T: Send + 'static> {
    cell: Option<NonNull<Header>>,
    value: std::marker::PhantomData<fn(T)>,
}

// SAFETY: the promise is the cell's only runner, and moves a `T: Send` in.
unsafe impl<T: Send> Send for Promise<T> {}
// SAFETY: `&Promise` reads the status word only.
unsafe impl<T: Send> Sync for Promise<T> {}

/// A promise and the completion that waits for it.
pub fn promise<T: Send + 'static>() -> (Promise<T>, crate::Completion<T>) {
    let cell = Cell::<Promised<T>>::vacant(Nowhere, true);
    // SAFETY: the cell is private; marking it started keeps a cancel away from its empty body.
    unsafe { cell.as_ref() }.status.start_joined();
    // SAFETY: the job's types are `T` and `Infallible`, and it was made joined.
    let completion = unsafe { crate::Completion::new(cell) };
    (
        Promise {
            cell: Some(cell),
            value: std::marker::PhantomData,
        },
        completion,
    )
}

impl<T: Send + 'static> Promise<T> {
    /// Gives the value.
    pub fn fulfil(mut self, value: T) {
        self.settle(Ok(value));
    }

    /// Whether somebody still waits.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        // SAFETY: the runner's hold keeps the cell alive.
        self.cell
            .is_some_and(|cell| unsafe { cell.as_ref() }.status.is_joined())
    }

    /// The promise's cell, whose runner is the caller now.
    pub(crate) fn into_cell(mut self) -> NonNull<Header> {
        self.cell.take().expect("a promise is given away once")
    }

    fn settle(&mut self, output: Result<T, Failure>) {
        if let Some(cell) = self.cell.take() {
            // SAFETY: the promise is the runner, and the body is empty.
            let step = unsafe { Cell::<Promised<T>>::settle(cell, output) };
            debug_assert_eq!(step, Step::Finished);
        }
    }
}

impl<T: Send + 'static> std::fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Promise")
            .field("is_awaited", &self.is_awaited())
            .finish()
    }
}

impl<T: Send + 'static> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(Failure::Aborted));
    }
}
