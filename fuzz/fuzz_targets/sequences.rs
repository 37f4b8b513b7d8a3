//! Operations in any order on both executors, against their models.

#![no_main]

use std::iter;

use executor_scenarios::Host;
use executor_scenarios::sequences::{Op, play_parallel, play_serial};
use libfuzzer_sys::fuzz_target;

/// More operations find no more, and the models look at every message after each.
const MOST: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let ops: Vec<_> = iter::from_fn(|| Op::read(&mut bytes)).take(MOST).collect();
    play_serial(&ops, &Host::Threads(2));
    play_parallel(&ops, &Host::Threads(2));
});
