//! Why a replay could not be carried through, as opposed to one that was and found a disagreement.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use executor_core::{BuildError, RejectReason, Totals};

use crate::aggregate::PathKey;
use crate::object::ObjectId;

/// A replay that came to no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("git was not found; install it or put it on PATH")]
    GitMissing,
    #[error("cannot run git: {0}")]
    GitNotRun(#[source] io::Error),
    #[error("{} is not a git repository: {stderr}", .path.display())]
    NotARepository { path: PathBuf, stderr: String },
    #[error("{}: HEAD names no commit, so there is no history to replay: {stderr}", .path.display())]
    NoCommits { path: PathBuf, stderr: String },
    #[error("{}: the commit that HEAD names cannot be read, see `git fsck`: {stderr}", .path.display())]
    HeadUnreadable { path: PathBuf, stderr: String },
    #[error("git {command} ended with {status}: {stderr}")]
    GitFailed {
        command: &'static str,
        status: ExitStatus,
        stderr: String,
    },
    #[error("cannot read the output of git {command}: {source}")]
    GitUnreadable {
        command: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Malformed(#[from] MalformedOutput),
    #[error("{malformed}; git ended with {status}: {stderr}")]
    CutOff {
        malformed: MalformedOutput,
        status: ExitStatus,
        stderr: String,
    },
    #[error("the history ends at {} instead of at {head}", .last.map_or_else(|| "nothing".to_owned(), |id| id.to_string()))]
    HistoryIncomplete {
        last: Option<ObjectId>,
        head: ObjectId,
    },
    #[error(
        "the first commit, {commit}, has {events} events: a limit of {limit} leaves no whole commit to replay"
    )]
    LimitTooSmall {
        commit: ObjectId,
        events: usize,
        limit: u64,
    },
    #[error("cannot build the executor: {0}")]
    NotBuilt(#[from] BuildError),
    #[error("the event of {path} in commit {commit} was refused: {reason}")]
    Refused {
        path: PathKey,
        commit: ObjectId,
        reason: RejectReason,
    },
    #[error("the state of {path} cannot be read: {reason}")]
    StateUnread { path: PathKey, reason: String },
    #[error(
        "not every event reached its handler: {still_running} streams or tasks are left, {totals:?}"
    )]
    NotDrained { totals: Totals, still_running: u64 },
    #[error("a producer stopped before the history ended")]
    ProducerLost,
    #[error("cannot start {what}: {source}")]
    NotStarted {
        what: &'static str,
        source: io::Error,
    },
    #[error("cannot write the report: {0}")]
    ReportUnwritten(#[source] io::Error),
}

/// Output of git that does not follow its grammar, by its position from the start of that output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedOutput {
    #[error("the output of git {command} is cut off at byte {position}, inside {inside}")]
    Truncated {
        command: &'static str,
        position: u64,
        inside: &'static str,
    },
    #[error("the output of git {command} has no {expected} at byte {position}, but \"{found}\"")]
    Unexpected {
        command: &'static str,
        position: u64,
        expected: &'static str,
        found: String,
    },
    #[error("the output of git {command} cannot be read at byte {position}: {source}")]
    Unreadable {
        command: &'static str,
        position: u64,
        source: io::Error,
    },
}

impl ReplayError {
    /// Whether the reader of our output went away, which is its right and needs no message.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::ReportUnwritten(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
