//! What an admission leaves with its caller: a completion, or nothing.

use std::fmt;
use std::ptr::NonNull;

use crate::cell::Header;
use crate::completion::Completion;

/// What the caller keeps of a message whose handler returns `Result<T, E>`.
pub trait Receipt<T, E, M>: Sized {
    /// Whether the message is made with a completion.
    const JOINED: bool;

    /// The receipt for a message that was just admitted.
    fn of(admitted: Admitted) -> Self;
}

/// The cell of a message that was admitted, and was made joined if its receipt says so; its job has
/// the types of the receipt.
pub struct Admitted(NonNull<Header>);

impl Admitted {
    /// # Safety
    /// As the type says.
    #[inline(always)]
    pub(crate) unsafe fn new(cell: NonNull<Header>) -> Self {
        Self(cell)
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admitted")
    }
}

impl<T, E, M> Receipt<T, E, M> for Completion<T, E, M> {
    const JOINED: bool = true;

    #[inline(always)]
    fn of(admitted: Admitted) -> Self {
        // SAFETY: the cell was made joined, with these types.
        unsafe { Self::new(admitted.0) }
    }
}

impl<T, E, M> Receipt<T, E, M> for () {
    const JOINED: bool = false;

    #[inline(always)]
    fn of(_: Admitted) -> Self {}
}
