use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::{Envelope, Hop, Lineage};

const VERSION_4: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_8555_6666_7777_8888);
const OTHER: Uuid = Uuid::from_u128(7);

/// A version 7 id of one second after the epoch.
const SECOND_ONE: Uuid = Uuid::from_u64_pair(1_000 << 16 | 0x7000, 0b10 << 62);

#[test]
fn a_new_envelope_starts_a_conversation_of_its_own() {
    let envelope = Envelope::new(5);
    assert_eq!(envelope.payload, 5);
    assert_eq!(envelope.id().get_version_num(), 7);
    assert_eq!(envelope.correlation_id(), envelope.id());
    assert_eq!(envelope.causation_id(), None);
    assert_eq!(envelope.deadline(), None);
}

#[test]
fn a_new_envelope_answers_no_to_every_question() {
    let envelope = Envelope::new(());
    assert!(envelope.tied.0.is_none(), "nothing was taken for it");
    assert!(!envelope.has_tag("a") && !envelope.has_flag(1) && !envelope.matches_aggregate(""));
    assert_eq!(
        (
            envelope.tags().count(),
            envelope.hops().len(),
            envelope.metadata_keys().len()
        ),
        (0, 0, 0)
    );
    assert_eq!(
        (envelope.metadata("a"), envelope.stream_key()),
        (None, None)
    );
    assert_eq!((envelope.topic(), envelope.stream()), (None, None));
    assert_eq!((envelope.partition(), envelope.sequence()), (None, None));
}

#[test]
fn the_ids_are_those_that_were_set() {
    let envelope = Envelope::new(()).with_id(VERSION_4);
    assert_eq!(
        envelope.correlation_id(),
        VERSION_4,
        "its own until another is set"
    );
    let envelope = envelope.with_correlation(OTHER).with_causation(SECOND_ONE);
    assert_eq!(
        (
            envelope.id(),
            envelope.correlation_id(),
            envelope.causation_id()
        ),
        (VERSION_4, OTHER, Some(SECOND_ONE))
    );
    let envelope = envelope
        .with_correlation(Uuid::nil())
        .with_causation(Uuid::nil());
    assert_eq!(
        (envelope.correlation_id(), envelope.causation_id()),
        (VERSION_4, None)
    );
}

#[test]
fn a_child_inherits_the_correlation_and_names_its_parent_as_the_cause() {
    let root = Envelope::new("root");
    let child = Envelope::child_of(root.lineage(), "child");
    let grandchild = Envelope::child_of(child.lineage(), 3);
    assert_eq!(
        (child.correlation_id(), child.causation_id()),
        (root.id(), Some(root.id()))
    );
    assert_eq!(
        (grandchild.correlation_id(), grandchild.causation_id()),
        (root.id(), Some(child.id()))
    );
    assert_eq!(
        grandchild.lineage(),
        Lineage {
            id: grandchild.id,
            correlation: root.id
        }
    );
}

#[test]
fn the_time_is_that_of_the_id_unless_set() {
    let envelope = Envelope::new(());
    let age = SystemTime::now()
        .duration_since(envelope.time())
        .unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    let envelope = envelope.with_id(SECOND_ONE);
    assert_eq!(
        envelope.time(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1)
    );
    let set = SystemTime::UNIX_EPOCH + Duration::from_nanos(123);
    assert_eq!(envelope.with_time(set).time(), set);
}

#[test]
fn an_id_without_a_time_leaves_the_time_as_it_is() {
    let envelope = Envelope::new(()).with_id(SECOND_ONE).with_id(VERSION_4);
    assert_eq!(
        envelope.time(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1)
    );
}

#[test]
fn a_deadline_is_kept() {
    let deadline = Instant::now();
    assert_eq!(
        Envelope::new(()).with_deadline(deadline).deadline(),
        Some(deadline)
    );
}

#[test]
fn tags_are_a_set() {
    let envelope = Envelope::new(())
        .with_tag("b")
        .with_tag(String::from("a"))
        .with_tag("b");
    assert_eq!(envelope.tags().collect::<Vec<_>>(), ["a", "b"]);
    assert!(envelope.has_tag("a") && envelope.has_tag("b"));
    assert!(!envelope.has_tag("") && !envelope.has_tag("ab"));
}

#[test]
fn a_flag_is_raised_when_all_its_bits_are() {
    let envelope = Envelope::new(()).with_flag(0b001).with_flag(0b100);
    assert!(envelope.has_flag(0b001) && envelope.has_flag(0b100) && envelope.has_flag(0b101));
    assert!(!envelope.has_flag(0b010) && !envelope.has_flag(0b011) && !envelope.has_flag(0));
}

#[test]
fn an_aggregate_matches_by_its_whole_name() {
    let envelope = Envelope::new(()).with_aggregate("shop::Order");
    assert!(envelope.matches_aggregate("shop::Order"));
    for other in ["Order", "shop", "shop::OrderLine", "shop::order", ""] {
        assert!(!envelope.matches_aggregate(other), "{other}");
    }
}

#[test]
fn the_newest_hop_that_has_a_field_wins() {
    let envelope = Envelope::new(())
        .with_hop(
            Hop::current()
                .with_topic("t1")
                .with_stream("s1")
                .with_partition(1)
                .with_sequence(1),
        )
        .with_hop(Hop::current().with_topic("t2").with_partition(2))
        .with_hop(Hop::current().with_topic("").with_sequence(3));
    assert_eq!(
        (envelope.topic(), envelope.stream()),
        (Some("t2"), Some("s1"))
    );
    assert_eq!(
        (envelope.partition(), envelope.sequence()),
        (Some(2), Some(3))
    );
    assert_eq!(envelope.hops().len(), 3);
}

#[test]
fn causation_hops_do_not_count_as_current_ones() {
    let caused = Hop::causation()
        .with_topic("t")
        .with_stream("s")
        .with_partition(9)
        .with_sequence(9)
        .with_metadata("k", "v");
    let only = Envelope::new(()).with_hop(caused.clone());
    assert_eq!(
        (
            only.topic(),
            only.stream(),
            only.partition(),
            only.sequence()
        ),
        (None, None, None, None)
    );
    assert_eq!(
        (
            only.metadata("k"),
            only.metadata_keys().len(),
            only.hops().len()
        ),
        (None, 0, 1)
    );
    let both = Envelope::new(())
        .with_hop(Hop::current().with_topic("own"))
        .with_hop(caused);
    assert_eq!(both.topic(), Some("own"));
}

#[test]
fn metadata_merges_with_the_newest_first() {
    let envelope = Envelope::new(())
        .with_metadata("a", "own")
        .with_metadata("b", "own")
        .with_hop(
            Hop::current()
                .with_metadata("b", "hop 1")
                .with_metadata("c", "hop 1")
                .with_metadata("d", "hop 1"),
        )
        .with_hop(Hop::current().with_metadata("c", "hop 2"))
        .with_metadata("d", "own, later");
    let merged: Vec<_> = envelope
        .metadata_keys()
        .into_iter()
        .map(|key| (key, envelope.metadata(key).unwrap()))
        .collect();
    assert_eq!(
        merged,
        [
            ("a", "own"),
            ("b", "hop 1"),
            ("c", "hop 2"),
            ("d", "own, later")
        ]
    );
    let envelope = envelope.with_hop(Hop::current().with_metadata("d", "hop 3"));
    assert_eq!(envelope.metadata("d"), Some("hop 3"));
    assert_eq!(
        envelope.with_metadata("a", "again").metadata("a"),
        Some("again")
    );
}

#[test]
fn mapping_changes_the_payload_alone() {
    let envelope = Envelope::new(20)
        .with_stream_key("order-7")
        .with_flag(2)
        .with_correlation(OTHER)
        .with_causation(SECOND_ONE);
    let id = envelope.id();
    let mapped = envelope.map(|number| format!("{number}!"));
    assert_eq!(
        (mapped.id(), mapped.correlation_id(), mapped.causation_id()),
        (id, OTHER, Some(SECOND_ONE))
    );
    assert_eq!(mapped.stream_key(), Some("order-7"));
    assert!(mapped.has_flag(2));
    assert_eq!(mapped.into_payload(), "20!");
}

#[test]
fn a_clone_is_the_same_message() {
    let envelope = Envelope::new(vec![1]).with_tag("a");
    let clone = envelope.clone();
    assert_eq!(
        (clone.id(), &clone.payload, clone.has_tag("a")),
        (envelope.id(), &envelope.payload, true)
    );
}

#[test]
fn debug_needs_nothing_of_the_payload_and_shows_nothing_of_it() {
    struct Secret;
    let shown = format!("{:?}", Envelope::new(Secret).with_id(VERSION_4));
    assert!(
        shown.contains("Secret") && shown.contains(&VERSION_4.to_string()),
        "{shown}"
    );
}

#[test]
fn an_envelope_is_send_and_sync_as_its_payload_is() {
    const fn send_and_sync<T: Send + Sync>() {}
    const { send_and_sync::<Envelope<String>>() };
    let local = Envelope::new(Rc::new(1));
    assert_eq!(*local.into_payload(), 1);
}

#[test]
fn the_attempt_is_the_first_unless_set() {
    let third = NonZeroU32::new(3).unwrap();
    assert_eq!(Envelope::new(()).attempt().get(), 1);
    assert_eq!(
        Envelope::new(()).with_attempt(third).map(|()| 5).attempt(),
        third
    );
}

#[test]
fn an_envelope_is_five_words_up_to_a_word_of_payload() {
    assert_eq!(
        (
            size_of::<Envelope<()>>(),
            size_of::<Envelope<u32>>(),
            size_of::<Envelope<u64>>()
        ),
        (32, 40, 40)
    );
}

#[test]
fn the_time_is_that_of_the_newest_version_7_id() {
    let envelope = Envelope::new(()).with_id(VERSION_4).with_id(SECOND_ONE);
    assert_eq!(
        envelope.time(),
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_000)
    );
}
