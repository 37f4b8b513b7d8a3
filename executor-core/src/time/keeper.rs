//! The thread that keeps the time of workers that are tasks.
//!
//! A thread of the runtime's blocking pool, lent while there is a timer and given back when there is
//! none. It fires what is due itself, so that a worker is woken only for what is to be run.

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::core::CoreShared;
use crate::time::MANY;
use crate::time::post::{Post, Rest};

/// The keeper of one core, there or not.
pub(crate) struct Keeper {
    runtime: Handle,
    post: Post<Thread>,
}

/// A keeper on duty; it leaves its post also when the runtime drops it without running it.
struct OnDuty {
    core: Arc<CoreShared>,
    /// Whether it has left its post, which may be another's by now.
    has_left: bool,
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        if let (Some(keeper), false) = (&self.core.timers.keeper, self.has_left) {
            keeper.post.leave();
        }
    }
}

impl Keeper {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            post: Post::new(),
        }
    }

    /// The next tick is `tick` now: calls a keeper, or wakes it if it would sleep too long.
    pub(crate) fn note_earlier(&self, tick: u64, core: &CoreShared) {
        if !self.post.note_earlier(tick, Thread::unpark) {
            return;
        }
        let Some(core) = core.timers.core() else {
            return self.post.leave();
        };
        let duty = OnDuty {
            core,
            has_left: false,
        };
        drop(self.runtime.spawn_blocking(move || duty.keep()));
    }

    /// Wakes the keeper, to see that it is over.
    pub(crate) fn dismiss(&self) {
        self.post.wake(Thread::unpark);
    }
}

impl OnDuty {
    fn keep(mut self) {
        let core = Arc::clone(&self.core);
        let timers = &core.timers;
        let Some(keeper) = &timers.keeper else { return };
        keeper.post.come(thread::current());
        loop {
            while core.tend(MANY) {}
            if timers.is_over() {
                return;
            }
            let next = timers.clockwork.next();
            match keeper.post.lie_down(next, || timers.clockwork.next()) {
                Rest::Not => {}
                Rest::Until => {
                    let left = (timers.instant_of(next)).saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        thread::park_timeout(left);
                    }
                }
                Rest::Over => {
                    self.has_left = true;
                    return;
                }
            }
        }
    }
}
