//! Futures of the workers' own time: sleep, timeout, interval.
//!
//! They need no runtime: whoever polls them is woken by the core that made them. A pending one is a
//! promise in a cell, which the timer fulfils.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::completion::Completion;
use crate::core::{CoreShared, WorkerCore};
use crate::task::promise;
use crate::thread_id;
use crate::time::When;
use crate::time::clock::nanos_of;
use crate::time::clockwork::Clockwork;
use crate::time::kind;
use crate::time::standby::Standby;
use crate::time::timer::Timer;

/// What an interval or a schedule does about a tick whose time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTick {
    /// Each one comes, one at once after the other, until it has caught up; the default.
    #[default]
    Burst,
    /// They are left out: the next one comes at the next multiple of the period.
    Skip,
    /// The next one comes a whole period later, and so do all that follow.
    Delay,
}

impl MissedTick {
    /// When the next tick is due after one that was due at `due` and came at `now`.
    pub(crate) fn next(self, due: u64, now: u64, period: u64) -> u64 {
        let period = period.max(1);
        let now = now.max(due);
        match self {
            Self::Burst => due.saturating_add(period),
            Self::Skip => due.saturating_add(((now - due) / period + 1).saturating_mul(period)),
            Self::Delay => now.saturating_add(period),
        }
    }
}

/// The time was over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time was over before it was ready")]
pub struct Elapsed;

/// Waits until an instant; made by [`WorkerCore::sleep`]. Once all workers have left it is ready at
/// once.
///
/// # Cancel safety
/// Dropping it cancels its timer, and frees it.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    core: Arc<CoreShared>,
    tick: u64,
    waiting: Option<Waiting>,
}

/// A sleep that was polled, and its timer.
struct Waiting {
    over: Completion<()>,
    timer: Timer,
}

impl Sleep {
    fn new(core: &Arc<CoreShared>, when: When) -> Self {
        Self {
            core: Arc::clone(core),
            tick: core.timers.tick_of(when),
            waiting: None,
        }
    }

    /// When it is ready: the beginning of the tick.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.core.timers.instant_of(self.tick)
    }

    /// Waits for another time instead, also when it was ready already.
    pub fn reset(&mut self, when: When) {
        self.tick = self.core.timers.tick_of(when);
        if let Some(waiting) = &mut self.waiting {
            match waiting.timer.reschedule(self.tick) {
                Some(true) => self.core.note_earlier(self.tick),
                Some(false) => {}
                None => self.cancel(),
            }
        }
    }

    fn cancel(&mut self) {
        if let Some(Waiting { over, timer }) = self.waiting.take() {
            // First, so that nobody is woken by the end of the timer.
            drop(over);
            timer.cancel();
        }
    }

    fn wait(&self) -> Waiting {
        let (promise, over) = promise();
        let lane = Clockwork::lane_of(thread_id::current() << 6);
        // SAFETY: the promise's runner is the timer from now on.
        let timer = unsafe {
            self.core
                .schedule(&kind::PROMISE, promise.into_cell(), lane, self.tick)
        };
        if self.core.timers.is_over() {
            // It may have come too late to be ended.
            self.core.end_timers();
        }
        Waiting { over, timer }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let timers = &this.core.timers;
            if timers.present() >= this.tick || timers.is_over() {
                return Poll::Ready(());
            }
            this.waiting = Some(this.wait());
        }
        let Some(waiting) = &mut this.waiting else {
            return Poll::Pending;
        };
        // Ended without being fulfilled it is over too: no worker is left.
        match Pin::new(&mut waiting.over).poll(context) {
            Poll::Ready(_) => {
                this.waiting = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

/// Ticks at a fixed period; made by [`WorkerCore::interval`]. Once all workers have left each tick
/// is ready at once.
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    /// In nanoseconds of the clock.
    due: u64,
    period: u64,
    missed: MissedTick,
}

impl Interval {
    /// Waits for the next tick, and gives the time at which it was due.
    ///
    /// Once all workers have left, after a shutdown, nobody keeps the time and every tick is ready
    /// at once: a loop over it spins, and is to end with the core.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no tick is lost.
    pub async fn tick(&mut self) -> Instant {
        (&mut self.sleep).await;
        let timers = &self.sleep.core.timers;
        let due = timers.clock.instant_at(self.due);
        let now = timers.clock.now();
        self.due = self.missed.next(self.due, now, self.period);
        let next = When::At(timers.clock.instant_at(self.due));
        self.sleep.reset(next);
        due
    }
}

impl WorkerCore {
    /// The present, by the core's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared().timers.now()
    }

    /// When the next timer of the core is due, if there is one; or one that was cancelled since.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.shared().timers.next()
    }

    /// Waits for `duration` from now; never less, and at most a tick plus scheduling more.
    ///
    /// It serves any task, on any runtime or none. Once all workers have left nobody keeps the time
    /// any more, and it is ready at once.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(&self.handle.0, When::After(duration))
    }

    /// Waits until `instant`, as [`WorkerCore::sleep`] does; ready at once if a tick of the clock
    /// has begun since.
    pub fn sleep_until(&self, instant: Instant) -> Sleep {
        Sleep::new(&self.handle.0, When::At(instant))
    }

    /// Waits for `work`, but not longer than `limit` from now.
    ///
    /// `work` is dropped with the future. Work that is ready is never [`Elapsed`]. Once all workers
    /// have left nobody keeps the time, and work that is not ready is [`Elapsed`] at once.
    ///
    /// # Errors
    /// [`Elapsed`], from the future, when the time was over first.
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        let sleep = self.sleep(limit);
        async move { race(sleep, work).await.ok_or(Elapsed) }
    }

    /// Ticks every `period` from now on, the first time now: at the next tick of the clock. A
    /// period of 0 counts as 1 ns: with [`MissedTick::Burst`] every tick after the first is ready
    /// at once.
    ///
    /// Once all workers have left each tick is ready at once; see [`Interval::tick`].
    pub fn interval(&self, period: Duration, missed: MissedTick) -> Interval {
        let clock = &self.shared().timers.clock;
        let due = clock.now();
        Interval {
            sleep: self.sleep_until(clock.instant_at(due)),
            due,
            period: nanos_of(period).max(1),
            missed,
        }
    }
}

async fn race<F: Future>(sleep: Sleep, work: F) -> Option<F::Output> {
    let (mut sleep, mut work) = (sleep, pin!(work));
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if Pin::new(&mut sleep).poll(context).is_pending() {
            return Poll::Pending;
        }
        // Again: both may have become ready since.
        Poll::Ready(match work.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Waits until `instant`.
pub(crate) fn until(core: &Arc<CoreShared>, instant: Instant) -> Sleep {
    Sleep::new(core, When::At(instant))
}

/// Waits for `work`, but not longer than `limit`.
pub(crate) async fn within<F: Future>(
    core: &Arc<CoreShared>,
    limit: Duration,
    work: F,
) -> Option<F::Output> {
    let mut race = pin!(race(Sleep::new(core, When::After(limit)), work));
    let mut standby = None;
    poll_fn(|context| {
        let polled = race.as_mut().poll(context);
        if polled.is_pending() && standby.is_none() {
            standby = Some(Standby::start(core, limit));
        }
        polled
    })
    .await
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::MissedTick::{self, Burst, Delay, Skip};

    /// Three ticks after one that was due at `due` and came at `now`; those that follow come in time.
    fn after(missed: MissedTick, due: u64, now: u64) -> [u64; 3] {
        let first = missed.next(due, now, 10);
        let second = missed.next(first, first.max(now), 10);
        [first, second, missed.next(second, second.max(now), 10)]
    }

    #[test]
    fn a_missed_tick_is_caught_up_with_or_left_out_or_shifts_the_rest() {
        assert_eq!(after(Burst, 20, 47), [30, 40, 50]);
        assert_eq!(after(Skip, 20, 47), [50, 60, 70]);
        assert_eq!(after(Delay, 20, 47), [57, 67, 77]);
        for missed in [Burst, Skip, Delay] {
            assert_eq!(after(missed, 20, 20), [30, 40, 50], "{missed:?}, in time");
            assert_eq!(missed.next(20, 15, 10), 30, "{missed:?}, by an early clock");
            assert_eq!(missed.next(u64::MAX - 1, 0, 10), u64::MAX, "{missed:?}");
            assert!(missed.next(20, 20, 0) > 20, "{missed:?}, without a period");
        }
        assert_eq!(Skip.next(20, 30, 10), 40, "at the very next multiple");
    }
}
