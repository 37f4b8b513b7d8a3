//! Cases 9 and 15: many tasks at once, and tasks that follow one another.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Instant;

use executor_bench_peers::spawning::{self, AsyncExecutor, rayon_pool, rayon_scope};
use executor_bench_peers::{Round, WORKERS, on_worker, sum_below, workers};
use executor_benches::block_on;
use executor_core::{Callbacks, Completion, WorkerCore};

use crate::callers::{Caller, Kept, await_all, spawn_all, spawn_fn, spawn_future};
use crate::engine::{CaseError, Run, Subject};
use crate::floors::TakeAll;
use crate::outside;
use crate::row::params;

/// Ours, with its caller on a worker or not.
fn spawned<'a>(
    name: &str,
    caller: Caller<'a>,
    core: &'a WorkerCore,
    tasks: u64,
    spawn: impl Fn(&WorkerCore, u64) -> Completion<u64> + Copy + Send + 'static,
) -> Subject<'a> {
    let kept = Cell::new(Kept::with_capacity(tasks as usize));
    Subject::all(name, tasks, sum_below(tasks), move || {
        let (core, mut all) = (core.clone(), kept.take());
        let work = async move { (spawn_all(&core, &mut all, tasks, spawn).await, all) };
        let (sum, all) = caller.run(work);
        kept.set(all);
        sum
    })
}

pub(crate) fn spawn(run: &mut Run<'_>) -> Result<(), CaseError> {
    let quick = [10_000, 100_000, 1_000_000];
    for tasks in run.pick(&quick, &[10_000, 100_000, 1_000_000, 10_000_000]) {
        let core = WorkerCore::threads(WORKERS)
            .build()
            .expect("the threads start");
        let (runtime, async_executor, rayon) = (workers(), AsyncExecutor::new(), rayon_pool());
        let floor = TakeAll::new(tasks);
        let expected = sum_below(tasks);
        let mut kept = Kept::with_capacity(tasks as usize);
        let (worker, thread) = (Caller::Worker(&core), Caller::Thread);
        let mut subjects = vec![
            spawned("ours", worker, &core, tasks, spawn_fn),
            spawned("ours:from-outside", thread, &core, tasks, spawn_fn),
            spawned("ours:async", worker, &core, tasks, spawn_future),
            spawned(
                "ours:async-from-outside",
                thread,
                &core,
                tasks,
                spawn_future,
            ),
            Subject::new("ours:submit-alone", tasks, expected, || {
                let start = Instant::now();
                kept.extend((0..tasks).map(|task| spawn_fn(&core, task)));
                let took = start.elapsed();
                let sum = block_on(await_all(&mut kept));
                Round { took, sum }
            }),
            Subject::all("tokio-spawn", tasks, expected, || {
                on_worker(&runtime, spawning::tokio_all(tasks))
            }),
            Subject::all("tokio-spawn-from-outside", tasks, expected, || {
                runtime.block_on(spawning::tokio_all(tasks))
            }),
            Subject::new("tokio-submit-alone", tasks, expected, || {
                runtime.block_on(spawning::tokio_submitted(tasks))
            }),
            Subject::all("async-executor", tasks, expected, || {
                async_executor.all(tasks)
            }),
            Subject::new("rayon-scope", tasks, expected, || {
                rayon_scope(&rayon, tasks)
            }),
            Subject::new("floor:take-all-list", tasks, expected, || {
                floor.submit_all(1)
            }),
        ];
        let (line, go) = (format!("spawn {tasks}"), &run.outside.go);
        subjects.extend(outside::subject(
            run,
            go,
            "go-goroutines",
            line,
            tasks,
            expected,
        ));
        run.compare(&params! { "tasks": tasks }, subjects)?;
    }
    Ok(())
}

/// What a chain tells of itself, once: in its middle it wakes nobody.
struct Told {
    first: OnceLock<Instant>,
    ended: mpsc::Sender<Round>,
}

impl Told {
    /// Whether the link after so many was the last.
    fn is_last(&self, done: u64, length: u64) -> bool {
        let first = self.first.get_or_init(Instant::now);
        if done == length {
            let took = first.elapsed();
            // The caller waits for it.
            let _ = self.ended.send(Round { took, sum: done });
        }
        done == length
    }
}

/// A callback that queues its successor on its lane, until there were `length`.
fn call(lane: &Callbacks, done: u64, length: u64, told: Arc<Told>) {
    if told.is_last(done, length) {
        return;
    }
    let next = lane.clone();
    lane.call_detached(move || call(&next, done + 1, length, told))
        .expect("the core is open");
}

/// A task that submits its successor, until there were `length`.
fn link(core: WorkerCore, done: u64, length: u64, told: Arc<Told>) {
    if told.is_last(done, length) {
        return;
    }
    let next = core.clone();
    core.spawn_fn_detached(move || link(next, done + 1, length, told))
        .expect("the core is open");
}

/// From the first link to the last, as the event loops measure theirs: how long a thread outside takes to
/// reach a worker, and to be woken, is no part of it.
fn on_its_worker(chain: impl FnOnce(Arc<Told>)) -> Round {
    let (ended, round) = mpsc::channel();
    chain(Arc::new(Told {
        first: OnceLock::new(),
        ended,
    }));
    round.recv().expect("the chain ends")
}

pub(crate) fn chain(run: &mut Run<'_>) -> Result<(), CaseError> {
    for length in run.pick(&[1_000, 100_000], &[1_000, 10_000, 100_000]) {
        let core = WorkerCore::threads(WORKERS)
            .build()
            .expect("the threads start");
        let (lane, runtime) = (core.callbacks(), workers());
        let start = |told| {
            let first = lane.clone();
            lane.call_detached(move || call(&first, 0, length, told))
                .expect("the core is open");
        };
        let mut subjects = vec![
            Subject::new("ours", length, length, || on_its_worker(start)),
            Subject::all("ours:from-outside", length, length, || {
                on_its_worker(start).sum
            }),
            Subject::new("ours:spawn", length, length, || {
                on_its_worker(|told| {
                    let first = core.clone();
                    core.spawn_fn_detached(move || link(first, 0, length, told))
                        .expect("the core is open");
                })
            }),
            Subject::new("tokio-spawn", length, length, || {
                on_worker(&runtime, async move {
                    let start = Instant::now();
                    let sum = spawning::tokio_chain(length).await;
                    let took = start.elapsed();
                    Round { took, sum }
                })
            }),
        ];
        let outside = run.outside;
        let line = format!("chain {length}");
        for (peer, name) in [
            (&outside.go, "go-goroutines"),
            (&outside.asyncio, "asyncio"),
            (&outside.uvloop, "uvloop"),
        ] {
            subjects.extend(outside::subject(
                run,
                peer,
                name,
                line.clone(),
                length,
                length,
            ));
        }
        run.compare(&params! { "chain": length }, subjects)?;
        queued(run, length)?;
    }
    Ok(())
}

/// So many callbacks that are all queued before the first runs.
fn queued(run: &mut Run<'_>, callbacks: u64) -> Result<(), CaseError> {
    let core = WorkerCore::threads(1).build().expect("the thread starts");
    let runtime = executor_bench_peers::local();
    let lane = core.callbacks();
    let mut kept = Kept::with_capacity(callbacks as usize);
    let mut called = Vec::with_capacity(callbacks as usize);
    let expected = sum_below(callbacks);
    let mut subjects = vec![
        Subject::all("ours", callbacks, expected, || {
            // The worker is held until all are there.
            let (go_on, held) = mpsc::channel::<()>();
            lane.call_detached(move || {
                // It ends with an error, when the other end goes away.
                let _ = held.recv();
            })
            .expect("the core is open");
            let call = |task| lane.call(move || black_box(task));
            called.extend((0..callbacks).map(|task| call(task).expect("the core is open")));
            drop(go_on);
            block_on(async {
                let mut sum = 0;
                for callback in called.drain(..) {
                    sum += callback.await.expect("it does not panic");
                }
                sum
            })
        }),
        Subject::all("ours:spawn", callbacks, expected, || {
            let (go_on, held) = mpsc::channel::<()>();
            core.spawn_fn_detached(move || {
                // It ends with an error, when the other end goes away.
                let _ = held.recv();
            })
            .expect("the core is open");
            kept.extend((0..callbacks).map(|task| spawn_fn(&core, task)));
            drop(go_on);
            block_on(await_all(&mut kept))
        }),
        Subject::all("tokio-spawn", callbacks, expected, || {
            runtime.block_on(spawning::tokio_all(callbacks))
        }),
    ];
    let outside = run.outside;
    let line = format!("queued {callbacks}");
    for (peer, name) in [(&outside.asyncio, "asyncio"), (&outside.uvloop, "uvloop")] {
        subjects.extend(outside::subject(
            run,
            peer,
            name,
            line.clone(),
            callbacks,
            expected,
        ));
    }
    run.compare(&params! { "queued": callbacks }, subjects)
}
