//! The handler of a scenario: a future written by hand, so that each of its steps can panic.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use executor_core::{Envelope, PolicyContext};

use crate::axes::Site;
use crate::tracked::{Ledger, Tracked, blow, defuse};

/// What the test and the handler share.
#[derive(Debug)]
pub(crate) struct Stage {
    site: Site,
    /// Whether the handler waits until it is let through.
    waits: bool,
    ledger: Ledger,
    open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    /// Handlers that wait.
    reached: AtomicUsize,
    starts: AtomicUsize,
    first_poll: Mutex<Option<ThreadId>>,
}

impl Stage {
    pub(crate) fn new(site: Site, waits: bool, ledger: &Ledger) -> Arc<Self> {
        Arc::new(Self {
            site,
            waits,
            ledger: ledger.clone(),
            open: AtomicBool::new(false),
            wakers: Mutex::default(),
            reached: AtomicUsize::new(0),
            starts: AtomicUsize::new(0),
            first_poll: Mutex::default(),
        })
    }

    /// A message for the handler.
    pub(crate) fn message(&self) -> Envelope<Tracked> {
        Envelope::new(self.ledger.value(self.site == Site::MessageDrop))
    }

    /// The handler.
    pub(crate) fn handler<S: State>(
        self: &Arc<Self>,
    ) -> impl FnOnce(Envelope<Tracked>, PolicyContext<S>) -> Script<S> + Clone + Send + 'static
    {
        let stage = Arc::clone(self);
        let captured = self.ledger.value(false);
        move |message, context| {
            stage.starts.fetch_add(1, Ordering::SeqCst);
            captured.look();
            if stage.site == Site::Making {
                blow();
            }
            let held = stage.ledger.value(stage.site == Site::FutureDrop);
            Script {
                message,
                context,
                held,
                stage,
                polls: 0,
            }
        }
    }

    /// Lets the handler through, now or when it comes.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *self.wakers.lock().expect("whole"));
        // A structured execution hands the test's own wakers through, which may panic.
        for waker in wakers {
            defuse(|| waker.wake());
        }
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::SeqCst)
    }

    pub(crate) fn first_poll(&self) -> Option<ThreadId> {
        *self.first_poll.lock().expect("whole")
    }

    fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        if !self.open.load(Ordering::SeqCst) {
            let waker = context.waker().clone();
            self.wakers.lock().expect("whole").push(waker);
            // Whoever opens looks for wakers after it has opened.
            if !self.open.load(Ordering::SeqCst) {
                // At last: whoever waits for this lets the handler through in a later poll, not in this one.
                self.reached.fetch_add(1, Ordering::SeqCst);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

/// What a stream keeps.
pub(crate) trait State: Send + Sized + 'static {
    /// Looks at the state that a handler was given.
    fn look(context: &mut PolicyContext<Self>);
}

impl State for () {
    fn look(_: &mut PolicyContext<Self>) {}
}

impl State for Tracked {
    fn look(context: &mut PolicyContext<Self>) {
        context.state().look();
    }
}

/// The handler's future.
#[derive(Debug)]
pub(crate) struct Script<S> {
    message: Envelope<Tracked>,
    context: PolicyContext<S>,
    held: Tracked,
    stage: Arc<Stage>,
    polls: u32,
}

impl<S: State> Future for Script<S> {
    type Output = Result<Tracked, Tracked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.polls += 1;
        this.message.payload.look();
        this.held.look();
        S::look(&mut this.context);
        let stage = &*this.stage;
        if this.polls == 1 {
            *stage.first_poll.lock().expect("whole") = Some(thread::current().id());
            match stage.site {
                Site::FirstPoll => blow(),
                Site::PayloadDrop => resume_unwind(Box::new(stage.ledger.value(true))),
                Site::Unwinding => {
                    let _twice = Twice;
                    blow();
                }
                _ => {}
            }
        } else if stage.site == Site::LaterPoll {
            blow();
        }
        if stage.waits && stage.poll_open(context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(stage.ledger.value(stage.site == Site::OutputDrop)))
    }
}

/// Panics when dropped, whatever unwinds.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        blow();
    }
}
