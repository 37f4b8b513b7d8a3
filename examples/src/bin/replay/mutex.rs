//! The baseline that one writes by hand: a shared map with a mutex for each path, and no executor.
//!
//! Order is kept by who calls: each producer handles the events of its own paths itself, one after another. So nothing
//! ever waits in a queue, a slow event holds up all other paths of its producer, and a producer cannot go on reading
//! while an event is handled.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;
use executor_core::Envelope;

use crate::aggregate::{FileChanged, FileState, Ids, PathKey, Violation};
use crate::drive::{Drive, Finished};
use crate::error::ReplayError;
use crate::producer::Causes;
use crate::tally::Tally;

/// Every path's state, each behind a mutex of its own.
pub(crate) type SharedStates = DashMap<PathKey, Mutex<FileState>>;

/// Handles events where they are produced.
#[derive(Debug)]
pub(crate) struct MutexDrive {
    states: SharedStates,
    tally: &'static Tally,
}

impl MutexDrive {
    pub(crate) fn new(tally: &'static Tally) -> Self {
        Self {
            states: SharedStates::new(),
            tally,
        }
    }
}

impl Drive for MutexDrive {
    type Lane = Causes;

    fn lane(&self) -> Causes {
        Causes::default()
    }

    fn submit(&self, causes: &mut Causes, event: FileChanged) -> Result<(), ReplayError> {
        let envelope = causes.envelope(event);
        let verdict = handle(&self.states, &envelope);
        self.tally.record(&envelope.payload, &verdict);
        Ok(())
    }

    /// Every event was handled when its producer came back from it.
    fn settle(&self) -> Result<(), ReplayError> {
        Ok(())
    }

    fn finish(self, _: Vec<Causes>) -> Result<Finished, ReplayError> {
        Ok(Finished {
            states: collect_states(&self.states),
            waited: None,
        })
    }
}

/// Applies an event to the state of its path, whoever else holds other paths.
pub(crate) fn handle(
    states: &SharedStates,
    envelope: &Envelope<FileChanged>,
) -> Result<(), Box<Violation>> {
    let event = &envelope.payload;
    let state = match states.get(&event.path) {
        Some(state) => state,
        None => states.entry(event.path.clone()).or_default().downgrade(),
    };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.apply(event, Ids::of(envelope))
}

/// The states when nobody handles events any more.
pub(crate) fn collect_states(states: &SharedStates) -> HashMap<PathKey, FileState> {
    let state =
        |state: &Mutex<FileState>| state.lock().unwrap_or_else(PoisonError::into_inner).clone();
    states
        .iter()
        .map(|entry| (entry.key().clone(), state(entry.value())))
        .collect()
}
