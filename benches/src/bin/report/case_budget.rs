//! Case 12: how many messages of a stream run in a row.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use executor_benches::block_on;
use executor_core::{Envelope, WorkerCore};
use executor_serial::{SerialExecutor, Stream};
use hdrhistogram::Histogram;

use crate::callers::{answer, heat};
use crate::engine::{CaseError, Figure, Run};
use crate::row::params;

/// Messages that always wait on the hot stream, each of which submits its successor: more than the
/// largest budget, so that a slice ends by its budget alone.
const BACKLOG: usize = 8_192;
/// How long hot streams are watched.
const WINDOW: Duration = Duration::from_millis(20);
/// How long nothing is sent to the second stream after an answer.
const PAUSE: Duration = Duration::from_micros(10);
/// Longest wait that is told apart, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// One worker with streams that always have messages, until they are told to stop.
struct Hot {
    executor: SerialExecutor<u64>,
    streams: Vec<Stream<u64>>,
    still: Arc<AtomicBool>,
    _core: WorkerCore,
}

impl Hot {
    fn new(budget: usize, streams: u64) -> Self {
        let core = WorkerCore::threads(1).budget(budget).build();
        let core = core.expect("the thread starts");
        let executor = SerialExecutor::<u64>::builder(&core)
            .queue_per_stream(2 * BACKLOG)
            .inline(false);
        let executor = executor.build().expect("the options are legal");
        let still = Arc::new(AtomicBool::new(true));
        let streams: Vec<_> = (0..streams).map(|key| executor.stream(&key)).collect();
        for stream in &streams {
            (0..BACKLOG).for_each(|_| heat(stream, &still, || ()));
        }
        Self {
            executor,
            streams,
            still,
            _core: core,
        }
    }

    fn handled(&self) -> u64 {
        self.streams.iter().map(Stream::handled).sum()
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        self.still.store(false, Ordering::Relaxed);
    }
}

/// What a message costs where the worker has two streams to go back and forth between.
fn throughput(budget: usize) -> f64 {
    let hot = Hot::new(budget, 2);
    let (start, before) = (Instant::now(), hot.handled());
    thread::sleep(WINDOW);
    let done = hot.handled() - before;
    start.elapsed().as_nanos() as f64 / done.max(1) as f64
}

/// How long messages of another stream wait beside a hot one.
fn waits(budget: usize, probes: u64) -> Histogram<u64> {
    let hot = Hot::new(budget, 1);
    let second = hot.executor.stream(&1);
    let mut waits = Histogram::new_with_bounds(1, LONGEST, 3).expect("legal bounds");
    block_on(async {
        for probe in 0..probes {
            let sent = Instant::now();
            let answer = second.execute(Envelope::new(probe), answer!()).await;
            let waited = sent.elapsed().as_nanos() as u64;
            assert_eq!(answer.expect("it is handled"), probe);
            waits.saturating_record(waited);
            // Long enough for the worker to be at the hot stream again.
            let pause = Instant::now();
            while pause.elapsed() < PAUSE {
                spin_loop();
            }
        }
    });
    waits
}

fn beside(budget: usize, probes: u64) -> Vec<Figure> {
    let rate = throughput(budget);
    let waits = waits(budget, probes);
    let figure = |name, unit, value| Figure {
        params: params! { "budget": budget, "figure": name },
        unit,
        value,
        zero: false,
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
    let probes = run.pick(&[1_000], &[10_000])[0];
    let budgets = [64, 128, 256, 512, 1_024, 2_048, 4_096];
    // In turn, as subjects are: it is the budgets that are compared.
    let mut measures: Vec<_> = budgets
        .into_iter()
        .map(|budget| move || Ok(beside(budget, probes)))
        .collect();
    let mut subjects: Vec<(&str, &mut dyn FnMut() -> Result<Vec<Figure>, CaseError>)> = Vec::new();
    for measure in &mut measures {
        subjects.push(("ours", measure));
    }
    run.figures(run.effort.samples, &mut subjects)?;
    Ok(())
}
