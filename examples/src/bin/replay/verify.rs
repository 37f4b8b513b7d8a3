//! The end of a replay against the repository itself: every aggregate with the file that git has under its path.

use std::collections::HashMap;
use std::fmt;

use crate::aggregate::{FileState, PathKey};
use crate::error::ReplayError;
use crate::git::Repository;
use crate::object::{Entry, ObjectId, describe};
use crate::parse::TreeParser;

/// Differences that are kept to be shown; the others are counted.
const KEPT: usize = 10;

/// Every difference by number, the first ones in full.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Paths that git has in the commit.
    pub(crate) files: u64,
    pub(crate) differences: u64,
    pub(crate) first: Vec<Difference>,
}

/// One path on which the replay and git disagree, or on which events were lost or repeated.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) path: PathKey,
    pub(crate) kind: DifferenceKind,
}

/// In which way.
#[derive(Debug)]
pub(crate) enum DifferenceKind {
    Content {
        git: Option<Entry>,
        replay: Option<Entry>,
    },
    Lost {
        submitted: u64,
        handled: u64,
    },
    Repeated {
        submitted: u64,
        handled: u64,
    },
}

/// Compares the aggregates with the files of `commit`, and their events with the number that was submitted.
pub(crate) fn compare(
    repository: &Repository,
    commit: ObjectId,
    mut states: HashMap<PathKey, FileState>,
    events_by_path: &HashMap<PathKey, u64>,
) -> Result<Comparison, ReplayError> {
    let mut comparison = Comparison::default();
    for (path, &submitted) in events_by_path {
        let handled = states.get(path).map_or(0, |state| state.handled);
        if handled < submitted {
            comparison.add(path, DifferenceKind::Lost { submitted, handled });
        } else if handled > submitted {
            comparison.add(path, DifferenceKind::Repeated { submitted, handled });
        }
    }

    let mut tree = repository.tree(commit)?;
    let mut parser = TreeParser::new(tree.stdout()?);
    loop {
        let (path, git) = match parser.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(malformed) => return Err(tree.explain(malformed)),
        };
        comparison.files += 1;
        let replay = states.remove(path).and_then(|state| state.entry);
        if replay != Some(git) {
            let kind = DifferenceKind::Content {
                git: Some(git),
                replay,
            };
            comparison.add(&PathKey::from(path), kind);
        }
    }
    drop(parser);
    tree.finish()?;

    for (path, state) in &states {
        if let Some(entry) = state.entry {
            comparison.add(
                path,
                DifferenceKind::Content {
                    git: None,
                    replay: Some(entry),
                },
            );
        }
    }
    Ok(comparison)
}

impl Comparison {
    fn add(&mut self, path: &PathKey, kind: DifferenceKind) {
        self.differences += 1;
        if self.first.len() < KEPT {
            self.first.push(Difference {
                path: path.clone(),
                kind,
            });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.kind {
            DifferenceKind::Content { git, replay } => {
                write!(
                    f,
                    "git has {}, the replay has {}",
                    describe(git),
                    describe(replay)
                )
            }
            DifferenceKind::Lost { submitted, handled } => {
                write!(
                    f,
                    "{handled} of {submitted} events were handled, the others are lost"
                )
            }
            DifferenceKind::Repeated { submitted, handled } => {
                write!(
                    f,
                    "{handled} events were handled though only {submitted} were submitted"
                )
            }
        }
    }
}
