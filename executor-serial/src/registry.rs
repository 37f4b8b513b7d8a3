//! The streams of an executor, by key.
//!
//! A stream that the map shows is a stream that accepts: it leaves the map only under its shard's
//! write lock, and only when the map's is the last reference to it. Whoever has a stream busy,
//! queued on, waited for or in hand has a reference, so look-up and eviction cannot miss each other,
//! and a key never has two live streams. No user code but `Hash` and `Eq` runs under a shard's lock:
//! evicted streams, with their state, are dropped after it is released.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use executor_core::engine::sync::{Mutex, MutexGuard};
use executor_core::engine::{
    Lifecycle, SerialShared, Strand, StreamOwner, drop_quietly, in_handler, promise, run_quietly,
    term, within,
};
use executor_core::{Report, Shutdown, Totals};

use crate::orphans::Orphans;

/// For how many streams each the tables have room at least before they are made smaller.
const ROOMY: usize = 4;

/// How keys make states and names.
pub(crate) struct KeyKind<K, S> {
    pub(crate) make_state: Box<dyn Fn(&K) -> Result<S, String> + Send + Sync>,
    pub(crate) name: Option<Box<dyn Fn(&K) -> String + Send + Sync>>,
}

/// What streams reach of their executor; not the map, so that there is no cycle.
///
/// It lives while the registry or any stream does, and is what the core knows of the executor.
pub(crate) struct Common<K: Send + Sync + 'static, S: Send + 'static> {
    pub(crate) shared: Arc<SerialShared>,
    kind: KeyKind<K, S>,
    pub(crate) registry: Weak<Registry<K, S>>,
    pub(crate) orphans: Orphans<K, S>,
}

/// A stream's part of the executor.
pub(crate) struct Keyed<K: Send + Sync + 'static, S: Send + 'static> {
    pub(crate) key: K,
    pub(crate) common: Arc<Common<K, S>>,
}

impl<K: Send + Sync + 'static, S: Send + 'static> Drop for Keyed<K, S> {
    #[inline]
    fn drop(&mut self) {
        self.common.orphans.note_gone();
    }
}

impl<K: Send + Sync + 'static, S: Send + 'static> StreamOwner for Keyed<K, S> {
    type State = S;

    #[inline]
    fn shared(&self) -> &Arc<SerialShared> {
        &self.common.shared
    }

    fn make_state(&self) -> Result<S, String> {
        (self.common.kind.make_state)(&self.key)
    }

    fn label(&self) -> String {
        let executor = &self.common.shared.environment().name;
        match &self.common.kind.name {
            Some(name) => format!("{executor}/{}", name(&self.key)),
            None => format!("{executor}/<{}>", std::any::type_name::<K>()),
        }
    }
}

pub(crate) type KeyedStrand<K, S> = Arc<Strand<Keyed<K, S>>>;

/// The map, and what it takes to keep it small.
pub(crate) struct Registry<K: Send + Sync + 'static, S: Send + 'static> {
    pub(crate) common: Arc<Common<K, S>>,
    map: DashMap<K, KeyedStrand<K, S>, foldhash::fast::RandomState>,
    /// Streams in the map.
    resident: AtomicUsize,
    /// How many there may be before idle ones are evicted.
    limit: usize,
    /// At how many the next sweep begins.
    sweep_at: AtomicUsize,
    /// Held while counts move from streams to the executor, and while they are added up.
    accounting: Mutex<()>,
    /// Leaves the streams that others keep to `common`; made where the key's traits are known.
    surrender: fn(&mut Self),
}

/// How an executor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SerialMetrics {
    /// How many messages ended how.
    pub totals: Totals,
    /// Streams in the registry.
    pub resident: usize,
    /// Streams with a message queued, running or waiting.
    pub busy: usize,
    /// Messages queued and not started, over all streams.
    pub depth: usize,
    /// [`SerialBuilder::queue_per_stream`](crate::SerialBuilder::queue_per_stream).
    pub queue_per_stream: usize,
    /// [`SerialBuilder::queue_total`](crate::SerialBuilder::queue_total).
    pub queue_total: Option<usize>,
    /// [`SerialBuilder::resident_streams`](crate::SerialBuilder::resident_streams).
    pub resident_streams: usize,
}

impl<K, S> Registry<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    pub(crate) fn new(shared: SerialShared, kind: KeyKind<K, S>, limit: usize) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common: Arc::new(Common {
                shared: Arc::new(shared),
                kind,
                registry: Weak::clone(me),
                orphans: Orphans::new(),
            }),
            map: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            resident: AtomicUsize::new(0),
            limit,
            sweep_at: AtomicUsize::new(limit),
            accounting: Mutex::new(()),
            surrender: Self::surrender,
        })
    }

    /// The key's stream, made if there is none.
    #[inline]
    pub(crate) fn stream(&self, key: &K) -> KeyedStrand<K, S> {
        if let Some(found) = self.map.get(key) {
            return Arc::clone(found.value());
        }
        self.make(key)
    }

    #[cold]
    fn make(&self, key: &K) -> KeyedStrand<K, S> {
        // The user's `clone` runs before the shard is locked.
        let (in_map, in_stream) = (key.clone(), key.clone());
        let keyed = Keyed {
            key: in_stream,
            common: Arc::clone(&self.common),
        };
        let fresh = Strand::new(keyed);
        let made = match self.map.entry(in_map) {
            Entry::Occupied(found) => Arc::clone(found.get()),
            Entry::Vacant(vacant) => {
                if self.common.shared.is_closed() {
                    // The close may have visited this shard already.
                    fresh.close();
                }
                vacant.insert(Arc::clone(&fresh));
                self.resident.fetch_add(1, Ordering::Relaxed);
                fresh
            }
        };
        if self.resident.load(Ordering::Relaxed) > self.sweep_at.load(Ordering::Relaxed) {
            self.sweep();
        }
        made
    }

    /// Evicts every stream that is idle and that nobody else holds, however lately it was used, and
    /// says how many. The next sweep that comes by itself begins when half as many as the limit, or as are
    /// left if these are more, have been added.
    pub(crate) fn sweep(&self) -> usize {
        self.sweep_at.store(usize::MAX, Ordering::Relaxed);
        let mut evicted = 0;
        let mut batch = Vec::new();
        // First the states go, each in its stream's turn and under no lock, so that a key never has
        // two; then the streams that are still idle.
        let unheld =
            |stream: &KeyedStrand<K, S>| Arc::strong_count(stream) == 1 && !stream.is_busy();
        let idle: Vec<_> = (self.map.iter())
            .filter(|entry| unheld(entry.value()))
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        // Those of the map and of this list alone.
        idle.iter().for_each(|stream| stream.retire_state(2));
        drop(idle);
        let accounting = self.accounting();
        // A key whose drop panics ends this sweep early, and nothing else.
        run_quietly(|| {
            self.map.retain(|_, stream| {
                let evict = Arc::get_mut(stream).is_some_and(|stream| {
                    let spent = stream.is_spent();
                    if spent {
                        stream.settle_counts();
                    }
                    spent
                });
                if evict {
                    batch.push(Arc::clone(stream));
                    evicted += 1;
                }
                !evict
            });
        });
        let left = self.resident.fetch_sub(evicted, Ordering::Relaxed) - evicted;
        let more = self.limit.max(left) / 2;
        self.sweep_at
            .store(self.limit.max(left + more), Ordering::Relaxed);
        drop(accounting);
        drop(batch);
        tracing::debug!(
            executor = self.name(),
            evicted,
            left,
            "evicted idle streams"
        );
        evicted
    }

    /// Sweeps, says how many streams went, and gives back what the map's tables have grown to.
    ///
    /// A sweep that comes by itself leaves the tables as they are: they will be needed again.
    pub(crate) fn evict_idle(&self) -> usize {
        let evicted = self.sweep();
        if self.map.capacity() > ROOMY * self.map.len() {
            // A key whose hash panics leaves a table as it is.
            run_quietly(|| self.map.shrink_to_fit());
        }
        evicted
    }

    fn name(&self) -> &str {
        &self.common.shared.environment().name
    }

    pub(crate) fn streams(&self) -> Vec<KeyedStrand<K, S>> {
        self.map
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    /// Streams with a message queued, running or waiting.
    pub(crate) fn busy(&self) -> usize {
        self.map.iter().filter(|stream| stream.is_busy()).count()
    }

    /// The last handle is gone: nobody can take a stream out of the map any more, so that one whose
    /// only reference is the map's goes with it.
    fn surrender(&mut self) {
        let kept = (self.map.iter()).filter(|entry| Arc::strong_count(entry.value()) > 1);
        let orphans = kept.map(|entry| Arc::downgrade(entry.value())).collect();
        self.common.adopt_orphans(orphans);
        // On whatever thread had the last reference, a worker perhaps.
        std::mem::take(&mut self.map)
            .into_iter()
            .for_each(drop_quietly);
    }

    fn accounting(&self) -> MutexGuard<'_, ()> {
        self.accounting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> SerialMetrics {
        let _accounting = self.accounting();
        let (queue_per_stream, queue_total) = self.common.shared.bounds();
        let mut metrics = SerialMetrics {
            totals: self.common.shared.totals(),
            resident: self.map.len(),
            busy: 0,
            depth: 0,
            queue_per_stream,
            queue_total,
            resident_streams: self.limit,
        };
        for stream in self.map.iter() {
            metrics.totals.handled += stream.handled();
            metrics.busy += usize::from(stream.is_busy());
            metrics.depth += stream.depth();
        }
        metrics
    }

    pub(crate) fn totals(&self) -> Totals {
        self.metrics().totals
    }

    pub(crate) async fn drain(&self, deadline: Duration) -> Report {
        let before = self.totals();
        let still_running = self.common.settle(deadline).await;
        Report::between(before, self.totals(), still_running)
    }

    pub(crate) async fn shut_down(&self, mode: Shutdown, deadline: Duration) -> Report {
        let before = self.totals();
        self.common.refuse(mode);
        let still_running = self.common.settle(deadline).await;
        if still_running == 0 {
            self.sweep();
        }
        tracing::info!(executor = self.name(), ?mode, still_running, "shut down");
        Report::between(before, self.totals(), still_running)
    }
}

impl<K, S> Common<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    /// Waits until everything admitted before, and everything its handlers admit, is handled, and
    /// says how many streams are busy if it did not wait so long.
    ///
    /// From inside a handler nothing is waited for: that handler is itself part of what would be.
    ///
    /// Rounds of markers: one is queued behind what each busy stream has. When all have come to
    /// their turn, everything admitted before the round is handled; another round follows only if
    /// handlers of an older generation submitted anything meanwhile.
    pub(crate) async fn settle(&self, deadline: Duration) -> u64 {
        let busy = || {
            let streams = self.streams();
            streams.iter().filter(|stream| stream.is_busy()).count() as u64
        };
        if in_handler() {
            return busy();
        }
        let shared = &self.shared;
        let term = term(shared.worker_core(), deadline);
        shared.next_generation();
        loop {
            let descendants = shared.descendants();
            let (round, passed) = promise::<()>();
            // Fulfilled when the last marker is dropped.
            let round = Arc::new(DropSignal(Some(round)));
            for stream in self.streams() {
                let round = Arc::clone(&round);
                stream.after_queued(move || drop(round));
            }
            drop(round);
            let in_time = within(shared.worker_core(), term.left(), passed).await;
            if in_time.is_none() {
                return busy();
            }
            if shared.descendants() == descendants {
                return 0;
            }
        }
    }
}

impl<K: Send + Sync + 'static, S: Send + 'static> Drop for Registry<K, S> {
    fn drop(&mut self) {
        (self.surrender)(self);
    }
}

/// Fulfils a promise when dropped.
struct DropSignal(Option<executor_core::engine::Promise<()>>);

impl Drop for DropSignal {
    fn drop(&mut self) {
        if let Some(promise) = self.0.take() {
            promise.fulfil(());
        }
    }
}

/// What ends with the last handle of an executor and of its streams: what is delayed.
pub(crate) struct Life(pub(crate) Arc<SerialShared>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.abandon_delayed();
    }
}
