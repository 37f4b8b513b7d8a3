//! Handlers that call their own executor, and where handlers run.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use executor_serial::{
    Envelope, ExecuteError, PolicyContext, RejectReason, SerialExecutor, Stream,
};

use crate::begun::Begun;
use crate::contract::eventually::in_time;
use crate::contract::{DEADLINE, Gate, Host, is_pending, run};

const DEPTH: usize = executor_core::INLINE_DEPTH as usize;

type Chain = Pin<Box<dyn Future<Output = Result<Option<Vec<String>>, Infallible>> + Send>>;

/// Executes on each of `keys` inside the one before, and gives the chain of a refusal.
fn nest(executor: SerialExecutor<u64>, mut keys: Vec<u64>) -> Chain {
    Box::pin(async move {
        if keys.is_empty() {
            return Ok(None);
        }
        let key = keys.remove(0);
        let inner = executor.clone();
        match executor
            .execute(key, Envelope::new(()), move |_, _| nest(inner, keys))
            .await
        {
            Ok(chain) => Ok(chain),
            Err(ExecuteError::Rejected(rejected)) => match rejected.reason {
                RejectReason::WouldDeadlock(chain) => Ok(Some(chain.names().to_vec())),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        }
    })
}

#[test]
fn waiting_for_oneself_is_refused_with_the_chain() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            for inline in [true, false] {
                let executor: SerialExecutor<u64> = SerialExecutor::builder(&core)
                    .inline(inline)
                    .key_names(|key: &u64| format!("s{key}"))
                    .build()
                    .expect("legal");
                let chain = |keys: &[u64]| nest(executor.clone(), keys.to_vec());
                assert_eq!(
                    chain(&[1, 1]).await,
                    Ok(Some(vec!["serial/s1".into(), "serial/s1".into()]))
                );
                let names = ["serial/s1", "serial/s2", "serial/s1"]
                    .map(String::from)
                    .to_vec();
                assert_eq!(chain(&[1, 2, 1]).await, Ok(Some(names)), "inline: {inline}");
                assert_eq!(chain(&[1, 2, 3, 4]).await, Ok(None));
                assert!(executor.drain(DEADLINE).await.is_complete());
            }
        });
    }
}

#[test]
fn a_call_back_is_refused_while_the_first_poll_of_the_caller_goes_on() {
    // 1 runs 2 on this thread, 2 waits for 3 on a worker, and 3 calls 1 before 2 was polled to an end.
    run(Host::Threads, |core| async move {
        let near: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let far = SerialExecutor::builder(&core).inline(false).build();
        let far: SerialExecutor<u64> = far.expect("legal");
        let (tell, told) = channel();
        let (back, middle) = (near.clone(), near.clone());
        let third = move |_: Envelope<()>, _| async move {
            let call = back.execute(1, Envelope::new(()), |_, _| async {
                Ok::<_, Infallible>(())
            });
            let refused = match call.await {
                Err(ExecuteError::Rejected(rejected)) => Some(rejected.reason),
                _ => None,
            };
            tell.send(refused).expect("somebody waits");
            Ok::<_, Infallible>(())
        };
        let second = move |_: Envelope<()>, _| async move {
            let third = Begun::new(far.execute(3, Envelope::new(()), third)).await;
            // Blocks this poll until 3 knows whether it may wait.
            let refused = told.recv_timeout(DEADLINE).expect("3 has its answer");
            third.end().await.expect("handled");
            Ok::<_, Infallible>(refused)
        };
        let first = move |_: Envelope<()>, _| async move {
            let second = middle.execute(2, Envelope::new(()), second).await;
            Ok::<_, Infallible>(second.expect("handled"))
        };
        let refused = near.execute(1, Envelope::new(()), first).await;
        let refused = refused.expect("handled");
        assert!(
            matches!(refused, Some(RejectReason::WouldDeadlock(_))),
            "{refused:?}"
        );
    });
}

#[test]
fn a_factory_that_calls_elsewhere_keeps_no_stream() {
    // 1 runs 2 on this thread, and the factory of 2 begins to wait for 3, on a worker.
    run(Host::Threads, |core| async move {
        let far = SerialExecutor::builder(&core).inline(false).build();
        let far: SerialExecutor<u64> = far.expect("legal");
        let near = SerialExecutor::builder(&core)
            .state(move |key: &u64| {
                if *key == 2 {
                    let third = |_: Envelope<()>, _| async { Ok::<_, Infallible>(()) };
                    let mut call = pin!(far.execute(3, Envelope::new(()), third));
                    let mut context = Context::from_waker(Waker::noop());
                    let _called = call.as_mut().poll(&mut context);
                }
                *key
            })
            .build();
        let near: SerialExecutor<u64, u64> = near.expect("legal");
        let inner = near.clone();
        let first = move |_: Envelope<()>, _| async move {
            let second = |_: Envelope<()>, mut context: PolicyContext<u64>| async move {
                Ok::<_, Infallible>(*context.state())
            };
            let second = inner.execute(2, Envelope::new(()), second).await;
            Ok::<_, Infallible>(second.expect("handled"))
        };
        let second = near.execute(1, Envelope::new(()), first).await;
        assert_eq!(second.expect("handled"), 2);
        in_time("nothing keeps a stream", || {
            near.evict_idle();
            near.metrics().resident == 0
        })
        .await;
    });
}

#[test]
fn submitting_to_oneself_works_in_order() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let order = Arc::new(Mutex::new(Vec::new()));
        let (inner, inside) = (executor.clone(), Arc::clone(&order));
        let outer = executor.execute(1, Envelope::new(()), move |_, _| async move {
            for number in 1..=10 {
                let order = Arc::clone(&inside);
                let submitted =
                    inner.submit(1, Envelope::new(number), move |message, _| async move {
                        order.lock().expect("whole").push(message.payload);
                        Ok::<_, Infallible>(())
                    });
                drop(submitted.expect("room"));
            }
            inside.lock().expect("whole").push(0);
            Ok::<_, Infallible>(())
        });
        outer.await.expect("handled");
        assert!(executor.drain(DEADLINE).await.is_complete());
        assert_eq!(
            *order.lock().expect("whole"),
            (0..=10).collect::<Vec<i32>>()
        );
    });
}

fn threads(
    streams: Vec<Stream<usize>>,
) -> Pin<Box<dyn Future<Output = Result<Vec<ThreadId>, Infallible>> + Send>> {
    Box::pin(async move {
        let mut seen = Vec::new();
        let mut rest = streams;
        if let Some(first) = rest.pop() {
            let execution = first.execute(Envelope::new(()), move |_, _| async move {
                let here = std::thread::current().id();
                let deeper = threads(rest).await?;
                Ok::<_, Infallible>([vec![here], deeper].concat())
            });
            seen = execution.await.expect("handled");
        }
        Ok(seen)
    })
}

#[test]
fn nested_executions_run_on_the_caller_only_so_deep() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<usize> =
            SerialExecutor::builder(&core).build().expect("legal");
        let here = std::thread::current().id();
        let seen = threads((0..DEPTH + 8).map(|key| executor.stream(&key)).collect())
            .await
            .expect("handled");
        assert_eq!(seen.len(), DEPTH + 8);
        let inline = seen.iter().take_while(|thread| **thread == here).count();
        assert_eq!(inline, DEPTH);
        let executor: SerialExecutor<usize> = SerialExecutor::builder(&core)
            .inline(false)
            .build()
            .expect("legal");
        let seen = threads((0..8).map(|key| executor.stream(&key)).collect())
            .await
            .expect("handled");
        assert!(
            seen.iter().all(|thread| *thread != here),
            "without inlining, on workers only"
        );
    });
}

#[test]
fn an_execution_dropped_after_its_first_poll_still_finishes() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor: SerialExecutor<u64> =
                SerialExecutor::builder(&core).build().expect("legal");
            let (gate, over) = (Gate::new(), Gate::new());
            for _ in 0..3 {
                let (gate, over) = (gate.clone(), over.clone());
                let mut execution =
                    Box::pin(
                        executor.execute(1, Envelope::new(()), move |_, _| async move {
                            gate.pass().await;
                            over.one();
                            Ok::<_, Infallible>(())
                        }),
                    );
                assert!(is_pending(&mut execution).await);
            }
            let next = executor
                .try_submit(1, Envelope::new(()), |_, _| async {
                    Ok::<_, Infallible>(())
                })
                .expect("room");
            gate.open();
            next.await.expect("handled");
            assert_eq!(over.count(), 3);
        });
    }
}

#[test]
fn different_streams_overlap_and_a_waiting_one_keeps_its_own() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let executor: SerialExecutor<u64> =
                SerialExecutor::builder(&core).build().expect("legal");
            let (there, back) = (Gate::new(), Gate::new());
            let meet = |key: u64, call: Gate, answer: Gate| {
                executor.try_submit(key, Envelope::new(()), move |_, _| async move {
                    call.one();
                    answer.pass().await;
                    Ok::<_, Infallible>(())
                })
            };
            let behind = Gate::new();
            let first = meet(1, there.clone(), back.clone()).expect("room");
            let passed = behind.clone();
            let second_of_first =
                executor.try_submit(1, Envelope::new(()), move |_, _| async move {
                    passed.one();
                    Ok::<_, Infallible>(())
                });
            let stream = executor.stream(&1);
            assert_eq!((behind.count(), stream.is_busy()), (0, true));
            let second = meet(2, back, there).expect("room");
            first.await.expect("they met");
            second.await.expect("they met");
            second_of_first.expect("room").await.expect("handled");
            assert_eq!(stream.handled(), 2);
        });
    }
}

/// Executes on each key below `key` from inside the one above, and leaves a waker of the innermost.
fn descend(
    executor: SerialExecutor<usize>,
    key: usize,
    waker: Arc<Mutex<Option<Waker>>>,
) -> Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>> {
    Box::pin(async move {
        if key == 0 {
            let mut polled = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut polled, true) {
                    return Poll::Ready(());
                }
                *waker.lock().expect("whole") = Some(context.waker().clone());
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            return Ok(());
        }
        let inner = executor.clone();
        let execution = executor.execute(key - 1, Envelope::new(()), move |_, _| {
            descend(inner, key - 1, waker)
        });
        execution.await.expect("handled");
        Ok(())
    })
}

#[test]
fn a_long_chain_of_callers_is_dropped_without_recursion() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<usize> = SerialExecutor::builder(&core)
            .inline(false)
            .build()
            .expect("legal");
        let waker = Arc::default();
        descend(executor, 4_000, Arc::clone(&waker))
            .await
            .expect("handled");
        let last: Option<Waker> = waker.lock().expect("whole").take();
        // Each message is over, and is held by the one that it waited for alone.
        let dropping = std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || drop(last.expect("the innermost left it")));
        dropping
            .expect("a thread")
            .join()
            .expect("the stack was enough");
    });
}

/// Begins an execution on the next key, does not wait for it, and is over; the last one waits at the gate.
fn relay(
    executor: SerialExecutor<usize>,
    left: usize,
    gate: Gate,
) -> Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>> {
    Box::pin(async move {
        if left == 0 {
            gate.pass().await;
            return Ok(());
        }
        let inner = executor.clone();
        let mut next = Box::pin(executor.execute(left - 1, Envelope::new(()), move |_, _| {
            relay(inner, left - 1, gate)
        }));
        let _may_have_ended = is_pending(&mut next).await;
        Ok(())
    })
}

#[test]
fn a_relay_of_executions_that_nobody_waits_for_keeps_none_that_is_over() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<usize> = SerialExecutor::builder(&core)
            .inline(false)
            .resident_streams(10)
            .build()
            .expect("legal");
        let gate = Gate::new();
        let last = executor.stream(&0);
        let first = relay(executor.clone(), 1_000, gate.clone());
        first.await.expect("handled");
        in_time("the last has started", || {
            executor.metrics().totals.handled == 999
        })
        .await;
        // A stream whose message is held by another is not evicted.
        for key in 1_000..1_100 {
            drop(executor.stream(&key));
        }
        let resident = executor.metrics().resident;
        assert!(resident < 100, "{resident} streams are kept");
        gate.open();
        in_time("the last is handled", || !last.is_busy()).await;
    });
}

/// Sums from `left` down to 1, each summand in a handler inside the one before.
fn sum_down(
    executor: SerialExecutor<&'static str>,
    left: u32,
) -> Pin<Box<dyn Future<Output = u32> + Send>> {
    Box::pin(async move {
        if left == 0 {
            return 0;
        }
        let key = ["north", "east", "south", "west"][left as usize % 4];
        let inner = executor.clone();
        let sum = executor.execute(key, Envelope::new(left), |left, _| async move {
            Ok::<_, Infallible>(left.payload + sum_down(inner, left.payload - 1).await)
        });
        sum.await.expect("no stream is on the way twice")
    })
}

#[test]
fn executions_with_borrowed_keys_nest_in_boxed_futures_that_can_be_sent() {
    run(Host::Threads, |core| async move {
        let executor = SerialExecutor::builder(&core).build().expect("built");
        let sum = core.spawn(sum_down(executor, 4)).expect("open");
        assert_eq!(sum.await.expect("it is handled"), 10);
    });
}
