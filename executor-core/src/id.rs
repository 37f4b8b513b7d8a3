//! Message ids: version 7 UUIDs (RFC 9562) from a thread's own counter, without a lock, an
//! allocation or a precise clock.
//!
//! # Layout
//! | bits | 48 | 4 | 12 | 2 | 10 | 52 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | field | milliseconds | version, 7 | counter, high part | variant, 0b10 | counter, low part | node |
//!
//! # Invariants
//! - I1. No two threads of a process share a node: nodes are an arithmetic sequence with an odd
//!   step, taken modulo 2^52.
//! - I2. Within a thread (milliseconds, counter) rises strictly with each id, whatever the clock
//!   does (until the year 10889).
//!
//! Ids are unique by I1 and I2 in a process, and between processes by the sequence's random start.
//! They are no secret: who has seen one can guess the next. A child process has a sequence of its
//! own, and its only thread a node of that.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::process;
// Not those of `sync`: a static outlives the model run that first touched it.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::clock::{UnixTime, coarse_unix};
use crate::fork;

const VERSION: u64 = 0x7 << 12;
const VARIANT: u64 = 0b10 << 62;
const NODE_BITS: u32 = 52;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;
/// How many bits of the counter lie behind the variant.
const LOW_BITS: u32 = 10;
/// The counter's largest value: 22 bits, 4,194,303, several times what a thread can issue between
/// two ticks of the clock.
const COUNTER_MAX: u32 = (1 << (12 + LOW_BITS)) - 1;

/// What a thread last issued.
#[derive(Clone, Copy)]
struct Issued {
    /// The id's millisecond, which runs ahead of the clock after the counter overflowed or the
    /// clock was set back.
    millis: u64,
    /// The number of ids issued before this one in the same millisecond.
    counter: u32,
    /// The thread's node below the variant bits, so never 0 once seeded.
    node: u64,
}

thread_local! {
    // Without a destructor, so that ids can be had in the destructors of other thread locals.
    static LAST: Last = const {
        Last {
            read: Cell::new(UnixTime::NEVER),
            millis: Cell::new(0),
            counter: Cell::new(0),
            node: Cell::new(0),
        }
    };
}

/// The parts of what a thread last issued; the node is 0 before the first.
struct Last {
    /// What the clock said; at first [`UnixTime::NEVER`], so that the node is made.
    read: Cell<UnixTime>,
    millis: Cell<u64>,
    counter: Cell<u32>,
    node: Cell<u64>,
}

impl Last {
    fn issued(&self) -> Issued {
        Issued {
            millis: self.millis.get(),
            counter: self.counter.get(),
            node: self.node.get(),
        }
    }

    /// Issues the next id.
    #[inline]
    fn next(&self) -> Issued {
        let now = coarse_unix();
        let last = self.issued();
        // Mostly it is the counter alone that moves: the clock ticks once for thousands of ids.
        if now == self.read.get() && last.counter < COUNTER_MAX {
            let counter = last.counter + 1;
            self.counter.set(counter);
            return Issued { counter, ..last };
        }
        self.tick(now)
    }

    #[cold]
    fn tick(&self, now: UnixTime) -> Issued {
        if self.node.get() == 0 {
            self.node.set(fresh_node());
        }
        let next = self.issued().next(now.millis());
        self.read.set(now);
        self.millis.set(next.millis);
        self.counter.set(next.counter);
        next
    }
}

impl Issued {
    /// The successor at clock reading `now`; it borrows from the next millisecond when the counter
    /// is exhausted.
    #[inline]
    const fn next(self, now: u64) -> Self {
        let Self {
            millis,
            counter,
            node,
        } = self;
        if now > millis {
            Self {
                millis: now,
                counter: 0,
                node,
            }
        } else if counter < COUNTER_MAX {
            Self {
                millis,
                counter: counter + 1,
                node,
            }
        } else {
            Self {
                millis: millis + 1,
                counter: 0,
                node,
            }
        }
    }

    #[inline]
    const fn id(self) -> Id {
        let counter = self.counter as u64;
        let low = counter & ((1 << LOW_BITS) - 1);
        let high = self.millis << 16 | VERSION | counter >> LOW_BITS;
        let low = self.node | low << NODE_BITS;
        Id((high as u128) << 64 | low as u128)
    }
}

/// A UUID as a number.
///
/// Not as its sixteen bytes: those would be written as two words and read as one, which a processor
/// can answer only after both words have reached its cache. Packed, since a number's own alignment would
/// cost most messages eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub(crate) struct Id(u128);

impl Id {
    pub(crate) const NIL: Self = Self(0);

    /// Returns a fresh id, greater than every id this thread had before.
    #[inline]
    pub(crate) fn fresh() -> Self {
        LAST.with(|last| last.next().id())
    }

    pub(crate) const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }

    pub(crate) const fn to_uuid(self) -> Uuid {
        Uuid::from_u128(self.0)
    }

    /// A copy, read by halves: a fresh id is two words that may not have reached the cache yet (see
    /// [`Id`]), and the optimiser would read both at once.
    #[inline]
    pub(crate) fn by_halves(self) -> Self {
        let (low, high) = (
            in_register(self.0 as u64),
            in_register((self.0 >> 64) as u64),
        );
        Self((high as u128) << 64 | low as u128)
    }

    #[inline]
    pub(crate) const fn is_nil(self) -> bool {
        self.0 == 0
    }

    /// Returns the time in a version 7 id, whoever made it; `None` for any other id.
    pub(crate) fn timestamp(self) -> Option<SystemTime> {
        let (high, low) = self.to_uuid().as_u64_pair();
        let version_7 = high & 0xF000 == VERSION && low & (0b11 << 62) == VARIANT;
        version_7.then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(high >> 16))
    }
}

/// The same word, from a register of its own.
#[inline(always)]
fn in_register(word: u64) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut word = word;
        // SAFETY: nothing is done.
        unsafe {
            std::arch::asm!("/* {} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags));
        }
        word
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    word
}

/// The next node of the sequence; 0 before the first.
static NODES: AtomicU64 = AtomicU64::new(0);

#[cold]
fn fresh_node() -> u64 {
    /// Odd, so that the sequence visits every node before it repeats one (I1); otherwise arbitrary.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    // ORDERING: Relaxed, as only the atomicity of the changes matters; nothing is published with
    // them.
    if NODES.load(Ordering::Relaxed) == 0 {
        // Before a node can be had: a child that has none of its own is told nothing. A second call makes
        // children begin anew twice.
        fork::in_each_child(start_anew);
        // Whoever else begins is told of nothing; the first one's sequence is everybody's.
        let _ = NODES.compare_exchange(0, start(), Ordering::Relaxed, Ordering::Relaxed);
    }
    VARIANT | (NODES.fetch_add(STEP, Ordering::Relaxed) & NODE_MASK)
}

/// Where a sequence begins; odd, so never 0.
fn start() -> u64 {
    // The keys of a thread are those of the child that it forks too, so the difference is in what is hashed.
    RandomState::new().hash_one((process::id(), coarse_unix().millis())) | 1
}

/// Gives a child process a sequence of its own, and its thread a node of that.
extern "C" fn start_anew() {
    NODES.store(start(), Ordering::Relaxed);
    LAST.with(|last| {
        last.node.set(0);
        last.read.set(UnixTime::NEVER);
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, SystemTime};

    use uuid::{Uuid, Variant};

    use super::{COUNTER_MAX, Id, Issued, VARIANT};

    const MANY: usize = if cfg!(miri) { 1_000 } else { 1_000_000 };

    fn issued(millis: u64, counter: u32) -> Issued {
        Issued {
            millis,
            counter,
            node: VARIANT | 0x2A,
        }
    }

    fn key(issued: Issued) -> (u64, u32) {
        (issued.millis, issued.counter)
    }

    #[test]
    fn an_id_is_a_version_7_uuid_of_the_present() {
        let id = Id::fresh();
        let uuid = id.to_uuid();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), Variant::RFC4122);
        let age = SystemTime::now()
            .duration_since(id.timestamp().unwrap())
            .unwrap_or_default();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }

    #[test]
    fn the_fields_lie_where_the_layout_says() {
        let id = Issued {
            millis: 0x0123_4567_89AB,
            counter: 0xABC << 10 | 0x155,
            node: VARIANT | 0xF_0000_0000_0001,
        }
        .id();
        assert_eq!(
            id.to_uuid(),
            Uuid::from_u128(0x0123_4567_89AB_7ABC_955F_0000_0000_0001)
        );
    }

    #[test]
    fn the_ids_of_a_thread_rise_strictly() {
        let mut last = Id::fresh();
        for _ in 0..MANY {
            let id = Id::fresh();
            assert!(id > last, "{last:?} then {id:?}");
            last = id;
        }
    }

    #[test]
    fn threads_never_share_an_id() {
        const THREADS: usize = 8;
        let count = MANY / 10;
        let ids: HashSet<Id> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| (0..count).map(|_| Id::fresh()).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(ids.len(), THREADS * count);
    }

    #[test]
    fn threads_that_follow_each_other_never_share_a_node() {
        let count = if cfg!(miri) { 10 } else { 200 };
        let nodes: HashSet<u64> = (0..count)
            .map(|_| {
                thread::spawn(|| Id::fresh().to_uuid().as_u64_pair().1 & super::NODE_MASK)
                    .join()
                    .unwrap()
            })
            .collect();
        assert_eq!(nodes.len(), count);
    }

    #[test]
    fn a_new_millisecond_restarts_the_counter() {
        assert_eq!(key(issued(10, 7).next(11)), (11, 0));
    }

    #[test]
    fn the_same_millisecond_counts_on() {
        assert_eq!(key(issued(10, 7).next(10)), (10, 8));
    }

    #[test]
    fn a_clock_set_back_counts_on_in_the_old_millisecond() {
        assert_eq!(key(issued(10, 7).next(3)), (10, 8));
    }

    #[test]
    fn an_exhausted_counter_borrows_the_next_millisecond() {
        let borrowed = issued(10, COUNTER_MAX).next(10);
        assert_eq!(key(borrowed), (11, 0));
        assert_eq!(key(borrowed.next(10)), (11, 1));
        assert_eq!(key(borrowed.next(11)), (11, 1));
        assert_eq!(key(borrowed.next(12)), (12, 0));
        assert!(borrowed.id() > issued(10, COUNTER_MAX).id());
    }

    #[test]
    fn ids_sort_by_millisecond_then_counter_across_both_of_its_parts() {
        let ids = [
            issued(10, 0),
            issued(10, 0x3FF),
            issued(10, 0x400),
            issued(10, COUNTER_MAX),
            issued(11, 0),
        ]
        .map(Issued::id);
        assert!(ids.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn only_version_7_ids_carry_a_time() {
        let id = issued(1_234, 0).id();
        assert_eq!(
            id.timestamp(),
            Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_234))
        );
        assert_eq!(Id::NIL.timestamp(), None);
        assert_eq!(Id::from_uuid(Uuid::max()).timestamp(), None);
        assert_eq!(Id(id.0 ^ 0x3 << 76).timestamp(), None, "version 4");
    }

    #[test]
    fn ids_can_be_had_while_a_thread_is_torn_down() {
        struct SendsAnId(Cell<Option<mpsc::Sender<Id>>>);
        impl Drop for SendsAnId {
            fn drop(&mut self) {
                if let Some(sender) = self.0.take() {
                    let _gone = sender.send(Id::fresh());
                }
            }
        }
        thread_local!(static SENDER: SendsAnId = const { SendsAnId(Cell::new(None)) });
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || SENDER.with(|slot| slot.0.set(Some(sender))))
            .join()
            .unwrap();
        assert_eq!(receiver.recv().unwrap().to_uuid().get_version_num(), 7);
    }
}
