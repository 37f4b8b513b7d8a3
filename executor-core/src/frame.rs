//! The chain of handlers that run on this thread, and through them the callers they wait for.
//!
//! Whoever polls a handler pushes a [`Frame`] on its own stack for the time of the poll. The frame
//! is what finds re-entrant calls, bounds caller-runs nesting, lends the executor's services to the
//! context, and tells a message admitted by a handler to which drain generation it belongs.

use std::cell::Cell as StdCell;
use std::ptr::{self, NonNull};

use crate::cell::{CellRef, Header};
use crate::environment::Environment;
use crate::error::CallChain;

/// What a poll runs under.
pub(crate) struct Frame {
    /// The frame below, on the same thread.
    pub(crate) parent: *const Frame,
    /// The executor whose handler is polled.
    pub(crate) environment: *const Environment,
    /// The cell of the message, null for a structured execution.
    pub(crate) cell: *const Header,
    /// The stream, if the executor is serial.
    pub(crate) stream: Option<StreamName>,
    /// The drain generation of the message.
    pub(crate) generation: u32,
    /// How many frames lie below.
    pub(crate) depth: u32,
}

/// A stream's identity and how to print it.
#[derive(Clone, Copy)]
pub(crate) struct StreamName {
    pub(crate) id: *const (),
    pub(crate) label: unsafe fn(*const ()) -> String,
}

thread_local! {
    static CURRENT: StdCell<*const Frame> = const { StdCell::new(ptr::null()) };
}

/// Restores the frame below, also when the poll unwinds.
struct Restore(*const Frame);

impl Drop for Restore {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs `poll` under a frame made from the one below.
#[inline]
pub(crate) fn enter<R>(
    environment: *const Environment,
    cell: *const Header,
    stream: Option<StreamName>,
    generation: u32,
    poll: impl FnOnce() -> R,
) -> R {
    let parent = CURRENT.get();
    let frame = Frame {
        parent,
        environment,
        cell,
        stream,
        generation,
        depth: depth() + 1,
    };
    CURRENT.set(&raw const frame);
    let _restore = Restore(parent);
    poll()
}

/// How many handlers are being polled on this thread, one inside the other.
#[inline]
pub(crate) fn depth() -> u32 {
    current().map_or(0, |frame| frame.depth)
}

/// The innermost frame; it lives on this thread's stack until the poll that made it returns.
#[inline]
pub(crate) fn current<'a>() -> Option<&'a Frame> {
    // SAFETY: a non-null pointer is to a frame of a caller of ours on this very stack, which
    // `Restore` unlinks before it dies; the callers here do not let the reference out of the call.
    unsafe { CURRENT.get().as_ref() }
}

/// Whether the handler polled here is the one of `cell`.
#[inline]
pub(crate) fn is_polling(cell: *const Header) -> bool {
    current().is_some_and(|frame| ptr::eq(frame.cell, cell))
}

/// The drain generation that a message admitted now to `environment` inherits.
#[inline]
pub(crate) fn inherited_generation(environment: *const Environment) -> Option<u32> {
    let mut frame = current();
    while let Some(found) = frame {
        if ptr::eq(found.environment, environment) {
            return Some(found.generation);
        }
        // SAFETY: as in `current`: frames below outlive those above.
        frame = unsafe { found.parent.as_ref() };
    }
    None
}

/// A reference to the nearest message cell that runs on this thread, for a message it waits for.
pub(crate) fn caller() -> Option<CellRef> {
    let mut frame = current();
    while let Some(found) = frame {
        if let Some(cell) = NonNull::new(found.cell.cast_mut()) {
            // SAFETY: the cell is being polled on this thread, so it is alive.
            return Some(unsafe { CellRef::new(cell) });
        }
        // SAFETY: as in `current`.
        frame = unsafe { found.parent.as_ref() };
    }
    None
}

/// The chain from `stream` to here, if `stream` is on it.
#[inline]
pub(crate) fn chain_through(stream: StreamName) -> Option<CallChain> {
    current().and_then(|innermost| find(innermost, stream))
}

#[cold]
fn find(innermost: &Frame, stream: StreamName) -> Option<CallChain> {
    let mut chain = vec![stream];
    let mut frame = Some(innermost);
    let mut outermost_cell = ptr::null::<Header>();
    while let Some(found) = frame {
        if let Some(name) = found.stream {
            chain.push(name);
            if name.id == stream.id {
                return Some(named(&chain));
            }
        }
        if !found.cell.is_null() {
            outermost_cell = found.cell;
        }
        // SAFETY: as in `current`.
        frame = unsafe { found.parent.as_ref() };
    }
    // Below the stack: the handlers that wait, on other threads or nowhere, for this one.
    let mut cell = outermost_cell;
    // SAFETY: the outermost cell is being polled here, and each cell holds a reference to the one
    // that waits for it.
    while let Some(waiting) = unsafe { cell.as_ref() }.and_then(Header::caller) {
        if waiting.is_done() {
            break;
        }
        if let Some(name) = waiting.stream() {
            chain.push(name);
            if name.id == stream.id {
                return Some(named(&chain));
            }
        }
        cell = waiting;
    }
    None
}

fn named(chain: &[StreamName]) -> CallChain {
    // SAFETY: every stream on the chain has an unfinished message and is therefore alive.
    CallChain(
        chain
            .iter()
            .rev()
            .map(|name| unsafe { (name.label)(name.id) })
            .collect(),
    )
}
