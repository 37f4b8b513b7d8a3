//! From commits to events: every path gets one producer, and its events reach that producer in the order of history.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Instant;

use tokio::sync::mpsc::Sender;

use crate::aggregate::{FileChanged, PathKey};
use crate::allocations;
use crate::error::ReplayError;
use crate::parse::{Change, Commit};
use crate::tally::Tally;

/// Events in one hand-over to a producer, so that the channel's cost is shared.
pub(crate) const BATCH: usize = 128;

/// Deals out events to producers and keeps the books of what was dealt.
pub(crate) struct Dispatcher {
    producers: Vec<Producer>,
    paths: HashMap<PathKey, Dealt>,
    hasher: RandomState,
    tally: &'static Tally,
    /// Full batches that wait for [`release`](Self::release), if the history is read in full first.
    held: Option<Vec<(usize, Vec<FileChanged>)>>,
    started: Option<Instant>,
    samples: Vec<Sample>,
}

/// Where one producer's events go.
struct Producer {
    channel: Sender<Vec<FileChanged>>,
    batch: Vec<FileChanged>,
    paths: usize,
}

/// What was dealt of one path.
#[derive(Clone, Debug)]
struct Dealt {
    key: PathKey,
    producer: usize,
    slot: usize,
    events: u64,
}

/// The state of the counters at one moment of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) handled: u64,
    pub(crate) paths: u64,
    pub(crate) allocations: u64,
}

/// What was dealt in all.
#[derive(Debug)]
pub(crate) struct Books {
    /// How many events each path had.
    pub(crate) events_by_path: HashMap<PathKey, u64>,
    /// When the first event went to a producer.
    pub(crate) started: Instant,
    /// The counters over the run, in its order.
    pub(crate) samples: Vec<Sample>,
}

impl Dispatcher {
    /// With `hold`, no event goes out before [`finish`](Self::finish), so that the run does not wait for the reader.
    pub(crate) fn new(
        channels: Vec<Sender<Vec<FileChanged>>>,
        tally: &'static Tally,
        hold: bool,
    ) -> Self {
        let producer = |channel| Producer {
            channel,
            batch: Vec::with_capacity(BATCH),
            paths: 0,
        };
        Self {
            producers: channels.into_iter().map(producer).collect(),
            paths: HashMap::new(),
            hasher: RandomState::new(),
            tally,
            held: hold.then(Vec::new),
            started: None,
            samples: Vec::new(),
        }
    }

    /// Hands over the events of the next commit; waits while the producers are busy.
    pub(crate) fn dispatch(&mut self, commit: Commit) -> Result<(), ReplayError> {
        for change in &commit.changes {
            let (producer, event) = self.event(&commit, change);
            let batch = &mut self.producers[producer].batch;
            batch.push(event);
            if batch.len() == BATCH {
                let batch = std::mem::replace(batch, Vec::with_capacity(BATCH));
                self.hand_over(producer, batch)?;
            }
        }
        Ok(())
    }

    /// Hands over what is left and tells the producers that there is no more.
    pub(crate) fn finish(mut self) -> Result<Books, ReplayError> {
        for index in 0..self.producers.len() {
            let rest = std::mem::take(&mut self.producers[index].batch);
            self.hand_over(index, rest)?;
        }
        self.release()?;
        Ok(Books {
            events_by_path: self
                .paths
                .into_iter()
                .map(|(path, dealt)| (path, dealt.events))
                .collect(),
            started: self.started.unwrap_or_else(Instant::now),
            samples: self.samples,
        })
    }

    fn event(&mut self, commit: &Commit, change: &Change) -> (usize, FileChanged) {
        let dealt = self.enter(&change.path);
        let event = FileChanged {
            path: dealt.key,
            slot: dealt.slot,
            sequence: dealt.events - 1,
            commit: commit.id,
            author_time: commit.author_time,
            before: change.before,
            after: change.after,
            submitted: Instant::now(),
        };
        (dealt.producer, event)
    }

    /// Enters one more event of a path in the books.
    fn enter(&mut self, path: &[u8]) -> Dealt {
        if let Some(dealt) = self.paths.get_mut(path) {
            dealt.events += 1;
            return dealt.clone();
        }
        let key = PathKey::from(path);
        let producer = (self.hasher.hash_one(path) % self.producers.len() as u64) as usize;
        let slot = self.producers[producer].paths;
        self.producers[producer].paths += 1;
        let dealt = Dealt {
            key: key.clone(),
            producer,
            slot,
            events: 1,
        };
        self.paths.insert(key, dealt.clone());
        dealt
    }

    fn hand_over(&mut self, producer: usize, batch: Vec<FileChanged>) -> Result<(), ReplayError> {
        if let Some(held) = &mut self.held {
            held.push((producer, batch));
            return Ok(());
        }
        self.started.get_or_insert_with(Instant::now);
        let channel = &self.producers[producer].channel;
        channel
            .blocking_send(batch)
            .map_err(|_| ReplayError::ProducerLost)?;
        self.samples.push(Sample::take(self.tally));
        Ok(())
    }

    fn release(&mut self) -> Result<(), ReplayError> {
        let held = self.held.take().unwrap_or_default();
        held.into_iter()
            .try_for_each(|(producer, batch)| self.hand_over(producer, batch))
    }
}

impl Sample {
    /// Reads the counters.
    pub(crate) fn take(tally: &Tally) -> Self {
        Self {
            handled: tally.handled(),
            paths: tally.paths(),
            allocations: allocations::counted(),
        }
    }
}
