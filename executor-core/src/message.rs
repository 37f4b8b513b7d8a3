//! The job of a message: an envelope and the handler that is to have it.

use std::future::Future;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::cell::{Header, Job, Scope};
use crate::context::{Mooring, PolicyContext};
use crate::envelope::Envelope;
use crate::error::Failure;

/// What the scope of a message offers beside every scope.
pub(crate) trait MessageScope: Scope {
    fn mooring(&self) -> &Mooring;
    /// Makes what the handler needs, the stream's state.
    fn prepare(&self) -> Result<(), String>;
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
        if self.envelope.is_expired() {
            return Err(Failure::Expired);
        }
        scope.prepare().map_err(Failure::State)?;
        // SAFETY: the mooring is the scope's, in the cell; `begin` runs once for a message; the
        // state was prepared, and its type is the stream's.
        let context = unsafe { PolicyContext::moored(cell, scope.mooring(), &self.envelope) };
        Ok((self.handler)(self.envelope, context))
    }

    fn into_message(self) -> Envelope<M> {
        self.envelope
    }
}
