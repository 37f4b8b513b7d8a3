//! Case 19: how long messages wait when they arrive at random times.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use executor_bench_peers::latency::{Arrivals, TokioActors, microsecond};
use executor_bench_peers::{WORKERS, workers};
use executor_core::{Envelope, WorkerCore};
use executor_serial::SerialExecutor;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::callers::heat;
use crate::engine::{CaseError, Figure, Run};
use crate::keys::{Numbers, uniform, zipf};
use crate::row::{Params, params};

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

struct Ours {
    executor: SerialExecutor<u64>,
    arrivals: Arc<Arrivals>,
    hot: Arc<AtomicBool>,
}

impl Target for Ours {
    const NAME: &'static str = "ours";

    fn send(&self, key: u32, message: usize) {
        let arrivals = Arc::clone(&self.arrivals);
        let handler = move |message: Envelope<usize>, _| async move {
            arrivals.note(message.payload);
            Ok::<_, Infallible>(())
        };
        let envelope = Envelope::new(message);
        let submitted = self.executor.submit(u64::from(key), envelope, handler);
        drop(submitted.expect("there is room"));
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
struct Load {
    /// Of what it can do, 0 to 1.
    share: f64,
    zipf: bool,
    hot: bool,
}

impl Load {
    fn params(self, figure: &str) -> Params {
        let keys = if self.zipf { "zipf" } else { "uniform" };
        params! {
            "load": (self.share * 100.0) as u64,
            "keys": keys,
            "hot": self.hot,
            "figure": figure,
        }
    }
}

fn sample<T: Target>(target: &T, arrivals: &Arrivals, load: Load, messages: usize) -> Vec<Figure> {
    let keys = if load.zipf {
        zipf(KEYS, messages, 1)
    } else {
        uniform(KEYS, messages, 1)
    };
    // What it can do: everything at once, and the time until all is handled.
    let send = |message: usize| target.send(keys[message], message);
    let (_, took) = arrivals.drive(std::iter::repeat(0.0), send);
    let capacity = took.as_nanos() as f64 / messages as f64;
    if load.hot {
        target.heat_up();
    }
    let mut numbers = Numbers::new(2);
    let gaps = std::iter::repeat_with(|| numbers.gap(capacity / load.share));
    let (waits, _) = arrivals.drive(gaps, send);
    target.cool_down();
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 3).expect("legal bounds");
    for wait in waits {
        histogram.saturating_record(wait);
    }
    let at = |name: &str, quantile| Figure {
        params: load.params(name),
        unit: "us",
        value: histogram.value_at_quantile(quantile) as f64 / 1e3,
    };
    vec![
        Figure {
            params: load.params("capacity"),
            unit: "ns",
            value: capacity,
        },
        at("p50", 0.5),
        at("p90", 0.9),
        at("p99", 0.99),
        at("p99.9", 0.999),
    ]
}

pub(crate) fn under_load(run: &mut Run<'_>) -> Result<(), CaseError> {
    let messages = run.pick(&[50_000], &[200_000])[0];
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let runtime = workers();
    let arrivals = Arrivals::of(messages);
    let executor = SerialExecutor::<u64>::builder(&core).queue_per_stream(messages);
    let ours = Ours {
        executor: executor.build().expect("the options are legal"),
        arrivals: Arc::clone(&arrivals),
        hot: Arc::default(),
    };
    let tokio = Tokio {
        actors: TokioActors::start(&runtime, KEYS, &arrivals),
        runtime: &runtime,
    };
    for hot in [false, true] {
        for zipf in [false, true] {
            for share in [0.5, 0.9] {
                let load = Load { share, zipf, hot };
                let samples = run.effort.samples;
                let mut of_ours = || Ok(sample(&ours, &arrivals, load, messages));
                let mut of_tokio = || Ok(sample(&tokio, &arrivals, load, messages));
                let beside = BesideThread {
                    ours: &ours,
                    thread: Cell::default(),
                };
                let mut of_thread = || Ok(sample(&beside, &arrivals, load, messages));
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
