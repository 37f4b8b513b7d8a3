//! Operations in any order, against models of the two executors that one thread follows.
//!
//! After each operation the executor has come to rest: what is ready was handled, and what waits does so
//! for the test. So the model knows who runs, who is queued and who is in line, and what each operation
//! must give.

mod parallel;
mod serial;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use executor_core::{
    Completion, Delayed, ExecuteError, Failure, RejectReason, Report, Shutdown, Totals,
    VirtualClock, WorkerCore,
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::strategy::Just;

use crate::parallel::Parallel;
use crate::serial::Serial;

/// No step takes longer.
const DEADLINE: Duration = Duration::from_secs(10);
const KEYS: u64 = 3;
/// How many messages of a stream, or of the parallel executor, may wait.
const ROOM: usize = 2;
const TICK: Duration = Duration::from_millis(1);

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        thread::yield_now();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let late = Instant::now() + DEADLINE;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(DEADLINE),
        }
        assert!(Instant::now() < late, "waited too long");
    }
}

/// What a handler waits for.
#[derive(Default)]
struct Door {
    open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Door {
    fn open(&self) {
        let mut wakers = self.wakers.lock().expect("whole");
        self.open.store(true, Ordering::SeqCst);
        let woken = std::mem::take(&mut *wakers);
        drop(wakers);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Keeps no waker when it is ready: one that outlives its message would keep the stream resident.
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut wakers = self.wakers.lock().expect("whole");
        if self.open.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Value(u64),
    Cancelled,
    Aborted,
    /// It went with the future of its caller.
    Dropped,
}

fn end_of(outcome: Result<u64, Failure>) -> End {
    match outcome {
        Ok(value) => End::Value(value),
        Err(Failure::Cancelled) => End::Cancelled,
        Err(Failure::Aborted) => End::Aborted,
        Err(other) => panic!("{other:?}"),
    }
}

type Later = Delayed<u64, Infallible, u64>;
type Now = Completion<u64, Infallible, u64>;
type Ending = Pin<Box<dyn Future<Output = Report>>>;
type Handling = Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;
type Execution = Pin<Box<dyn Future<Output = Result<u64, ExecuteError<u64, Infallible>>>>>;

/// The caller's end of a message.
enum Held {
    Now(Now),
    Later(Later),
    Execution(Execution),
    Gone,
}

impl Held {
    fn poll(&mut self) -> Option<End> {
        let mut context = Context::from_waker(Waker::noop());
        let polled = match self {
            Self::Now(completion) => Pin::new(completion).poll(&mut context).map(end_of),
            Self::Later(delayed) => Pin::new(delayed).poll(&mut context).map(end_of),
            Self::Execution(execution) => {
                execution
                    .as_mut()
                    .poll(&mut context)
                    .map(|outcome| match outcome {
                        Ok(value) => End::Value(value),
                        Err(ExecuteError::Aborted) => End::Aborted,
                        Err(ExecuteError::Rejected(rejected)) => {
                            assert_eq!(rejected.reason, RejectReason::Closed);
                            End::Dropped
                        }
                        Err(other) => panic!("{other:?}"),
                    })
            }
            Self::Gone => return None,
        };
        match polled {
            Poll::Ready(end) => {
                *self = Self::Gone;
                Some(end)
            }
            Poll::Pending => None,
        }
    }

    /// Cancels what can be cancelled; true: it will never run.
    fn cancel(&mut self, id: u64) -> bool {
        let (back, rest) = match std::mem::replace(self, Self::Gone) {
            Self::Now(completion) => match completion.cancel() {
                Ok(message) => (Some(message), Self::Gone),
                Err(completion) => (None, Self::Now(completion)),
            },
            Self::Later(delayed) => match delayed.recover() {
                Ok(message) => (Some(message), Self::Gone),
                Err(delayed) => (None, Self::Later(delayed)),
            },
            other => (None, other),
        };
        *self = rest;
        back.is_some_and(|message| {
            assert_eq!(message.payload, id, "another message came back");
            true
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Timer(u64),
    /// Its time has come, and there is no room.
    Line,
    Queued,
    Running,
    Over(End),
}

/// A message, as the model knows it.
struct Message {
    key: u64,
    waits: bool,
    door: Arc<Door>,
    place: Place,
    /// Whether it runs in the future of its caller.
    structured: bool,
    held: Held,
}

/// What is done.
#[derive(Debug, Clone)]
enum Op {
    Submit { key: u64, waits: bool },
    Batch { key: u64, waits: Vec<bool> },
    Execute { key: u64, waits: bool },
    Delay { key: u64, waits: bool, ticks: u64 },
    Drop(prop::sample::Index),
    Cancel(prop::sample::Index),
    Open(prop::sample::Index),
    Advance(u64),
    Evict,
    Limit(usize),
    Drain,
    Shutdown(Shutdown),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let any_index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (key(), any::<bool>()).prop_map(|(key, waits)| Op::Submit { key, waits }),
        2 => (key(), prop::collection::vec(any::<bool>(), 0..5))
            .prop_map(|(key, waits)| Op::Batch { key, waits }),
        5 => (key(), any::<bool>()).prop_map(|(key, waits)| Op::Execute { key, waits }),
        4 => (key(), any::<bool>(), 0..4_u64)
            .prop_map(|(key, waits, ticks)| Op::Delay { key, waits, ticks }),
        2 => any_index().prop_map(Op::Drop),
        3 => any_index().prop_map(Op::Cancel),
        6 => any_index().prop_map(Op::Open),
        3 => (0..4_u64).prop_map(Op::Advance),
        2 => Just(Op::Evict),
        1 => (1..4_usize).prop_map(Op::Limit),
        1 => Just(Op::Drain),
    ]
}

/// Operations, and at some point of them a shutdown.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let mode = prop_oneof![Just(Shutdown::Drain), Just(Shutdown::Abort)];
    (
        prop::collection::vec(op(), 1..60),
        any::<prop::sample::Index>(),
        mode,
    )
        .prop_map(|(mut ops, at, mode)| {
            ops.insert(at.index(ops.len() + 1), Op::Shutdown(mode));
            ops
        })
}

/// What the two rigs have in common.
struct Common {
    clock: VirtualClock,
    core: WorkerCore,
    /// The tick that the clock shows.
    now: u64,
    messages: Vec<Message>,
    /// Which handlers were started, in order.
    started: Arc<Mutex<Vec<u64>>>,
    closed: Option<Shutdown>,
    refused: u64,
    ending: Option<Ending>,
}

impl Common {
    fn new() -> Self {
        let clock = VirtualClock::new();
        let core = WorkerCore::threads(2).tick(TICK).clock(&clock).build();
        Self {
            core: core.expect("threads start"),
            clock,
            now: 0,
            messages: Vec::new(),
            started: Arc::default(),
            closed: None,
            refused: 0,
            ending: None,
        }
    }

    fn next_id(&self) -> u64 {
        self.messages.len() as u64
    }

    fn note(&mut self, key: u64, waits: bool, door: Arc<Door>, place: Place, held: Held) -> u64 {
        let id = self.next_id();
        self.messages.push(Message {
            key,
            waits,
            door,
            place,
            structured: false,
            held,
        });
        id
    }

    fn at(&mut self, id: u64) -> &mut Message {
        &mut self.messages[usize::try_from(id).expect("small")]
    }

    /// One of those messages of which `which` holds.
    fn choose(&self, index: &prop::sample::Index, which: impl Fn(&Message) -> bool) -> Option<u64> {
        let all: Vec<_> = (0..)
            .zip(&self.messages)
            .filter(|(_, message)| which(message))
            .collect();
        (!all.is_empty()).then(|| all[index.index(all.len())].0)
    }

    /// The timers that are due, in the order of their times and of the calls.
    fn due(&self) -> Vec<u64> {
        let mut due: Vec<_> = (0..)
            .zip(&self.messages)
            .filter_map(|(id, message)| match message.place {
                Place::Timer(tick) if tick <= self.now => Some((tick, id)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn advance(&mut self, ticks: u64) {
        self.now += ticks;
        self.clock
            .advance(TICK * u32::try_from(ticks).expect("small"));
    }

    /// Waits until everybody was told what the model says.
    fn settle_outcomes(&mut self) {
        for (id, message) in self.messages.iter_mut().enumerate() {
            match message.place {
                Place::Over(expected) if !matches!(message.held, Held::Gone) => {
                    let mut seen = None;
                    eventually("an outcome", || {
                        seen = message.held.poll();
                        seen.is_some()
                    });
                    assert_eq!(seen, Some(expected), "the outcome of {id}");
                }
                Place::Over(_) => {}
                _ => assert_eq!(message.held.poll(), None, "{id} is not over"),
            }
        }
    }

    fn cancel(&mut self, index: &prop::sample::Index) {
        let which = |message: &Message| matches!(message.held, Held::Now(_) | Held::Later(_));
        let Some(id) = self.choose(index, which) else {
            return;
        };
        let message = self.at(id);
        let is_waiting = matches!(message.place, Place::Timer(_) | Place::Line | Place::Queued);
        let cancelled = message.held.cancel(id);
        assert_eq!(cancelled, is_waiting, "{:?}", message.place);
        if is_waiting {
            message.place = Place::Over(End::Cancelled);
        }
    }

    /// Lets a handler that waits end.
    fn open(&mut self, index: &prop::sample::Index) {
        if let Some(id) = self.choose(index, |message| message.place == Place::Running) {
            self.at(id).door.open();
        }
    }

    /// Begins a shutdown, which ends what was not admitted yet.
    fn begin_shutdown(&mut self, mode: Shutdown, ending: impl Future<Output = Report> + 'static) {
        let mut ending: Ending = Box::pin(ending);
        let polled = ending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            self.ending = Some(ending);
        }
        self.closed = Some(mode);
        for message in &mut self.messages {
            if matches!(message.place, Place::Timer(_) | Place::Line) {
                message.place = Place::Over(End::Aborted);
            }
        }
    }

    /// Whether all ends, and all counts.
    fn finish(&mut self, totals: &Totals) {
        if let Some(ending) = self.ending.take() {
            let report = block_on(ending);
            assert!(report.is_complete(), "{report:?}");
        }
        assert_eq!(
            totals.handled,
            self.ends(|end| matches!(end, End::Value(_)))
        );
        assert_eq!(totals.cancelled, self.ends(|end| end == End::Cancelled));
        assert_eq!(totals.aborted, self.ends(|end| end == End::Aborted));
        assert_eq!(totals.refused, self.refused);
        let report = block_on(self.core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(report.is_complete(), "{report:?}");
    }

    fn ends(&self, which: impl Fn(End) -> bool) -> u64 {
        let over = |message: &&Message| matches!(message.place, Place::Over(end) if which(end));
        self.messages.iter().filter(over).count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each step of a shrink may wait for what does not come.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_serial_executor_does_what_its_model_does(ops in ops()) {
        let mut serial = Serial::new();
        for op in &ops {
            serial.play(op);
        }
        serial.finish();
    }

    #[test]
    fn a_parallel_executor_does_what_its_model_does(ops in ops()) {
        let mut parallel = Parallel::new();
        for op in &ops {
            parallel.play(op);
        }
        parallel.finish();
    }
}
