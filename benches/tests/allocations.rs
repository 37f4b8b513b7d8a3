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

/// Counts one path; what it allocated that it must not, and where.
fn check(rig: &mut Rig, path: &Path) -> Result<(), String> {
    path.warm_up(rig);
    let before = pool_metrics().oversized;
    let rounds = || {
        for _ in 0..COUNTED {
            path.round(rig);
        }
    };
    // Where they come from is of use where there should be none.
    let (counts, traces) = if path.allocations == 0 {
        traced(rounds)
    } else {
        (counted(rounds).1, Vec::new())
    };
    let all = counts.allocations;
    let oversized = (pool_metrics().oversized - before) as u64;
    let expected = path.allocations * MESSAGES * COUNTED as u64;
    let right = all == expected && oversized == expected;
    let said = format!(
        "{:<40} {all:>6} in {COUNTED} rounds, {} on the caller, {oversized} oversized",
        path.name, counts.here,
    );
    println!("{said}: {}", if right { "ok" } else { "FAILED" });
    if right {
        return Ok(());
    }
    Err(format!("{said}, not {expected}\n{}", traces.join("\n")))
}

fn main() -> ExitCode {
    let mut rig = Rig::new();
    let checked = PATHS.iter().map(|path| check(&mut rig, path));
    let failed: Vec<_> = checked.filter_map(Result::err).collect();
    // Last, where it is seen.
    for failure in &failed {
        eprintln!("{failure}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}
