//! The future of `execute`: the handler's future lives inside it, under a permit.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use executor_core::engine::{Ended, InPlace, panicked, run_as_handler};
use executor_core::{Envelope, ExecuteError, Failure, PolicyContext, RejectReason, Rejected};
use pin_project_lite::pin_project;

use crate::gate::{Gate, InLine};

/// What an execution has of its permit between polls.
enum Stage<'a> {
    /// It waits in line.
    InLine(InLine<'a>),
    /// It has it, for a message of this generation.
    Held(&'a Gate, u32),
}

/// The stage, if the execution has one: one that is over in its first poll has none.
struct Place<'a>(Option<Stage<'a>>);

impl Drop for Place<'_> {
    /// A comparison, mostly.
    #[inline]
    fn drop(&mut self) {
        if let Some(stage) = self.0.take() {
            give_up(stage);
        }
    }
}

/// Gives the place in line back or, counted as cancelled, the permit.
#[cold]
#[inline(never)]
fn give_up(stage: Stage<'_>) {
    if let Stage::Held(gate, generation) = stage {
        gate.counts.ended(Ended::CANCELLED);
        gate.give(generation);
    }
}

pin_project! {
    /// A structured execution, of [`ParallelExecutor`](crate::ParallelExecutor): dropping it drops
    /// the handler and gives the permit back.
    #[must_use = "futures do nothing unless polled"]
    pub struct Execute<'a, M, H, F> {
        gate: &'a Gate,
        generation: u32,
        // Until it starts or is handed back.
        message: Option<(Envelope<M>, H)>,
        // From the start to its end. Dropped before the permit is given back: fields drop in order.
        #[pin]
        handler: InPlace<F>,
        place: Place<'a>,
    }
}

impl<'a, M, H, F> Execute<'a, M, H, F> {
    #[inline(always)]
    pub(crate) fn new(gate: &'a Gate, envelope: Envelope<M>, handler: H) -> Self {
        Self {
            gate,
            generation: 0,
            message: Some((envelope, handler)),
            handler: InPlace::empty(),
            place: Place(None),
        }
    }

    /// An execution that has its permit, for `generation`, already.
    #[inline(always)]
    pub(crate) fn admitted(
        gate: &'a Gate,
        generation: u32,
        envelope: Envelope<M>,
        handler: H,
    ) -> Self {
        Self {
            generation,
            place: Place(Some(Stage::Held(gate, generation))),
            ..Self::new(gate, envelope, handler)
        }
    }
}

/// What a poll of the handler led to; a value that it returned travels apart from the answer, so
/// that nothing large is copied on the way.
enum Ran {
    Pending,
    Returned,
    Expired,
}

/// Starts the handler if it was not yet, polls it, and drops it when it is ready.
///
/// `FIRST` makes two of it, each with one caller, into which the optimiser can put it whole.
#[inline(always)]
fn run<const FIRST: bool, M, H, F, T, E>(
    gate: &Gate,
    generation: u32,
    message: &mut Option<(Envelope<M>, H)>,
    mut handler: Pin<&mut InPlace<F>>,
    context: &mut Context<'_>,
    value: &mut Option<Result<T, E>>,
) -> Result<Ran, Box<dyn Any + Send>>
where
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F,
    F: Future<Output = Result<T, E>>,
{
    run_as_handler(&gate.environment, generation, || {
        catch_unwind(AssertUnwindSafe(|| {
            if let Some((envelope, _)) = &*message {
                if envelope.is_expired() {
                    *message = None;
                    return Ran::Expired;
                }
                let own = PolicyContext::free(&gate.environment, envelope);
                // The message is moved only here, into the future.
                handler.as_mut().make(|| {
                    let (envelope, make) = message.take().expect("it is there still");
                    make(envelope, own)
                });
            }
            debug_assert!(!FIRST || handler.is_there(), "the first poll starts it");
            let Poll::Ready(ready) = handler.as_mut().poll(context) else {
                return Ran::Pending;
            };
            *value = Some(ready);
            handler.clear();
            Ran::Returned
        }))
    })
}

impl<'a, M, H, F, T, E> Execute<'a, M, H, F>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    /// A poll that is not the first, or finds no permit.
    #[cold]
    fn poll_slowly(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, ExecuteError<M, E>>> {
        let mut this = self.project();
        let gate = *this.gate;
        if matches!(this.place.0, None | Some(Stage::InLine(_))) {
            assert!(
                this.message.is_some(),
                "an execution is not polled after it was ready"
            );
            match ready!(poll_line(
                gate,
                &mut this.place.0,
                *this.generation,
                context
            )) {
                Ok(()) => this.place.0 = Some(Stage::Held(gate, *this.generation)),
                Err(reason) => {
                    this.place.0 = None;
                    gate.counts.refused();
                    let (work, _) = this.message.take().expect("checked above");
                    return Poll::Ready(Err(Rejected { reason, work }.into()));
                }
            }
        }
        let mut value = None;
        let ran = run::<false, _, _, _, _, _>(
            gate,
            *this.generation,
            this.message,
            this.handler.as_mut(),
            context,
            &mut value,
        );
        if matches!(ran, Ok(Ran::Pending)) {
            return Poll::Pending;
        }
        this.place.0 = None;
        Poll::Ready(end(gate, *this.generation, this.handler, ran, value))
    }
}

/// Gets a permit by way of the line.
fn poll_line<'a>(
    gate: &'a Gate,
    stage: &mut Option<Stage<'a>>,
    generation: u32,
    context: &mut Context<'_>,
) -> Poll<Result<(), RejectReason>> {
    let line_up = || Stage::InLine(InLine::new(gate, generation));
    let Stage::InLine(waiting) = stage.get_or_insert_with(line_up) else {
        unreachable!("who has a permit does not wait for one");
    };
    Pin::new(waiting).poll(context)
}

/// Counts how a handler ended, gives the permit back, and says how it ended.
///
/// Counted first, or both in one: whoever is told finds it in the counts.
fn end<M, F, T, E>(
    gate: &Gate,
    generation: u32,
    mut handler: Pin<&mut InPlace<F>>,
    ran: Result<Ran, Box<dyn Any + Send>>,
    mut value: Option<Result<T, E>>,
) -> Result<T, ExecuteError<M, E>> {
    let failure = match ran {
        Err(payload) => {
            // What is left of the handler, or its value if its own drop has panicked.
            let left = run_as_handler(&gate.environment, generation, || {
                catch_unwind(AssertUnwindSafe(|| {
                    handler.as_mut().clear();
                    value = None;
                }))
            });
            if let Err(second) = left {
                std::mem::forget(second);
            }
            panicked(payload)
        }
        Ok(Ran::Expired) => Failure::Expired,
        Ok(Ran::Pending | Ran::Returned) => {
            match value.expect("a handler that returned left a value") {
                Ok(value) => {
                    gate.give_handled(generation);
                    return Ok(value);
                }
                Err(error) => Failure::Handler(error),
            }
        }
    };
    let ended: Result<T, Failure<E>> = Err(failure);
    gate.counts.ended(Ended::of(&ended));
    gate.give(generation);
    ended.map_err(ExecuteError::from)
}

impl<M, H, F, T, E> Future for Execute<'_, M, H, F>
where
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    type Output = Result<T, ExecuteError<M, E>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let gate = *this.gate;
        let generation = match &this.place.0 {
            None if this.message.is_some() => {
                let generation = gate.generation();
                if !gate.try_take_quickly() {
                    *this.generation = generation;
                    return self.poll_slowly(context);
                }
                generation
            }
            Some(Stage::Held(_, generation)) if this.message.is_some() => {
                let generation = *generation;
                // It is ours until the end of this poll, and has no drop to be run.
                this.place.0 = None;
                generation
            }
            _ => return self.poll_slowly(context),
        };
        let mut value = None;
        let ran = run::<true, _, _, _, _, _>(
            gate,
            generation,
            this.message,
            this.handler,
            context,
            &mut value,
        );
        if let (Ok(Ran::Returned), Some(Ok(_))) = (&ran, &value) {
            gate.give_handled(generation);
            let Some(Ok(value)) = value else {
                unreachable!("just seen")
            };
            return Poll::Ready(Ok(value));
        }
        let this = self.project();
        if let Ok(Ran::Pending) = ran {
            *this.generation = generation;
            this.place.0 = Some(Stage::Held(gate, generation));
            return Poll::Pending;
        }
        Poll::Ready(end(gate, generation, this.handler, ran, value))
    }
}

impl<M, H, F> fmt::Debug for Execute<'_, M, H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("executor", &self.gate.environment.name)
            .finish_non_exhaustive()
    }
}
