//! The task cell: header; one after the other the job, its future and its output; scope.
//!
//! # Layout
//! | part | bytes | content |
//! | --- | --- | --- |
//! | header | 40 | link, virtual table, status word, the completion's waker |
//! | body | any | a union: job until started, future until ready, output until taken |
//! | scope | 0 and up | what the job's home keeps beside it: stream, caller, mooring |
//!
//! # Invariants
//! - I1. The status word (see `status`) decides who may touch which part, and who frees the cell.
//! - I2. The body is the job before `STARTED`, the future while the runner has it, the output once
//!   the future was dropped; nothing once a canceller took the message; with `HOLLOW` the outcome.
//! - I3. Only the runner touches the scope's plain fields, except `home` and `caller`, which are
//!   written before the cell is shared and read by anybody who holds it.
//! - I4. User code (handler, drops, wakers) runs under `catch`, with the cell in a state from which
//!   it can be finished.

use std::any::Any;
use std::cell::{Cell as StdCell, UnsafeCell};
use std::future::Future;
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::error::{Failure, Panic};
use crate::frame;
use crate::lane::{Link, LinkVTable};
use crate::metrics::Outcome;
use crate::pool::{self, Class};
use crate::status::{Finish, Start, Status};
use crate::strand::StreamName;
use crate::worker::Turn;

/// The part of a cell whose type does not depend on the job.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) link: Link,
    pub(crate) status: Status,
    /// The completion's waker (`status`, I3).
    pub(crate) waker: UnsafeCell<MaybeUninit<Waker>>,
}

/// What differs between jobs.
#[repr(C)]
pub(crate) struct CellVTable {
    link: LinkVTable,
    /// Starts or polls the work once.
    pub(crate) poll: unsafe fn(NonNull<Header>) -> Step,
    /// Ends the work as aborted, wherever it is.
    pub(crate) abort: unsafe fn(NonNull<Header>) -> Step,
    pub(crate) take_message: unsafe fn(NonNull<Header>, *mut u8),
    pub(crate) drop_output: unsafe fn(NonNull<Header>),
    pub(crate) output_offset: usize,
    pub(crate) scope_offset: usize,
    pub(crate) class: Class,
    /// Whether the job is the framework's own and leaves no trace in the metrics.
    pub(crate) control: bool,
    home: unsafe fn(NonNull<Header>) -> *const (),
    environment: unsafe fn(NonNull<Header>) -> *const Environment,
    generation: unsafe fn(NonNull<Header>) -> u32,
    caller: unsafe fn(NonNull<Header>) -> *const Header,
    hold: unsafe fn(*const ()),
    unhold: unsafe fn(*const ()),
    wake: unsafe fn(NonNull<Header>, *const ()),
    stream: unsafe fn(*const ()) -> Option<StreamName>,
    /// Drops the scope and gives the reference to the caller's cell, if it had one.
    drop_scope: unsafe fn(NonNull<Header>) -> Option<CellRef>,
}

/// What one slice of work led to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The message is handled; the cell must not be touched again.
    Finished,
    /// It waits for a wake.
    Pending,
}

/// Work of one kind.
pub(crate) trait Job: Sized + Send + 'static {
    type Value: Send + 'static;
    type Error: Send + 'static;
    type Message: Send;
    type Future: Future<Output = Result<Self::Value, Self::Error>> + Send;
    type Scope: Scope;
    const CONTROL: bool = false;

    /// Makes the future; `Err` ends the message without running it.
    fn begin(
        self,
        cell: NonNull<Header>,
        scope: &Self::Scope,
    ) -> Result<Self::Future, Failure<Self::Error>>;
    /// Gives the message back.
    fn into_message(self) -> Envelope<Self::Message>;
}

/// What the home of a job keeps in its cell.
pub(crate) trait Scope {
    /// Where the work goes when it is woken; held while wakers exist.
    fn home(&self) -> *const ();
    /// # Safety
    /// `home` is alive.
    unsafe fn hold(home: *const ());
    /// # Safety
    /// Balances a `hold`.
    unsafe fn unhold(home: *const ());
    /// # Safety
    /// The caller keeps both alive.
    unsafe fn wake(cell: NonNull<Header>, home: *const ());
    /// # Safety
    /// `home` is alive.
    unsafe fn stream(home: *const ()) -> Option<StreamName>;
    /// The cell of the handler that waits for this one.
    fn caller(&self) -> *const Header;
    /// Gives up the reference to that cell, before the scope is dropped.
    fn take_caller(&mut self) -> Option<CellRef> {
        None
    }
    /// The executor that the work belongs to.
    fn environment(&self) -> *const Environment;
    /// The drain generation of the work.
    fn generation(&self) -> u32;
    /// Whether a context has strayed out of the handler and is still alive.
    fn is_straying(&self) -> bool;
    /// The message is handled: counts it, and lets go of permits; before anybody hears of it.
    fn retire(&self, outcome: Outcome);
    /// How a lane runs the cell.
    ///
    /// # Safety
    /// The caller owns the link, which heads a cell with this scope.
    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>);
}

/// What a poll led to.
#[must_use]
pub(crate) enum Ran {
    /// The handler waits for a wake.
    Pending,
    /// The value is in the place that the caller gave.
    Returned,
    /// There is no value, for the reason in the place that the caller gave.
    Failed,
}

/// Makes the scope of a new cell in its place, so that what it leaves open is not written.
pub(crate) trait MakeScope<P> {
    /// # Safety
    /// There is room for a `P` at `slot`, and nothing that is to be dropped.
    unsafe fn make_at(self, slot: *mut P);
}

impl<P: Scope> MakeScope<P> for P {
    #[inline]
    unsafe fn make_at(self, slot: *mut P) {
        // SAFETY: as the caller says.
        unsafe { slot.write(self) };
    }
}

/// Where a poll leaves what it led to.
///
/// Apart from the answer, so that a small value stays small on its way to the caller: an enum of
/// everything that may happen would be copied whole at every return.
pub(crate) struct Polled<J: Job> {
    /// What the handler returned; initialised by [`Ran::Returned`].
    value: MaybeUninit<Result<J::Value, J::Error>>,
    /// Why there is no value; initialised by [`Ran::Failed`].
    failure: MaybeUninit<Failure<J::Error>>,
}

impl<J: Job> Polled<J> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            value: MaybeUninit::uninit(),
            failure: MaybeUninit::uninit(),
        }
    }

    /// # Safety
    /// The poll said [`Ran::Returned`]; the value is taken once.
    #[inline(always)]
    pub(crate) unsafe fn take_value(&mut self) -> Result<J::Value, J::Error> {
        // SAFETY: as the caller says.
        unsafe { self.value.assume_init_read() }
    }

    /// # Safety
    /// The poll said [`Ran::Failed`]; the failure is taken once.
    pub(crate) unsafe fn take_failure(&mut self) -> Failure<J::Error> {
        // SAFETY: as the caller says.
        unsafe { self.failure.assume_init_read() }
    }
}

/// What there is to drop when a poll panics.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    /// The future, in the body.
    Future,
    /// The value of a future that has returned.
    Value,
}

pub(crate) type Output<J> = Result<<J as Job>::Value, Failure<<J as Job>::Error>>;

#[repr(C)]
pub(crate) struct Cell<J: Job> {
    header: Header,
    // Right behind the header, so that a small output lies in the line of the status word: whoever
    // waits for it reads both.
    body: UnsafeCell<Body<J>>,
    scope: J::Scope,
}

#[repr(C)]
// The fields give size and alignment; they are reached by pointer.
union Body<J: Job> {
    job: ManuallyDrop<J>,
    future: ManuallyDrop<J::Future>,
    output: ManuallyDrop<Output<J>>,
    /// How a message ended whose output was dropped while it lingered.
    outcome: Outcome,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 40);

impl Header {
    #[inline]
    pub(crate) fn vtable(&self) -> &'static CellVTable {
        // SAFETY: every cell's link points at a whole `CellVTable`, of which `LinkVTable` is the
        // first field, in a static.
        unsafe { &*self.link.vtable.cast::<CellVTable>() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status.is_done()
    }

    pub(crate) fn caller(&self) -> Option<&Header> {
        // SAFETY: I3.
        let caller = unsafe { (self.vtable().caller)(NonNull::from(self)) };
        // SAFETY: the caller's cell is held by this one.
        unsafe { caller.as_ref() }
    }

    pub(crate) fn home(&self) -> *const () {
        // SAFETY: I3.
        unsafe { (self.vtable().home)(NonNull::from(self)) }
    }

    pub(crate) fn environment(&self) -> *const Environment {
        // SAFETY: I3.
        unsafe { (self.vtable().environment)(NonNull::from(self)) }
    }

    pub(crate) fn generation(&self) -> u32 {
        // SAFETY: I3.
        unsafe { (self.vtable().generation)(NonNull::from(self)) }
    }

    pub(crate) fn stream(&self) -> Option<StreamName> {
        // SAFETY: a message that is not done keeps its home alive.
        unsafe { (self.vtable().stream)(self.home()) }
    }
}

/// Frees a cell that nobody else has.
///
/// # Safety
/// The caller was told by the status word that it is the last; the body is empty.
pub(crate) unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: as the caller says.
    if let Some(caller) = unsafe { free_one(cell) } {
        drop(caller);
    }
}

/// Frees a cell, but leaves the reference to its caller's cell to whoever frees it: each cell of a
/// long chain may be the last that holds the next.
///
/// # Safety
/// As [`free`].
unsafe fn free_one(cell: NonNull<Header>) -> Option<CellRef> {
    // SAFETY: the caller has the cell alone.
    let vtable = unsafe { cell.as_ref() }.vtable();
    // SAFETY: the scope is dropped once, here.
    let caller = unsafe { (vtable.drop_scope)(cell) };
    // SAFETY: the cell came from this class and is not used any more.
    unsafe { pool::give(vtable.class, cell.cast()) };
    caller
}

/// Runs user code that must not unwind into the framework.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic::new)
}

/// Drops a value of the user; a panic in its destructor ends here.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(move || drop(value)) {
        forget_payload(panic.into_payload());
    }
}

/// Drops a panic payload whose own destructor may panic.
pub(crate) fn forget_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch(move || drop(payload)) {
        std::mem::forget(second.into_payload());
    }
}

impl<J: Job> Cell<J> {
    const CLASS: Class = Class::of(std::alloc::Layout::new::<Self>());
    /// Where the output of the cell lies, from its start.
    const OUTPUT: usize = offset_of!(Self, body);

    pub(crate) const VTABLE: &'static CellVTable = &CellVTable {
        link: LinkVTable { run: J::Scope::run },
        poll: Self::poll,
        abort: Self::abort,
        take_message: Self::take_message,
        drop_output: Self::drop_output,
        output_offset: Self::OUTPUT,
        scope_offset: offset_of!(Self, scope),
        class: Self::CLASS,
        control: J::CONTROL,
        home: |cell| Self::of(cell).scope.home(),
        environment: |cell| Self::of(cell).scope.environment(),
        generation: |cell| Self::of(cell).scope.generation(),
        caller: |cell| Self::of(cell).scope.caller(),
        hold: J::Scope::hold,
        unhold: J::Scope::unhold,
        wake: J::Scope::wake,
        stream: J::Scope::stream,
        drop_scope: |cell| {
            let scope = Self::of(cell).scope_ptr();
            // SAFETY: `free` is the only caller, once for each cell.
            let mut scope = unsafe { scope.read() };
            let caller = scope.take_caller();
            drop_quietly(scope);
            caller
        },
    };

    /// A new cell that holds `job`.
    #[inline(always)]
    pub(crate) fn with_job(
        job: J,
        scope: impl MakeScope<J::Scope>,
        joined: bool,
    ) -> NonNull<Header> {
        let cell = Self::vacant(scope, joined);
        // SAFETY: the cell is private, and its body is empty.
        unsafe { Self::of(cell).job().write(job) };
        cell
    }

    /// A new cell with an empty body.
    #[inline]
    pub(crate) fn vacant(scope: impl MakeScope<J::Scope>, joined: bool) -> NonNull<Header> {
        let cell = pool::take(Self::CLASS).cast::<Self>();
        let vtable = std::ptr::from_ref(Self::VTABLE).cast::<LinkVTable>();
        let base = cell.as_ptr();
        let header = Header {
            link: Link {
                next: StdCell::new(std::ptr::null_mut()),
                vtable,
            },
            status: Status::new(joined),
            waker: UnsafeCell::new(MaybeUninit::uninit()),
        };
        // SAFETY: the block is ours, and large and aligned enough for the cell by its class.
        unsafe { base.cast::<Header>().write(header) };
        let slot = base.wrapping_byte_add(offset_of!(Self, scope)).cast();
        // SAFETY: as above; the scope follows the body.
        unsafe { scope.make_at(slot) };
        cell.cast()
    }

    /// # Safety-relevant
    /// `cell` heads a cell of this very type; all callers come through its virtual table.
    #[inline]
    fn of<'a>(cell: NonNull<Header>) -> &'a Self {
        // SAFETY: as above. Shared references only: every mutable part is in an `UnsafeCell`.
        unsafe { cell.cast::<Self>().as_ref() }
    }

    // The union's fields all lie at its start: a pointer to the body is a pointer to each.

    fn job(&self) -> *mut J {
        self.body.get().cast()
    }

    fn future(&self) -> *mut J::Future {
        self.body.get().cast()
    }

    fn output(&self) -> *mut Output<J> {
        self.body.get().cast()
    }

    fn outcome(&self) -> *mut Outcome {
        self.body.get().cast()
    }

    fn scope_ptr(&self) -> *mut J::Scope {
        (&raw const self.scope).cast_mut()
    }

    /// The cell's scope.
    ///
    /// # Safety
    /// `cell` heads a cell of this type and is alive for as long as the reference is used.
    pub(crate) unsafe fn scope<'a>(cell: NonNull<Header>) -> &'a J::Scope {
        &Self::of(cell).scope
    }

    unsafe fn poll(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        match this.header.status.start() {
            Start::First => {
                // SAFETY: I2: the claim makes the job ours.
                let start = |scope: &_| unsafe { this.job().read() }.begin(cell, scope);
                let mut polled = Polled::new();
                // SAFETY: the body is the job, which `start` moves out.
                let ran = unsafe { Self::begin(cell, start, &mut polled) };
                // SAFETY: we are the runner; what is over has left the body empty.
                unsafe { Self::settle_if_over(cell, ran, polled) }
            }
            Start::Again => {
                let mut polled = Polled::new();
                // SAFETY: I2: started, not done: the future is in place and ours to poll.
                let ran = unsafe { Self::poll_future(cell, &mut polled) };
                // SAFETY: we are the runner; what is over has left the body empty.
                unsafe { Self::settle_if_over(cell, ran, polled) }
            }
            // SAFETY: the output is in place, unless it is hollow.
            Start::Lingering => unsafe { Self::finish_lingering(cell) },
            // SAFETY: I2: the canceller has taken the body.
            Start::Cancelled => unsafe { Self::finish_cancelled(cell) },
        }
    }

    /// Ends what a poll finished.
    ///
    /// # Safety
    /// The caller is the runner; `ran` and `polled` are of the same poll, and if it is over, the body
    /// is empty.
    #[inline(always)]
    pub(crate) unsafe fn settle_if_over(
        cell: NonNull<Header>,
        ran: Ran,
        mut polled: Polled<J>,
    ) -> Step {
        let output = match ran {
            Ran::Pending => return Step::Pending,
            // SAFETY: returned, and taken once.
            Ran::Returned => unsafe { polled.take_value() }.map_err(Failure::Handler),
            // SAFETY: failed, and taken once.
            Ran::Failed => Err(unsafe { polled.take_failure() }),
        };
        // SAFETY: as the caller says.
        unsafe { Self::settle(cell, output) }
    }

    /// Starts the work and polls it once; when that ends it, the body is empty again.
    ///
    /// The work passes through memory as little as possible: it is started, placed and polled under
    /// one guard.
    ///
    /// # Safety
    /// The caller is the cell's runner and has claimed the start; once `start` has returned, the
    /// body is empty.
    #[inline(always)]
    pub(crate) unsafe fn begin(
        cell: NonNull<Header>,
        start: impl FnOnce(&J::Scope) -> Result<J::Future, Failure<J::Error>>,
        polled: &mut Polled<J>,
    ) -> Ran {
        let this = Self::of(cell);
        let held = StdCell::new(Held::Nothing);
        let ran = frame::enter(cell, || {
            catch(|| match start(&this.scope) {
                Ok(future) => {
                    // SAFETY: the body is empty, as the caller says.
                    unsafe { this.future().write(future) };
                    held.set(Held::Future);
                    // SAFETY: the future is in place, pinned from here on: it is dropped there.
                    unsafe { this.poll_in_place(cell, &held, &mut polled.value) }
                }
                Err(failure) => {
                    polled.failure.write(failure);
                    Ran::Failed
                }
            })
        });
        ran.unwrap_or_else(|panic| this.after_panic(cell, held.get(), panic, polled))
    }

    /// # Safety
    /// The caller is the runner and the future is in place.
    unsafe fn poll_future(cell: NonNull<Header>, polled: &mut Polled<J>) -> Ran {
        let this = Self::of(cell);
        let held = StdCell::new(Held::Future);
        let ran = frame::enter(cell, || {
            // SAFETY: as the caller says.
            catch(|| unsafe { this.poll_in_place(cell, &held, &mut polled.value) })
        });
        ran.unwrap_or_else(|panic| this.after_panic(cell, held.get(), panic, polled))
    }

    /// Polls the future and, when it is ready, drops it.
    ///
    /// # Safety
    /// The caller is the runner and the future is in place.
    #[inline(always)]
    unsafe fn poll_in_place(
        &self,
        cell: NonNull<Header>,
        held: &StdCell<Held>,
        value: &mut MaybeUninit<Result<J::Value, J::Error>>,
    ) -> Ran {
        // The borrowed waker is not counted: it cannot outlive the poll.
        // SAFETY: the table's functions are made for cells, and the cell outlives the poll.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw_waker(cell)) });
        let slot = self.future();
        // SAFETY: I2: the future is in place, and stays there until it is dropped.
        let future = unsafe { pinned(slot) };
        let Poll::Ready(ready) = future.poll(&mut Context::from_waker(&waker)) else {
            return Ran::Pending;
        };
        value.write(ready);
        held.set(Held::Value);
        // SAFETY: I2: dropped once, by the runner; `held` says so to the guard.
        unsafe { slot.drop_in_place() };
        Ran::Returned
    }

    #[cold]
    fn after_panic(
        &self,
        cell: NonNull<Header>,
        held: Held,
        panic: Panic,
        polled: &mut Polled<J>,
    ) -> Ran {
        match held {
            Held::Nothing => {}
            Held::Future => {
                if let Err(second) = frame::enter(cell, || Self::drop_future(self)) {
                    forget_payload(second.into_payload());
                }
            }
            // SAFETY: the future returned, and panicked when it was dropped.
            Held::Value => drop_quietly(unsafe { polled.take_value() }),
        }
        polled.failure.write(Failure::Panicked(panic));
        Ran::Failed
    }

    fn drop_future(this: &Self) -> Result<(), Panic> {
        let slot = this.future();
        // SAFETY: I2: the future is in place and is dropped once, by the runner.
        catch(|| unsafe { slot.drop_in_place() })
    }

    unsafe fn abort(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        match this.header.status.start() {
            Start::First => {
                // SAFETY: I2: the claim makes the job ours.
                let job = unsafe { this.job().read() };
                frame::enter(cell, || drop_quietly(job));
            }
            Start::Again => {
                let dropped = frame::enter(cell, || Self::drop_future(this));
                if let Err(panic) = dropped {
                    forget_payload(panic.into_payload());
                }
            }
            Start::Lingering => {
                // SAFETY: the output is in place, unless it is hollow.
                return unsafe { Self::abort_lingering(cell) };
            }
            // SAFETY: the canceller has taken the body.
            Start::Cancelled => return unsafe { Self::finish_cancelled(cell) },
        }
        // SAFETY: the body is empty.
        unsafe { Self::settle(cell, Err(Failure::Aborted)) }
    }

    /// Ends the work with `output`.
    ///
    /// # Safety
    /// The caller is the runner and the body is empty.
    #[inline]
    pub(crate) unsafe fn settle(cell: NonNull<Header>, output: Output<J>) -> Step {
        let this = Self::of(cell);
        // SAFETY: the body is empty and the runner's (status, I2).
        unsafe { this.output().write(output) };
        // SAFETY: the output is in place.
        unsafe { Self::finish(cell) }
    }

    /// Counts the message, and leaves the cell with its output.
    ///
    /// # Safety
    /// The caller is the runner, and the body is the output.
    #[inline]
    unsafe fn finish(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        if this.scope.is_straying() {
            // SAFETY: as the caller says.
            return unsafe { Self::linger(cell) };
        }
        // SAFETY: the output is in place.
        let outcome = Outcome::of(unsafe { &*this.output() });
        if !J::CONTROL {
            this.scope.retire(outcome);
        }
        // SAFETY: the output is in place, and this is the runner's last act.
        unsafe { leave(cell, true) };
        Step::Finished
    }

    /// Waits for the straying context, unless it is in an output that nobody waits for.
    ///
    /// # Safety
    /// As [`Cell::finish`].
    #[cold]
    unsafe fn linger(cell: NonNull<Header>) -> Step {
        if Self::of(cell).header.status.linger() {
            return Step::Pending;
        }
        // SAFETY: the output is in place.
        unsafe { Self::finish_lingering(cell) }
    }

    /// Looks again at a message whose context strayed: finishes it if the context is gone, and drops
    /// the output if the completion is.
    ///
    /// # Safety
    /// The caller is the runner; the body is the output or, hollow, the outcome.
    #[cold]
    unsafe fn finish_lingering(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        let status = &this.header.status;
        if !status.is_hollow() {
            if status.is_joined() {
                if this.scope.is_straying() {
                    return Step::Pending;
                }
                // SAFETY: the output is in place.
                return unsafe { Self::finish(cell) };
            }
            // SAFETY: the output is in place.
            let outcome = Outcome::of(unsafe { &*this.output() });
            frame::enter(cell, || {
                // SAFETY: the output is in place, and nobody else wants it.
                unsafe { Self::drop_output(cell) };
            });
            // SAFETY: the body is empty.
            unsafe { this.outcome().write(outcome) };
            status.hollow();
        }
        if this.scope.is_straying() {
            return Step::Pending;
        }
        // SAFETY: hollow: the outcome is in place.
        this.scope.retire(unsafe { this.outcome().read() });
        // SAFETY: an outcome needs no drop; this is the runner's last act.
        unsafe { leave(cell, false) };
        Step::Finished
    }

    /// Ends a message whose context strayed as aborted.
    ///
    /// # Safety
    /// As [`Cell::finish_lingering`].
    #[cold]
    unsafe fn abort_lingering(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        if this.header.status.is_hollow() {
            // SAFETY: as the caller says.
            return unsafe { Self::finish_lingering(cell) };
        }
        frame::enter(cell, || {
            // SAFETY: the output is in place, and the runner's until it is done (status, I2).
            unsafe { Self::drop_output(cell) };
        });
        // SAFETY: the body is empty.
        unsafe { this.output().write(Err(Failure::Aborted)) };
        // SAFETY: the output is in place.
        unsafe { Self::finish_lingering(cell) }
    }

    unsafe fn finish_cancelled(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        this.scope.retire(Outcome::Cancelled);
        // SAFETY: the body is empty, and this is the runner's last act.
        unsafe { leave(cell, false) };
        Step::Finished
    }

    /// The runner leaves a cell with an empty body and without a completion.
    ///
    /// # Safety
    /// As the sentence says; the caller does not touch the cell again.
    #[inline]
    pub(crate) unsafe fn release(cell: NonNull<Header>) {
        let this = Self::of(cell);
        if this.header.status.release() {
            // SAFETY: the status word says that the cell is ours alone.
            let scope = unsafe { this.scope_ptr().read() };
            drop(scope);
            // SAFETY: as above; it came from this class.
            unsafe { pool::give(Self::CLASS, cell.cast()) };
        }
    }

    /// Takes a cell apart that could not be pushed anywhere.
    ///
    /// # Safety
    /// The cell was made by [`Cell::with_job`] and never shared.
    pub(crate) unsafe fn into_job(cell: NonNull<Header>) -> J {
        // SAFETY: I2: not started, so the job is in place.
        let job = unsafe { Self::of(cell).job().read() };
        // SAFETY: the cell is private and its body empty.
        unsafe { free(cell) };
        job
    }

    unsafe fn take_message(cell: NonNull<Header>, to: *mut u8) {
        // SAFETY: the canceller has claimed the job (I2).
        let job = unsafe { Self::of(cell).job().read() };
        let message = job.into_message();
        // SAFETY: the caller's place is an `Envelope<J::Message>`, as the completion's type says.
        unsafe { to.cast::<Envelope<J::Message>>().write(message) };
    }

    unsafe fn drop_output(cell: NonNull<Header>) {
        // SAFETY: the caller owns the output, in place (status, I2).
        let output = unsafe { Self::of(cell).output().read() };
        drop_quietly(output);
    }
}

/// The runner leaves the cell: hands the output over or drops it, wakes, and frees if last.
///
/// # Safety
/// The caller is the runner; `with_output` says whether the body is an output or empty.
pub(crate) unsafe fn leave(cell: NonNull<Header>, with_output: bool) {
    let mut waker = None::<Waker>;
    loop {
        // SAFETY: the runner's hold keeps the cell alive until `Handed` or `release`.
        let header = unsafe { cell.as_ref() };
        match header.status.finish() {
            Finish::TakeWaker => {
                // SAFETY: status, I3: clearing `WAKER` made the field ours.
                let taken = unsafe { header.waker.get().cast::<Waker>().read() };
                if let Some(stale) = waker.replace(taken) {
                    drop_quietly(stale);
                }
            }
            // Rare and short: the canceller has two instructions left.
            Finish::Held => std::thread::yield_now(),
            Finish::Handed => {
                if let Some(waker) = waker {
                    wake_quietly(waker);
                }
                return;
            }
            Finish::Discard => {
                if with_output {
                    // SAFETY: nobody else wants the output.
                    unsafe { (header.vtable().drop_output)(cell) };
                }
                if header.status.release() {
                    // SAFETY: the status word says that the cell is ours alone.
                    unsafe { free(cell) };
                }
                if let Some(waker) = waker {
                    drop_quietly(waker);
                }
                return;
            }
        }
    }
}

/// # Safety
/// What `slot` points at is initialised, stays where it is until it is dropped, and is the caller's.
unsafe fn pinned<'a, F>(slot: *mut F) -> Pin<&'a mut F> {
    // SAFETY: initialised, and the caller's alone.
    let future = unsafe { &mut *slot };
    // SAFETY: it is not moved until it is dropped.
    unsafe { Pin::new_unchecked(future) }
}

/// Wakes a waker of the user; a panic in it ends here.
pub(crate) fn wake_quietly(waker: Waker) {
    if let Err(panic) = catch(move || waker.wake()) {
        forget_payload(panic.into_payload());
    }
}

// ---- the handler's waker ---------------------------------------------------------------------

static WAKER_VTABLE: RawWakerVTable =
    RawWakerVTable::new(clone_waker, wake_waker, wake_waker_by_ref, drop_waker);

fn raw_waker(cell: NonNull<Header>) -> RawWaker {
    RawWaker::new(cell.as_ptr().cast_const().cast(), &WAKER_VTABLE)
}

unsafe fn header_of(data: *const ()) -> NonNull<Header> {
    // SAFETY: wakers are made from non-null cells only.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

unsafe fn clone_waker(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned keeps the cell alive.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { acquire(cell) };
    raw_waker(cell)
}

/// Counts one more holder of the cell, and of its home with the first.
///
/// # Safety
/// The cell is alive and, if nobody holds it yet, being polled by this thread.
unsafe fn acquire(cell: NonNull<Header>) {
    // SAFETY: the caller keeps the cell alive.
    let header = unsafe { cell.as_ref() };
    if header.status.add_waker() {
        let vtable = header.vtable();
        // SAFETY: the cell is alive.
        let home = unsafe { (vtable.home)(cell) };
        // SAFETY: no other holder: this thread polls the cell, so its home is alive.
        unsafe { (vtable.hold)(home) };
    }
}

/// Uncounts a holder, and frees the cells of which it was the last, one after the other.
///
/// # Safety
/// Balances an `acquire`; the caller does not use the cell any more.
unsafe fn relinquish(cell: NonNull<Header>) {
    let mut next = Some(cell);
    while let Some(cell) = next.take() {
        // SAFETY: the hold that is being given up keeps the cell alive.
        let header = unsafe { cell.as_ref() };
        let vtable = header.vtable();
        // SAFETY: read before the count falls, since the cell may be gone after.
        let home = unsafe { (vtable.home)(cell) };
        let (last_holder, last) = header.status.drop_waker();
        if last {
            // SAFETY: the status word says that the cell is ours alone; its body is empty, since
            // the runner or the completion has dropped the output.
            let caller = unsafe { free_one(cell) };
            next = caller.and_then(|caller| NonNull::new(caller.into_raw()));
        }
        if last_holder {
            // SAFETY: balances the hold of the first.
            unsafe { (vtable.unhold)(home) };
        }
    }
}

unsafe fn wake_waker(data: *const ()) {
    // SAFETY: the waker is alive until it is dropped in the next line.
    unsafe { wake_waker_by_ref(data) };
    // SAFETY: `wake` consumes the waker.
    unsafe { drop_waker(data) };
}

unsafe fn wake_waker_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the cell and its home alive.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { wake(cell) };
}

/// Makes the cell's home poll it again, unless it is done.
///
/// # Safety
/// The caller keeps the cell and its home alive.
pub(crate) unsafe fn wake(cell: NonNull<Header>) {
    // SAFETY: as the caller says.
    let header = unsafe { cell.as_ref() };
    if !header.is_done() {
        let vtable = header.vtable();
        // SAFETY: as the caller says.
        let home = unsafe { (vtable.home)(cell) };
        // SAFETY: as the caller says.
        unsafe { (vtable.wake)(cell, home) };
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker that is dropped was counted.
    let cell = unsafe { header_of(data) };
    // SAFETY: as above.
    unsafe { relinquish(cell) };
}

/// A counted reference to a cell, as a waker has one.
#[derive(Debug)]
pub(crate) struct CellRef(NonNull<Header>);

// SAFETY: a `CellRef` reads the status word, and the immutable parts of the scope (I3).
unsafe impl Send for CellRef {}
// SAFETY: as above.
unsafe impl Sync for CellRef {}

impl CellRef {
    /// # Safety
    /// The cell is alive and, if nobody holds it yet, being polled by this thread.
    pub(crate) unsafe fn new(cell: NonNull<Header>) -> Self {
        // SAFETY: as the caller says.
        unsafe { acquire(cell) };
        Self(cell)
    }

    /// Gives the count to a plain pointer.
    pub(crate) fn into_raw(self) -> *mut Header {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// The pointer came from `into_raw`, whose count it takes over.
    pub(crate) unsafe fn from_raw(cell: NonNull<Header>) -> Self {
        Self(cell)
    }
}

impl Drop for CellRef {
    fn drop(&mut self) {
        // SAFETY: balances `new`.
        unsafe { relinquish(self.0) };
    }
}
