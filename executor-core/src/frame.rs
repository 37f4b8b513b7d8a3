//! The chain of handlers that run on this thread, and through them the callers they wait for.
//!
//! Whoever polls a handler pushes a [`Frame`] on its own stack for the time of the poll. The frame
//! is what finds re-entrant calls, bounds caller-runs nesting, lends the executor's services to the
//! context, and tells a message admitted by a handler to which drain generation it belongs.

use std::cell::Cell as StdCell;
use std::ptr::{self, NonNull};

use crate::cell::{CellRef, Header, LiveCell};
use crate::environment::Environment;
use crate::error::CallChain;
use crate::strand::StreamName;

/// What a poll runs under.
///
/// As small as it can be: it is written for every message, and read by the few that ask.
#[repr(C)]
struct Frame {
    /// The frame below, on the same thread.
    parent: *const Frame,
    /// The cell that is polled; null if the frame is that of a `Structured`.
    cell: *const Header,
}

/// The frame of a structured execution, which has no cell to be asked.
#[repr(C)]
struct Structured {
    frame: Frame,
    environment: *const Environment,
    generation: u32,
}

/// A frame that is on this thread's stack.
#[derive(Clone, Copy)]
pub(crate) struct FrameRef(NonNull<Frame>);

impl FrameRef {
    fn frame(&self) -> &Frame {
        // SAFETY: frames outlive those who see them: see `current`.
        unsafe { self.0.as_ref() }
    }

    fn below(self) -> Option<Self> {
        NonNull::new(self.frame().parent.cast_mut()).map(Self)
    }

    fn cell(&self) -> Option<LiveCell> {
        let cell = NonNull::new(self.frame().cell.cast_mut());
        // SAFETY: a cell that is being polled is alive.
        cell.map(|cell| unsafe { LiveCell::new(cell) })
    }

    fn structured(&self) -> &Structured {
        debug_assert!(self.frame().cell.is_null());
        // SAFETY: without a cell the frame is the head of a `Structured`, and the pointer is to it.
        unsafe { self.0.cast::<Structured>().as_ref() }
    }

    /// The executor whose handler is polled.
    pub(crate) fn environment(&self) -> *const Environment {
        match self.cell() {
            Some(cell) => cell.environment(),
            None => self.structured().environment,
        }
    }

    /// The drain generation of the message.
    fn generation(&self) -> u32 {
        match self.cell() {
            Some(cell) => cell.generation(),
            None => self.structured().generation,
        }
    }
}

thread_local! {
    static CURRENT: StdCell<*const Frame> = const { StdCell::new(ptr::null()) };
}

/// Restores the frame below, also when the poll unwinds.
struct Restore<'a>(&'a Frame);

impl Drop for Restore<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0.parent);
    }
}

/// Runs `poll` as that of `cell`.
#[inline(always)]
pub(crate) fn enter<R>(cell: NonNull<Header>, poll: impl FnOnce() -> R) -> R {
    let frame = Frame {
        parent: CURRENT.get(),
        cell: cell.as_ptr(),
    };
    CURRENT.set(&raw const frame);
    let _restore = Restore(&frame);
    poll()
}

/// Runs `poll` as that of a structured execution.
#[inline(always)]
pub(crate) fn enter_structured<R>(
    environment: *const Environment,
    generation: u32,
    poll: impl FnOnce() -> R,
) -> R {
    let structured = Structured {
        frame: Frame {
            parent: CURRENT.get(),
            cell: ptr::null(),
        },
        environment,
        generation,
    };
    CURRENT.set((&raw const structured).cast());
    let _restore = Restore(&structured.frame);
    poll()
}

/// Runs work that no handler below on this thread has called, as if there were none.
pub(crate) fn apart<R>(work: impl FnOnce() -> R) -> R {
    struct Return(*const Frame);

    impl Drop for Return {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }

    let _return = Return(CURRENT.replace(ptr::null()));
    work()
}

/// Whether no handler is being polled on this thread.
#[inline]
pub(crate) fn is_outermost() -> bool {
    CURRENT.get().is_null()
}

/// How many handlers are being polled on this thread, one inside the other.
pub(crate) fn depth() -> u32 {
    let mut depth = 0;
    let mut frame = current();
    while let Some(found) = frame {
        depth += 1;
        frame = found.below();
    }
    depth
}

/// The innermost frame; it lives on this thread's stack until the poll that made it returns.
///
/// A caller of ours made it, and `Restore` unlinks it before it dies: whoever does not let it out
/// of the call that asked may use it, and those below.
#[inline]
pub(crate) fn current() -> Option<FrameRef> {
    NonNull::new(CURRENT.get().cast_mut()).map(FrameRef)
}

/// Whether the handler polled here is the one of `cell`.
#[inline]
pub(crate) fn is_polling(cell: *const Header) -> bool {
    current().is_some_and(|found| ptr::eq(found.frame().cell, cell))
}

/// The drain generation that a message admitted now to `environment` inherits.
#[inline]
pub(crate) fn inherited_generation(environment: *const Environment) -> Option<u32> {
    let mut frame = current();
    while let Some(found) = frame {
        if ptr::eq(found.environment(), environment) {
            return Some(found.generation());
        }
        frame = found.below();
    }
    None
}

/// Whether a handler of `environment` is being polled here.
pub(crate) fn is_under(environment: *const Environment) -> bool {
    inherited_generation(environment).is_some()
}

/// A reference to the nearest message cell that runs on this thread, for a message it waits for.
///
/// Those below, which wait for it in turn, are noted as callers on the way: what it waits for may
/// ask on another thread before the poll that runs here is over.
pub(crate) fn caller() -> Option<CellRef> {
    let mut nearest = None::<LiveCell>;
    let mut inner = None::<LiveCell>;
    let mut frame = current();
    while let Some(found) = frame {
        if let Some(cell) = found.cell() {
            if let Some(inner) = inner.replace(cell) {
                inner.set_caller(cell.hold());
            }
            nearest = nearest.or(inner);
        }
        frame = found.below();
    }
    nearest.map(LiveCell::hold)
}

/// The chain from `stream` to here, if `stream` is on it.
#[inline]
pub(crate) fn chain_through(stream: StreamName) -> Option<CallChain> {
    let innermost = current()?;
    find(innermost, |name| name == stream).then(|| chain(innermost, stream))
}

#[cold]
fn chain(innermost: FrameRef, stream: StreamName) -> CallChain {
    // SAFETY: it is being called, and those below are on the chain when they are asked.
    let mut labels = vec![unsafe { stream.label() }];
    // Who waits for this elsewhere may have given up since it was found: then the names end there.
    find(innermost, |name| {
        // SAFETY: as above.
        labels.push(unsafe { name.label() });
        name == stream
    });
    labels.reverse();
    CallChain(labels)
}

/// Whether one of the streams that a call made here runs under, innermost first, is the one.
fn find(innermost: FrameRef, mut is_it: impl FnMut(StreamName) -> bool) -> bool {
    let mut frame = Some(innermost);
    let mut outermost_cell = None;
    while let Some(found) = frame {
        if let Some(cell) = found.cell() {
            if cell.stream().is_some_and(&mut is_it) {
                return true;
            }
            outermost_cell = Some(cell);
        }
        frame = found.below();
    }
    // Below the stack: the handlers that wait, on other threads or nowhere, for this one.
    let mut waiting = outermost_cell.and_then(LiveCell::caller);
    while let Some(held) = waiting {
        let cell = held.cell();
        if cell.header().is_done() {
            return false;
        }
        if cell.stream().is_some_and(&mut is_it) {
            return true;
        }
        waiting = cell.caller();
    }
    false
}
