//! A clock that is moved by hand: who moves it, and the sleeps and drains that go by it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Shutdown, VirtualClock, WorkerCore};

use crate::outcomes::{DEADLINE, block_on, wait};
use crate::timers::MILLISECOND;

pub(crate) fn virtual_core(workers: usize) -> (VirtualClock, WorkerCore) {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(workers).clock(&clock).build();
    (clock, core.expect("the threads start"))
}

#[test]
fn a_sleep_is_reset_and_dropped_while_it_waits() {
    let (clock, core) = virtual_core(1);
    let mut sleep = core.sleep(MILLISECOND);
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        std::pin::Pin::new(&mut sleep)
            .poll(&mut context)
            .is_pending()
    );
    sleep.reset(executor_core::When::After(DEADLINE));
    clock.advance(MILLISECOND);
    assert!(
        std::pin::Pin::new(&mut sleep)
            .poll(&mut context)
            .is_pending()
    );
    drop(sleep);
    let mut again = core.sleep(MILLISECOND);
    assert!(
        std::pin::Pin::new(&mut again)
            .poll(&mut context)
            .is_pending()
    );
    clock.advance(MILLISECOND);
    block_on(again);
}

#[test]
fn a_drain_gives_up_at_its_deadline() {
    let (clock, core) = virtual_core(1);
    let held = core.spawn(std::future::pending::<()>()).expect("open");
    let mut drain = pin!(core.drain(MILLISECOND));
    let mut context = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut context).is_pending());
    clock.advance(MILLISECOND);
    assert!(!block_on(drain).is_complete());
    drop(held);
    assert!(block_on(core.shutdown(Shutdown::Abort, DEADLINE)).is_complete());
}

#[test]
fn a_virtual_clock_at_its_end_fires_nothing_that_lies_beyond() {
    let clock = VirtualClock::new();
    let core = WorkerCore::threads(1).clock(&clock).build().expect("built");
    let mut beyond = core.spawn_fn_after(Duration::MAX, || ()).expect("open");
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert!(beyond.cancel(), "it was not fired");
}

/// A waker that is in no hurry: it tells that it is woken, and goes on a while after it was told to.
struct Slow {
    woken: Sender<()>,
    told: AtomicBool,
    done: AtomicBool,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        self.woken.send(()).expect("the test listens");
        let until = Instant::now() + DEADLINE;
        while !self.told.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "not told within {DEADLINE:?}");
            thread::yield_now();
        }
        (0..10_000).for_each(|_| thread::yield_now());
        self.done.store(true, Ordering::SeqCst);
    }
}

#[test]
fn an_advance_waits_for_what_another_thread_is_firing() {
    let (clock, core) = virtual_core(1);
    let (woken, waking) = channel();
    let slow = Arc::new(Slow {
        woken,
        told: AtomicBool::new(false),
        done: AtomicBool::new(false),
    });
    let mut sleeper = core.sleep(MILLISECOND);
    let waker = Waker::from(Arc::clone(&slow));
    let polled = std::pin::Pin::new(&mut sleeper).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let other = clock.clone();
    let firing = thread::spawn(move || other.advance(MILLISECOND));
    waking.recv_timeout(DEADLINE).expect("it is being woken");
    slow.told.store(true, Ordering::SeqCst);
    clock.advance(MILLISECOND);
    assert!(slow.done.load(Ordering::SeqCst), "it was not woken yet");
    firing.join().expect("no panic");
}

/// A waker that moves the clock when it is woken, and counts how often.
struct Advancing(VirtualClock, AtomicUsize);

impl Wake for Advancing {
    fn wake(self: Arc<Self>) {
        self.0.advance(MILLISECOND);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn wakers_and_handlers_may_move_the_clock() {
    let (clock, core) = virtual_core(3);
    let waking = Arc::new(Advancing(clock.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&waking));
    let mut sleepers: Vec<_> = (1..=100)
        .map(|delay| core.sleep(delay * MILLISECOND))
        .collect();
    for sleeper in &mut sleepers {
        let polled = std::pin::Pin::new(sleeper).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    // Each of three workers wakes some, which move it further.
    let moving = (0..3).map(|_| {
        let clock = clock.clone();
        core.spawn_fn(move || (0..20).for_each(|_| clock.advance(MILLISECOND)))
    });
    let moving: Vec<_> = moving.collect();
    for moved in moving {
        wait(moved.expect("open")).expect("it ran");
    }
    assert_eq!(waking.1.load(Ordering::SeqCst), sleepers.len());
}
