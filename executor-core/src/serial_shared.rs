//! What all streams of one serial executor share.

use crate::core::{CoreShared, WorkerCore};
use crate::environment::Environment;
use crate::metrics::{Counters, Event, Totals};
use crate::room::{Bounds, Room};
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const ABORTING: u8 = 2;

/// The options, bounds and counts of one serial executor.
pub struct SerialShared {
    core: WorkerCore,
    environment: Environment,
    inline: bool,
    bounds: Bounds,
    counters: Counters,
    phase: AtomicU8,
    /// 1: no handle is left that could wait for a delayed message.
    delays_nothing: AtomicU8,
    /// The drain generation: messages carry the one in which they, or the message whose handler
    /// submitted them, were admitted.
    generation: AtomicUsize,
    /// Messages that handlers of an older generation submitted.
    descendants: AtomicU64,
}

impl SerialShared {
    /// Shared parts for an executor on `core`.
    #[must_use]
    pub fn new(
        core: WorkerCore,
        environment: Environment,
        inline: bool,
        per_stream: usize,
        total: Option<usize>,
    ) -> Self {
        let workers = core.shared().workers.len();
        Self {
            environment: environment.with_time(&core),
            core,
            inline,
            bounds: Bounds::new(per_stream, total, workers),
            counters: Counters::new(),
            phase: AtomicU8::new(OPEN),
            delays_nothing: AtomicU8::new(0),
            generation: AtomicUsize::new(0),
            descendants: AtomicU64::new(0),
        }
    }

    /// The core that runs the streams.
    pub fn worker_core(&self) -> &WorkerCore {
        &self.core
    }

    pub(crate) fn core(&self) -> &CoreShared {
        self.core.shared()
    }

    /// Name and services.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn runs_inline(&self) -> bool {
        self.inline
    }

    pub(crate) fn room(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many messages may be queued, for one stream and for all.
    pub fn bounds(&self) -> (usize, Option<usize>) {
        self.bounds.limits()
    }

    /// The counts that are not kept by streams.
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Counts a submission that has to wait.
    pub fn note_waited(&self) {
        self.counters.note(Event::Waited);
    }

    /// Whether new messages are refused.
    pub fn is_closed(&self) -> bool {
        self.phase.load(Ordering::SeqCst) != OPEN
    }

    /// Whether what was accepted ends as aborted.
    pub fn is_aborting(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == ABORTING
    }

    /// Refuses new streams and, once the caller has closed every stream, new messages.
    pub fn close(&self, abort: bool) {
        self.phase
            .fetch_max(if abort { ABORTING } else { CLOSED }, Ordering::SeqCst);
    }

    /// Refuses delayed messages from now on, and ends those there are: no handle is left.
    pub fn abandon_delayed(&self) {
        self.delays_nothing.store(1, Ordering::SeqCst);
        self.end_delayed();
    }

    /// Whether delayed messages are refused.
    pub fn delays_nothing(&self) -> bool {
        self.is_closed() || self.delays_nothing.load(Ordering::SeqCst) != 0
    }

    /// Ends the delayed messages of all streams as aborted; after [`SerialShared::close`], or when
    /// the executor is gone.
    pub fn end_delayed(&self) {
        self.core()
            .sweep_timers(Some(std::ptr::from_ref(self).cast()));
    }

    /// Turns away who waits for room; after [`SerialShared::close`] and closing every stream.
    pub fn turn_waiters_away(&self) {
        self.bounds.close();
    }

    /// Serves those who wait for room, or turns them away when new messages are refused.
    pub(crate) fn serve_line(&self, room: &Room) {
        self.bounds.serve_line(room);
        if self.is_closed() {
            // Somebody may have come too late to be turned away.
            self.turn_waiters_away();
        }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed) as u32
    }

    /// Begins a new drain generation.
    pub fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        // See `note_admitted`.
        fence(Ordering::SeqCst);
    }

    /// The generation of a message: that of the handler which admits it, or the present one.
    #[inline]
    pub(crate) fn generation_of(&self, inherited: Option<u32>) -> u32 {
        inherited.unwrap_or_else(|| self.generation())
    }

    /// Counts a message that was just admitted, if it is a descendant of an older generation.
    ///
    /// After the admission, not before: a drain that begins in between either is seen here, and sees the
    /// count before the handler is over, or finds the message's stream busy when it looks at all streams.
    #[inline]
    pub(crate) fn note_admitted(&self, inherited: Option<u32>) {
        if let Some(generation) = inherited {
            fence(Ordering::SeqCst);
            if generation != self.generation() {
                self.descendants.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// How many messages handlers of older generations have submitted so far.
    pub fn descendants(&self) -> u64 {
        self.descendants.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for SerialShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SerialShared")
            .field("name", &self.environment.name)
            .finish_non_exhaustive()
    }
}
