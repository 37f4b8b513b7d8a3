//! Events through the serial executor: each path is a stream, and its state lives there.
//!
//! A producer keeps a handle to each of its streams. That saves the look-up of the key for each event, and it keeps the
//! state: a stream that nobody holds may be evicted when it is idle, and its state goes with it.

use std::collections::HashMap;
use std::convert::Infallible;

use executor_core::{Envelope, WorkerCore};
use executor_serial::{SerialExecutor, Stream};

use crate::aggregate::{FileChanged, FileState, Ids, PathKey};
use crate::drive::{Disagreed, Drive, Finished, end, give_way, settle};
use crate::error::ReplayError;
use crate::producer::Causes;
use crate::tally::Tally;

/// How many events are queued at most, over all paths.
const QUEUED: usize = 65_536;

/// Handles events of one path in order and those of different paths on all workers.
#[derive(Debug)]
pub(crate) struct SerialDrive {
    executor: SerialExecutor<PathKey, FileState>,
    waiting: bool,
    tally: &'static Tally,
}

/// One producer's streams, by the number that each of its paths has.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    causes: Causes,
    by_slot: Vec<Stream<PathKey, FileState>>,
}

impl SerialDrive {
    /// With `waiting`, handlers give way, and their streams have to wait for them.
    pub(crate) fn new(
        core: &WorkerCore,
        waiting: bool,
        tally: &'static Tally,
    ) -> Result<Self, ReplayError> {
        let executor = SerialExecutor::builder(core)
            .name("files")
            // What is queued over all paths stays small beside the history, however few events each has.
            .queue_total(QUEUED)
            // The producers keep all streams, so there is nothing to be swept.
            .resident_streams(usize::MAX)
            .state(|_: &PathKey| FileState::default())
            .build()?;
        Ok(Self {
            executor,
            waiting,
            tally,
        })
    }
}

impl Drive for SerialDrive {
    type Lane = Streams;

    fn lane(&self) -> Streams {
        Streams::default()
    }

    fn submit(&self, lane: &mut Streams, event: FileChanged) -> Result<(), ReplayError> {
        let slot = event.slot;
        if slot == lane.by_slot.len() {
            lane.by_slot.push(self.executor.stream(&event.path));
        }
        let (waiting, tally) = (self.waiting, self.tally);
        let handled = lane.by_slot[slot].submit(
            lane.causes.envelope(event),
            move |envelope, mut context| async move {
                let event = &envelope.payload;
                if waiting {
                    give_way(event).await;
                }
                let verdict = context.state().apply(event, Ids::of(&envelope));
                tally.record(event, &verdict);
                verdict.map_err(|_| Disagreed)
            },
        );
        // The verdict is in the tally, so nobody needs to wait for it here.
        handled.map(drop).map_err(|rejected| ReplayError::Refused {
            path: rejected.work.payload.path,
            commit: rejected.work.payload.commit,
            reason: rejected.reason,
        })
    }

    fn settle(&self) -> Result<(), ReplayError> {
        settle(&self.executor)
    }

    /// One more message for each stream takes its state out.
    fn finish(self, lanes: Vec<Streams>) -> Result<Finished, ReplayError> {
        let streams = lanes.into_iter().flat_map(|lane| lane.by_slot);
        let reads: Vec<_> = streams
            .map(|stream| {
                let state = stream.submit(Envelope::new(()), |_, mut context| async move {
                    Ok::<_, Infallible>(std::mem::take(context.state()))
                });
                (stream.key().clone(), state)
            })
            .collect();
        let mut states = HashMap::with_capacity(reads.len());
        for (path, state) in reads {
            let state = match state {
                Ok(completion) => completion.wait().map_err(|failure| failure.to_string()),
                Err(rejected) => Err(rejected.to_string()),
            };
            match state {
                Ok(state) => states.insert(path, state),
                Err(reason) => return Err(ReplayError::StateUnread { path, reason }),
            };
        }
        let totals = end(&self.executor)?;
        Ok(Finished {
            states,
            waited: Some(totals.waited),
        })
    }
}
