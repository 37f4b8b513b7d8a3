//! Case 16: many timers with short delays.

use std::rc::Rc;
use std::time::{Duration, Instant};

use executor_bench_peers::timers::{
    Cancelled, FAR, Timers, delay, lateness, tokio_delay_queue, tokio_delay_queue_cancelled,
    tokio_sleeps,
};
use executor_bench_peers::{WORKERS, local_with_time, on_worker, workers};
use executor_benches::block_on;
use executor_core::WorkerCore;

use crate::engine::{CaseError, Figure, Run};
use crate::outside::Peer;
use crate::row::{Params, params};

/// The longest delay: nobody can be done before.
const FLOOR: Duration = Duration::from_millis(9);

fn params(timers: u64, figure: &str) -> Params {
    params! { "timers": timers, "figure": figure }
}

fn figure(timers: u64, name: &str, unit: &'static str, value: f64) -> Figure {
    Figure {
        params: params(timers, name),
        unit,
        value,
        zero: name == "early",
    }
}

fn figures(count: u64, mut timers: Timers) -> Result<Vec<Figure>, CaseError> {
    let fired = timers.lateness.len() as u64;
    if fired != count {
        return Err(CaseError::Lost {
            subject: "timers".into(),
            got: fired,
            expected: count,
        });
    }
    timers.lateness.sort_unstable();
    let at = |share: f64| timers.lateness[((fired - 1) as f64 * share) as usize] as f64 / 1e3;
    let early = timers.lateness.iter().filter(|&&late| late < 0).count();
    let each = |took: Duration| took.as_nanos() as f64 / count as f64;
    Ok(vec![
        figure(count, "schedule", "ns", each(timers.scheduled)),
        figure(
            count,
            "schedule-and-fire",
            "ns",
            each(timers.fired.saturating_sub(FLOOR)),
        ),
        figure(count, "lateness-p50", "us", at(0.5)),
        figure(count, "lateness-p99", "us", at(0.99)),
        figure(count, "early", "timers", early as f64),
    ])
}

/// The same figures from another process, which counts for itself.
fn outside_figures(peer: &Rc<Peer>, count: u64) -> Result<Vec<Figure>, CaseError> {
    let answer = peer.ask(&format!("timers {count}"));
    let [scheduled, fired, total, median, high, early] = answer[..] else {
        let text = format!("{} answers {answer:?} about timers", peer.name);
        return Err(CaseError::Outside(text));
    };
    if total.unsigned_abs() != count {
        return Err(CaseError::Lost {
            subject: peer.name.into(),
            got: total.unsigned_abs(),
            expected: count,
        });
    }
    let each = |nanos: i64| nanos.max(0) as f64 / count as f64;
    let floor = i64::try_from(FLOOR.as_nanos()).unwrap_or(i64::MAX);
    Ok(vec![
        figure(count, "schedule", "ns", each(scheduled)),
        figure(count, "schedule-and-fire", "ns", each(fired - floor)),
        figure(count, "lateness-p50", "us", median as f64 / 1e3),
        figure(count, "lateness-p99", "us", high as f64 / 1e3),
        figure(count, "early", "timers", early as f64),
    ])
}

pub(crate) fn timers(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let runtime = workers();
    let near = local_with_time();
    let outside = run.outside;
    for (name, peer) in [
        ("go-after-func", &outside.go),
        ("asyncio", &outside.asyncio),
        ("uvloop", &outside.uvloop),
    ] {
        if let Err(why) = peer {
            run.absent(name, why.clone());
        }
    }
    for count in run.pick(
        &[100, 10_000, 100_000],
        &[100, 1_000, 10_000, 100_000, 1_000_000],
    ) {
        let mut ours = || figures(count, spawned(&core, count));
        let mut sleeps = || figures(count, on_worker(&runtime, tokio_sleeps(count)));
        let mut queue = || figures(count, near.block_on(tokio_delay_queue(count)));
        let mut others: Vec<_> = [
            ("go-after-func", &outside.go),
            ("asyncio", &outside.asyncio),
            ("uvloop", &outside.uvloop),
        ]
        .into_iter()
        .filter_map(|(name, peer)| {
            let peer = Rc::clone(peer.as_ref().ok()?);
            Some((name, move || outside_figures(&peer, count)))
        })
        .collect();
        let mut subjects: Vec<(&str, &mut dyn FnMut() -> Result<Vec<Figure>, CaseError>)> = vec![
            ("ours", &mut ours),
            ("tokio-spawn-sleep", &mut sleeps),
            ("tokio-delay-queue", &mut queue),
        ];
        for (name, measure) in &mut others {
            subjects.push((name, measure));
        }
        run.figures(run.effort.samples, &mut subjects)?;
        cancelled(run, &core, count)?;
    }
    Ok(())
}

/// A closure on the workers for each timer.
fn spawned(core: &WorkerCore, count: u64) -> Timers {
    let mut kept = Vec::with_capacity(count as usize);
    let start = Instant::now();
    for timer in 0..count {
        let due = Instant::now() + delay(timer);
        let fire = move || lateness(due, Instant::now());
        kept.push(core.spawn_fn_at(due, fire).expect("the core is open"));
    }
    let scheduled = start.elapsed();
    let lateness = block_on(async {
        let mut late = Vec::with_capacity(kept.len());
        for timer in kept {
            late.push(timer.await.expect("it does not panic"));
        }
        late
    });
    Timers {
        scheduled,
        fired: start.elapsed(),
        lateness,
    }
}

fn spawned_and_cancelled(core: &WorkerCore, count: u64) -> Cancelled {
    let mut kept = Vec::with_capacity(count as usize);
    let start = Instant::now();
    kept.extend((0..count).map(|timer| {
        let fire = move || timer;
        let scheduled = core.spawn_fn_after(FAR + delay(timer), fire);
        scheduled.expect("the core is open")
    }));
    let scheduled = start.elapsed();
    let mut cancelled = 0;
    for timer in &mut kept {
        cancelled += u64::from(timer.cancel());
    }
    Cancelled {
        scheduled,
        cancelled: start.elapsed() - scheduled,
        count: cancelled,
    }
}

/// What it costs to schedule a timer that would fire in an hour, and to take it back.
fn cancelled(run: &mut Run<'_>, core: &WorkerCore, count: u64) -> Result<(), CaseError> {
    let runtime = local_with_time();
    let figures = |timers: Cancelled| {
        if timers.count != count {
            return Err(CaseError::Lost {
                subject: "cancelled timers".into(),
                got: timers.count,
                expected: count,
            });
        }
        let each = |took: Duration| took.as_nanos() as f64 / count as f64;
        Ok(vec![
            figure(count, "schedule-alone", "ns", each(timers.scheduled)),
            figure(count, "cancel", "ns", each(timers.cancelled)),
        ])
    };
    run.figures(
        run.effort.samples,
        &mut [
            ("ours", &mut || figures(spawned_and_cancelled(core, count))),
            ("tokio-delay-queue", &mut || {
                figures(runtime.block_on(async { tokio_delay_queue_cancelled(count) }))
            }),
        ],
    )
}
