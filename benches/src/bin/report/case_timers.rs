//! Case 16: many timers with short delays.

use std::rc::Rc;
use std::time::Duration;

use executor_bench_peers::timers::{
    Timers, tokio_delay_queue, tokio_delay_queue_cancelled, tokio_sleeps,
};
use executor_bench_peers::{local, on_worker, workers};

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
    run.absent("ours", "the executors have no timers yet");
    let runtime = workers();
    let near = local();
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
            ("tokio-spawn-sleep", &mut sleeps),
            ("tokio-delay-queue", &mut queue),
        ];
        for (name, measure) in &mut others {
            subjects.push((name, measure));
        }
        run.figures(run.effort.samples, &mut subjects)?;
        cancelled(run, count)?;
    }
    Ok(())
}

/// What it costs to take back a timer that would fire in an hour.
fn cancelled(run: &mut Run<'_>, count: u64) -> Result<(), CaseError> {
    let runtime = local();
    let each = |took: Duration, removed: u64| {
        if removed != count {
            return Err(CaseError::Lost {
                subject: "cancelled timers".into(),
                got: removed,
                expected: count,
            });
        }
        let value = took.as_nanos() as f64 / count as f64;
        Ok(vec![figure(count, "cancel", "ns", value)])
    };
    let mut queue = || {
        let (took, removed) = runtime.block_on(async { tokio_delay_queue_cancelled(count) });
        each(took, removed)
    };
    run.figures(run.effort.samples, &mut [("tokio-delay-queue", &mut queue)])
}
