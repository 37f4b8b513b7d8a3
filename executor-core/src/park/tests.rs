use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Woken {
    fn poll(self: &Arc<Self>, parker: &Parker) -> Poll<()> {
        parker.poll_park(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn the_task_that_parked_last_is_the_one_that_is_woken_and_once() {
    let parker = Parker::new();
    let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(first.poll(&parker).is_pending());
    assert!(second.poll(&parker).is_pending());
    assert!(second.poll(&parker).is_pending());
    parker.wake();
    parker.wake();
    assert_eq!((first.count(), second.count()), (0, 1));
    assert!(second.poll(&parker).is_ready());
    assert!(second.poll(&parker).is_pending());
}

#[test]
fn a_wake_that_came_before_counts_and_a_deadline_ends_without_one() {
    let parker = Parker::new();
    parker.wake();
    parker.park();
    let now = Instant::now();
    assert!(!parker.park_until(now));
    parker.wake();
    assert!(parker.park_until(now));
    assert!(!parker.park_until(now));
}
