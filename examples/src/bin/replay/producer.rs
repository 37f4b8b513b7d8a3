//! Producers: they submit the events of their own paths, in order, as fast as back-pressure lets them.

use std::sync::Arc;
use std::time::Instant;

use executor_core::Envelope;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use uuid::Uuid;

use crate::aggregate::FileChanged;
use crate::drive::Drive;
use crate::error::ReplayError;

/// Where producers run: each on a thread of its own, or each as a task.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    Threads,
    Tasks(Handle),
}

/// A running producer.
pub(crate) enum Producer<L> {
    Thread(std::thread::JoinHandle<Result<L, ReplayError>>),
    Task(Handle, tokio::task::JoinHandle<Result<L, ReplayError>>),
}

impl<L: Send + 'static> Producer<L> {
    /// Starts to submit what comes through the channel, until it is closed.
    pub(crate) fn start<D: Drive<Lane = L>>(
        home: &Home,
        drive: Arc<D>,
        mut events: Receiver<Vec<FileChanged>>,
    ) -> Result<Self, ReplayError> {
        match home {
            Home::Threads => std::thread::Builder::new()
                .name("producer".to_owned())
                .spawn(move || {
                    let mut lane = drive.lane();
                    while let Some(batch) = events.blocking_recv() {
                        submit_all(&*drive, &mut lane, batch)?;
                    }
                    Ok(lane)
                })
                .map(Self::Thread)
                .map_err(|source| ReplayError::NotStarted {
                    what: "a producer thread",
                    source,
                }),
            Home::Tasks(runtime) => {
                let task = runtime.spawn(async move {
                    let mut lane = drive.lane();
                    while let Some(batch) = events.recv().await {
                        submit_all(&*drive, &mut lane, batch)?;
                    }
                    Ok(lane)
                });
                Ok(Self::Task(runtime.clone(), task))
            }
        }
    }

    /// Waits for the last event's submission, and gives what the producer kept.
    pub(crate) fn join(self) -> Result<L, ReplayError> {
        match self {
            Self::Thread(thread) => thread.join().unwrap_or(Err(ReplayError::ProducerLost)),
            Self::Task(runtime, task) => runtime
                .block_on(task)
                .unwrap_or(Err(ReplayError::ProducerLost)),
        }
    }
}

fn submit_all<D: Drive>(
    drive: &D,
    lane: &mut D::Lane,
    batch: Vec<FileChanged>,
) -> Result<(), ReplayError> {
    batch.into_iter().try_for_each(|mut event| {
        event.submitted = Instant::now();
        drive.submit(lane, event)
    })
}

/// The id of the last event on each path of one producer, which is the cause of the next.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    by_slot: Vec<Option<Uuid>>,
}

impl Causes {
    /// Wraps an event: its commit is what it is correlated with, the event before on its path is what caused it.
    pub(crate) fn envelope(&mut self, event: FileChanged) -> Envelope<FileChanged> {
        if self.by_slot.len() <= event.slot {
            self.by_slot.resize(event.slot + 1, None);
        }
        let slot = event.slot;
        let commit = event.commit.to_uuid();
        let envelope = Envelope::new(event).with_correlation(commit);
        let envelope = match self.by_slot[slot] {
            Some(cause) => envelope.with_causation(cause),
            None => envelope,
        };
        self.by_slot[slot] = Some(envelope.id());
        envelope
    }
}
