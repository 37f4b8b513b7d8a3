//! Messages, captures of handlers and outputs of many sizes and alignments, on both executors.
//!
//! Every value is looked at wherever it arrives, and when it is dropped; at the end as many were
//! dropped as were made.

#![no_main]

use std::fmt;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use executor_core::{
    Envelope, ExecuteError, Failure, Panic, PolicyContext, RejectReason, Shutdown, Submission,
    WorkerCore,
};
use executor_parallel::ParallelExecutor;
use executor_scenarios::{DEADLINE, block_on, eventually};
use executor_serial::SerialExecutor;
use libfuzzer_sys::fuzz_target;

/// More messages find no more.
const MOST: usize = 64;

static ALIVE: AtomicI64 = AtomicI64::new(0);

/// A value of `N` bytes, rounded up to the alignment of `A`.
struct Value<A, const N: usize> {
    _aligned: [A; 0],
    bytes: [u8; N],
}

trait Shape: Send + 'static {
    fn new(seed: u8) -> Self;
    fn check(&self, seed: u8);
}

impl<A: Send + 'static, const N: usize> Shape for Value<A, N> {
    fn new(seed: u8) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self {
            _aligned: [],
            bytes: pattern(seed),
        }
    }

    fn check(&self, seed: u8) {
        // The compiler believes in alignments, unless it cannot see where the address is from.
        let address = black_box(&raw const *self).addr();
        assert_eq!(address % align_of::<Self>(), 0, "{self:?} is not aligned");
        assert!(self.bytes == pattern(seed), "{self:?} has changed");
    }
}

impl<A, const N: usize> Drop for Value<A, N> {
    fn drop(&mut self) {
        if let Some(&seed) = self.bytes.first() {
            assert!(self.bytes == pattern(seed), "{self:?} has changed");
        }
        self.bytes.fill_with(Default::default);
        black_box(&self.bytes);
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<A, const N: usize> fmt::Debug for Value<A, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {N} bytes aligned to {}", align_of::<A>())
    }
}

/// Bytes that begin with `seed`; not those of a dropped value, unless there is only one.
fn pattern<const N: usize>(seed: u8) -> [u8; N] {
    std::array::from_fn(|at| seed.wrapping_add((at as u8).wrapping_mul(7)))
}

#[repr(align(16))]
struct A16;
#[repr(align(32))]
struct A32;
#[repr(align(64))]
struct A64;
#[repr(align(128))]
struct A128;

#[derive(Clone, Copy)]
enum Route {
    SerialSubmit,
    SerialExecute,
    ParallelSubmit,
    ParallelExecute,
}

/// What the handler gives.
#[derive(Clone, Copy)]
enum Way {
    Value,
    Error,
    Panic,
}

#[derive(Clone, Copy)]
struct Plan {
    route: Route,
    way: Way,
    seed: u8,
    /// How often the handler yields, with all its values in it.
    yields: u8,
    /// Whether nobody waits for the outcome.
    is_dropped: bool,
    /// Whether the outcome waits until the end.
    is_late: bool,
}

impl Plan {
    fn read(seed: u8, how: u8) -> Self {
        Self {
            route: match how & 3 {
                0 => Route::SerialSubmit,
                1 => Route::SerialExecute,
                2 => Route::ParallelSubmit,
                _ => Route::ParallelExecute,
            },
            way: match how >> 2 & 3 {
                0 | 1 => Way::Value,
                2 => Way::Error,
                _ => Way::Panic,
            },
            seed,
            yields: how >> 4 & 1,
            is_dropped: how >> 5 & 3 == 1,
            is_late: how >> 5 & 3 == 2,
        }
    }

    fn message(&self) -> u8 {
        self.seed
    }

    fn capture(&self) -> u8 {
        self.seed.wrapping_add(85)
    }

    fn output(&self) -> u8 {
        self.seed.wrapping_add(170)
    }

    fn see<O: Shape>(&self, outcome: Result<O, Failure<O>>) {
        match (self.way, outcome) {
            (Way::Value, Ok(output)) | (Way::Error, Err(Failure::Handler(output))) => {
                output.check(self.output());
            }
            (Way::Panic, Err(Failure::Panicked(panic))) => self.see_payload::<O>(panic),
            _ => panic!("it ended in another way"),
        }
    }

    fn see_executed<M: Shape, O: Shape>(
        &self,
        outcome: Result<O, ExecuteError<M, O>>,
        is_open: bool,
    ) {
        match (self.way, outcome) {
            (_, Err(ExecuteError::Rejected(rejected))) => {
                assert!(!is_open && rejected.reason == RejectReason::Closed);
                rejected.work.payload.check(self.message());
            }
            (Way::Value, Ok(output)) | (Way::Error, Err(ExecuteError::Handler(output))) => {
                output.check(self.output());
            }
            (Way::Panic, Err(ExecuteError::Panicked(panic))) => self.see_payload::<O>(panic),
            _ => panic!("it ended in another way"),
        }
    }

    fn see_payload<O: Shape>(&self, panic: Panic) {
        let payload = panic.into_payload().downcast::<O>();
        payload.expect("what it panicked with").check(self.output());
    }
}

struct Rig {
    core: WorkerCore,
    serial: SerialExecutor<u8>,
    parallel: ParallelExecutor,
    is_open: bool,
    /// Looks at outcomes that wait until the end.
    late: Vec<Box<dyn FnOnce()>>,
}

impl Rig {
    fn new() -> Self {
        let core = WorkerCore::threads(2).build().expect("threads start");
        Self {
            serial: SerialExecutor::builder(&core).build().expect("legal"),
            parallel: ParallelExecutor::builder(&core).build().expect("legal"),
            core,
            is_open: true,
            late: Vec::new(),
        }
    }

    /// A message `M`, whose handler captures `C`, and makes `O` of both.
    fn play<M: Shape, C: Shape, O: Shape>(&mut self, plan: Plan) {
        let key = plan.seed % 3;
        let envelope = Envelope::new(M::new(plan.message()));
        let capture = C::new(plan.capture());
        let handler = move |envelope: Envelope<M>, _: PolicyContext<()>| {
            capture.check(plan.capture());
            async move {
                envelope.payload.check(plan.message());
                yield_now(plan.yields).await;
                envelope.payload.check(plan.message());
                capture.check(plan.capture());
                let output = O::new(plan.output());
                match plan.way {
                    Way::Value => Ok(output),
                    Way::Error => Err(output),
                    Way::Panic => resume_unwind(Box::new(output)),
                }
            }
        };
        match plan.route {
            Route::SerialSubmit => {
                let submitted = self.serial.submit(key, envelope, handler);
                self.keep(plan, submitted);
            }
            Route::ParallelSubmit => {
                let submitted = self.parallel.submit(envelope, handler);
                self.keep(plan, submitted);
            }
            Route::SerialExecute => {
                let mut execution = pin!(self.serial.execute(key, envelope, handler));
                if plan.is_dropped {
                    drop_polled(execution.as_mut());
                } else {
                    plan.see_executed(block_on(execution), self.is_open);
                }
            }
            Route::ParallelExecute => {
                let mut execution = pin!(self.parallel.execute(envelope, handler));
                if plan.is_dropped {
                    drop_polled(execution.as_mut());
                } else {
                    plan.see_executed(block_on(execution), self.is_open);
                }
            }
        }
    }

    fn keep<M: Shape, O: Shape>(&mut self, plan: Plan, submitted: Submission<O, O, M>) {
        match submitted {
            Ok(completion) => {
                assert!(self.is_open, "it was admitted after the shutdown");
                let see = move || plan.see::<O>(completion.wait());
                if plan.is_late {
                    self.late.push(Box::new(see));
                } else if !plan.is_dropped {
                    see();
                }
            }
            Err(rejected) => {
                assert!(!self.is_open && rejected.reason == RejectReason::Closed);
                rejected.work.payload.check(plan.message());
            }
        }
    }

    fn close(&mut self) {
        let mut reports = [
            block_on(self.serial.shutdown(Shutdown::Drain, DEADLINE)),
            block_on(self.parallel.shutdown(Shutdown::Drain, DEADLINE)),
        ]
        .into_iter();
        assert!(reports.all(|report| report.is_complete()));
        self.is_open = false;
    }

    fn finish(mut self) {
        self.close();
        self.late.into_iter().for_each(|see| see());
        let report = block_on(self.core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(report.is_complete(), "{report:?}");
        drop((self.serial, self.parallel, self.core));
        eventually("every value is dropped, once", || {
            ALIVE.load(Ordering::SeqCst) == 0
        });
    }
}

/// Polls a future, which is dropped then, where it is or at the end of its message.
fn drop_polled(future: Pin<&mut impl Future>) {
    let _ = future.poll(&mut Context::from_waker(Waker::noop()));
}

async fn yield_now(times: u8) {
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Play = fn(&mut Rig, Plan);

/// For each message, each capture with the output in the same place; and the outputs turned by one for
/// the next message. So any two of message, capture and output meet with each type of both, in a
/// hundred functions instead of a thousand.
macro_rules! plays {
    ($plays:ident; $types:tt) => {
        plays!($plays; $types; $types; $types)
    };
    ($plays:ident; []; $captures:tt; $outputs:tt) => {};
    ($plays:ident; [$message:ident $($messages:ident)*]; $captures:tt; [$output:ident $($outputs:ident)*]) => {
        plays!(@row $plays; $message; $captures; [$output $($outputs)*]);
        plays!($plays; [$($messages)*]; $captures; [$($outputs)* $output]);
    };
    (@row $plays:ident; $message:ident; [$($capture:ident)*]; [$($output:ident)*]) => {
        $plays.extend([$(Rig::play::<$message, $capture, $output> as Play),*]);
    };
}

type Empty = Value<u8, 0>;
type EmptyWide = Value<A128, 0>;
type Byte = Value<u8, 1>;
type Odd = Value<u16, 3>;
type Words = Value<u64, 24>;
type Pairs = Value<A16, 48>;
type AlmostTwoLines = Value<u8, 127>;
type Lines = Value<A64, 192>;
type PastHalf = Value<u32, 513>;
type LargestBlock = Value<A32, 1_024>;
type Oversized = Value<A128, 4_096>;

static PLAYS: LazyLock<Vec<Play>> = LazyLock::new(|| {
    let mut plays: Vec<Play> = Vec::new();
    plays!(plays; [
        Empty EmptyWide Byte Odd Words Pairs AlmostTwoLines Lines PastHalf LargestBlock Oversized
    ]);
    plays
});

fuzz_target!(|bytes: &[u8]| {
    let mut rig = Rig::new();
    for &[which, how, seed] in bytes.as_chunks().0.iter().take(MOST) {
        if how == u8::MAX {
            rig.close();
        }
        PLAYS[usize::from(which) % PLAYS.len()](&mut rig, Plan::read(seed, how));
    }
    rig.finish();
});
