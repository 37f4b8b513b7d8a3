//! A value in a block of its own.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::{Class, give_warm, take};

/// An owned value in a pooled block.
pub(crate) struct PoolBox<T> {
    value: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its value, as a `Box` does.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PoolBox<T> {}

impl<T> PoolBox<T> {
    const CLASS: Class = Class::of(Layout::new::<T>());

    #[inline(always)]
    pub(crate) fn new(value: T) -> Self {
        let write = |place: *mut T| {
            // SAFETY: there is room for it.
            unsafe { place.write(value) };
        };
        // SAFETY: it is written.
        unsafe { Self::with(write) }
    }

    /// A value that is made where it is to lie. One that is made elsewhere and copied can cost more than
    /// all the rest: it is read in pieces of another size than it was just written in.
    ///
    /// # Safety
    /// `make` initialises the place that it is given, which is large and aligned enough.
    #[inline(always)]
    pub(crate) unsafe fn with(make: impl FnOnce(*mut T)) -> Self {
        let block = take(Self::CLASS).cast::<T>();
        make(block.as_ptr());
        Self {
            value: block,
            owns: PhantomData,
        }
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: it is initialised from `new` to `drop`, and ours.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`.
        unsafe { self.value.as_mut() }
    }
}

impl<T: Clone> Clone for PoolBox<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(self))
    }
}

impl<T> Drop for PoolBox<T> {
    #[inline(always)]
    fn drop(&mut self) {
        /// Gives the block back, also when the value's drop panics.
        struct Block<T>(NonNull<T>);

        impl<T> Drop for Block<T> {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: it came from this class, and its value was dropped.
                unsafe { give_warm(PoolBox::<T>::CLASS, self.0.cast()) };
            }
        }

        let block = Block(self.value);
        // SAFETY: it is dropped once, here.
        unsafe { block.0.drop_in_place() };
    }
}
