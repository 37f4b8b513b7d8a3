//! Lanes of closures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use executor_core::{Callbacks, Delayed, Failure, Shutdown, VirtualClock, WorkerCore};

const DEADLINE: Duration = Duration::from_secs(30);

fn core(workers: usize) -> WorkerCore {
    WorkerCore::threads(workers)
        .build()
        .expect("the threads start")
}

fn finish<T: Send>(call: Delayed<T>) -> Result<T, Failure> {
    call.into_completion()
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

#[test]
fn calls_of_many_threads_run_one_at_a_time_and_in_the_order_of_each() {
    let core = core(2);
    let lane = core.callbacks();
    let calls = if cfg!(debug_assertions) {
        5_000
    } else {
        250_000
    };
    // Only one call at a time touches it; a lock that is never contended proves it.
    let seen = Arc::new(Mutex::new([0_u64; 4]));
    let threads: Vec<_> = (0..4)
        .map(|index| {
            let (lane, seen) = (lane.clone(), Arc::clone(&seen));
            thread::spawn(move || {
                for number in 0..calls {
                    let seen = Arc::clone(&seen);
                    let call = move || {
                        let mut seen = seen.try_lock().expect("one call at a time");
                        assert_eq!(seen[index], number, "in order");
                        seen[index] += 1;
                    };
                    lane.call_detached(call).expect("open");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    finish(lane.call(|| ()).expect("open")).expect("it runs");
    assert_eq!(*seen.lock().expect("whole"), [calls; 4]);
}

#[test]
fn a_call_that_queues_its_successor_starves_nobody() {
    fn chain(lane: Callbacks, left: Arc<AtomicU64>) {
        if left.load(Ordering::SeqCst) != 0 {
            let next = lane.clone();
            lane.call_detached(move || chain(next, left)).expect("open");
        }
    }
    let core = core(1);
    let (lane, left) = (core.callbacks(), Arc::new(AtomicU64::new(1)));
    chain(lane.clone(), Arc::clone(&left));
    // Both in the same lane, behind one link of the chain, and on the same worker.
    for _ in 0..100 {
        finish(lane.call(|| ()).expect("open")).expect("it runs");
        let other = core.spawn_fn(|| ()).expect("open");
        let other = other.wait_timeout(DEADLINE);
        other.expect("in time").expect("it runs");
    }
    left.store(0, Ordering::SeqCst);
    finish(lane.call(|| ()).expect("open")).expect("it runs");
}

#[test]
fn a_panicking_call_leaves_the_lane_running() {
    let core = core(1);
    let lane = core.callbacks();
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let call = move || assert_ne!(number % 10, 3, "every tenth");
            lane.call(call).expect("open")
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        match finish(call) {
            Ok(()) => assert_ne!(number % 10, 3),
            Err(Failure::Panicked(_)) => assert_eq!(number % 10, 3),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_cancelled_call_never_runs_and_is_dropped_at_once() {
    let core = core(1);
    let lane = core.callbacks();
    let (open, gate) = mpsc::channel::<()>();
    let first = lane
        .call(move || gate.recv_timeout(DEADLINE))
        .expect("open");
    let held = Arc::new(());
    let captured = Arc::clone(&held);
    let mut second = lane.call(move || drop(captured)).expect("open");
    assert!(second.cancel() && second.cancel());
    assert_eq!(Arc::strong_count(&held), 1, "dropped by the cancel");
    open.send(()).expect("it waits");
    finish(first).expect("it runs").expect("sent");
    finish(lane.call(|| ()).expect("open")).expect("it runs");
}

#[test]
fn delayed_calls_come_at_their_time_and_in_order() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build().expect("built");
    let lane = core.callbacks();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |number: u64| {
        let order = Arc::clone(&order);
        move || order.lock().expect("whole").push(number)
    };
    let second = Duration::from_secs(1);
    let calls = [
        lane.call_after(second * 2, note(3)).expect("open"),
        lane.call_at(core.now() + second, note(1)).expect("open"),
        lane.call_after(second, note(2)).expect("open"),
    ];
    finish(lane.call(note(0)).expect("open")).expect("it runs");
    clock.advance(second * 2);
    for call in calls {
        finish(call).expect("it runs");
    }
    assert_eq!(*order.lock().expect("whole"), [0, 1, 2, 3]);
    let pending = lane.call_after(second, || ()).expect("open");
    drop(lane);
    assert!(matches!(finish(pending), Err(Failure::Aborted)));
}

#[test]
fn a_shutdown_runs_or_aborts_what_is_queued_and_refuses_more() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let core = core(1);
        let lane = core.callbacks();
        let (open, gate) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let wait = move || {
            begin.send(()).expect("the test waits");
            gate.recv_timeout(DEADLINE).expect("it is opened");
        };
        let first = lane.call(wait).expect("open");
        begun.recv_timeout(DEADLINE).expect("it begins");
        let queued = lane.call(|| ()).expect("open");
        let late = lane.call_after(DEADLINE * 100, || ()).expect("open");
        let closing = core.clone();
        let shutdown = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let shutdown = closing.shutdown(mode, DEADLINE);
            runtime.expect("a runtime").block_on(shutdown)
        });
        assert!(matches!(finish(late), Err(Failure::Aborted)));
        open.send(()).expect("it waits");
        assert!(shutdown.join().expect("no panic").is_complete());
        finish(first).expect("it had begun");
        assert_eq!(finish(queued).is_ok(), mode == Shutdown::Drain);
        assert!(lane.call(|| ()).is_err());
        assert!(lane.call_after(DEADLINE, || ()).is_err());
    }
}
