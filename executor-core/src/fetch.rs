//! Has memory fetched before it is used: hints to the processor, which change nothing else.
//!
//! Lists of cells are walked, and cells made, on another core than the one that wrote them last. Each
//! line costs as long as some ten messages when it is waited for, and little when several are under
//! way at once.

const LINE: usize = 64;

/// Has `lines` lines from `place` on fetched, to be read; any address will do.
#[inline(always)]
pub(crate) fn fetch_to_read<T>(place: *const T, lines: usize) {
    for line in 0..lines {
        let place = place.cast::<u8>().wrapping_add(line * LINE);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, which may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }
}

/// The same, to be written: the lines are taken from other cores already.
#[inline(always)]
pub(crate) fn fetch_to_write<T>(place: *mut T, lines: usize) {
    for line in 0..lines {
        let place = place.cast::<u8>().wrapping_add(line * LINE);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a hint, which may name any address; processors that do not know it ignore it.
        unsafe {
            std::arch::asm!("prefetchw byte ptr [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
        };
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }
}
