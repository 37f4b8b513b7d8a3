//! Case 17: calls that wake or wait, of whoever submits, counted by `strace` in a process of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use executor_bench_peers::mailbox::Mailbox;
use executor_bench_peers::tokio_mailbox::TokioMailbox;
use executor_bench_peers::{WORKERS, sum_below, workers};
use executor_benches::{block_on, yield_once};
use executor_core::{Envelope, WorkerCore};
use executor_serial::SerialExecutor;

use crate::callers::answer;
use crate::engine::{CaseError, Figure, Run};
use crate::row::params;

/// Submitted while a worker is busy.
const MESSAGES: u64 = 1_000_000;
/// Submitted while all workers sleep.
const BURST: u64 = 100;
/// Bursts that are counted together.
const BURSTS: u64 = 20;
/// Long enough for workers to fall asleep.
const REST: Duration = Duration::from_millis(5);
/// What ends and begins what is counted; nobody else calls it.
const MARK: &str = "getppid";
/// What wakes or waits.
const CALLS: &str = "trace=futex,write,epoll_wait,epoll_pwait,epoll_pwait2,sched_yield,getppid";

/// What is counted, by the name that the process is started with.
const WORKS: [&str; 4] = ["ours-busy", "ours-asleep", "tokio-busy", "tokio-asleep"];

fn mark() {
    // Only that it is called matters.
    let _ = rustix::process::getppid();
}

/// Submits between two marks; what a traced process runs.
pub(crate) fn traced(work: &str) -> Result<(), String> {
    match work {
        "ours-busy" => ours(true),
        "ours-asleep" => ours(false),
        "tokio-busy" => tokio(true),
        "tokio-asleep" => tokio(false),
        _ => return Err(format!("no work is called {work}; there are {WORKS:?}")),
    }
    Ok(())
}

async fn until_stopped(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        yield_once().await;
    }
}

fn ours(busy: bool) {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let executor = SerialExecutor::<u64>::builder(&core).queue_per_stream(2 * MESSAGES as usize);
    let stream = executor.build().expect("the options are legal").stream(&0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut kept = Vec::with_capacity(MESSAGES as usize);
    let mut submit = |messages: u64| {
        mark();
        for message in 0..messages {
            let submitted = stream.submit(Envelope::new(message), answer!());
            kept.push(submitted.expect("there is room"));
        }
        mark();
        let sum: u64 = kept
            .drain(..)
            .map(|completion| block_on(completion).expect("it is handled"))
            .sum();
        assert_eq!(sum, sum_below(messages), "a completion is lost or wrong");
    };
    if busy {
        let stopped = Arc::clone(&stop);
        let task = core
            .spawn(until_stopped(stopped))
            .expect("the core is open");
        thread::sleep(REST);
        submit(MESSAGES);
        stop.store(true, Ordering::Relaxed);
        task.wait().expect("it does not panic");
    } else {
        for _ in 0..BURSTS {
            thread::sleep(REST);
            submit(BURST);
        }
    }
}

fn tokio(busy: bool) {
    let runtime = workers();
    let mailbox = runtime.block_on(TokioMailbox::start());
    let stop = Arc::new(AtomicBool::new(false));
    let submit = |messages: u64| {
        mark();
        for message in 0..messages {
            mailbox.tell(message);
        }
        mark();
        let sum = runtime.block_on(mailbox.total());
        assert_eq!(sum, sum_below(messages), "a message is lost or wrong");
    };
    if busy {
        let task = runtime.spawn(until_stopped(Arc::clone(&stop)));
        thread::sleep(REST);
        submit(MESSAGES);
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(task).expect("it does not panic");
    } else {
        for _ in 0..BURSTS {
            thread::sleep(REST);
            submit(BURST);
        }
    }
}

/// The calls between the marks, of the thread that set them.
fn count(trace: &str) -> Option<u64> {
    let mut marks = 0;
    let mut calls = 0;
    let marker = trace.lines().find(|line| line.contains(MARK))?;
    let thread = marker.split_whitespace().next()?;
    for line in trace.lines() {
        // A call that another thread interrupts has a second line for its end.
        if line.split_whitespace().next() != Some(thread) || line.contains("resumed>") {
            continue;
        }
        if line.contains(MARK) {
            marks += 1;
        } else if marks % 2 == 1 {
            calls += 1;
        }
    }
    (marks > 0 && marks % 2 == 0).then_some(calls)
}

fn strace(work: &str, file: &Path) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = Command::new("strace")
        .args(["-f", "-qq", "-e", CALLS, "-e", "signal=none", "-o"])
        .arg(file)
        .arg(program)
        .args(["--traced", work])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|_| "strace is not installed".to_owned())?;
    if !status.success() {
        return Err(format!("strace of {work} ended with {status}"));
    }
    let trace = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    // A trace of a run is of no use to the next.
    std::fs::remove_file(file).map_err(|error| error.to_string())?;
    count(&trace).ok_or_else(|| format!("the trace of {work} has no marks"))
}

pub(crate) fn wakes(run: &mut Run<'_>) -> Result<(), CaseError> {
    let file = run.scratch.join("report-strace");
    if let Err(why) = strace("ours-asleep", &file) {
        run.absent("ours", why);
        return Ok(());
    }
    let measure = |work: &'static str| {
        let file = &file;
        move || {
            let calls = strace(work, file).map_err(CaseError::Outside)?;
            let busy = work.ends_with("busy");
            let (params, each) = if busy {
                (params! { "submits": MESSAGES, "workers": "busy" }, 1)
            } else {
                (params! { "submits": BURST, "workers": "asleep" }, BURSTS)
            };
            Ok(vec![Figure {
                params,
                unit: "calls",
                value: calls as f64 / each as f64,
                zero: busy,
            }])
        }
    };
    let samples = run.effort.samples;
    let [mut ours, mut ours_asleep, mut peer, mut peer_asleep] = WORKS.map(measure);
    run.figures(
        samples,
        &mut [("ours", &mut ours), ("tokio-mpsc-tell", &mut peer)],
    )?;
    run.figures(
        samples,
        &mut [
            ("ours", &mut ours_asleep),
            ("tokio-mpsc-tell", &mut peer_asleep),
        ],
    )
}
