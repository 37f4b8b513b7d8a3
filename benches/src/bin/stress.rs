//! Drives both executors from many threads at once, and checks that nothing is lost, doubled or reordered.
//!
//! Written for ThreadSanitizer: it uses no lock, channel or runtime of its own that the sanitizer
//! cannot see through, and its counters are relaxed, so that they order nothing that the executors
//! should have ordered. The streams' states are plain integers: if two handlers of a stream ever
//! overlapped, or one did not see what the one before wrote, that would be a race.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_queue::ArrayQueue;
use executor_benches::{block_on, poll_once, yield_once};
use executor_core::{
    Completion, Envelope, ExecuteError, Failure, PolicyContext, Shutdown, Totals, WorkerCore,
};
use executor_parallel::ParallelExecutor;
use executor_serial::{SerialExecutor, Stream};

/// How long one round takes; each has a core of its own, and ends it.
const ROUND: Duration = Duration::from_secs(2);
/// When a shutdown that has not ended counts as one that never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many completions a producer keeps before it takes the oldest.
const KEPT: usize = 64;
/// The limit of the parallel executor.
const LIMIT: u64 = 3;

/// Stresses the executors, and fails when anything is lost, doubled or reordered.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long to run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Streams that are kept by handle; four times as many are used by key and evicted.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    streams: u64,
    /// Threads that produce messages.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    producers: u16,
    /// Workers of the core.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
}

/// Counters that order nothing.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the producers know of one executor.
#[derive(Debug, Default)]
struct Ledger {
    admitted: Count,
    /// Executions dropped before their end: whether they were admitted is not known.
    dropped: Count,
    refused: Count,
    cancelled: Count,
    started: Count,
    values: Count,
}

/// What all threads of a round share.
struct Round {
    serial: Ledger,
    evicting: Ledger,
    parallel: Ledger,
    spawned: Ledger,
    /// Payloads made and dropped.
    made: Count,
    gone: Count,
    /// What the states had counted when they were dropped.
    counted: Count,
    /// What the states had counted after a wait, or from another thread.
    counted_late: Count,
    late: Count,
    reordered: Count,
    live: AtomicU64,
    over_limit: Count,
    kicks: ArrayQueue<Kick>,
    stop: AtomicBool,
    stop_kicker: AtomicBool,
}

/// What another thread does for a handler.
enum Kick {
    Wake(Waker),
    /// Uses the state, and gives the stream back.
    Finish(PolicyContext<Tally>),
}

/// A stream's state: plain integers.
struct Tally {
    round: &'static Round,
    count: u64,
    late: u64,
    last: Vec<u64>,
}

impl Tally {
    fn new(round: &'static Round, producers: usize) -> Self {
        Self {
            round,
            count: 0,
            late: 0,
            last: vec![0; producers],
        }
    }

    fn note(&mut self, producer: usize, sequence: u64) {
        self.count += 1;
        if self.last[producer] >= sequence {
            self.round.reordered.add(1);
        }
        self.last[producer] = sequence;
    }

    fn note_late(&mut self) {
        self.late += 1;
        self.round.late.add(1);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.round.counted.add(self.count);
        self.round.counted_late.add(self.late);
    }
}

/// A payload that is counted when it is made and when it is dropped.
struct Token {
    round: &'static Round,
    producer: usize,
    /// One more than the producer's token before.
    sequence: u64,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.round.gone.add(1);
    }
}

/// One of the handlers under the parallel limit.
struct Live(&'static Round);

impl Live {
    fn new(round: &'static Round) -> Self {
        if round.live.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            round.over_limit.add(1);
        }
        Self(round)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a handler does.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Return,
    Fail,
    Panic,
    Yield,
    /// Waits for another thread to wake it.
    Park,
    /// Leaves its context to another thread.
    Stray,
}

type Outcome = Completion<u64, &'static str, Token>;

/// Waits until another thread has woken it.
async fn parked(round: &'static Round) {
    let mut kicked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut kicked, true) {
            return Poll::Ready(());
        }
        kick(round, Kick::Wake(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

fn kick(round: &Round, kick: Kick) {
    if let Err(kick) = round.kicks.push(kick) {
        kick.perform();
    }
}

impl Kick {
    fn perform(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Finish(mut context) => context.state().note_late(),
        }
    }
}

async fn in_stream(
    message: Envelope<Token>,
    mut context: PolicyContext<Tally>,
    ledger: &'static Ledger,
    deed: Deed,
) -> Result<u64, &'static str> {
    ledger.started.add(1);
    let token = &message.payload;
    context.state().note(token.producer, token.sequence);
    match deed {
        Deed::Return => {}
        Deed::Fail => return Err("as it was told"),
        Deed::Panic => resume_unwind(Box::new("as it was told")),
        Deed::Yield => {
            yield_once().await;
            context.state().note_late();
        }
        Deed::Park => {
            parked(token.round).await;
            context.state().note_late();
        }
        Deed::Stray => kick(token.round, Kick::Finish(context)),
    }
    Ok(1)
}

async fn under_limit(
    message: Envelope<Token>,
    _: PolicyContext,
    deed: Deed,
) -> Result<u64, &'static str> {
    let round = message.payload.round;
    let _live = Live::new(round);
    round.parallel.started.add(1);
    match deed {
        Deed::Return | Deed::Stray => {}
        Deed::Fail => return Err("as it was told"),
        Deed::Panic => resume_unwind(Box::new("as it was told")),
        Deed::Yield => yield_once().await,
        Deed::Park => parked(round).await,
    }
    Ok(1)
}

/// A thread that sends messages.
struct Producer {
    round: &'static Round,
    index: usize,
    random: u64,
    sequence: u64,
    core: WorkerCore,
    streams: Vec<Stream<u64, Tally>>,
    evicting: SerialExecutor<u64, Tally>,
    keys: u64,
    parallel: ParallelExecutor,
    kept: VecDeque<(&'static Ledger, Outcome)>,
    tasks: VecDeque<Completion<u64>>,
}

impl Producer {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound
    }

    fn token(&mut self) -> Envelope<Token> {
        self.sequence += 1;
        self.round.made.add(1);
        Envelope::new(Token {
            round: self.round,
            producer: self.index,
            sequence: self.sequence,
        })
    }

    fn deed(&mut self) -> Deed {
        match self.below(64) {
            0 => Deed::Panic,
            1..4 => Deed::Fail,
            4..12 => Deed::Yield,
            12..20 => Deed::Park,
            20..26 => Deed::Stray,
            _ => Deed::Return,
        }
    }

    fn run(&mut self) {
        while !self.round.stop.load(Ordering::Relaxed) {
            match self.below(8) {
                0..4 => self.use_stream(),
                4 => self.use_key(),
                5..7 => self.use_parallel(),
                _ => self.spawn(),
            }
            while self.kept.len() > KEPT {
                self.settle_oldest();
            }
            while self.tasks.len() > KEPT {
                self.join_oldest();
            }
        }
        while !self.kept.is_empty() {
            self.settle_oldest();
        }
        while !self.tasks.is_empty() {
            self.join_oldest();
        }
    }

    fn use_stream(&mut self) {
        let ledger = &self.round.serial;
        let (message, deed) = (self.token(), self.deed());
        let index = self.below(self.streams.len() as u64) as usize;
        let stream = self.streams[index].clone();
        let handler = move |message, context| in_stream(message, context, ledger, deed);
        match self.below(8) {
            0 => {
                let outcome = block_on(stream.execute(message, handler));
                note_execution(ledger, outcome);
            }
            1 => {
                let mut execution = stream.execute(message, handler);
                match poll_once(pin!(&mut execution)) {
                    Poll::Ready(outcome) => note_execution(ledger, outcome),
                    Poll::Pending => ledger.dropped.add(1),
                }
            }
            2 => {
                let submission = block_on(stream.submit_wait(message, handler));
                self.note_submission(ledger, submission);
            }
            3 | 4 => self.note_submission(ledger, stream.try_submit(message, handler)),
            5 => {
                let messages = [message, self.token(), self.token()];
                let batch = stream.submit_batch(messages, handler);
                for completion in batch.accepted {
                    self.note_submission(ledger, Ok(completion));
                }
                if let Some(refused) = batch.refused {
                    ledger.refused.add(refused.work.len() as u64);
                }
            }
            _ => self.note_submission(ledger, stream.submit(message, handler)),
        }
    }

    fn use_key(&mut self) {
        let ledger = &self.round.evicting;
        let (message, deed, key) = (self.token(), self.deed(), self.below(self.keys));
        let handler = move |message, context| in_stream(message, context, ledger, deed);
        match self.below(16) {
            0..6 => {
                let outcome = block_on(self.evicting.execute(key, message, handler));
                note_execution(ledger, outcome);
            }
            6 => {
                self.evicting.evict_idle();
                self.note_submission(
                    ledger,
                    self.evicting.clone().try_submit(key, message, handler),
                );
            }
            _ => {
                let submission = self.evicting.submit(key, message, handler);
                self.note_submission(ledger, submission);
            }
        }
    }

    fn use_parallel(&mut self) {
        let ledger = &self.round.parallel;
        let (message, deed) = (self.token(), self.deed());
        let parallel = self.parallel.clone();
        let handler = move |message, context| under_limit(message, context, deed);
        match self.below(8) {
            0 | 1 => {
                let outcome = block_on(parallel.execute(message, handler));
                note_execution(ledger, outcome);
            }
            2 => match poll_once(pin!(parallel.execute(message, handler))) {
                Poll::Ready(outcome) => note_execution(ledger, outcome),
                Poll::Pending => ledger.dropped.add(1),
            },
            3 => match parallel.try_execute(message, handler) {
                Ok(execution) => note_execution(ledger, block_on(execution)),
                Err(_) => ledger.refused.add(1),
            },
            4 => {
                let submission = block_on(parallel.submit_wait(message, handler));
                self.note_submission(ledger, submission);
            }
            5 => self.note_submission(ledger, parallel.try_submit(message, handler)),
            _ => self.note_submission(ledger, parallel.submit(message, handler)),
        }
    }

    fn spawn(&mut self) {
        let round = self.round;
        let ledger = &round.spawned;
        let task = match self.below(4) {
            0 => self
                .core
                .spawn_fn(move || {
                    ledger.started.add(1);
                    1
                })
                .ok(),
            1 => self
                .core
                .spawn(async move {
                    ledger.started.add(1);
                    yield_once().await;
                    1
                })
                .ok(),
            _ => self
                .core
                .spawn(async move {
                    ledger.started.add(1);
                    parked(round).await;
                    1
                })
                .ok(),
        };
        match task {
            Some(task) => {
                ledger.admitted.add(1);
                if self.below(4) == 0 {
                    drop(task);
                } else {
                    self.tasks.push_back(task);
                }
            }
            None => ledger.refused.add(1),
        }
    }

    /// Keeps, drops or cancels what was admitted.
    fn note_submission(
        &mut self,
        ledger: &'static Ledger,
        submission: executor_core::Submission<u64, &'static str, Token>,
    ) {
        let completion = match submission {
            Ok(completion) => completion,
            Err(_) => return ledger.refused.add(1),
        };
        ledger.admitted.add(1);
        match self.below(8) {
            0 => drop(completion),
            1 | 2 => match completion.cancel() {
                Ok(_) => ledger.cancelled.add(1),
                Err(completion) => self.kept.push_back((ledger, completion)),
            },
            3 => match completion.wait_timeout(Duration::from_micros(50)) {
                Ok(outcome) => note_outcome(ledger, &outcome),
                Err(completion) => self.kept.push_back((ledger, completion)),
            },
            4 => {
                let mut completion = completion;
                match poll_once(pin!(&mut completion)) {
                    Poll::Ready(outcome) => note_outcome(ledger, &outcome),
                    Poll::Pending => self.kept.push_back((ledger, completion)),
                }
            }
            _ => self.kept.push_back((ledger, completion)),
        }
    }

    fn settle_oldest(&mut self) {
        if let Some((ledger, completion)) = self.kept.pop_front() {
            note_outcome(ledger, &block_on(completion));
        }
    }

    fn join_oldest(&mut self) {
        if let Some(Ok(one)) = self.tasks.pop_front().map(block_on) {
            self.round.spawned.values.add(one);
        }
    }
}

fn note_outcome(ledger: &Ledger, outcome: &Result<u64, Failure<&'static str>>) {
    if let Ok(one) = outcome {
        ledger.values.add(*one);
    }
}

fn note_execution(ledger: &Ledger, outcome: Result<u64, ExecuteError<Token, &'static str>>) {
    match outcome {
        Err(ExecuteError::Rejected(_)) => ledger.refused.add(1),
        Err(_) => ledger.admitted.add(1),
        Ok(one) => {
            ledger.admitted.add(1);
            ledger.values.add(one);
        }
    }
}

/// What was violated, one line for each.
type Violations = Vec<String>;

fn expect(violations: &mut Violations, holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        violations.push(what());
    }
}

impl Ledger {
    /// Whether the executor's own totals say the same.
    fn check(&self, name: &str, totals: Totals, mode: Shutdown, violations: &mut Violations) {
        let (finished, admitted, dropped) =
            (totals.finished(), self.admitted.get(), self.dropped.get());
        expect(
            violations,
            (admitted..=admitted + dropped).contains(&finished),
            || {
                format!(
                    "{name}: {finished} outcomes of {admitted} admitted and {dropped} dropped: {totals:?}"
                )
            },
        );
        expect(violations, totals.refused == self.refused.get(), || {
            format!(
                "{name}: {} refusals were seen: {totals:?}",
                self.refused.get()
            )
        });
        expect(violations, self.values.get() <= totals.handled, || {
            format!("{name}: {} values were seen: {totals:?}", self.values.get())
        });
        let started = self.started.get();
        let ran = totals.handled + totals.failed + totals.panicked;
        // An abort, or the drop of a structured execution, ends handlers that have started.
        let exact = mode == Shutdown::Drain && (dropped == 0 || name != "parallel");
        expect(
            violations,
            if exact {
                ran == started
            } else {
                ran <= started
            },
            || format!("{name}: {started} handlers started: {totals:?}"),
        );
        let cancelled = self.cancelled.get();
        let right = if name == "parallel" {
            (cancelled..=cancelled + dropped).contains(&totals.cancelled)
        } else {
            totals.cancelled == cancelled
        };
        expect(violations, right, || {
            format!("{name}: {cancelled} were cancelled: {totals:?}")
        });
        expect(
            violations,
            mode == Shutdown::Abort || totals.aborted == 0,
            || format!("{name}: aborted by a shutdown that drains: {totals:?}"),
        );
    }

    fn print(&self, name: &str) {
        println!(
            "    {name:<9} {:>8} admitted, {:>7} started, {:>7} values, {:>6} cancelled, {:>6} refused, {:>5} dropped",
            self.admitted.get(),
            self.started.get(),
            self.values.get(),
            self.cancelled.get(),
            self.refused.get(),
            self.dropped.get(),
        );
    }
}

/// A core and its executors from start to end.
fn round(arguments: &Arguments, length: Duration, mode: Shutdown, seed: u64) -> Violations {
    let producers = usize::from(arguments.producers);
    // Leaked, so that no reference count orders anything; there is one for each round.
    let round: &'static Round = Box::leak(Box::new(Round {
        serial: Ledger::default(),
        evicting: Ledger::default(),
        parallel: Ledger::default(),
        spawned: Ledger::default(),
        made: Count::default(),
        gone: Count::default(),
        counted: Count::default(),
        counted_late: Count::default(),
        late: Count::default(),
        reordered: Count::default(),
        live: AtomicU64::new(0),
        over_limit: Count::default(),
        kicks: ArrayQueue::new(1_024),
        stop: AtomicBool::new(false),
        stop_kicker: AtomicBool::new(false),
    }));
    let core = WorkerCore::threads(usize::from(arguments.workers))
        .budget(16)
        .build()
        .expect("threads start");
    let serial = SerialExecutor::<u64>::builder(&core)
        .queue_per_stream(32)
        .state(move |_| Tally::new(round, producers))
        .build()
        .expect("the options are legal");
    let evicting = SerialExecutor::<u64>::builder(&core)
        .queue_per_stream(32)
        .queue_total(64)
        .resident_streams(2)
        .inline(seed.is_multiple_of(2))
        .state(move |_| Tally::new(round, producers))
        .build()
        .expect("the options are legal");
    let parallel = ParallelExecutor::builder(&core)
        .max_concurrency(LIMIT as usize)
        .queue(32);
    let parallel = parallel.build().expect("the options are legal");

    let kicker = thread::spawn(move || {
        loop {
            match round.kicks.pop() {
                Some(kick) => kick.perform(),
                None if round.stop_kicker.load(Ordering::Acquire) => break,
                None => thread::yield_now(),
            }
        }
    });
    let threads: Vec<_> = (0..producers)
        .map(|index| {
            let mut producer = Producer {
                round,
                index,
                random: (seed * 1_000 + index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                sequence: 0,
                core: core.clone(),
                streams: (0..arguments.streams)
                    .map(|key| serial.stream(&key))
                    .collect(),
                evicting: evicting.clone(),
                keys: arguments.streams * 4,
                parallel: parallel.clone(),
                kept: VecDeque::new(),
                tasks: VecDeque::new(),
            };
            thread::spawn(move || producer.run())
        })
        .collect();
    thread::sleep(length);

    let mut violations = Violations::new();
    // An abort comes while the producers are at it.
    let aborted = (mode == Shutdown::Abort).then(|| block_on(core.shutdown(mode, PATIENCE)));
    round.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        expect(&mut violations, thread.join().is_ok(), || {
            "a producer panicked".into()
        });
    }
    let report = aborted.unwrap_or_else(|| {
        let drained = block_on(core.drain(PATIENCE));
        expect(&mut violations, drained.is_complete(), || {
            format!("the drain did not end: {drained:?}")
        });
        block_on(core.shutdown(mode, PATIENCE))
    });
    expect(&mut violations, report.is_complete(), || {
        format!("the shutdown did not end: {report:?}")
    });
    round.stop_kicker.store(true, Ordering::Release);
    expect(&mut violations, kicker.join().is_ok(), || {
        "the kicker panicked".into()
    });

    let (serial_totals, evicting_totals) = (serial.metrics().totals, evicting.metrics().totals);
    round
        .serial
        .check("serial", serial_totals, mode, &mut violations);
    round
        .evicting
        .check("evicting", evicting_totals, mode, &mut violations);
    round
        .parallel
        .check("parallel", parallel.metrics().totals, mode, &mut violations);
    drop((serial, evicting, parallel, core));

    let (made, gone) = (round.made.get(), round.gone.get());
    expect(&mut violations, made == gone, || {
        format!("{made} payloads were made, {gone} were dropped")
    });
    let (started, counted) = (
        round.serial.started.get() + round.evicting.started.get(),
        round.counted.get(),
    );
    expect(&mut violations, started == counted, || {
        format!("{started} handlers counted to {counted}")
    });
    let (late, counted) = (round.late.get(), round.counted_late.get());
    expect(&mut violations, late == counted, || {
        format!("{late} late uses of a state counted to {counted}")
    });
    let reordered = round.reordered.get();
    expect(&mut violations, reordered == 0, || {
        format!("{reordered} messages were handled out of order")
    });
    let over = round.over_limit.get();
    expect(&mut violations, over == 0, || {
        format!("{over} handlers ran above the limit")
    });
    let live = round.live.load(Ordering::Relaxed);
    expect(&mut violations, live == 0, || {
        format!("{live} handlers are still there")
    });
    if mode == Shutdown::Drain {
        let (admitted, started) = (round.spawned.admitted.get(), round.spawned.started.get());
        expect(&mut violations, admitted == started, || {
            format!("{started} of {admitted} tasks ran")
        });
    }

    println!(
        "{mode:?} after {} ms: {made} messages, {late} handlers resumed",
        length.as_millis()
    );
    round.serial.print("serial");
    round.evicting.print("evicting");
    round.parallel.print("parallel");
    round.spawned.print("spawned");
    violations
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut violated = false;
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let mode = if rounds % 2 == 0 {
            Shutdown::Drain
        } else {
            Shutdown::Abort
        };
        for violation in round(&arguments, left.min(ROUND), mode, rounds) {
            println!("VIOLATED: {violation}");
            violated = true;
        }
        rounds += 1;
    }
    println!(
        "{rounds} rounds: {}",
        if violated {
            "FAILED"
        } else {
            "nothing lost, doubled or reordered"
        }
    );
    if violated {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
