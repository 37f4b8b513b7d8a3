//! Cases 5 and 6: a message and its answer on one stream.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use executor_bench_peers::actix_mailbox::Actix;
use executor_bench_peers::kameo_mailbox::KameoMailbox;
use executor_bench_peers::keyed::{Mutexes, lock_each};
use executor_bench_peers::mailbox::{Mailbox, ask_each};
use executor_bench_peers::ractor_mailbox::RactorMailbox;
use executor_bench_peers::tokio_mailbox::TokioMailbox;
use executor_bench_peers::{Round, WORKERS, local, on_worker, sum_below, workers};
use executor_benches::{block_on, yield_once};
use executor_core::{Envelope, WorkerCore};
use executor_serial::{SerialExecutor, Stream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::callers::{answer, execute_each};
use crate::engine::{CaseError, Run, Subject};
use crate::floors::{self, PingPong, Wait};
use crate::outside;
use crate::row::params;

/// Messages of a round that stays on its thread.
const MESSAGES: u64 = 10_000;
/// Messages of a round that passes through another task.
const ROUND_TRIPS: u64 = 10_000;
/// Messages of a round in which threads may sleep.
const SLEEPY: u64 = 100;
/// How long nothing is done before each of those, so that all threads sleep.
const PAUSE: Duration = Duration::from_micros(300);

/// Keys in an order that no cache foresees; rounds go on where the one before ended.
struct Scattered {
    keys: u64,
    next: Cell<u64>,
}

impl Scattered {
    fn among(keys: u64) -> Self {
        Self {
            keys,
            next: Cell::new(0),
        }
    }

    fn next(&self) -> u64 {
        let next = self.next.get();
        self.next.set(next + 1);
        next.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.keys
    }
}

async fn execute_all(stream: &Stream<u64>, messages: u64) -> u64 {
    execute_each!(messages, |message| stream
        .execute(Envelope::new(message), answer!()))
    .await
}

fn by_key(executor: &SerialExecutor<u64>, keys: &Scattered) -> u64 {
    block_on(execute_each!(MESSAGES, |message| executor.execute(
        keys.next(),
        Envelope::new(message),
        answer!()
    )))
}

fn near<'a, M: Mailbox>(runtime: &'a Runtime) -> Subject<'a> {
    let mailbox = runtime.block_on(M::start());
    let expected = sum_below(ROUND_TRIPS);
    // As a task: a `block_on` parks and unparks for each answer.
    Subject::all(M::NAME, ROUND_TRIPS, expected, move || {
        on_worker(runtime, ask_each(mailbox.clone(), ROUND_TRIPS))
    })
}

pub(crate) fn idle(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let executor = SerialExecutor::<u64>::builder(&core).resident_streams(2_000_000);
    let executor = executor.build().expect("the options are legal");
    let (stream, thousand) = (executor.stream(&0), Scattered::among(1_000));
    let (runtime, mutex, actix) = (local(), Mutex::new(()), Actix::new());
    let expected = sum_below(MESSAGES);
    let mut subjects = vec![
        Subject::all("ours", MESSAGES, expected, || {
            block_on(execute_each!(MESSAGES, |message| stream
                .execute(Envelope::new(message), answer!())))
        }),
        Subject::all("ours:by-key", MESSAGES, expected, || {
            by_key(&executor, &thousand)
        }),
        Subject::all("tokio-mutex", MESSAGES, expected, || {
            runtime.block_on(lock_each(&mutex, MESSAGES))
        }),
        near::<TokioMailbox>(&runtime),
        near::<RactorMailbox>(&runtime),
        near::<KameoMailbox>(&runtime),
        Subject::all("actix", ROUND_TRIPS, sum_below(ROUND_TRIPS), || {
            actix.ask_near(ROUND_TRIPS)
        }),
        Subject::all("floor:two-atomics", MESSAGES, expected, || {
            floors::two_atomics(MESSAGES)
        }),
    ];
    let (line, go) = (format!("ask {ROUND_TRIPS}"), &run.outside.go);
    let expected = sum_below(ROUND_TRIPS);
    subjects.extend(outside::subject(
        run,
        go,
        "go-channels",
        line,
        ROUND_TRIPS,
        expected,
    ));
    run.compare(&params! {}, subjects)?;
    for keys in [1_000, 1_000_000] {
        among(run, &executor, keys)?;
    }
    Ok(())
}

/// By key among so many: the streams are there, and visited in no order that helps.
fn among(run: &mut Run<'_>, executor: &SerialExecutor<u64>, keys: u64) -> Result<(), CaseError> {
    let map: DashMap<u64, Arc<u64>, foldhash::fast::RandomState> = DashMap::default();
    for key in 0..keys {
        map.insert(key, Arc::new(key));
        drop(executor.stream(&key));
    }
    let (runtime, mutexes) = (local(), Mutexes::of(keys));
    let [ours, theirs, bare] = [(); 3].map(|()| Scattered::among(keys));
    let expected = sum_below(MESSAGES);
    run.compare(
        &params! { "keys": keys },
        vec![
            Subject::all("ours:by-key", MESSAGES, expected, || {
                by_key(executor, &ours)
            }),
            Subject::all("tokio-mutex-by-key", MESSAGES, expected, || {
                runtime.block_on(async {
                    let mut sum = 0;
                    for message in 0..MESSAGES {
                        sum += mutexes.lock(theirs.next(), message).await;
                    }
                    sum
                })
            }),
            Subject::all("floor:look-up", MESSAGES, expected, || {
                let (mut sum, mut difference) = (0, 0);
                for message in 0..MESSAGES {
                    // Each look-up begins when the one before has ended, as messages do. The value
                    // is in another cache line than the map's entry, as the stream is.
                    let key = bare.next() ^ difference;
                    if let Some(found) = map.get(&key) {
                        difference = **found ^ key;
                        sum += message;
                    }
                }
                black_box(sum + difference)
            }),
        ],
    )
}

/// A stream that never runs on its caller.
fn queued(core: &WorkerCore) -> Stream<u64> {
    let executor = SerialExecutor::<u64>::builder(core).inline(false).build();
    executor.expect("the options are legal").stream(&0)
}

fn on_runtime<'a, M: Mailbox>(runtime: &'a Runtime) -> Subject<'a> {
    let mailbox = runtime.block_on(M::start());
    let expected = sum_below(ROUND_TRIPS);
    Subject::all(M::NAME, ROUND_TRIPS, expected, move || {
        on_worker(runtime, ask_each(mailbox.clone(), ROUND_TRIPS))
    })
}

/// Round trips, each after a pause in which all threads go to sleep; the pauses are not measured.
fn paused(mut ask: impl FnMut(u64) -> u64) -> Round {
    let (mut took, mut sum) = (Duration::ZERO, 0);
    for message in 0..SLEEPY {
        thread::sleep(PAUSE);
        let start = Instant::now();
        sum += ask(message);
        took += start.elapsed();
    }
    Round { took, sum }
}

fn from_outside_paused<'a, M: Mailbox>(runtime: &Runtime) -> Subject<'a> {
    let mailbox = runtime.block_on(M::start());
    Subject::new(M::NAME, SLEEPY, sum_below(SLEEPY), move || {
        paused(|message| block_on(mailbox.ask(message)))
    })
}

fn from_outside<'a, M: Mailbox>(runtime: &Runtime) -> Subject<'a> {
    let mailbox = runtime.block_on(M::start());
    Subject::all(M::NAME, SLEEPY, sum_below(SLEEPY), move || {
        block_on(ask_each(mailbox.clone(), SLEEPY))
    })
}

pub(crate) fn handed_over(run: &mut Run<'_>) -> Result<(), CaseError> {
    let runtime = workers();
    let hosted = WorkerCore::tokio(runtime.handle()).workers(WORKERS).build();
    let hosted_core = hosted.expect("the options are legal");
    let own_core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let (hosted, own) = (queued(&hosted_core), queued(&own_core));
    let actix = Actix::new();
    on_runtime_thread(run, &runtime, &hosted, &own_core, &own)?;
    let expected = sum_below(SLEEPY);
    let (futex, park) = (PingPong::new(Wait::Futex), PingPong::new(Wait::Park));
    run.compare(
        &params! { "caller": "foreign-thread-all-asleep" },
        vec![
            Subject::new("ours:no-inline", SLEEPY, expected, || {
                paused(|message| {
                    let execution = own.execute(Envelope::new(message), answer!());
                    block_on(execution).expect("it is handled")
                })
            }),
            from_outside_paused::<TokioMailbox>(&runtime),
            from_outside_paused::<RactorMailbox>(&runtime),
            from_outside_paused::<KameoMailbox>(&runtime),
            Subject::new("floor:futex-ping-pong", SLEEPY, expected, || {
                paused(|message| futex.ask(message))
            }),
            Subject::new("floor:park-unpark", SLEEPY, expected, || {
                paused(|message| park.ask(message))
            }),
        ],
    )?;
    run.compare(
        &params! { "caller": "foreign-thread-back-to-back" },
        vec![
            Subject::all("ours:no-inline", SLEEPY, expected, || {
                block_on(execute_all(&own, SLEEPY))
            }),
            from_outside::<TokioMailbox>(&runtime),
            from_outside::<RactorMailbox>(&runtime),
            from_outside::<KameoMailbox>(&runtime),
            Subject::all("actix", SLEEPY, expected, || actix.ask_far(SLEEPY)),
            Subject::all("floor:futex-ping-pong", SLEEPY, expected, || {
                futex.each(SLEEPY)
            }),
            Subject::all("floor:park-unpark", SLEEPY, expected, || park.each(SLEEPY)),
        ],
    )?;
    while_awake(run, &runtime, &own_core, &own)
}

fn on_runtime_thread(
    run: &mut Run<'_>,
    runtime: &Runtime,
    hosted: &Stream<u64>,
    own_core: &WorkerCore,
    own: &Stream<u64>,
) -> Result<(), CaseError> {
    let expected = sum_below(ROUND_TRIPS);
    let mut subjects = vec![
        Subject::all("ours:no-inline", ROUND_TRIPS, expected, || {
            let stream = own.clone();
            let task = async move { execute_all(&stream, ROUND_TRIPS).await };
            let task = own_core.spawn(task).expect("the core is open");
            task.wait().expect("it does not panic")
        }),
        Subject::all("ours:no-inline-on-tokio", ROUND_TRIPS, expected, || {
            let stream = hosted.clone();
            on_worker(
                runtime,
                async move { execute_all(&stream, ROUND_TRIPS).await },
            )
        }),
        on_runtime::<TokioMailbox>(runtime),
        on_runtime::<RactorMailbox>(runtime),
        on_runtime::<KameoMailbox>(runtime),
    ];
    let (line, go) = (format!("ask {ROUND_TRIPS}"), &run.outside.go);
    subjects.extend(outside::subject(
        run,
        go,
        "go-channels",
        line,
        ROUND_TRIPS,
        expected,
    ));
    run.compare(&params! { "caller": "runtime-thread" }, subjects)
}

/// A foreign caller, while a task that is always ready keeps a worker from sleeping.
fn while_awake(
    run: &mut Run<'_>,
    runtime: &Runtime,
    core: &WorkerCore,
    stream: &Stream<u64>,
) -> Result<(), CaseError> {
    let awake = Arc::new(AtomicBool::new(false));
    let keep_awake = || {
        let awake = Arc::clone(&awake);
        async move {
            while awake.load(Ordering::Relaxed) {
                yield_once().await;
            }
        }
    };
    let mailbox = runtime.block_on(TokioMailbox::start());
    let expected = sum_below(ROUND_TRIPS);
    run.compare(
        &params! { "caller": "foreign-thread-worker-awake" },
        vec![
            Subject::new("ours:no-inline", ROUND_TRIPS, expected, || {
                awake.store(true, Ordering::Relaxed);
                let busy = core.spawn(keep_awake()).expect("the core is open");
                let round = Round::of(|| block_on(execute_all(stream, ROUND_TRIPS)));
                awake.store(false, Ordering::Relaxed);
                busy.wait().expect("it does not panic");
                round
            }),
            Subject::new(TokioMailbox::NAME, ROUND_TRIPS, expected, || {
                awake.store(true, Ordering::Relaxed);
                let busy = runtime.spawn(keep_awake());
                let round = Round::of(|| block_on(ask_each(mailbox.clone(), ROUND_TRIPS)));
                awake.store(false, Ordering::Relaxed);
                runtime.block_on(busy).expect("it does not panic");
                round
            }),
            Subject::new("floor:spinning-worker", ROUND_TRIPS, expected, || {
                // It has a processor to itself, so it must be gone when the others are measured.
                let spin = PingPong::new(Wait::Spin);
                Round::of(|| spin.each(ROUND_TRIPS))
            }),
        ],
    )
}
