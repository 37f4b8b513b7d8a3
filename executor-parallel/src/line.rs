//! Who waits for a permit, and what is owed: the part of a gate that is under its lock.

use std::collections::VecDeque;

use executor_core::engine::{Parked, Promise};

use crate::gate::Permit;

/// At how many waiters those who gave up are looked for first.
const TIDY_AT: usize = 64;

/// The state under the lock.
pub(crate) struct Line {
    pub(crate) waiters: VecDeque<(u32, Waiter)>,
    pub(crate) limit: usize,
    /// Permits to be kept back when they come, because the limit was lowered.
    pub(crate) owed: usize,
    pub(crate) drains: Vec<Drain>,
    pub(crate) frozen: bool,
    /// At how many waiters those who gave up are looked for.
    tidy_at: usize,
}

/// Who waits for a permit.
pub(crate) enum Waiter {
    /// A caller of `execute`.
    Caller(Promise<Permit>),
    /// A submitted message.
    Message(Parked),
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
            waiters: VecDeque::new(),
            limit,
            owed: 0,
            drains: Vec::new(),
            frozen: false,
            tidy_at: TIDY_AT,
        }
    }

    /// A message of `generation` is admitted: drains that wait for that generation wait for it too.
    pub(crate) fn admit(&mut self, generation: u32) {
        for drain in &mut self.drains {
            drain.left += usize::from(generation <= drain.generation);
        }
    }

    /// A message of `generation` is over.
    pub(crate) fn leave(&mut self, generation: u32) {
        for drain in &mut self.drains {
            drain.left -= usize::from(generation <= drain.generation);
        }
    }

    /// Forgets those who gave up while they waited, when there may be many.
    pub(crate) fn tidy(&mut self) {
        if self.waiters.len() < self.tidy_at {
            return;
        }
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain(|(generation, waiter)| {
            let gone = matches!(waiter, Waiter::Caller(promise) if !promise.is_awaited());
            if gone {
                self.leave(*generation);
            }
            !gone
        });
        self.tidy_at = 2 * waiters.len() + TIDY_AT;
        self.waiters = waiters;
    }
}
