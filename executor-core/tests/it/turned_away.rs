//! Messages whose time has come and that are turned away: what their destructors may do.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use executor_core::engine::{SerialShared, Strand, StreamOwner};
use executor_core::{
    Completion, Delayed, Envelope, Environment, Failure, PolicyContext, VirtualClock, When,
    WorkerCore,
};

use crate::eventually::{DEADLINE, eventually};

const MILLISECOND: Duration = Duration::from_millis(1);

struct Owner(Arc<SerialShared>);

impl StreamOwner for Owner {
    type State = ();

    fn shared(&self) -> &Arc<SerialShared> {
        &self.0
    }

    fn make_state(&self) -> Result<(), String> {
        Ok(())
    }

    fn label(&self) -> String {
        "stream".into()
    }
}

/// Runs something when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

fn outcome<T: Send, M: Send>(delayed: Delayed<T, Infallible, M>) -> Result<T, Failure> {
    delayed
        .into_completion()
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

#[test]
fn their_destructors_may_end_schedule_and_fire_timers_and_panic() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(1).clock(&clock).build().expect("built");
    let shared = SerialShared::new(core.clone(), Environment::default(), false, 1, None);
    let shared = Arc::new(shared);
    let stream = Strand::new(Owner(Arc::clone(&shared)));

    // One message runs, and another one fills the queue.
    let (open, gate) = mpsc::channel::<()>();
    let hold = move |_: Envelope<()>, _: PolicyContext<()>| async move {
        gate.recv_timeout(DEADLINE).expect("told in time");
        Ok::<_, Infallible>(())
    };
    let running = stream.enqueue(&mut Some((Envelope::new(()), hold)), false);
    let running: Completion<(), Infallible, ()> = running.expect("room");
    eventually("it runs", || stream.depth() == 0);
    let nothing = |_: Envelope<()>, _: PolicyContext<()>| async { Ok::<_, Infallible>(()) };
    let queued = stream.enqueue(&mut Some((Envelope::new(()), nothing)), false);
    let queued: Completion<(), Infallible, ()> = queued.expect("room");

    let others = core.callbacks();
    let pending = others.call_after(DEADLINE * 100, || ()).expect("open");
    let ran = Arc::new(AtomicUsize::new(0));
    let (count, inner, moved) = (Arc::clone(&ran), core.clone(), clock.clone());
    let destroy = move || {
        // Ends what is delayed there.
        drop(others);
        let mut cancelled = inner.spawn_fn_after(DEADLINE, || ()).expect("open");
        assert!(cancelled.cancel());
        let due = inner.spawn_fn_after(MILLISECOND, || ()).expect("open");
        moved.advance(MILLISECOND);
        assert!(!due.is_pending(), "it was fired");
        count.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("a destructor panics"));
    };
    let late = stream.delay(
        When::After(MILLISECOND),
        Envelope::new(OnDrop(Some(destroy))),
        |_, _| async { Ok::<_, Infallible>(()) },
    );
    // As for a moment in a shutdown: closed, and the streams do not know it yet.
    shared.close(false);
    clock.advance(MILLISECOND);
    assert_eq!(ran.load(Ordering::SeqCst), 1, "it was dropped");
    assert!(matches!(
        outcome(late.expect("open")),
        Err(Failure::Aborted)
    ));
    assert!(matches!(outcome(pending), Err(Failure::Aborted)));
    open.send(()).expect("it waits");
    for message in [running, queued] {
        let handled = message.wait_timeout(DEADLINE).expect("in time");
        handled.expect("handled");
    }
}
