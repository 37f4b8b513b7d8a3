//! Permits as words, sharded by thread: one atomic operation each way while nobody waits.
//!
//! # A shard's word
//! | bits | meaning |
//! | --- | --- |
//! | 0 to 1 | the [`Mode`] |
//! | 2 to 25 | how many permits lie here |
//! | 26 to 63 | how many messages were handled under permits that were given back here |
//!
//! # Modes
//! | mode | without the gate's lock | when |
//! | --- | --- | --- |
//! | `Open` | take, give | nobody waits |
//! | `Awaited` | give to a shard where one lies; who gives the first tells the gate | messages wait |
//! | `Frozen` | nothing | a caller waits, a drain counts, permits are owed, or the executor is closed |
//!
//! # Invariants
//! - I1. Permits that lie in shards, are held, or were owed back by a lowered limit add up to the
//!   limit.
//! - I2. All shards have the same mode but while it is changed, which is done under the gate's lock
//!   alone: at once to a stricter one, and back only when a few have had the lock without a need for it.
//! - I3. Unless the mode is `Open` nobody takes a permit without the lock. So, while messages wait, the
//!   first of the permits that lie in a shard was given by somebody who serves them afterwards, with all
//!   that lie there by then. While it is `Frozen` what the gate counts under the lock does not move.
//! - I4. A thread that finds none in its own shard moves half of what lies in another there, so that
//!   those who only take and those who only give meet once for many permits. While `moving` is not 0
//!   permits may be on their way; whoever ends `Open` waits for that.

use crossbeam_utils::CachePadded;
use executor_core::engine::sync::{AtomicU64, Ordering, yield_now};
use executor_core::engine::thread_number;

/// What may be done without the gate's lock; a greater one is stricter.
#[repr(u64)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Everything.
    #[default]
    Open = 0,
    /// Permits are given back where one lies; none is taken.
    Awaited = 1,
    /// Nothing.
    Frozen = 2,
}

const OPEN: u64 = Mode::Open as u64;
const AWAITED: u64 = Mode::Awaited as u64;
const FROZEN: u64 = Mode::Frozen as u64;
const MODE: u64 = AWAITED | FROZEN;
const PERMIT: u64 = 1 << 2;
/// The most permits that a word counts, and so the greatest limit.
pub(crate) const MAX_PERMITS: usize = (1 << 24) - 1;
const PERMITS: u64 = MAX_PERMITS as u64 * PERMIT;
const HANDLED: u64 = 1 << 26;
/// The upper half of what can be counted; it is moved elsewhere before the count can overflow.
const FULL: u64 = 1 << 63;

/// What an attempt without the gate led to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A permit was taken.
    Taken,
    /// Only the gate can tell.
    AskGate,
}

/// What became of a permit that was given back.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// It is back, and its message is counted.
    Back,
    /// The same, and so many messages are no longer counted here: the caller counts them.
    BackAndFull(u64),
    /// Neither: messages wait, and it would be the first to lie here, which they must hear of.
    First,
    /// Neither: only the gate can do it.
    AskGate,
}

/// The permits that are free.
pub(crate) struct Permits {
    shards: Box<[CachePadded<AtomicU64>]>,
    /// How many threads move permits.
    moving: CachePadded<AtomicU64>,
}

/// Shards for each processor: threads are as many at least, and few of them should share one.
const SHARDS_PER_PROCESSOR: usize = 4;

/// How many shards there are of what threads should not share, a power of two.
pub(crate) fn shards() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (SHARDS_PER_PROCESSOR * processors)
        .next_power_of_two()
        .clamp(1, 64)
}

/// This thread's shard, of a power of two.
#[inline]
pub(crate) fn home_of_thread(shards: usize) -> usize {
    thread_number() & (shards - 1)
}

impl Permits {
    pub(crate) fn new(permits: usize) -> Self {
        Self::with_shards(permits, shards())
    }

    /// Permits in so many shards, a power of two.
    pub(crate) fn with_shards(permits: usize, shards: usize) -> Self {
        let this = Self {
            shards: (0..shards)
                .map(|_| CachePadded::new(AtomicU64::new(0)))
                .collect(),
            moving: CachePadded::new(AtomicU64::new(0)),
        };
        for permit in 0..permits % this.shards.len() {
            this.shards[permit].fetch_add(PERMIT, Ordering::Relaxed);
        }
        for shard in &this.shards {
            shard.fetch_add(
                (permits / this.shards.len()) as u64 * PERMIT,
                Ordering::Relaxed,
            );
        }
        this
    }

    fn home(&self) -> usize {
        home_of_thread(self.shards.len())
    }

    /// Takes a permit, from the own shard or another.
    #[inline]
    pub(crate) fn try_take(&self) -> Attempt {
        self.try_take_at(self.home())
    }

    #[inline]
    pub(crate) fn try_take_at(&self, home: usize) -> Attempt {
        if take_from(&self.shards[home], |_| 1).is_some() {
            Attempt::Taken
        } else {
            self.try_take_elsewhere(home)
        }
    }

    /// Takes half of what lies in another shard, one to be used and the rest to the own shard.
    #[cold]
    fn try_take_elsewhere(&self, home: usize) -> Attempt {
        if self.shards[home].load(Ordering::Relaxed) & MODE != 0 {
            return Attempt::AskGate;
        }
        // ORDERING: it comes before the take, by which a change of mode that is too late for that sees it.
        self.moving.fetch_add(1, Ordering::AcqRel);
        let (before, after) = self.shards.split_at(home);
        // Not exact while permits move; the gate decides what this does not find.
        let found = (after.iter().chain(before))
            .find_map(|shard| take_from(shard, |permits| permits.div_ceil(2)));
        if let Some(permits) = found
            && permits > 1
        {
            self.shards[home].fetch_add((permits - 1) * PERMIT, Ordering::AcqRel);
        }
        // ORDERING: Release, after the permits have arrived (I4).
        self.moving.fetch_sub(1, Ordering::AcqRel);
        found.map_or(Attempt::AskGate, |_| Attempt::Taken)
    }

    /// Gives a permit back.
    #[inline]
    pub(crate) fn give(&self) -> Given {
        self.give_with(self.home(), PERMIT)
    }

    /// The same, and counts a message as handled.
    #[inline]
    pub(crate) fn give_handled(&self) -> Given {
        self.give_handled_at(self.home())
    }

    #[inline]
    pub(crate) fn give_handled_at(&self, home: usize) -> Given {
        self.give_with(home, PERMIT + HANDLED)
    }

    #[inline]
    fn give_with(&self, home: usize, what: u64) -> Given {
        self.give_while(home, what, |word| word & MODE == 0)
            .unwrap_or_else(|_| self.give_slowly(home, what))
    }

    /// The same, when the mode was not `Open`.
    #[inline(never)]
    fn give_slowly(&self, home: usize, what: u64) -> Given {
        let may_give = |word| match word & MODE {
            OPEN => true,
            AWAITED => word & PERMITS != 0,
            _ => false,
        };
        self.give_while(home, what, may_give)
            .unwrap_or_else(|word| match word & MODE {
                AWAITED => Given::First,
                _ => Given::AskGate,
            })
    }

    /// Adds `what` to a shard if its word is as it should be.
    ///
    /// # Errors
    /// The word that is not.
    #[inline(always)]
    fn give_while(
        &self,
        home: usize,
        what: u64,
        may_give: impl Fn(u64) -> bool,
    ) -> Result<Given, u64> {
        let shard = &self.shards[home];
        let mut word = shard.load(Ordering::Relaxed);
        while may_give(word) {
            // ORDERING: Release passes on what the handler did.
            match shard.compare_exchange_weak(
                word,
                word + what,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if (word + what) & FULL == 0 => return Ok(Given::Back),
                Ok(_) => return Ok(self.empty_count(home)),
                Err(seen) => word = seen,
            }
        }
        Err(word)
    }

    /// Gives a permit back of which somebody is about to tell those who wait; false: only the gate can.
    pub(crate) fn give_first(&self) -> bool {
        self.give_first_at(self.home())
    }

    pub(crate) fn give_first_at(&self, home: usize) -> bool {
        let give = |word| (word & FROZEN == 0).then_some(word + PERMIT);
        // ORDERING: Release passes on what the handler did.
        self.shards[home]
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, give)
            .is_ok()
    }

    /// Takes the upper half of a shard's count out.
    #[cold]
    fn empty_count(&self, home: usize) -> Given {
        let word = self.shards[home].fetch_and(!FULL, Ordering::AcqRel);
        if word & FULL == 0 {
            // Another thread of this shard was quicker.
            Given::Back
        } else {
            Given::BackAndFull(FULL / HANDLED)
        }
    }

    /// How many messages are counted here.
    pub(crate) fn handled(&self) -> u64 {
        let count = |shard: &CachePadded<AtomicU64>| shard.load(Ordering::Acquire) / HANDLED;
        self.shards.iter().map(count).sum()
    }

    // ---- under the gate's lock --------------------------------------------------------------

    /// How many atomic operations it takes to change the mode.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Changes the mode, which was `from`.
    pub(crate) fn change_mode(&self, from: Mode, to: Mode) {
        for shard in &self.shards {
            shard.fetch_xor(from as u64 ^ to as u64, Ordering::AcqRel);
        }
        if from == Mode::Open {
            // Rare and short: who moves permits has a few instructions left (I4).
            while self.moving.load(Ordering::Acquire) != 0 {
                yield_now();
            }
        }
    }

    /// Takes a permit, wherever it lies; unless the mode is `Open`, exact.
    pub(crate) fn take(&self) -> bool {
        self.take_up_to(1) == 1
    }

    /// Takes up to `most` permits, and tells how many; unless the mode is `Open`, exact.
    pub(crate) fn take_up_to(&self, most: usize) -> usize {
        let mut left = most as u64;
        for shard in &self.shards {
            if left == 0 {
                break;
            }
            let mut here = 0;
            let _ = shard.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                here = ((word & PERMITS) / PERMIT).min(left);
                (here != 0).then(|| word - here * PERMIT)
            });
            left -= here;
        }
        most - left as usize
    }

    /// Adds permits.
    pub(crate) fn add(&self, permits: usize) {
        self.add_at(self.home(), permits);
    }

    pub(crate) fn add_at(&self, home: usize, permits: usize) {
        self.shards[home].fetch_add(permits as u64 * PERMIT, Ordering::AcqRel);
    }

    /// How many are free; exact when nothing moves.
    pub(crate) fn free(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| ((shard.load(Ordering::Acquire) & PERMITS) / PERMIT) as usize)
            .sum()
    }
}

/// Takes `share` of the permits that lie in a shard, and says how many; none unless the mode is `Open`,
/// and where there are none.
#[inline]
fn take_from(shard: &AtomicU64, share: impl Fn(u64) -> u64) -> Option<u64> {
    let mut word = shard.load(Ordering::Relaxed);
    while word & MODE == 0 && word & PERMITS != 0 {
        let taken = share((word & PERMITS) / PERMIT);
        let left = word - taken * PERMIT;
        // ORDERING: Acquire pairs with the Release of the handler that gave it.
        match shard.compare_exchange_weak(word, left, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(taken),
            Err(seen) => word = seen,
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_permit_is_taken_once_and_found_wherever_it_lies() {
        let permits = Permits::new(7);
        assert_eq!(permits.free(), 7);
        for _ in 0..7 {
            assert_eq!(permits.try_take(), Attempt::Taken);
        }
        assert_eq!(permits.try_take(), Attempt::AskGate);
        assert_eq!(permits.give(), Given::Back);
        assert_eq!(permits.free(), 1);
    }

    #[test]
    fn who_finds_none_in_the_own_shard_moves_half_of_another_there() {
        let permits = Permits::with_shards(0, 2);
        let are = |first: u64, last: u64| {
            let words = [first * PERMIT, last * PERMIT];
            assert!(
                permits
                    .shards
                    .iter()
                    .map(|shard| shard.load(Ordering::Relaxed))
                    .eq(words)
            );
        };
        permits.add_at(0, 6);
        assert_eq!(permits.try_take_at(1), Attempt::Taken);
        are(3, 2);
        for left in [1, 0] {
            assert_eq!(permits.try_take_at(1), Attempt::Taken);
            are(3, left);
        }
        assert_eq!(permits.try_take_at(1), Attempt::Taken);
        are(1, 1);
        assert_eq!(permits.try_take_at(0), Attempt::Taken);
        assert_eq!(permits.try_take_at(0), Attempt::Taken);
        are(0, 0);
        assert_eq!(permits.try_take_at(0), Attempt::AskGate);
    }

    #[test]
    fn what_may_be_done_without_the_gate_depends_on_the_mode() {
        let permits = Permits::with_shards(1, 1);
        permits.change_mode(Mode::Open, Mode::Frozen);
        assert_eq!(permits.try_take(), Attempt::AskGate);
        assert!(permits.take());
        assert!(!permits.take());
        assert_eq!(permits.give(), Given::AskGate);
        assert!(!permits.give_first());
        permits.change_mode(Mode::Frozen, Mode::Awaited);
        assert_eq!(permits.give_handled(), Given::First);
        assert_eq!((permits.free(), permits.handled()), (0, 0));
        assert!(permits.give_first());
        assert_eq!(permits.give_handled(), Given::Back, "there is one already");
        assert_eq!(permits.try_take(), Attempt::AskGate);
        assert_eq!(permits.take_up_to(3), 2);
        assert_eq!(permits.give(), Given::First);
        assert!(permits.give_first());
        permits.change_mode(Mode::Awaited, Mode::Open);
        assert_eq!(permits.try_take(), Attempt::Taken);
        assert_eq!(permits.give(), Given::Back);
        assert_eq!(permits.handled(), 1);
    }

    #[test]
    fn many_permits_are_taken_at_once_from_wherever_they_lie() {
        let permits = Permits::with_shards(MAX_PERMITS, 4);
        permits.change_mode(Mode::Open, Mode::Frozen);
        assert_eq!(permits.take_up_to(0), 0);
        assert_eq!(permits.take_up_to(5), 5);
        assert_eq!(permits.free(), MAX_PERMITS - 5);
        assert_eq!(permits.take_up_to(MAX_PERMITS), MAX_PERMITS - 5);
        assert_eq!(permits.take_up_to(1), 0);
        permits.add_at(3, 2);
        assert_eq!(permits.take_up_to(1), 1);
        assert_eq!((permits.free(), permits.handled()), (1, 0));
    }

    #[test]
    fn a_count_that_is_half_full_is_handed_over() {
        // One shard, or the first permit lies in another than this thread's.
        let permits = Permits::with_shards(1, 1);
        let home = &permits.shards[0];
        home.store((FULL - HANDLED) + 3 * PERMIT, Ordering::Relaxed);
        let before = permits.handled();
        assert_eq!(permits.give_handled(), Given::BackAndFull(before + 1));
        assert_eq!(permits.handled(), 0);
        assert_eq!(permits.free(), 4, "no permit is lost with the count");
        assert_eq!(permits.give_handled(), Given::Back);
        assert_eq!((permits.handled(), permits.free()), (1, 5));
    }
}
