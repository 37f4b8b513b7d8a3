//! A hop: one station on a message's way, or on the way of the message that caused it.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Whose way a hop belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HopKind {
    /// The message's own way.
    Current,
    /// The way of the message that caused this one; kept as history, never taken for where this
    /// message is.
    Causation,
}

/// One station on a message's way: where it came through, and what was noted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    kind: HopKind,
    /// Empty if not known; so is `stream`.
    topic: Cow<'static, str>,
    stream: Cow<'static, str>,
    partition: Option<u32>,
    sequence: Option<u64>,
    metadata: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
}

impl Hop {
    /// Creates an empty hop of the message's own way.
    #[must_use]
    pub const fn current() -> Self {
        Self::of(HopKind::Current)
    }

    /// Creates an empty hop of the way of the message that caused this one.
    #[must_use]
    pub const fn causation() -> Self {
        Self::of(HopKind::Causation)
    }

    /// Sets the topic; an empty text counts as none.
    #[must_use]
    pub fn with_topic(mut self, topic: impl Into<Cow<'static, str>>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets the stream; an empty text counts as none.
    #[must_use]
    pub fn with_stream(mut self, stream: impl Into<Cow<'static, str>>) -> Self {
        self.stream = stream.into();
        self
    }

    /// Sets the partition.
    #[must_use]
    pub const fn with_partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the sequence number.
    #[must_use]
    pub const fn with_sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    /// Notes `value` under `key`, in place of an earlier one.
    #[must_use]
    pub fn with_metadata(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Whose way the hop belongs to.
    #[must_use]
    pub const fn kind(&self) -> HopKind {
        self.kind
    }

    /// Whether the hop is of the message's own way.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        matches!(self.kind, HopKind::Current)
    }

    /// The topic, if not empty.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        Some(&*self.topic).filter(|topic| !topic.is_empty())
    }

    /// The stream, if not empty.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        Some(&*self.stream).filter(|stream| !stream.is_empty())
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> Option<u32> {
        self.partition
    }

    /// The sequence number.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// What was noted under `key` at this hop.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(|value| &**value)
    }

    /// The keys under which something was noted at this hop, sorted.
    pub fn metadata_keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(|key| &**key)
    }

    const fn of(kind: HopKind) -> Self {
        Self {
            kind,
            topic: Cow::Borrowed(""),
            stream: Cow::Borrowed(""),
            partition: None,
            sequence: None,
            metadata: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hop, HopKind};

    #[test]
    fn a_new_hop_knows_only_its_kind() {
        for (hop, kind) in [
            (Hop::current(), HopKind::Current),
            (Hop::causation(), HopKind::Causation),
        ] {
            assert_eq!(hop.kind(), kind);
            assert_eq!(hop.is_current(), kind == HopKind::Current);
            assert_eq!(
                (hop.topic(), hop.stream(), hop.partition(), hop.sequence()),
                (None, None, None, None)
            );
            assert_eq!(hop.metadata_keys().count(), 0);
        }
    }

    #[test]
    fn a_hop_tells_what_it_was_given() {
        let hop = Hop::current()
            .with_topic("orders")
            .with_stream(String::from("order-7"))
            .with_partition(3)
            .with_sequence(9);
        assert_eq!(
            (hop.topic(), hop.stream(), hop.partition(), hop.sequence()),
            (Some("orders"), Some("order-7"), Some(3), Some(9))
        );
    }

    #[test]
    fn an_empty_text_counts_as_none() {
        let hop = Hop::current().with_topic("").with_stream("");
        assert_eq!((hop.topic(), hop.stream()), (None, None));
    }

    #[test]
    fn the_newest_metadata_of_a_key_wins() {
        let hop = Hop::current()
            .with_metadata("host", "a")
            .with_metadata("host", "b");
        assert_eq!(hop.metadata("host"), Some("b"));
        assert_eq!(hop.metadata("port"), None);
        assert_eq!(hop.metadata_keys().collect::<Vec<_>>(), ["host"]);
    }
}
