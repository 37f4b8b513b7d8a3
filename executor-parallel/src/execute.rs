//! The future of `execute`: the handler's future lives inside it, under a permit.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use executor_core::engine::{Ended, panicked, run_as_handler};
use executor_core::{
    Completion, Envelope, ExecuteError, Failure, PolicyContext, RejectReason, Rejected,
};
use pin_project_lite::pin_project;

use crate::gate::{Gate, Permit, Wait};

/// A permit in the hands of a structured execution.
enum Held<'a> {
    /// Taken at once, for a message of this generation.
    Taken(&'a Gate, u32),
    /// Waited for; its own drop gives it back.
    Waited(#[expect(dead_code, reason = "held for its drop")] Permit),
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Self::Taken(gate, generation) = self {
            gate.give(*generation);
        }
    }
}

pin_project! {
    /// A structured execution: dropping it drops the handler and gives the permit back.
    #[must_use = "futures do nothing unless polled"]
    pub struct Execute<'a, M, H, F> {
        gate: &'a Gate,
        // Until it starts or is handed back.
        message: Option<(Envelope<M>, H)>,
        // From the start to its end. Dropped before the permit is given back: fields drop in order.
        #[pin]
        handler: Option<F>,
        line: Option<Completion<Permit>>,
        held: Option<Held<'a>>,
        generation: u32,
    }
}

impl<'a, M, H, F> Execute<'a, M, H, F> {
    #[inline(always)]
    pub(crate) fn new(gate: &'a Gate, envelope: Envelope<M>, handler: H) -> Self {
        let message = Some((envelope, handler));
        Self {
            gate,
            message,
            handler: None,
            line: None,
            held: None,
            generation: 0,
        }
    }

    /// An execution that has its permit, for `generation`, already.
    pub(crate) fn admitted(
        gate: &'a Gate,
        generation: u32,
        envelope: Envelope<M>,
        handler: H,
    ) -> Self {
        let held = Some(Held::Taken(gate, generation));
        Self {
            held,
            generation,
            ..Self::new(gate, envelope, handler)
        }
    }
}

/// Gets a permit, waiting in line if it must.
#[inline(always)]
fn poll_permit<'a>(
    gate: &'a Gate,
    line: &mut Option<Completion<Permit>>,
    generation: &mut u32,
    context: &mut Context<'_>,
) -> Poll<Result<Held<'a>, RejectReason>> {
    if line.is_none() {
        *generation = gate.generation();
        if gate.try_take(*generation).is_ok() {
            return Poll::Ready(Ok(Held::Taken(gate, *generation)));
        }
    }
    poll_line(gate, line, *generation, context)
}

#[cold]
fn poll_line<'a>(
    gate: &'a Gate,
    line: &mut Option<Completion<Permit>>,
    generation: u32,
    context: &mut Context<'_>,
) -> Poll<Result<Held<'a>, RejectReason>> {
    if line.is_none() {
        match gate.wait(generation) {
            Ok(Wait::Taken) => return Poll::Ready(Ok(Held::Taken(gate, generation))),
            Ok(Wait::InLine(waiting)) => *line = Some(waiting),
            Err(reason) => return Poll::Ready(Err(reason)),
        }
    }
    let Some(waiting) = line else {
        unreachable!("just set")
    };
    let granted = ready!(Pin::new(waiting).poll(context));
    *line = None;
    Poll::Ready(granted.map(Held::Waited).map_err(|_| RejectReason::Closed))
}

impl<M, H, F, T, E> Future for Execute<'_, M, H, F>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    type Output = Result<T, ExecuteError<M, E>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let gate = *this.gate;
        if this.held.is_none() {
            assert!(
                this.message.is_some(),
                "an execution is not polled after it was ready"
            );
            match ready!(poll_permit(gate, this.line, this.generation, context)) {
                Ok(held) => *this.held = Some(held),
                Err(reason) => {
                    gate.counts.refused();
                    let (work, _) = this.message.take().expect("checked above");
                    return Poll::Ready(Err(Rejected { reason, work }.into()));
                }
            }
        }
        // The value travels apart from the answer, so that nothing large is copied on the way.
        let mut value = None;
        let mut failure = None;
        let step = run_as_handler(&gate.environment, *this.generation, || {
            catch_unwind(AssertUnwindSafe(|| {
                if let Some((envelope, handler)) = this.message.take() {
                    if envelope.is_expired() {
                        failure = Some(Failure::Expired);
                        return Poll::Ready(());
                    }
                    let context = PolicyContext::free(&envelope);
                    this.handler.set(Some(handler(envelope, context)));
                }
                let Some(handler) = this.handler.as_mut().as_pin_mut() else {
                    unreachable!("a permit is held from the start to the end of the handler");
                };
                value = Some(ready!(handler.poll(context)));
                this.handler.set(None);
                Poll::Ready(())
            }))
        });
        match step {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                // What is left of the handler, or its value if its own drop has panicked.
                let left = run_as_handler(&gate.environment, *this.generation, || {
                    catch_unwind(AssertUnwindSafe(|| {
                        this.handler.set(None);
                        value = None;
                    }))
                });
                if let Err(second) = left {
                    std::mem::forget(second);
                }
                failure = Some(panicked(payload));
            }
        }
        // Counted before the permit is given back: whoever is told finds it in the counts.
        let held = this.held.take();
        let outcome = match (value, failure) {
            (Some(value), None) => {
                gate.counts.ended(if value.is_ok() {
                    Ended::VALUE
                } else {
                    Ended::FAILED
                });
                value.map_err(ExecuteError::Handler)
            }
            (_, failure) => {
                let ended: Result<T, Failure<E>> = Err(failure.expect("no value, no failure"));
                gate.counts.ended(Ended::of(&ended));
                ended.map_err(ExecuteError::from)
            }
        };
        drop(held);
        Poll::Ready(outcome)
    }
}

impl<M, H, F> fmt::Debug for Execute<'_, M, H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("executor", &self.gate.environment.name)
            .finish_non_exhaustive()
    }
}
