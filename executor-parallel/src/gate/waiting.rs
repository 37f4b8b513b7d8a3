//! A place in line for a permit.
//!
//! | ticket | in the line | granted | the caller |
//! | --- | --- | --- | --- |
//! | none | | | has not lined up, or has its answer |
//! | some | yes | no | waits; its waker lies there |
//! | some | no | yes | has a permit |
//! | some | no | no | was turned away |
//!
//! All changes are made under the lock of the gate, and permits are granted in the order of the tickets; so
//! whether one is granted is told by the last ticket that was, which is read without the lock. When callers
//! are turned away, which is in an abort, no permit is granted any more.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use executor_core::RejectReason;
use executor_core::engine::drop_quietly;
use executor_core::engine::sync::{AtomicU64, Ordering};

use super::Gate;
use super::line::{Line, Ticket, Waiter};
use crate::permits::Mode;

/// A permit for a caller who waits for it in line, from the first poll on; dropped before it is ready, the
/// place is given up.
///
/// Of those that are turned away it tells [`RejectReason::Closed`]. Polled after it was ready, it lines up again.
pub(crate) struct InLine<'a> {
    gate: &'a Gate,
    generation: u32,
    ticket: Option<Ticket>,
}

impl<'a> InLine<'a> {
    pub(crate) fn new(gate: &'a Gate, generation: u32) -> Self {
        Self {
            gate,
            generation,
            ticket: None,
        }
    }
}

impl Future for InLine<'_> {
    type Output = Result<(), RejectReason>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = self.ticket else {
            let lined_up = (self.gate).take_or_line_up(self.generation, context.waker());
            self.ticket = lined_up?;
            return match self.ticket {
                None => Poll::Ready(Ok(())),
                Some(_) => Poll::Pending,
            };
        };
        if self.gate.still_waits(ticket, context.waker()) {
            return Poll::Pending;
        }
        self.ticket = None;
        let granted = self.gate.served.has(ticket);
        Poll::Ready(granted.then_some(()).ok_or(RejectReason::Closed))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.give_up(ticket, self.generation);
        }
    }
}

/// To whom of those in line permits were granted.
pub(crate) struct Served(AtomicU64);

impl Served {
    pub(crate) fn nobody() -> Self {
        // No ticket is 0.
        Self(AtomicU64::new(0))
    }

    /// A permit is granted to the caller with this ticket, the next of all, under the lock.
    pub(crate) fn add(&self, ticket: Ticket) {
        // ORDERING: Release passes on what the handlers did that had the permit before.
        self.0.store(ticket.get(), Ordering::Release);
    }

    /// Whether one was granted to the caller with this ticket.
    pub(crate) fn has(&self, ticket: Ticket) -> bool {
        // ORDERING: Acquire pairs with the Release of `add`; a later one will do, which came after it under the lock.
        self.0.load(Ordering::Acquire) >= ticket.get()
    }
}

impl Gate {
    /// Takes a permit if nobody waits for one, or gets a place in line.
    #[cold]
    fn take_or_line_up(
        &self,
        generation: u32,
        waker: &Waker,
    ) -> Result<Option<Ticket>, RejectReason> {
        // A clone and a drop are code of the user's, and none runs under the lock.
        let waker = waker.clone();
        let mut line = self.lock();
        let taken = self.take_at_once(&mut line, generation);
        if taken != Ok(false) {
            drop(line);
            drop_quietly(waker);
            return taken.map(|_| None);
        }
        line.waited += 1;
        let behind_messages = line.has_only_messages();
        let ticket = line.push(generation, Waiter::Caller(waker));
        drop(line);
        if behind_messages {
            // Whoever is to serve those may come to it late, as is good enough for them.
            self.serve(None);
        }
        Ok((!self.served.has(ticket)).then_some(ticket))
    }

    /// Admits a caller, and takes a permit if nobody waits for one; false: the caller is to wait.
    fn take_at_once(&self, line: &mut Line, generation: u32) -> Result<bool, RejectReason> {
        if self.is_closed() {
            return Err(RejectReason::Closed);
        }
        self.restrict(line, Mode::Frozen);
        line.admit(generation);
        let taken = self.take_if_first(line);
        if taken {
            self.relax_if_calm(line);
        }
        Ok(taken)
    }

    /// Whether the caller with this ticket waits, who is woken by this waker from now on.
    fn still_waits(&self, ticket: Ticket, waker: &Waker) -> bool {
        if self.served.has(ticket) {
            return false;
        }
        match self.lock().waker(ticket) {
            None => return false,
            Some(old) if old.will_wake(waker) => return true,
            Some(_) => {}
        }
        let mut waker = waker.clone();
        let mut line = self.lock();
        let waits = line.waker(ticket);
        let still_waits = waits.map(|old| mem::swap(old, &mut waker)).is_some();
        drop(line);
        drop_quietly(waker);
        still_waits
    }

    /// A caller gives up in line, or does not want the permit that was granted to it.
    #[cold]
    fn give_up(&self, ticket: Ticket, generation: u32) {
        let mut line = self.lock();
        let left = line.give_up(ticket);
        let ends_a_drain = line.drains.iter().any(|drain| drain.left == 0);
        drop(line);
        match left {
            Some(waiter) => {
                drop_quietly(waiter);
                if ends_a_drain {
                    self.serve(None);
                }
            }
            None if self.served.has(ticket) => self.give(generation),
            None => {}
        }
    }
}
