//! What the executor crates build on; not for users, and without promises of stability.

use std::future::Future;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::cell::{self, Cell, Header};
use crate::context::PolicyContext;
use crate::core::WorkerCore;
use crate::envelope::Envelope;
use crate::frame;
use crate::lane::Chain;
use crate::message::Message;
use crate::receipt::Admitted;
use crate::task::{Call, Nowhere, OnCore, UnderLimit};
use crate::time::When;
use crate::time::clockwork::Clockwork;
use crate::time::delayed::Delayed;
use crate::wait;
use crate::worker;
use crate::{BuildError, Completion, Failure, RejectReason};

pub use crate::error::check_range;
pub use crate::in_place::InPlace;
pub use crate::lifecycle::Lifecycle;
pub use crate::metrics::Counts;
pub use crate::receipt::Receipt;
pub use crate::room::{InLine, Slot};
pub use crate::serial_shared::SerialShared;
pub use crate::strand::{Draft, Started, Strand, StreamOwner, Verdict};
pub use crate::task::{Ended, Limiter, Promise, UNADMITTED, promise};
pub use crate::time::every::Rearm;
pub use crate::time::term::Term;
pub use crate::wait::must_not_block;

/// The atomics and locks of this build.
pub mod sync {
    pub use crate::sync::plain::{Mutex, MutexGuard};
    pub use crate::sync::{AtomicU64, Ordering, yield_now};
}

/// Makes the core shut `executor` down with itself.
///
/// # Errors
/// [`BuildError::Closed`] when that has begun already: the executor must go.
pub fn adopt(core: &WorkerCore, executor: Weak<dyn Lifecycle>) -> Result<(), BuildError> {
    if core.shared().adopt(executor) {
        Ok(())
    } else {
        Err(BuildError::Closed)
    }
}

/// Lets the workers of a closed core leave, if what kept them is gone.
pub fn check_exit(core: &WorkerCore) {
    core.shared().check_exit();
}

/// Waits for `work`, but not longer than `limit`.
pub async fn within<F: Future>(core: &WorkerCore, limit: Duration, work: F) -> Option<F::Output> {
    crate::time::sleep::within(&core.handle.0, limit, work).await
}

/// The end of `deadline`, by the clock of the core.
pub fn term(core: &WorkerCore, deadline: Duration) -> Term<'_> {
    Term::new(&core.shared().timers, deadline)
}

/// Whether this thread is polling a handler.
#[must_use]
pub fn in_handler() -> bool {
    !frame::is_outermost()
}

/// Blocks on a future that does not need a runtime.
pub fn block_on<F: Future + Unpin>(mut work: F) -> F::Output {
    loop {
        if let Some(output) =
            wait::block_on(None, |context| std::pin::Pin::new(&mut work).poll(context))
        {
            return output;
        }
    }
}

/// Runs `poll` as the handler of an executor on this thread.
#[inline(always)]
pub fn run_as_handler<R>(
    environment: &crate::Environment,
    generation: u32,
    poll: impl FnOnce() -> R,
) -> R {
    frame::enter_structured(environment, generation, poll)
}

/// The generation that a message admitted here inherits.
#[inline]
#[must_use]
pub fn inherited_generation(environment: &crate::Environment) -> Option<u32> {
    frame::inherited_generation(environment)
}

/// Makes every waiting task of the core run, to see whether it is aborted.
pub fn wake_waiting(core: &WorkerCore) {
    core.shared().abort_waiting();
}

/// A panic as a failure.
#[cold]
pub fn panicked<E>(payload: Box<dyn std::any::Any + Send>) -> Failure<E> {
    Failure::Panicked(crate::Panic::new(payload))
}

/// Drops a value of the user; a panic in its destructor ends here.
pub fn drop_quietly<T>(value: T) {
    cell::drop_quietly(value);
}

/// Wakes a waker of the user; a panic in it ends here.
pub fn wake_quietly(waker: Waker) {
    cell::wake_quietly(waker);
}

/// Runs destructors of the user; a panic in one ends the run, here.
pub fn run_quietly(run: impl FnOnce()) {
    if let Err(panic) = cell::catch(run) {
        cell::forget_payload(panic.into_payload());
    }
}

/// This thread's number, to choose a shard.
#[inline]
#[must_use]
pub fn thread_number() -> usize {
    crate::thread_id::current()
}

/// A message of a parallel executor that waits for its permit.
#[must_use = "a waiting message must be released or taken back"]
#[derive(Debug)]
pub struct Parked {
    cell: NonNull<Header>,
}

// SAFETY: the cell is queued work, whose parts are all `Send`; only its owner touches it.
unsafe impl Send for Parked {}
// SAFETY: a shared `Parked` gives access to nothing.
unsafe impl Sync for Parked {}

/// Makes a message that runs on the workers once it is released, and lets `admit` have it.
///
/// # Errors
/// `admit` refused it; the draft is as it was.
///
/// # Panics
/// When `message` was taken before, and when `admit` gives another message back than it was given.
#[inline(always)]
pub fn admit_message<M, H, F, T, E, L, R>(
    core: &WorkerCore,
    limiter: Arc<L>,
    generation: u32,
    message: &mut Draft<M, H>,
    admit: impl FnOnce(Parked) -> Result<(), (RejectReason, Parked)>,
) -> Result<R, RejectReason>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    L: Limiter,
    R: Receipt<T, E, M>,
{
    let (envelope, handler) = message.take().expect("a message is admitted once");
    let parked = park::<M, H, F, T, E, L, R>(core, limiter, generation, envelope, handler);
    let cell = parked.cell;
    if let Err((reason, refused)) = admit(parked) {
        assert_eq!(refused.cell, cell, "another message came back");
        // SAFETY: it came back, and nobody else has it; its job has these types.
        let job = unsafe { Cell::<Message<M, H, (), UnderLimit<L>>>::into_job(cell) };
        *message = Some((job.envelope, job.handler));
        return Err(reason);
    }
    // SAFETY: the job's types are these, and it was made joined if it is to be.
    Ok(R::of(unsafe { Admitted::new(cell) }))
}

#[inline(always)]
fn park<M, H, F, T, E, L, R>(
    core: &WorkerCore,
    limiter: Arc<L>,
    generation: u32,
    envelope: Envelope<M>,
    handler: H,
) -> Parked
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    L: Limiter,
    R: Receipt<T, E, M>,
{
    let scope = UnderLimit::new(OnCore::new(&core.handle.0), limiter, generation);
    let job = Message::<M, H, (), UnderLimit<L>>::new(envelope, handler);
    Parked::new(Cell::with_job(job, scope, R::JOINED))
}

/// Schedules a message of a parallel executor, to be admitted by its limiter when its time has come.
/// The caller looks afterwards whether its executor was closed meanwhile.
pub fn delay_message<M, H, F, T, E, L>(
    core: &WorkerCore,
    limiter: Arc<L>,
    when: When,
    envelope: Envelope<M>,
    handler: H,
) -> Delayed<T, E, M>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    L: Limiter,
{
    let shared = core.shared();
    let tick = shared.timers.tick_of(when);
    let lane = Clockwork::lane_of(thread_number() << 6);
    let parked =
        park::<M, H, F, T, E, L, Completion<T, E, M>>(core, limiter, UNADMITTED, envelope, handler);
    // SAFETY: the job's types are these, and it was made joined.
    let completion = unsafe { Completion::new(parked.cell) };
    // SAFETY: the message is new and of this limiter, and the timer its runner from now on.
    let timer = unsafe { shared.schedule(UnderLimit::<L>::DUE, parked.cell, lane, tick) };
    Delayed::new(completion, timer)
}

/// Ends the delayed messages of a limiter as aborted.
pub fn end_delayed<L: Limiter>(core: &WorkerCore, limiter: &Arc<L>) {
    core.shared()
        .sweep_timers(Some(Arc::as_ptr(limiter).cast()));
}

impl Parked {
    pub(crate) fn new(cell: NonNull<Header>) -> Self {
        Self { cell }
    }

    /// Gives the message to the workers.
    pub fn release(self, core: &WorkerCore) {
        core.shared().push_admitted(self.cell.cast());
    }
}

/// Messages of a parallel executor that have their permits, in order.
#[must_use = "messages that have their permits must be released"]
#[derive(Debug, Default)]
pub struct Granted(Chain);

// SAFETY: as for `Parked`.
unsafe impl Send for Granted {}

impl Granted {
    /// One more, behind the others.
    #[inline]
    pub fn push(&mut self, message: Parked) {
        // SAFETY: the cell is the message's, and so ours.
        unsafe { self.0.push(message.cell.cast()) };
    }

    /// Gives the messages to the workers.
    pub fn release(self, core: &WorkerCore) {
        core.shared().push_chain(self.0);
    }
}

/// Puts off what `make` makes until the batch that this thread runs, as a worker of `core`, is done; true: it
/// runs then, here or on a worker that takes it from here, or is dropped if the core is aborted.
///
/// False: this is no such thread, little is left of its batch, or enough was put off already, and `make` was
/// not called; or it was, and has made nothing. `make` runs no user code.
pub fn after_batch<F: FnOnce() + Send + 'static>(
    core: &WorkerCore,
    make: impl FnOnce() -> Option<F>,
) -> bool {
    let shared = core.shared();
    let Some(worker) = worker::here(shared).map(|index| &shared.workers[index]) else {
        return false;
    };
    let Some(mark) = worker.mark_behind() else {
        return false;
    };
    let Some(call) = make() else {
        return false;
    };
    let cell = Cell::with_job(Call(call), Nowhere, false);
    // SAFETY: this thread is the worker, and the cell is new.
    if !unsafe { worker.append(cell.cast(), mark) } {
        shared.wake_for_work();
    }
    true
}

impl<O: StreamOwner> Slot<O> {
    /// Uses the place for a message.
    ///
    /// # Errors
    /// The stream was closed meanwhile; the draft is as it was.
    pub fn submit<M, H, F, T, E, R>(self, message: &mut Draft<M, H>) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        self.into_strand().push(message, false)
    }
}
