//! The caller's end of a cell: a future with exactly one outcome.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::cell::{CellRef, Header, drop_quietly, free};
use crate::envelope::Envelope;
use crate::error::Failure;
use crate::frame;
use crate::status::{Cancel, Detach, Look};
use crate::wait;
use crate::worker;

/// The result of an admitted message or task, once it is there.
///
/// `T` is the handler's value, `E` its error, and `M` the message that [`Completion::cancel`] gives
/// back. It may be polled from any task; the waker of the last poll is the one that is woken.
///
/// # Cancel safety
/// Dropping a completion detaches: the work goes on, and its result is dropped where it ends.
///
/// # Examples
/// ```
/// # use executor_core::WorkerCore;
/// let core = WorkerCore::threads(1).build()?;
/// let sum = core.spawn(async { 2 + 3 })?;
/// assert_eq!(sum.wait()?, 5); // in async code `sum.await?`
/// match core.spawn_fn(|| "sent")?.cancel() {
///     Ok(_) => println!("it had not started, and never will"),
///     Err(started) => assert_eq!(started.wait()?, "sent"),
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a dropped completion discards the result; use the detached variants to say so"]
pub struct Completion<T, E = Infallible, M = ()> {
    /// None once the outcome was taken.
    cell: Option<NonNull<Header>>,
    types: PhantomData<fn() -> (T, E, M)>,
}

// SAFETY: the output moves to the thread that polls, which `T: Send` and `E: Send` allow; the
// message likewise. All shared parts of the cell are atomic or guarded by the status word.
unsafe impl<T: Send, E: Send, M: Send> Send for Completion<T, E, M> {}
// SAFETY: `&Completion` reads the status word only.
unsafe impl<T: Send, E: Send, M: Send> Sync for Completion<T, E, M> {}
impl<T, E, M> Unpin for Completion<T, E, M> {}

impl<T, E, M> Completion<T, E, M> {
    /// # Safety
    /// The cell's job has these types, and its status says that this completion exists.
    pub(crate) unsafe fn new(cell: NonNull<Header>) -> Self {
        Self {
            cell: Some(cell),
            types: PhantomData,
        }
    }

    fn header(&self) -> Option<&Header> {
        // SAFETY: `JOIN` is set while we have the pointer, so the cell is alive.
        self.cell.map(|cell| unsafe { cell.as_ref() })
    }

    /// Whether the outcome is there; it never goes back to false until it is taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.header().is_none_or(Header::is_done)
    }

    /// Waits some microseconds for the outcome, where a worker is about to come to it.
    pub(crate) fn look_briefly(&self) {
        if let Some(header) = self.header() {
            wait::look_briefly(&header.status);
        }
    }

    /// Cancels work that has not started: it will never run, and its message comes back.
    ///
    /// Its place in a bounded queue becomes free when its turn comes.
    ///
    /// # Errors
    /// Work that has started goes on; its handler sees the request in its context, and the
    /// completion comes back to be awaited or dropped.
    pub fn cancel(mut self) -> Result<Envelope<M>, Self> {
        let Some(cell) = self.cell else {
            return Err(self);
        };
        // SAFETY: `JOIN` keeps the cell alive.
        let header = unsafe { cell.as_ref() };
        match header.status.cancel() {
            Cancel::Won => {}
            Cancel::Running => {
                // SAFETY: the completion keeps the cell alive; the runner does not finish, and so
                // the home lives, until `unhold`.
                let held = unsafe { CellRef::new(cell) };
                // Before: the wake may run the handler here, when nobody else is left.
                header.status.unhold();
                held.wake();
                return Err(self);
            }
            Cancel::Done => return Err(self),
        }
        // SAFETY: the claim is ours, and `M` is the job's message type.
        let message = unsafe { take_message(cell) };
        self.cell = None;
        unregister(header);
        if header.status.detach() == Detach::Done && header.status.release_join() {
            // SAFETY: the runner has passed the cell, and left nothing in it.
            unsafe { free(cell) };
        }
        Ok(message)
    }

    /// Cancels work that was not started, and whose cell nobody else has.
    ///
    /// # Safety
    /// The caller is the cell's runner as well, and ends it.
    pub(crate) unsafe fn retract(mut self) -> Envelope<M> {
        let cell = self
            .cell
            .take()
            .expect("what was not started has no outcome");
        // SAFETY: it is the runner's, and so alive.
        let header = unsafe { cell.as_ref() };
        if header.status.claim_private() {
            // SAFETY: status, I3: nobody else has the cell, so the field is ours.
            drop_quietly(unsafe { header.waker.get().cast::<Waker>().read() });
        }
        // SAFETY: the claim is ours, and `M` is the job's message type.
        unsafe { take_message(cell) }
    }

    /// Takes the outcome that is there.
    #[inline]
    fn take(&mut self, cell: NonNull<Header>) -> Result<T, Failure<E>> {
        self.cell = None;
        // SAFETY: `JOIN` keeps the cell alive until `release_join`.
        let header = unsafe { cell.as_ref() };
        let offset = header.vtable().output_offset;
        // SAFETY: `DONE` gave the output to us (status, I2); it lies there, with this type.
        let output = unsafe {
            cell.as_ptr()
                .wrapping_byte_add(offset)
                .cast::<Result<T, Failure<E>>>()
                .read()
        };
        if header.status.release_join() {
            // SAFETY: the status word says that the cell is ours alone.
            unsafe { free(cell) };
        }
        output
    }

    #[inline]
    fn poll_cell(&mut self, context: &mut Context<'_>) -> Poll<Result<T, Failure<E>>> {
        let cell = self
            .cell
            .expect("a completion is not polled after it was ready");
        // SAFETY: `JOIN` keeps the cell alive.
        let header = unsafe { cell.as_ref() };
        loop {
            match header.status.look() {
                Look::Done => return Poll::Ready(self.take(cell)),
                Look::Taking => {
                    // The outcome comes in the runner's next step: look again at the next poll.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Look::Registered => {
                    // SAFETY: while the waker is registered nobody writes the field (status, I3).
                    let registered = unsafe { &*header.waker.get().cast::<Waker>() };
                    if registered.will_wake(context.waker()) {
                        return Poll::Pending;
                    }
                    unregister(header);
                }
                Look::Vacant => {
                    let waker = context.waker().clone();
                    // SAFETY: status, I3: the field is ours.
                    unsafe { header.waker.get().cast::<Waker>().write(waker) };
                    if header.status.set_waker() {
                        return Poll::Pending;
                    }
                    // SAFETY: it was not published, so it is still ours.
                    drop_quietly(unsafe { header.waker.get().cast::<Waker>().read() });
                }
            }
        }
    }

    /// Blocks the thread until the outcome is there.
    ///
    /// # Blocking
    /// It blocks the thread, for as long as the work takes. In async code await the completion
    /// instead: a thread that drives a tokio runtime drives nothing meanwhile, and where the core's
    /// workers are tasks of that runtime and no other thread drives it, as in a current-thread
    /// runtime, this never returns.
    ///
    /// # Errors
    /// The [`Failure`] with which the work ended.
    ///
    /// # Panics
    /// On a worker of a core and in a handler, wherever it runs: it may wait for work that waits
    /// for it. Await the completion there instead. Also when the completion was polled to its end
    /// before.
    pub fn wait(mut self) -> Result<T, Failure<E>> {
        self.block(None)
            .expect("without a deadline the outcome comes first")
    }

    /// Blocks the thread until the outcome is there or `timeout` is over, by the system's clock,
    /// also on a core with a [`VirtualClock`](crate::VirtualClock). [`Duration::MAX`] is no limit.
    ///
    /// # Blocking
    /// As [`Completion::wait`]; where that never returns, this returns when `timeout` is over.
    ///
    /// # Errors
    /// The completion comes back when the time is over; inside, the [`Failure`] of the work.
    ///
    /// # Panics
    /// As [`Completion::wait`].
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<T, Failure<E>>, Self> {
        let deadline = Instant::now().checked_add(timeout);
        self.block(deadline).ok_or(self)
    }

    fn block(&mut self, deadline: Option<Instant>) -> Option<Result<T, Failure<E>>> {
        assert!(
            !worker::is_worker_thread() && frame::is_outermost(),
            "a worker or handler must not block on a completion: await it instead"
        );
        self.look_briefly();
        wait::block_on(deadline, |context| self.poll_cell(context))
    }
}

/// Takes the message out of a cell.
///
/// # Safety
/// The caller has claimed the work before it was started, and `M` is the job's message type.
unsafe fn take_message<M>(cell: NonNull<Header>) -> Envelope<M> {
    let mut message = MaybeUninit::<Envelope<M>>::uninit();
    // SAFETY: the claim keeps the cell alive.
    let vtable = unsafe { cell.as_ref() }.vtable();
    // SAFETY: as the caller says.
    unsafe { (vtable.take_message)(cell, message.as_mut_ptr().cast()) };
    // SAFETY: it was written just now.
    unsafe { message.assume_init() }
}

/// Takes a registered waker back and drops it, unless the runner was first.
fn unregister(header: &Header) {
    if header.status.unset_waker() {
        // SAFETY: status, I3: clearing `WAKER` made the field ours.
        let waker: Waker = unsafe { header.waker.get().cast::<Waker>().read() };
        drop_quietly(waker);
    }
}

/// Makes the runner drop an output that waits for a context, which may be in that very output.
#[cold]
fn detach_lingering(cell: NonNull<Header>) {
    // SAFETY: `JOIN` keeps the cell alive, and the runner, which does not finish, its home.
    let held = unsafe { CellRef::new(cell) };
    // SAFETY: as above.
    unsafe { cell.as_ref() }.status.detach_held();
    held.wake();
}

impl<T, E, M> Future for Completion<T, E, M> {
    type Output = Result<T, Failure<E>>;

    /// # Panics
    /// When polled again after it was ready.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_cell(context)
    }
}

impl<T, E, M> Drop for Completion<T, E, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            detach(cell);
        }
    }
}

/// Leaves a cell whose outcome nobody took.
#[inline(never)]
fn detach(cell: NonNull<Header>) {
    // SAFETY: `JOIN` keeps the cell alive until it is cleared below.
    let header = unsafe { cell.as_ref() };
    unregister(header);
    match header.status.detach() {
        Detach::Gone => return,
        Detach::Lingering => return detach_lingering(cell),
        Detach::Done => {}
    }
    // SAFETY: `DONE` gave the output to us.
    unsafe { (header.vtable().drop_output)(cell) };
    if header.status.release_join() {
        // SAFETY: the status word says that the cell is ours alone.
        unsafe { free(cell) };
    }
}

impl<T, E, M> fmt::Debug for Completion<T, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}
