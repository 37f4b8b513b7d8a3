//! Keys that a map cannot tell apart by their hashes, and values that are large.

use std::convert::Infallible;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::task::Poll;

use executor_core::Envelope;
use executor_scenarios::block_on;
use executor_serial::SerialExecutor;

use crate::{check, core, serial};

/// A key that is like all others to a map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alike(u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[test]
fn keys_with_one_hash_have_streams_of_their_own() {
    let core = core(2);
    let executor = SerialExecutor::<Alike>::builder(&core)
        .state(|key| key.0)
        .resident_streams(8)
        .build()
        .expect("legal");
    let state = |_: Envelope<()>, mut context: executor_core::PolicyContext<u64>| async move {
        Ok::<_, Infallible>(*context.state())
    };
    for key in 0..100 {
        let outcome = block_on(executor.execute(Alike(key % 20), Envelope::new(()), state));
        assert_eq!(outcome.expect("handled"), key % 20);
    }
    check(&core);
}

#[test]
fn large_messages_handlers_and_outputs_come_through() {
    let core = core(2);
    let executor = serial(&core);
    let large = |seed: u8| [seed; 64 << 10];
    for seed in 0..4 {
        let handler = move |message: Envelope<[u8; 64 << 10]>, _| {
            let more = large(seed);
            async move {
                let sum = u64::from(message.payload[1]) + u64::from(more[2]);
                let mut polled = false;
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut polled, true) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                Ok::<_, Infallible>((sum, more))
            }
        };
        let submitted = executor.submit(1, Envelope::new(large(seed)), handler);
        let (sum, more) = submitted.expect("room").wait().expect("handled");
        assert_eq!((sum, more[9]), (2 * u64::from(seed), seed));
    }
    check(&core);
}
