//! How long one stream, or one lane of callbacks, keeps its worker while others wait.

use crate::clock::coarse_monotonic_nanos;

/// How long a slice may last, in nanoseconds of the coarse clock.
const MOST: u64 = 5_000_000;
/// After how many pieces of work the clock is read at the latest; before, after each doubling.
const INTERVAL: usize = 16;

/// Whether the clock is read after so many pieces of work.
#[inline]
pub(crate) fn is_time_to_look(ran: usize) -> bool {
    ran.is_power_of_two() || ran.is_multiple_of(INTERVAL)
}

/// What a slice has run so far.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    ran: usize,
    /// When its first piece was over that others were to follow; 0: there was none.
    began: u64,
}

impl Slice {
    /// Whether a slice is over with the piece that was just run: `budget` were, or it has lasted too long.
    /// `more` says whether another one lies ready: nobody reads the clock for a single one.
    #[inline]
    pub(crate) fn is_over(&mut self, budget: usize, more: bool) -> bool {
        self.ran += 1;
        self.ran >= budget
            || ((more || self.ran > 1)
                && is_time_to_look(self.ran)
                && self.has_lasted(coarse_monotonic_nanos()))
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
