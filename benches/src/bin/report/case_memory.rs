//! Case 18: what an idle stream costs to keep.

use executor_bench_peers::kameo_mailbox::KameoMailbox;
use executor_bench_peers::keyed::Mutexes;
use executor_bench_peers::mailbox::Mailbox;
use executor_bench_peers::memory::IdleActor;
use executor_bench_peers::ractor_mailbox::RactorMailbox;
use executor_bench_peers::{WORKERS, workers};
use executor_benches::allocator::counted;
use executor_benches::{block_on, echo};
use executor_core::{Envelope, WorkerCore};
use executor_serial::SerialExecutor;

use crate::engine::{CaseError, Figure, Run};
use crate::row::params;

/// Streams that are made and kept.
const STREAMS: u64 = 100_000;
/// Of those peers that need a lot.
const FEW: u64 = 10_000;
/// Streams of the resident figure.
const RESIDENT: u64 = 1_000_000;

fn per_stream(name: &str, kept: i64, streams: u64) -> Figure {
    Figure {
        params: params! { "figure": name },
        unit: "bytes",
        value: kept as f64 / streams as f64,
        // The first sample also has what the core keeps for the next: it is the median that counts.
        zero: false,
    }
}

fn executor(core: &WorkerCore) -> SerialExecutor<u64> {
    let executor = SerialExecutor::<u64>::builder(core).resident_streams(2 * RESIDENT as usize);
    executor.build().expect("the options are legal")
}

/// Executes once on each of the streams `0..streams`.
fn visit(executor: &SerialExecutor<u64>, streams: u64) -> Result<(), CaseError> {
    let mut sum = 0;
    block_on(async {
        for key in 0..streams {
            let handled = executor.execute(key, Envelope::new(key), echo).await;
            sum += handled.expect("it is handled");
        }
    });
    checked("ours", sum, streams)
}

fn checked(subject: &str, got: u64, streams: u64) -> Result<(), CaseError> {
    let expected = executor_bench_peers::sum_below(streams);
    if got == expected {
        return Ok(());
    }
    let subject = subject.to_owned();
    Err(CaseError::Lost {
        subject,
        got,
        expected,
    })
}

fn ours(core: &WorkerCore) -> Result<Vec<Figure>, CaseError> {
    let executor = executor(core);
    let (visited, made) = counted(|| visit(&executor, STREAMS));
    visited?;
    let resident = executor.metrics().resident as u64;
    assert_eq!(resident, STREAMS, "streams were evicted");
    let (evicted, gone) = counted(|| executor.evict_idle());
    assert_eq!(evicted as u64, STREAMS, "a stream was not idle");
    Ok(vec![
        per_stream("idle-stream", made.kept(), STREAMS),
        per_stream("evicted-stream", made.kept() + gone.kept(), STREAMS),
    ])
}

fn resident(core: &WorkerCore) -> Result<Vec<Figure>, CaseError> {
    let executor = executor(core);
    let (visited, made) = counted(|| visit(&executor, RESIDENT));
    visited?;
    Ok(vec![Figure {
        params: params! { "figure": "million-streams" },
        unit: "MB",
        value: made.kept() as f64 / 1e6,
        zero: false,
    }])
}

/// Starts and asks so many actors on two workers.
fn actors<M: Mailbox>() -> Result<Vec<Figure>, CaseError> {
    let runtime = workers();
    let ((sum, kept), made) = counted(|| {
        runtime.block_on(async {
            let mut kept = Vec::with_capacity(FEW as usize);
            let mut sum = 0;
            for key in 0..FEW {
                let mailbox = M::start().await;
                sum += mailbox.ask(key).await;
                kept.push(mailbox);
            }
            (sum, kept)
        })
    });
    drop(kept);
    checked(M::NAME, sum, FEW)?;
    Ok(vec![per_stream("idle-stream", made.kept(), FEW)])
}

fn idle_tasks() -> Result<Vec<Figure>, CaseError> {
    let runtime = workers();
    let ((sum, kept), made) = counted(|| {
        runtime.block_on(async {
            let mut kept = Vec::with_capacity(FEW as usize);
            let mut sum = 0;
            for key in 0..FEW {
                let actor = IdleActor::start();
                sum += actor.ask(key).await;
                kept.push(actor);
            }
            (sum, kept)
        })
    });
    drop(kept);
    checked("tokio-mpsc-task", sum, FEW)?;
    Ok(vec![per_stream("idle-stream", made.kept(), FEW)])
}

fn mutexes() -> Result<Vec<Figure>, CaseError> {
    let mutexes = Mutexes::default();
    let (sum, made) = counted(|| {
        block_on(async {
            let mut sum = 0;
            for key in 0..STREAMS {
                sum += mutexes.lock(key, key).await;
            }
            sum
        })
    });
    checked("tokio-mutex-by-key", sum, STREAMS)?;
    Ok(vec![per_stream("idle-stream", made.kept(), STREAMS)])
}

pub(crate) fn memory(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let samples = run.effort.samples;
    run.figures(
        samples,
        &mut [
            ("ours", &mut || ours(&core)),
            ("tokio-mutex-by-key", &mut mutexes),
            ("tokio-mpsc-task", &mut idle_tasks),
            (KameoMailbox::NAME, &mut actors::<KameoMailbox>),
            (RactorMailbox::NAME, &mut actors::<RactorMailbox>),
        ],
    )?;
    run.figures(samples, &mut [("ours", &mut || resident(&core))])
}
