//! The decision trail: which rules a handler tried, in order, whether each matched, and why.
//!
//! A trail is one pointer. Its buffer is rented from a pool that all executors share, at the first
//! record, and given back when the trail is dropped; so a handler that decides nothing pays
//! nothing, and one that does allocates nothing once warm.
//!
//! # Invariants
//! - I1. Buffers in the pool <= `Shelf::taken` <= [`RETAINED_TRAILS`]: a place is taken before a
//!   buffer is put into the pool and freed after one was taken out.
//! - I2. A buffer in the pool is empty, with room for at most [`RETAINED_DECISIONS`]: no text is
//!   dropped under the pool's lock.

use std::borrow::Cow;
use std::fmt;
use std::slice;
// Not those of `sync`: a static outlives the model run that first touched it.
use std::sync::atomic::{AtomicUsize, Ordering};

use object_pool::Pool;

use crate::sync::plain::OnceLock;

/// How many buffers of trails the process retains for reuse, at most.
pub const RETAINED_TRAILS: usize = 1_024;

/// How many decisions a retained buffer has room for, at most; a larger one is freed.
const RETAINED_DECISIONS: usize = 1_024;

/// How many decisions a new buffer has room for.
const FIRST_DECISIONS: usize = 8;

const _: () = assert!(size_of::<Trail>() == size_of::<usize>());

/// The shelf of the process.
fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(Shelf::new)
}

/// One rule that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    rule: Cow<'static, str>,
    reason: Cow<'static, str>,
    matched: bool,
}

impl Decision {
    /// The name of the rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Whether the rule matched.
    #[must_use]
    pub const fn matched(&self) -> bool {
        self.matched
    }

    /// Why it did or did not, in the words of who recorded it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The decisions made for one message, oldest first.
#[derive(Default)]
pub struct Trail {
    /// `None` until the first record.
    buffer: Option<Box<Buffer>>,
}

impl Trail {
    /// Creates an empty trail, which holds no buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: None }
    }

    /// Adds a decision behind the earlier ones.
    ///
    /// Allocates nothing if a retained buffer is there with room, and `rule` and `reason` are
    /// static or already owned.
    pub fn record(
        &mut self,
        rule: impl Into<Cow<'static, str>>,
        matched: bool,
        reason: impl Into<Cow<'static, str>>,
    ) {
        let decision = Decision {
            rule: rule.into(),
            reason: reason.into(),
            matched,
        };
        self.buffer
            .get_or_insert_with(|| shelf().rent())
            .decisions
            .push(decision);
    }

    /// Iterates over all decisions, oldest first.
    pub fn iter(&self) -> slice::Iter<'_, Decision> {
        self.as_slice().iter()
    }

    /// Iterates over the decisions whose rule matched, oldest first.
    pub fn matched(&self) -> impl Iterator<Item = &Decision> {
        self.iter().filter(|decision| decision.matched)
    }

    /// Iterates over the decisions whose rule did not match, oldest first.
    pub fn unmatched(&self) -> impl Iterator<Item = &Decision> {
        self.iter().filter(|decision| !decision.matched)
    }

    /// The number of decisions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Apart, so that dropping a trail that recorded nothing is a comparison and no call.
    #[cold]
    #[inline(never)]
    fn give_back(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            shelf().give_back(buffer);
        }
    }

    /// Forgets the decisions.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.is_rented() {
            self.give_back();
        }
    }

    /// Whether there is a buffer.
    #[inline]
    pub(crate) const fn is_rented(&self) -> bool {
        self.buffer.is_some()
    }

    fn as_slice(&self) -> &[Decision] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.decisions)
    }
}

impl Drop for Trail {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl<'a> IntoIterator for &'a Trail {
    type Item = &'a Decision;
    type IntoIter = slice::Iter<'a, Decision>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Returns how many buffers wait for reuse at this instant: at most [`RETAINED_TRAILS`].
#[must_use]
pub fn retained_trails() -> usize {
    shelf().buffers.len()
}

/// A trail's decisions, boxed so that a trail moves as one pointer.
struct Buffer {
    decisions: Vec<Decision>,
}

/// The pool and the bound that it lacks.
struct Shelf {
    buffers: Pool<Box<Buffer>>,
    /// Places taken in the pool.
    taken: AtomicUsize,
}

impl Shelf {
    fn new() -> Self {
        // With all its room from the start, the pool never allocates under its lock.
        Self {
            buffers: Pool::from_vec(Vec::with_capacity(RETAINED_TRAILS)),
            taken: AtomicUsize::new(0),
        }
    }

    fn rent(&self) -> Box<Buffer> {
        let Some(rented) = self.buffers.try_pull() else {
            return Box::new(Buffer {
                decisions: Vec::with_capacity(FIRST_DECISIONS),
            });
        };
        let (_, buffer) = rented.detach();
        self.free_place();
        buffer
    }

    fn give_back(&self, mut buffer: Box<Buffer>) {
        buffer.decisions.clear();
        if buffer.decisions.capacity() <= RETAINED_DECISIONS && self.take_place() {
            self.buffers.attach(buffer);
        }
    }

    /// Takes a place if one is free.
    #[must_use = "a place that was taken is to be filled"]
    fn take_place(&self) -> bool {
        // ORDERING: Relaxed here and below. The bound needs only the single modification order of
        // `taken`, in which each place is taken before its buffer is put in and freed after it was
        // taken out; the pool's lock orders the buffers.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < RETAINED_TRAILS).then_some(taken + 1)
            })
            .is_ok()
    }

    fn free_place(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::{
        Buffer, Decision, RETAINED_DECISIONS, RETAINED_TRAILS, Shelf, Trail, retained_trails,
    };

    fn rules<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Vec<&'a str> {
        decisions.map(Decision::rule).collect()
    }

    fn three() -> Trail {
        let mut trail = Trail::new();
        trail.record("limit", true, "500 of 10,000");
        trail.record(String::from("blocked"), false, format!("not on list {}", 7));
        trail.record("open", true, "");
        trail
    }

    #[test]
    fn a_trail_is_empty_at_first() {
        let trail = Trail::default();
        assert!(trail.is_empty());
        assert_eq!(trail.len(), 0);
        assert!(trail.buffer.is_none(), "no buffer before the first record");
        assert_eq!(
            trail.iter().count() + trail.matched().count() + trail.unmatched().count(),
            0
        );
    }

    #[test]
    fn a_trail_keeps_order_and_separates_matched_from_unmatched() {
        let trail = three();
        assert_eq!(trail.len(), 3);
        assert!(!trail.is_empty());
        assert_eq!(rules(trail.iter()), ["limit", "blocked", "open"]);
        assert_eq!(rules(trail.matched()), ["limit", "open"]);
        assert_eq!(rules(trail.unmatched()), ["blocked"]);
    }

    #[test]
    fn a_decision_tells_its_rule_outcome_and_reason() {
        let trail = three();
        let blocked = trail.unmatched().next().unwrap();
        assert_eq!(
            (blocked.rule(), blocked.matched(), blocked.reason()),
            ("blocked", false, "not on list 7")
        );
    }

    #[test]
    fn a_trail_holds_more_than_a_new_buffer_has_room_for() {
        let mut trail = Trail::new();
        (0..100).for_each(|rule| trail.record(rule.to_string(), rule % 2 == 0, ""));
        assert!(
            trail
                .iter()
                .enumerate()
                .all(|(at, decision)| decision.rule() == at.to_string())
        );
        assert_eq!(trail.matched().count(), 50);
    }

    #[test]
    fn a_trail_is_one_pointer_that_threads_may_share() {
        const fn send_and_sync<T: Send + Sync>() {}
        const { send_and_sync::<Trail>() };
        assert_eq!(size_of::<Option<Box<Trail>>>(), size_of::<Trail>());
    }

    #[test]
    fn a_reused_buffer_shows_nothing_of_its_last_trail() {
        for _ in 0..10 {
            let trail = three();
            assert_eq!(trail.len(), 3);
        }
        assert!(retained_trails() <= RETAINED_TRAILS);
    }

    #[test]
    fn a_buffer_is_reused_with_its_room() {
        let shelf = Shelf::new();
        let mut buffer = shelf.rent();
        buffer.decisions.reserve_exact(33);
        let (address, capacity) = (
            ptr::from_ref::<Buffer>(&buffer),
            buffer.decisions.capacity(),
        );
        shelf.give_back(buffer);
        assert_eq!(shelf.buffers.len(), 1);
        let again = shelf.rent();
        assert_eq!(
            (ptr::from_ref::<Buffer>(&again), again.decisions.capacity()),
            (address, capacity)
        );
        assert_eq!(shelf.buffers.len(), 0);
    }

    #[test]
    fn no_more_than_the_cap_is_retained() {
        let shelf = Shelf::new();
        let buffers: Vec<_> = (0..RETAINED_TRAILS + 100).map(|_| shelf.rent()).collect();
        buffers
            .into_iter()
            .for_each(|buffer| shelf.give_back(buffer));
        assert_eq!(shelf.buffers.len(), RETAINED_TRAILS);
        let _rented: Vec<_> = (0..RETAINED_TRAILS).map(|_| shelf.rent()).collect();
        assert_eq!(
            (shelf.buffers.len(), shelf.taken.load(Ordering::Relaxed)),
            (0, 0),
            "every place is free again"
        );
    }

    #[test]
    fn the_cap_holds_while_threads_race() {
        const THREADS: usize = 4;
        let each = if cfg!(miri) { 300 } else { 600 };
        let rounds = if cfg!(miri) { 1 } else { 50 };
        let shelf = Shelf::new();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(shelf.buffers.len() <= RETAINED_TRAILS);
                    thread::yield_now();
                }
            });
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..rounds {
                            let buffers: Vec<_> = (0..each).map(|_| shelf.rent()).collect();
                            buffers
                                .into_iter()
                                .for_each(|buffer| shelf.give_back(buffer));
                        }
                    })
                })
                .collect();
            let outcomes: Vec<_> = threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::Relaxed);
            watcher.join().unwrap();
            assert!(outcomes.iter().all(Result::is_ok));
        });
        assert_eq!(shelf.buffers.len(), shelf.taken.load(Ordering::Relaxed));
        assert!(shelf.buffers.len() <= RETAINED_TRAILS);
    }

    #[test]
    fn an_oversized_buffer_is_not_retained() {
        let shelf = Shelf::new();
        let mut buffer = shelf.rent();
        buffer.decisions.reserve_exact(RETAINED_DECISIONS + 1);
        shelf.give_back(buffer);
        assert_eq!(
            (shelf.buffers.len(), shelf.taken.load(Ordering::Relaxed)),
            (0, 0)
        );
    }
}
