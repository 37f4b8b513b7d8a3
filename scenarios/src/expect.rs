//! What a scenario must lead to.

use crate::axes::{Entry, Fate, Interference, Path, Scenario, Site};
use crate::held::Seen;

impl Scenario {
    /// Whether the message is given up while it waits in line for its turn.
    pub(crate) fn leaves_line(&self) -> bool {
        self.entry.is_structured() && self.path.is_queued() && self.fate == Fate::DroppedAfterPoll
    }

    /// Whether its handler is ended by an abort, started or not.
    fn is_aborted(&self) -> bool {
        self.interference == Interference::ShutdownAbort && self.path != Path::InlineReady
    }

    /// Whether its message is cancelled before its handler starts.
    fn is_cancelled(&self) -> bool {
        self.interference == Interference::Cancel && self.path == Path::QueuedReady
    }

    /// How often its handler starts.
    pub(crate) fn starts(&self) -> usize {
        let is_turned_away = self.is_aborted() && self.path == Path::QueuedReady;
        let never =
            self.is_never_admitted() || self.leaves_line() || self.is_cancelled() || is_turned_away;
        usize::from(!never)
    }

    /// What its caller may be told.
    pub(crate) fn allowed(&self) -> &'static [Seen] {
        if self.is_cancelled() {
            return &[Seen::Cancelled];
        }
        if self.is_aborted() {
            match (self.entry, self.path) {
                // What runs in its caller's own future is the caller's to end.
                (Entry::ParallelExecute, Path::QueuedReady) => return &[Seen::Rejected],
                (Entry::ParallelExecute, _) => {}
                _ if self.site == Site::FutureDrop || self.site == Site::MessageDrop => {
                    return &[Seen::Aborted, Seen::Panicked];
                }
                _ => return &[Seen::Aborted],
            }
        }
        match self.site {
            Site::Nowhere
            | Site::OutputDrop
            | Site::WakerClone
            | Site::WakerWake
            | Site::WakerDrop => &[Seen::Value],
            Site::Making
            | Site::FirstPoll
            | Site::LaterPoll
            | Site::FutureDrop
            | Site::MessageDrop
            | Site::PayloadDrop
            | Site::Unwinding => &[Seen::Panicked],
        }
    }

    /// How many values it may leave behind: the outcome of a completion that was forgotten.
    pub(crate) fn may_leak(&self) -> i64 {
        i64::from(self.fate == Fate::Forgotten)
    }
}
