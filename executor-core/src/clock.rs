//! Coarse clocks: the kernel's time of its last tick, read in a few nanoseconds.
//!
//! A precise clock read costs more than handing over a message does. What is wanted here (the
//! millisecond of an id, the age of a queue) is served by the time of the last tick, at most about
//! 10 ms old, which Linux keeps in memory that every process can read. Elsewhere, and under Miri,
//! the precise clocks stand in.

/// Returns the milliseconds since the Unix epoch as of the last tick; 0 if the clock stands before
/// 1970.
///
/// The wall clock may be set: a later call may return less than an earlier one.
#[inline]
pub(crate) fn coarse_unix_millis() -> u64 {
    source::unix_millis()
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

    #[inline]
    pub(super) fn unix_millis() -> u64 {
        let (seconds, nanos) = read(libc::CLOCK_REALTIME_COARSE);
        seconds * 1_000 + nanos / 1_000_000
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

    use crate::sync::plain::OnceLock;

    pub(super) fn unix_millis() -> u64 {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
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

    use super::{coarse_monotonic_nanos, coarse_unix_millis};

    #[test]
    fn the_wall_clock_agrees_with_the_precise_one() {
        let precise = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let precise = u64::try_from(precise.as_millis()).unwrap();
        assert!(coarse_unix_millis().abs_diff(precise) < 60_000);
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
