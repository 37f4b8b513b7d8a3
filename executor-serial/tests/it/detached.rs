//! Messages whose results nobody wants.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use executor_serial::{Envelope, RejectReason, SerialExecutor, WorkerCore};

use crate::contract::eventually::in_time;
use crate::contract::{DEADLINE, Gate, Host, run};

const HOSTS: [Host; 3] = [Host::Threads, Host::TokioMany, Host::TokioOne];

fn executor(core: &WorkerCore, queue: usize) -> SerialExecutor<u64> {
    SerialExecutor::builder(core)
        .queue_per_stream(queue)
        .build()
        .expect("legal options")
}

#[test]
fn detached_messages_have_their_place_in_the_order() {
    for host in HOSTS {
        run(host, |core| async move {
            let stream = executor(&core, 1_024).stream(&1);
            let order = Arc::new(Mutex::new(Vec::new()));
            let noting = || {
                let order = Arc::clone(&order);
                move |message: Envelope<u32>, _| async move {
                    if message.payload.is_multiple_of(3) {
                        tokio::task::yield_now().await;
                    }
                    order.lock().expect("whole").push(message.payload);
                    Ok::<_, Infallible>(())
                }
            };
            for number in 0..100 {
                let message = Envelope::new(number);
                if number % 2 == 0 {
                    stream.submit_detached(message, noting()).expect("room");
                } else {
                    drop(stream.try_submit(message, noting()).expect("room"));
                }
            }
            let last = stream.try_submit(Envelope::new(100), noting());
            last.expect("room").await.expect("handled");
            let order = order.lock().expect("whole");
            assert_eq!(*order, (0..=100).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_drain_counts_every_detached_message_however_it_ended() {
    for host in HOSTS {
        run(host, |core| async move {
            let executor = executor(&core, 1_024);
            for number in 0..300_u32 {
                let handler = move |_: Envelope<()>, _| async move {
                    match number % 3 {
                        0 => Ok(number),
                        1 => Err("no"),
                        _ => panic!("not this one"),
                    }
                };
                let key = u64::from(number % 7);
                let submitted = executor.submit_detached(key, Envelope::new(()), handler);
                submitted.expect("room");
            }
            let report = executor.drain(DEADLINE).await;
            assert_eq!(report.still_running, 0);
            let totals = executor.metrics().totals;
            let counts = (totals.handled, totals.failed, totals.panicked);
            assert_eq!((counts, totals.finished()), ((100, 100, 100), 300));
        });
    }
}

#[test]
fn places_are_exact_whenever_the_stream_waits() {
    run(Host::Threads, |core| async move {
        // Wide enough for an owner to give places back some at a time.
        let stream = executor(&core, 2_048).stream(&1);
        let (started, gate) = (Gate::new(), Gate::new());
        let waiting = || {
            let (started, gate) = (started.clone(), gate.clone());
            move |_: Envelope<u32>, _| async move {
                started.one();
                gate.pass().await;
                Ok::<_, Infallible>(())
            }
        };
        let ready = |_: Envelope<u32>, _| async { Ok::<_, Infallible>(()) };
        // Five that are ready lie between two that wait, so that not all places are told at once.
        stream
            .submit_detached(Envelope::new(0), waiting())
            .expect("room");
        started.pass().await;
        for number in 1..=5 {
            stream
                .submit_detached(Envelope::new(number), ready)
                .expect("room");
        }
        stream
            .submit_detached(Envelope::new(6), waiting())
            .expect("room");
        for number in 0..2_042 {
            stream
                .submit_detached(Envelope::new(number), ready)
                .expect("room");
        }
        assert_eq!(stream.depth(), 2_048);
        let full = stream.submit_detached(Envelope::new(7), ready);
        let refused = full.expect_err("a runtime's thread must not wait");
        assert_eq!(
            (refused.reason, refused.work.payload),
            (RejectReason::Full { limit: 2_048 }, 7)
        );
        gate.one();
        started.pass().await;
        // It waits, and before it did the owner has told of the five and of it.
        in_time("its stream is parked", || stream.depth() == 2_042).await;
        assert_eq!(stream.handled(), 6);
        gate.open();
    });
}

#[test]
fn who_has_an_outcome_finds_what_was_detached_before_it_counted() {
    for host in HOSTS {
        run(host, |core| async move {
            let stream = executor(&core, 1_024).stream(&1);
            let ready = |_: Envelope<()>, _| async { Ok::<_, Infallible>(()) };
            for round in 1..=20 {
                for _ in 0..49 {
                    let submitted = stream.submit_detached(Envelope::new(()), ready);
                    submitted.expect("room");
                }
                let last = stream.try_submit(Envelope::new(()), ready);
                last.expect("room").await.expect("handled");
                assert_eq!(stream.handled(), 50 * round);
            }
        });
    }
}
