//! Timers: what it costs to schedule, to cancel and to fire one, and how late they are; and what a
//! call in a lane costs, with many queued and with one that queues the next.
//!
//! The delays are `i mod 10` ms, so at least 9 ms pass until all have fired; the figure of
//! `schedule+fire` is what goes beyond that, for each timer. That of `turns` is what whoever minds the
//! wheel needs for each timer that it fires, by a virtual clock and without what is then run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use executor_core::{Callbacks, Delayed, VirtualClock, WorkerCore};

const FLOOR: Duration = Duration::from_millis(9);
/// So far that none fires while a bench runs.
const FAR: Duration = Duration::from_secs(36_000);

/// Schedules `timers` calls on each of `threads`, and adds up what `time` measures of it.
fn on_threads(
    threads: u64,
    timers: u64,
    lanes: &[Callbacks],
    time: impl Fn(u64, &Callbacks) -> Duration + Sync,
) -> Duration {
    if threads == 1 {
        return time(timers, &lanes[0]);
    }
    let start = AtomicBool::new(false);
    let (start, time) = (&start, &time);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads as usize)
            .map(|index| {
                scope.spawn(move || {
                    while !start.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                    time(timers / threads, &lanes[index])
                })
            })
            .collect();
        start.store(true, Ordering::Release);
        let total: Duration = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum();
        // Each thread has its share of the timers: the mean is the time of one share.
        total / threads as u32
    })
}

/// Schedules timers, and says how long it took.
fn scheduled(timers: u64, lane: &Callbacks) -> (Duration, Vec<Delayed<()>>) {
    let mut handles = Vec::with_capacity(timers as usize);
    let start = Instant::now();
    for timer in 0..timers {
        let delay = FAR + Duration::from_millis(timer % 10);
        handles.push(lane.call_after(delay, || ()).expect("the core is open"));
    }
    (start.elapsed(), handles)
}

/// Cancels timers, and says how long it took.
fn cancelled(mut handles: Vec<Delayed<()>>) -> Duration {
    let start = Instant::now();
    for handle in &mut handles {
        assert!(handle.cancel());
    }
    start.elapsed()
}

fn schedule(timers: u64, lane: &Callbacks) -> Duration {
    let (elapsed, handles) = scheduled(timers, lane);
    cancelled(handles);
    elapsed
}

fn cancel(timers: u64, lane: &Callbacks) -> Duration {
    cancelled(scheduled(timers, lane).1)
}

/// Fires `timers`, and says how long it took beyond the floor.
fn fire(timers: u64, lane: &Callbacks) -> Duration {
    // One for each thread, leaked: a count of references would cost more than the timer.
    let fired: &'static AtomicU64 = Box::leak(Box::default());
    let start = Instant::now();
    for timer in 0..timers {
        let call = move || fired.fetch_add(1, Ordering::Relaxed);
        let delay = Duration::from_millis(timer % 10);
        drop(lane.call_after(delay, call).expect("the core is open"));
    }
    while fired.load(Ordering::Relaxed) < timers {
        thread::sleep(Duration::from_micros(50));
    }
    start.elapsed().saturating_sub(FLOOR)
}

/// Fires `timers` of ten ticks of a virtual clock while the only worker is blocked.
fn turns(timers: u64) -> Duration {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(1).clock(&clock).build();
    let core = core.expect("the thread starts");
    let ((tell, blocked), (open, gate)) = (mpsc::channel(), mpsc::channel::<()>());
    let block = move || {
        tell.send(()).expect("the bench waits");
        gate.recv().expect("it is opened");
    };
    core.spawn_fn_detached(block).expect("the core is open");
    blocked.recv().expect("it blocks");
    let tick = executor_core::DEFAULT_TICK;
    for timer in 0..timers {
        let delay = tick * (1 + timer as u32 % 10);
        drop(core.spawn_fn_after(delay, || ()).expect("the core is open"));
    }
    let start = Instant::now();
    (0..10).for_each(|_| clock.advance(tick));
    let elapsed = start.elapsed();
    open.send(()).expect("it waits");
    let last = core.spawn_fn(|| ()).expect("the core is open");
    last.wait().expect("it does not panic");
    elapsed
}

/// Queues `calls`, and waits until the last one has run.
fn queued(calls: u64, lane: &Callbacks) -> Duration {
    let start = Instant::now();
    for _ in 1..calls {
        lane.call_detached(|| ()).expect("the core is open");
    }
    let last = lane.call(|| ()).expect("the core is open");
    last.into_completion().wait().expect("no call panics");
    start.elapsed()
}

/// Runs a chain of `calls`, each of which queues the next.
fn chained(calls: u64, lane: &Callbacks) -> Duration {
    fn next(left: u64, lane: Callbacks, done: mpsc::Sender<()>) {
        let further = lane.clone();
        let call = move || match left {
            1 => done.send(()).expect("the bench waits"),
            _ => next(left - 1, further, done),
        };
        lane.call_detached(call).expect("the core is open");
    }
    let (done, over) = mpsc::channel();
    let start = Instant::now();
    next(calls, lane.clone(), done);
    over.recv().expect("the chain ends");
    start.elapsed()
}

/// Prints how late timers of 0 to 9 ms are.
fn lateness(timers: u64, lane: &Callbacks) {
    let late: Arc<[AtomicU32]> = (0..timers).map(|_| AtomicU32::new(u32::MAX)).collect();
    let early = Arc::new(AtomicU64::new(0));
    for timer in 0..timers {
        let (late, early) = (Arc::clone(&late), Arc::clone(&early));
        let delay = Duration::from_millis(timer % 10);
        let due = Instant::now() + delay;
        let call = move || {
            let now = Instant::now();
            early.fetch_add(u64::from(now < due), Ordering::Relaxed);
            let micros = now.saturating_duration_since(due).as_micros() as u32;
            late[timer as usize].store(micros, Ordering::Release);
        };
        drop(lane.call_at(due, call).expect("the core is open"));
    }
    let mut sorted: Vec<u32> = Vec::new();
    for slot in late.iter() {
        while slot.load(Ordering::Acquire) == u32::MAX {
            thread::sleep(Duration::from_micros(50));
        }
        sorted.push(slot.load(Ordering::Acquire));
    }
    sorted.sort_unstable();
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    println!(
        "lateness of {timers}: p50 {} us, p99 {} us, most {} us, early {}",
        at(50),
        at(99),
        at(100),
        early.load(Ordering::Relaxed)
    );
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let lanes: Vec<_> = (0..4).map(|_| core.callbacks()).collect();

    let mut group = criterion.benchmark_group("timers");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for timers in [100, 1_000, 10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(timers));
        for threads in [1, 4] {
            group.bench_function(format!("schedule/{threads} threads/{timers}"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let round = |_| on_threads(threads, timers, &lanes, schedule);
                    (0..rounds).map(round).sum()
                });
            });
            group.bench_function(format!("cancel/{threads} threads/{timers}"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let round = |_| on_threads(threads, timers, &lanes, cancel);
                    (0..rounds).map(round).sum()
                });
            });
            group.bench_function(
                format!("schedule+fire/{threads} threads/{timers}"),
                |bencher| {
                    bencher.iter_custom(|rounds| {
                        let round = |_| on_threads(threads, timers, &lanes, fire);
                        (0..rounds).map(round).sum()
                    });
                },
            );
        }
    }
    for timers in [1_000, 10_000] {
        group.throughput(Throughput::Elements(timers));
        group.bench_function(format!("turns/{timers}"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| turns(timers)).sum());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("callbacks");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for calls in [1_000, 10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(calls));
        for (name, run) in [
            ("queued", queued as fn(u64, &Callbacks) -> Duration),
            ("chained", chained),
        ] {
            group.bench_function(format!("{name}/{calls}"), |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| run(calls, &lanes[0])).sum());
            });
        }
    }
    group.finish();
    for timers in [100, 10_000, 1_000_000] {
        lateness(timers, &lanes[0]);
    }
    criterion.final_summary();
}
