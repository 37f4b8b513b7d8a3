//! What ties a message to others and to a time, and what is said about it beside its payload.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{Hop, Lineage};
use crate::deadline::Deadline;
use crate::id::Id;
use crate::pool::{BLOCK_SIZES, PoolBox};

const _: () = assert!(size_of::<Ties>() <= BLOCK_SIZES[0]);

/// The ties of a message that has any.
#[derive(Clone)]
pub(super) struct Tied(pub(super) Option<PoolBox<Ties>>);

impl Drop for Tied {
    /// A comparison where there are none.
    #[inline]
    fn drop(&mut self) {
        if let Some(ties) = self.0.take() {
            drop_ties(ties);
        }
    }
}

#[inline(never)]
fn drop_ties(ties: PoolBox<Ties>) {
    drop(ties);
}

/// What a message lacks that stands alone.
#[derive(Clone)]
pub(super) struct Ties {
    /// Nil if it is the message's own id.
    pub(super) correlation: Id,
    /// Nil if nothing caused the message.
    pub(super) causation: Id,
    pub(super) deadline: Deadline,
    pub(super) extras: Option<Box<Extras>>,
}

impl Ties {
    pub(super) const NONE: Self = Self {
        correlation: Id::NIL,
        causation: Id::NIL,
        deadline: Deadline::NONE,
        extras: None,
    };

    #[inline(always)]
    pub(super) fn child_of(parent: Lineage) -> PoolBox<Self> {
        #[expect(
            clippy::multiple_unsafe_ops_per_block,
            reason = "they are all the fields of one place"
        )]
        let make = |ties: *mut Self| {
            // SAFETY: there is room for the ties.
            unsafe {
                (&raw mut (*ties).correlation).write(parent.correlation());
                (&raw mut (*ties).causation).write(parent.id);
                (&raw mut (*ties).deadline).write(Deadline::NONE);
                (&raw mut (*ties).extras).write(None);
            }
        };
        // SAFETY: every field is written.
        unsafe { PoolBox::with(make) }
    }
}

/// What most messages lack.
#[derive(Clone, Default)]
pub(super) struct Extras {
    pub(super) time: Option<SystemTime>,
    pub(super) stream_key: Option<Cow<'static, str>>,
    /// The full type name of the aggregate that the message is for.
    pub(super) aggregate: Option<Cow<'static, str>>,
    pub(super) tags: BTreeSet<Cow<'static, str>>,
    pub(super) metadata: BTreeMap<Cow<'static, str>, Noted>,
    /// Oldest first.
    pub(super) hops: Vec<Hop>,
}

/// A value of the message's own metadata.
#[derive(Clone)]
pub(super) struct Noted {
    pub(super) value: Cow<'static, str>,
    /// How many hops there were when it was noted: it is newer than these and older than those that
    /// followed.
    pub(super) hops_before: usize,
}
