//! Streams that outlive their executor.
//!
//! With an executor's last handle its registry goes, but not the streams that a message or a handle
//! still keeps. The registry leaves those here, and the core, which reaches every executor through
//! its [`Common`], closes, drains and aborts them like any others.
//!
//! # States
//! | registry | list | meaning |
//! | --- | --- | --- |
//! | alive | `None` | the streams are in the registry |
//! | gone | `None` | it is being dropped on another thread: nobody knows what it leaves |
//! | gone | `Some` | what it left and is still alive |
//!
//! No stream misses a close: whoever closes sets the phase before it looks for streams, and the
//! registry fills the list before it looks at the phase.

use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use executor_core::engine::sync::{Mutex, MutexGuard};
use executor_core::engine::{Lifecycle, Strand, check_exit};
use executor_core::{Report, Shutdown};

use crate::registry::{Common, Keyed, KeyedStrand};

/// What is left of an executor without handles.
pub(crate) struct Orphans<K: Send + Sync + 'static, S: Send + 'static> {
    left: Mutex<Left<K, S>>,
    /// Whether the list is filled; streams that are dropped before need not look.
    is_filled: AtomicBool,
}

struct Left<K: Send + Sync + 'static, S: Send + 'static> {
    /// Weak: a busy stream keeps itself, and an idle one belongs to its handles.
    streams: Option<Vec<Weak<Strand<Keyed<K, S>>>>>,
    /// How many of them were dropped since the list was tidied.
    gone: usize,
}

impl<K: Send + Sync + 'static, S: Send + 'static> Orphans<K, S> {
    pub(crate) fn new() -> Self {
        Self {
            left: Mutex::new(Left {
                streams: None,
                gone: 0,
            }),
            is_filled: AtomicBool::new(false),
        }
    }

    // Nothing but memory of streams that are gone is freed under this lock.
    fn lock(&self) -> MutexGuard<'_, Left<K, S>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, streams: Vec<Weak<Strand<Keyed<K, S>>>>) {
        self.is_filled.store(true, Ordering::SeqCst);
        self.lock().streams = Some(streams);
    }

    /// Those that are alive; `None`: it is not known yet.
    fn alive(&self) -> Option<Vec<KeyedStrand<K, S>>> {
        let left = self.lock();
        let streams = left.streams.as_ref()?;
        Some(streams.iter().filter_map(Weak::upgrade).collect())
    }

    /// A stream of the executor is being dropped.
    #[inline]
    pub(crate) fn note_gone(&self) {
        if self.is_filled.load(Ordering::Relaxed) {
            self.tidy();
        }
    }

    #[cold]
    fn tidy(&self) {
        let mut left = self.lock();
        left.gone += 1;
        let gone = left.gone;
        let Some(streams) = &mut left.streams else {
            return;
        };
        if 2 * gone >= streams.len() {
            streams.retain(|stream| stream.strong_count() != 0);
            streams.shrink_to_fit();
            left.gone = 0;
        }
    }
}

impl<K, S> Common<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    /// Takes over the streams that somebody else keeps too.
    pub(crate) fn adopt_orphans(&self, streams: Vec<Weak<Strand<Keyed<K, S>>>>) {
        self.orphans.fill(streams);
        if self.shared.is_closed() {
            // The close may have come when they were neither here nor there.
            self.refuse_streams();
        }
        check_exit(self.shared.worker_core());
    }

    /// The streams, in the registry or left by it; `None` while they change hands.
    fn known_streams(&self) -> Option<Vec<KeyedStrand<K, S>>> {
        match self.registry.upgrade() {
            Some(registry) => Some(registry.streams()),
            None => self.orphans.alive(),
        }
    }

    pub(crate) fn streams(&self) -> Vec<KeyedStrand<K, S>> {
        self.known_streams().unwrap_or_default()
    }

    /// Closes every stream and, in an abort, makes what waits see it; after the phase was set.
    pub(crate) fn refuse_streams(&self) {
        let streams = self.streams();
        streams.iter().for_each(|stream| stream.close());
        self.shared.turn_waiters_away();
        self.shared.end_delayed();
        if self.shared.is_aborting() {
            streams.iter().for_each(Strand::kick);
        }
    }

    /// Ends what the registry left.
    async fn end_orphans(&self, mode: Shutdown, deadline: Duration) -> Report {
        // Held until the report is made, so that none of them moves its counts meanwhile.
        let streams = self.streams();
        let totals = || {
            let mut totals = self.shared.totals();
            totals.handled += streams.iter().map(|stream| stream.handled()).sum::<u64>();
            totals
        };
        let before = totals();
        self.refuse(mode);
        let still_running = self.settle(deadline).await;
        Report::between(before, totals(), still_running)
    }
}

impl<K, S> Lifecycle for Common<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    fn close(
        &self,
        mode: Shutdown,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async move {
            match self.registry.upgrade() {
                Some(registry) => registry.shut_down(mode, deadline).await,
                None => self.end_orphans(mode, deadline).await,
            }
        })
    }

    fn settle(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(Self::settle(self, deadline))
    }

    fn refuse(&self, mode: Shutdown) {
        self.shared.close(mode == Shutdown::Abort);
        self.refuse_streams();
    }

    fn is_idle(&self) -> bool {
        match self.registry.upgrade() {
            Some(registry) => registry.busy() == 0,
            None => (self.orphans.alive())
                .is_some_and(|streams| streams.iter().all(|stream| !stream.is_busy())),
        }
    }
}
