//! A thread that stands by while a drain waits, in case every worker is blocked.
//!
//! On own threads the workers keep the time, so when all of them are blocked in handlers nothing
//! fires. A delayed message cannot be run then anyway; but who drains or shuts down has given a
//! deadline for just this case. On tokio a thread of the blocking pool keeps the time, and a virtual
//! clock is kept by whoever advances it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::core::CoreShared;
use crate::time::MANY;

/// A thread that fires what is due at the end of a deadline, unless it is dismissed before.
pub(crate) struct Standby {
    dismissed: Arc<AtomicBool>,
    thread: Thread,
}

impl Standby {
    /// Starts one, if the core needs it.
    pub(crate) fn start(core: &Arc<CoreShared>, limit: Duration) -> Option<Self> {
        if !core.timers.is_kept_by_workers() {
            return None;
        }
        // Beyond the range of the clock nobody lives to see it.
        let until = Instant::now().checked_add(limit)?;
        // The deadline's own timer is due within a tick after it; more is for slow machines.
        let last = until.checked_add(8 * core.timers.tick())?;
        let dismissed = Arc::new(AtomicBool::new(false));
        let (core, flag) = (Arc::clone(core), Arc::clone(&dismissed));
        let stand_by = move || {
            while !flag.load(Ordering::Acquire) {
                let now = Instant::now();
                if now < until {
                    thread::park_timeout(until - now);
                } else if now < last {
                    core.tend(MANY);
                    thread::park_timeout(core.timers.tick() / 4);
                } else {
                    while core.tend(MANY) {}
                    return;
                }
            }
        };
        match thread::Builder::new()
            .name("executor-deadline".into())
            .spawn(stand_by)
        {
            Ok(handle) => Some(Self {
                dismissed,
                thread: handle.thread().clone(),
            }),
            Err(error) => {
                tracing::warn!(%error, "a deadline is kept by the workers alone: no thread");
                None
            }
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.dismissed.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
