//! The envelope: a message with its identity, its lineage, and what is known about it.
//!
//! A new envelope costs an id and no allocation, and is five words with a payload of one.
//! What a message lacks that nobody caused (a lineage, a deadline) lies in one pooled block, and what most
//! messages lack (tags, metadata, hops, an explicit time ..) in a box, each made when the first of it is
//! set.
//!
//! # Invariants
//! - I1. The id is of version 7, so that it carries the time, or the time was set explicitly.

mod hop;
mod marks;
mod ties;

use std::any::type_name;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

pub use self::hop::{Hop, HopKind};
use self::marks::Marks;
use self::ties::{Extras, Noted, Tied, Ties};
use crate::deadline::Deadline;
use crate::id::Id;
use crate::pool::PoolBox;

const _: () = assert!(size_of::<Envelope<u64>>() <= 40);
const _: () = assert!(size_of::<Option<Envelope<u64>>>() == size_of::<Envelope<u64>>());

/// A message on its way to a handler: the payload, and who it is, what it belongs to and what
/// caused it.
///
/// A clone keeps the id, and all else: it is the same message once more, to be sent again for
/// example. Another message is made with [`Envelope::new`], or in a handler with
/// [`PolicyContext::envelope`](crate::PolicyContext::envelope).
///
/// # Examples
/// ```
/// # use executor_core::Envelope;
/// let order = Envelope::new("two tins of paint")
///     .with_tag("urgent")
///     .with_metadata("tenant", "north");
/// assert!(order.has_tag("urgent") && !order.has_tag("bulk"));
/// assert_eq!(order.metadata("tenant"), Some("north"));
/// assert_eq!(order.correlation_id(), order.id());
/// assert_eq!(order.map(str::len).into_payload(), 17);
/// ```
#[derive(Clone)]
#[must_use = "an envelope does nothing until it is given to an executor"]
pub struct Envelope<M> {
    /// What the message says.
    pub payload: M,
    id: Id,
    tied: Tied,
    marks: Marks,
}

/// What the messages that a handler makes inherit from the one it handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The id of the message that is handled.
    id: Id,
    /// The id that it shares with all messages of the same conversation; nil if it is its own.
    correlation: Id,
}

impl Lineage {
    pub(crate) const fn id(&self) -> Uuid {
        self.id.to_uuid()
    }

    /// The id that all messages of the conversation share.
    pub(crate) const fn correlation_id(&self) -> Uuid {
        self.correlation().to_uuid()
    }

    #[inline]
    const fn correlation(&self) -> Id {
        if self.correlation.is_nil() {
            self.id
        } else {
            self.correlation
        }
    }
}

impl<M> Envelope<M> {
    /// Wraps `payload` in a fresh envelope: a new version 7 id, its own correlation, no cause, no
    /// deadline.
    ///
    /// The ids of one thread rise strictly; no two threads share one. Allocates nothing.
    #[inline]
    pub fn new(payload: M) -> Self {
        Self::with_ties(payload, None)
    }

    /// Wraps `payload` in a fresh envelope that was caused by the message of `parent`.
    #[inline]
    pub(crate) fn child_of(parent: Lineage, payload: M) -> Self {
        Self::with_ties(payload, Some(Ties::child_of(parent)))
    }

    /// Sets the id, for a message that already has one.
    ///
    /// The time becomes that of the id if it is of version 7, and else stays as it is.
    pub fn with_id(mut self, id: Uuid) -> Self {
        let id = Id::from_uuid(id);
        if id.timestamp().is_none() {
            let time = self.time();
            self.extras_mut().time = Some(time);
        } else if self.extras().is_some() {
            self.extras_mut().time = None;
        }
        self.id = id;
        self
    }

    /// Sets the correlation id; nil stands for the message's own id.
    pub fn with_correlation(mut self, correlation: Uuid) -> Self {
        self.ties_mut().correlation = Id::from_uuid(correlation);
        self
    }

    /// Sets the id of the message that caused this one; nil stands for none.
    pub fn with_causation(mut self, causation: Uuid) -> Self {
        self.ties_mut().causation = Id::from_uuid(causation);
        self
    }

    /// Sets the instant from which on the message is not to be started any more.
    ///
    /// It is compared with the clock of the core on which the handler would start. With a
    /// [`VirtualClock`](crate::VirtualClock) make it from
    /// [`WorkerCore::now`](crate::WorkerCore::now).
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.ties_mut().deadline = Deadline::at(deadline);
        self
    }

    /// Sets the time at which the message came to be, in place of that in its id.
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.extras_mut().time = Some(time);
        self
    }

    /// Sets the text by which the message's stream is known elsewhere.
    pub fn with_stream_key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.extras_mut().stream_key = Some(key.into());
        self
    }

    /// Sets the full type name of the aggregate that the message is for.
    pub fn with_aggregate(mut self, type_name: impl Into<Cow<'static, str>>) -> Self {
        self.extras_mut().aggregate = Some(type_name.into());
        self
    }

    /// Adds a tag.
    pub fn with_tag(mut self, tag: impl Into<Cow<'static, str>>) -> Self {
        self.extras_mut().tags.insert(tag.into());
        self
    }

    /// Raises the flags that are set in the mask `flag`; those raised before stay.
    pub fn with_flag(mut self, flag: u32) -> Self {
        self.marks = self.marks.with_flags(flag);
        self
    }

    /// Sets how often the message was tried, this time included; 1 unless set.
    pub fn with_attempt(mut self, attempt: NonZeroU32) -> Self {
        self.marks = self.marks.with_attempt(attempt);
        self
    }

    /// Notes `value` under `key`, in place of what was noted there before, be it here or at a hop.
    pub fn with_metadata(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        let extras = self.extras_mut();
        let noted = Noted {
            value: value.into(),
            hops_before: extras.hops.len(),
        };
        extras.metadata.insert(key.into(), noted);
        self
    }

    /// Adds a hop, the newest.
    pub fn with_hop(mut self, hop: Hop) -> Self {
        self.extras_mut().hops.push(hop);
        self
    }

    /// Replaces the payload by what `change` makes of it, and keeps everything else.
    pub fn map<N>(self, change: impl FnOnce(M) -> N) -> Envelope<N> {
        let Self {
            payload,
            id,
            tied,
            marks,
        } = self;
        Envelope {
            payload: change(payload),
            id,
            tied,
            marks,
        }
    }

    /// Takes the payload out, and drops everything else.
    #[must_use = "use `drop` to discard the payload as well"]
    pub fn into_payload(self) -> M {
        self.payload
    }

    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id.to_uuid()
    }

    /// The id that all messages of one conversation share: that of its first message.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        self.lineage().correlation_id()
    }

    /// The id of the message that caused this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<Uuid> {
        let causation = self.ties()?.causation;
        (!causation.is_nil()).then(|| causation.to_uuid())
    }

    /// The time at which the message came to be: the one set explicitly, or that in the id.
    ///
    /// The time in a fresh id is that of the kernel's last tick, in whole milliseconds.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let explicit = self.extras().and_then(|extras| extras.time);
        explicit
            .or_else(|| self.id.timestamp())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The instant from which on the message is not to be started any more.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.raw_deadline().instant()
    }

    /// The deadline as it is kept.
    #[inline]
    pub(crate) fn raw_deadline(&self) -> Deadline {
        self.ties().map_or(Deadline::NONE, |ties| ties.deadline)
    }

    /// Whether the deadline has passed: in a handler by the clock of its executor's core, and
    /// elsewhere, in tasks and callbacks too, by the system's. Without a deadline no clock is read.
    #[inline]
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.raw_deadline().has_passed()
    }

    /// The text by which the message's stream is known elsewhere.
    #[must_use]
    pub fn stream_key(&self) -> Option<&str> {
        self.extras()?.stream_key.as_deref()
    }

    /// Whether the message is for the aggregate of this full type name; a part of the name does not
    /// match.
    #[must_use]
    pub fn matches_aggregate(&self, type_name: &str) -> bool {
        self.extras().and_then(|extras| extras.aggregate.as_deref()) == Some(type_name)
    }

    /// Whether the message has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.extras()
            .is_some_and(|extras| extras.tags.contains(tag))
    }

    /// The tags, sorted, each once.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.extras()
            .into_iter()
            .flat_map(|extras| &extras.tags)
            .map(|tag| &**tag)
    }

    /// Whether all flags that are set in the mask `flag` are raised; false for an empty mask.
    #[must_use]
    pub const fn has_flag(&self, flag: u32) -> bool {
        flag != 0 && self.marks.flags() & flag == flag
    }

    /// How often the message was tried, this time included.
    #[must_use]
    pub const fn attempt(&self) -> NonZeroU32 {
        self.marks.attempt()
    }

    /// What was noted last under `key`, on the envelope itself or at a hop of the message's own
    /// way.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let extras = self.extras()?;
        let own = extras.metadata.get(key);
        let newer = &extras.hops[own.map_or(0, |noted| noted.hops_before)..];
        newest(newer, |hop| hop.metadata(key)).or_else(|| own.map(|noted| &*noted.value))
    }

    /// The keys of all metadata, on the envelope itself and at the hops of the message's own way,
    /// sorted.
    #[must_use]
    pub fn metadata_keys(&self) -> BTreeSet<&str> {
        let own = self
            .extras()
            .into_iter()
            .flat_map(|extras| extras.metadata.keys())
            .map(|key| &**key);
        own.chain(
            self.hops()
                .iter()
                .filter(|hop| hop.is_current())
                .flat_map(Hop::metadata_keys),
        )
        .collect()
    }

    /// All hops, of both kinds, oldest first.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        self.extras().map_or(&[], |extras| &extras.hops)
    }

    /// The topic of the newest hop of the message's own way that has one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        newest(self.hops(), Hop::topic)
    }

    /// The stream of the newest hop of the message's own way that has one.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        newest(self.hops(), Hop::stream)
    }

    /// The partition of the newest hop of the message's own way that has one.
    #[must_use]
    pub fn partition(&self) -> Option<u32> {
        newest(self.hops(), Hop::partition)
    }

    /// The sequence number of the newest hop of the message's own way that has one.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        newest(self.hops(), Hop::sequence)
    }

    /// What a message made while handling this one inherits.
    #[inline]
    pub(crate) fn lineage(&self) -> Lineage {
        self.lineage_and_deadline().0
    }

    /// What a context has of the message, with one look at its ties.
    #[inline]
    pub(crate) fn lineage_and_deadline(&self) -> (Lineage, Deadline) {
        let (correlation, deadline) = match self.ties() {
            Some(ties) => (ties.correlation.by_halves(), ties.deadline),
            None => (Id::NIL, Deadline::NONE),
        };
        let id = self.id.by_halves();
        (Lineage { id, correlation }, deadline)
    }

    #[inline]
    fn with_ties(payload: M, ties: Option<PoolBox<Ties>>) -> Self {
        Self {
            payload,
            id: Id::fresh(),
            tied: Tied(ties),
            marks: Marks::FIRST_ATTEMPT,
        }
    }

    #[inline]
    fn ties(&self) -> Option<&Ties> {
        self.tied.0.as_deref()
    }

    fn ties_mut(&mut self) -> &mut Ties {
        let ties = &mut self.tied.0;
        ties.get_or_insert_with(|| PoolBox::new(Ties::NONE))
    }

    fn extras(&self) -> Option<&Extras> {
        self.ties()?.extras.as_deref()
    }

    #[cold]
    fn extras_mut(&mut self) -> &mut Extras {
        self.ties_mut().extras.get_or_insert_default()
    }
}

/// What `field` finds at the newest hop of the message's own way that has it.
fn newest<'a, T>(hops: &'a [Hop], field: impl Fn(&'a Hop) -> Option<T>) -> Option<T> {
    hops.iter()
        .rev()
        .filter(|hop| hop.is_current())
        .find_map(field)
}

impl<M> fmt::Debug for Envelope<M> {
    /// Names the payload's type and does not show the payload, which need not implement `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("payload", &format_args!("{}", type_name::<M>()))
            .field("id", &self.id())
            .field("correlation_id", &self.correlation_id())
            .field("causation_id", &self.causation_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
