//! Delayed messages of a stream: scheduled with the core, admitted when their time has come.
//!
//! A delayed message is a cell like any other, whose runner is its timer until it is admitted. The
//! timer has one count of the stream's `Arc`, so the stream is neither evicted nor freed meanwhile.
//! Admission is a push as in `submit`; a message that finds the queue full waits in line for its
//! place, with those who wait in `execute` and `submit_wait`. The line is served after the turn, since
//! that wakes those who wait, and drops messages that are turned away: code of the user.

use std::future::Future;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::cell::{Cell, Header, expose, link_to};
use crate::completion::Completion;
use crate::context::PolicyContext;
use crate::core::CoreShared;
use crate::envelope::Envelope;
use crate::error::{RejectReason, Rejected};
use crate::message::Message;
use crate::room::{Room, Waiter};
use crate::strand::{Head, Strand, StrandScope, StreamOwner, vtable_of};
use crate::strand_word::Push;
use crate::task::scope_of;
use crate::time::When;
use crate::time::clockwork::Clockwork;
use crate::time::delayed::Delayed;
use crate::time::kind::{Kind, end_cell};

/// A delayed message of a stream.
static DUE: Kind = Kind {
    admit,
    settle: |head| {
        let Some(head) = NonNull::new(head.cast_mut().cast::<Head>()) else {
            return;
        };
        // SAFETY: `admit` gave the head, whose count was the timer's.
        let fields = unsafe { head.as_ref() };
        fields.shared.serve_line(&fields.room);
        // SAFETY: as above.
        unsafe { (vtable_of(head).unhold)(head) };
    },
    end: |cell| {
        // SAFETY: the cell is ours to run, and a message of a stream.
        let head = unsafe { scope_of::<StrandScope>(cell) }.head;
        // SAFETY: it was not started.
        unsafe { end_cell(cell) };
        // SAFETY: the count is the timer's.
        let fields = unsafe { head.as_ref() };
        // A place that it had for a moment may have turned somebody away.
        fields.shared.room().serve_line(&fields.room);
        // SAFETY: as above.
        unsafe { (vtable_of(head).unhold)(head) };
    },
    owner: |cell| {
        // SAFETY: the cell is ours to run, and a message of a stream.
        let scope = unsafe { scope_of::<StrandScope>(cell) };
        Arc::as_ptr(&scope.head().shared).cast()
    },
    is_awaited: false,
};

impl<O: StreamOwner> Strand<O> {
    /// Schedules a message, to be admitted when its time has come.
    ///
    /// # Errors
    /// The envelope comes back when the stream is closed.
    pub fn delay<M, H, F, T, E>(
        self: &Arc<Self>,
        when: When,
        envelope: Envelope<M>,
        handler: H,
    ) -> Result<Delayed<T, E, M>, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = self.owner.shared();
        if shared.delays_nothing() {
            return Err(self.refuse(RejectReason::Closed, envelope));
        }
        let core = shared.core();
        let tick = core.timers.tick_of(when);
        let head = self.head_ptr();
        // The generation is that of the admission, and set then.
        let scope = self.scope(0);
        let job = Message::<M, H, O::State, StrandScope>::new(envelope, handler);
        let cell = Cell::with_job(job, scope, true);
        // SAFETY: the job's types are these, and it was made joined.
        let completion = unsafe { Completion::new(cell) };
        let _ = Arc::into_raw(Arc::clone(self));
        let lane = Clockwork::lane_of(head.as_ptr().addr());
        // SAFETY: the cell is new, a message of a stream, and has a count of it; the timer is its
        // runner from now on.
        let timer = unsafe { core.schedule(&DUE, cell, lane, tick) };
        if shared.delays_nothing() {
            // It may have come too late to be ended.
            shared.end_delayed();
        }
        Ok(Delayed::new(completion, timer))
    }
}

fn admit(cell: NonNull<Header>, _: &CoreShared) -> Option<*const ()> {
    // SAFETY: the cell is ours to run, and a message of a stream.
    let scope = unsafe { scope_of::<StrandScope>(cell) };
    let (head, fields) = (scope.head, scope.head());
    let shared = &fields.shared;
    scope.generation.set(shared.generation());
    if shared.room().enter(&fields.room).is_ok() {
        match push(head, cell) {
            Push::Scheduled => schedule(head),
            Push::Queued => {}
            Push::Closed => {
                shared.room().vacate(&fields.room, 1);
                return None;
            }
        }
    } else if fields.word.is_closed() {
        return None;
    } else {
        // SAFETY: the timer's count keeps the strand alive.
        unsafe { (vtable_of(head).hold)(head) };
        shared.note_waited();
        let waiter = DueInLine {
            head,
            cell: Some(cell),
        };
        let _age = shared.room().line_up(waiter);
    }
    Some(head.as_ptr().cast_const().cast())
}

/// Queues a message that has a place.
fn push(head: NonNull<Head>, cell: NonNull<Header>) -> Push {
    // SAFETY: the caller's count keeps the strand alive.
    let fields = unsafe { head.as_ref() };
    fields.word.push(expose(cell), |older| link_to(cell, older))
}

/// Puts a stream, which the caller owns, into a lane.
fn schedule(head: NonNull<Head>) {
    // SAFETY: the caller's count keeps the strand alive; another goes with it into the lane (Strand, I2).
    unsafe { (vtable_of(head).hold)(head) };
    // SAFETY: as above.
    let fields = unsafe { head.as_ref() };
    fields.shared.core().push_admitted(head.cast());
}

/// A message whose time has come, and whose stream's queue is full; it has a count of the stream.
struct DueInLine {
    head: NonNull<Head>,
    /// None once it was admitted.
    cell: Option<NonNull<Header>>,
}

// SAFETY: the cell is work that was not started, all of which is `Send`; the head is shared.
unsafe impl Send for DueInLine {}

impl Waiter for DueInLine {
    fn room(&self) -> &Room {
        // SAFETY: our count keeps the strand alive.
        &unsafe { self.head.as_ref() }.room
    }

    fn admit(&mut self) -> Push {
        let Some(cell) = self.cell else {
            return Push::Closed;
        };
        // SAFETY: the cell is ours to run, and a message of a stream.
        let scope = unsafe { scope_of::<StrandScope>(cell) };
        scope.generation.set(scope.head().shared.generation());
        let pushed = push(self.head, cell);
        if pushed != Push::Closed {
            self.cell = None;
        }
        pushed
    }

    fn tell(&mut self, pushed: Push) {
        if pushed == Push::Scheduled {
            schedule(self.head);
        }
    }
}

impl Drop for DueInLine {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            // SAFETY: it was not admitted, so it is ours to run, and was not started.
            unsafe { end_cell(cell) };
        }
        // SAFETY: our count.
        unsafe { (vtable_of(self.head).unhold)(self.head) };
    }
}
