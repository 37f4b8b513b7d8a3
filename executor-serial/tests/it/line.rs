//! The line for room: delayed messages that find their queue full, and those who give up there.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;

use executor_serial::{Envelope, Failure, SerialExecutor, Shutdown, VirtualClock, WorkerCore};
use tokio::sync::Semaphore;

use crate::rig::{DEADLINE, SECOND, echo, finish, held, rig, until, wait};

#[test]
fn a_full_queue_is_waited_for_in_line_and_nothing_is_lost() {
    let rig = rig(1);
    let gate = Arc::new(Semaphore::new(0));
    let running = held(&rig, &gate);
    let queued = rig
        .executor
        .submit(1, Envelope::new(0), echo)
        .expect("room");
    let delayed: Vec<_> = (1..=5)
        .map(|number| {
            let delayed = rig
                .executor
                .submit_after(1, SECOND, Envelope::new(number), echo);
            delayed.expect("open")
        })
        .collect();
    rig.clock.advance(SECOND);
    until("all five wait in line", || {
        rig.executor.metrics().totals.waited == 5
    });
    assert_eq!(rig.executor.stream(&1).depth(), 1, "the bound holds");
    gate.add_permits(1);
    wait(running).expect("handled");
    assert_eq!(wait(queued).expect("handled"), 0);
    for (message, number) in delayed.into_iter().zip(1..) {
        assert_eq!(finish(message).expect("handled"), number);
    }
}

#[test]
fn those_in_line_at_a_shutdown_end_as_aborted() {
    let rig = rig(1);
    let gate = Arc::new(Semaphore::new(0));
    let running = held(&rig, &gate);
    let queued = rig
        .executor
        .submit(1, Envelope::new(0), echo)
        .expect("room");
    let delayed = rig.executor.submit_after(1, SECOND, Envelope::new(1), echo);
    rig.clock.advance(SECOND);
    until("it waits in line", || {
        rig.executor.metrics().totals.waited == 1
    });
    let executor = rig.executor.clone();
    let shutdown = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let shutdown = executor.shutdown(Shutdown::Drain, DEADLINE);
        runtime.expect("a runtime").block_on(shutdown)
    });
    let delayed = delayed.expect("open");
    assert!(matches!(finish(delayed), Err(Failure::Aborted)));
    gate.add_permits(1);
    wait(running).expect("handled");
    wait(queued).expect("handled");
    assert!(shutdown.join().expect("no panic").is_complete());
}

/// A state that ends an executor when it is dropped.
struct Ends(Option<SerialExecutor<u64>>);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

#[test]
fn a_timer_that_finds_who_gave_up_in_line_drops_them_after_the_turn() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(2).clock(&clock).build();
    let core = core.expect("the threads start");
    let other = SerialExecutor::builder(&core).build().expect("legal");
    let pending = other.submit_after(1, SECOND * 100, Envelope::new(0), echo);
    let other = Mutex::new(Some(other));
    let executor: SerialExecutor<u64, Ends> = SerialExecutor::builder(&core)
        .state(move |&key: &u64| Ends(other.lock().expect("whole").take_if(|_| key == 2)))
        .queue_total(1)
        .build()
        .expect("legal");
    // Stream 2 has the other executor in its state.
    let made = executor.submit(2, Envelope::new(0), |_, _| async {
        Ok::<_, Infallible>(())
    });
    wait(made.expect("room")).expect("handled");
    // Stream 1 has a message that runs, and one that is queued: the executor is full.
    let (gate, stream) = (Arc::new(Semaphore::new(0)), executor.stream(&1));
    let held = Arc::clone(&gate);
    let running = stream.submit(Envelope::new(0), |_, _| async move {
        held.acquire().await.expect("open").forget();
        Ok::<_, Infallible>(())
    });
    until("it runs", || stream.depth() == 0);
    let queued = stream.submit(Envelope::new(0), |_, _| async { Ok::<_, Infallible>(()) });
    // Somebody waits for room in stream 2, gives up, and is the last to have the stream.
    let last = executor.stream(&2);
    let mut waiting =
        Box::pin(last.submit_wait(Envelope::new(0), |_, _| async { Ok::<_, Infallible>(()) }));
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    drop(waiting);
    drop((last, executor));
    let late = stream.submit_after(SECOND, Envelope::new(0), |_, _| async {
        Ok::<_, Infallible>(())
    });
    clock.advance(SECOND);
    // What was delayed there ended with its executor.
    assert!(matches!(
        finish(pending.expect("open")),
        Err(Failure::Aborted)
    ));
    gate.add_permits(1);
    wait(running.expect("room")).expect("handled");
    wait(queued.expect("room")).expect("handled");
    finish(late.expect("open")).expect("handled");
}
