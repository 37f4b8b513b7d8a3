//! Many messages admitted as one.

use std::fmt;

use crate::completion::Completion;
use crate::envelope::Envelope;
use crate::error::Rejected;

/// What became of a batch.
#[must_use = "the refused messages are inside"]
pub struct Batch<T, E, M> {
    /// One completion for each message admitted, in order.
    pub accepted: Vec<Completion<T, E, M>>,
    /// The rest of the messages, in order, with the reason; none if all were admitted.
    pub refused: Option<Rejected<Vec<Envelope<M>>>>,
}

/// Whatever the messages are.
impl<T, E, M> fmt::Debug for Batch<T, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("accepted", &self.accepted)
            .field("refused", &self.refused)
            .finish()
    }
}
