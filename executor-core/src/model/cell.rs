//! A cell's words: the status, and what goes with it.

use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::cell::Near;
use crate::status::{Cancel, Detach, Finish, Look, Start, Status};

struct Task {
    status: Status,
    output: UnsafeCell<Option<u32>>,
    waker: UnsafeCell<bool>,
    freed: UnsafeCell<bool>,
    /// Goes when the runner is through, as a stream may.
    home: UnsafeCell<bool>,
    frees: Plain,
    wakes: Plain,
}

// SAFETY: loom tracks the accesses, which is the point of the model.
unsafe impl Sync for Task {}
// SAFETY: as above.
unsafe impl Send for Task {}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            status: Status::new(true),
            output: UnsafeCell::new(None),
            waker: UnsafeCell::new(false),
            freed: UnsafeCell::new(false),
            home: UnsafeCell::new(true),
            frees: Plain::new(0),
            wakes: Plain::new(0),
        })
    }

    /// Any use of the cell: concurrent with its free, or after it, it fails.
    fn touch(&self) {
        // SAFETY: the caller believes that it holds the cell.
        self.freed
            .with(|freed| assert!(!unsafe { *freed }, "used after it was freed"));
    }

    fn free(&self) {
        // SAFETY: the caller believes that it is the last.
        self.freed
            .with_mut(|freed| assert!(!std::mem::replace(unsafe { &mut *freed }, true)));
        // SAFETY: as above.
        self.output
            .with_mut(|output| assert!(unsafe { (*output).is_none() }, "output left behind"));
        // SAFETY: as above.
        self.waker
            .with_mut(|waker| assert!(!unsafe { *waker }, "waker left behind"));
        self.frees.fetch_add(1, SeqCst);
    }

    fn set_output(&self, value: Option<u32>) -> Option<u32> {
        self.touch();
        // SAFETY: status, I2.
        self.output
            .with_mut(|output| std::mem::replace(unsafe { &mut *output }, value))
    }

    fn set_field(&self, to: bool) {
        self.touch();
        // SAFETY: status, I3.
        self.waker
            .with_mut(|waker| assert_ne!(std::mem::replace(unsafe { &mut *waker }, to), to));
    }

    /// As `cell::poll` and `cell::leave`.
    fn run(&self) {
        match self.status.start() {
            Start::Cancelled => {}
            _ => assert_eq!(self.set_output(Some(7)), None),
        }
        self.leave();
        // SAFETY: the runner's own, and nobody's after it has finished.
        self.home.with_mut(|home| unsafe { *home = false });
    }

    fn leave(&self) {
        loop {
            self.touch();
            match self.status.finish() {
                Finish::Handed => return,
                Finish::TakeWaker => self.set_field(false),
                Finish::Held => thread::yield_now(),
                Finish::Discard => {
                    self.set_output(None);
                    if self.status.release() {
                        self.free();
                    }
                    return;
                }
            }
        }
    }

    fn unregister(&self) {
        if self.status.unset_waker() {
            self.set_field(false);
        }
    }

    /// As `Completion::poll`; true: the output was taken.
    fn poll(&self) -> bool {
        self.touch();
        match self.status.look() {
            Look::Done => {
                assert_eq!(self.set_output(None), Some(7));
                if self.status.release_join() {
                    self.free();
                }
                return true;
            }
            Look::Vacant => {
                self.set_field(true);
                if !self.status.set_waker() {
                    self.set_field(false);
                    return self.poll();
                }
            }
            Look::Registered => self.unregister(),
            Look::Taking => {}
        }
        false
    }

    fn drop_completion(&self) {
        self.touch();
        self.unregister();
        match self.status.detach() {
            Detach::Gone => {}
            Detach::Done => {
                assert_eq!(self.set_output(None), Some(7));
                if self.status.release_join() {
                    self.free();
                }
            }
            Detach::Lingering => {
                let _ = self.status.add_waker();
                // SAFETY: as `cell::acquire` does: the home lives until `detach_held`.
                self.home
                    .with(|home| assert!(unsafe { *home }, "held without a home"));
                self.status.detach_held();
                self.wakes.fetch_add(1, SeqCst);
                self.drop_waker();
            }
        }
    }

    /// As `cell::finish` does with a context that is in the output.
    fn run_straying(&self) {
        let _ = self.status.start();
        assert_eq!(self.set_output(Some(7)), None);
        if !self.status.linger() {
            self.finish_lingering();
        }
    }

    /// As `cell::finish_lingering`, for a context that goes with the output.
    fn finish_lingering(&self) {
        assert!(!self.status.is_hollow());
        if self.status.is_joined() {
            return;
        }
        assert_eq!(self.set_output(None), Some(7));
        self.status.hollow();
        self.leave();
        // SAFETY: the runner's own, and nobody's after it has finished.
        self.home.with_mut(|home| unsafe { *home = false });
    }

    /// As `Completion::cancel`, and drop.
    fn cancel(&self) {
        match self.status.cancel() {
            Cancel::Won => {
                self.touch();
                self.unregister();
                if self.status.detach() == Detach::Done && self.status.release_join() {
                    self.free();
                }
            }
            Cancel::Running => {
                self.touch();
                // SAFETY: as `CellRef::wake` does: the home lives until `unhold`.
                self.home
                    .with(|home| assert!(unsafe { *home }, "woken without a home"));
                self.status.unhold();
                self.drop_completion();
            }
            Cancel::Done => self.drop_completion(),
        }
    }

    fn drop_waker(&self) {
        self.touch();
        if self.status.drop_waker().1 {
            self.free();
        }
    }

    fn assert_freed_once(&self) {
        assert_eq!(self.frees.load(SeqCst), 1);
    }
}

#[test]
fn polled_twice_and_dropped_while_the_runner_finishes() {
    loom::model(|| {
        let task = Task::new();
        let other = Arc::clone(&task);
        let runner = thread::spawn(move || other.run());
        if !task.poll() && !task.poll() {
            task.drop_completion();
        }
        runner.join().unwrap();
        task.assert_freed_once();
    });
}

#[test]
fn cancelled_while_the_runner_starts_and_finishes() {
    for polled in [false, true] {
        loom::model(move || {
            let task = Task::new();
            let other = Arc::clone(&task);
            let runner = thread::spawn(move || other.run());
            if !polled || !task.poll() {
                task.cancel();
            }
            runner.join().unwrap();
            task.assert_freed_once();
        });
    }
}

#[test]
fn the_last_of_runner_completion_and_waker_frees() {
    loom::model(|| {
        let task = Task::new();
        task.status.start_joined();
        assert!(task.status.add_waker());
        let other = Arc::clone(&task);
        let runner = thread::spawn(move || {
            other.set_output(Some(7));
            other.leave();
        });
        let other = Arc::clone(&task);
        let waker = thread::spawn(move || other.drop_waker());
        if !task.poll() {
            task.drop_completion();
        }
        runner.join().unwrap();
        waker.join().unwrap();
        task.assert_freed_once();
    });
}

#[test]
fn an_output_that_waits_for_the_context_in_it_goes_with_the_completion() {
    for polled in [false, true] {
        loom::model(move || {
            let task = Task::new();
            let other = Arc::clone(&task);
            let runner = thread::spawn(move || other.run_straying());
            if polled {
                assert!(!task.poll());
            }
            task.drop_completion();
            runner.join().unwrap();
            if task.wakes.load(SeqCst) != 0 {
                assert_eq!(task.status.start(), Start::Lingering);
                task.finish_lingering();
            }
            task.assert_freed_once();
        });
    }
}

// ---- a context that strays -------------------------------------------------------------------

#[test]
fn of_the_drop_of_a_stray_context_and_its_runner_one_sees_the_other() {
    loom::model(|| {
        let shared = Arc::new((Near::nothing(), UnsafeCell::new(0)));
        shared.0.context_made(true);
        let other = Arc::clone(&shared);
        let stray = thread::spawn(move || {
            // SAFETY: the message is not handled while its context is alive.
            other.1.with_mut(|state| unsafe { *state += 1 });
            other.0.context_dropped_elsewhere()
        });
        let awaited = shared.0.is_straying();
        if !awaited {
            // SAFETY: the context is gone: the state is the next message's.
            shared.1.with_mut(|state| unsafe { *state += 1 });
        }
        assert_eq!(
            stray.join().unwrap(),
            awaited,
            "woken if and only if awaited"
        );
        assert!(!shared.0.is_straying(), "it is gone");
    });
}

#[test]
fn a_caller_is_noted_beside_the_drop_of_a_stray_context() {
    loom::model(|| {
        let near = Arc::new(Near::nothing());
        near.context_made(true);
        let other = Arc::clone(&near);
        let stray = thread::spawn(move || other.context_dropped_elsewhere());
        let awaited = near.is_straying();
        near.note(1 << 12);
        assert_eq!(
            stray.join().unwrap(),
            awaited,
            "woken if and only if awaited"
        );
        assert!(!near.is_straying(), "it is gone");
        assert!(near.has_caller());
    });
}
