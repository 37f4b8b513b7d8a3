//! What a scenario must lead to.

use std::ops::RangeInclusive;

use crate::axes::{Entry, Fate, Interference, Moment, Path, Scenario, Site};
use crate::held::Seen;

impl Scenario {
    /// Whether the message is given up while it waits in line for its turn.
    pub(crate) fn leaves_line(&self) -> bool {
        self.entry.is_structured() && self.path.is_queued() && self.fate == Fate::DroppedAfterPoll
    }

    /// What becomes of it when it is interfered with at its time: as if before, or as if after.
    fn either(&self) -> Option<[Self; 2]> {
        let at = |moment| Self { moment, ..*self };
        (self.moment == Moment::Due).then(|| [at(Moment::Early), at(Moment::Admitted)])
    }

    /// Whether its handler is ended by an abort, started or not.
    fn is_aborted(&self) -> bool {
        match self.interference {
            Interference::ShutdownAbort => self.path != Path::InlineReady,
            // What waits in line for room was not admitted yet.
            Interference::ShutdownDrain => self.path == Path::InLineReady,
            _ => false,
        }
    }

    /// Whether its message is cancelled before its handler starts.
    fn is_cancelled(&self) -> bool {
        self.interference == Interference::Cancel && self.is_held_back()
    }

    /// Whether its handler has not started when it is interfered with.
    fn is_held_back(&self) -> bool {
        self.moment == Moment::Early || (self.path.is_queued() && !self.path.is_pending())
    }

    /// How often its handler starts, at least and at most.
    pub(crate) fn starts(&self) -> RangeInclusive<usize> {
        if let Some([early, late]) = self.either() {
            let (early, late) = (early.starts(), late.starts());
            return *early.start().min(late.start())..=*early.end().max(late.end());
        }
        let is_turned_away = self.is_aborted() && self.is_held_back();
        let never = self.is_never_admitted()
            || self.leaves_line()
            || self.is_cancelled()
            || self.ends_early()
            || is_turned_away;
        let starts = usize::from(!never);
        starts..=starts
    }

    /// Whether its handler starts whatever happens.
    pub(crate) fn surely_starts(&self) -> bool {
        *self.starts().start() == 1
    }

    /// What its caller may be told.
    pub(crate) fn allowed(&self) -> Vec<Seen> {
        if let Some([early, late]) = self.either() {
            let mut allowed = [early.allowed(), late.allowed()].concat();
            if self.is_aborted() {
                // A handler that is being started at that moment may end by itself in that poll.
                let unhindered = Self {
                    interference: Interference::Nothing,
                    ..late
                };
                allowed.extend(unhindered.allowed());
            }
            return allowed;
        }
        if self.is_cancelled() {
            return vec![Seen::Cancelled];
        }
        if self.ends_early() || (self.is_aborted() && self.moment == Moment::Admitted) {
            match (self.entry, self.path) {
                // What runs in its caller's own future is the caller's to end.
                (Entry::ParallelExecute, Path::QueuedReady) => return vec![Seen::Rejected],
                (Entry::ParallelExecute, _) => {}
                _ if self.site == Site::FutureDrop || self.site == Site::MessageDrop => {
                    return vec![Seen::Aborted, Seen::Panicked];
                }
                _ => return vec![Seen::Aborted],
            }
        }
        match self.site {
            Site::Nowhere
            | Site::OutputDrop
            | Site::WakerClone
            | Site::WakerWake
            | Site::WakerDrop => vec![Seen::Value],
            Site::Making
            | Site::FirstPoll
            | Site::LaterPoll
            | Site::FutureDrop
            | Site::MessageDrop
            | Site::PayloadDrop
            | Site::Unwinding => vec![Seen::Panicked],
        }
    }

    /// How many values it may leave behind: the outcome of a completion that was forgotten.
    pub(crate) fn may_leak(&self) -> i64 {
        i64::from(self.fate == Fate::Forgotten)
    }
}
