//! Completions kept, dropped, moved and woken, and the values in them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};

use executor_core::{Completion, WorkerCore};

use crate::eventually::{DEADLINE, eventually};
use crate::ledger::{Counted, Ledger};

#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<T>(completion: &mut Completion<T>, woken: &Arc<Woken>) -> bool {
    let waker = Waker::from(Arc::clone(woken));
    Pin::new(completion)
        .poll(&mut Context::from_waker(&waker))
        .is_ready()
}

/// Waits until the workers have nothing left.
fn settle(core: &WorkerCore) {
    let (sender, receiver) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(core.drain(DEADLINE));
    assert!(report.is_complete());
    core.spawn_fn_detached(move || sender.send(()))
        .expect("open");
    receiver.recv_timeout(DEADLINE).expect("the workers live");
}

#[test]
fn a_kept_completion_gives_its_value_once() {
    let core = WorkerCore::threads(2).build().expect("threads");
    let ledger = Ledger::default();
    for _ in 0..1_000 {
        let (inner, outer) = (ledger.clone(), ledger.value());
        let value = core
            .spawn(async move { (inner.value(), outer) })
            .expect("open")
            .wait();
        assert_eq!(ledger.alive(), 2);
        drop(value);
        assert_eq!(ledger.alive(), 0);
    }
    assert_eq!(ledger.made(), 2_000);
}

#[test]
fn values_that_nobody_takes_are_dropped_once_whenever_the_completion_goes() {
    let core = WorkerCore::threads(2).build().expect("threads");
    let ledger = Ledger::default();
    for polls in 0..3 {
        for moment in ["before", "during", "after", "race"] {
            for _ in 0..200 {
                let (start, started) = (channel::<()>(), channel::<()>());
                let (go_on, gate) = start;
                let (tell, told) = started;
                let (output, captured) = (ledger.clone(), ledger.value());
                let mut completion = core.spawn_fn(move || {
                    tell.send(()).ok();
                    gate.recv().ok();
                    drop(captured);
                    output.value()
                });
                let woken = Arc::new(Woken::default());
                let mut kept = completion.as_mut().ok();
                for _ in 0..polls {
                    assert!(!poll(kept.as_deref_mut().expect("open"), &woken));
                }
                match moment {
                    "before" => drop(completion),
                    "during" => {
                        told.recv_timeout(DEADLINE).expect("it starts");
                        drop(completion);
                    }
                    "after" => {
                        drop(go_on);
                        eventually("the outcome is there", || {
                            completion.as_ref().is_ok_and(Completion::is_done)
                        });
                        drop(completion);
                        continue;
                    }
                    _ => {
                        drop(go_on);
                        drop(completion);
                        continue;
                    }
                }
                drop(go_on);
            }
            settle(&core);
            // The worker that ran the last one may still be dropping its output.
            eventually("nothing is left", || ledger.alive() == 0);
        }
    }
    assert_eq!(ledger.made(), 3 * 4 * 200 * 2);
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let core = WorkerCore::threads(1).build().expect("a thread");
    for moved in [false, true] {
        let (go_on, gate) = channel::<()>();
        let mut completion = core.spawn_fn(move || gate.recv().is_err()).expect("open");
        let (old, new) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        assert!(!poll(&mut completion, &old));
        assert!(!poll(&mut completion, &old));
        let mut completion = if moved {
            let new = Arc::clone(&new);
            let elsewhere = std::thread::spawn(move || {
                assert!(!poll(&mut completion, &new));
                completion
            });
            elsewhere.join().expect("polled")
        } else {
            assert!(!poll(&mut completion, &new));
            completion
        };
        drop(go_on);
        eventually("the waker is woken", || new.0.load(Ordering::SeqCst) != 0);
        assert_eq!(
            (old.0.load(Ordering::SeqCst), new.0.load(Ordering::SeqCst)),
            (0, 1)
        );
        assert!(completion.is_done() && poll(&mut completion, &new));
        assert_eq!(
            (Arc::strong_count(&old), Arc::strong_count(&new)),
            (1, 1),
            "no waker is kept"
        );
    }
}

#[test]
fn a_stale_waker_does_nothing_to_the_next_owner_of_its_cell() {
    struct Keep(Arc<std::sync::Mutex<Vec<Waker>>>, bool);
    impl Future for Keep {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            self.0.lock().expect("whole").push(context.waker().clone());
            if std::mem::replace(&mut self.1, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let core = WorkerCore::threads(2).build().expect("threads");
    let stale = Arc::new(std::sync::Mutex::new(Vec::new()));
    for _ in 0..200 {
        core.spawn(Keep(Arc::clone(&stale), false))
            .expect("open")
            .wait()
            .expect("over");
    }
    let polls = Arc::new(AtomicU64::new(0));
    let (gate, passing) = tokio::sync::oneshot::channel::<()>();
    let (counting, mut passing) = (Arc::clone(&polls), passing);
    let waiting = core.spawn(std::future::poll_fn(move |context| {
        counting.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut passing).poll(context)
    }));
    settle_waiting(&core);
    for waker in stale.lock().expect("whole").drain(..) {
        waker.wake_by_ref();
        let copy = waker.clone();
        waker.wake();
        drop(copy);
    }
    settle_waiting(&core);
    assert_eq!(
        polls.load(Ordering::SeqCst),
        1,
        "only its own waker polls it"
    );
    gate.send(()).expect("it waits");
    waiting.expect("open").wait().expect("over").expect("sent");
    assert_eq!(polls.load(Ordering::SeqCst), 2);
}

/// Waits until one task waits and nothing else runs.
fn settle_waiting(core: &WorkerCore) {
    for _ in 0..8 {
        core.spawn_fn(|| ()).expect("open").wait().expect("over");
    }
    eventually("one waits and all sleep", || {
        let metrics = core.metrics();
        metrics.waiting == 1 && metrics.asleep == metrics.workers
    });
}

#[test]
fn a_stale_completion_does_nothing_to_the_messages_that_came_after() {
    let core = WorkerCore::threads(2).build().expect("threads");
    let spawn = |number: u64| core.spawn_fn(move || number).expect("open");
    // Over, and not taken; over, and taken; cancelled too late.
    let mut stale: Vec<_> = (0..300).map(spawn).collect();
    settle(&core);
    let woken = Arc::new(Woken::default());
    assert!(stale.iter().all(Completion::is_done));
    assert!(stale[..100].iter_mut().all(|taken| poll(taken, &woken)));
    // These have the cells of the first hundred, and would have those of the others too.
    let (gate, passing) = tokio::sync::watch::channel(false);
    let fresh: Vec<_> = (0..300_u64)
        .map(|number| {
            let mut passing = passing.clone();
            core.spawn(async move {
                passing.wait_for(|open| *open).await.expect("open");
                number
            })
        })
        .collect();
    eventually("all wait", || core.metrics().waiting == 300);
    for (number, old) in (0..).zip(stale) {
        assert!(old.is_done());
        let old = old.cancel().expect_err("it is over");
        match number {
            0..100 => drop(old),
            100..200 => assert_eq!(old.wait().expect("handled"), number),
            _ => drop(old),
        }
    }
    settle_tasks(&core);
    assert_eq!(core.metrics().waiting, 300, "nobody was cancelled or woken");
    gate.send(true).expect("they wait");
    for (number, completion) in (0..).zip(fresh) {
        assert_eq!(completion.expect("open").wait().expect("handled"), number);
    }
}

/// Waits until what was queued before has run.
fn settle_tasks(core: &WorkerCore) {
    for _ in 0..8 {
        core.spawn_fn(|| ()).expect("open").wait().expect("over");
    }
}

#[test]
fn a_value_whose_drop_panics_hurts_nobody_else() {
    struct Bomb(#[expect(dead_code, reason = "held for its drop")] Counted);
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
    let core = WorkerCore::threads(1).build().expect("a thread");
    let ledger = Ledger::default();
    for _ in 0..100 {
        let (inside, output) = (ledger.clone(), ledger.clone());
        drop(
            core.spawn(async move { Bomb(inside.value()) })
                .expect("open"),
        );
        core.spawn_detached(async move { Bomb(output.value()) })
            .expect("open");
        assert_eq!(
            core.spawn(async { 3 })
                .expect("open")
                .wait()
                .expect("handled"),
            3
        );
    }
    settle(&core);
    assert_eq!((ledger.alive(), ledger.made()), (0, 200));
}
