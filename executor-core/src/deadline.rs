//! A deadline in one word, so that envelopes and contexts stay small and quick to move.

#[cfg(all(test, not(loom)))]
mod tests;

use std::time::{Duration, Instant};

use crate::frame;
use crate::sync::plain::OnceLock;

/// Nanoseconds from the process's own origin; 0: no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NONE: Self = Self(0);

    /// A deadline at `instant`; instants over an hour before the first call count as that.
    pub(crate) fn at(instant: Instant) -> Self {
        let nanos = instant.saturating_duration_since(origin()).as_nanos();
        Self(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        (self.0 != 0).then(|| origin() + Duration::from_nanos(self.0))
    }

    /// Whether it has passed, by the clock of the core whose handler runs here, or the system's; it
    /// is read only if there is a deadline.
    #[inline]
    pub(crate) fn has_passed(self) -> bool {
        self != Self::NONE && self.is_past()
    }

    #[cold]
    fn is_past(self) -> bool {
        self.instant().is_some_and(|instant| now() >= instant)
    }
}

/// The time by the clock of the core whose handler runs here, or else the system's.
pub(crate) fn now() -> Instant {
    frame::current()
        // SAFETY: an environment outlives the polls that run under it.
        .and_then(|frame| unsafe { &*frame.environment() }.core())
        .map_or_else(Instant::now, |core| core.timers.now())
}

/// An hour before it was first asked for.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3_600)).unwrap_or(now)
    })
}
