//! Cases 10 and 13: many producers, one stream.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use executor_bench_peers::channels::Channel;
use executor_bench_peers::{Round, WORKERS, sum_below, team, workers};
use executor_benches::block_on;
use executor_core::{Envelope, PolicyContext, WorkerCore};
use executor_serial::{SerialExecutor, Stream};

use crate::engine::{CaseError, Figure, Run, Subject};
use crate::floors::TakeAll;
use crate::outside;
use crate::row::params;

/// Messages of a round, over all producers; a multiple of every count of them.
const MESSAGES: u64 = 128 * 1_024;
/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_micros(100);

async fn add(message: Envelope<u64>, mut context: PolicyContext<u64>) -> Result<(), Infallible> {
    *context.state() += message.payload;
    Ok(())
}

/// Takes the sum of everything admitted before.
fn total(stream: &Stream<u64, u64>) -> u64 {
    let take = |_: Envelope<()>, mut context: PolicyContext<u64>| async move {
        Ok::<_, Infallible>(std::mem::take(context.state()))
    };
    block_on(stream.execute(Envelope::new(()), take)).expect("it is handled")
}

/// Submits messages whose results nobody wants, as the channels' messages have none.
fn submit_all(stream: &Stream<u64, u64>, messages: u64) -> u64 {
    for message in 0..messages {
        let submitted = stream.submit_detached(Envelope::new(message), add);
        submitted.expect("there is room");
    }
    0
}

/// The same with completions, which are dropped.
fn submit_and_drop(stream: &Stream<u64, u64>, messages: u64) -> u64 {
    for message in 0..messages {
        let submitted = stream.submit(Envelope::new(message), add);
        drop(submitted.expect("there is room"));
    }
    0
}

fn stream(core: &WorkerCore, room: u64) -> Stream<u64, u64> {
    let executor = SerialExecutor::<u64>::builder(core)
        .queue_per_stream(room as usize)
        .state(|_| 0);
    executor.build().expect("the options are legal").stream(&0)
}

fn channels(runtime: &tokio::runtime::Runtime) -> [Channel; 4] {
    [
        Channel::tokio(runtime),
        Channel::crossbeam(),
        Channel::flume(),
        Channel::kanal(),
    ]
}

pub(crate) fn submit(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let stream = stream(&core, 2 * MESSAGES);
    let (runtime, floor) = (workers(), TakeAll::new(MESSAGES));
    let quick = [1, 2, 4, 8, 16, 32];
    for producers in run.pick(&quick, &quick) {
        let each = MESSAGES / producers as u64;
        let expected = producers as u64 * sum_below(each);
        let mut subjects = vec![
            Subject::new("ours", MESSAGES, expected, || {
                let round = team::together(producers, |_| submit_all(&stream, each));
                Round {
                    sum: total(&stream),
                    ..round
                }
            }),
            Subject::new("ours:dropped-completion", MESSAGES, expected, || {
                let round = team::together(producers, |_| submit_and_drop(&stream, each));
                Round {
                    sum: total(&stream),
                    ..round
                }
            }),
            Subject::new("floor:take-all-list", MESSAGES, expected, || {
                floor.produce(producers)
            }),
        ];
        for channel in channels(&runtime) {
            let name = channel.name;
            subjects.push(Subject::new(name, MESSAGES, expected, move || {
                let round = team::together(producers, |_| {
                    channel.send_all(each);
                    0
                });
                Round {
                    sum: channel.total(),
                    ..round
                }
            }));
        }
        // Bounded at 1,024, as Go has no unbounded channel: its producers also wait for the consumer.
        let (line, go) = (format!("produce {producers} {each}"), &run.outside.go);
        subjects.extend(outside::subject(
            run,
            go,
            "go-channel",
            line,
            MESSAGES,
            expected,
        ));
        run.compare(&params! { "producers": producers }, subjects)?;
    }
    Ok(())
}

/// Four producers, and the time until everything is handled.
fn to_full_drain(
    messages: u64,
    send: impl Fn(u64) -> u64 + Sync,
    total: impl FnOnce() -> u64,
) -> Round {
    let start = Instant::now();
    // The start of the threads is a part of it, for everybody.
    let _ = team::together(PRODUCERS, |_| send(messages / PRODUCERS as u64));
    let sum = total();
    Round {
        took: start.elapsed(),
        sum,
    }
}

const PRODUCERS: usize = 4;

pub(crate) fn continuous(run: &mut Run<'_>) -> Result<(), CaseError> {
    let messages = run.pick(&[400_000], &[1_000_000])[0];
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let stream = stream(&core, 2 * messages);
    let runtime = workers();
    let expected = PRODUCERS as u64 * sum_below(messages / PRODUCERS as u64);
    let channels = channels(&runtime);
    let params = params! { "messages": messages, "producers": PRODUCERS };
    let mut subjects = vec![Subject::new("ours", messages, expected, || {
        to_full_drain(
            messages,
            |each| submit_all(&stream, each),
            || total(&stream),
        )
    })];
    for channel in &channels {
        subjects.push(Subject::new(channel.name, messages, expected, || {
            let send = |each| {
                channel.send_all(each);
                0
            };
            to_full_drain(messages, send, || channel.total())
        }));
    }
    let each = messages / PRODUCERS as u64;
    let (line, go) = (format!("drain {PRODUCERS} {each}"), &run.outside.go);
    subjects.extend(outside::subject(
        run,
        go,
        "go-channel",
        line,
        messages,
        expected,
    ));
    run.compare(&params, subjects)?;

    let backlog = |value: usize| {
        vec![Figure {
            params: params! { "figure": "peak-backlog" },
            unit: "messages",
            value: value as f64,
            zero: false,
        }]
    };
    let lost = |subject: &str, got: u64| {
        let subject = subject.to_owned();
        if got == expected {
            Ok(())
        } else {
            Err(CaseError::Lost {
                subject,
                got,
                expected,
            })
        }
    };
    let mut ours = || {
        let peak = peak_of(
            || stream.depth(),
            || to_full_drain(messages, |each| submit_all(&stream, each), || 0),
        );
        lost("ours", total(&stream)).map(|()| backlog(peak))
    };
    let mut measures: Vec<_> = channels
        .iter()
        .filter(|channel| channel.length().is_some())
        .map(|channel| {
            let measure = move || {
                let send = |each| {
                    channel.send_all(each);
                    0
                };
                let peak = peak_of(
                    || channel.length().unwrap_or(0),
                    || to_full_drain(messages, send, || 0),
                );
                lost(channel.name, channel.total()).map(|()| backlog(peak))
            };
            (channel.name, measure)
        })
        .collect();
    let mut subjects: Vec<(&str, &mut dyn FnMut() -> Result<Vec<Figure>, CaseError>)> =
        vec![("ours", &mut ours)];
    for (name, measure) in &mut measures {
        subjects.push((name, measure));
    }
    run.figures(run.effort.samples, &mut subjects)
}

/// The greatest length that is seen during `work`.
fn peak_of(length: impl Fn() -> usize + Sync, work: impl FnOnce() -> Round) -> usize {
    let (peak, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                peak.fetch_max(length(), Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        // How long it takes is another figure, and who asked for the peak checks the sum.
        let _ = work();
        done.store(true, Ordering::Release);
    });
    peak.into_inner()
}
