//! Fails when a path that must not allocate does.
//!
//! Without the test harness, so that nothing runs beside the path that is being counted. Every
//! allocation of the process counts: a message that goes through a worker must not allocate there
//! either.

use std::process::ExitCode;

use executor_benches::allocator::{Counting, counted, traced};
use executor_benches::paths::{MESSAGES, PATHS, Path, Rig};
use executor_core::pool_metrics;

/// Rounds that are counted.
const COUNTED: usize = 16;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts one path; false: it allocated what it must not.
fn check(rig: &mut Rig, path: &Path) -> bool {
    path.warm_up(rig);
    let before = pool_metrics().oversized;
    let ((), counts) = counted(|| {
        for _ in 0..COUNTED {
            path.round(rig);
        }
    });
    let all = counts.allocations;
    let oversized = (pool_metrics().oversized - before) as u64;
    let messages = MESSAGES * COUNTED as u64;
    let expected = path.allocations * messages;
    let right = all == expected && oversized == expected;
    println!(
        "{:<40} {all:>6} for {messages} messages, {} on the caller, {oversized} oversized: {}",
        path.name,
        counts.here,
        if right { "ok" } else { "FAILED" }
    );
    if !right && expected == 0 {
        for trace in traced(|| path.round(rig)) {
            println!("{trace}");
        }
    }
    right
}

fn main() -> ExitCode {
    let mut rig = Rig::new();
    let mut right = true;
    for path in PATHS {
        right &= check(&mut rig, path);
    }
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
