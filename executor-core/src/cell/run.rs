//! The runner of a cell: start, poll, abort, and the ways to an end.

use std::cell::Cell as StdCell;
use std::future::Future;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::holders::raw_waker;
use super::job::{Held, Output};
use super::{
    Cell, Header, Job, Polled, Ran, Scope, Step, catch, drop_quietly, forget_payload, leave,
};
use crate::error::{Failure, Panic};
use crate::frame;
use crate::metrics::Outcome;
use crate::status::Start;

impl<J: Job> Cell<J> {
    pub(super) unsafe fn poll(cell: NonNull<Header>) -> Step {
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

    pub(super) unsafe fn abort(cell: NonNull<Header>) -> Step {
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

    /// Leaves the cell of a promise with its output.
    ///
    /// # Safety
    /// The caller is the runner and the body is empty.
    pub(crate) unsafe fn give(cell: NonNull<Header>, output: Output<J>) {
        // SAFETY: the body is empty and the runner's (status, I2).
        unsafe { Self::of(cell).output().write(output) };
        // SAFETY: the output is in place, and this is the runner's last act.
        unsafe { leave(cell, true) };
    }

    /// Counts the message, and leaves the cell with its output.
    ///
    /// # Safety
    /// The caller is the runner, and the body is the output.
    #[inline]
    unsafe fn finish(cell: NonNull<Header>) -> Step {
        let this = Self::of(cell);
        if this.header.near.is_straying() {
            // SAFETY: as the caller says.
            return unsafe { Self::linger(cell) };
        }
        // SAFETY: the output is in place.
        let outcome = Outcome::of(unsafe { &*this.output() });
        let owner_counts = J::Scope::OWNER_COUNTS
            && !J::CONTROL
            && outcome == Outcome::Value
            && !this.header.status.is_joined();
        if !J::CONTROL && !owner_counts {
            this.scope.retire(outcome);
        }
        // SAFETY: the output is in place, and this is the runner's last act.
        unsafe { leave(cell, true) };
        if owner_counts {
            Step::Handled
        } else {
            Step::Finished
        }
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
                if this.header.near.is_straying() {
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
        if this.header.near.is_straying() {
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
}

/// # Safety
/// What `slot` points at is initialised, stays where it is until it is dropped, and is the caller's.
unsafe fn pinned<'a, F>(slot: *mut F) -> Pin<&'a mut F> {
    // SAFETY: initialised, and the caller's alone.
    let future = unsafe { &mut *slot };
    // SAFETY: it is not moved until it is dropped.
    unsafe { Pin::new_unchecked(future) }
}
