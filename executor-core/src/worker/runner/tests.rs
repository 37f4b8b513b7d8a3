use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::core::WorkerCore;
use crate::engine::after_batch;
use crate::time::clock::VirtualClock;
use crate::worker::{MAX_BATCH, OnDuty, SPARE, WORTHWHILE};

/// A core whose workers the test runs by hand; what is left at its end is aborted.
struct Unhosted(WorkerCore);

impl std::ops::Deref for Unhosted {
    type Target = WorkerCore;

    fn deref(&self) -> &WorkerCore {
        &self.0
    }
}

impl Drop for Unhosted {
    fn drop(&mut self) {
        self.handle.0.abandon();
    }
}

fn unhosted(workers: usize) -> Unhosted {
    Unhosted(WorkerCore::threads(workers).unhosted())
}

/// A worker that has found nothing, is over with its search, and is about to lie down.
fn idle(core: &WorkerCore, index: usize) -> Runner<'_> {
    idle_of(&core.handle.0, index)
}

fn idle_of(core: &CoreShared, index: usize) -> Runner<'_> {
    let mut runner = Runner::new(core, index);
    assert!(!runner.run_batch(), "there is nothing to do");
    assert!(!runner.search(0));
    runner
}

fn push(core: &WorkerCore) {
    core.spawn_fn_detached(|| ()).expect("open");
}

#[test]
fn a_worker_without_work_lies_down_until_it_is_woken() {
    let core = unhosted(1);
    assert!(matches!(idle(&core, 0).lie_down(), Rest::Long));
    assert_eq!(core.metrics().asleep, 1);
}

#[test]
fn work_that_came_after_a_worker_has_looked_keeps_it_up() {
    let core = unhosted(1);
    let mut runner = idle(&core, 0);
    push(&core);
    assert!(matches!(runner.lie_down(), Rest::Not));
    assert!(runner.is_searching());
    assert_eq!(core.metrics().asleep, 0);
    assert!(runner.run_batch());
    assert!(!runner.is_searching());
    assert!(matches!(runner.lie_down(), Rest::Long));
}

#[test]
fn work_in_the_lane_of_another_keeps_a_worker_up() {
    let core = unhosted(2);
    let mut runner = idle(&core, 1);
    let _duty = OnDuty::new(&core.handle.0, 0);
    push(&core);
    assert!(matches!(runner.lie_down(), Rest::Not));
}

#[test]
fn a_worker_wakes_another_for_what_it_cannot_run_at_once_and_for_nothing_less() {
    let core = unhosted(2);
    let [mut first, mut last] = [0, 1].map(|index| idle(&core, index));
    assert!(matches!(first.lie_down(), Rest::Long));
    for (links, asleep) in [(1, 1), (2, 0)] {
        assert!(matches!(last.lie_down(), Rest::Long));
        (0..links).for_each(|_| push(&core));
        assert_eq!(core.metrics().asleep, 1, "the push has woken one");
        last.woken();
        assert!(last.run_batch());
        assert_eq!(core.metrics().asleep, asleep, "{links} links");
    }
}

#[test]
fn what_a_worker_is_about_to_run_is_left_to_it() {
    let core = unhosted(2);
    let worker = &core.handle.0.workers[0];
    let _duty = OnDuty::new(&core.handle.0, 0);
    assert!(!worker.is_held_up_over(|| ()), "it has nothing");
    push(&core);
    assert!(worker.is_held_up_over(|| ()), "it comes to nothing");
    let runs_on = || WorkerCounts::add(&worker.counts.runs, 1);
    assert!(!worker.is_held_up_over(runs_on));
    worker.rests.store(1, Ordering::Relaxed);
    assert!(worker.is_held_up_over(runs_on));
}

#[test]
fn a_batch_that_is_held_up_is_taken_by_who_has_enough_to_do() {
    let core = unhosted(2);
    let blocked = &core.handle.0.workers[0];
    let push_to_it = || {
        let _duty = OnDuty::new(&core.handle.0, 0);
        core.spawn_fn(|| 5).expect("open")
    };
    let waiting = push_to_it();
    // Its worker has run something, has taken this, and does not come to it; its lane is never empty.
    WorkerCounts::add(&blocked.counts.runs, 1);
    blocked.fill(blocked.lane.take(), MAX_BATCH);
    let _duty = OnDuty::new(&core.handle.0, 1);
    let mut busy = Runner::new(&core.handle.0, 1);
    let mut behind = Vec::new();
    for _ in 0..8 * RELIEF_INTERVAL {
        behind.push(push_to_it());
        push(&core);
        assert!(busy.run_batch());
    }
    assert!(waiting.is_done(), "what lay on its board");
    assert!(behind[0].is_done(), "what lay in its lane");
}

#[test]
fn a_worker_of_long_slices_takes_what_another_has_not_come_to_since_it_looked() {
    let core = unhosted(2);
    let other = &core.handle.0.workers[0];
    let left_to_it = || {
        let _duty = OnDuty::new(&core.handle.0, 0);
        core.spawn_fn(|| 5).expect("open")
    };
    let mut runner = Runner::new(&core.handle.0, 1);
    let mut look = || {
        let _duty = OnDuty::new(&core.handle.0, 1);
        push(&core);
        runner.pace.was_long = true;
        assert!(runner.run_batch());
    };
    let first = left_to_it();
    for _ in 0..3 {
        WorkerCounts::add(&other.counts.runs, 1);
        look();
        assert!(!first.is_done(), "it runs on");
    }
    look();
    assert!(first.is_done());
    let second = left_to_it();
    look();
    assert!(!second.is_done(), "its own come first, every other time");
    look();
    assert!(second.is_done());
}

#[test]
fn a_worker_knows_whether_its_last_batch_had_a_long_slice() {
    let core = unhosted(1);
    let callbacks = core.callbacks();
    let mut runner = Runner::new(&core.handle.0, 0);
    // Whether there was a long slice among so many calls of 100 us, and how many of them it had.
    let mut run = |calls: usize| {
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..calls {
            let ran = Arc::clone(&ran);
            let call = move || {
                ran.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(100));
            };
            drop(callbacks.call(call).expect("open"));
        }
        assert!(runner.run_batch());
        let found = (runner.pace.was_long, ran.load(Ordering::Relaxed));
        while runner.run_batch() {}
        found
    };
    let (is_long, calls) = run(32);
    if cfg!(executor_tiny) {
        assert_eq!((is_long, calls), (false, 2), "its budget");
    } else {
        assert!(is_long && calls <= 16, "{is_long}, {calls}");
    }
    assert_eq!(run(1), (false, 1), "nobody measures a single one");
}

#[test]
fn who_naps_is_woken_by_a_worker_of_long_slices_that_has_more_than_a_batch() {
    for (links, was_long, naps) in [
        (MAX_BATCH + 1, true, false),
        (MAX_BATCH + 1, false, true),
        (MAX_BATCH, true, true),
    ] {
        let core = unhosted(2);
        let mut other = idle(&core, 1);
        let _duty = OnDuty::new(&core.handle.0, 0);
        let mut runner = Runner::new(&core.handle.0, 0);
        push(&core);
        assert!(runner.run_batch());
        assert!(matches!(other.lie_down(), Rest::Until(_)));
        runner.pace.was_long = was_long;
        (0..links).for_each(|_| push(&core));
        assert!(runner.run_batch());
        assert_eq!(core.metrics().napping != 0, naps, "{links}, {was_long}");
    }
}

#[test]
fn timers_fire_between_batches_that_are_shorter_than_the_interval() {
    let core = WorkerCore::threads(1).batch((TEND_INTERVAL / 2).min(MAX_BATCH));
    let core = Unhosted(core.unhosted());
    let mut runner = Runner::new(&core.handle.0, 0);
    // One list, and more than can be run in a tick.
    let links = if cfg!(miri) { 2_000 } else { 200_000 };
    (0..links).for_each(|_| push(&core));
    assert!(runner.run_batch());
    let due = core.spawn_fn_after(Duration::ZERO, || ()).expect("open");
    while core.next_timer().is_some() {
        assert!(runner.run_batch());
    }
    let left = runner.me().shelf.load(Ordering::Relaxed);
    assert!(!left.is_null(), "it fires when the list is over");
    drop(due);
}

#[test]
fn a_close_that_came_after_a_worker_has_looked_keeps_it_up() {
    let core = unhosted(1);
    let shared = Arc::clone(&core.handle.0);
    let mut runner = idle_of(&shared, 0);
    drop(core);
    assert!(shared.is_closed());
    assert!(matches!(runner.lie_down(), Rest::Not));
}

#[test]
fn time_that_has_come_after_a_worker_has_looked_keeps_it_up() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(1).clock(&clock).unhosted();
    let mut runner = idle(&core, 0);
    let due = core.spawn_fn_after(Duration::ZERO, || ()).expect("open");
    assert!(matches!(runner.lie_down(), Rest::Not));
    assert!(runner.run_batch());
    drop(due);
}

#[test]
fn a_worker_that_keeps_the_time_lies_down_until_the_next_timer() {
    let core = unhosted(2);
    let hour = Duration::from_secs(3_600);
    let before = Instant::now() + hour;
    let later = core.spawn_fn_after(hour, || ()).expect("open");
    let Rest::Until(instant) = idle(&core, 0).lie_down() else {
        panic!("it keeps the time");
    };
    assert!(instant >= before && instant < before + hour, "{instant:?}");
    assert!(matches!(idle(&core, 1).lie_down(), Rest::Long));
    drop(later);
}

#[test]
fn a_searcher_that_finds_one_batch_of_more_wakes_another() {
    let core = unhosted(2);
    assert!(matches!(idle(&core, 0).lie_down(), Rest::Long));
    let mut searcher = idle(&core, 1);
    // Two lanes: the one that the searcher takes leaves the other.
    for lane in [0, 1] {
        let _duty = OnDuty::new(&core.handle.0, lane);
        push(&core);
    }
    assert_eq!(core.metrics().asleep, 1, "somebody searches");
    assert!(searcher.run_batch());
    assert_eq!(core.metrics().asleep, 0);
}

#[test]
fn a_searcher_that_leaves_for_good_wakes_another_for_what_it_leaves() {
    let core = unhosted(2);
    assert!(matches!(idle(&core, 0).lie_down(), Rest::Long));
    let mut searcher = idle(&core, 1);
    push(&core);
    assert_eq!(core.metrics().asleep, 1, "somebody searches");
    searcher.retire();
    assert_eq!(core.metrics().asleep, 0);
}

#[test]
fn a_worker_naps_beside_one_that_runs_and_sleeps_when_that_does_not() {
    let core = unhosted(2);
    let mut runner = idle(&core, 1);
    let run_beside = || {
        let _duty = OnDuty::new(&core.handle.0, 0);
        push(&core);
        assert!(Runner::new(&core.handle.0, 0).run_batch());
    };
    let nap = |runner: &mut Runner<'_>| {
        run_beside();
        let before = Instant::now();
        let Rest::Until(until) = runner.lie_down() else {
            panic!("the other one has run");
        };
        assert_eq!((core.metrics().asleep, core.metrics().napping), (0, 1));
        assert!(runner.wake_up(), "nobody has called it");
        assert!(!runner.run_batch() && !runner.search(0));
        until - before
    };
    let first = nap(&mut runner);
    assert!(first >= FIRST_NAP);
    let naps: Vec<_> = (0..8).map(|_| nap(&mut runner)).collect();
    assert!(
        naps[0] >= 2 * FIRST_NAP && naps[7] >= LONGEST_NAP,
        "{naps:?}"
    );
    assert!(matches!(runner.lie_down(), Rest::Long));
    assert_eq!((core.metrics().asleep, core.metrics().napping), (1, 0));
}

#[test]
fn drains_of_a_core_that_were_given_up_are_forgotten() {
    let core = unhosted(1);
    push(&core);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        let mut drain = pin!(core.drain(Duration::MAX));
        assert!(drain.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(
        core.handle.0.watchers(),
        1,
        "the last is not known to be gone"
    );
}

/// Tasks of one batch, each of which puts something off and notes its number, as does what was put off, with 100
/// added; the second tells what was put off.
fn put_off_by(
    core: &WorkerCore,
    tasks: usize,
) -> (mpsc::Receiver<usize>, mpsc::Receiver<(usize, bool)>) {
    let (ran, order) = mpsc::channel();
    let (tells, put_off) = mpsc::channel();
    for at in 0..tasks {
        let (this, ran, tells) = (core.clone(), ran.clone(), tells.clone());
        let task = move || {
            let after = ran.clone();
            let call = || Some(move || after.send(at + 100).expect("it is heard"));
            tells
                .send((at, after_batch(&this, call)))
                .expect("it is heard");
            ran.send(at).expect("it is heard");
        };
        core.spawn_fn_detached(task).expect("open");
    }
    (order, put_off)
}

#[test]
fn what_is_put_off_runs_behind_the_batch_while_much_of_it_is_left_and_there_is_room() {
    let core = unhosted(1);
    let (order, put_off) = {
        let _duty = OnDuty::new(&core.handle.0, 0);
        let channels = put_off_by(&core, MAX_BATCH);
        assert!(Runner::new(&core.handle.0, 0).run_batch());
        channels
    };
    let are_put_off = SPARE.min(MAX_BATCH - WORTHWHILE);
    let expected = (0..MAX_BATCH).map(|at| (at, at < are_put_off));
    assert!(put_off.try_iter().eq(expected));
    let expected = (0..MAX_BATCH).chain((0..are_put_off).map(|at| at + 100));
    assert!(order.try_iter().eq(expected));
    // Nobody on duty is the worker: there is no batch.
    assert!(!after_batch(&core, || Some(|| ())));
}

#[test]
fn what_is_put_off_is_taken_with_the_batch_of_a_worker_that_is_held_up() {
    let core = unhosted(2);
    let worker = &core.handle.0.workers[0];
    let (ran, heard) = mpsc::channel();
    {
        let _duty = OnDuty::new(&core.handle.0, 0);
        (0..WORTHWHILE).for_each(|_| push(&core));
        worker.fill(worker.lane.take(), MAX_BATCH);
        let call = || Some(move || ran.send(()).expect("it is heard"));
        assert!(after_batch(&core, call));
    }
    let _duty = OnDuty::new(&core.handle.0, 1);
    assert!(Runner::new(&core.handle.0, 1).run_batch());
    assert_eq!(heard.try_iter().count(), 1);
}

#[test]
fn who_takes_the_rest_of_a_batch_while_something_is_put_off_is_woken_for_it() {
    let core = unhosted(2);
    let (this, looks) = (core.clone(), mpsc::channel());
    let task = move || {
        let shared = &this.handle.0;
        let make = || {
            // The other worker takes and runs all that is left, and lies down.
            let _duty = OnDuty::new(shared, 1);
            let mut other = Runner::new(shared, 1);
            loop {
                while other.run_batch() {}
                if !matches!(other.lie_down(), Rest::Not) {
                    break Some(|| ());
                }
            }
        };
        let is_put_off = after_batch(&this, make);
        let asleep = this.metrics().asleep;
        looks.0.send((is_put_off, asleep)).expect("it is heard");
    };
    let _duty = OnDuty::new(&core.handle.0, 0);
    core.spawn_fn_detached(task).expect("open");
    (0..2 * WORTHWHILE).for_each(|_| push(&core));
    assert!(Runner::new(&core.handle.0, 0).run_batch());
    assert_eq!(looks.1.recv(), Ok((true, 0)));
}
