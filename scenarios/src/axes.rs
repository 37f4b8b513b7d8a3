//! What a scenario is made of, and which combinations there are.

use std::fmt;

/// An enumeration with the list of its values.
macro_rules! axis {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

axis! {
    /// How the message enters.
    Entry {
        /// `SerialExecutor::try_submit`.
        Submit,
        /// `SerialExecutor::submit_batch`, of one message.
        Batch,
        /// `SerialExecutor::execute`.
        Execute,
        /// `ParallelExecutor::execute`, which is structured.
        ParallelExecute,
        /// `ParallelExecutor::try_submit`.
        ParallelSubmit,
        /// `SerialExecutor::submit_after`, on a virtual clock.
        Delay,
        /// `ParallelExecutor::submit_at`, on a virtual clock.
        ParallelDelay,
    }
}

axis! {
    /// Where the handler runs, and whether it waits.
    Path {
        /// On its caller, ready at its first poll.
        InlineReady,
        /// On its caller, then waiting.
        InlinePending,
        /// Behind another message, ready at its first poll.
        QueuedReady,
        /// Behind another message, then waiting.
        QueuedPending,
        /// In line behind a full queue, ready at its first poll.
        InLineReady,
        /// In line behind a full queue, then waiting.
        InLinePending,
    }
}

axis! {
    /// Where user code panics.
    Site {
        /// Nowhere.
        Nowhere,
        /// In the call that makes the future.
        Making,
        /// In the first poll.
        FirstPoll,
        /// In a later poll.
        LaterPoll,
        /// In the drop of the future.
        FutureDrop,
        /// In the drop of the message.
        MessageDrop,
        /// In the drop of the output.
        OutputDrop,
        /// In the first poll, and again in the drop of what it panicked with.
        PayloadDrop,
        /// In the clone of the completion's waker.
        WakerClone,
        /// In the wake of the completion's waker.
        WakerWake,
        /// In the drop of the completion's waker.
        WakerDrop,
        /// In a drop while the first poll unwinds, which aborts the process.
        Unwinding,
    }
}

axis! {
    /// What becomes of the completion.
    Fate {
        /// It is awaited.
        Kept,
        /// It is never polled, and dropped at the end.
        NeverPolled,
        /// It is dropped at once.
        DroppedAtOnce,
        /// It is dropped after one poll.
        DroppedAfterPoll,
        /// It is dropped when the outcome is there.
        DroppedWhenReady,
        /// It is polled once, and awaited on another thread.
        Moved,
        /// It is forgotten.
        Forgotten,
        /// It is polled with one waker, and then with another.
        TwoWakers,
    }
}

axis! {
    /// What happens meanwhile.
    Interference {
        /// Nothing.
        Nothing,
        /// It is cancelled.
        Cancel,
        /// The executor is drained.
        Drain,
        /// The executor is shut down, and drained.
        ShutdownDrain,
        /// The executor is shut down, and its work aborted.
        ShutdownAbort,
        /// Idle streams are evicted.
        Eviction,
        /// The last handle of the executor is dropped.
        LastHandle,
    }
}

axis! {
    /// When that happens.
    Moment {
        /// Once the message is admitted: while it is queued, or while its handler waits.
        Admitted,
        /// Before the time of a delayed message.
        Early,
        /// While the clock comes to the time of a delayed message.
        Due,
    }
}

/// One cell of the cross product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is named by its type")]
pub struct Scenario {
    pub entry: Entry,
    pub path: Path,
    pub site: Site,
    pub fate: Fate,
    pub interference: Interference,
    pub moment: Moment,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}/{:?}/{:?}/{:?}/{:?}",
            self.entry, self.path, self.site, self.fate, self.interference
        )?;
        match self.moment {
            Moment::Admitted => Ok(()),
            moment => write!(f, "/{moment:?}"),
        }
    }
}

/// Every cell, legal or not.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    Entry::ALL.iter().flat_map(|&entry| {
        Path::ALL.iter().flat_map(move |&path| {
            Site::ALL.iter().flat_map(move |&site| {
                Fate::ALL.iter().flat_map(move |&fate| {
                    Interference::ALL.iter().flat_map(move |&interference| {
                        Moment::ALL.iter().map(move |&moment| Scenario {
                            entry,
                            path,
                            site,
                            fate,
                            interference,
                            moment,
                        })
                    })
                })
            })
        })
    })
}

impl Entry {
    /// Whether the message runs in the future that its caller has.
    pub(crate) fn is_structured(self) -> bool {
        self == Self::ParallelExecute
    }

    /// Whether it is admitted only when its future is polled.
    pub(crate) fn is_lazy(self) -> bool {
        matches!(self, Self::Execute | Self::ParallelExecute)
    }

    pub(crate) fn is_serial(self) -> bool {
        matches!(
            self,
            Self::Submit | Self::Batch | Self::Execute | Self::Delay
        )
    }

    /// Whether its time is to come.
    pub(crate) fn is_delayed(self) -> bool {
        matches!(self, Self::Delay | Self::ParallelDelay)
    }
}

impl Path {
    /// Whether it is behind another message.
    pub(crate) fn is_queued(self) -> bool {
        !matches!(self, Self::InlineReady | Self::InlinePending)
    }

    /// Whether the queue is full when its time has come.
    pub(crate) fn is_in_line(self) -> bool {
        matches!(self, Self::InLineReady | Self::InLinePending)
    }

    pub(crate) fn is_pending(self) -> bool {
        matches!(
            self,
            Self::InlinePending | Self::QueuedPending | Self::InLinePending
        )
    }
}

impl Site {
    /// Whether it is in the completion's waker.
    pub(crate) fn is_in_waker(self) -> bool {
        matches!(self, Self::WakerClone | Self::WakerWake | Self::WakerDrop)
    }

    /// Whether it is in what the handler makes, or in the handler.
    fn is_in_handler(self) -> bool {
        !self.is_in_waker() && !matches!(self, Self::Nowhere | Self::MessageDrop)
    }

    /// Whether the handler ends before it could wait.
    fn is_before_waiting(self) -> bool {
        matches!(
            self,
            Self::Making | Self::FirstPoll | Self::PayloadDrop | Self::Unwinding
        )
    }
}

impl Fate {
    /// Whether the completion is given up before the outcome is there.
    pub(crate) fn is_early_end(self) -> bool {
        matches!(
            self,
            Self::DroppedAtOnce | Self::DroppedAfterPoll | Self::Forgotten
        )
    }
}

impl Scenario {
    /// Whether the process does not survive it.
    #[must_use]
    pub fn aborts(&self) -> bool {
        self.site == Site::Unwinding
    }

    /// Whether an `execute` is never polled.
    pub(crate) fn is_never_admitted(&self) -> bool {
        self.entry.is_lazy() && matches!(self.fate, Fate::NeverPolled | Fate::DroppedAtOnce)
    }

    /// Whether it ends before its time.
    pub(crate) fn ends_early(&self) -> bool {
        let ends = !matches!(
            self.interference,
            Interference::Nothing | Interference::Drain | Interference::Eviction
        );
        self.moment == Moment::Early && ends
    }

    /// Whether the cell can be.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn legal(&self) -> Result<(), &'static str> {
        let Self {
            entry,
            path,
            site,
            fate,
            interference,
            moment,
        } = *self;
        let ends_early = self.ends_early();
        let checks = [
            (
                moment != Moment::Admitted && !entry.is_delayed(),
                "only what is delayed has a time",
            ),
            (
                moment != Moment::Admitted && interference == Interference::Nothing,
                "nothing happens at any moment",
            ),
            (
                path.is_in_line() && entry != Entry::Delay,
                "only a delayed message of a stream is in line without its caller",
            ),
            (
                !entry.is_lazy() && !path.is_queued(),
                "a submission never runs on its caller",
            ),
            (
                site.is_before_waiting() && path.is_pending(),
                "a handler that panics first never waits",
            ),
            (
                site == Site::LaterPoll && !path.is_pending(),
                "a handler that is ready has no later poll",
            ),
            (
                site == Site::LaterPoll && moment == Moment::Due && !self.surely_starts(),
                "whether its handler waits is chance",
            ),
            (
                site.is_in_waker()
                    && !matches!(fate, Fate::DroppedAfterPoll | Fate::TwoWakers | Fate::Moved),
                "no waker of the test is registered",
            ),
            (
                path == Path::InlineReady
                    && (site.is_in_waker()
                        || matches!(
                            fate,
                            Fate::DroppedAfterPoll
                                | Fate::DroppedWhenReady
                                | Fate::Moved
                                | Fate::Forgotten
                                | Fate::TwoWakers
                        )),
                "it is over with its first poll",
            ),
            (
                self.is_never_admitted() && (site != Site::Nowhere || path.is_pending()),
                "nothing of it runs",
            ),
            (
                ends_early && (site.is_in_handler() || path.is_pending()),
                "its handler is never called",
            ),
            (
                entry.is_structured() && fate == Fate::DroppedWhenReady,
                "a structured execution is ready only within a poll",
            ),
            (
                entry.is_structured() && fate == Fate::Forgotten,
                "a forgotten structured execution keeps its permit",
            ),
            (
                entry.is_structured()
                    && fate == Fate::DroppedAfterPoll
                    && path == Path::QueuedPending,
                "it is dropped before it waits",
            ),
            (
                entry.is_structured()
                    && path == Path::InlinePending
                    && site == Site::LaterPoll
                    && fate == Fate::TwoWakers,
                "it is over with its second poll",
            ),
            (
                entry.is_structured() && path == Path::InlinePending && site == Site::WakerClone,
                "its handler clones the waker itself",
            ),
            (
                interference == Interference::Cancel && entry.is_lazy(),
                "an execution has nothing to cancel it with",
            ),
            (
                interference == Interference::Cancel && fate.is_early_end(),
                "nothing is left to cancel with",
            ),
            (
                interference == Interference::LastHandle && entry.is_lazy(),
                "an execution borrows a handle",
            ),
            (
                interference == Interference::Eviction && !entry.is_serial(),
                "a parallel executor has no streams",
            ),
            (
                self.aborts() && (fate != Fate::Kept || interference != Interference::Nothing),
                "nothing outlives an abort",
            ),
        ];
        match checks.iter().find(|(cannot, _)| *cannot) {
            Some((_, reason)) => Err(reason),
            None => Ok(()),
        }
    }
}
