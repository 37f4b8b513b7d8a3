//! Case 19: how long messages wait when they arrive at random times.
//!
//! The rates are the same for everybody, and such that nobody is asked for more than it can do.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use executor_bench_peers::latency::{Arrivals, TokioActors, microsecond};
use executor_bench_peers::{WORKERS, workers};
use executor_core::{Envelope, PolicyContext, WorkerCore};
use executor_serial::SerialExecutor;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::callers::heat;
use crate::engine::{CaseError, Figure, Run};
use crate::keys::{Numbers, uniform, zipf};
use crate::row::{Params, Row, params};

/// Streams that messages arrive for.
const KEYS: u32 = 1_000;
/// Longest wait that is told apart, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// Somebody that messages are sent to.
trait Target {
    const NAME: &'static str;

    fn send(&self, key: u32, message: usize);

    /// Keeps one more stream busy with messages of a microsecond.
    fn heat_up(&self);

    fn cool_down(&self);
}

async fn note(
    message: Envelope<usize>,
    mut context: PolicyContext<Arc<Arrivals>>,
) -> Result<(), Infallible> {
    context.state().note(message.payload);
    Ok(())
}

struct Ours {
    /// A stream's state is where it notes what it handled, as an actor has it.
    executor: SerialExecutor<u64, Arc<Arrivals>>,
    hot: Arc<AtomicBool>,
}

impl Target for Ours {
    const NAME: &'static str = "ours";

    fn send(&self, key: u32, message: usize) {
        let envelope = Envelope::new(message);
        let submitted = self
            .executor
            .submit_detached(u64::from(key), envelope, note);
        submitted.expect("there is room");
    }

    fn heat_up(&self) {
        self.hot.store(true, Ordering::Relaxed);
        heat(
            &self.executor.stream(&u64::from(KEYS)),
            &self.hot,
            microsecond,
        );
    }

    fn cool_down(&self) {
        self.hot.store(false, Ordering::Relaxed);
    }
}

/// The same beside a thread that the executor knows nothing of, in place of a hot stream: what becomes of
/// the waits where there are more busy threads than processors.
struct BesideThread<'a> {
    ours: &'a Ours,
    thread: Cell<Option<JoinHandle<()>>>,
}

impl Target for BesideThread<'_> {
    const NAME: &'static str = "floor:busy-thread";

    fn send(&self, key: u32, message: usize) {
        self.ours.send(key, message);
    }

    fn heat_up(&self) {
        let hot = Arc::clone(&self.ours.hot);
        hot.store(true, Ordering::Relaxed);
        let work = move || {
            while hot.load(Ordering::Relaxed) {
                microsecond();
            }
        };
        self.thread.set(Some(thread::spawn(work)));
    }

    fn cool_down(&self) {
        self.ours.cool_down();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.expect("it does not panic");
    }
}

struct Tokio<'a> {
    actors: TokioActors,
    runtime: &'a Runtime,
}

impl Target for Tokio<'_> {
    const NAME: &'static str = "tokio-mpsc-task";

    fn send(&self, key: u32, message: usize) {
        self.actors.send(key, message);
    }

    fn heat_up(&self) {
        self.actors.heat_up(self.runtime);
    }

    fn cool_down(&self) {
        self.actors.cool_down();
    }
}

/// What arrives, and beside what.
#[derive(Debug, Clone, Copy)]
struct Load<'a> {
    keys: &'a Keys,
    /// In hundredths of what the slowest can do.
    percent: u32,
    /// From one message to the next on average, in nanoseconds.
    gap: f64,
    hot: bool,
}

impl Load<'_> {
    fn params(self, figure: &str) -> Params {
        params! {
            "load": self.percent,
            "keys": self.keys.name,
            "gap_ns": self.gap.round() as u64,
            "hot": self.hot,
            "figure": figure,
        }
    }
}

/// The key of each message.
#[derive(Debug)]
struct Keys {
    name: &'static str,
    of: Vec<u32>,
}

/// What it can do: everything at once, and the time until all is handled.
fn capacity<T: Target>(target: &T, arrivals: &Arrivals, keys: &Keys) -> Vec<Figure> {
    let send = |message: usize| target.send(keys.of[message], message);
    let took = arrivals.drive(std::iter::repeat(0.0), send).took;
    vec![Figure {
        params: params! { "keys": keys.name, "figure": "capacity" },
        unit: "ns",
        value: took.as_nanos() as f64 / keys.of.len() as f64,
        zero: false,
    }]
}

fn sample<T: Target>(target: &T, arrivals: &Arrivals, load: Load<'_>) -> Vec<Figure> {
    if load.hot {
        target.heat_up();
    }
    let mut numbers = Numbers::new(2);
    let gaps = std::iter::repeat_with(|| numbers.gap(load.gap));
    let send = |message: usize| target.send(load.keys.of[message], message);
    let driven = arrivals.drive(gaps, send);
    target.cool_down();
    let [waits, late] = [driven.waits, driven.late].map(|times| {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 3).expect("legal bounds");
        times
            .into_iter()
            .for_each(|time| histogram.saturating_record(time));
        histogram
    });
    let at = |name: &str, of: &Histogram<u64>, quantile| Figure {
        params: load.params(name),
        unit: "us",
        value: of.value_at_quantile(quantile) as f64 / 1e3,
        zero: false,
    };
    vec![
        at("p50", &waits, 0.5),
        at("p90", &waits, 0.9),
        at("p99", &waits, 0.99),
        at("p99.9", &waits, 0.999),
        // Of these waits, for who sends rather than for who handles.
        at("late-p50", &late, 0.5),
        at("late-p99.9", &late, 0.999),
    ]
}

pub(crate) fn under_load(run: &mut Run<'_>) -> Result<(), CaseError> {
    let messages = run.pick(&[50_000], &[200_000])[0];
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let runtime = workers();
    let arrivals = Arrivals::of(messages);
    let noted = Arc::clone(&arrivals);
    let executor = SerialExecutor::<u64>::builder(&core)
        .queue_per_stream(messages)
        .state(move |_| Arc::clone(&noted));
    let ours = Ours {
        executor: executor.build().expect("the options are legal"),
        hot: Arc::default(),
    };
    let tokio = Tokio {
        actors: TokioActors::start(&runtime, KEYS, &arrivals),
        runtime: &runtime,
    };
    let beside = BesideThread {
        ours: &ours,
        thread: Cell::default(),
    };
    let samples = run.effort.samples;
    for (name, of) in [
        ("uniform", uniform(KEYS, messages, 1)),
        ("zipf", zipf(KEYS, messages, 1)),
    ] {
        let keys = Keys { name, of };
        let first = run.rows.len();
        run.figures(
            samples,
            &mut [
                (Ours::NAME, &mut || Ok(capacity(&ours, &arrivals, &keys))),
                (Tokio::NAME, &mut || Ok(capacity(&tokio, &arrivals, &keys))),
            ],
        )?;
        let capacities = run.rows[first..].iter().filter_map(Row::figure);
        let slowest = capacities.fold(0.0, f64::max);
        for hot in [false, true] {
            for percent in [50, 90] {
                let load = Load {
                    keys: &keys,
                    percent,
                    gap: slowest * 100.0 / f64::from(percent),
                    hot,
                };
                let mut of_ours = || Ok(sample(&ours, &arrivals, load));
                let mut of_tokio = || Ok(sample(&tokio, &arrivals, load));
                let mut of_thread = || Ok(sample(&beside, &arrivals, load));
                let mut subjects: Vec<(&str, &mut dyn FnMut() -> Result<Vec<Figure>, CaseError>)> =
                    vec![(Ours::NAME, &mut of_ours), (Tokio::NAME, &mut of_tokio)];
                if hot {
                    subjects.push((BesideThread::NAME, &mut of_thread));
                }
                run.figures(samples, &mut subjects)?;
            }
        }
    }
    Ok(())
}
