use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::ParallelExecutor;

/// A gate with so many permits, on a core whose workers have nothing to do.
fn gate(permits: usize) -> Arc<Gate> {
    let core = WorkerCore::threads(1).build().expect("a thread");
    let executor = ParallelExecutor::builder(&core).max_concurrency(permits);
    Arc::clone(&executor.build().expect("legal options").gate)
}

fn is_ready<F: Future + Unpin>(future: &mut F) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(future).poll(&mut context).is_ready()
}

/// A place in line of a gate that has no permit free.
fn in_line(gate: &Gate, generation: u32) -> InLine<'_> {
    let mut waiting = InLine::new(gate, generation);
    assert!(!is_ready(&mut waiting), "no permit is free");
    waiting
}

/// Whether permits are taken and given without the lock, once it was taken for nothing often enough.
fn is_calm(gate: &Gate) -> bool {
    let generation = gate.generation();
    (0..=gate.permits.shards()).any(|_| {
        let taken = gate.try_take_quickly();
        if taken || gate.try_take(generation).is_ok() {
            gate.give(generation);
        }
        taken
    })
}

#[test]
fn what_needed_the_lock_leaves_the_permits_to_everybody() {
    let gate = gate(2);
    assert!(is_calm(&gate));
    let generation = gate.generation();
    for _ in 0..2 {
        gate.try_take(generation).expect("free");
    }
    let refused = gate.try_take(generation);
    assert_eq!(refused, Err(RejectReason::NoPermit { limit: 2 }));
    let mut waiting = in_line(&gate, generation);
    gate.give(generation);
    assert!(is_ready(&mut waiting));
    gate.give(generation);
    gate.give(generation);
    assert!(is_calm(&gate), "after somebody has waited");
    gate.set_limit(1);
    gate.set_limit(3);
    assert!(is_calm(&gate), "after the limit was changed");
    assert_eq!(gate.count(), 0);
    assert!(is_ready(&mut gate.drained()));
    assert!(is_calm(&gate), "after a drain");
}

#[test]
fn drains_that_were_given_up_are_forgotten() {
    let gate = gate(2);
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    for _ in 0..100 {
        assert!(!is_ready(&mut gate.drained()));
    }
    assert!(gate.lock().drains.len() <= 1);
    assert!(!gate.try_take_quickly(), "the last drain was just begun");
    gate.try_take(generation).expect("free");
    gate.give(generation);
    assert!(is_calm(&gate), "nobody hears of any drain");
    gate.give(generation);
}

#[test]
fn generations_wrap_around() {
    let gate = gate(4);
    gate.generation.store(UNADMITTED - 2, Ordering::SeqCst);
    let mut begun = Vec::new();
    for _ in 0..4 {
        let generation = gate.generation();
        assert_ne!(generation, UNADMITTED);
        gate.try_take(generation).expect("free");
        begun.push((generation, gate.drained()));
    }
    // Each drain waits for what was admitted before it, and for nothing else.
    for at in 0..4 {
        assert!(begun[at..].iter_mut().all(|(_, drain)| !is_ready(drain)));
        gate.give(begun[at].0);
        assert!(is_ready(&mut begun[at].1), "{at}");
    }
    assert_eq!((gate.free(), gate.count()), (4, 0));
    assert!(is_calm(&gate));
}

#[test]
fn who_gave_up_in_line_takes_no_place_in_it() {
    let gate = gate(1);
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let in_line = || in_line(&gate, generation);
    let mut kept = in_line();
    for _ in 0..1_000 {
        drop(in_line());
        assert!(gate.lock().waiting() < 8, "they are looked for in time");
    }
    assert_eq!((gate.waiting(), gate.count()), (1, 2));
    gate.give(generation);
    assert!(is_ready(&mut kept));
    gate.give(generation);
    assert!(is_calm(&gate));
}

#[test]
fn a_permit_goes_past_who_gave_up_in_line() {
    let gate = gate(1);
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let [given_up, mut behind] = [0, 1].map(|_| in_line(&gate, generation));
    drop(given_up);
    gate.give(generation);
    assert!(is_ready(&mut behind));
    // With nobody behind, it is free again.
    drop(in_line(&gate, generation));
    gate.give(generation);
    assert_eq!((gate.free(), gate.count()), (1, 0));
    assert!(is_calm(&gate));
}

#[test]
fn a_limit_that_is_moved_holds_before_the_lock_is_free() {
    let gate = gate(3);
    gate.try_take(gate.generation()).expect("free");
    let mut line = gate.lock();
    gate.move_limit(&mut line, 2);
    assert_eq!((line.owed, gate.free()), (0, 1));
    gate.move_limit(&mut line, 0);
    assert_eq!((line.owed, gate.free()), (1, 0), "one is held");
    gate.move_limit(&mut line, 2);
    assert_eq!((line.owed, gate.free()), (0, 1), "nothing is owed any more");
}

/// Drops what it holds when it is woken.
struct DropsWhenWoken<T>(std::sync::Mutex<Option<T>>);

impl<T: Send> Wake for DropsWhenWoken<T> {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().expect("whole").take());
    }
}

#[test]
fn a_raised_limit_serves_all_although_one_of_them_goes_meanwhile() {
    // What a waker holds has no borrows.
    static GATE: LazyLock<Arc<Gate>> = LazyLock::new(|| gate(1));
    let gate = &**GATE;
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let in_line = |generation| in_line(gate, generation);
    let (first, goes) = (in_line(generation), in_line(generation + 1));
    let mut others = [0; 4].map(|_| in_line(generation + 1));
    let (done, mut drain) = promise();
    let mut line = gate.lock();
    gate.move_limit(&mut line, 4);
    let left = 1;
    line.drains.push(Drain {
        generation,
        left,
        done,
    });
    drop(line);
    let waker = Waker::from(Arc::new(DropsWhenWoken(std::sync::Mutex::new(Some(goes)))));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut drain).poll(&mut context).is_pending());
    // With it the drain ends, and wakes somebody who drops the next in line as it is being served.
    drop(first);
    let served = others.iter_mut().map(is_ready).filter(|&served| served);
    assert_eq!((served.count(), gate.free()), (3, 0));
}

#[test]
fn a_drain_does_not_wait_for_who_gave_up_in_line() {
    let gate = gate(1);
    let first = gate.generation();
    gate.try_take(first).expect("free");
    let mut drain = gate.drained();
    assert!(!is_ready(&mut drain));
    let in_line = |generation| in_line(&gate, generation);
    // One that came after the drain, and behind it one of the message that the drain waits for.
    let mut later = in_line(gate.generation());
    let descendant = in_line(first);
    gate.give(first);
    assert!(is_ready(&mut later), "it has the permit");
    assert!(!is_ready(&mut drain));
    drop(descendant);
    assert!(is_ready(&mut drain), "the later one has the permit");
    gate.give(gate.generation());
    // And one that the drain found in line.
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let found = in_line(generation);
    let mut drain = gate.drained();
    gate.give(generation);
    assert!(!is_ready(&mut drain), "who is in line has the permit");
    drop(found);
    assert!(is_ready(&mut drain));
    assert!(is_calm(&gate));
}

/// Counts its wakes.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn of_the_wakers_of_who_waits_the_last_is_woken_and_none_is_kept() {
    let gate = gate(1);
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let wakers = [(); 3].map(|()| Arc::new(Woken::default()));
    let poll = |waiting: &mut InLine<'_>, at: usize| {
        let waker = Waker::from(Arc::clone(&wakers[at]));
        Pin::new(waiting).poll(&mut Context::from_waker(&waker))
    };
    let woken = || {
        wakers
            .each_ref()
            .map(|woken| woken.0.load(Ordering::SeqCst))
    };
    let [mut first, mut gives_up] = [(); 2].map(|()| InLine::new(&gate, generation));
    assert!(poll(&mut first, 0).is_pending());
    assert!(poll(&mut gives_up, 2).is_pending());
    for at in [0, 1, 1] {
        assert!(poll(&mut first, at).is_pending());
    }
    drop(gives_up);
    assert_eq!(Arc::strong_count(&wakers[0]), 1, "it was replaced");
    assert_eq!(Arc::strong_count(&wakers[2]), 1, "its caller gave up");
    gate.give(generation);
    assert_eq!(woken(), [0, 1, 0]);
    assert_eq!(Arc::strong_count(&wakers[1]), 1, "it was woken");
    assert_eq!(poll(&mut first, 2), Poll::Ready(Ok(())));
    assert_eq!(Arc::strong_count(&wakers[2]), 1, "nobody waits");
    gate.give(generation);
}

#[test]
fn an_abort_wakes_and_turns_away_who_waits() {
    let gate = gate(1);
    let generation = gate.generation();
    gate.try_take(generation).expect("free");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut waiting = [(); 3].map(|()| InLine::new(&gate, generation));
    for waiting in &mut waiting {
        assert!(Pin::new(waiting).poll(&mut context).is_pending());
    }
    let [mut first, second, mut last] = waiting;
    drop(second);
    gate.close(true);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    for waiting in [&mut first, &mut last] {
        let polled = Pin::new(waiting).poll(&mut context);
        assert_eq!(polled, Poll::Ready(Err(RejectReason::Closed)));
    }
    assert_eq!((gate.waiting(), gate.running()), (0, 1));
    gate.give(generation);
    assert_eq!(gate.free(), 1);
}
