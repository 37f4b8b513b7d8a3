//! How much is woken, and what a core without work costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use executor_core::{Completion, WorkerCore};

use crate::eventually::{DEADLINE, eventually};

const BURST: u64 = 100;

fn sleeping(workers: usize) -> WorkerCore {
    let core = WorkerCore::threads(workers).build().expect("threads");
    settle(&core);
    core
}

fn settle(core: &WorkerCore) {
    eventually("all workers sleep", || {
        core.metrics().asleep == core.metrics().workers
    });
}

/// The same, after work: a worker that sleeps has counted that a moment later.
fn settle_again(core: &WorkerCore, parks: u64) {
    settle(core);
    eventually("a worker has counted that it sleeps", || {
        core.metrics().parks > parks
    });
}

fn take_all(completions: Vec<Completion<u64>>) {
    for (number, completion) in (0..).zip(completions) {
        let value = completion.wait_timeout(DEADLINE).expect("in time");
        assert_eq!(value.expect("handled"), number);
    }
}

#[test]
fn a_burst_onto_sleeping_workers_wakes_each_of_them_a_few_times() {
    // Alone, a worker is woken once. Of several, one that ran out of work between two pushes, since the
    // pushing one was off the processor, is woken again.
    for (workers, most) in [(1, 2), (2, BURST / 4), (4, BURST / 4)] {
        let core = sleeping(workers);
        for _ in 0..20 {
            let before = core.metrics().parks;
            // Pushed from a worker, so that the burst is one however slow this thread is.
            let inner = core.clone();
            let bursting = core.spawn_fn(move || {
                let spawn = |number| inner.spawn_fn(move || number).expect("open");
                (0..BURST).map(spawn).collect::<Vec<_>>()
            });
            take_all(bursting.expect("open").wait().expect("handled"));
            settle_again(&core, before);
            let woken = core.metrics().parks - before;
            assert!(
                (1..=most).contains(&woken),
                "{woken} wake-ups of {workers} workers for {BURST} tasks"
            );
        }
    }
}

#[test]
fn work_for_a_busy_worker_wakes_nobody() {
    let core = sleeping(1);
    let (go_on, gate) = channel::<()>();
    let (tell, told) = channel();
    let blocking = core.spawn_fn(move || {
        tell.send(()).expect("somebody waits");
        gate.recv_timeout(DEADLINE).expect("told in time");
    });
    told.recv_timeout(DEADLINE).expect("it starts");
    let before = core.metrics().parks;
    let spawn = |number| core.spawn_fn(move || number).expect("open");
    let completions: Vec<_> = (0..BURST).map(spawn).collect();
    assert_eq!(core.metrics().asleep, 0);
    go_on.send(()).expect("it waits");
    blocking.expect("open").wait().expect("handled");
    take_all(completions);
    settle_again(&core, before);
    assert_eq!(
        core.metrics().parks - before,
        1,
        "it slept once, at the end"
    );
}

#[test]
fn a_taken_batch_is_no_hoard() {
    // Each task waits for another one that runs beside it: one worker alone would never end.
    let core = sleeping(2);
    let arrivals = Arc::new(AtomicUsize::new(0));
    let meet = |number: u64| {
        let arrivals = Arc::clone(&arrivals);
        core.spawn_fn(move || {
            let pair = arrivals.fetch_add(1, Ordering::SeqCst) / 2;
            eventually("another one runs beside", || {
                arrivals.load(Ordering::SeqCst) >= 2 * pair + 2
            });
            number
        })
    };
    let completions = (0..BURST).map(|number| meet(number).expect("open"));
    take_all(completions.collect());
}

/// A file of each of this process's threads whose name begins with `name`.
#[cfg(target_os = "linux")]
fn of_threads<'a>(name: &'a str, file: &'a str) -> impl Iterator<Item = String> + 'a {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let read = move |path: std::path::PathBuf| {
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let is_it = comm.starts_with(name);
        std::fs::read_to_string(path.join(file))
            .ok()
            .filter(|_| is_it)
    };
    tasks.flatten().filter_map(move |task| read(task.path()))
}

/// The fields of the `stat` of a thread after its name in parentheses: its state is the first.
#[cfg(target_os = "linux")]
fn fields(stat: &str) -> Vec<&str> {
    let fields = stat.rsplit(')').next().expect("a name");
    fields.split_whitespace().collect()
}

/// Clock ticks in the `stat` of a thread.
#[cfg(target_os = "linux")]
fn ticks(stat: &str) -> u64 {
    // The times are the 12th and 13th.
    let fields = fields(stat);
    let tick = |field: &str| field.parse::<u64>().expect("a number");
    tick(fields[11]) + tick(fields[12])
}

/// How often a thread has given its processor up, from its `status`.
#[cfg(target_os = "linux")]
fn switches(status: &str) -> u64 {
    let switches = status.lines().filter_map(|line| {
        let (name, count) = line.split_once(':')?;
        name.ends_with("ctxt_switches")
            .then(|| count.trim().parse::<u64>().expect("a number"))
    });
    switches.sum()
}

#[cfg(target_os = "linux")]
#[test]
fn idle_workers_use_no_processor_time() {
    let core = WorkerCore::threads(4)
        .name("idling")
        .build()
        .expect("threads");
    let run = |number| core.spawn_fn(move || number).expect("open");
    take_all((0..BURST).map(run).collect());
    settle(&core);
    let own = || ticks(&std::fs::read_to_string("/proc/thread-self/stat").expect("procfs"));
    let used = || -> (u64, u64) {
        // Where others are busy, who yields all the time uses no tick, but switches.
        let ticks = of_threads("idling", "stat").map(|stat| ticks(&stat));
        let switches = of_threads("idling", "status").map(|status| switches(&status));
        (ticks.sum(), switches.sum())
    };
    // The last counts itself as asleep a moment before it is, and counts that it has parked in between.
    eventually("every thread sleeps", || {
        of_threads("idling", "stat").all(|stat| fields(&stat)[0] == "S")
    });
    let (parks, before) = (core.metrics().parks, used());
    // While this thread works for 20 ticks, a fifth of a second.
    let until = own() + 20;
    let mut sum = 0_u64;
    while own() < until {
        sum = (0..10_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
    }
    assert_eq!(core.metrics().parks, parks, "nobody was woken");
    let after = used();
    assert_eq!(after.0, before.0, "ticks");
    // Each may have been on its way to bed.
    assert!(after.1 <= before.1 + 4, "{before:?}, {after:?}");
}
