//! A core and its executors, from their start to their end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use executor_benches::block_on;
use executor_core::{Shutdown, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;
use hdrhistogram::Histogram;

use crate::check::{Violations, expect};
use crate::message::{Count, LIMIT, Ledger, Round, Tally};
use crate::producer::Producer;

/// When a shutdown that has not ended counts as one that never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How large a round is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) producers: u16,
    pub(crate) workers: u16,
    pub(crate) streams: u64,
}

/// What a round has led to.
pub(crate) struct Ended {
    pub(crate) violations: Violations,
    /// Messages that were made.
    pub(crate) messages: u64,
    /// How long producers waited for outcomes, in nanoseconds.
    pub(crate) stalls: Histogram<u64>,
}

/// A core and its executors from start to end.
pub(crate) fn round(shape: Shape, length: Duration, mode: Shutdown, seed: u64) -> Ended {
    let producers = usize::from(shape.producers);
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
    let core = WorkerCore::threads(usize::from(shape.workers))
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
                streams: (0..shape.streams).map(|key| serial.stream(&key)).collect(),
                evicting: evicting.clone(),
                keys: shape.streams * 4,
                parallel: parallel.clone(),
                kept: VecDeque::new(),
                tasks: VecDeque::new(),
                stalls: new_histogram(),
            };
            thread::spawn(move || {
                producer.run();
                producer.stalls
            })
        })
        .collect();
    thread::sleep(length);

    let mut violations = Violations::new();
    // An abort comes while the producers are at it.
    let aborted = (mode == Shutdown::Abort).then(|| block_on(core.shutdown(mode, PATIENCE)));
    round.stop.store(true, Ordering::Relaxed);
    let mut stalls = new_histogram();
    for thread in threads {
        match thread.join() {
            Ok(waited) => stalls.add(waited).expect("of one kind"),
            Err(_) => violations.push("a producer panicked".into()),
        }
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
    Ended {
        violations,
        messages: made,
        stalls,
    }
}

/// For waits of up to two minutes, to two digits.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 2).expect("legal bounds")
}
