//! A pooled one-shot channel: a cell that nobody runs, with a value that somebody gives.

use std::convert::Infallible;
use std::future::Ready;
use std::ptr::NonNull;

use super::Nowhere;
use crate::cell::{Cell, Header, Job};
use crate::envelope::Envelope;
use crate::error::Failure;

/// The job of a [`Promise`]: nothing runs, somebody keeps the other end.
pub(crate) struct Promised<T>(std::marker::PhantomData<fn() -> T>);

impl<T: Send + 'static> Job for Promised<T> {
    type Value = T;
    type Error = Infallible;
    type Message = ();
    type Future = Ready<Result<T, Infallible>>;
    type Scope = Nowhere;

    fn begin(self, _: NonNull<Header>, _: &Nowhere) -> Result<Self::Future, Failure> {
        unreachable!("a promise never runs")
    }

    fn into_message(self) -> Envelope<()> {
        Envelope::new(())
    }
}

/// The end of a pooled one-shot channel that gives the value.
///
/// Dropped without a value, its completion ends as aborted.
pub struct Promise<T: Send + 'static> {
    cell: Option<NonNull<Header>>,
    value: std::marker::PhantomData<fn(T)>,
}

// SAFETY: the promise is the cell's only runner, and moves a `T: Send` in.
unsafe impl<T: Send> Send for Promise<T> {}
// SAFETY: `&Promise` reads the status word only.
unsafe impl<T: Send> Sync for Promise<T> {}

/// A promise and the completion that waits for it.
pub fn promise<T: Send + 'static>() -> (Promise<T>, crate::Completion<T>) {
    let cell = Cell::<Promised<T>>::vacant(Nowhere, true);
    // SAFETY: the cell is private; marking it started keeps a cancel away from its empty body.
    unsafe { cell.as_ref() }.status.start_joined();
    // SAFETY: the job's types are `T` and `Infallible`, and it was made joined.
    let completion = unsafe { crate::Completion::new(cell) };
    (
        Promise {
            cell: Some(cell),
            value: std::marker::PhantomData,
        },
        completion,
    )
}

impl<T: Send + 'static> Promise<T> {
    /// Gives the value, which is dropped if nobody waits for it any more.
    pub fn fulfil(mut self, value: T) {
        self.settle(Ok(value));
    }

    /// Whether somebody still waits.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        // SAFETY: the runner's hold keeps the cell alive.
        self.cell
            .is_some_and(|cell| unsafe { cell.as_ref() }.status.is_joined())
    }

    /// The promise's cell, whose runner is the caller now.
    pub(crate) fn into_cell(mut self) -> NonNull<Header> {
        self.cell.take().expect("a promise is given away once")
    }

    fn settle(&mut self, output: Result<T, Failure>) {
        if let Some(cell) = self.cell.take() {
            // SAFETY: the promise is the runner, and the body is empty.
            unsafe { Cell::<Promised<T>>::give(cell, output) };
        }
    }
}

impl<T: Send + 'static> std::fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Promise")
            .field("is_awaited", &self.is_awaited())
            .finish()
    }
}

impl<T: Send + 'static> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(Failure::Aborted));
    }
}
