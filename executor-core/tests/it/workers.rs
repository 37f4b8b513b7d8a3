//! Workers, their ends, and work that makes work.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use executor_core::{Completion, Shutdown, VirtualClock, WorkerCore, join_all};

use crate::eventually::DEADLINE;
#[cfg(target_os = "linux")]
use crate::eventually::{eventually, threads_named};
use crate::outcomes::block_on;

/// Runs a test on two threads, and on both kinds of runtime, under the deadline.
fn on_every_host<F: Future<Output = ()>>(test: impl Fn(WorkerCore) -> F) {
    on_hosts(0..3, test);
}

/// The same without the runtime that has one thread.
fn on_two_threads<F: Future<Output = ()>>(test: impl Fn(WorkerCore) -> F) {
    on_hosts(0..2, test);
}

fn on_hosts<F: Future<Output = ()>>(hosts: Range<usize>, test: impl Fn(WorkerCore) -> F) {
    for host in hosts {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        if host == 1 {
            runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2);
        }
        let runtime = runtime.enable_time().build().expect("a runtime");
        let core = if host == 0 {
            WorkerCore::threads(2)
        } else {
            WorkerCore::tokio(runtime.handle())
        };
        let core = core.build().expect("legal");
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, test(core))
                .await
                .expect("in time")
        });
    }
}

fn fibonacci(core: WorkerCore, n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let left = core.spawn(fibonacci(core.clone(), n - 1)).expect("open");
        let right = core.spawn(fibonacci(core.clone(), n - 2)).expect("open");
        left.await.expect("handled") + right.await.expect("handled")
    })
}

fn chain(core: WorkerCore, depth: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return 0;
        }
        core.spawn(chain(core.clone(), depth - 1))
            .expect("open")
            .await
            .expect("handled")
            + 1
    })
}

#[test]
fn work_that_spawns_and_awaits_work_finishes() {
    on_every_host(|core| async move {
        assert_eq!(
            core.spawn(fibonacci(core.clone(), 16))
                .expect("open")
                .await
                .expect("handled"),
            987
        );
        assert_eq!(
            core.spawn(chain(core.clone(), 100))
                .expect("open")
                .await
                .expect("handled"),
            100
        );
        assert!(core.drain(DEADLINE).await.is_complete());
    });
}

#[test]
fn join_all_keeps_the_order_and_joining_nothing_is_ready() {
    on_every_host(|core| async move {
        assert!(
            join_all::<(), std::convert::Infallible, ()>([])
                .await
                .is_empty()
        );
        let (open, gate) = tokio::sync::watch::channel(false);
        let completions: Vec<_> = (0..100_u64)
            .map(|number| {
                let mut gate = gate.clone();
                core.spawn(async move {
                    if number % 3 == 0 {
                        gate.wait_for(|open| *open).await.expect("open");
                    }
                    number
                })
            })
            .map(|spawned| spawned.expect("open"))
            .collect();
        let mut joined = join_all(completions);
        let pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Pin::new(&mut joined).poll(context).is_pending())
        });
        assert!(pending.await);
        open.send(true).expect("they wait");
        let values: Vec<_> = joined.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn dropping_a_join_detaches_what_is_not_finished() {
    on_every_host(|core| async move {
        let ran = Arc::new(AtomicU64::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let spawn = |_| {
            let (mut gate, ran) = (gate.clone(), Arc::clone(&ran));
            core.spawn(async move {
                gate.wait_for(|open| *open).await.expect("open");
                ran.fetch_add(1, Ordering::SeqCst);
            })
        };
        let completions: Vec<Completion<()>> = (0..10)
            .map(spawn)
            .map(|spawned| spawned.expect("open"))
            .collect();
        let mut joined = join_all(completions);
        let pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Pin::new(&mut joined).poll(context).is_pending())
        });
        assert!(pending.await);
        drop(joined);
        open.send(true).expect("they wait");
        assert!(core.drain(DEADLINE).await.is_complete());
        assert_eq!(ran.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn threads_that_submit_and_exit_at_once_leave_their_work_behind() {
    let core = WorkerCore::threads(2).build().expect("threads");
    let ran = Arc::new(AtomicU64::new(0));
    for _ in 0..250 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (core, ran) = (&core, Arc::clone(&ran));
                scope.spawn(move || {
                    core.spawn_fn_detached(move || ran.fetch_add(1, Ordering::SeqCst))
                        .expect("open")
                });
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    assert!(
        runtime
            .block_on(core.shutdown(Shutdown::Drain, DEADLINE))
            .is_complete()
    );
    assert_eq!(ran.load(Ordering::SeqCst), 2_000);
}

#[test]
fn a_task_between_two_sleeps_is_never_lost() {
    let core = WorkerCore::threads(2).build().expect("threads");
    for number in 0..20_000_u64 {
        let answer = core
            .spawn_fn(move || number)
            .expect("open")
            .wait_timeout(DEADLINE);
        assert_eq!(answer.expect("no stall").expect("handled"), number);
    }
}

#[test]
fn a_closed_core_gives_futures_and_closures_back() {
    on_every_host(|core| async move {
        for mode in [Shutdown::Drain, Shutdown::Abort, Shutdown::Drain] {
            assert!(core.shutdown(mode, DEADLINE).await.is_complete());
        }
        let text = String::from("mine");
        let refused = core.spawn_fn(move || text).expect_err("closed");
        assert_eq!(
            (refused.reason, (refused.work)()),
            (executor_core::RejectReason::Closed, "mine".into())
        );
        assert_eq!(core.spawn(async { 5 }).expect_err("closed").work.await, 5);
        assert!(core.spawn_detached(async {}).is_err());
    });
}

#[test]
fn what_a_closing_core_accepts_has_an_outcome() {
    for round in 0..3_000 {
        let clock = VirtualClock::new();
        let core = WorkerCore::threads(1).clock(&clock).build();
        let core = core.expect("threads");
        let timer = core.spawn_fn_after(Duration::from_secs(1), || ());
        let timer = timer.expect("open");
        let (spawning, met) = (core.clone(), Arc::new(Barrier::new(2)));
        let meeting = Arc::clone(&met);
        let spawner = thread::spawn(move || {
            let mut accepted = Vec::new();
            meeting.wait();
            if round % 2 == 0 {
                clock.advance(Duration::from_secs(1));
            }
            while let Ok(completion) = spawning.spawn_fn(|| ()) {
                accepted.push(completion);
                thread::yield_now();
            }
            accepted
        });
        met.wait();
        for _ in 0..round % 64 {
            std::hint::spin_loop();
        }
        let over = block_on(core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(over.is_complete(), "{over:?}");
        for completion in spawner.join().expect("no panic") {
            let outcome = completion.wait_timeout(Duration::from_secs(5));
            outcome.expect("an outcome").expect("it ran");
        }
        // It ran, or ended as aborted.
        let outcome = timer.into_completion().wait_timeout(Duration::from_secs(5));
        let _either = outcome.expect("an outcome");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn cores_made_and_dropped_leave_no_thread_and_no_descriptor_behind() {
    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("procfs").count()
    }
    let before = descriptors();
    for round in 0..1_000 {
        let core = WorkerCore::threads(2)
            .name("passing")
            .build()
            .expect("threads");
        let completion = core.spawn_fn(move || round).expect("open");
        drop(core);
        assert_eq!(
            completion.wait().expect("what was accepted is handled"),
            round
        );
        eventually("threads pile up", || threads_named("passing") <= 20);
    }
    eventually("threads are left", || threads_named("passing") == 0);
    // Tests beside this one open and close some of their own.
    let most = before + 64;
    eventually("descriptors are left", || descriptors() <= most);
}

/// Two tasks, of which each blocks its thread until the other runs; whether they have met.
async fn meet(core: &WorkerCore) -> bool {
    let channels: [_; 2] = std::array::from_fn(|_| mpsc::channel());
    let [(to_first, first), (to_last, last)] = channels;
    let both = [(to_last, first), (to_first, last)].map(|(other, own)| {
        let meets = move || {
            other.send(()).expect("it is heard");
            own.recv_timeout(DEADLINE / 2).is_ok()
        };
        core.spawn_fn(meets).expect("open")
    });
    let met = join_all(both).await;
    met.into_iter().all(|met| met.expect("handled"))
}

#[test]
fn tasks_that_come_together_run_beside_each_other_also_when_they_block() {
    on_two_threads(|core| async move {
        for round in 0..100 {
            assert!(meet(&core).await, "round {round}");
        }
    });
}

#[test]
fn what_a_task_spawns_runs_beside_it_also_when_it_blocks() {
    on_two_threads(|core| async move {
        for round in 0..100 {
            let inner = core.clone();
            let blocks = move || {
                let (tell, told) = mpsc::channel();
                let tells = move || tell.send(()).expect("it is heard");
                inner.spawn_fn_detached(tells).expect("open");
                told.recv_timeout(DEADLINE / 2).is_ok()
            };
            let told = core.spawn_fn(blocks).expect("open").await;
            assert!(told.expect("handled"), "round {round}");
        }
    });
}
