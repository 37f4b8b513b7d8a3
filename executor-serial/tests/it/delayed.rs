//! Delayed messages on virtual time: when they are admitted, and who ends them before.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use executor_serial::{Envelope, Failure, PolicyContext, RejectReason, Shutdown};
use tokio::sync::Semaphore;

use crate::rig::{DEADLINE, SECOND, echo, finish, held, rig, until, wait};

#[test]
fn a_delayed_message_is_admitted_at_its_time_behind_what_is_queued() {
    let rig = rig(8);
    let (gate, order) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let noting = |number: u64| {
        let order = Arc::clone(&order);
        move |_: Envelope<u64>, _: PolicyContext<()>| async move {
            order.lock().expect("whole").push(number);
            Ok::<_, Infallible>(())
        }
    };
    let first = held(&rig, &gate);
    let late = rig
        .executor
        .submit_after(1, SECOND, Envelope::new(0), noting(2));
    let late = late.expect("open");
    let before = rig.executor.submit(1, Envelope::new(0), noting(1));
    let before = before.expect("room");
    assert_eq!(rig.executor.stream(&1).depth(), 1);
    rig.clock.advance(SECOND);
    until("the delayed message is queued", || {
        rig.executor.stream(&1).depth() == 2
    });
    let after = rig.executor.submit(1, Envelope::new(0), noting(3));
    let after = after.expect("room");
    gate.add_permits(1);
    wait(first).expect("handled");
    wait(before).expect("handled");
    finish(late).expect("handled");
    wait(after).expect("handled");
    assert_eq!(*order.lock().expect("whole"), [1, 2, 3]);
}

#[test]
fn equal_deadlines_of_one_stream_are_handled_in_call_order() {
    let rig = rig(200_000);
    let at = rig.core.now() + SECOND;
    let messages = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let order = Arc::new(Mutex::new(Vec::new()));
    let stream = rig.executor.stream(&7);
    let delayed: Vec<_> = (0..messages)
        .map(|number| {
            let order = Arc::clone(&order);
            let handler = |message: Envelope<u64>, _: PolicyContext<()>| async move {
                order.lock().expect("whole").push(message.payload);
                Ok::<_, Infallible>(())
            };
            let delayed = stream.submit_at(at, Envelope::new(number), handler);
            delayed.expect("open")
        })
        .collect();
    rig.clock.advance(SECOND);
    for message in delayed {
        finish(message).expect("handled");
    }
    let order = order.lock().expect("whole");
    assert!(order.is_sorted() && order.len() as u64 == messages);
}

#[test]
fn a_stream_with_a_pending_timer_is_not_evicted() {
    let rig = rig(8);
    let keys = if cfg!(debug_assertions) {
        2_000
    } else {
        100_000
    };
    let delayed: Vec<_> = (0..keys)
        .map(|key| {
            let delayed = rig
                .executor
                .submit_after(key, SECOND, Envelope::new(key), echo);
            delayed.expect("open")
        })
        .collect();
    assert_eq!(rig.executor.evict_idle(), 0);
    assert_eq!(rig.executor.metrics().resident as u64, keys);
    rig.clock.advance(SECOND);
    for (key, message) in (0..).zip(delayed) {
        assert_eq!(finish(message).expect("handled"), key);
    }
    until("all are evicted", || {
        rig.executor.evict_idle();
        rig.executor.metrics().resident == 0
    });
}

#[test]
fn a_cancelled_message_comes_back_before_and_after_its_time() {
    let rig = rig(8);
    let early = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
    let back = early.expect("open").recover().expect("not started");
    assert_eq!(back.payload, 5);

    let gate = Arc::new(Semaphore::new(0));
    let running = held(&rig, &gate);
    let queued = rig.executor.submit_after(1, SECOND, Envelope::new(6), echo);
    let mut queued = queued.expect("open");
    rig.clock.advance(SECOND);
    until("it is queued", || rig.executor.stream(&1).depth() == 1);
    assert!(!queued.is_pending() && !queued.reschedule_after(SECOND));
    assert!(queued.cancel() && queued.cancel());
    gate.add_permits(1);
    wait(running).expect("handled");
    until("both are counted", || {
        let totals = rig.executor.metrics().totals;
        totals.cancelled == 2 && totals.handled == 1
    });
}

#[test]
fn a_shutdown_or_the_last_handle_ends_what_is_delayed() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        let rig = rig(8);
        let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let report = (runtime.expect("a runtime")).block_on(rig.executor.shutdown(mode, DEADLINE));
        assert!(report.is_complete() && report.aborted == 1, "{report:?}");
        assert!(matches!(
            finish(delayed.expect("open")),
            Err(Failure::Aborted)
        ));
        let refused = rig.executor.submit_after(1, SECOND, Envelope::new(9), echo);
        let refused = refused.expect_err("closed");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::Closed, 9)
        );
    }
    let rig = rig(8);
    let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(5), echo);
    drop(rig.executor);
    assert!(matches!(
        finish(delayed.expect("open")),
        Err(Failure::Aborted)
    ));
}

#[test]
fn scheduling_races_a_shutdown_and_every_message_has_an_outcome() {
    for round in 0..if cfg!(debug_assertions) { 100 } else { 1_000 } {
        let rig = rig(1_000);
        let executor = rig.executor.clone();
        let scheduler = thread::spawn(move || {
            let mut delayed = Vec::new();
            for number in 0.. {
                let delay = SECOND * u32::from(number % 2 == 0);
                match executor.submit_after(number % 3, delay, Envelope::new(number), echo) {
                    Ok(message) => delayed.push((number, message)),
                    Err(refused) => {
                        assert_eq!(refused.work.payload, number);
                        break;
                    }
                }
            }
            delayed
        });
        for _ in 0..round % 7 {
            thread::yield_now();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let shutdown = rig.executor.shutdown(Shutdown::Drain, DEADLINE);
        assert!(runtime.expect("a runtime").block_on(shutdown).is_complete());
        for (number, message) in scheduler.join().expect("no panic") {
            match finish(message) {
                Ok(echoed) => assert_eq!(echoed, number),
                Err(failure) => assert!(matches!(failure, Failure::Aborted), "{failure:?}"),
            }
        }
    }
}

#[test]
fn creating_and_cancelling_leaves_memory_as_it_was() {
    let rig = rig(8);
    let rounds = if cfg!(debug_assertions) {
        200_000
    } else {
        10_000_000
    };
    let dropped = Arc::new(AtomicU64::new(0));
    let _far = rig
        .executor
        .submit_after(0, DEADLINE * 1_000, Envelope::new(0), echo);
    let fired = Arc::new(AtomicUsize::new(0));
    let stream = rig.executor.stream(&1);
    let mut after_warm_up = 0;
    for round in 0..rounds {
        let count = Arc::clone(&fired);
        let delayed = stream.submit_after(DEADLINE, Envelope::new(()), |_, _| async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
        dropped.fetch_add(
            u64::from(delayed.expect("open").cancel()),
            Ordering::Relaxed,
        );
        if round == rounds / 10 {
            after_warm_up = executor_core::pool_metrics().chunk_bytes;
        }
    }
    assert_eq!(dropped.load(Ordering::Relaxed), rounds);
    // Other tests run beside this one, and use a few chunks.
    let grown = executor_core::pool_metrics()
        .chunk_bytes
        .saturating_sub(after_warm_up);
    assert!(grown < 64 << 20, "grown by {grown} bytes");
    rig.clock.advance(DEADLINE * 2);
    drop(stream);
    assert_eq!(fired.load(Ordering::SeqCst), 0);
}
