//! Many messages admitted as one.

use crate::completion::Completion;
use crate::envelope::Envelope;
use crate::error::Rejected;

/// What became of a batch.
#[derive(Debug)]
#[must_use = "the refused messages are inside"]
pub struct Batch<T, E, M> {
    /// One completion for each message admitted, in order.
    pub accepted: Vec<Completion<T, E, M>>,
    /// The rest of the messages, in order, with the reason; none if all were admitted.
    pub refused: Option<Rejected<Vec<Envelope<M>>>>,
}
