//! A schedule that repeats: each tick is a delayed message that, when it is over, sets the next.
//!
//! So there is at most one message of a schedule at a time: what takes longer than a period delays
//! the schedule and never piles up, and what is done about the ticks that passed meanwhile is the
//! [`MissedTick`]'s to say.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::core::{CoreShared, WorkerCore, refused};
use crate::error::Rejected;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::time::When;
use crate::time::clock::nanos_of;
use crate::time::delayed::Delayed;
use crate::time::sleep::MissedTick;

/// What a tick of a schedule tells its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// How many came before it.
    pub number: u64,
    /// When it was due.
    pub due: Instant,
}

/// A schedule that repeats; dropped, it goes on until its executor ends.
#[must_use = "a dropped schedule goes on; keep it to cancel it"]
pub struct Schedule(Arc<dyn Repeat>);

/// A schedule whose ticks are of some type.
trait Repeat: Send + Sync {
    fn begin(&self) -> bool;
    fn advance(self: Arc<Self>);
    fn cancel(&self) -> bool;
    fn reschedule(&self, when: When) -> bool;
}

/// The parts of a schedule.
struct Repeated<T, E, M> {
    core: Weak<CoreShared>,
    parts: Parts<T, E, M>,
    missed: MissedTick,
    state: Mutex<State<T, E, M>>,
}

/// What an executor gives to have a schedule on it.
struct Parts<T, E, M> {
    /// Schedules a tick; none when it is closed.
    admit: Box<dyn Fn(When, Tick, Rearm) -> Option<Delayed<T, E, M>> + Send + Sync>,
    is_closed: Box<dyn Fn() -> bool + Send + Sync>,
}

struct State<T, E, M> {
    /// When the current tick is due, in nanoseconds of the clock.
    due: u64,
    period: u64,
    number: u64,
    /// The current tick, once it is known here.
    current: Option<Delayed<T, E, M>>,
    /// Whether a tick has begun that is not over.
    running: bool,
    /// What the first cancel achieved; no tick begins any more.
    cancelled: Option<bool>,
}

/// A tick's part of its schedule, which sets the next one when it is dropped: when this one is over,
/// however it ends.
pub struct Rearm(Option<Arc<dyn Repeat>>);

impl Rearm {
    /// The tick begins; false: its schedule was cancelled, and it is to do nothing.
    ///
    /// The tick asks here, since whoever cancels may come when it is scheduled and not known to its
    /// schedule yet.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.0.as_ref().is_some_and(|schedule| schedule.begin())
    }
}

impl Drop for Rearm {
    fn drop(&mut self) {
        if let Some(schedule) = self.0.take() {
            schedule.advance();
        }
    }
}

impl fmt::Debug for Rearm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rearm").finish_non_exhaustive()
    }
}

impl<T: 'static, E: 'static, M: 'static> Repeated<T, E, M>
where
    Delayed<T, E, M>: Send,
{
    fn lock(&self) -> MutexGuard<'_, State<T, E, M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules the current tick.
    fn arm(self: &Arc<Self>, core: &CoreShared) {
        let state = self.lock();
        if state.cancelled.is_some() {
            return;
        }
        let due = core.timers.clock.instant_at(state.due);
        let number = state.number;
        drop(state);
        // Without the lock: a tick that is refused drops its `Rearm`, and so does one that is over
        // at once.
        let rearm = Rearm(Some(Arc::clone(self) as Arc<dyn Repeat>));
        let current = (self.parts.admit)(When::At(due), Tick { number, due }, rearm);
        let mut state = self.lock();
        let (stale, mut unwanted) = if state.number != number {
            // It is over already.
            (current, None)
        } else if state.cancelled.is_some() {
            (None, current)
        } else {
            (std::mem::replace(&mut state.current, current), None)
        };
        drop(state);
        drop(stale);
        if let Some(tick) = &mut unwanted {
            tick.cancel();
        }
    }
}

impl<T: 'static, E: 'static, M: 'static> Repeat for Repeated<T, E, M>
where
    Delayed<T, E, M>: Send,
{
    fn begin(&self) -> bool {
        let mut state = self.lock();
        state.running = state.cancelled.is_none();
        state.running
    }

    fn advance(self: Arc<Self>) {
        let core = (self.core.upgrade()).filter(|_| !(self.parts.is_closed)());
        let mut state = self.lock();
        state.running = false;
        state.number += 1;
        // Also at the end: a message may keep its executor, and with it the core.
        let over = state.current.take();
        if let Some(core) = &core {
            let now = core.timers.clock.now();
            state.due = self.missed.next(state.due, now, state.period);
        }
        drop(state);
        drop(over);
        if let Some(core) = core {
            self.arm(&core);
        }
    }

    fn cancel(&self) -> bool {
        let mut state = self.lock();
        if let Some(achieved) = state.cancelled {
            return achieved;
        }
        let achieved = !state.running;
        state.cancelled = Some(achieved);
        let current = state.current.take();
        drop(state);
        // Without the lock: a tick that is cancelled drops its `Rearm`.
        if let Some(mut tick) = current {
            tick.cancel();
        }
        achieved
    }

    fn reschedule(&self, when: When) -> bool {
        let Some(core) = self.core.upgrade() else {
            return false;
        };
        let mut state = self.lock();
        let moved = state
            .current
            .as_mut()
            .is_some_and(|tick| tick.reschedule(when));
        if moved {
            state.due = core.timers.nanos_of(when);
        }
        moved
    }
}

impl Schedule {
    /// Starts a schedule; the first tick is due a period from now. None: it is closed.
    #[doc(hidden)]
    pub fn start<T: 'static, E: 'static, M: 'static>(
        core: &WorkerCore,
        period: Duration,
        missed: MissedTick,
        is_closed: impl Fn() -> bool + Send + Sync + 'static,
        admit: impl Fn(When, Tick, Rearm) -> Option<Delayed<T, E, M>> + Send + Sync + 'static,
    ) -> Option<Self>
    where
        Delayed<T, E, M>: Send,
    {
        if is_closed() {
            return None;
        }
        let period = nanos_of(period).max(1);
        let schedule = Arc::new(Repeated {
            core: Arc::downgrade(&core.handle.0),
            parts: Parts {
                admit: Box::new(admit),
                is_closed: Box::new(is_closed),
            },
            missed,
            state: Mutex::new(State {
                due: core.shared().timers.clock.now().saturating_add(period),
                period,
                number: 0,
                current: None,
                running: false,
                cancelled: None,
            }),
        });
        schedule.arm(&core.handle.0);
        Some(Self(schedule))
    }

    /// Ends the schedule: when this returns, no tick starts any more. True: none is running either.
    /// False: one has started and goes on; its context, if it has one, tells it. It may be called
    /// again, and gives the same answer.
    pub fn cancel(&mut self) -> bool {
        self.0.cancel()
    }

    /// Moves the next tick to `delay` from now, and those after it with it; false: its time has come
    /// already, and nothing changes.
    pub fn reschedule_after(&mut self, delay: Duration) -> bool {
        self.0.reschedule(When::After(delay))
    }

    /// Moves the next tick; see [`Schedule::reschedule_after`].
    pub fn reschedule_at(&mut self, instant: Instant) -> bool {
        self.0.reschedule(When::At(instant))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

impl WorkerCore {
    /// Runs a future that `make` gives every `period` on the workers, the first time a period from
    /// now. A period of 0 counts as 1 ns: with [`MissedTick::Burst`] a tick follows the one before
    /// it at once, with the others at the next tick of the clock.
    ///
    /// The next one is not begun before the last one has ended; `missed` says what is done about
    /// ticks that passed meanwhile. A panic ends its own tick alone.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    pub fn spawn_every<H, F>(
        &self,
        period: Duration,
        missed: MissedTick,
        make: H,
    ) -> Result<Schedule, Rejected<H>>
    where
        H: Fn(Tick) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.shared().timers.is_open() {
            return Err(refused(make));
        }
        // Weak, so that a schedule does not keep its core from ending.
        let (weak, closed) = (Arc::downgrade(&self.handle), Arc::downgrade(&self.handle));
        let make = Arc::new(make);
        let is_closed = move || {
            closed
                .upgrade()
                .is_none_or(|handle| !handle.0.timers.is_open())
        };
        let admit = move |when, tick, rearm| {
            let handle = weak.upgrade()?;
            let make = Arc::clone(&make);
            let work = async move {
                let rearm: Rearm = rearm;
                if rearm.begin() {
                    make(tick).await;
                }
            };
            WorkerCore { handle }.spawn_when(when, work).ok()
        };
        let started = Schedule::start(self, period, missed, is_closed, admit);
        // Closed just now, it has ended like one that was started before.
        Ok(started.unwrap_or_else(|| Schedule(Arc::new(Over))))
    }
}

/// A schedule that has ended.
struct Over;

impl Repeat for Over {
    fn begin(&self) -> bool {
        false
    }

    fn advance(self: Arc<Self>) {}

    fn cancel(&self) -> bool {
        true
    }

    fn reschedule(&self, _: When) -> bool {
        false
    }
}
