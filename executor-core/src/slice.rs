//! How long one stream, or one lane of callbacks, keeps its worker while others wait.

use std::time::Instant;

use crate::clock::coarse_monotonic_nanos;

/// How long a slice may last, in nanoseconds of the coarse clock.
const MOST: u64 = 5_000_000;
/// Between these two of its pieces a slice takes the time, to know how many more may follow:
const FIRST_TIMED: usize = 8;
const LAST_TIMED: usize = 16;
/// as many as take so long, in nanoseconds, unless
const MORE: usize = 25_000;
/// one of them takes less than so long, when a whole budget of the usual size is over soon enough.
const SHORT: usize = 500;
/// After how many pieces of work the clock is read at the latest; before, after each doubling.
const INTERVAL: usize = 16;

/// Whether the clock is read after so many pieces of work.
#[inline]
pub(crate) fn is_time_to_look(ran: usize) -> bool {
    ran.is_power_of_two() || ran.is_multiple_of(INTERVAL)
}

/// What a slice has run so far.
#[derive(Debug)]
pub(crate) struct Slice {
    ran: usize,
    /// When its first piece was over that others were to follow; 0: there was none.
    began: u64,
    /// When `FIRST_TIMED` pieces were over.
    timed: Option<Instant>,
    /// With how many pieces it has lasted long.
    long: usize,
}

impl Default for Slice {
    fn default() -> Self {
        Self {
            ran: 0,
            began: 0,
            timed: None,
            long: usize::MAX,
        }
    }
}

impl Slice {
    /// Whether a slice is over with the piece that was just run: `budget` were, or it has lasted too long.
    /// `more` says whether another one lies ready: nobody reads the clock for a single one.
    #[inline]
    pub(crate) fn is_over(&mut self, budget: usize, more: bool) -> bool {
        self.ran += 1;
        if (more || self.ran > 1) && is_time_to_look(self.ran) {
            self.look();
        }
        self.ran >= budget.min(self.long)
    }

    /// Whether it has lasted long for what waits behind it.
    pub(crate) fn was_long(&self) -> bool {
        self.ran >= self.long
    }

    fn look(&mut self) {
        if self.has_lasted(coarse_monotonic_nanos()) {
            self.long = self.ran;
        } else if self.ran == FIRST_TIMED {
            self.timed = Some(Instant::now());
        } else if self.ran == LAST_TIMED
            && let Some(timed) = self.timed
        {
            self.set_long(timed.elapsed().as_nanos() as usize);
        }
    }

    /// The pieces that were timed took so many nanoseconds.
    fn set_long(&mut self, took: usize) {
        let pieces = LAST_TIMED - FIRST_TIMED;
        if took > pieces * SHORT {
            self.long = LAST_TIMED + pieces * MORE / took;
        }
    }

    fn has_lasted(&mut self, now: u64) -> bool {
        if self.began == 0 {
            self.began = now;
        }
        now.saturating_sub(self.began) > MOST
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_with_its_budget() {
        let mut slice = Slice::default();
        let over: Vec<_> = (0..4).map(|_| slice.is_over(3, false)).collect();
        assert_eq!(over, [false, false, true, true]);
    }

    #[test]
    fn a_slice_of_slow_messages_ends_soon() {
        let mut slice = Slice::default();
        assert!(!slice.has_lasted(1));
        assert!(!slice.has_lasted(1 + MOST));
        assert!(slice.has_lasted(2 + MOST));
    }

    #[test]
    fn a_slice_of_messages_that_take_long_is_the_shorter() {
        let long = |took_each: usize| {
            let mut slice = Slice {
                ran: LAST_TIMED,
                ..Slice::default()
            };
            slice.set_long(took_each * (LAST_TIMED - FIRST_TIMED));
            let mut ran = LAST_TIMED;
            while !slice.is_over(100, true) {
                ran += 1;
            }
            (ran + 1, slice.was_long())
        };
        assert_eq!(long(SHORT), (100, false));
        assert_eq!(long(2 * SHORT), (LAST_TIMED + MORE / (2 * SHORT), true));
        assert_eq!(long(MORE), (LAST_TIMED + 1, true));
        assert_eq!(long(1_000_000), (LAST_TIMED + 1, true), "it was at that");
    }

    #[test]
    fn the_clock_is_read_often_at_first_and_not_for_a_single_piece() {
        let looks = |more| {
            let mut slice = Slice::default();
            let read = |_: &usize| {
                slice.began = 0;
                slice.is_over(usize::MAX, more);
                slice.began != 0
            };
            (1..=64).filter(read).collect::<Vec<_>>()
        };
        assert_eq!(looks(true), [1, 2, 4, 8, 16, 32, 48, 64]);
        assert_eq!(
            looks(false),
            [2, 4, 8, 16, 32, 48, 64],
            "it goes on after all"
        );
    }
}
