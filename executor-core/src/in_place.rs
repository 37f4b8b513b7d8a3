//! A place for a future that comes later, is polled there and dropped there.
//!
//! An `Option<F>` behind a pin would do, but `Pin::set` makes the future elsewhere and copies it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A place for a future.
///
/// # Invariants
/// - I1. `future` is initialised iff `is_there`, and is not moved from when it is made until it is
///   dropped: both happen in place, behind the pin or in the drop.
pub struct InPlace<F> {
    future: MaybeUninit<F>,
    is_there: bool,
    _pinned: PhantomPinned,
}

impl<F> InPlace<F> {
    /// A place without a future.
    #[inline(always)]
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            future: MaybeUninit::uninit(),
            is_there: false,
            _pinned: PhantomPinned,
        }
    }

    /// Whether there is a future.
    #[inline]
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Makes the future.
    ///
    /// # Panics
    /// When there is one already, and when `make` does; then there is none.
    #[inline(always)]
    pub fn make(self: Pin<&mut Self>, make: impl FnOnce() -> F) {
        // SAFETY: nothing is moved: there is no future yet, and I1 holds from here on.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(!this.is_there, "a place has room for one future");
        this.future.write(make());
        this.is_there = true;
    }

    /// Polls the future.
    ///
    /// # Panics
    /// When there is none.
    #[inline(always)]
    pub fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output>
    where
        F: Future,
    {
        // SAFETY: the future is not moved (I1).
        let this = unsafe { self.get_unchecked_mut() };
        assert!(this.is_there, "there is a future to be polled");
        // SAFETY: I1: initialised.
        let future = unsafe { this.future.assume_init_mut() };
        // SAFETY: I1: it stays where it is.
        let future = unsafe { Pin::new_unchecked(future) };
        future.poll(context)
    }

    /// Drops the future, if there is one.
    #[inline(always)]
    pub fn clear(self: Pin<&mut Self>) {
        // SAFETY: the future is not moved, only dropped.
        let this = unsafe { self.get_unchecked_mut() };
        this.drop_future();
    }

    #[inline(always)]
    fn drop_future(&mut self) {
        if std::mem::take(&mut self.is_there) {
            // SAFETY: I1: initialised until now; a panic in its drop leaves nothing to drop again.
            unsafe { self.future.assume_init_drop() };
        }
    }
}

impl<F> Drop for InPlace<F> {
    #[inline]
    fn drop(&mut self) {
        self.drop_future();
    }
}

impl<F> fmt::Debug for InPlace<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace")
            .field("is_there", &self.is_there)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use super::InPlace;

    #[test]
    fn a_future_is_made_polled_and_dropped_once() {
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        let mut place = pin!(InPlace::empty());
        assert!(!place.is_there());
        place.as_mut().make(|| async move {
            drop(held);
            5
        });
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(place.as_mut().poll(&mut context), Poll::Ready(5));
        place.as_mut().clear();
        place.as_mut().clear();
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn an_unfinished_future_is_dropped_with_its_place() {
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        {
            let mut place = pin!(InPlace::empty());
            place.as_mut().make(|| async move {
                pending::<()>().await;
                drop(held);
            });
            assert_eq!(Rc::strong_count(&alive), 2);
        }
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn a_panic_while_it_is_made_leaves_the_place_empty() {
        let mut place = pin!(InPlace::<std::future::Ready<()>>::empty());
        let made = catch_unwind(AssertUnwindSafe(|| {
            place.as_mut().make(|| panic!("not this time"));
        }));
        assert!(made.is_err() && !place.is_there());
        place.as_mut().make(|| ready(()));
        assert!(place.is_there());
    }
}
