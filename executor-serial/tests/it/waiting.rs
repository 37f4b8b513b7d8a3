//! Who waits for room in `execute` and `submit_wait`: whose turn it is, and what becomes of those who give up.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use executor_serial::{
    Completion, Envelope, ExecuteError, PolicyContext, RejectReason, SerialExecutor, Shutdown,
    Stream, WorkerCore,
};

use crate::contract::eventually::in_time;
use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

/// An executor whose queues hold `queue` messages each, and `total` together.
fn bounded(core: &WorkerCore, queue: usize, total: usize) -> SerialExecutor<u64> {
    let builder = SerialExecutor::builder(core).queue_per_stream(queue);
    builder.queue_total(total).build().expect("legal options")
}

/// Handlers that note their message when they have passed a gate.
#[derive(Clone)]
struct Noting {
    begun: Gate,
    gate: Gate,
    order: Arc<Mutex<Vec<u64>>>,
}

impl Noting {
    fn new() -> Self {
        Self {
            begun: Gate::new(),
            gate: Gate::new(),
            order: Arc::default(),
        }
    }

    fn handler(
        &self,
    ) -> impl FnOnce(
        Envelope<u64>,
        PolicyContext,
    ) -> Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>
    + Send
    + use<> {
        let this = self.clone();
        move |message, _| {
            Box::pin(async move {
                this.begun.one();
                this.gate.pass().await;
                this.order.lock().expect("whole").push(message.payload);
                Ok(())
            })
        }
    }

    fn handled(&self) -> Vec<u64> {
        self.order.lock().expect("whole").clone()
    }

    /// Starts message 0 on the stream, and queues so many behind it.
    async fn fill(
        &self,
        stream: &Stream<u64>,
        queued: u64,
    ) -> Vec<Completion<(), Infallible, u64>> {
        let submit = |number| {
            let submitted = stream.try_submit(Envelope::new(number), self.handler());
            submitted.expect("room")
        };
        let mut accepted = vec![submit(0)];
        // It has given its places back by then, of its stream and of all.
        self.begun.pass().await;
        accepted.extend((1..=queued).map(submit));
        accepted
    }
}

#[test]
fn executions_in_line_are_queued_in_their_turn_whether_they_are_polled_or_not() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 2, 1_000), Noting::new());
        let stream = executor.stream(&1);
        let accepted = noting.fill(&stream, 2).await;
        let submit = |number| stream.try_submit(Envelope::new(number), noting.handler());
        let execute = |number| Box::pin(stream.execute(Envelope::new(number), noting.handler()));
        let (mut third, mut fourth) = (execute(3), execute(4));
        assert!(is_pending(&mut third).await);
        assert!(is_pending(&mut fourth).await);
        // Two places become free, and are theirs, though nobody polls them.
        noting.gate.one();
        noting.gate.one();
        in_time("two are handled", || noting.handled().len() == 2).await;
        in_time("their places are used", || stream.depth() == 2).await;
        assert_eq!(
            submit(5).expect_err("full").reason,
            RejectReason::Full { limit: 2 }
        );
        noting.gate.one();
        in_time("a third is handled", || noting.handled().len() == 3).await;
        in_time("there is room", || stream.depth() == 1).await;
        let last = submit(5).expect("room");
        noting.gate.open();
        fourth.await.expect("handled");
        third.await.expect("handled");
        last.await.expect("handled");
        drop(accepted);
        assert_eq!(noting.handled(), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn an_execution_that_is_dropped_in_line_takes_its_message_along() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 1, 1_000), Noting::new());
        let stream = executor.stream(&1);
        let accepted = noting.fill(&stream, 1).await;
        let payload = Arc::new(());
        let kept = Arc::clone(&payload);
        let mut dropped = Box::pin(stream.execute(Envelope::new(kept), |_, _| async {
            Ok::<_, Infallible>(())
        }));
        let mut behind = Box::pin(stream.execute(Envelope::new(2), noting.handler()));
        assert!(is_pending(&mut dropped).await);
        assert!(is_pending(&mut behind).await);
        assert_eq!(Arc::strong_count(&payload), 2);
        drop(dropped);
        assert_eq!(Arc::strong_count(&payload), 1, "it is gone with its caller");
        noting.gate.open();
        behind.await.expect("handled");
        for completion in accepted {
            completion.await.expect("handled");
        }
        assert_eq!(noting.handled(), [0, 1, 2]);
    });
}

#[test]
fn with_a_total_bound_the_oldest_who_waits_comes_first_whatever_its_stream() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 10, 1), Noting::new());
        let (hot, other) = (executor.stream(&1), executor.stream(&2));
        let accepted = noting.fill(&hot, 1).await;
        // What runs on its caller needs no place: the other stream is busy too, at a gate of its own.
        let blocking = Noting::new();
        let mut busy = Box::pin(other.execute(Envelope::new(100), blocking.handler()));
        assert!(is_pending(&mut busy).await);
        let mut waiting = Box::pin(other.submit_wait(Envelope::new(2), noting.handler()));
        assert!(is_pending(&mut waiting).await);
        let mut behind: Vec<_> = (3..6)
            .map(|number| Box::pin(hot.submit_wait(Envelope::new(number), noting.handler())))
            .collect();
        for submission in &mut behind {
            assert!(is_pending(submission).await);
        }
        let newcomer = executor.try_submit(3, Envelope::new(6), noting.handler());
        let refused = newcomer.expect_err("others wait for that place");
        assert_eq!(refused.reason, RejectReason::TotalFull { limit: 1 });
        // The hot stream frees one place of all.
        noting.gate.one();
        let waited = waiting.await.expect("the oldest has it");
        noting.gate.open();
        blocking.gate.open();
        for submission in behind {
            submission
                .await
                .expect("in its turn")
                .await
                .expect("handled");
        }
        busy.await.expect("handled");
        waited.await.expect("handled");
        drop(accepted);
    });
}

#[test]
fn a_handler_that_waits_for_room_in_its_own_stream_is_told() {
    run(Host::Threads, |core| async move {
        let executor = bounded(&core, 1, 1_000);
        let inner = executor.clone();
        let handler = move |_: Envelope<()>, _| async move {
            let echo =
                |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
            let queued = inner.try_submit(1, Envelope::new(1), echo);
            assert!(queued.is_ok(), "there is room for one");
            let refused = inner.submit_wait(1, Envelope::new(2), echo).await;
            let refused = refused.expect_err("it would wait for itself");
            Ok::<_, Infallible>((refused.reason, refused.work.payload))
        };
        let executed = executor.execute(1, Envelope::new(()), handler).await;
        let (reason, payload) = executed.expect("handled");
        let RejectReason::WouldDeadlock(chain) = reason else {
            panic!("{reason}")
        };
        assert_eq!((chain.names().len(), payload), (2, 2));
        assert!(executor.drain(DEADLINE).await.is_complete());
    });
}

#[test]
fn all_who_wait_for_room_at_a_shutdown_have_their_messages_back() {
    for mode in [Shutdown::Drain, Shutdown::Abort] {
        run(Host::Threads, |core| async move {
            let (executor, noting) = (bounded(&core, 1, 1_000), Noting::new());
            let stream = executor.stream(&1);
            let accepted = noting.fill(&stream, 1).await;
            let mut executed = Box::pin(stream.execute(Envelope::new(2), noting.handler()));
            let mut submitted = Box::pin(stream.submit_wait(Envelope::new(3), noting.handler()));
            assert!(is_pending(&mut executed).await);
            assert!(is_pending(&mut submitted).await);
            let (blocked, handler) = (executor.clone(), noting.handler());
            let blocking = std::thread::spawn(move || {
                let refused = blocked.submit(1, Envelope::new(4), handler);
                refused.expect_err("closed")
            });
            in_time("all three wait", || executor.metrics().totals.waited == 3).await;
            let turned_away = async {
                let Err(ExecuteError::Rejected(executed)) = executed.await else {
                    panic!("it was not admitted")
                };
                let submitted = submitted.await.expect_err("closed");
                let blocking = blocking.join().expect("no panic");
                for (refused, number) in [(*executed, 2), (submitted, 3), (blocking, 4)] {
                    assert_eq!(
                        (refused.reason, refused.work.payload),
                        (RejectReason::Closed, number)
                    );
                }
                noting.gate.open();
            };
            // The shutdown is polled first.
            let (report, ()) = tokio::join!(executor.shutdown(mode, DEADLINE), turned_away);
            assert!(report.is_complete());
            assert_eq!(executor.metrics().totals.refused, 3);
            drop(accepted);
        });
    }
}

#[test]
fn a_place_that_is_given_up_unused_goes_to_the_next() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 1, 1_000), Noting::new());
        let stream = executor.stream(&1);
        let accepted = noting.fill(&stream, 1).await;
        let mut given_up = Box::pin(stream.submit_wait(Envelope::new(2), noting.handler()));
        let mut next = Box::pin(stream.submit_wait(Envelope::new(3), noting.handler()));
        assert!(is_pending(&mut given_up).await);
        assert!(is_pending(&mut next).await);
        noting.gate.one();
        in_time("the first is handled", || noting.handled() == [0]).await;
        // The place is the first waiter's by now, or soon will be, and it does not come for it.
        let newcomer = || stream.try_submit(Envelope::new(9), noting.handler());
        in_time("it is taken", || newcomer().is_err()).await;
        drop(given_up);
        let next = next.await.expect("it has the place");
        noting.gate.open();
        next.await.expect("handled");
        drop(accepted);
        assert_eq!(noting.handled(), [0, 1, 3]);
    });
}

#[test]
fn who_waits_in_line_comes_before_an_execution_on_the_idle_stream() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 10, 1), Noting::new());
        let (stream, other) = (executor.stream(&1), executor.stream(&2));
        // The one place of all is another stream's, while this one is busy.
        let mut busy = Box::pin(stream.execute(Envelope::new(0), noting.handler()));
        assert!(is_pending(&mut busy).await);
        let blocked = Noting::new();
        let mut elsewhere = Box::pin(other.execute(Envelope::new(0), blocked.handler()));
        assert!(is_pending(&mut elsewhere).await);
        let queued = other.try_submit(Envelope::new(1), blocked.handler());
        let queued = queued.expect("room");
        let mut waiting = Box::pin(stream.execute(Envelope::new(1), noting.handler()));
        assert!(is_pending(&mut waiting).await);
        noting.gate.open();
        busy.await.expect("handled");
        in_time("the stream is idle", || !stream.is_busy()).await;
        let mut later = Box::pin(stream.execute(Envelope::new(2), noting.handler()));
        assert!(is_pending(&mut later).await, "it is behind the one in line");
        blocked.gate.open();
        later.await.expect("handled");
        waiting.await.expect("handled");
        assert_eq!(noting.handled(), [0, 1, 2]);
        elsewhere.await.expect("handled");
        queued.await.expect("handled");
    });
}

#[test]
fn a_handler_may_wait_for_room_that_others_make() {
    run(Host::Threads, |core| async move {
        let (executor, noting) = (bounded(&core, 10, 1), Noting::new());
        let other = executor.stream(&2);
        let mut busy = Box::pin(other.execute(Envelope::new(0), noting.handler()));
        assert!(is_pending(&mut busy).await);
        let queued = other.try_submit(Envelope::new(1), noting.handler());
        let queued = queued.expect("room");
        let inner = executor.clone();
        let handler = move |_: Envelope<()>, _| async move {
            let echo =
                |message: Envelope<u64>, _| async move { Ok::<_, Infallible>(message.payload) };
            Ok::<_, Infallible>(inner.submit_wait(1, Envelope::new(7), echo).await.is_ok())
        };
        let mut waiting = Box::pin(executor.execute(1, Envelope::new(()), handler));
        assert!(is_pending(&mut waiting).await);
        noting.gate.open();
        assert!(
            waiting.await.expect("handled"),
            "the other stream made room"
        );
        busy.await.expect("handled");
        queued.await.expect("handled");
        assert!(executor.drain(DEADLINE).await.is_complete());
    });
}
