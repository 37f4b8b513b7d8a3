//! Time inside the workers: one clockwork for each core, no task and no periodic tick for it, and
//! no thread but the two that are named here.
//!
//! # Who keeps the time
//! - Awake workers look at the next tick between batches, and fire what is due.
//! - Of the workers that sleep on threads of their own, one keeps the time: it parks until the next
//!   tick (`sleep`). Who makes the next tick earlier than that wakes it, once.
//! - On a tokio runtime workers are tasks, and whether the runtime has a timer cannot be told. There
//!   a thread of its blocking pool keeps the time, while there is a timer (`keeper`).
//! - On virtual time nobody does: who moves the clock fires what is due then.
//! - On threads of its own and the system's clock, a drain or a shutdown that has to wait starts a
//!   thread, `executor-deadline`, that fires what is due at its deadline if all workers are blocked
//!   (`standby`).
//! - Once all workers have left nobody does: a sleep is ready at once.

pub(crate) mod clock;
pub(crate) mod clockwork;
pub(crate) mod delayed;
pub(crate) mod entry;
pub(crate) mod every;
pub(crate) mod keeper;
pub(crate) mod kind;
pub(crate) mod post;
pub(crate) mod remains;
pub(crate) mod sleep;
mod standby;
pub(crate) mod term;
pub(crate) mod timer;
pub(crate) mod wheel;

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cell::Header;
use crate::core::CoreShared;
use crate::sync::{AtomicU8, Ordering};
use clock::{Clock, nanos_of};
use clockwork::Clockwork;
use entry::{Entry, LAST_TICK};
use keeper::Keeper;
use kind::Kind;
use remains::{SLICE, is_settling_here};
use timer::Timer;
use wheel::NEVER;

/// The length of a tick, unless the builder says otherwise.
pub const DEFAULT_TICK: Duration = Duration::from_millis(1);
/// How many timers fire at most where nothing else is to be done, before somebody looks again.
pub(crate) const MANY: usize = 2 * SLICE;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
/// The last worker has left, and nobody is about to end what was delayed.
const EMPTY: u8 = 2;
/// The same, and who waits for that has been told: nobody waits for a time any more.
const OVER: u8 = 3;

/// The time of one core.
pub(crate) struct Timers {
    clockwork: &'static Clockwork,
    clock: Clock,
    /// Nanoseconds of a tick.
    tick: u64,
    /// The thread that keeps the time, where workers cannot.
    keeper: Option<Keeper>,
    phase: AtomicU8,
}

/// When a timer is to fire, by the clock of the core.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// So long from now.
    After(Duration),
    /// At this instant, or at once if it is past.
    At(Instant),
}

impl Timers {
    pub(crate) fn new(clock: Clock, tick: Duration, keeper: Option<Keeper>) -> Self {
        Self {
            clockwork: Clockwork::lease(),
            clock,
            tick: nanos_of(tick).max(1),
            keeper,
            phase: AtomicU8::new(OPEN),
        }
    }

    /// The core that they serve, while it lives.
    pub(crate) fn core(&self) -> Option<Arc<CoreShared>> {
        self.clockwork.core()
    }

    /// Tells the clock and the clockwork whom they serve.
    pub(crate) fn attach(&self, core: &Arc<CoreShared>) {
        self.clockwork.serve(Arc::downgrade(core));
        if let Clock::Virtual(clock) = &self.clock {
            clock.attach(Arc::downgrade(core));
        }
    }

    /// The last tick that has begun.
    pub(crate) fn present(&self) -> u64 {
        self.clock.now() / self.tick
    }

    /// The present.
    pub(crate) fn now(&self) -> Instant {
        self.clock.instant_at(self.clock.now())
    }

    #[inline]
    pub(crate) fn nanos_of(&self, when: When) -> u64 {
        match when {
            // The clock itself, though it is half of what a timer costs: what each thread rounds up for
            // itself would put calls with the same delay out of their order.
            When::After(delay) => self.clock.now().saturating_add(nanos_of(delay)),
            When::At(instant) => self.clock.nanos_at(instant),
        }
    }

    /// The first tick that is not before `when`.
    #[inline]
    pub(crate) fn tick_of(&self, when: When) -> u64 {
        self.nanos_of(when).div_ceil(self.tick).min(LAST_TICK)
    }

    fn nanos_at(&self, tick: u64) -> u64 {
        tick.saturating_mul(self.tick)
    }

    /// Whether the time is kept by the workers themselves.
    pub(crate) fn is_kept_by_workers(&self) -> bool {
        self.keeper.is_none() && !self.clock.is_virtual()
    }

    /// How long a tick is.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_nanos(self.tick)
    }

    /// The tick until which a worker that goes to sleep may park, if it keeps the time.
    pub(crate) fn watch(&self) -> u64 {
        if self.is_kept_by_workers() {
            self.clockwork.next()
        } else {
            NEVER
        }
    }

    /// When a tick begins.
    pub(crate) fn instant_of(&self, tick: u64) -> Instant {
        self.clock.instant_at(self.nanos_at(tick))
    }

    /// When the next timer is due, or one that was cancelled since.
    pub(crate) fn next(&self) -> Option<Instant> {
        let next = self.clockwork.next();
        (next != NEVER).then(|| self.instant_of(next))
    }

    /// Whether something is due that only an awake worker sees.
    fn is_due_virtually(&self) -> bool {
        // In ticks, as whoever fires compares: in nanoseconds the last ticks would be one.
        self.clock.is_virtual() && {
            let next = self.clockwork.next();
            next != NEVER && next <= self.present()
        }
    }

    /// Whether nobody is about to end what was delayed, now that the last worker has left; true once: it stays
    /// so, and what is ended later was given up by its owner.
    pub(crate) fn become_empty(&self) -> bool {
        !self.are_empty()
            && self.clockwork.has_ended()
            && self.phase.fetch_max(EMPTY, Ordering::SeqCst) < EMPTY
    }

    pub(crate) fn are_empty(&self) -> bool {
        self.phase.load(Ordering::SeqCst) >= EMPTY
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == OPEN
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == OVER
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.clockwork.retire();
    }
}

impl CoreShared {
    /// Schedules `cell`; the caller checks afterwards whether its owner was closed meanwhile.
    ///
    /// # Safety
    /// The cell is as its kind wants it, and the caller, its runner, gives it away.
    #[inline]
    pub(crate) unsafe fn schedule(
        &self,
        kind: &'static Kind,
        cell: NonNull<Header>,
        lane: u16,
        tick: u64,
    ) -> Timer {
        let timers = &self.timers;
        let entry = Entry::new(tick, lane, kind, cell, true);
        // SAFETY: it is new, and has a handle.
        if unsafe { timers.clockwork.schedule(entry, tick) } {
            self.note_earlier(tick);
        }
        // SAFETY: it was made with this handle, and is in this clockwork.
        unsafe { Timer::new(entry, timers.clockwork) }
    }

    /// The next tick is earlier than it was: wakes who keeps the time, if that is too late now.
    #[cold]
    pub(crate) fn note_earlier(&self, tick: u64) {
        let timers = &self.timers;
        if timers.clock.is_virtual() {
            if timers.is_due_virtually() {
                self.wake_one();
            }
        } else if let Some(keeper) = &timers.keeper {
            keeper.note_earlier(tick, self);
        } else if tick < self.sleepers.watch() {
            self.wake_keeper();
        }
    }

    /// Fires all that is due, and waits for what others fire just now: a virtual clock was moved.
    pub(crate) fn fire_due(&self) {
        let clockwork = self.timers.clockwork;
        clockwork.catch_up(|| self.turn(self.timers.present(), SLICE));
        self.announce_next();
        if !is_settling_here() {
            clockwork.wait_until_settled();
        }
    }

    /// Whether a sleeping worker should have been told of an earlier tick, or of a due one.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.timers.watch() < self.sleepers.watch() || self.timers.is_due_virtually()
    }

    /// Fires at most so many timers that are due; false: none was.
    #[inline]
    pub(crate) fn tend(&self, most: usize) -> bool {
        let next = self.timers.clockwork.next();
        next != NEVER && self.tend_at(next, most)
    }

    fn tend_at(&self, next: u64, most: usize) -> bool {
        let timers = &self.timers;
        if !timers.clock.may_be(timers.nanos_at(next)) {
            return false;
        }
        let now = timers.present();
        let mut left = most;
        while left != 0 && timers.clockwork.next() <= now {
            match self.turn(now, left) {
                None | Some(0) => break,
                Some(fired) => left -= fired,
            }
        }
        self.announce_next();
        left != most
    }

    /// A turn of the clockwork.
    fn turn(&self, now: u64, most: usize) -> Option<usize> {
        let fired = self.timers.clockwork.turn(self, now, most);
        // The last worker may have left meanwhile, and its core not be empty before this was ended.
        self.note_empty();
        fired
    }

    /// Tells whoever keeps the time of the next tick, after a turn or a sweep: meanwhile there was
    /// none, and a worker may have gone to sleep, or the keeper have left, for good.
    fn announce_next(&self) {
        if self.is_unwatched() {
            self.wake_one();
        }
        let next = self.timers.clockwork.next();
        if let Some(keeper) = &self.timers.keeper
            && next != NEVER
        {
            keeper.note_earlier(next, self);
        }
    }

    /// Ends the timers of `owner`: those of one executor, or all that nothing waits for.
    pub(crate) fn sweep_timers(&self, owner: Option<*const ()>) {
        self.timers.clockwork.sweep(|kind, cell| match owner {
            // SAFETY: the work is pending, so its runner is the clockwork, which asks.
            Some(owner) => std::ptr::eq(unsafe { (kind.owner)(cell) }, owner),
            None => !kind.is_awaited,
        });
        self.announce_next();
    }

    /// Ends what is delayed, and refuses more.
    pub(crate) fn close_timers(&self) {
        self.timers.phase.fetch_max(CLOSED, Ordering::SeqCst);
        self.sweep_timers(None);
    }

    /// Ends all timers: the last worker has left.
    pub(crate) fn end_timers(&self) {
        self.timers.phase.store(OVER, Ordering::SeqCst);
        self.timers.clockwork.sweep(|_, _| true);
        if let Some(keeper) = &self.timers.keeper {
            keeper.dismiss();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use super::*;
    use crate::core::WorkerCore;
    use crate::lifecycle::Shutdown;
    use crate::time::clock::VirtualClock;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Tells when it is dropped, and goes on when it is told.
    struct Held(mpsc::Sender<()>, mpsc::Receiver<()>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.send(()).expect("it is heard");
            self.1.recv_timeout(DEADLINE).expect("told in time");
        }
    }

    #[test]
    fn a_core_is_not_empty_before_what_was_refused_at_its_time_is_dropped() {
        let clock = VirtualClock::new();
        let core = WorkerCore::threads(1).clock(&clock).unhosted();
        let (tell, dropping) = mpsc::channel();
        let (go_on, told) = mpsc::channel();
        let held = Held(tell, told);
        let delayed = core.spawn_fn_after(Duration::from_secs(1), move || drop(held));
        let delayed = delayed.expect("open").into_completion();
        // The time comes after the core was closed and before what is delayed was ended.
        core.shared().timers.phase.store(CLOSED, Ordering::SeqCst);
        let advances = thread::spawn(move || clock.advance(Duration::from_secs(1)));
        dropping.recv().expect("it is refused");
        let mut shutdown = pin!(core.shutdown(Shutdown::Drain, Duration::MAX));
        let mut context = Context::from_waker(Waker::noop());
        let late = Instant::now() + DEADLINE;
        assert!(shutdown.as_mut().poll(&mut context).is_pending());
        assert!(core.shared().note_exit(), "the only worker leaves");
        assert!(shutdown.as_mut().poll(&mut context).is_pending());
        go_on.send(()).expect("it waits");
        loop {
            if let Poll::Ready(report) = shutdown.as_mut().poll(&mut context) {
                assert!(report.is_complete() && delayed.is_done());
                break;
            }
            assert!(Instant::now() < late, "the shutdown does not end");
            thread::yield_now();
        }
        advances.join().expect("no panic");
    }
}
