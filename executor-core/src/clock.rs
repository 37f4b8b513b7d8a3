//! Coarse clocks: the kernel's time of its last tick, read in a few nanoseconds.
//!
//! A precise clock read costs more than handing over a message does. What is wanted here (the
//! millisecond of an id, the age of a queue) is served by the time of the last tick, at most about
//! 10 ms old, which Linux keeps in memory that every process can read. Elsewhere, and under Miri,
//! the precise clocks stand in.

/// A time since the Unix epoch, as the clock gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnixTime {
    seconds: u64,
    nanos: u64,
}

impl UnixTime {
    /// What no clock says.
    pub(crate) const NEVER: Self = Self {
        seconds: u64::MAX,
        nanos: u64::MAX,
    };

    pub(crate) const fn millis(self) -> u64 {
        self.seconds * 1_000 + self.nanos / 1_000_000
    }
}

/// Returns the time as of the last tick; a time of 1970 if the clock stands before that.
///
/// The wall clock may be set: a later call may return less than an earlier one.
#[inline]
pub(crate) fn coarse_unix() -> UnixTime {
    source::unix()
}

/// Returns the nanoseconds since an arbitrary origin, fixed for the process, as of the last tick;
/// never less than before.
#[inline]
pub(crate) fn coarse_monotonic_nanos() -> u64 {
    source::monotonic_nanos()
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod source {
    use std::mem::MaybeUninit;

    use super::UnixTime;

    #[inline]
    pub(super) fn unix() -> UnixTime {
        let (seconds, nanos) = read(libc::CLOCK_REALTIME_COARSE);
        UnixTime { seconds, nanos }
    }

    #[inline]
    pub(super) fn monotonic_nanos() -> u64 {
        let (seconds, nanos) = read(libc::CLOCK_MONOTONIC_COARSE);
        seconds * 1_000_000_000 + nanos
    }

    /// Reads `clock` as seconds and nanoseconds; zero if the kernel does not know it.
    #[inline]
    fn read(clock: libc::clockid_t) -> (u64, u64) {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the pointer is to room for a timespec, which is all that the call writes to.
        if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
            return (0, 0);
        }
        // SAFETY: the call succeeded, so it wrote the time.
        let time = unsafe { time.assume_init() };
        (
            time.tv_sec.max(0).cast_unsigned(),
            time.tv_nsec.cast_unsigned(),
        )
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
mod source {
    use std::time::{Instant, SystemTime};

    use super::UnixTime;
    use crate::sync::plain::OnceLock;

    pub(super) fn unix() -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        UnixTime {
            seconds: since.as_secs(),
            nanos: since.subsec_nanos().into(),
        }
    }

    pub(super) fn monotonic_nanos() -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let since = ORIGIN.get_or_init(Instant::now).elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{coarse_monotonic_nanos, coarse_unix};

    #[test]
    fn the_wall_clock_agrees_with_the_precise_one() {
        let precise = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let precise = u64::try_from(precise.as_millis()).unwrap();
        assert!(coarse_unix().millis().abs_diff(precise) < 60_000);
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let rounds = if cfg!(miri) { 100 } else { 100_000 };
        let mut last = coarse_monotonic_nanos();
        for _ in 0..rounds {
            let now = coarse_monotonic_nanos();
            assert!(now >= last);
            last = now;
        }
    }
}
