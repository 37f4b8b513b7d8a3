//! Timers of a core on virtual time, against an ordered set of what is pending.
//!
//! After each operation everything that is due has run, on the only worker, so the model knows what
//! must have run and in which order. Timers that were moved have no promised place among those of
//! their tick.

#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use executor_core::{Delayed, Failure, Shutdown, VirtualClock, WorkerCore};
use executor_scenarios::{DEADLINE, block_on, eventually};
use libfuzzer_sys::fuzz_target;

/// More operations find no more.
const MOST: usize = 200;
const TICK: u64 = 1_000_000;

/// Delays and steps from nothing to more than the clock can show, on the edges of ticks and of the
/// wheel's slots.
fn duration(byte: u8) -> Duration {
    let (kind, number) = (byte >> 5, u64::from(byte & 31));
    let nanos = match kind {
        0 => number,
        1 => number * TICK,
        2 => number * TICK / 2 + 1,
        3 => (62 + number) * TICK,
        4 => ((1 << number) - 1) * TICK,
        5 => (1 << number) * TICK,
        // Up to three quarters of a clock that stops at 64 bits of nanoseconds.
        6 => (number % 4) << 62,
        _ => return Duration::MAX - Duration::from_nanos(number),
    };
    Duration::from_nanos(nanos)
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Fired,
    Cancelled,
}

struct Timer {
    tick: u64,
    was_moved: bool,
    state: State,
    /// None once it was dropped.
    handle: Option<Delayed<usize>>,
}

struct Rig {
    clock: VirtualClock,
    core: WorkerCore,
    now: u64,
    timers: Vec<Timer>,
    /// Those that are pending, by tick and number.
    pending: BTreeSet<(u64, usize)>,
    fired: usize,
    /// What ran, in order, and what the clock showed.
    ran: Arc<Mutex<Vec<(usize, u64)>>>,
}

impl Rig {
    fn new() -> Self {
        let clock = VirtualClock::new();
        let core = WorkerCore::threads(1)
            .tick(Duration::from_nanos(TICK))
            .clock(&clock);
        Self {
            core: core.build().expect("threads start"),
            clock,
            now: 0,
            timers: Vec::new(),
            pending: BTreeSet::new(),
            fired: 0,
            ran: Arc::default(),
        }
    }

    /// The first tick that is not before `delay` from now.
    fn tick_after(&self, delay: Duration) -> u64 {
        self.now.saturating_add(nanos_of(delay)).div_ceil(TICK)
    }

    fn schedule(&mut self, delay: Duration, is_future: bool) {
        let (id, tick) = (self.timers.len(), self.tick_after(delay));
        let (ran, clock) = (Arc::clone(&self.ran), self.clock.clone());
        let call = move || {
            let shown = nanos_of(clock.elapsed());
            ran.lock().expect("whole").push((id, shown));
            id
        };
        let handle = if is_future {
            self.core.spawn_after(delay, async move { call() }).ok()
        } else {
            self.core.spawn_fn_after(delay, call).ok()
        };
        assert!(handle.is_some(), "the core is open");
        self.timers.push(Timer {
            tick,
            was_moved: false,
            state: State::Pending,
            handle,
        });
        self.pending.insert((tick, id));
    }

    fn reschedule(&mut self, id: usize, delay: Duration) {
        let tick = self.tick_after(delay);
        let timer = &mut self.timers[id];
        let Some(handle) = &mut timer.handle else {
            return;
        };
        let moved = handle.reschedule_after(delay);
        assert_eq!(moved, timer.state == State::Pending, "{id} is moved");
        if moved {
            self.pending.remove(&(timer.tick, id));
            self.pending.insert((tick, id));
            timer.tick = tick;
            timer.was_moved = true;
        }
    }

    fn cancel(&mut self, id: usize) {
        let timer = &mut self.timers[id];
        let Some(handle) = &mut timer.handle else {
            return;
        };
        let cancelled = handle.cancel();
        assert_eq!(cancelled, timer.state != State::Fired, "{id} is cancelled");
        if cancelled {
            timer.state = State::Cancelled;
            self.pending.remove(&(timer.tick, id));
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now.saturating_add(nanos_of(by));
        self.clock.advance(by);
    }

    /// Fires what is due, and looks whether it is what the model says.
    fn settle(&mut self) {
        // What is scheduled for the present fires when somebody looks.
        self.clock.advance(Duration::ZERO);
        let later = self.pending.split_off(&(self.now / TICK + 1, 0));
        let due = std::mem::replace(&mut self.pending, later);
        let expected = self.fired + due.len();
        eventually("what is due has run", || {
            self.ran.lock().expect("whole").len() >= expected
        });
        let ran = self.ran.lock().expect("whole")[self.fired..].to_vec();
        self.fired = expected;
        let key = |&(id, _): &(usize, u64)| (self.timers[id].tick, id);
        let mut sorted: Vec<_> = ran.iter().map(key).collect();
        sorted.sort_unstable();
        assert!(sorted.iter().eq(&due), "{ran:?} ran, {due:?} was due");
        let ticks = ran.iter().map(|&(id, _)| self.timers[id].tick);
        assert!(ticks.is_sorted(), "{ran:?} is out of order");
        let unmoved = ran.iter().filter(|&&(id, _)| !self.timers[id].was_moved);
        let is_in_call_order = unmoved.map(key).is_sorted();
        assert!(is_in_call_order, "{ran:?} is out of the order of the calls");
        for (id, shown) in ran {
            assert_eq!(shown, self.now, "{id} ran at another time");
            self.timers[id].state = State::Fired;
        }
        for (id, timer) in self.timers.iter().enumerate() {
            if let Some(handle) = &timer.handle {
                let is_pending = timer.state == State::Pending;
                assert_eq!(handle.is_pending(), is_pending, "{id} is pending");
            }
        }
    }

    fn finish(mut self, mode: Shutdown) {
        let report = block_on(self.core.shutdown(mode, DEADLINE));
        assert!(report.is_complete(), "{report:?}");
        assert!(self.core.spawn_fn_after(Duration::ZERO, || ()).is_err());
        self.advance(Duration::MAX);
        for (id, timer) in self.timers.into_iter().enumerate() {
            let Some(handle) = timer.handle else {
                continue;
            };
            let outcome = block_on(handle);
            match timer.state {
                State::Pending => assert!(matches!(outcome, Err(Failure::Aborted)), "{id}"),
                State::Fired => assert_eq!(outcome.ok(), Some(id)),
                State::Cancelled => assert!(matches!(outcome, Err(Failure::Cancelled)), "{id}"),
            }
        }
        drop(self.core);
        assert_eq!(self.ran.lock().expect("whole").len(), self.fired);
        eventually("all calls are dropped", || {
            Arc::strong_count(&self.ran) == 1
        });
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, bytes)) = bytes.split_first() else {
        return;
    };
    let mut rig = Rig::new();
    for &[kind, which, detail] in bytes.as_chunks().0.iter().take(MOST) {
        let chosen = usize::from(which).checked_rem(rig.timers.len());
        match (kind % 8, chosen) {
            (0..3, _) => rig.schedule(duration(detail), which % 2 == 0),
            (3, Some(id)) => rig.reschedule(id, duration(detail)),
            (4, Some(id)) => rig.cancel(id),
            (5, Some(id)) => rig.timers[id].handle = None,
            (6, _) => {
                if let Some(next) = rig.core.next_timer() {
                    rig.advance(next.saturating_duration_since(rig.clock.now()));
                }
            }
            _ => rig.advance(duration(detail)),
        }
        rig.settle();
    }
    rig.finish(match mode % 2 {
        0 => Shutdown::Drain,
        _ => Shutdown::Abort,
    });
});
