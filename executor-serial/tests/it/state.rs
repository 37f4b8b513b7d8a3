//! States, their factories, and eviction.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use executor_serial::{Envelope, ExecuteError, PolicyContext, SerialExecutor, Stream};

use crate::contract::eventually::in_time;
use crate::contract::{DEADLINE, Host, run};

#[test]
fn a_state_is_made_once_and_again_after_eviction_or_a_panic() {
    for host in [Host::Threads, Host::TokioMany, Host::TokioOne] {
        run(host, |core| async move {
            let made = Arc::new(AtomicU64::new(0));
            let making = Arc::clone(&made);
            let executor: SerialExecutor<u64, u64> = SerialExecutor::builder(&core)
                .state(move |_| {
                    making.fetch_add(1, Ordering::SeqCst);
                    0_u64
                })
                .build()
                .expect("legal");
            let count = || {
                executor.execute(1, Envelope::new(()), |_, mut context| async move {
                    *context.state() += 1;
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(*context.state())
                })
            };
            for expected in 1..=5 {
                assert_eq!(count().await.expect("handled"), expected);
            }
            let handle = executor.stream(&1);
            assert_eq!(executor.evict_idle(), 0, "a stream with a handle stays");
            drop(handle);
            assert!(executor.drain(DEADLINE).await.is_complete());
            assert_eq!(made.load(Ordering::SeqCst), 1);
            in_time("the stream is idle", || executor.evict_idle() != 0).await;
            assert_eq!(
                (count().await.expect("handled"), made.load(Ordering::SeqCst)),
                (1, 2)
            );
            let broken = executor.execute(1, Envelope::new(()), |_, _| async {
                if true {
                    resume_unwind(Box::new("broken"));
                }
                Ok::<(), Infallible>(())
            });
            assert!(matches!(broken.await, Err(ExecuteError::Panicked(_))));
            assert_eq!(
                (count().await.expect("handled"), made.load(Ordering::SeqCst)),
                (1, 3)
            );
            assert_eq!(
                executor.metrics().totals.handled,
                7,
                "what evicted streams did still counts"
            );
        });
    }
}

#[test]
fn a_kept_waker_keeps_its_stream_and_no_longer() {
    run(Host::Threads, |core| async move {
        let executor: SerialExecutor<u64> = SerialExecutor::builder(&core).build().expect("legal");
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let handler = move |_: Envelope<()>, _| async move {
            poll_fn(|context| {
                *keep.lock().expect("whole") = Some(context.waker().clone());
                Poll::Ready(Ok::<_, Infallible>(()))
            })
            .await
        };
        let handled = executor.execute(1, Envelope::new(()), handler).await;
        handled.expect("handled");
        assert_eq!(executor.evict_idle(), 0, "its waker is kept");
        drop(kept.lock().expect("whole").take());
        assert_eq!(executor.evict_idle(), 1);
    });
}

/// What the first state that a sweep drops does, given the key of the other.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce(u64) + Send>>>>;

struct Counted {
    key: u64,
    count: u64,
    meanwhile: Meanwhile,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let meanwhile = self.meanwhile.lock().expect("whole").take();
        if let Some(meanwhile) = meanwhile {
            meanwhile(1 - self.key);
        }
    }
}

/// Counts on a stream that is idle, so that it runs here.
fn count_now(stream: &Stream<u64, Counted>) -> u64 {
    let handler = |_: Envelope<()>, mut context: PolicyContext<Counted>| async move {
        context.state().count += 1;
        Ok::<_, Infallible>(context.state().count)
    };
    let mut counted = pin!(stream.execute(Envelope::new(()), handler));
    match counted
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(count) => count.expect("handled"),
        Poll::Pending => panic!("it ran elsewhere"),
    }
}

#[test]
fn a_stream_that_is_used_while_a_sweep_goes_on_keeps_its_state() {
    run(Host::Threads, |core| async move {
        let meanwhile = Meanwhile::default();
        let shared = Arc::clone(&meanwhile);
        let executor: SerialExecutor<u64, Counted> = SerialExecutor::builder(&core)
            .state(move |&key| Counted {
                key,
                count: 0,
                meanwhile: Arc::clone(&shared),
            })
            .build()
            .expect("legal");
        for key in [0, 1] {
            assert_eq!(count_now(&executor.stream(&key)), 1);
        }
        let (used, inner) = (Arc::new(Mutex::new(None)), executor.clone());
        let keep = Arc::clone(&used);
        *meanwhile.lock().expect("whole") = Some(Box::new(move |other| {
            let other = inner.stream(&other);
            assert_eq!(count_now(&other), 2);
            *keep.lock().expect("whole") = Some(other);
        }));
        assert_eq!(executor.evict_idle(), 1);
        let used = used.lock().expect("whole").take();
        assert_eq!(count_now(&used.expect("taken by the sweep")), 3);
    });
}

#[test]
fn a_factory_that_fails_or_panics_fails_that_message_only() {
    for host in [Host::Threads, Host::TokioOne] {
        run(host, |core| async move {
            let calls = AtomicU64::new(0);
            let executor: SerialExecutor<u64, u64> = SerialExecutor::builder(&core)
                .try_state(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
                    0 => Err("no disk"),
                    1 => resume_unwind(Box::new("no memory")),
                    call => Ok(call),
                })
                .build()
                .expect("legal");
            let read = || {
                executor.execute(1, Envelope::new(()), |_, mut context| async move {
                    Ok::<_, Infallible>(*context.state())
                })
            };
            let failed = read().await;
            assert!(
                matches!(&failed, Err(ExecuteError::State(error)) if error.text() == "no disk"),
                "{failed:?}"
            );
            let panicked = read().await;
            assert!(
                matches!(
                    &panicked,
                    Err(ExecuteError::Panicked(_) | ExecuteError::State(_))
                ),
                "{panicked:?}"
            );
            assert_eq!(read().await.expect("the third try works"), 2);
            assert_eq!(read().await.expect("and is kept"), 2);
        });
    }
}

/// A state that knows whether its key has another one.
struct Only(Arc<AtomicBool>, u64);

impl Drop for Only {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[test]
fn eviction_beside_submission_never_loses_reorders_or_doubles() {
    run(Host::Threads, |core| async move {
        let alive: Vec<_> = (0..4).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let executor: SerialExecutor<usize, Only> = SerialExecutor::builder(&core)
            .resident_streams(2)
            .state(move |key: &usize| {
                let alive = Arc::clone(&alive[*key]);
                assert!(
                    !alive.swap(true, Ordering::SeqCst),
                    "a key never has two states"
                );
                Only(alive, 0)
            })
            .build()
            .expect("legal");
        let stop = Arc::new(AtomicBool::new(false));
        let (inner, stopping) = (executor.clone(), Arc::clone(&stop));
        let evicting = std::thread::spawn(move || {
            let mut evicted = 0;
            while !stopping.load(Ordering::SeqCst) {
                evicted += inner.evict_idle();
                std::thread::yield_now();
            }
            evicted
        });
        let last: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
        for number in 1..=5_000_u64 {
            let key = (number % 4) as usize;
            let last = Arc::clone(&last[key]);
            let handler = move |_, mut context: executor_serial::PolicyContext<Only>| async move {
                context.state().1 += 1;
                Ok::<_, Infallible>(last.swap(number, Ordering::SeqCst) < number)
            };
            if number % 3 == 0 {
                assert!(
                    executor
                        .execute(key, Envelope::new(()), handler)
                        .await
                        .expect("handled")
                );
            } else {
                let submitted = executor
                    .try_submit(key, Envelope::new(()), handler)
                    .expect("room");
                if number % 5 == 0 {
                    assert!(submitted.await.expect("handled"));
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        let evicted = evicting.join().expect("no panic");
        assert!(executor.drain(DEADLINE).await.is_complete());
        in_time("all streams are evicted", || {
            executor.evict_idle() == 0 && executor.metrics().resident == 0
        })
        .await;
        assert_eq!(
            (
                executor.metrics().totals.handled,
                executor.metrics().totals.panicked
            ),
            (5_000, 0)
        );
        assert!(evicted > 0, "streams were evicted meanwhile");
    });
}
