//! The aggregate: one path of the repository, its state, and the check that its events come once each and in order.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use executor_core::Envelope;
use uuid::Uuid;

use crate::object::{Entry, ObjectId, describe};

/// A path as git stores it: bytes without a NUL, in no encoding that could be relied on. Cloning it does not allocate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PathKey(Arc<[u8]>);

impl From<&[u8]> for PathKey {
    fn from(path: &[u8]) -> Self {
        Self(path.into())
    }
}

impl Borrow<[u8]> for PathKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PathKey {
    /// Readable text as it is; anything else in quotes and escaped, so that it cannot be mistaken.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match str::from_utf8(&self.0) {
            Ok(text) if !text.contains(|c: char| c.is_control() || c == '"') => f.write_str(text),
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One path changed by one commit.
#[derive(Clone, Debug)]
pub(crate) struct FileChanged {
    pub(crate) path: PathKey,
    /// The path's number among the paths of its producer.
    pub(crate) slot: usize,
    /// How many events of the path came before this one.
    pub(crate) sequence: u64,
    pub(crate) commit: ObjectId,
    /// Seconds since 1970, by the commit's author.
    pub(crate) author_time: Option<i64>,
    pub(crate) before: Option<Entry>,
    pub(crate) after: Option<Entry>,
    /// When a producer handed the event over.
    pub(crate) submitted: Instant,
}

/// What all events of a path that were handled so far have made of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileState {
    /// What is there now, `None` before the file is made and after it is removed.
    pub(crate) entry: Option<Entry>,
    /// How many events were handled, however they were ordered.
    pub(crate) handled: u64,
    /// The sequence that the next event must have.
    next: u64,
    /// The id of the event that was handled last.
    last: Option<Uuid>,
}

impl FileState {
    /// The sequence that the next event must have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Moves the file to what the event says, and tells if the event does not follow from the present state.
    ///
    /// A wrong event is applied as well: later events are then judged by what was lost with it, not by our refusal.
    pub(crate) fn apply(&mut self, event: &FileChanged, ids: Ids) -> Result<(), Box<Violation>> {
        let verdict = self.check(event, ids);
        self.entry = event.after;
        self.handled += 1;
        self.next = event.sequence + 1;
        self.last = Some(ids.own);
        verdict.map_err(|problem| {
            Box::new(Violation {
                path: event.path.clone(),
                commit: event.commit,
                author_time: event.author_time,
                problem,
            })
        })
    }

    fn check(&self, event: &FileChanged, ids: Ids) -> Result<(), Problem> {
        let (expected, found) = (self.next, event.sequence);
        if found > expected {
            return Err(Problem::TooEarly { expected, found });
        }
        if found < expected {
            return Err(Problem::TooLate { expected, found });
        }
        if self.entry != event.before {
            return Err(Problem::WrongContent {
                expected: event.before,
                found: self.entry,
            });
        }
        if self.last != ids.causation {
            return Err(Problem::WrongCause {
                expected: ids.causation,
                found: self.last,
            });
        }
        let commit = event.commit.to_uuid();
        if ids.correlation != commit {
            return Err(Problem::WrongCorrelation {
                expected: commit,
                found: ids.correlation,
            });
        }
        Ok(())
    }
}

/// The ids of an event's envelope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) own: Uuid,
    pub(crate) correlation: Uuid,
    pub(crate) causation: Option<Uuid>,
}

impl Ids {
    pub(crate) fn of<M>(envelope: &Envelope<M>) -> Self {
        Self {
            own: envelope.id(),
            correlation: envelope.correlation_id(),
            causation: envelope.causation_id(),
        }
    }
}

/// An event that did not follow from the state it met.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path}, commit {commit}{}: {problem}", .author_time.map(|time| format!(" of {time}")).unwrap_or_default())]
pub(crate) struct Violation {
    pub(crate) path: PathKey,
    pub(crate) commit: ObjectId,
    pub(crate) author_time: Option<i64>,
    pub(crate) problem: Problem,
}

/// In which way an event was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "event {found} was handled when event {expected} was due: one before it is lost or late"
    )]
    TooEarly { expected: u64, found: u64 },
    #[error("event {found} was handled when event {expected} was due: it is late or repeated")]
    TooLate { expected: u64, found: u64 },
    #[error("the file should be {} and is {}", describe(.expected), describe(.found))]
    WrongContent {
        expected: Option<Entry>,
        found: Option<Entry>,
    },
    #[error("the event before should be {expected:?} and is {found:?}")]
    WrongCause {
        expected: Option<Uuid>,
        found: Option<Uuid>,
    },
    #[error("the event's envelope should belong to commit {expected} and belongs to {found}")]
    WrongCorrelation { expected: Uuid, found: Uuid },
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::{FileChanged, FileState, Ids, PathKey, Problem};
    use crate::object::{Entry, ObjectId};

    fn entry(content: u8) -> Option<Entry> {
        Some(Entry {
            mode: 0o100_644,
            blob: ObjectId::Sha1([content; 20]),
        })
    }

    /// The event that changes a file with the content `sequence` to one with the next.
    fn event(sequence: u8) -> FileChanged {
        FileChanged {
            path: PathKey::from(b"a".as_slice()),
            slot: 0,
            sequence: sequence.into(),
            commit: ObjectId::Sha1([sequence; 20]),
            author_time: None,
            before: if sequence == 0 { None } else { entry(sequence) },
            after: entry(sequence + 1),
            submitted: Instant::now(),
        }
    }

    fn id(sequence: u8) -> Uuid {
        Uuid::from_u128(sequence.into())
    }

    fn ids(sequence: u8, causation: Option<Uuid>) -> Ids {
        Ids {
            own: id(sequence),
            correlation: event(sequence).commit.to_uuid(),
            causation,
        }
    }

    fn apply(state: &mut FileState, sequence: u8) -> Result<(), Problem> {
        let cause = sequence.checked_sub(1).map(id);
        state
            .apply(&event(sequence), ids(sequence, cause))
            .map_err(|violation| violation.problem)
    }

    #[test]
    fn events_in_order_move_the_file_from_state_to_state() {
        let mut state = FileState::default();
        for sequence in 0..10 {
            assert_eq!(apply(&mut state, sequence), Ok(()));
        }
        assert_eq!((state.entry, state.handled), (entry(10), 10));
    }

    #[test]
    fn a_lost_event_is_found_by_the_next_one() {
        let mut state = FileState::default();
        assert_eq!(apply(&mut state, 0), Ok(()));
        let problem = Problem::TooEarly {
            expected: 1,
            found: 2,
        };
        assert_eq!(apply(&mut state, 2), Err(problem));
    }

    #[test]
    fn a_repeated_event_is_found_at_once() {
        let mut state = FileState::default();
        assert_eq!(apply(&mut state, 0), Ok(()));
        assert_eq!(
            apply(&mut state, 0),
            Err(Problem::TooLate {
                expected: 1,
                found: 0
            })
        );
        assert_eq!(state.handled, 2);
    }

    #[test]
    fn two_events_that_change_places_are_both_found() {
        let mut state = FileState::default();
        assert!(matches!(
            apply(&mut state, 1),
            Err(Problem::TooEarly { .. })
        ));
        assert!(matches!(apply(&mut state, 0), Err(Problem::TooLate { .. })));
    }

    #[test]
    fn an_event_that_meets_another_content_is_found_by_both_contents() {
        let mut state = FileState {
            entry: entry(9),
            ..FileState::default()
        };
        let problem = Problem::WrongContent {
            expected: None,
            found: entry(9),
        };
        assert_eq!(apply(&mut state, 0), Err(problem));
    }

    #[test]
    fn an_event_with_another_cause_is_found_even_if_the_content_agrees() {
        let mut state = FileState::default();
        assert_eq!(apply(&mut state, 0), Ok(()));
        let violation = state.apply(&event(1), ids(1, Some(id(7)))).unwrap_err();
        let problem = Problem::WrongCause {
            expected: Some(id(7)),
            found: Some(id(0)),
        };
        assert_eq!(violation.problem, problem);
    }

    #[test]
    fn an_event_of_another_commit_is_found_even_if_the_content_agrees() {
        let mut state = FileState::default();
        let wrong = Ids {
            correlation: id(9),
            ..ids(0, None)
        };
        let violation = state.apply(&event(0), wrong).unwrap_err();
        assert!(matches!(
            violation.problem,
            Problem::WrongCorrelation { .. }
        ));
    }

    #[test]
    fn a_path_that_is_no_plain_text_is_shown_escaped() {
        assert_eq!(
            PathKey::from(b"a b/\xc3\xa9".as_slice()).to_string(),
            "a b/\u{e9}"
        );
        assert_eq!(
            PathKey::from(b"a\n\"\xff".as_slice()).to_string(),
            r#""a\n\"\xff""#
        );
    }
}
