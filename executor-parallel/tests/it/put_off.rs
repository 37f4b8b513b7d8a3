//! Permits that are handed on when a batch is done, and who does not wait for that.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Waker};

use executor_parallel::{Envelope, ParallelExecutor, WorkerCore};

use crate::contract::{DEADLINE, Gate, Host, is_pending, run};
use crate::limit::{limited, passing};

/// Holds all workers until the barrier is passed once more, so that one takes all that is submitted meanwhile
/// at once.
async fn hold(core: &WorkerCore) -> Arc<Barrier> {
    let workers = core.metrics().workers;
    let (started, held) = (Gate::new(), Arc::new(Barrier::new(1 + workers)));
    for _ in 0..workers {
        let (started, held) = (started.clone(), Arc::clone(&held));
        let wait = move || {
            started.one();
            held.wait();
        };
        core.spawn_fn_detached(wait).expect("open");
    }
    started.pass_times(workers as u32).await;
    held
}

#[test]
fn who_waits_gets_a_permit_although_who_gave_it_back_is_blocked_by_the_next_message() {
    for host in [Host::Threads, Host::TokioMany] {
        run(host, |core| async move {
            let executor = limited(&core, 16);
            let held = hold(&core).await;
            let (sender, receiver) = mpsc::channel();
            let receiver = Arc::new(Mutex::new(receiver));
            for at in 0..17 {
                let (sender, receiver) = (sender.clone(), Arc::clone(&receiver));
                let handler = move |_, _| async move {
                    if at == 1 {
                        // Until the last has run, which waits for a permit.
                        receiver.lock().expect("whole").recv().expect("it comes");
                    } else if at == 16 {
                        sender.send(()).expect("it is heard");
                    }
                    Ok::<_, Infallible>(())
                };
                executor
                    .submit_detached(Envelope::new(()), handler)
                    .expect("room");
            }
            assert_eq!(executor.metrics().waiting, 1);
            held.wait();
            assert_eq!(executor.drain(DEADLINE).await.still_running, 0);
            assert_eq!(executor.metrics().totals.handled, 17);
        });
    }
}

/// An executor on one worker that a handler blocks until it is told, when two permits are back and one
/// message waits in line for one.
struct Blocked {
    executor: ParallelExecutor,
    go_on: mpsc::Sender<()>,
}

impl Blocked {
    async fn new(core: &WorkerCore, queue: usize) -> Self {
        let executor = ParallelExecutor::builder(core)
            .max_concurrency(16)
            .queue(queue)
            .build()
            .expect("legal options");
        let held = hold(core).await;
        let blocked = Gate::new();
        let (go_on, told) = mpsc::channel();
        let told = Arc::new(Mutex::new(told));
        for at in 0..17 {
            let (blocked, told) = (blocked.clone(), Arc::clone(&told));
            let handler = move |_, _| async move {
                if at == 2 {
                    blocked.one();
                    told.lock().expect("whole").recv().expect("it comes");
                }
                Ok::<_, Infallible>(())
            };
            executor
                .submit_detached(Envelope::new(()), handler)
                .expect("room");
        }
        held.wait();
        blocked.pass().await;
        if !cfg!(executor_tiny) {
            let free = executor.available_permits();
            assert_eq!((free, executor.metrics().waiting), (2, 1), "put off");
        }
        Self { executor, go_on }
    }

    fn lets_a_caller_pass(&self) {
        let mut called = pin!(self.executor.execute(Envelope::new(()), passing));
        // It serves those before it, and then itself.
        let polled = called
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(outcome) = polled else {
            panic!("permits are free for both");
        };
        assert_eq!(outcome.expect("a permit"), ());
    }

    /// Lets the handler go on, and waits until so many are handled.
    async fn ends_with(self, handled: u64) {
        self.go_on.send(()).expect("it waits");
        assert_eq!(self.executor.drain(DEADLINE).await.still_running, 0);
        assert_eq!(self.executor.metrics().totals.handled, handled);
        assert_eq!(self.executor.available_permits(), 16);
    }
}

/// Runs a test on a core of one worker.
fn on_one_worker<F: Future<Output = ()>>(test: impl FnOnce(WorkerCore) -> F) {
    run(Host::TokioOne, |_| async {
        test(WorkerCore::threads(1).build().expect("a thread")).await;
    });
}

#[test]
fn a_caller_behind_messages_gets_a_permit_although_who_gave_it_back_is_blocked() {
    on_one_worker(|core| async move {
        let blocked = Blocked::new(&core, 64).await;
        blocked.lets_a_caller_pass();
        blocked.ends_with(18).await;
    });
}

#[test]
fn a_caller_behind_messages_gets_a_permit_also_while_a_drain_waits_or_was_given_up() {
    on_one_worker(|core| async move {
        let blocked = Blocked::new(&core, 64).await;
        let other = blocked.executor.clone();
        let mut drain = Box::pin(other.drain(DEADLINE));
        assert!(is_pending(&mut drain).await);
        blocked.lets_a_caller_pass();
        drop(drain);
        blocked.ends_with(18).await;
        let blocked = Blocked::new(&core, 64).await;
        assert!(is_pending(&mut Box::pin(blocked.executor.drain(DEADLINE))).await);
        blocked.lets_a_caller_pass();
        blocked.ends_with(18).await;
    });
}

#[test]
fn nobody_is_refused_for_messages_whose_permits_are_free() {
    on_one_worker(|core| async move {
        let blocked = Blocked::new(&core, 1).await;
        let queued = blocked.executor.try_submit(Envelope::new(()), passing);
        assert!(queued.is_ok(), "the place of who waits for a free permit");
        blocked.ends_with(18).await;
        let blocked = Blocked::new(&core, 1).await;
        let taken = blocked.executor.try_execute(Envelope::new(()), passing);
        taken.expect("a permit is free").await.expect("handled");
        blocked.ends_with(18).await;
    });
}
