//! Memory after bursts: what the tenth leaves behind is no more than what the first did.

use std::convert::Infallible;
use std::time::Duration;

use executor_benches::block_on;
use executor_core::{Envelope, Shutdown, WorkerCore};
use executor_serial::SerialExecutor;

use crate::check::{Violations, expect};
use crate::round::PATIENCE;

/// How many bursts there are.
const BURSTS: usize = 10;
/// Messages of a burst.
const MESSAGES: u64 = 200_000;
/// Streams of a burst, which are evicted after it.
const STREAMS: u64 = 1_000;
/// How much more memory there may be after the last burst than after the first, in percent.
const MORE: u64 = 5;

/// Resident memory of the process, in kibibytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Sends the bursts; gives the resident memory after each, in kibibytes, where it can be read.
pub(crate) fn bursts(workers: u16, violations: &mut Violations) -> Vec<u64> {
    let core = WorkerCore::threads(usize::from(workers)).build();
    let core = core.expect("threads start");
    let executor = SerialExecutor::<u64>::builder(&core).build();
    let executor = executor.expect("the options are legal");
    let mut after = Vec::new();
    for burst in 0..BURSTS {
        let mut completions = Vec::with_capacity(MESSAGES as usize);
        for number in 0..MESSAGES {
            let echo =
                |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
            let submitted = executor.submit(number % STREAMS, Envelope::new(number), echo);
            completions.push(submitted.expect("a plain thread waits for room"));
        }
        let mut wrong = 0_u64;
        for (number, completion) in (0..).zip(completions) {
            wrong += u64::from(block_on(completion).ok() != Some(number));
        }
        expect(violations, wrong == 0, || {
            format!("{wrong} outcomes of burst {burst} were not what was sent")
        });
        let report = block_on(executor.drain(PATIENCE));
        expect(violations, report.is_complete(), || format!("{report:?}"));
        executor.evict_idle();
        // What a burst has left in the pools goes back when the workers lie down.
        std::thread::sleep(Duration::from_millis(50));
        after.extend(resident());
    }
    if let (Some(first), Some(last)) = (after.first(), after.last()) {
        expect(violations, last * 100 <= first * (100 + MORE), || {
            format!("{first} KiB after the first burst, {last} KiB after the last")
        });
    }
    let report = block_on(core.shutdown(Shutdown::Drain, PATIENCE));
    expect(violations, report.is_complete(), || format!("{report:?}"));
    after
}
