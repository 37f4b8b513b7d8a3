//! Every path a message can take through the executors, as rounds of 1,000 messages that check
//! their results.
//!
//! Allocation counts, heap profiles, instruction counts and the comparison of commits all run these.

mod rig;

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use executor_core::Envelope;

pub use self::rig::Rig;
use self::rig::eventually;
use crate::{block_on, both, echo, echo_decided, echo_later, poll_once, sum_below, yield_once};

/// How many messages a round has; fewer than a queue holds.
pub const MESSAGES: u64 = 1_000;
/// How long what is delayed waits.
const DELAY: Duration = Duration::from_millis(1);
/// Rounds in which pools and queues grow to what a path needs.
pub const WARM_UP: usize = 32;

/// One path.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// What the message does.
    pub name: &'static str,
    /// Whether all of it happens on the calling thread, so that instructions can be counted.
    pub on_caller: bool,
    /// Allocations of each message when everything is warm.
    pub allocations: u64,
    run: fn(&mut Rig),
}

impl Path {
    const fn caller(name: &'static str, run: fn(&mut Rig)) -> Self {
        Self {
            name,
            on_caller: true,
            allocations: 0,
            run,
        }
    }

    const fn workers(name: &'static str, run: fn(&mut Rig)) -> Self {
        Self {
            name,
            on_caller: false,
            allocations: 0,
            run,
        }
    }

    /// Runs a round.
    ///
    /// # Panics
    /// When a result is wrong or missing.
    pub fn round(&self, rig: &mut Rig) {
        (self.run)(rig);
    }

    /// Runs rounds until everything is warm.
    ///
    /// # Panics
    /// When a result is wrong or missing.
    pub fn warm_up(&self, rig: &mut Rig) {
        for _ in 0..WARM_UP {
            self.round(rig);
        }
    }
}

/// Sums what one execution for each message gives, and checks the sum.
macro_rules! each {
    (|$message:ident| $execution:expr) => {{
        let sum = block_on(async {
            let mut sum = 0;
            for $message in 0..MESSAGES {
                sum += $execution.await.expect("it is handled");
            }
            sum
        });
        assert_eq!(sum, sum_below(MESSAGES));
    }};
}

/// Awaits all completions of a vector that keeps its capacity, and checks their sum.
macro_rules! take_all {
    ($completions:expr) => {{
        let completions = &mut $completions;
        let sum = block_on(async {
            let mut sum = 0;
            for completion in completions.drain(..) {
                sum += completion.await.expect("it is handled");
            }
            sum
        });
        assert_eq!(sum, sum_below(MESSAGES));
    }};
}

fn parallel_ready(rig: &mut Rig) {
    each!(|message| rig.parallel.execute(Envelope::new(message), echo));
}

fn parallel_yielding(rig: &mut Rig) {
    each!(|message| rig.parallel.execute(Envelope::new(message), echo_later));
}

fn parallel_waiting(rig: &mut Rig) {
    let waited = rig.narrow.metrics().totals.waited;
    block_on(async {
        for message in 0..MESSAGES {
            let first = rig.narrow.execute(Envelope::new(message), echo_later);
            let second = rig.narrow.execute(Envelope::new(message + 1), echo);
            let (first, second) = both(first, second).await;
            assert_eq!(first.expect("it is handled"), message);
            assert_eq!(second.expect("it is handled"), message + 1);
        }
    });
    assert_eq!(
        rig.narrow.metrics().totals.waited - waited,
        MESSAGES,
        "the second did not wait"
    );
}

fn parallel_submit(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig.parallel.submit(Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn parallel_detached(rig: &mut Rig) {
    let handled = rig.parallel.metrics().totals.handled;
    for message in 0..MESSAGES {
        let submitted = rig.parallel.submit_detached(Envelope::new(message), echo);
        submitted.expect("there is room");
    }
    eventually("all are handled", || {
        rig.parallel.metrics().totals.handled - handled == MESSAGES
    });
}

fn serial_by_handle(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo));
}

fn serial_by_key(rig: &mut Rig) {
    each!(|message| rig
        .serial
        .execute(message % 10, Envelope::new(message), echo));
}

fn serial_yielding(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo_later));
}

fn serial_queued(rig: &mut Rig) {
    each!(|message| rig.queued.execute(Envelope::new(message), echo));
}

fn serial_submit(rig: &mut Rig) {
    each!(|message| rig
        .stream
        .submit(Envelope::new(message), echo)
        .expect("there is room"));
}

fn serial_submit_all(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig.stream.submit(Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn serial_detached(rig: &mut Rig) {
    let handled = rig.stream.handled();
    for message in 0..MESSAGES {
        let submitted = rig.stream.submit_detached(Envelope::new(message), echo);
        submitted.expect("there is room");
    }
    // The last in the order.
    let last = rig.stream.submit(Envelope::new(0), echo);
    let last = block_on(last.expect("there is room"));
    assert_eq!(last.expect("it is handled"), 0);
    assert_eq!(rig.stream.handled() - handled, MESSAGES + 1);
}

fn serial_streams(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig
            .serial
            .submit(message % 10, Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn serial_waiting_for_room(rig: &mut Rig) {
    let stream = &rig.tight;
    for message in 0..MESSAGES / 10 {
        rig.open.store(false, Ordering::SeqCst);
        let open = Arc::clone(&rig.open);
        let held = stream.submit(Envelope::new(message), move |message, _| async move {
            while !open.load(Ordering::SeqCst) {
                yield_once().await;
            }
            Ok::<_, Infallible>(message.payload)
        });
        eventually("the first one starts", || stream.depth() == 0);
        let queued = stream.try_submit(Envelope::new(message), echo);
        let mut waiting = pin!(stream.submit_wait(Envelope::new(message), echo));
        assert!(poll_once(waiting.as_mut()).is_pending(), "it did not wait");
        rig.open.store(true, Ordering::SeqCst);
        let admitted = block_on(waiting);
        for submission in [queued, admitted] {
            let completion = submission.expect("there is room");
            assert_eq!(completion.wait().expect("it is handled"), message);
        }
        assert_eq!(
            held.expect("there is room").wait().expect("it is handled"),
            message
        );
    }
}

fn spawn_fn(rig: &mut Rig) {
    each!(|message| rig
        .core
        .spawn_fn(move || message)
        .expect("the core is open"));
}

fn spawn(rig: &mut Rig) {
    each!(|message| rig
        .core
        .spawn(async move { message })
        .expect("the core is open"));
}

fn spawn_yielding(rig: &mut Rig) {
    each!(|message| {
        let task = async move {
            yield_once().await;
            message
        };
        rig.core.spawn(task).expect("the core is open")
    });
}

fn serial_from_a_task(rig: &mut Rig) {
    each!(|message| {
        let stream = rig.stream.clone();
        let task = async move {
            let outcome = stream.execute(Envelope::new(message), echo).await;
            outcome.expect("it is handled")
        };
        rig.core.spawn(task).expect("the core is open")
    });
}

fn serial_from_a_handler(rig: &mut Rig) {
    each!(|message| {
        let other = rig.queued.clone();
        rig.stream
            .execute(Envelope::new(message), |message, context| async move {
                // With a lineage, which lies in a block of its own and goes with it to the worker.
                let child = context.envelope(message.payload);
                let inner = other.execute(child, echo).await;
                Ok::<_, Infallible>(inner.expect("it is handled"))
            })
    });
}

fn spawn_all(rig: &mut Rig) {
    for message in 0..MESSAGES {
        rig.tasks.push(
            rig.core
                .spawn(async move { message })
                .expect("the core is open"),
        );
    }
    take_all!(rig.tasks);
}

fn delayed_submit(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let delayed = rig
            .queued
            .submit_after(DELAY, Envelope::new(message), echo)
            .expect("the executor is open");
        rig.completions.push(delayed.into_completion());
    }
    take_all!(rig.completions);
}

fn delayed_and_cancelled(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let mut delayed = rig
            .stream
            .submit_after(DELAY * 60_000, Envelope::new(message), echo)
            .expect("the executor is open");
        assert!(delayed.reschedule_after(DELAY * 30_000));
        assert!(delayed.cancel());
    }
}

fn delayed_tasks(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let delayed = rig
            .core
            .spawn_fn_after(DELAY, move || message)
            .expect("the core is open");
        rig.tasks.push(delayed.into_completion());
    }
    take_all!(rig.tasks);
}

fn wait_on_thread(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig
            .core
            .spawn_fn(move || message)
            .expect("the core is open");
        assert_eq!(completion.wait().expect("it is handled"), message);
    }
}

fn spawn_to_sleepers(rig: &mut Rig) {
    for message in 0..MESSAGES / 10 {
        eventually("the workers sleep", || rig.core.metrics().asleep == 2);
        let completion = rig.core.spawn_fn(move || message);
        let outcome = completion.expect("the core is open").wait();
        assert_eq!(outcome.expect("it is handled"), message);
    }
}

fn fresh_envelope(_: &mut Rig) {
    for message in 0..MESSAGES {
        let envelope = black_box(Envelope::new(black_box(message)));
        assert_eq!(envelope.payload, message);
    }
}

fn child_envelope(rig: &mut Rig) {
    each!(|message| rig
        .stream
        .execute(Envelope::new(message), |message, context| async move {
            let child = black_box(context.envelope(message.payload));
            Ok::<_, Infallible>(child.payload)
        }));
}

fn decisions(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo_decided));
}

fn decisions_on_worker(rig: &mut Rig) {
    each!(|message| rig.queued.execute(Envelope::new(message), echo_decided));
}

fn oversized(rig: &mut Rig) {
    each!(|message| {
        let payload = [message; 256];
        let handler = |message: Envelope<[u64; 256]>, _| async move {
            Ok::<_, Infallible>(message.payload[255])
        };
        rig.stream
            .submit(Envelope::new(payload), handler)
            .expect("there is room")
    });
}

/// All paths.
pub const PATHS: &[Path] = &[
    Path::caller("parallel execute, ready", parallel_ready),
    Path::caller("parallel execute, yields once", parallel_yielding),
    Path::caller("parallel execute, waits for a permit", parallel_waiting),
    Path::workers("parallel submit 1,000 and await", parallel_submit),
    Path::workers("parallel submit 1,000 detached", parallel_detached),
    Path::caller("serial execute inline, by handle", serial_by_handle),
    Path::caller("serial execute inline, by key", serial_by_key),
    Path::workers("serial execute inline, yields once", serial_yielding),
    Path::workers("serial execute queued", serial_queued),
    Path::workers("serial submit and await", serial_submit),
    Path::workers("serial submit 1,000 and await", serial_submit_all),
    Path::workers("serial submit 1,000 detached", serial_detached),
    Path::workers("serial submit to 10 streams and await", serial_streams),
    Path::workers("serial submit, waits for room", serial_waiting_for_room),
    Path::workers("serial execute from a task", serial_from_a_task),
    Path::workers("serial execute from a handler", serial_from_a_handler),
    Path::workers("spawn_fn and await", spawn_fn),
    Path::workers("spawn and await", spawn),
    Path::workers("spawn, yields once", spawn_yielding),
    Path::workers("spawn 1,000 and await", spawn_all),
    Path::workers("serial submit 1,000 delayed and await", delayed_submit),
    Path::workers("serial delay, move and cancel", delayed_and_cancelled),
    Path::workers("spawn 1,000 delayed and await", delayed_tasks),
    Path::workers("spawn_fn and block", wait_on_thread),
    Path::workers("spawn_fn to workers asleep", spawn_to_sleepers),
    Path::caller("fresh envelope", fresh_envelope),
    Path::caller("child envelope", child_envelope),
    Path::caller("three decisions", decisions),
    Path::workers("three decisions on a worker", decisions_on_worker),
    Path {
        allocations: 1,
        ..Path::workers("oversized message", oversized)
    },
];
