//! Messages that run under a permit.

use std::cell::{Cell as StdCell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{OnCore, scope_in, scope_of};
use crate::cell::{Header, Scope, Step, drop_quietly};
use crate::core::CoreShared;
use crate::engine::Parked;
use crate::environment::Environment;
use crate::error::Failure;
use crate::lane::Link;
use crate::message::MessageScope;
use crate::metrics::Outcome;
use crate::time::kind::{Kind, end_cell};
use crate::worker::Turn;

/// What the owner of a limit is told about its messages.
pub trait Limiter: Send + Sync + 'static {
    /// The executor's environment.
    fn environment(&self) -> &Environment;
    /// A message ended; its permit is free.
    #[doc(hidden)]
    fn retire(&self, outcome: Ended, generation: u32);
    /// Whether a shutdown in abort mode runs.
    fn is_aborting(&self) -> bool;
    /// The drain generation of messages admitted now.
    fn generation(&self) -> u32;
    /// Admits a delayed message whose time has come, behind all that wait; it waits for nothing, and
    /// runs no code of the user.
    ///
    /// # Errors
    /// The message comes back when new ones are refused.
    fn admit(&self, generation: u32, message: Parked) -> Result<(), Parked>;
    /// Counts a delayed message that ended before it was admitted.
    fn forgo(&self, outcome: Ended);
}

/// How a message ended, for a [`Limiter`].
#[derive(Debug, Clone, Copy)]
pub struct Ended(pub(crate) Outcome);

impl Ended {
    /// It was given up before its end.
    pub const CANCELLED: Self = Self(Outcome::Cancelled);

    /// Whether the handler returned `Ok`.
    #[inline]
    #[must_use]
    pub fn is_value(self) -> bool {
        self.0 == Outcome::Value
    }

    /// How a structured execution ended.
    #[inline]
    pub fn of<T, E>(output: &Result<T, Failure<E>>) -> Self {
        Self(Outcome::of(output))
    }
}

/// The generation of a delayed message before its time, which no drain has.
pub const UNADMITTED: u32 = u32::MAX;

/// The scope of a message of a parallel executor.
#[repr(C)]
pub(crate) struct UnderLimit<L: Limiter> {
    on_core: OnCore,
    /// None once the message is over: a completion that is kept does not keep the limiter, and its core.
    /// The runner's.
    limiter: UnsafeCell<Option<Arc<L>>>,
    /// The drain generation; that of a delayed message is set when it is admitted.
    generation: StdCell<u32>,
}

impl<L: Limiter> UnderLimit<L> {
    pub(crate) fn new(on_core: OnCore, limiter: Arc<L>, generation: u32) -> Self {
        Self {
            on_core,
            limiter: UnsafeCell::new(Some(limiter)),
            generation: StdCell::new(generation),
        }
    }

    /// Whose message it is, which is not over.
    fn limiter(&self) -> &Arc<L> {
        // SAFETY: the runner alone takes it, when the message is over, and nobody asks after that.
        let limiter = unsafe { &*self.limiter.get() };
        limiter
            .as_ref()
            .expect("a message that is not over has its limiter")
    }

    /// A delayed message whose time has come: the cell is ours to run, and has this scope.
    fn admit(cell: NonNull<Header>, _: &CoreShared) -> Option<*const ()> {
        // SAFETY: as above.
        let scope = unsafe { scope_of::<Self>(cell) };
        let limiter = Arc::clone(scope.limiter());
        scope.generation.set(limiter.generation());
        let parked = Parked::new(cell);
        match limiter.admit(scope.generation.get(), parked) {
            // It may be the last by now: dropped after the turn.
            Ok(()) => Some(Arc::into_raw(limiter).cast()),
            Err(_refused) => {
                scope.generation.set(UNADMITTED);
                None
            }
        }
    }

    /// A delayed message under a limit.
    pub(crate) const DUE: &'static Kind = &Kind {
        admit: Self::admit,
        // SAFETY: `admit` gave the limiter.
        settle: |limiter| drop_quietly(unsafe { Arc::from_raw(limiter.cast::<L>()) }),
        end: end_cell,
        owner: |cell| {
            // SAFETY: the cell is ours to run, and has this scope.
            let scope = unsafe { scope_of::<Self>(cell) };
            Arc::as_ptr(scope.limiter()).cast()
        },
        is_awaited: false,
    };
}

impl<L: Limiter> Scope for UnderLimit<L> {
    fn home(&self) -> *const () {
        self.on_core.home()
    }

    unsafe fn hold(home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::hold(home) };
    }

    unsafe fn unhold(home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::unhold(home) };
    }

    unsafe fn wake(cell: NonNull<Header>, home: *const ()) {
        // SAFETY: the homes are alike.
        unsafe { OnCore::wake(cell, home) };
    }

    fn environment(&self) -> *const Environment {
        self.limiter().environment()
    }

    fn generation(&self) -> u32 {
        self.generation.get()
    }

    fn retire(&self, outcome: Outcome) {
        self.on_core.strike();
        // SAFETY: the runner calls this once, and lends the limiter to nobody now.
        let limiter = unsafe { &mut *self.limiter.get() }.take();
        let limiter = limiter.expect("a message is over once");
        match self.generation.get() {
            UNADMITTED => limiter.forgo(Ended(outcome)),
            generation => limiter.retire(Ended(outcome), generation),
        }
        // It may be the last, with the services of its executor.
        drop_quietly(limiter);
    }

    unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        let cell = link.cast::<Header>();
        // SAFETY: as for `OnCore`.
        let scope = unsafe { scope_in::<Self>(cell) };
        // SAFETY: whoever asks owns the cell still.
        let is_aborting = || unsafe { scope.as_ref() }.limiter().is_aborting();
        if is_aborting() {
            // SAFETY: the caller owns the cell.
            let abort = unsafe { cell.as_ref() }.vtable().abort;
            // SAFETY: as above.
            if unsafe { abort(cell) } == Step::Finished {
                return;
            }
            // A straying context keeps it: wait for that like for any wake.
        }
        // `UnderLimit` is `repr(C)`: its `OnCore` lies at its start.
        // SAFETY: as the caller says.
        unsafe { OnCore::run_cell(scope.cast(), cell, turn, is_aborting) };
    }
}

impl<L: Limiter> MessageScope for UnderLimit<L> {
    #[inline]
    fn prepare(&self) -> Result<bool, String> {
        Ok(false)
    }
}
