//! What the parts of a cell are asked for: the job, its home's scope, and what a poll leaves.

use std::future::Future;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::Header;
use crate::envelope::Envelope;
use crate::environment::Environment;
use crate::error::Failure;
use crate::lane::Link;
use crate::metrics::Outcome;
use crate::strand::StreamName;
use crate::worker::Turn;

/// What one slice of work led to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The message is handled; the cell must not be touched again.
    Finished,
    /// The same, with a value, and it was not counted ([`Scope::OWNER_COUNTS`]).
    Handled,
    /// It waits for a wake.
    Pending,
}

/// Work of one kind.
pub(crate) trait Job: Sized + Send + 'static {
    type Value: Send + 'static;
    type Error: Send + 'static;
    type Message: Send;
    type Future: Future<Output = Result<Self::Value, Self::Error>> + Send;
    type Scope: Scope;
    const CONTROL: bool = false;

    /// Makes the future; `Err` ends the message without running it.
    fn begin(
        self,
        cell: NonNull<Header>,
        scope: &Self::Scope,
    ) -> Result<Self::Future, Failure<Self::Error>>;
    /// Gives the message back.
    fn into_message(self) -> Envelope<Self::Message>;
}

/// What the home of a job keeps in its cell; what has a default is that of work without stream,
/// executor and context.
pub(crate) trait Scope {
    /// Whether who runs the cells counts those that end with a value and without a completion, some
    /// at a time.
    const OWNER_COUNTS: bool = false;

    /// Where the work goes when it is woken; held while wakers exist.
    fn home(&self) -> *const ();
    /// # Safety
    /// `home` is alive.
    unsafe fn hold(home: *const ());
    /// # Safety
    /// Balances a `hold`.
    unsafe fn unhold(home: *const ());
    /// # Safety
    /// The caller keeps both alive.
    unsafe fn wake(cell: NonNull<Header>, home: *const ());
    /// # Safety
    /// `home` is alive.
    unsafe fn stream(_home: *const ()) -> Option<StreamName> {
        None
    }
    /// The executor that the work belongs to.
    fn environment(&self) -> *const Environment {
        Environment::none()
    }
    /// The drain generation of the work.
    fn generation(&self) -> u32 {
        0
    }
    /// The message is handled: counts it, and lets go of permits; before anybody hears of it.
    fn retire(&self, outcome: Outcome);
    /// How a lane runs the cell.
    ///
    /// # Safety
    /// The caller owns the link, which heads a cell with this scope.
    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>);
}

/// What a poll led to.
#[must_use]
pub(crate) enum Ran {
    /// The handler waits for a wake.
    Pending,
    /// The value is in the place that the caller gave.
    Returned,
    /// There is no value, for the reason in the place that the caller gave.
    Failed,
}

/// Where a poll leaves what it led to.
///
/// Apart from the answer, so that a small value stays small on its way to the caller: an enum of
/// everything that may happen would be copied whole at every return.
pub(crate) struct Polled<J: Job> {
    /// What the handler returned; initialised by [`Ran::Returned`].
    pub(super) value: MaybeUninit<Result<J::Value, J::Error>>,
    /// Why there is no value; initialised by [`Ran::Failed`].
    pub(super) failure: MaybeUninit<Failure<J::Error>>,
}

impl<J: Job> Polled<J> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            value: MaybeUninit::uninit(),
            failure: MaybeUninit::uninit(),
        }
    }

    /// # Safety
    /// The poll said [`Ran::Returned`]; the value is taken once.
    #[inline(always)]
    pub(crate) unsafe fn take_value(&mut self) -> Result<J::Value, J::Error> {
        // SAFETY: as the caller says.
        unsafe { self.value.assume_init_read() }
    }

    /// # Safety
    /// The poll said [`Ran::Failed`]; the failure is taken once.
    pub(crate) unsafe fn take_failure(&mut self) -> Failure<J::Error> {
        // SAFETY: as the caller says.
        unsafe { self.failure.assume_init_read() }
    }
}

/// What there is to drop when a poll panics.
#[derive(Clone, Copy)]
pub(super) enum Held {
    Nothing,
    /// The future, in the body.
    Future,
    /// The value of a future that has returned.
    Value,
}

pub(crate) type Output<J> = Result<<J as Job>::Value, Failure<<J as Job>::Error>>;
