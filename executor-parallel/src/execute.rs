//! The future of `execute`: the handler's future lives inside it, under a permit.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use executor_core::engine::{Ended, panicked, run_as_handler};
use executor_core::{Completion, Envelope, ExecuteError, Failure, PolicyContext, Rejected};
use pin_project_lite::pin_project;

use crate::gate::{Gate, Permit, Wait};

/// A permit in the hands of a structured execution.
enum Held<'a> {
    /// Taken at once.
    Taken(&'a Gate, u32),
    /// Waited for; its own drop gives it back.
    Waited(
        #[expect(dead_code, reason = "held for its drop")] Permit,
        u32,
    ),
}

impl Held<'_> {
    fn generation(&self) -> u32 {
        let (Self::Taken(_, generation) | Self::Waited(_, generation)) = self;
        *generation
    }
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
    #[project = StageProj]
    enum Stage<'a, M, H, F> {
        // Not polled yet: no permit, no place in line.
        Lazy { start: Option<(Envelope<M>, H)>, held: Option<Held<'a>> },
        InLine { line: Completion<Permit>, start: Option<(Envelope<M>, H)>, generation: u32 },
        // The future is dropped before the permit is given back: fields drop in order.
        Running { #[pin] handler: F, held: Option<Held<'a>>, generation: u32 },
        Over,
    }
}

pin_project! {
    /// A structured execution: dropping it drops the handler and gives the permit back.
    #[must_use = "futures do nothing unless polled"]
    pub struct Execute<'a, M, H, F> {
        gate: &'a Gate,
        #[pin]
        stage: Stage<'a, M, H, F>,
    }
}

impl<'a, M, H, F> Execute<'a, M, H, F> {
    #[inline]
    pub(crate) fn new(gate: &'a Gate, envelope: Envelope<M>, handler: H) -> Self {
        Self {
            gate,
            stage: Stage::Lazy {
                start: Some((envelope, handler)),
                held: None,
            },
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
            gate,
            stage: Stage::Lazy {
                start: Some((envelope, handler)),
                held,
            },
        }
    }
}

impl<M, H, F, T, E> Future for Execute<'_, M, H, F>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    type Output = Result<T, ExecuteError<M, E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let gate = *this.gate;
        loop {
            let (start, held) = match this.stage.as_mut().project() {
                StageProj::Lazy { start, held } => {
                    let (envelope, handler) = start.take().expect("lazy until started");
                    let held = match held.take() {
                        Some(held) => held,
                        None => {
                            let generation = gate.generation();
                            if gate.try_take(generation).is_ok() {
                                Held::Taken(gate, generation)
                            } else {
                                match gate.wait(generation) {
                                    Ok(Wait::Taken) => Held::Taken(gate, generation),
                                    Ok(Wait::InLine(line)) => {
                                        let start = Some((envelope, handler));
                                        this.stage.set(Stage::InLine {
                                            line,
                                            start,
                                            generation,
                                        });
                                        continue;
                                    }
                                    Err(reason) => {
                                        gate.counts.refused();
                                        this.stage.set(Stage::Over);
                                        return Poll::Ready(Err(Rejected {
                                            reason,
                                            work: envelope,
                                        }
                                        .into()));
                                    }
                                }
                            }
                        }
                    };
                    ((envelope, handler), held)
                }
                StageProj::InLine {
                    line,
                    start,
                    generation,
                } => {
                    let granted = ready!(Pin::new(line).poll(context));
                    let start = start.take().expect("in line until started");
                    let generation = *generation;
                    match granted {
                        Ok(permit) => (start, Held::Waited(permit, generation)),
                        Err(_) => {
                            gate.counts.refused();
                            this.stage.set(Stage::Over);
                            let reason = executor_core::RejectReason::Closed;
                            return Poll::Ready(Err(Rejected {
                                reason,
                                work: start.0,
                            }
                            .into()));
                        }
                    }
                }
                StageProj::Running {
                    handler,
                    held,
                    generation,
                } => {
                    let generation = *generation;
                    let polled = run_as_handler(&gate.environment, generation, || {
                        catch_unwind(AssertUnwindSafe(|| handler.poll(context)))
                    });
                    let output = match polled {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(output)) => output.map_err(Failure::Handler),
                        Err(payload) => Err(panicked(payload)),
                    };
                    // The handler's future is dropped, the message counted, the permit given back:
                    // whoever is told that it is over finds it in the counts.
                    let permit = held.take();
                    let dropped = run_as_handler(&gate.environment, generation, || {
                        catch_unwind(AssertUnwindSafe(|| this.stage.set(Stage::Over)))
                    });
                    let output = match dropped {
                        Ok(()) => output,
                        Err(payload) => Err(panicked(payload)),
                    };
                    gate.counts.ended(Ended::of(&output));
                    drop(permit);
                    return Poll::Ready(output.map_err(ExecuteError::from));
                }
                StageProj::Over => panic!("an execution is not polled after it was ready"),
            };
            let (envelope, handler) = start;
            let begun = if envelope.is_expired() {
                Err(Failure::Expired)
            } else {
                let generation = held.generation();
                run_as_handler(&gate.environment, generation, || {
                    catch_unwind(AssertUnwindSafe(|| {
                        let context = PolicyContext::free(&envelope);
                        handler(envelope, context)
                    }))
                })
                .map_err(panicked)
            };
            match begun {
                Ok(handler) => {
                    let generation = held.generation();
                    this.stage.set(Stage::Running {
                        handler,
                        held: Some(held),
                        generation,
                    });
                }
                Err(failure) => {
                    this.stage.set(Stage::Over);
                    let output: Result<T, Failure<E>> = Err(failure);
                    gate.counts.ended(Ended::of(&output));
                    drop(held);
                    return Poll::Ready(output.map_err(ExecuteError::from));
                }
            }
        }
    }
}

impl<M, H, F> fmt::Debug for Execute<'_, M, H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("executor", &self.gate.environment.name)
            .finish_non_exhaustive()
    }
}
