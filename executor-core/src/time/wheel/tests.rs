//! The wheel against an ordered map.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use proptest::prelude::*;

use super::{NEVER, Node, Wheel};

/// Milliseconds of a hundred years.
const CENTURY: u64 = 100 * 365 * 24 * 3_600 * 1_000;

/// A wheel, and what it must do: nodes by tick and by the order of insertion.
struct Rig {
    wheel: Wheel,
    model: BTreeMap<(u64, u64), NonNull<Node>>,
    now: u64,
    inserted: u64,
}

impl Rig {
    fn new() -> Self {
        Self {
            wheel: Wheel::new(),
            model: BTreeMap::new(),
            now: 0,
            inserted: 0,
        }
    }

    fn insert(&mut self, due: u64) {
        let node = NonNull::from(Box::leak(Box::new(Node::new(0))));
        self.place(node, due);
    }

    fn place(&mut self, node: NonNull<Node>, due: u64) {
        // SAFETY: it lives until it was popped or removed, and is in no list.
        unsafe { node.as_ref() }.due.set(due);
        // SAFETY: as above.
        unsafe { self.wheel.insert(node) };
        self.inserted += 1;
        // What is overdue fires in the order of insertion, behind what is due.
        let model = self.model.insert((due.max(self.now), self.inserted), node);
        assert_eq!(model, None);
    }

    fn pick(&mut self, which: usize) -> Option<NonNull<Node>> {
        let key = *self.model.keys().nth(which % self.model.len().max(1))?;
        let node = self.model.remove(&key)?;
        // SAFETY: it is in the wheel, as the model says.
        unsafe { self.wheel.remove(node) };
        Some(node)
    }

    fn advance(&mut self, now: u64) {
        self.advance_and_pop(now, usize::MAX);
        let next = self.earliest();
        assert!(next > self.now, "{next} was due at {}", self.now);
        let told = self.wheel.next();
        assert!(told > self.now && told <= next, "{told} for {next}");
    }

    /// Pops at most so many of those that are due; the others stay ready.
    fn advance_and_pop(&mut self, now: u64, most: usize) {
        self.now = self.now.max(now);
        self.wheel.advance(now);
        for _ in 0..most {
            let Some(node) = self.wheel.pop() else {
                return;
            };
            let (key, expected) = self
                .model
                .pop_first()
                .expect("nothing fires that is not there");
            assert!(key.0 <= self.now, "{} fired at {}", key.0, self.now);
            assert_eq!(node, expected, "fired out of order");
            // SAFETY: popped, so it is ours again.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }

    fn earliest(&self) -> u64 {
        self.model.first_key_value().map_or(NEVER, |(key, _)| key.0)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        while let Some(node) = self.pick(0) {
            // SAFETY: removed, so it is ours again.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
        assert!(self.wheel.is_empty());
        assert_eq!(self.wheel.next(), NEVER);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    Overdue(u64),
    Remove(usize),
    Move(usize, u64),
    Advance(u64),
    /// To the next tick, of which only so many are popped.
    Slice(usize),
    ToNext,
}

/// Delays of all sizes, the edges of all slots among them.
fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..200_u64,
        0..CENTURY,
        (0..50_u32, -1..=1_i64).prop_map(|(bit, off)| (1_u64 << bit).saturating_add_signed(off)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => delay().prop_map(Step::Insert),
        1 => (0..100_u64).prop_map(Step::Overdue),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (any::<usize>(), delay()).prop_map(|(which, delay)| Step::Move(which, delay)),
        2 => delay().prop_map(Step::Advance),
        3 => (0..3_usize).prop_map(Step::Slice),
        4 => Just(Step::ToNext),
    ]
}

proptest! {
    #[test]
    fn it_does_what_an_ordered_map_does_for_a_century(
        steps in prop::collection::vec(step(), 1..400),
        far in prop_oneof![Just(u64::MAX - 1), CENTURY * 2..u64::MAX - 1],
    ) {
        let mut rig = Rig::new();
        // One far timer is always there.
        rig.insert(far);
        for step in steps {
            match step {
                Step::Insert(delay) => rig.insert(rig.now + delay),
                Step::Overdue(ago) => rig.insert(rig.now.saturating_sub(ago)),
                Step::Remove(which) if rig.model.len() > 1 => {
                    let but_the_far_one = which % (rig.model.len() - 1);
                    if let Some(node) = rig.pick(but_the_far_one) {
                        // SAFETY: removed, so it is ours again.
                        drop(unsafe { Box::from_raw(node.as_ptr()) });
                    }
                }
                Step::Move(which, delay) if rig.model.len() > 1 => {
                    let but_the_far_one = which % (rig.model.len() - 1);
                    if let Some(node) = rig.pick(but_the_far_one) {
                        rig.place(node, rig.now + delay);
                    }
                }
                Step::Remove(_) | Step::Move(..) => {}
                Step::Advance(by) if rig.now + by < CENTURY * 2 => rig.advance(rig.now + by),
                Step::Advance(_) => {}
                Step::Slice(most) if rig.earliest() < CENTURY * 2 => {
                    rig.advance_and_pop(rig.earliest(), most);
                    prop_assert!(rig.wheel.next() <= rig.earliest().max(rig.now));
                }
                Step::Slice(_) => {}
                Step::ToNext if rig.earliest() < CENTURY * 2 => rig.advance(rig.earliest()),
                Step::ToNext => {}
            }
        }
        rig.advance(CENTURY * 2 - 1);
        prop_assert!(!rig.model.is_empty(), "the far one is still there");
    }
}

#[test]
fn a_step_of_a_century_fires_everything_in_order() {
    let mut rig = Rig::new();
    for at in 0..10_000 {
        rig.insert(at * 7_919 % 10_007 * (CENTURY / 10_007));
    }
    rig.advance(CENTURY);
    assert!(rig.model.is_empty());
}

#[test]
fn a_millisecond_beside_a_far_timer_fires_in_each_of_many_years() {
    let mut rig = Rig::new();
    rig.insert(u64::MAX - 1);
    for year in 1..=100 {
        let now = year * (CENTURY / 100);
        rig.insert(now + 1);
        rig.advance(now);
        rig.advance(now + 1);
        assert_eq!(rig.model.len(), 1);
    }
}

#[test]
fn what_is_told_as_next_leads_to_each_timer_without_a_tick_between() {
    let mut rig = Rig::new();
    for at in [1, 64, 65, 4_095, 4_096, 1 << 30, (1 << 36) + 5] {
        rig.insert(at);
    }
    let mut stops = 0;
    while rig.wheel.next() != NEVER {
        rig.advance(rig.wheel.next());
        stops += 1;
    }
    assert_eq!(stops, 7);
}
