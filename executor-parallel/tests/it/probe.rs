//! Probes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use executor_parallel::{Envelope, ParallelExecutor, WorkerCore};

use crate::contract::{DEADLINE, Gate, Host, run};

#[test]
fn probe_a_drain_never_returns_before_a_running_handler_is_over() {
    let core = WorkerCore::threads(2).build().expect("threads");
    let executor = ParallelExecutor::builder(&core).max_concurrency(2).build().expect("legal");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    let mut early = 0;
    let until = std::time::Instant::now() + Duration::from_secs(8);
    let mut rounds = 0_u64;
    while std::time::Instant::now() < until {
        rounds += 1;
        let (a, b) = (Gate::new(), Gate::new());
        let over = Arc::new(AtomicBool::new(false));
        let submit = |gate: Gate, over: Option<Arc<AtomicBool>>| {
            executor.try_submit(Envelope::new(()), move |_, _| async move {
                gate.pass().await;
                if let Some(over) = over { over.store(true, Ordering::SeqCst); }
                Ok::<_, Infallible>(())
            }).expect("room")
        };
        let first = submit(a.clone(), None);
        let second = submit(b.clone(), Some(Arc::clone(&over)));
        runtime.block_on(async {
            let mut frozen = Box::pin(executor.drain(DEADLINE));
            assert!(crate::contract::is_pending(&mut frozen).await);
            a.open();
            // Drains that begin while the first handler gives its permit back.
            while !first.is_done() {
                let mut racing = Box::pin(executor.drain(Duration::from_secs(100)));
                if !crate::contract::is_pending(&mut racing).await && !over.load(Ordering::SeqCst) {
                    early += 1;
                }
                let pending_before = !over.load(Ordering::SeqCst);
                if pending_before && first.is_done() && !crate::contract::is_pending(&mut racing).await && !over.load(Ordering::SeqCst) { early += 1; }
            }
            if !crate::contract::is_pending(&mut frozen).await && !over.load(Ordering::SeqCst) { early += 1_000_000; }
            b.open();
            let _ = second.await;
            let _ = executor.drain(DEADLINE).await;
            drop(frozen);
        });
    }
    assert_eq!(early, 0, "in {rounds} rounds");
}

struct Reader(ParallelExecutor, AtomicU64);
impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        let handled = self.0.metrics().totals.handled;
        self.1.store(handled + 100, Ordering::SeqCst);
    }
}

#[test]
fn probe_a_drain_reports_what_an_execution_did() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core).max_concurrency(2).build().expect("legal");
        let gate = Gate::new();
        let passing = gate.clone();
        let mut executed = Box::pin(executor.execute(Envelope::new(()), move |_, _| async move { passing.pass().await; Ok::<_, Infallible>(()) }));
        assert!(crate::contract::is_pending(&mut executed).await);
        let reader = Arc::new(Reader(executor.clone(), AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&reader));
        let mut drain = pin!(executor.drain(DEADLINE));
        assert!(drain.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        gate.open();
        executed.await.expect("handled");
        assert_eq!(reader.1.load(Ordering::SeqCst), 101, "when the drain is woken, the message counts");
    });
}

#[test]
fn probe_a_cancelled_message_makes_room() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core).max_concurrency(1).queue(1).build().expect("legal");
        let gate = Gate::new();
        let passing = gate.clone();
        let running = executor.try_submit(Envelope::new(()), move |_, _| async move { passing.pass().await; Ok::<_, Infallible>(()) });
        let queued = executor.try_submit(Envelope::new(()), |_, _| async move { Ok::<_, Infallible>(()) });
        queued.expect("room").cancel().expect("not started");
        let next = executor.try_submit(Envelope::new(()), |_, _| async move { Ok::<_, Infallible>(()) });
        assert!(next.is_ok(), "{next:?}");
        gate.open();
        running.expect("room").await.expect("ok");
    });
}

#[test]
fn probe_after_an_abort_all_permits_are_free() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core).max_concurrency(2).build().expect("legal");
        let gate = Gate::new();
        for _ in 0..20 {
            let gate = gate.clone();
            drop(executor.try_submit(Envelope::new(()), move |_, _| async move { gate.pass().await; Ok::<_, Infallible>(()) }).expect("room"));
        }
        let report = executor.shutdown(executor_parallel::Shutdown::Abort, DEADLINE).await;
        assert_eq!(report.aborted, 20);
        assert_eq!(executor.available_permits(), 2);
        assert_eq!(executor.metrics().running, 0);
    });
}

#[test]
fn probe_raising_a_lowered_limit() {
    run(Host::Threads, |core| async move {
        let executor = ParallelExecutor::builder(&core).max_concurrency(4).build().expect("legal");
        let gate = Gate::new();
        let started = Gate::new();
        for _ in 0..4 {
            let (gate, started) = (gate.clone(), started.clone());
            drop(executor.try_submit(Envelope::new(()), move |_, _| async move { started.one(); gate.pass().await; Ok::<_, Infallible>(()) }).expect("room"));
        }
        started.pass_times(4).await;
        executor.set_max_concurrency(1).expect("legal");
        assert_eq!(executor.metrics().running, 4);
        executor.set_max_concurrency(6).expect("legal");
        assert_eq!((executor.metrics().running, executor.available_permits()), (4, 2));
        executor.set_max_concurrency(2).expect("legal");
        gate.open();
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!((executor.metrics().running, executor.available_permits()), (0, 2));
    });
}
