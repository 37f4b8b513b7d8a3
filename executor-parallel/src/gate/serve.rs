//! How permits come to those who wait for them.
//!
//! # Who serves
//! | who waits | who hands a permit on | how many at a time |
//! | --- | --- | --- |
//! | messages alone | who gives it back, if it is the first in its shard | that one |
//! | | the same, when its worker has done the rest of its batch | all that are free |
//! | a caller too | who gives it back | that one |
//! | anybody, while a drain counts, permits are owed or the executor is closed | the same, under one lock with the count | that one; all that are free, if nobody gets that one |
//!
//! So permits can be free while messages wait, and somebody is about to hand them on when a batch is done: a
//! message could run no sooner than the worker comes to it, or another that takes its place (`worker`). Who
//! cannot wait so long does it instead: a caller that comes behind messages, and who would be refused.

use std::task::Waker;

use executor_core::engine::{Granted, Limiter, after_batch, check_exit, wake_quietly};

use super::Gate;
use super::line::{Finished, First, Line, Waiter};
use crate::permits::Mode;

/// How many messages get their permits under one lock.
const MANY: usize = 64;

impl Gate {
    /// Gives a permit back for which messages wait: to the first of them now or, if more are likely to come
    /// back meanwhile, to be handed on with those when the worker that this thread is has done its batch.
    #[cold]
    pub(super) fn give_first(&self, generation: u32) {
        let is_put_off = after_batch(&self.core, || {
            let gate = self.me.upgrade()?;
            // If the core is aborted meanwhile, so is the executor, and nobody waits any more.
            let serve = move || gate.serve(None);
            self.permits.give_first().then_some(serve)
        });
        if !is_put_off {
            self.serve(Some(Finished::counted(generation)));
        }
    }

    /// Hands all permits that are free to messages; false: there is more to be seen to.
    fn serve_messages(&self) -> bool {
        loop {
            let mut line = self.lock();
            if self.is_closed() || line.needs() == Mode::Frozen {
                return false;
            }
            let permits = self.permits.take_up_to(line.waiting().min(MANY));
            let mut granted = Granted::default();
            for _ in 0..permits {
                if let Some(Waiter::Message(message)) = self.grant(&mut line) {
                    granted.push(message);
                }
            }
            self.relax_if_calm(&mut line);
            drop(line);
            granted.release(&self.core);
            if permits < MANY {
                return true;
            }
        }
    }

    /// Takes the first in line, who has a permit from now on.
    fn grant(&self, line: &mut Line) -> Option<Waiter> {
        let First { ticket, waiter, .. } = line.pop()?;
        if matches!(waiter, Waiter::Caller(_)) {
            self.served.add(ticket);
        }
        Some(waiter)
    }

    /// Tells who has a permit.
    fn tell(&self, waiter: Waiter) {
        match waiter {
            Waiter::Caller(waker) => wake_quietly(waker),
            Waiter::Message(parked) => parked.release(&self.core),
        }
    }

    /// Hands a permit of a message that is over on, unless a drain counts, permits are owed, or the executor is
    /// closed; false: that is so.
    fn pass_on_simply(&self, finished: Finished) -> bool {
        let mut line = self.lock();
        if line.owed != 0 || !line.drains.is_empty() || self.is_closed() {
            return false;
        }
        line.handled += u64::from(finished.handled);
        let next = self.grant(&mut line);
        if next.is_none() {
            self.permits.add(1);
        }
        // Whoever is the last of all comes back here.
        if next.is_none() || line.mode == Mode::Frozen && line.needs() == Mode::Awaited {
            self.relax_if_calm(&mut line);
        }
        drop(line);
        if let Some(next) = next {
            self.tell(next);
        }
        true
    }

    /// Hands permits on, settles what is owed and what drains count; `finished` is a message that gives its
    /// permit back.
    #[cold]
    pub(super) fn serve(&self, mut finished: Option<Finished>) {
        let is_simple = match finished {
            Some(finished) => self.pass_on_simply(finished),
            None => self.serve_messages(),
        };
        if is_simple {
            return;
        }
        loop {
            let mut line = self.lock();
            let mut turned_away = Vec::new();
            // Together under the lock: a drain that begins counts the message either as in flight and
            // sees it leave, or neither.
            let passed_on = finished.take().and_then(|finished| {
                line.handled += u64::from(finished.handled);
                line.leave(finished.generation);
                let next = self.pass_on(&mut line, &mut turned_away);
                if next.is_none() {
                    self.permits.add(1);
                }
                next
            });
            // There was the permit of the message alone to hand on.
            let is_one = passed_on.is_some();
            let next = passed_on.or_else(|| {
                self.settle_owed(&mut line);
                self.next_served(&mut line, &mut turned_away, || self.permits.take())
            });
            let drained: Vec<_> = line
                .drains
                .extract_if(.., |drain| drain.left == 0)
                .collect();
            self.relax_if_calm(&mut line);
            let is_over = self.is_closed() && self.in_flight(&line) == 0;
            drop(line);
            turned_away.into_iter().for_each(wake_quietly);
            for drain in drained {
                drain.done.fulfil(());
            }
            let Some(next) = next else {
                if is_over {
                    // The workers of a closed core may have stayed for this executor alone.
                    check_exit(&self.core);
                }
                return;
            };
            self.tell(next);
            if is_one {
                return;
            }
        }
    }

    /// The first in line, with the permit of a message that is over.
    fn pass_on(&self, line: &mut Line, turned_away: &mut Vec<Waker>) -> Option<Waiter> {
        if line.owed > 0 || self.is_aborting() {
            return None;
        }
        self.next_served(line, turned_away, || true)
    }

    /// The first in line, with a permit if `take` has one; or, in an abort, the first message, to be aborted,
    /// with the callers before it turned away.
    fn next_served(
        &self,
        line: &mut Line,
        turned_away: &mut Vec<Waker>,
        take: impl Fn() -> bool,
    ) -> Option<Waiter> {
        if !self.is_aborting() {
            let takes = line.waiting() != 0 && take();
            return takes.then(|| self.grant(line))?;
        }
        loop {
            let First {
                generation, waiter, ..
            } = line.pop()?;
            match waiter {
                Waiter::Caller(waker) => {
                    line.leave(generation);
                    turned_away.push(waker);
                }
                message @ Waiter::Message(_) => {
                    // It runs without a permit, and will give one back.
                    line.owed += 1;
                    return Some(message);
                }
            }
        }
    }
}
