//! Streams that outlive their executor's last handle.

use std::convert::Infallible;

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
