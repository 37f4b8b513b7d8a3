//! A place in a queue, and a place in line for one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Room, Waiter};
use crate::completion::Completion;
use crate::error::RejectReason;
use crate::pool::PoolBox;
use crate::strand::{Strand, StreamOwner};
use crate::strand_word::Push;
use crate::task::Promise;

/// A place in a stream's queue, to be used for one message or given back.
#[must_use = "a dropped slot is given back"]
pub struct Slot<O: StreamOwner>(Option<Arc<Strand<O>>>);

impl<O: StreamOwner> Slot<O> {
    pub(crate) fn new(strand: Arc<Strand<O>>) -> Self {
        Self(Some(strand))
    }

    /// The strand, whose place is used up by the caller.
    pub(crate) fn into_strand(mut self) -> Arc<Strand<O>> {
        self.0.take().expect("a slot is used once")
    }
}

impl<O: StreamOwner> Drop for Slot<O> {
    fn drop(&mut self) {
        if let Some(strand) = self.0.take() {
            strand.leave_room();
        }
    }
}

impl<O: StreamOwner> std::fmt::Debug for Slot<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.0).finish()
    }
}

/// Somebody who is given the place itself.
pub(crate) struct SlotWaiter<O: StreamOwner> {
    strand: Arc<Strand<O>>,
    /// None once it was fulfilled.
    promise: Option<Promise<Slot<O>>>,
}

impl<O: StreamOwner> SlotWaiter<O> {
    pub(crate) fn new(strand: Arc<Strand<O>>, promise: Promise<Slot<O>>) -> Self {
        Self {
            strand,
            promise: Some(promise),
        }
    }
}

impl<O: StreamOwner> Waiter for SlotWaiter<O> {
    fn room(&self) -> &Room {
        self.strand.room()
    }

    /// The message comes later.
    fn admit(&mut self) -> Push {
        Push::Queued
    }

    fn tell(&mut self, _: Push) {
        if let Some(promise) = self.promise.take() {
            promise.fulfil(Slot::new(Arc::clone(&self.strand)));
        }
    }
}

/// A place in line, a future of what its waiter is told; dropped before it is ready, it is given up.
///
/// Of those that are turned away it tells [`RejectReason::Closed`].
#[must_use = "futures do nothing unless polled"]
pub struct InLine<O: StreamOwner, V> {
    // One word: every execution has room for it.
    place: PoolBox<Place<O, V>>,
}

struct Place<O: StreamOwner, V> {
    strand: Arc<Strand<O>>,
    age: u64,
    /// None once it was ready.
    told: Option<Completion<V>>,
}

impl<O: StreamOwner, V> InLine<O, V> {
    pub(super) fn new(strand: Arc<Strand<O>>, age: u64, told: Completion<V>) -> Self {
        let told = Some(told);
        Self {
            place: PoolBox::new(Place { strand, age, told }),
        }
    }
}

impl<O: StreamOwner, V> Unpin for InLine<O, V> {}

impl<O: StreamOwner, V> Future for InLine<O, V> {
    type Output = Result<V, RejectReason>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let told = self.place.told.as_mut().expect("it was not ready before");
        let told = ready!(Pin::new(told).poll(context));
        self.place.told = None;
        // Only who is turned away is told nothing.
        Poll::Ready(told.map_err(|_| RejectReason::Closed))
    }
}

impl<O: StreamOwner, V> Drop for Place<O, V> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            drop(told);
            let shared = self.strand.owner().shared();
            shared.room().give_up(self.strand.room(), self.age);
        }
    }
}

impl<O: StreamOwner, V> std::fmt::Debug for InLine<O, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InLine").finish_non_exhaustive()
    }
}
