//! How often a message was tried, and its flags.

use std::num::{NonZeroU32, NonZeroU64};

/// The attempt, in the low half, and the flags.
///
/// Never 0, which is what tells an envelope from none. One word, so that what is left of an envelope that
/// may be absent is whole words too: anything else is moved in pieces that overlap, each of which waits
/// for the one before.
#[derive(Clone, Copy)]
pub(super) struct Marks(NonZeroU64);

impl Marks {
    pub(super) const FIRST_ATTEMPT: Self = Self(NonZeroU64::MIN);

    pub(super) const fn attempt(self) -> NonZeroU32 {
        match NonZeroU32::new(self.0.get() as u32) {
            Some(attempt) => attempt,
            // It is never 0.
            None => NonZeroU32::MIN,
        }
    }

    pub(super) const fn flags(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    pub(super) fn with_attempt(self, attempt: NonZeroU32) -> Self {
        let flags = u64::from(self.flags()) << 32;
        Self(NonZeroU64::from(attempt) | flags)
    }

    pub(super) fn with_flags(self, flags: u32) -> Self {
        Self(self.0 | u64::from(flags) << 32)
    }
}
