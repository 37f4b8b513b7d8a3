//! Cases 20 and 21: what a handler is given, and what a message is given.

use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;

use executor_bench_peers::{WORKERS, identity, sum_below};
use executor_benches::{block_on, echo_decided};
use executor_core::{Envelope, PolicyContext, WorkerCore};
use executor_serial::{SerialExecutor, Stream};

use crate::callers::execute_each;
use crate::engine::{CaseError, Run, Subject};
use crate::row::params;

/// Messages of a round.
const MESSAGES: u64 = 10_000;

fn stream(core: &WorkerCore) -> Stream<u64> {
    let executor = SerialExecutor::<u64>::builder(core).build();
    executor.expect("the options are legal").stream(&0)
}

async fn none(message: Envelope<u64>, _: PolicyContext) -> Result<u64, Infallible> {
    Ok(message.payload)
}

async fn empty(message: Envelope<u64>, context: PolicyContext) -> Result<u64, Infallible> {
    Ok(message.payload + black_box(context.finish()).len() as u64)
}

/// Five policies, of which those that match are recorded.
async fn five(message: Envelope<u64>, mut context: PolicyContext) -> Result<u64, Infallible> {
    let policies = [
        ("limit", message.payload < MESSAGES),
        ("flag", message.has_flag(1)),
        ("region", message.payload != u64::MAX),
        ("attempt", context.attempt() == 1),
        ("retry", !context.is_cancelled()),
    ];
    for (rule, matched) in policies {
        context.decide(rule, black_box(matched), "as the policy says");
    }
    let matched = context.trail().matched().count() as u64;
    drop(context);
    Ok(message.payload + matched - 5)
}

pub(crate) fn policies(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let stream = stream(&core);
    let expected = sum_below(MESSAGES);
    let flagged = |message| Envelope::new(message).with_flag(1);
    run.compare(
        &params! {},
        vec![
            Subject::all("ours", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| stream
                    .execute(Envelope::new(message), none)))
            }),
            Subject::all("ours:empty", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| stream
                    .execute(Envelope::new(message), empty)))
            }),
            Subject::all("ours:3-decisions", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| stream
                    .execute(Envelope::new(message), echo_decided)))
            }),
            Subject::all("ours:5-policies", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| stream.execute(flagged(message), five)))
            }),
        ],
    )
}

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// An id from the thread's counter and the time of the coarse clock, and nothing else.
fn bare(messages: u64) -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let mut sum = 0;
    for message in 0..messages {
        let id = LAST.get() + 1;
        LAST.set(id);
        let time = clock_gettime(ClockId::RealtimeCoarse);
        black_box((id, time.tv_sec, time.tv_nsec));
        sum += message;
    }
    sum
}

pub(crate) fn envelopes(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let stream = stream(&core);
    let expected = sum_below(MESSAGES);
    // All children are made in one handler, so that nothing but them is measured.
    let children = || {
        let handler = |_: Envelope<()>, context: PolicyContext| async move {
            let mut sum = 0;
            for message in 0..MESSAGES {
                sum += black_box(context.envelope(black_box(message))).payload;
            }
            Ok::<_, Infallible>(sum)
        };
        block_on(stream.execute(Envelope::new(()), handler)).expect("it is handled")
    };
    run.compare(
        &params! {},
        vec![
            Subject::all("ours", MESSAGES, expected, || {
                let mut sum = 0;
                for message in 0..MESSAGES {
                    sum += black_box(Envelope::new(black_box(message))).payload;
                }
                sum
            }),
            Subject::all("ours:from-context", MESSAGES, expected, children),
            Subject::all("uuid-now-v7", MESSAGES, expected, || {
                identity::uuids(MESSAGES)
            }),
            Subject::all("system-time-now", MESSAGES, expected, || {
                identity::times(MESSAGES)
            }),
            Subject::all("floor:counter-and-coarse-clock", MESSAGES, expected, || {
                bare(MESSAGES)
            }),
        ],
    )
}
