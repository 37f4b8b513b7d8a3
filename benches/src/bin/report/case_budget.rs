//! Case 12: how many messages of a stream run in a row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use executor_benches::block_on;
use executor_core::{Envelope, WorkerCore};
use executor_serial::SerialExecutor;
use hdrhistogram::Histogram;

use crate::callers::answer;
use crate::engine::{CaseError, Figure, Run};
use crate::row::params;

/// Messages that wait on the hot stream at most.
const ROOM: usize = 8_192;
/// Longest wait that is told apart, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// One stream that always has messages, and the waits of a second one on the same worker.
fn beside(budget: usize, probes: u64) -> Vec<Figure> {
    let core = WorkerCore::threads(1).budget(budget).build();
    let core = core.expect("the thread starts");
    let executor = SerialExecutor::<u64>::builder(&core)
        .queue_per_stream(ROOM)
        .inline(false);
    let executor = executor.build().expect("the options are legal");
    let (hot, second) = (executor.stream(&0), executor.stream(&1));
    let stop = AtomicBool::new(false);
    let mut waits = Histogram::<u64>::new_with_bounds(1, LONGEST, 3).expect("legal bounds");
    let mut rate = 0.0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A full queue makes the feeder wait, so that there is always one.
                let submitted = hot.submit_detached(Envelope::new(1), answer!());
                submitted.expect("it is open");
            }
        });
        while hot.depth() < ROOM / 2 {
            thread::yield_now();
        }
        let (start, before) = (Instant::now(), hot.handled());
        block_on(async {
            for message in 0..probes {
                let sent = Instant::now();
                let answer = second.execute(Envelope::new(message), answer!()).await;
                let waited = sent.elapsed().as_nanos() as u64;
                assert_eq!(answer.expect("it is handled"), message);
                waits.saturating_record(waited);
            }
        });
        let done = hot.handled() - before;
        rate = start.elapsed().as_nanos() as f64 / done.max(1) as f64;
        stop.store(true, Ordering::Relaxed);
    });
    let figure = |name, unit, value| Figure {
        params: params! { "budget": budget, "figure": name },
        unit,
        value,
    };
    vec![
        figure("throughput", "ns", rate),
        figure(
            "p50-beside",
            "us",
            waits.value_at_quantile(0.5) as f64 / 1e3,
        ),
        figure(
            "p99-beside",
            "us",
            waits.value_at_quantile(0.99) as f64 / 1e3,
        ),
    ]
}

pub(crate) fn budget(run: &mut Run<'_>) -> Result<(), CaseError> {
    let probes = run.pick(&[3_000], &[10_000])[0];
    let whole = [64, 128, 256, 512, 1_024, 2_048, 4_096];
    for budget in run.pick(&whole, &whole) {
        let mut measure = || Ok(beside(budget, probes));
        run.figures(run.effort.samples, &mut [("ours", &mut measure)])?;
    }
    Ok(())
}
