//! Deadlines for drains and shutdowns.
//!
//! They are rare and long, so they share one sleeping thread that exists only while one is pending:
//! a thread of the runtime's blocking pool on the tokio host, an own one otherwise.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::sync::plain::{Condvar, Mutex, MutexGuard};

/// The pending deadlines of one core.
pub(crate) struct Alarm {
    shared: Arc<Shared>,
    runtime: Option<Handle>,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    watched: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever is due, until nobody is left.
    fn watch(&self) {
        let mut pending = self.lock();
        while let Some((&(due, id), _)) = pending.wakers.first_key_value() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waker = pending.wakers.remove(&(due, id));
                drop(pending);
                if let Some(waker) = waker {
                    crate::cell::wake_quietly(waker);
                }
                pending = self.lock();
            } else {
                pending = self
                    .changed
                    .wait_timeout(pending, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        pending.watched = false;
    }
}

/// A deadline's place; dropped, it is forgotten.
struct Entry {
    shared: Arc<Shared>,
    key: (Instant, u64),
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Bound first, so that the lock is gone when the waker is dropped.
        let _waker = self.shared.lock().wakers.remove(&self.key);
        self.shared.changed.notify_one();
    }
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            runtime: None,
        }
    }

    pub(crate) fn on(runtime: Handle) -> Self {
        Self {
            shared: Arc::default(),
            runtime: Some(runtime),
        }
    }

    fn set(&self, due: Instant, waker: Waker) -> Entry {
        let mut pending = self.shared.lock();
        pending.next += 1;
        let key = (due, pending.next);
        pending.wakers.insert(key, waker);
        let start = !std::mem::replace(&mut pending.watched, true);
        drop(pending);
        self.shared.changed.notify_one();
        if start {
            let shared = Arc::clone(&self.shared);
            let watch = move || shared.watch();
            match &self.runtime {
                Some(runtime) => drop(runtime.spawn_blocking(watch)),
                // Without a thread the deadline is late by as long as the work takes.
                None => drop(
                    thread::Builder::new()
                        .name("executor-alarm".into())
                        .spawn(watch),
                ),
            }
        }
        Entry {
            shared: Arc::clone(&self.shared),
            key,
        }
    }
}

/// Waits for `work`, but not longer than `limit`.
pub(crate) async fn within<F: Future>(
    alarm: &Alarm,
    limit: Duration,
    work: F,
) -> Option<F::Output> {
    let due = Instant::now().checked_add(limit);
    let mut work = pin!(work);
    let mut entry = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let Some(due) = due else { return Poll::Pending };
        if Instant::now() >= due {
            return Poll::Ready(None);
        }
        entry = Some(alarm.set(due, context.waker().clone()));
        Poll::Pending
    })
    .await
}
