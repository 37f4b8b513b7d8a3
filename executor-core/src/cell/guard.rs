//! Running and dropping what is the user's, so that a panic in it ends there.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::error::Panic;

/// Runs user code that must not unwind into the framework.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic::new)
}

/// Drops a value of the user; a panic in its destructor ends here.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(move || drop(value)) {
        forget_payload(panic.into_payload());
    }
}

/// Drops a panic payload whose own destructor may panic.
pub(crate) fn forget_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch(move || drop(payload)) {
        std::mem::forget(second.into_payload());
    }
}

/// Wakes a waker of the user; a panic in it ends here.
pub(crate) fn wake_quietly(waker: Waker) {
    if let Err(panic) = catch(move || waker.wake()) {
        forget_payload(panic.into_payload());
    }
}
