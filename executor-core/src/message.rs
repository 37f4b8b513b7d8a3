//! The job of a message: an envelope and the handler that is to have it.

use std::future::Future;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::cell::{Header, Job, Scope, drop_quietly};
use crate::context::PolicyContext;
use crate::envelope::Envelope;
use crate::error::{Failure, StateError};

/// What the scope of a message offers beside every scope.
pub(crate) trait MessageScope: Scope {
    /// Makes what the handler needs, the stream's state; true: the user's factory ran for it.
    fn prepare(&self) -> Result<bool, String>;
}

/// An envelope and its handler.
pub(crate) struct Message<M, H, S, P> {
    pub(crate) envelope: Envelope<M>,
    pub(crate) handler: H,
    types: PhantomData<fn() -> (S, P)>,
}

impl<M, H, S, P> Message<M, H, S, P> {
    pub(crate) fn new(envelope: Envelope<M>, handler: H) -> Self {
        Self {
            envelope,
            handler,
            types: PhantomData,
        }
    }
}

/// Makes the context of a message that is about to be given to its handler.
///
/// # Errors
/// Its deadline has passed, or its stream's state could not be made.
///
/// # Safety
/// `cell` is the message's, and `scope` that of the cell; it is called once for a message. If it
/// `WAS_QUEUED`, it may have been shared.
#[inline(always)]
pub(crate) unsafe fn start<const WAS_QUEUED: bool, M, S, P, E>(
    cell: NonNull<Header>,
    scope: &P,
    envelope: &Envelope<M>,
) -> Result<PolicyContext<S>, Failure<E>>
where
    S: Send + 'static,
    P: MessageScope,
{
    if envelope.is_expired() {
        return Err(Failure::Expired);
    }
    let was_prepared = match scope.prepare() {
        Ok(now) => now,
        Err(text) => return Err(Failure::State(StateError::new(text))),
    };
    // A factory may have called another stream, which then knows this cell as its caller.
    let is_new = !WAS_QUEUED && !was_prepared;
    // SAFETY: the message is being started, and the state was prepared.
    Ok(unsafe { PolicyContext::of_cell(cell, envelope, is_new) })
}

impl<M, H, S, P, F, T, E> Job for Message<M, H, S, P>
where
    M: Send + 'static,
    S: Send + 'static,
    P: MessageScope + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Value = T;
    type Error = E;
    type Message = M;
    type Future = F;
    type Scope = P;

    #[inline(always)]
    fn begin(self, cell: NonNull<Header>, scope: &P) -> Result<F, Failure<E>> {
        // SAFETY: the cell is that of this job, which begins once.
        let context = unsafe { start::<true, _, _, _, _>(cell, scope, &self.envelope) }?;
        Ok((self.handler)(self.envelope, context))
    }

    fn into_message(self) -> Envelope<M> {
        let Self {
            envelope, handler, ..
        } = self;
        // The canceller has the message in hand: a panic here would lose it, and more.
        drop_quietly(handler);
        envelope
    }
}
