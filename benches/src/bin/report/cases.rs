//! The table of cases: what is measured, and what is to be reached.

use executor_core::DEFAULT_BUDGET;

use crate::engine::{CaseError, Run};
use crate::goal::{Goal, NO_ALLOCATION, at_least, at_most, ns};
use crate::row::Rows;
use crate::{
    case_budget, case_bursts, case_context, case_latency, case_limits, case_memory, case_producers,
    case_serial, case_streams, case_tasks, case_timers, case_wakes,
};

/// One case.
pub(crate) struct Case {
    pub(crate) number: u8,
    pub(crate) slug: &'static str,
    pub(crate) title: &'static str,
    pub(crate) goals: &'static [Goal],
    pub(crate) run: fn(&mut Run<'_>) -> Result<(), CaseError>,
}

impl Case {
    /// Two digits and the slug.
    pub(crate) fn name(&self) -> String {
        format!("{:02}-{}", self.number, self.slug)
    }

    /// Whether it is meant by its number or by its name.
    pub(crate) fn is_called(&self, wanted: &str) -> bool {
        wanted.parse() == Ok(self.number) || wanted == self.slug || wanted == self.name()
    }
}

/// The least figure of these subjects in a set.
fn best(rows: Rows<'_>, subjects: &[&str], set: &str) -> Option<f64> {
    let figures = subjects.iter().filter_map(|name| rows.figure(name, set));
    figures.reduce(f64::min)
}

/// What answers from behind a queue.
const MAILBOXES: [&str; 5] = [
    "tokio-mpsc-oneshot",
    "ractor",
    "kameo",
    "actix",
    "go-channels",
];
/// What spawns, and waits for what it spawned.
const SPAWNERS: [&str; 5] = [
    "tokio-spawn",
    "tokio-spawn-from-outside",
    "async-executor",
    "rayon-scope",
    "go-goroutines",
];

/// How many times dearer than ours the best spawner is, where it is least so.
fn least_lead(rows: Rows<'_>) -> Option<f64> {
    let leads = rows
        .0
        .iter()
        .filter(|row| row.subject == "ours")
        .map(|row| {
            let set = row.set();
            Some(best(rows, &SPAWNERS, &set)? / row.figure()?)
        });
    leads
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .reduce(f64::min)
}

/// What a subject of case 20 takes more than a handler that ignores its context.
fn above_none(rows: Rows<'_>, subject: &str) -> Option<f64> {
    Some(rows.figure(subject, "")? - rows.figure("ours", "")?)
}

/// The dearest of the bursts that are longer than the shortest.
fn longer_bursts(rows: Rows<'_>) -> Option<f64> {
    let ours = rows.0.iter().filter(|row| row.subject == "ours");
    let longer = ours.filter(|row| row.set() != "burst=64");
    longer.filter_map(|row| row.figure()).reduce(f64::max)
}

/// How much dearer the default budget is than the cheapest one.
fn default_budget(rows: Rows<'_>) -> Option<f64> {
    let throughput = "figure=throughput";
    let least = rows.0.iter().filter(|row| row.set().contains(throughput));
    let least = least.filter_map(|row| row.figure()).reduce(f64::min)?;
    let set = format!("{throughput} budget={DEFAULT_BUDGET}");
    Some(rows.figure("ours", &set)? / least)
}

macro_rules! case {
    ($number:literal, $slug:literal, $title:literal, $run:path, [$($goal:expr),* $(,)?]) => {
        Case {
            number: $number,
            slug: $slug,
            title: $title,
            goals: &[$($goal),*],
            run: $run,
        }
    };
}

/// All cases, in the order of their numbers.
pub(crate) const CASES: &[Case] = &[
    case!(
        1,
        "parallel-execute",
        "Parallel execute, a ready handler, uncontended",
        case_limits::ready,
        [
            ns("ours", 8.0, |rows| rows.figure("ours", "")),
            NO_ALLOCATION,
            at_most("ours to tokio's acquire", 0.4, "times", |rows| {
                rows.ratio(("ours", ""), ("tokio-semaphore", ""))
            }),
        ]
    ),
    case!(
        2,
        "parallel-execute-threads",
        "The same on two threads with one executor, per operation of both together",
        case_limits::two_threads,
        [
            ns("ours on two threads", 4.0, |rows| {
                rows.figure("ours", "threads=2")
            }),
            at_least("one thread to two", 1.7, |rows| {
                rows.ratio(("ours", "threads=1"), ("ours", "threads=2"))
            }),
        ]
    ),
    case!(
        3,
        "parallel-execute-pending",
        "Parallel execute, a handler that yields once, and one that waits for a permit",
        case_limits::pending,
        [NO_ALLOCATION]
    ),
    case!(
        4,
        "parallel-joined",
        "Parallel, 1,000 submitted and joined",
        case_limits::joined,
        [
            ns("ours", 25.0, |rows| rows.figure("ours", "")),
            NO_ALLOCATION
        ]
    ),
    case!(
        5,
        "serial-execute-idle",
        "Serial execute on an idle stream; ours runs on its caller",
        case_serial::idle,
        [
            ns("by handle", 14.0, |rows| rows.figure("ours", "")),
            ns("by key of 1,000", 30.0, |rows| {
                rows.figure("ours:by-key", "keys=1000")
            }),
            at_most(
                "by key of 1,000,000 to the bare look-up",
                1.3,
                "times",
                |rows| {
                    let set = "keys=1000000";
                    rows.ratio(("ours:by-key", set), ("floor:look-up", set))
                }
            ),
            NO_ALLOCATION,
            at_most(
                "allocations by key, an operation",
                0.001,
                "allocations",
                |rows| { rows.allocations("ours:by-key") }
            ),
            at_least("best mailbox to ours", 10.0, |rows| {
                Some(best(rows, &MAILBOXES, "")? / rows.figure("ours", "")?)
            }),
        ]
    ),
    case!(
        6,
        "serial-execute-handed-over",
        "Serial execute with inlining off",
        case_serial::handed_over,
        [
            ns("on a runtime thread", 300.0, |rows| {
                rows.figure("ours:no-inline", "caller=runtime-thread")
            }),
            at_most(
                "from a foreign thread while all sleep, to a futex ping-pong",
                1.2,
                "times",
                |rows| {
                    let set = "caller=foreign-thread-all-asleep";
                    rows.ratio(("ours:no-inline", set), ("floor:futex-ping-pong", set))
                }
            ),
            ns(
                "from a foreign thread while the worker is awake",
                700.0,
                |rows| { rows.figure("ours:no-inline", "caller=foreign-thread-worker-awake") }
            ),
        ]
    ),
    case!(
        7,
        "serial-submit-all",
        "One stream, N submitted, then all awaited",
        case_streams::one,
        [
            ns("ours, 100", 25.0, |rows| rows
                .figure("ours", "messages=100")),
            ns("ours, 10,000", 25.0, |rows| {
                rows.figure("ours", "messages=10000")
            }),
            ns("ours, 100,000", 25.0, |rows| {
                rows.figure("ours", "messages=100000")
            }),
            ns("ours, 1,000,000", 70.0, |rows| {
                rows.figure("ours", "messages=1000000")
            }),
            NO_ALLOCATION,
        ]
    ),
    case!(
        8,
        "serial-streams",
        "Streams and messages, each awaited in turn",
        case_streams::many,
        [
            ns("ours, 10 streams of 10,000", 20.0, |rows| {
                rows.figure("ours", "streams=10 messages=10000 workers=2")
            }),
            at_least("one worker to two, 10 streams of 10,000", 1.8, |rows| {
                let set = |workers| ("ours", workers);
                rows.ratio(
                    set("streams=10 messages=10000 workers=1"),
                    set("streams=10 messages=10000 workers=2"),
                )
            }),
        ]
    ),
    case!(
        9,
        "spawn",
        "Tasks spawned, and all awaited",
        case_tasks::spawn,
        [
            ns("ours, 10,000", 45.0, |rows| rows
                .figure("ours", "tasks=10000")),
            ns("ours, 100,000", 30.0, |rows| rows
                .figure("ours", "tasks=100000")),
            ns("ours, 1,000,000", 70.0, |rows| {
                rows.figure("ours", "tasks=1000000")
            }),
            ns("ours, 10,000,000", 70.0, |rows| {
                rows.figure("ours", "tasks=10000000")
            })
            .slow(),
            at_least("best peer to ours, at each size", 2.0, least_lead),
        ]
    ),
    case!(
        10,
        "producers",
        "Producers submit to one stream; the submitting side is measured (Go's channel is bounded at 1,024, so its producers wait for room; no other is)",
        case_producers::submit,
        [
            ns("ours, with any number of producers", 25.0, |rows| {
                rows.worst("ours")
            }),
            at_most(
                "worst number of producers to the best",
                1.4,
                "times",
                |rows| { rows.spread("ours") }
            ),
        ]
    ),
    case!(
        11,
        "bursts",
        "A burst submitted, then awaited",
        case_bursts::bursts,
        [
            ns("ours, 64", 40.0, |rows| rows.figure("ours", "burst=64")),
            ns("ours, longer bursts", 25.0, longer_bursts),
        ]
    ),
    case!(
        12,
        "budget",
        "Messages of one stream in a row, on one worker: the throughput of two busy streams, and the waits of another beside one",
        case_budget::budget,
        [at_most(
            "throughput of the default to the best",
            1.1,
            "times",
            default_budget
        )]
    ),
    case!(
        13,
        "continuous",
        "Four producers, to full drain",
        case_producers::continuous,
        [ns("ours", 30.0, |rows| rows.figure("ours", "producers=4"))]
    ),
    case!(
        14,
        "mixed",
        "Half in one burst, half as single round trips",
        case_bursts::mixed,
        [
            ns("ours, on its caller", 150.0, |rows| rows.worst("ours")),
            ns("ours with inlining off", 560.0, |rows| {
                rows.worst("ours:no-inline")
            }),
        ]
    ),
    case!(
        15,
        "callbacks",
        "A chain of tasks, each of which submits the next, from the first to the last; and tasks queued before the first runs",
        case_tasks::chain,
        [
            ns("ours, chain of 1,000", 25.0, |rows| {
                rows.figure("ours", "chain=1000")
            }),
            at_most("chain of 100,000 to 1,000", 1.1, "times", |rows| {
                rows.ratio(("ours", "chain=100000"), ("ours", "chain=1000"))
            }),
        ]
    ),
    case!(
        16,
        "timers",
        "Timers with delays of 0 to 9 ms; firing is measured beyond the 9 ms that nobody can save",
        case_timers::timers,
        [
            ns("schedule alone, an hour away, 100,000", 40.0, |rows| {
                rows.figure("ours", "timers=100000 figure=schedule-alone")
            }),
            ns("schedule and fire, 100,000", 80.0, |rows| {
                rows.figure("ours", "timers=100000 figure=schedule-and-fire")
            }),
            ns("cancel, 100,000", 40.0, |rows| {
                rows.figure("ours", "timers=100000 figure=cancel")
            }),
            at_most("lateness p99, 100,000", 1_500.0, "us", |rows| {
                rows.figure("ours", "timers=100000 figure=lateness-p99")
            }),
            at_most("early, 100,000", 0.0, "timers", |rows| {
                rows.figure("ours", "timers=100000 figure=early")
            }),
        ]
    ),
    case!(
        17,
        "wake-ups",
        "Calls that wake or wait (futex, write, epoll, sched_yield) of a thread that submits",
        case_wakes::wakes,
        [
            at_most(
                "calls that wake or wait, 1,000,000 submits to a busy worker",
                0.0,
                "calls",
                |rows| { rows.figure("ours", "workers=busy") }
            ),
            at_most(
                "calls that wake or wait, a burst of 100 to sleeping workers",
                2.0,
                "calls",
                |rows| { rows.figure("ours", "workers=asleep") }
            ),
        ]
    ),
    case!(
        18,
        "memory",
        "Memory of a stream with a u64 key, all included",
        case_memory::memory,
        [
            at_most("idle", 128.0, "bytes", |rows| {
                rows.figure("ours", "figure=idle-stream")
            }),
            at_most("evicted", 0.0, "bytes", |rows| {
                rows.figure("ours", "figure=evicted-stream")
            }),
            at_most("1,000,000 resident", 150.0, "MB", |rows| {
                rows.figure("ours", "figure=million-streams")
            }),
        ]
    ),
    case!(
        19,
        "latency",
        "Waits of messages that arrive at random, with and without a hot stream beside them; a load of 50 is half of what the slowest subject can do, the same for all: a message every `gap_ns` on average; `late` is how late messages were sent, part of their waits",
        case_latency::under_load,
        [
            at_most(
                "p99.9 at 50 % with a hot stream, to without",
                2.0,
                "times",
                |rows| {
                    let with = "load=50 keys=uniform hot=true figure=p99.9";
                    let without = "load=50 keys=uniform hot=false figure=p99.9";
                    rows.ratio(("ours", with), ("ours", without))
                }
            ),
            at_most(
                "p99.9 at 50 % with a hot stream, to with a busy thread of somebody else",
                2.0,
                "times",
                |rows| {
                    let with = "load=50 keys=uniform hot=true figure=p99.9";
                    rows.ratio(("ours", with), ("floor:busy-thread", with))
                }
            )
        ]
    ),
    case!(
        20,
        "context",
        "The context of a message: ignored, empty, three decisions, five policies",
        case_context::policies,
        [
            ns("empty, above none", 5.0, |rows| {
                above_none(rows, "ours:empty")
            }),
            ns("three decisions, above none", 60.0, |rows| {
                above_none(rows, "ours:3-decisions")
            }),
            ns("five policies, above none", 60.0, |rows| {
                above_none(rows, "ours:5-policies")
            }),
            at_most(
                "allocations of five policies",
                0.001,
                "allocations",
                |rows| { rows.allocations("ours:5-policies") }
            ),
            at_most(
                "allocations of three decisions",
                0.001,
                "allocations",
                |rows| { rows.allocations("ours:3-decisions") }
            ),
            NO_ALLOCATION,
        ]
    ),
    case!(
        21,
        "envelope",
        "An envelope with id and time: a fresh one, and one made from a handler's context",
        case_context::envelopes,
        [
            ns("fresh", 10.0, |rows| rows.figure("ours", "")),
            ns("from a context", 15.0, |rows| {
                rows.figure("ours:from-context", "")
            }),
            NO_ALLOCATION,
        ]
    ),
];
