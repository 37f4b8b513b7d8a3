//! Timers of tokio: a task that sleeps for each, and a `DelayQueue` for all.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use tokio::time::{Instant as TokioInstant, sleep_until};
use tokio_util::time::DelayQueue;

/// The delay of the `index`th timer: 0 to 9 ms.
#[must_use]
pub const fn delay(index: u64) -> Duration {
    Duration::from_millis(index % 10)
}

/// What a round of timers took.
#[derive(Debug, Default)]
pub struct Timers {
    /// Until all were scheduled.
    pub scheduled: Duration,
    /// Until all had fired.
    pub fired: Duration,
    /// How late each fired, in nanoseconds; negative: early.
    pub lateness: Vec<i64>,
}

/// Nanoseconds from `due` to `now`.
#[must_use]
pub fn lateness(due: Instant, now: Instant) -> i64 {
    let late = |from: Instant, to: Instant| {
        i64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(i64::MAX)
    };
    late(due, now) - late(now, due)
}

/// A task with a sleep for each timer.
///
/// # Panics
/// When a task does.
pub async fn tokio_sleeps(timers: u64) -> Timers {
    let start = Instant::now();
    let tasks: Vec<_> = (0..timers)
        .map(|timer| {
            let due = Instant::now() + delay(timer);
            tokio::spawn(async move {
                sleep_until(TokioInstant::from_std(due)).await;
                lateness(due, Instant::now())
            })
        })
        .collect();
    let scheduled = start.elapsed();
    let mut late = Vec::with_capacity(tasks.len());
    for task in tasks {
        late.push(task.await.expect("the task does not panic"));
    }
    Timers {
        scheduled,
        fired: start.elapsed(),
        lateness: late,
    }
}

/// One queue for all timers.
///
/// # Panics
/// When the queue ends before it is empty.
pub async fn tokio_delay_queue(timers: u64) -> Timers {
    let mut queue = DelayQueue::with_capacity(usize::try_from(timers).unwrap_or(0));
    let start = Instant::now();
    for timer in 0..timers {
        let due = Instant::now() + delay(timer);
        queue.insert_at(due, TokioInstant::from_std(due));
    }
    let scheduled = start.elapsed();
    let mut late = Vec::with_capacity(queue.len());
    while !queue.is_empty() {
        let expired = poll_fn(|context| queue.poll_expired(context)).await;
        let due = expired.expect("the queue is not empty").into_inner();
        late.push(lateness(due, Instant::now()));
    }
    Timers {
        scheduled,
        fired: start.elapsed(),
        lateness: late,
    }
}

/// What timers took that were scheduled and taken back.
#[derive(Debug, Default)]
pub struct Cancelled {
    /// Until all were scheduled.
    pub scheduled: Duration,
    /// From then until all were taken back.
    pub cancelled: Duration,
    /// How many were taken back.
    pub count: u64,
}

/// How far away timers are that are to be taken back.
pub const FAR: Duration = Duration::from_secs(3_600);

/// Inserts and removes timers that never fire.
#[must_use]
pub fn tokio_delay_queue_cancelled(timers: u64) -> Cancelled {
    let capacity = usize::try_from(timers).unwrap_or(0);
    let mut queue = DelayQueue::with_capacity(capacity);
    let mut keys = Vec::with_capacity(capacity);
    let start = Instant::now();
    keys.extend((0..timers).map(|timer| queue.insert(timer, FAR + delay(timer))));
    let scheduled = start.elapsed();
    let mut count = 0;
    for key in &keys {
        queue.remove(key);
        count += 1;
    }
    Cancelled {
        scheduled,
        cancelled: start.elapsed() - scheduled,
        count,
    }
}
