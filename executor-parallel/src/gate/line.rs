//! Who waits for a permit, and what is owed: the part of a gate that is under its lock.

use std::collections::VecDeque;
use std::num::NonZero;
use std::task::Waker;

use executor_core::engine::{Parked, Promise};

use crate::permits::Mode;

/// A number that rises with each that lines up.
pub(crate) type Ticket = NonZero<u64>;

/// The state under the lock.
pub(crate) struct Line {
    /// By ticket, the oldest first.
    places: VecDeque<Place>,
    last_ticket: u64,
    /// How many of those who wait are callers.
    callers: usize,
    /// How many places are empty.
    empty: usize,
    pub(crate) limit: usize,
    /// Permits to be kept back when they come, because the limit was lowered.
    pub(crate) owed: usize,
    pub(crate) drains: Vec<Drain>,
    /// That of the permits.
    pub(crate) mode: Mode,
    /// How often in a row a less strict mode would have done.
    pub(crate) calm: usize,
    /// Messages that were handled, of those that were not counted with their permits.
    pub(crate) handled: u64,
    /// How many callers have lined up.
    pub(crate) waited: u64,
}

/// A message that is over, and whose permit is to be given back.
#[derive(Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) generation: u32,
    /// Whether it is still to be counted, as handled.
    pub(crate) handled: bool,
}

impl Finished {
    /// One that was counted.
    pub(crate) fn counted(generation: u32) -> Self {
        Self {
            generation,
            handled: false,
        }
    }

    /// One that was handled, and not counted.
    pub(crate) fn handled(generation: u32) -> Self {
        Self {
            generation,
            handled: true,
        }
    }
}

/// A place in line.
struct Place {
    ticket: Ticket,
    generation: u32,
    /// None: a caller was here, and gave up.
    waiter: Option<Waiter>,
}

/// Somebody who waits for a permit.
pub(crate) enum Waiter {
    /// A caller, and whom to wake.
    Caller(Waker),
    /// A submitted message.
    Message(Parked),
}

/// Who was first in line.
pub(crate) struct First {
    pub(crate) ticket: Ticket,
    pub(crate) generation: u32,
    pub(crate) waiter: Waiter,
}

/// Somebody who waits until all messages up to a generation are handled.
pub(crate) struct Drain {
    pub(crate) generation: u32,
    pub(crate) left: usize,
    pub(crate) done: Promise<()>,
}

impl Line {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            places: VecDeque::new(),
            last_ticket: 0,
            callers: 0,
            empty: 0,
            limit,
            owed: 0,
            drains: Vec::new(),
            mode: Mode::Open,
            calm: 0,
            handled: 0,
            waited: 0,
        }
    }

    /// The least strict mode that does, while the executor is open.
    #[inline]
    pub(crate) fn needs(&self) -> Mode {
        if self.callers != 0 || self.owed != 0 || !self.drains.is_empty() {
            Mode::Frozen
        } else if self.waiting() == 0 {
            Mode::Open
        } else {
            Mode::Awaited
        }
    }

    /// Whether messages wait, and no caller.
    pub(crate) fn has_only_messages(&self) -> bool {
        self.callers == 0 && self.waiting() != 0
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.places.len() - self.empty
    }

    /// Lets somebody wait behind all others, and says the ticket.
    pub(crate) fn push(&mut self, generation: u32, waiter: Waiter) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket::new(self.last_ticket).expect("fewer than 2^64 have lined up");
        self.callers += usize::from(waiter.is_caller());
        self.places.push_back(Place {
            ticket,
            generation,
            waiter: Some(waiter),
        });
        if self.needs() == self.mode {
            self.calm = 0;
        }
        ticket
    }

    /// Takes the first who waits.
    pub(crate) fn pop(&mut self) -> Option<First> {
        loop {
            let place = self.places.pop_front()?;
            let Some(waiter) = place.waiter else {
                self.empty -= 1;
                continue;
            };
            self.callers -= usize::from(waiter.is_caller());
            return Some(First {
                ticket: place.ticket,
                generation: place.generation,
                waiter,
            });
        }
    }

    /// The waker of a caller who waits.
    pub(crate) fn waker(&mut self, ticket: Ticket) -> Option<&mut Waker> {
        let at = self.find(ticket)?;
        match &mut self.places[at].waiter {
            Some(Waiter::Caller(waker)) => Some(waker),
            _ => None,
        }
    }

    /// A caller gives up, of which drains hear; none: it was served, or turned away, before.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> Option<Waiter> {
        let at = self.find(ticket)?;
        let place = &mut self.places[at];
        let (waiter, generation) = (place.waiter.take()?, place.generation);
        self.callers -= 1;
        self.empty += 1;
        self.leave(generation);
        // Most are empty, and each of these is removed once.
        if 2 * self.empty > self.places.len() {
            self.places.retain(|place| place.waiter.is_some());
            self.empty = 0;
        }
        Some(waiter)
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        (self.places)
            .binary_search_by_key(&ticket, |place| place.ticket)
            .ok()
    }

    /// A message of `generation` is admitted: drains that wait for that generation wait for it too.
    pub(crate) fn admit(&mut self, generation: u32) {
        for drain in &mut self.drains {
            drain.left += usize::from(drain.waits_for(generation));
        }
    }

    /// A message of `generation` is over.
    pub(crate) fn leave(&mut self, generation: u32) {
        for drain in &mut self.drains {
            drain.left -= usize::from(drain.waits_for(generation));
        }
    }
}

impl Waiter {
    fn is_caller(&self) -> bool {
        matches!(self, Self::Caller(_))
    }
}

impl Drain {
    /// Whether it waits for messages of `generation`: those that were admitted before it, and theirs.
    ///
    /// Generations wrap around, and none is older than half of all.
    fn waits_for(&self, generation: u32) -> bool {
        self.generation.wrapping_sub(generation) < 1 << 31
    }
}
