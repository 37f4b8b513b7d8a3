//! The task cell: header; one after the other the job, its future and its output; scope.
//!
//! # Layout
//! | part | bytes | content |
//! | --- | --- | --- |
//! | header | 48 | link, virtual table, what goes with the cell, status word, the completion's waker |
//! | body | any | a union: job until started, future until ready, output until taken |
//! | scope | 0 and up | what the job's home keeps beside it: the stream |
//!
//! # Invariants
//! - I1. The status word (see `status`) decides who may touch which part, and who frees the cell.
//! - I2. The body is the job before `STARTED`, the future while the runner has it, the output once
//!   the future was dropped; nothing once a canceller took the message; with `HOLLOW` the outcome.
//! - I3. Only the runner touches the scope's plain fields, except `home`, which is written before the
//!   cell is shared and read by anybody who holds it. The caller is noted once, before what the message
//!   waits for is shared, and read by whoever comes from there (`callers`).
//! - I4. User code (handler, drops, wakers) runs under `catch`, with the cell in a state from which
//!   it can be finished.

mod callers;
mod guard;
mod holders;
mod job;
mod list;
mod near;
mod run;

use std::cell::{Cell as StdCell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::ptr::NonNull;
use std::task::Waker;

pub(crate) use self::guard::{catch, drop_quietly, forget_payload, wake_quietly};
pub(crate) use self::holders::CellRef;
pub(crate) use self::job::{Job, Output, Polled, Ran, Scope, Step};
pub(crate) use self::list::{CellList, USUAL_LINES, expose, link_to};
pub(crate) use self::near::Near;
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::lane::{Link, LinkVTable};
use crate::metrics::Outcome;
use crate::pool::{self, Class};
use crate::status::{Finish, Status};
use crate::strand::StreamName;

/// The part of a cell whose type does not depend on the job.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) link: Link,
    /// What goes with the cell.
    pub(crate) near: Near,
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
    hold: unsafe fn(*const ()),
    unhold: unsafe fn(*const ()),
    wake: unsafe fn(NonNull<Header>, *const ()),
    stream: unsafe fn(*const ()) -> Option<StreamName>,
    drop_scope: unsafe fn(NonNull<Header>),
    /// Whether the cell has more lines than usual, to be fetched before it is run.
    is_long: bool,
}

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
const _: () = assert!(size_of::<Header>() == 48);

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
}

/// A cell that is alive while whoever has this asks it: one that is being polled on this thread, or
/// one to which there is a [`CellRef`]. Not a reference to the header, since what is asked for lies behind it.
#[derive(Clone, Copy)]
pub(crate) struct LiveCell(NonNull<Header>);

impl LiveCell {
    /// # Safety
    /// As the type says.
    pub(crate) unsafe fn new(cell: NonNull<Header>) -> Self {
        Self(cell)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: it is alive.
        unsafe { self.0.as_ref() }
    }

    /// Notes who waits for this one, unless that is known.
    pub(crate) fn set_caller(self, caller: CellRef) {
        self.header().near.set_caller(caller);
    }

    pub(crate) fn home(self) -> *const () {
        // SAFETY: it is alive (I3).
        unsafe { (self.header().vtable().home)(self.0) }
    }

    pub(crate) fn environment(self) -> *const Environment {
        // SAFETY: it is alive (I3).
        unsafe { (self.header().vtable().environment)(self.0) }
    }

    pub(crate) fn generation(self) -> u32 {
        // SAFETY: it is alive (I3).
        unsafe { (self.header().vtable().generation)(self.0) }
    }

    pub(crate) fn stream(self) -> Option<StreamName> {
        // SAFETY: a message that is not done keeps its home alive.
        unsafe { (self.header().vtable().stream)(self.home()) }
    }

    /// A counted reference to the cell, which is being polled on this thread or held already.
    pub(crate) fn hold(self) -> CellRef {
        // SAFETY: it is alive, and held or polled here.
        unsafe { CellRef::new(self.0) }
    }
}

/// Frees a cell that nobody else has.
///
/// # Safety
/// The caller was told by the status word that it is the last; the body is empty.
pub(crate) unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: the caller has the cell alone.
    let header = unsafe { cell.as_ref() };
    let vtable = header.vtable();
    drop(header.near.take_caller());
    // SAFETY: the scope is dropped once, here.
    unsafe { (vtable.drop_scope)(cell) };
    // SAFETY: the cell came from this class and is not used any more.
    unsafe { pool::give(vtable.class, cell.cast()) };
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
        hold: J::Scope::hold,
        unhold: J::Scope::unhold,
        wake: J::Scope::wake,
        stream: J::Scope::stream,
        drop_scope: |cell| {
            let scope = Self::of(cell).scope_ptr();
            // SAFETY: `free` is the only caller, once for each cell.
            drop_quietly(unsafe { scope.read() });
        },
        is_long: size_of::<Self>() > 64 * USUAL_LINES,
    };

    /// A new cell that holds `job`.
    #[inline(always)]
    pub(crate) fn with_job(job: J, scope: J::Scope, joined: bool) -> NonNull<Header> {
        let cell = Self::vacant(scope, joined);
        // SAFETY: the cell is private, and its body is empty.
        unsafe { Self::of(cell).job().write(job) };
        cell
    }

    /// A new cell with an empty body.
    #[inline]
    pub(crate) fn vacant(scope: J::Scope, joined: bool) -> NonNull<Header> {
        let cell = pool::take(Self::CLASS).cast::<Self>();
        let vtable = std::ptr::from_ref(Self::VTABLE).cast::<LinkVTable>();
        let base = cell.as_ptr();
        let header = Header {
            link: Link {
                next: StdCell::new(std::ptr::null_mut()),
                vtable,
            },
            near: Near::nothing(),
            status: Status::new(joined),
            waker: UnsafeCell::new(MaybeUninit::uninit()),
        };
        // SAFETY: the block is ours, and large and aligned enough for the cell by its class.
        unsafe { base.cast::<Header>().write(header) };
        let slot = base
            .wrapping_byte_add(offset_of!(Self, scope))
            .cast::<J::Scope>();
        // SAFETY: as above; the scope follows the body.
        unsafe { slot.write(scope) };
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

    /// The runner leaves a cell with an empty body, without a completion and without a caller.
    ///
    /// # Safety
    /// As the sentence says; the caller does not touch the cell again.
    #[inline]
    pub(crate) unsafe fn release_bare(cell: NonNull<Header>) {
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
    // SAFETY: as the caller says.
    let _caller = unsafe { callers::cut(cell) };
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
