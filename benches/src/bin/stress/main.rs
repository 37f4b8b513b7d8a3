//! Drives both executors from many threads at once, and checks that nothing is lost, doubled or reordered.
//!
//! Written for ThreadSanitizer: it uses no lock, channel or runtime of its own that the sanitizer
//! cannot see through, and its counters are relaxed, so that they order nothing that the executors
//! should have ordered. The streams' states are plain integers: if two handlers of a stream ever
//! overlapped, or one did not see what the one before wrote, that would be a race.

mod bursts;
mod check;
mod message;
mod producer;
mod round;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use executor_core::Shutdown;
use serde_json::json;

use crate::bursts::bursts;
use crate::round::{Shape, new_histogram, round};

/// How long one round takes; each has a core of its own, and ends it.
const ROUND: Duration = Duration::from_secs(2);
/// What a matrix combines: producers, workers and streams.
const PRODUCERS: [u16; 4] = [1, 2, 4, 16];
const WORKERS: [u16; 3] = [1, 2, 8];
const STREAMS: [u64; 4] = [1, 2, 64, 100_000];

/// Stresses the executors, and fails when anything is lost, doubled or reordered.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long to run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Streams that are kept by handle; four times as many are used by key and evicted.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    streams: u64,
    /// Threads that produce messages.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    producers: u16,
    /// Workers of the core.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Uses every combination of 1 to 16 producers, 1 to 8 workers and 1 to 100,000 streams instead,
    /// each once and then again while there is time; and measures the memory after bursts.
    #[arg(long)]
    matrix: bool,
    /// Writes the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The shapes of the rounds, and how long one takes.
fn shapes(arguments: &Arguments) -> (Vec<Shape>, Duration) {
    if !arguments.matrix {
        let shape = Shape {
            producers: arguments.producers,
            workers: arguments.workers,
            streams: arguments.streams,
        };
        return (vec![shape], ROUND);
    }
    let mut shapes = Vec::new();
    for producers in PRODUCERS {
        for workers in WORKERS {
            shapes.extend(STREAMS.map(|streams| Shape {
                producers,
                workers,
                streams,
            }));
        }
    }
    // Each twice: with a shutdown that drains, and with one that aborts.
    let each = Duration::from_secs(arguments.seconds) / (2 * shapes.len() as u32);
    (shapes, each.min(ROUND))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let end = start + Duration::from_secs(arguments.seconds);
    let (shapes, length) = shapes(&arguments);
    let mut violations = Vec::new();
    let mut stalls = new_histogram();
    let (mut rounds, mut messages) = (0, 0);
    let least = if arguments.matrix {
        2 * shapes.len()
    } else {
        1
    };
    while rounds < least || Instant::now() < end {
        let mode = if (rounds / shapes.len()).is_multiple_of(2) {
            Shutdown::Drain
        } else {
            Shutdown::Abort
        };
        let left = end.saturating_duration_since(Instant::now());
        let shape = shapes[rounds % shapes.len()];
        let length = if arguments.matrix {
            length
        } else {
            length.min(left)
        };
        let ended = round(shape, length, mode, rounds as u64);
        for violation in ended.violations {
            println!("VIOLATED by {shape:?}: {violation}");
            violations.push(violation);
        }
        messages += ended.messages;
        stalls.add(ended.stalls).expect("of one kind");
        rounds += 1;
    }
    let memory = if arguments.matrix {
        bursts(arguments.workers, &mut violations)
    } else {
        Vec::new()
    };
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let worst = micros(stalls.max());
    println!(
        "{rounds} rounds, {messages} messages; an outcome was waited for {:.1} us (median), {:.1} us (99.9 %), {worst:.1} us (most): {}",
        micros(stalls.value_at_quantile(0.5)),
        micros(stalls.value_at_quantile(0.999)),
        if violations.is_empty() {
            "nothing lost, doubled or reordered"
        } else {
            "FAILED"
        }
    );
    if !memory.is_empty() {
        println!("resident after each burst, in KiB: {memory:?}");
    }
    if let Some(path) = arguments.json {
        let figures = json!({
            "seconds": start.elapsed().as_secs_f64(),
            "rounds": rounds,
            "shapes": shapes.len(),
            "messages": messages,
            "violations": violations,
            "waits": stalls.len(),
            "wait_us": {
                "p50": micros(stalls.value_at_quantile(0.5)),
                "p99": micros(stalls.value_at_quantile(0.99)),
                "p999": micros(stalls.value_at_quantile(0.999)),
                "max": worst,
            },
            "resident_kib": memory,
        });
        if let Err(error) = std::fs::write(&path, format!("{figures:#}\n")) {
            eprintln!("stress: {} cannot be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
