//! Times every path, and prints nanoseconds for each message, one path in a line.
//!
//! It is one sample: `compare-commits` runs it in turn with that of another commit.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use executor_benches::paths::{MESSAGES, PATHS, Path, Rig};

/// Rounds of a path, of which the shortest counts: what disturbs a round only makes it longer.
const ROUNDS: u32 = 20;

fn shortest(rig: &mut Rig, path: &Path) -> Duration {
    path.warm_up(rig);
    let mut shortest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        path.round(rig);
        shortest = shortest.min(start.elapsed());
    }
    shortest
}

fn main() -> ExitCode {
    let mut rig = Rig::new();
    let mut out = io::stdout().lock();
    for path in PATHS {
        let each = shortest(&mut rig, path).as_nanos() as f64 / MESSAGES as f64;
        if writeln!(out, "{}\t{each}", path.name).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
