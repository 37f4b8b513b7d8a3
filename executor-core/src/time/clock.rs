//! The clock that timers go by: the system's, or one that a test moves.

use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::clock::coarse_monotonic_nanos;
use crate::core::CoreShared;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicU64, Ordering};

/// How far the coarse clock may be behind, generously.
const COARSE: u64 = 20_000_000;

/// A clock that stands still until it is moved, for tests without waiting.
///
/// A core that was built with it ([`CoreBuilder::clock`](crate::CoreBuilder::clock)) has its timers,
/// and the deadlines of its messages, go by it. It is cheap to clone, and all clones are one clock,
/// which may serve several cores. It never goes back.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use executor_core::{VirtualClock, WorkerCore};
///
/// let clock = VirtualClock::new();
/// let core = WorkerCore::threads(1).clock(&clock).build()?;
/// let year = core.spawn_fn_after(Duration::from_secs(31_536_000), || "a year later")?;
/// clock.advance(Duration::from_secs(31_536_000));
/// assert_eq!(year.into_completion().wait()?, "a year later");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Instant,
    /// Since the origin.
    nanos: AtomicU64,
    cores: Mutex<Vec<Weak<CoreShared>>>,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualClock {
    /// A clock that shows the present, and stands still.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                origin: Instant::now(),
                nanos: AtomicU64::new(0),
                cores: Mutex::default(),
            }),
        }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Instant {
        later(self.shared.origin, self.nanos())
    }

    /// How far it was moved so far.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// Moves it on by `by`, and fires what is due then.
    ///
    /// When it returns, every delayed message that is due has its place in its queue, every task was
    /// given to the workers and every sleeper woken, also those that a worker was just about to fire.
    /// They run on the workers' threads: wait for what is to happen, or drain the executor. What
    /// handlers schedule counts from the time to which the clock was moved; to see each timer at its
    /// own time, move it to [`WorkerCore::next_timer`](crate::WorkerCore::next_timer) step by step. It
    /// stops at 584 years.
    ///
    /// It may be called anywhere. Of a waker that is woken by a timer it does not wait for what other
    /// threads are waking at that moment, and neither do they for it.
    pub fn advance(&self, by: Duration) {
        let by = nanos_of(by);
        let moved = |nanos: u64| Some(nanos.saturating_add(by));
        // ORDERING: SeqCst, before the look at each core's next timer; see `clockwork`.
        let _ = (self.shared.nanos).fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        self.ring();
    }

    /// Moves it on to `instant`; it stays where it is if that is past.
    pub fn advance_to(&self, instant: Instant) {
        let nanos = nanos_of(instant.saturating_duration_since(self.shared.origin));
        self.shared.nanos.fetch_max(nanos, Ordering::SeqCst);
        self.ring();
    }

    fn ring(&self) {
        let cores: Vec<_> = {
            let cores = self.lock();
            cores.iter().filter_map(Weak::upgrade).collect()
        };
        // Outside of the lock: a core that is dropped here may be the last.
        cores.iter().for_each(|core| core.fire_due());
    }

    pub(crate) fn attach(&self, core: Weak<CoreShared>) {
        let mut cores = self.lock();
        cores.retain(|core| core.strong_count() != 0);
        cores.push(core);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<CoreShared>>> {
        self.shared
            .cores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self) -> u64 {
        self.shared.nanos.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock")
            .field("elapsed", &self.elapsed())
            .finish()
    }
}

/// The clock of a core, in nanoseconds since its origin.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    System {
        origin: Instant,
        /// What the coarse clock showed then, or a little less.
        coarse: u64,
    },
    Virtual(VirtualClock),
}

impl Clock {
    pub(crate) fn system() -> Self {
        let coarse = coarse_monotonic_nanos();
        Self::System {
            origin: Instant::now(),
            coarse,
        }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System { origin, .. } => nanos_of(origin.elapsed()),
            Self::Virtual(clock) => clock.nanos(),
        }
    }

    /// Whether `nanos` may have come; false is certain, and cheap to find out.
    #[inline]
    pub(crate) fn may_be(&self, nanos: u64) -> bool {
        match self {
            Self::System { coarse, .. } => {
                let elapsed = coarse_monotonic_nanos().saturating_sub(*coarse);
                nanos <= elapsed.saturating_add(COARSE)
            }
            Self::Virtual(clock) => nanos <= clock.nanos(),
        }
    }

    fn origin(&self) -> Instant {
        match self {
            Self::System { origin, .. } => *origin,
            Self::Virtual(clock) => clock.shared.origin,
        }
    }

    /// An instant in nanoseconds; what was before the origin counts as the origin.
    pub(crate) fn nanos_at(&self, instant: Instant) -> u64 {
        nanos_of(instant.saturating_duration_since(self.origin()))
    }

    /// The reverse.
    pub(crate) fn instant_at(&self, nanos: u64) -> Instant {
        later(self.origin(), nanos)
    }
}

/// The instant `nanos` after another, or as far as the system's clock can tell.
fn later(origin: Instant, nanos: u64) -> Instant {
    let mut nanos = Duration::from_nanos(nanos);
    loop {
        match origin.checked_add(nanos) {
            Some(instant) => return instant,
            None => nanos /= 2,
        }
    }
}

pub(crate) fn nanos_of(duration: Duration) -> u64 {
    // Seconds first: 128 bits are dear, and this is on the way of every timer.
    duration
        .as_secs()
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(u64::from(duration.subsec_nanos())))
        .unwrap_or(u64::MAX)
}
