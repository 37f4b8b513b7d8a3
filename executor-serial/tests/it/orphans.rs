//! Streams that outlive their executor's last handle.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_core::Completion;
use executor_serial::{Envelope, Failure, RejectReason, SerialExecutor, Shutdown, WorkerCore};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

const HOSTS: [Host; 3] = [Host::Threads, Host::TokioMany, Host::TokioOne];

/// A message whose handler waits at `gate`, on an executor without handles, and one behind it.
async fn parked_and_queued(
    core: &WorkerCore,
    gate: &Gate,
) -> [Completion<u64, Infallible, u64>; 2] {
    let executor: SerialExecutor<u64> = SerialExecutor::builder(core).build().expect("legal");
    let started = Gate::new();
    let submit = |number: u64| {
        let (gate, started) = (gate.clone(), started.clone());
        let handler = move |message: Envelope<u64>, _| async move {
            started.one();
            gate.pass().await;
            Ok::<_, Infallible>(message.payload)
        };
        executor.try_submit(1, Envelope::new(number), handler)
    };
    let both = [submit(1).expect("room"), submit(2).expect("room")];
    started.pass().await;
    both
}

#[test]
fn a_draining_shutdown_of_the_core_waits_for_them() {
    for host in HOSTS {
        run(host, |core| async move {
            let gate = Gate::new();
            let both = parked_and_queued(&core, &gate).await;
            let mut shutdown = Box::pin(core.shutdown(Shutdown::Drain, DEADLINE));
            assert!(is_pending(&mut shutdown).await);
            gate.open();
            let report = shutdown.await;
            assert_eq!((report.handled, report.still_running), (2, 0));
            for (expected, completion) in (1..).zip(both) {
                assert_eq!(completion.await.expect("handled"), expected);
            }
        });
    }
}

#[test]
fn an_aborting_shutdown_of_the_core_ends_them() {
    for host in HOSTS {
        run(host, |core| async move {
            let never = Gate::new();
            let both = parked_and_queued(&core, &never).await;
            let report = core.shutdown(Shutdown::Abort, DEADLINE).await;
            assert_eq!((report.aborted, report.still_running), (2, 0));
            for completion in both {
                assert!(matches!(completion.await, Err(Failure::Aborted)));
            }
        });
    }
}

#[test]
fn a_stream_whose_executor_is_gone_is_closed_with_the_core() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let stream = executor.stream(&1);
        drop(executor);
        let echo = |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
        let accepted = stream.try_submit(Envelope::new(3), echo).expect("open");
        assert_eq!(accepted.await.expect("handled"), 3);
        assert!(core.shutdown(Shutdown::Drain, DEADLINE).await.is_complete());
        let refused = stream
            .try_submit(Envelope::new(4), echo)
            .expect_err("closed");
        assert_eq!(refused.reason, RejectReason::Closed);
        assert_eq!(refused.work.payload, 4);
    });
}

#[test]
fn an_executor_dropped_while_its_core_shuts_down_leaves_nothing_behind() {
    for round in 0..300 {
        run(Host::Threads, |core| async move {
            let executor: SerialExecutor<u64> =
                SerialExecutor::builder(&core).build().expect("legal");
            let completions: Vec<_> = (0..8)
                .map(|key| {
                    let handler = |_, _| async {
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(())
                    };
                    (executor.try_submit(key, Envelope::new(()), handler)).expect("open")
                })
                .collect();
            let dropping = std::thread::spawn(move || drop(executor));
            let mode = if round % 2 == 0 {
                Shutdown::Drain
            } else {
                Shutdown::Abort
            };
            assert!(core.shutdown(mode, DEADLINE).await.is_complete());
            for completion in completions {
                let outcome = completion.await;
                assert!(outcome.is_ok() || mode == Shutdown::Abort, "{outcome:?}");
            }
            dropping.join().expect("no panic");
        });
    }
}

/// A key that panics when it is dropped, once it is armed.
#[derive(Debug, Clone)]
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
}

impl PartialEq for Bomb {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Bomb {}

impl Hash for Bomb {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[test]
fn a_key_whose_drop_panics_hurts_no_worker() {
    run(Host::Threads, |_| async move {
        let core = WorkerCore::threads(1).build().expect("a thread");
        for _ in 0..20 {
            let armed = Arc::new(AtomicBool::new(false));
            let executor: SerialExecutor<Bomb> =
                SerialExecutor::builder(&core).build().expect("legal");
            let (gate, started) = (Gate::new(), Gate::new());
            let (passing, starting) = (gate.clone(), started.clone());
            let handler = move |_, _| async move {
                starting.one();
                passing.pass().await;
                Ok::<_, Infallible>(())
            };
            let parked = executor.try_submit(Bomb(Arc::clone(&armed)), Envelope::new(()), handler);
            started.pass().await;
            // From here on the stream has the only key, and the worker will be the last to have
            // the stream.
            drop(executor);
            armed.store(true, Ordering::SeqCst);
            gate.open();
            parked.expect("room").await.expect("handled");
            let next = core.spawn_fn(|| 5).expect("open");
            assert_eq!(next.await.expect("the worker lives"), 5);
        }
    });
}

#[test]
fn keys_whose_drop_panics_hurt_nobody_who_evicts_or_drops_the_executor() {
    run(Host::Threads, |core| async move {
        let armed = Arc::new(AtomicBool::new(false));
        let executor: SerialExecutor<Bomb> = SerialExecutor::builder(&core).build().expect("legal");
        let execute = |key: Bomb| {
            let armed = Arc::clone(&armed);
            let execution = executor.stream(&key);
            drop(key);
            async move {
                let ended =
                    execution.execute(Envelope::new(()), |_, _| async { Ok::<_, Infallible>(()) });
                ended.await.expect("handled");
                drop(execution);
                armed.store(true, Ordering::SeqCst);
            }
        };
        execute(Bomb(Arc::clone(&armed))).await;
        executor.evict_idle();
        armed.store(false, Ordering::SeqCst);
        assert_eq!(executor.metrics().resident, 0);
        execute(Bomb(Arc::clone(&armed))).await;
        drop(executor);
    });
}
