//! Probes.

use std::convert::Infallible;
use std::time::Duration;

use executor_serial::{Envelope, SerialExecutor, WorkerCore};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

struct SlowState(
    std::sync::mpsc::Sender<()>,
    std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
);
impl Drop for SlowState {
    fn drop(&mut self) {
        let _ = self.0.send(());
        let _ = self.1.get_mut().expect("whole").recv();
    }
}

#[test]
fn probe_a_drain_survives_an_eviction_in_progress() {
    run(Host::Threads, |core| async move {
        let (dropping, dropped) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let slow =
            std::sync::Mutex::new(Some(SlowState(dropping, std::sync::Mutex::new(may_go_on))));
        // Two idle streams: dropped one after the other, the first holds up the counts of the second.
        let executor: SerialExecutor<u64, Option<SlowState>> = SerialExecutor::builder(&core)
            .state(move |key| {
                if *key < 100 {
                    slow.lock().expect("whole").take()
                } else {
                    None
                }
            })
            .build()
            .expect("legal");
        for key in 0..20_u64 {
            executor
                .execute(key, Envelope::new(()), |_, _| async {
                    Ok::<_, Infallible>(())
                })
                .await
                .expect("handled");
        }
        let gate = Gate::new();
        let passing = gate.clone();
        let busy = executor.try_submit(1_000, Envelope::new(()), move |_, _| async move {
            passing.pass().await;
            Ok::<_, Infallible>(())
        });
        let mut drain = Box::pin(executor.drain(DEADLINE));
        assert!(is_pending(&mut drain).await);
        let evicting = {
            let executor = executor.clone();
            std::thread::spawn(move || executor.evict_idle())
        };
        dropped.recv().expect("the state is being dropped");
        gate.open();
        busy.expect("room").await.expect("handled");
        let report = drain.await;
        drop(go_on);
        let evicted = evicting.join().expect("evicted");
        assert_eq!((report.handled, evicted), (1, 20));
    });
}

#[test]
fn probe_totals_never_go_down() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let evicting = {
            let (executor, stop) = (executor.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    executor.evict_idle();
                }
            })
        };
        let mut last = 0;
        let mut down = 0;
        for round in 0..2_000_u64 {
            for key in 0..20 {
                executor
                    .execute(round * 20 + key, Envelope::new(()), |_, _| async {
                        Ok::<_, Infallible>(())
                    })
                    .await
                    .expect("handled");
            }
            let now = executor.metrics().totals.handled;
            if now < last {
                down += 1;
            }
            last = now;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        evicting.join().expect("evicted");
        assert_eq!(down, 0);
    });
}

#[test]
fn probe_a_runtime_that_goes_away() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let core = WorkerCore::tokio(runtime.handle()).build().expect("core");
    let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
    let completion = executor
        .try_submit(1, Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        })
        .expect("room");
    drop(runtime);
    let outcome = completion.wait_timeout(Duration::from_millis(200));
    eprintln!("outcome after the runtime is gone: {outcome:?}");
    drop(outcome);
    let again = executor.try_submit(1, Envelope::new(()), |_, _| async {
        Ok::<_, Infallible>(())
    });
    eprintln!("submission: {again:?}");
    drop(again);
    drop(executor);
    drop(core);
}

#[test]
fn probe_a_cancelled_message_makes_room() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
            .queue_per_stream(1)
            .build()
            .expect("legal");
        let (gate, started) = (Gate::new(), Gate::new());
        let (passing, starting) = (gate.clone(), started.clone());
        let running = executor.try_submit(1, Envelope::new(()), move |_, _| async move {
            starting.one();
            passing.pass().await;
            Ok::<_, Infallible>(())
        });
        started.pass().await;
        let queued = executor.try_submit(1, Envelope::new(()), |_, _| async move {
            Ok::<_, Infallible>(())
        });
        queued.expect("room").cancel().expect("not started");
        let next = executor.try_submit(1, Envelope::new(()), |_, _| async move {
            Ok::<_, Infallible>(())
        });
        assert!(next.is_ok(), "{next:?}");
        gate.open();
        running.expect("room").await.expect("ok");
    });
}
