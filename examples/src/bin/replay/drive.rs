//! The run: read the history, let producers submit its events, and wait until all are handled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use executor_core::{Executor, Report, Shutdown, Totals};
use indicatif::ProgressBar;
use tokio::sync::mpsc::channel;

use crate::aggregate::{FileChanged, FileState, PathKey};
use crate::dispatch::{Dispatcher, Sample};
use crate::error::ReplayError;
use crate::git::Repository;
use crate::object::ObjectId;
use crate::parse::LogParser;
use crate::producer::{Home, Producer};
use crate::tally::Tally;

/// Batches that wait for a producer at most.
const WAITING_BATCHES: usize = 8;
/// How long the end may take when all events have been submitted.
const DRAIN: Duration = Duration::from_secs(60);

/// One way to handle events: an executor or the baseline.
pub(crate) trait Drive: Send + Sync + 'static {
    /// What one producer keeps for the paths that are its own.
    type Lane: Send + 'static;

    /// Makes what a new producer needs.
    fn lane(&self) -> Self::Lane;

    /// Hands one event over, or handles it; waits as back-pressure demands.
    fn submit(&self, lane: &mut Self::Lane, event: FileChanged) -> Result<(), ReplayError>;

    /// Waits until everything submitted is handled.
    fn settle(&self) -> Result<(), ReplayError>;

    /// Ends and gives the aggregates.
    fn finish(self, lanes: Vec<Self::Lane>) -> Result<Finished, ReplayError>;
}

/// What a drive leaves behind.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Every aggregate that had an event.
    pub(crate) states: HashMap<PathKey, FileState>,
    /// How many submissions had to wait for room; `None` if there is no queue.
    pub(crate) waited: Option<u64>,
}

/// How a run is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) producers: usize,
    pub(crate) home: Home,
    pub(crate) limit_events: Option<u64>,
    /// Read the history in full before the first event is submitted.
    pub(crate) preload: bool,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) commits: u64,
    pub(crate) events: u64,
    pub(crate) events_by_path: HashMap<PathKey, u64>,
    /// The last commit that was replayed in full.
    pub(crate) last_commit: ObjectId,
    /// From the first event at a producer to the last one handled.
    pub(crate) elapsed: Duration,
    pub(crate) states: HashMap<PathKey, FileState>,
    pub(crate) waited: Option<u64>,
    pub(crate) samples: Vec<Sample>,
}

/// Replays the history through `drive`.
pub(crate) fn run<D: Drive>(
    repository: &Repository,
    drive: D,
    plan: &Plan,
    tally: &'static Tally,
    progress: &ProgressBar,
) -> Result<Run, ReplayError> {
    let drive = Arc::new(drive);
    let (channels, receivers): (Vec<_>, Vec<_>) = (0..plan.producers)
        .map(|_| channel(WAITING_BATCHES))
        .unzip();
    let producers = receivers
        .into_iter()
        .map(|events| Producer::start(&plan.home, Arc::clone(&drive), events))
        .collect::<Result<Vec<_>, _>>()?;

    let mut dispatcher = Dispatcher::new(channels, tally, plan.preload);
    let read = read_history(repository, plan, &mut dispatcher, progress);
    // Finishing closes the channels, which is what ends the producers, whether reading went well or not.
    let books = match read {
        Ok(_) => dispatcher.finish(),
        Err(_) => {
            drop(dispatcher);
            Err(ReplayError::ProducerLost)
        }
    };
    // A producer's own error explains more than the fact that it is gone.
    let lanes = producers
        .into_iter()
        .map(Producer::join)
        .collect::<Result<Vec<_>, _>>()?;
    let read = read?;
    let books = books?;

    let drive = Arc::into_inner(drive).ok_or(ReplayError::ProducerLost)?;
    drive.settle()?;
    let elapsed = books.started.elapsed();
    let mut samples = books.samples;
    samples.push(Sample::take(tally));
    let Finished { states, waited } = drive.finish(lanes)?;
    Ok(Run {
        commits: read.commits,
        events: read.events,
        events_by_path: books.events_by_path,
        last_commit: read.last_commit,
        elapsed,
        states,
        waited,
        samples,
    })
}

/// How far the history was read.
struct Read {
    commits: u64,
    events: u64,
    last_commit: ObjectId,
}

fn read_history(
    repository: &Repository,
    plan: &Plan,
    dispatcher: &mut Dispatcher,
    progress: &ProgressBar,
) -> Result<Read, ReplayError> {
    let mut log = repository.log()?;
    let mut parser = LogParser::new(log.stdout()?);
    let (mut commits, mut events, mut last) = (0, 0, None);
    loop {
        let commit = match parser.next_commit() {
            Ok(Some(commit)) => commit,
            Ok(None) => break,
            Err(malformed) => return Err(log.explain(malformed)),
        };
        let count = commit.changes.len();
        if let Some(limit) = plan.limit_events
            && events + count as u64 > limit
        {
            let commit = commit.id;
            let last_commit = last.ok_or(ReplayError::LimitTooSmall {
                commit,
                events: count,
                limit,
            })?;
            return Ok(Read {
                commits,
                events,
                last_commit,
            });
        }
        commits += 1;
        events += count as u64;
        last = Some(commit.id);
        dispatcher.dispatch(commit)?;
        progress.inc(1);
    }
    drop(parser);
    log.finish()?;
    match last {
        Some(last_commit) if last_commit == repository.head => Ok(Read {
            commits,
            events,
            last_commit,
        }),
        _ => Err(ReplayError::HistoryIncomplete {
            last,
            head: repository.head,
        }),
    }
}

/// Lets others go first at every second event of a path, as a handler does that reads from a store.
///
/// A handler that never waits is often done before the next one begins, and then the order is right by luck alone.
pub(crate) async fn give_way(event: &FileChanged) {
    if event.sequence % 2 == 1 {
        tokio::task::yield_now().await;
    }
}

/// What a handler answers when an event was wrong; the tally says in which way.
#[derive(Debug, thiserror::Error)]
#[error("the event does not follow from the state that it met")]
pub(crate) struct Disagreed;

/// Waits until an executor has handled everything that was submitted.
pub(crate) fn settle(executor: &impl Executor) -> Result<(), ReplayError> {
    let report = wait(executor.drain(DRAIN))?;
    all_handled(report, executor.totals())
}

/// Shuts an executor down, which must leave nothing behind.
pub(crate) fn end(executor: &impl Executor) -> Result<Totals, ReplayError> {
    let report = wait(executor.shutdown(Shutdown::Drain, DRAIN))?;
    all_handled(report, executor.totals())?;
    Ok(executor.totals())
}

/// Checks that nothing is left and that every message went to its handler, which returned.
fn all_handled(report: Report, totals: Totals) -> Result<(), ReplayError> {
    if report.is_complete() && totals.finished() == totals.handled + totals.failed {
        Ok(())
    } else {
        Err(ReplayError::NotDrained {
            totals,
            still_running: report.still_running,
        })
    }
}

/// Waits on this thread; the workers have homes of their own, so any runtime will do.
fn wait<T>(future: impl Future<Output = T>) -> Result<T, ReplayError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|source| ReplayError::NotStarted {
            what: "a runtime to wait on",
            source,
        })
}
