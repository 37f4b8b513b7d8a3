//! Who waits for a permit, and what is owed: the part of a gate that is under its lock.

use std::collections::VecDeque;

use executor_core::engine::{Parked, Promise};

use crate::permits::Mode;

/// The state under the lock.
pub(crate) struct Line {
    waiters: VecDeque<(u32, Waiter)>,
    /// How many of those who wait are callers.
    callers: usize,
    pub(crate) limit: usize,
    /// Permits to be kept back when they come, because the limit was lowered.
    pub(crate) owed: usize,
    pub(crate) drains: Vec<Drain>,
    /// That of the permits.
    pub(crate) mode: Mode,
    /// How often in a row a less strict mode would have done.
    pub(crate) calm: usize,
    /// How many gave up since those were forgotten; a few of them may not be there any more.
    pub(crate) gone: usize,
}

/// Who waits for a permit.
pub(crate) enum Waiter {
    /// A caller of `execute`.
    Caller(Promise<()>),
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
            callers: 0,
            limit,
            owed: 0,
            drains: Vec::new(),
            mode: Mode::Open,
            calm: 0,
            gone: 0,
        }
    }

    /// The least strict mode that does, while the executor is open.
    #[inline]
    pub(crate) fn needs(&self) -> Mode {
        if self.callers != 0 || self.owed != 0 || !self.drains.is_empty() {
            Mode::Frozen
        } else if self.waiters.is_empty() {
            Mode::Open
        } else {
            Mode::Awaited
        }
    }

    /// Whether messages wait, and no caller.
    pub(crate) fn has_only_messages(&self) -> bool {
        self.callers == 0 && !self.waiters.is_empty()
    }

    /// How many wait, those who gave up and are not forgotten included.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Lets somebody wait behind all others.
    pub(crate) fn push(&mut self, generation: u32, waiter: Waiter) {
        self.callers += usize::from(waiter.is_caller());
        self.waiters.push_back((generation, waiter));
        if self.needs() == self.mode {
            self.calm = 0;
        }
    }

    /// Lets somebody who was the first be it again.
    pub(crate) fn push_front(&mut self, generation: u32, waiter: Waiter) {
        self.callers += usize::from(waiter.is_caller());
        self.waiters.push_front((generation, waiter));
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<(u32, Waiter)> {
        let (generation, waiter) = self.waiters.pop_front()?;
        self.callers -= usize::from(waiter.is_caller());
        Some((generation, waiter))
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

    /// Forgets those who gave up while they waited: their promises, of which nobody hears, wake nobody.
    ///
    /// While a drain waits they are forgotten as they give up, or it would not hear of it.
    pub(crate) fn forget_gone(&mut self) {
        if std::mem::take(&mut self.gone) == 0 {
            return;
        }
        for _ in 0..self.waiters.len() {
            match self.waiters.pop_front() {
                Some((generation, Waiter::Caller(promise))) if !promise.is_awaited() => {
                    self.callers -= 1;
                    self.leave(generation);
                }
                other => self.waiters.extend(other),
            }
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
