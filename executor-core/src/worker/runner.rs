//! What a worker does with its time: where it looks for work, how much it takes, and when it lies down.

#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use super::{Turn, Worker, WorkerCounts};
use crate::core::CoreShared;
use crate::lane::{List, Pushed};
use crate::sleep::Lain;
use crate::slice::is_time_to_look;
use crate::sync::{Ordering, fence};
use crate::time::MANY;

/// After how many batches of its own a worker looks whether another one is blocked.
const RELIEF_INTERVAL: usize = 61;
/// After how many links of a batch a worker looks for timers that are due, and how many it fires then: what
/// they put into the lanes is run no slower than it comes, and found in the cache.
const TEND_INTERVAL: usize = 16;
/// After how many looks for work a searcher stays to see whether another is held up.
const LOOK_INTERVAL: u32 = 16;
/// How long a worker naps that found nothing beside others that did; doubled each time it finds nothing
/// again, up to
const FIRST_NAP: Duration = Duration::from_micros(50);
/// so long, the longest that a worker's batch waits behind a message that blocks it.
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// How long a worker task runs before it lets the runtime's other tasks go on, if no link takes longer.
const LONGEST_POLL: Duration = Duration::from_micros(500);

/// How long a worker may sleep.
#[must_use]
pub(crate) enum Rest {
    /// There is work.
    Not,
    /// Until it is woken, or the next timer is due.
    Until(Instant),
    /// Until it is woken.
    Long,
}

/// What a worker goes by from one batch to the next.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pace {
    /// Batches that it has begun, by which it looks at others.
    batches: usize,
    /// Links that it has run since it looked for timers.
    untended: usize,
    suspect: Suspect,
    /// Whether a slice of the last batch was long for what waited behind it.
    was_long: bool,
    /// Whether that batch was taken from another that did not come to it.
    was_relief: bool,
}

/// Another worker, and how much it had run when it was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Suspect {
    worker: usize,
    runs: u64,
}

/// What a worker does with its time; shared by the hosts.
pub(crate) struct Runner<'a> {
    core: &'a CoreShared,
    index: usize,
    searching: bool,
    pace: Pace,
    /// Whether the host can park it for a time; one that cannot nap must find something or sleep.
    may_nap: bool,
    nap: Duration,
    /// How much the others had run when this worker last lay down.
    seen: u64,
    /// What a task has run in this poll.
    poll: Poll,
}

/// How long one poll of a worker task has lasted, after which it lets the runtime's other tasks go on.
#[derive(Debug, Default)]
struct Poll {
    ran: usize,
    /// When the first link was over.
    began: Option<Instant>,
    is_over: bool,
}

impl Poll {
    /// One link was run, and more of the batch are left; true: with it the poll is over.
    #[inline]
    fn ends(&mut self) -> bool {
        self.ran += 1;
        if is_time_to_look(self.ran) {
            let now = Instant::now();
            let began = *self.began.get_or_insert(now);
            self.is_over = now - began > LONGEST_POLL;
        }
        self.is_over
    }
}

impl<'a> Runner<'a> {
    /// The runner of a thread, which may nap.
    pub(crate) fn new(core: &'a CoreShared, index: usize) -> Self {
        Self {
            may_nap: true,
            ..Self::resumed(core, index, false, Pace::default())
        }
    }

    /// That of a task, which was woken, and so counts as searching, or was not, and goes on at this pace.
    pub(crate) fn resumed(core: &'a CoreShared, index: usize, searching: bool, pace: Pace) -> Self {
        let this = Self {
            core,
            index,
            searching,
            pace,
            may_nap: false,
            nap: FIRST_NAP,
            seen: 0,
            poll: Poll::default(),
        };
        this.rest(false);
        this
    }

    pub(crate) fn is_searching(&self) -> bool {
        self.searching
    }

    /// Whether the task has run long enough; what is left of its batch it runs in its next poll.
    pub(crate) fn is_over(&self) -> bool {
        self.poll.is_over
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    fn me(&self) -> &'a Worker {
        &self.core.workers[self.index]
    }

    /// Fires what is due, and runs one batch; false: there was nothing to do.
    pub(crate) fn run_batch(&mut self) -> bool {
        let me = self.me();
        if me.is_at_batch() {
            self.run_board();
            return true;
        }
        self.pace.batches = self.pace.batches.wrapping_add(1);
        // What is left of a list comes first: it is as much as a batch, in which timers fire.
        let fired = me.shelf.load(Ordering::Relaxed).is_null() && self.core.tend(MANY);
        let list = self.find();
        if list.is_empty() {
            return fired;
        }
        let more = me.fill(list, self.core.options.batch);
        let was_long = std::mem::take(&mut self.pace.was_long);
        self.nap = FIRST_NAP;
        if self.searching {
            self.searching = false;
            self.core.sleepers.stop_searching();
            if self.core.is_unwatched() {
                self.core.wake_one();
            } else if more || !me.lane.is_empty() || self.others().any(Worker::has_work) {
                self.core.wake_for_work();
            }
        } else if more {
            // The board was filled before the look at the sleepers, or one that lies down just now
            // sees no work here while this worker sees nobody to wake.
            fence(Ordering::SeqCst);
            if was_long && me.is_left_lying() {
                // Too much to wait for the end of a nap.
                self.core.wake_one();
            } else {
                self.core.wake_for_work();
            }
        }
        self.run_board();
        true
    }

    /// The next list: what was pushed for one who sleeps, the shelf, the own lane, then what others
    /// have.
    fn find(&mut self) -> List {
        let me = self.me();
        // One of the others each time, so that the look costs the same however many there are.
        let all = &self.core.workers;
        let other = &all[(self.index + self.pace.batches) % all.len()];
        if other.rests.load(Ordering::Relaxed) != 0 && !other.lane.is_empty() {
            let list = other.lane.take();
            if !list.is_empty() {
                return self.behind_shelf(self.stolen(list));
            }
        }
        // Not twice in a row, or what lies here would wait for all that comes there.
        let is_due = self.pace.was_long && !std::mem::take(&mut self.pace.was_relief);
        if is_due || self.pace.batches.is_multiple_of(RELIEF_INTERVAL) {
            let list = self.relieve();
            if !list.is_empty() {
                self.pace.was_relief = true;
                return self.behind_shelf(list);
            }
        }
        me.take_shelf()
            .or_else(|| me.lane.take())
            .or_else(|| self.steal())
    }

    /// Stolen lanes go to the own lane's owner order: the shelf must stay single (worker, I2).
    fn behind_shelf(&self, mut list: List) -> List {
        let shelf = self.me().take_shelf();
        if shelf.is_empty() {
            return list;
        }
        let mut edge = false;
        while let Some(link) = list.pop() {
            // SAFETY: the list is ours, and each link is given away once.
            let pushed = unsafe { self.me().lane.push(link, true) };
            debug_assert_ne!(pushed, Pushed::Closed);
            edge |= pushed == Pushed::Edge;
        }
        if edge {
            self.core.wake_for_work();
        }
        shelf
    }

    fn others(&self) -> impl Iterator<Item = &'a Worker> + use<'a> {
        let (before, rest) = self.core.workers.split_at(self.index);
        rest[1..].iter().chain(before).map(|worker| &**worker)
    }

    /// The others that something should be taken from.
    fn held_up(&self) -> impl Iterator<Item = &'a Worker> + use<'a> {
        // Who leaves for good leaves nothing.
        let may_nap = self.may_nap && !self.core.is_closed();
        self.others().filter(move |other| {
            if may_nap {
                other.is_held_up()
            } else {
                other.has_work()
            }
        })
    }

    /// Takes what another has that it does not come to: the most first.
    fn steal(&self) -> List {
        for other in self.held_up() {
            let list = other
                .take_shelf()
                .or_else(|| other.lane.take())
                .or_else(|| other.rob());
            if !list.is_empty() {
                return self.stolen(list);
            }
        }
        List::new()
    }

    fn stolen(&self, list: List) -> List {
        WorkerCounts::add(&self.me().counts.steals, 1);
        list
    }

    /// Takes what a worker has, the oldest first, that has come to the end of no batch since this one looked
    /// at it before: it may be blocked for ever, and all others have enough to do to come to nothing else.
    fn relieve(&mut self) -> List {
        let all = &self.core.workers;
        let Suspect { worker, runs } = self.pace.suspect;
        let runs_of = |worker: usize| all[worker].counts.runs.load(Ordering::Relaxed);
        if worker != self.index && runs_of(worker) == runs {
            let other = &all[worker];
            let list = other
                .take_shelf()
                .or_else(|| other.rob())
                .or_else(|| other.lane.take());
            if !list.is_empty() {
                return self.stolen(list);
            }
        }
        let mut worker = (worker + 1) % all.len();
        if worker == self.index {
            worker = (worker + 1) % all.len();
        }
        self.pace.suspect = Suspect {
            worker,
            runs: runs_of(worker),
        };
        List::new()
    }

    fn run_board(&mut self) {
        let me = self.me();
        let alone = self.core.workers.len() == 1;
        let turn = Turn {
            core: self.core,
            was_long: Cell::new(false),
        };
        let mut ran = 0_usize;
        let mut at = 0;
        loop {
            // Some may have been appended meanwhile.
            let Some(slot) = me.board[..me.filled.load(Ordering::Relaxed)].get(at) else {
                me.filled.store(0, Ordering::Relaxed);
                break;
            };
            if !self.may_nap && ran != 0 && self.poll.ends() {
                break;
            }
            at += 1;
            let link = if alone {
                let link = slot.load(Ordering::Relaxed);
                slot.store(ptr::null_mut(), Ordering::Relaxed);
                link
            } else {
                // ORDERING: only this worker fills; thieves only take: Relaxed would do for the
                // contents, Acquire keeps the two takers alike.
                slot.swap(ptr::null_mut(), Ordering::Acquire)
            };
            let Some(link) = NonNull::new(link) else {
                continue;
            };
            ran += 1;
            self.pace.untended += 1;
            if self.pace.untended == TEND_INTERVAL {
                self.pace.untended = 0;
                self.core.tend(TEND_INTERVAL);
            }
            // SAFETY: I3: the link is ours.
            let vtable = unsafe { link.as_ref() }.vtable;
            // SAFETY: virtual tables are static.
            let run = unsafe { &*vtable }.run;
            // SAFETY: the link is ours, and its virtual table fits it.
            unsafe { run(link, &turn) };
        }
        WorkerCounts::add(&me.counts.runs, ran as u64);
        self.pace.was_long |= turn.was_long.get();
    }

    /// Looks for work for a while before sleeping; false: there is none.
    pub(crate) fn search(&mut self, patience: u32) -> bool {
        for round in 0..patience.max(1) {
            if !self.searching {
                self.searching = self.core.sleepers.start_searching();
            }
            // Another one searches, or has got up from its nap, which is over in a moment.
            if !self.searching && round >= patience / 8 {
                return false;
            }
            if self.me().has_work() || self.others().any(Worker::is_left_lying) {
                return true;
            }
            // One of them each time, or a round would take longer the more there are.
            let all = &self.core.workers;
            let other = (round / LOOK_INTERVAL) as usize % all.len();
            if round % LOOK_INTERVAL == 0 && other != self.index && all[other].is_held_up() {
                return true;
            }
            // Once at first: who was told of an outcome may have had this very processor before.
            if round % 16 == 15 && (round == 15 || round > patience / 2) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Goes to sleep unless there is work after all.
    pub(crate) fn lie_down(&mut self) -> Rest {
        let core = self.core;
        let next = core.timers.watch();
        let may_nap = self.may_nap && self.others_have_run();
        // Who naps leaves to the others what they come to themselves.
        let has_work = || {
            if may_nap {
                self.me().has_work() || self.held_up().next().is_some()
            } else {
                core.has_work()
            }
        };
        let is_needed = || has_work() || core.should_exit() || core.is_unwatched();
        let lain = (core.sleepers).lie_down(self.index, self.searching, next, may_nap, is_needed);
        self.searching = lain == Lain::Up;
        self.rest(!self.searching);
        let Lain::Down { keeps, naps } = lain else {
            return Rest::Not;
        };
        let until_next = || core.timers.instant_of(next);
        if naps {
            let nap = Instant::now() + self.nap;
            self.nap = (2 * self.nap).min(LONGEST_NAP);
            Rest::Until(if keeps { nap.min(until_next()) } else { nap })
        } else if keeps {
            Rest::Until(until_next())
        } else {
            Rest::Long
        }
    }

    /// Whether other workers have run anything since this one lay down last.
    fn others_have_run(&mut self) -> bool {
        let runs = |worker: &Worker| worker.counts.runs.load(Ordering::Relaxed);
        let ran = self.others().map(runs).sum();
        std::mem::replace(&mut self.seen, ran) != ran
    }

    fn rest(&self, rests: bool) {
        self.me().rests.store(u8::from(rests), Ordering::Relaxed);
    }

    /// Nobody has woken the worker that kept the time or napped; false: somebody does so just now.
    pub(crate) fn wake_up(&mut self) -> bool {
        let up = self.core.sleepers.get_up(self.index);
        self.searching |= up;
        up
    }

    /// The worker was woken by a [`crate::sleep::Sleepers::wake_one`], which made it a searcher.
    pub(crate) fn woken(&mut self) {
        self.rest(false);
        self.searching = true;
    }

    /// Leaves for good.
    pub(crate) fn retire(&mut self) {
        self.rest(true);
        if self.searching {
            self.searching = false;
            self.core.sleepers.stop_searching();
            // A push that saw this searcher has woken nobody (sleep, I3).
            if self.core.has_work() || self.core.is_unwatched() {
                self.core.wake_one();
            }
        }
    }
}
