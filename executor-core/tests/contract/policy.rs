//! What a handler is told, and what it leaves behind.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use executor_core::{
    Envelope, Executor, Hop, PolicyContext, RETAINED_TRAILS, WorkerCore, retained_trails,
};

use super::{Kind, on_every_host};

on_every_host![
    a_context_tells_its_message_and_lends_services,
    a_missing_service_is_named,
    a_context_lends_services_outside_of_its_handler_too,
    an_envelope_reaches_its_handler_whole,
    messages_made_by_handlers_continue_the_conversation,
    decisions_are_kept_in_order_and_given_back,
];

/// How far the coarse clock may lag: some ticks of 1 to 10 ms.
const COARSE: Duration = Duration::from_millis(100);

/// A service.
#[derive(Default)]
struct Clerk(AtomicU64);

/// A service that no executor has.
struct Nobody;

async fn a_context_tells_its_message_and_lends_services<S: Kind>(core: WorkerCore) {
    let clerk = Arc::new(Clerk::default());
    let executor = S::lending(&core, Arc::clone(&clerk));
    let deadline = Instant::now() + Duration::from_secs(3_600);
    for submitted in [false, true] {
        let envelope = Envelope::new(()).with_deadline(deadline);
        let (id, before) = (envelope.id(), Instant::now());
        let handler = move |_, mut context: PolicyContext<S::State>| async move {
            let started = context.started();
            assert_eq!((context.message_id(), context.correlation_id()), (id, id));
            assert_eq!((context.attempt(), context.is_cancelled()), (1, false));
            assert_eq!(context.deadline(), Some(deadline));
            for _ in 0..2 {
                let clerk = context.service::<Arc<Clerk>>().expect("it was given");
                clerk.0.fetch_add(1, Ordering::SeqCst);
                // Also when it is polled again, by whatever thread.
                tokio::task::yield_now().await;
            }
            let again = context.started();
            let apart = again.max(started) - again.min(started);
            assert!(apart <= COARSE, "it is read once: {apart:?}");
            Ok::<_, Infallible>(started)
        };
        let key = S::Key::default();
        let started = if submitted {
            let submission = executor.try_submit(key, envelope, handler);
            submission.expect("room").await.expect("handled")
        } else {
            executor
                .execute(key, envelope, handler)
                .await
                .expect("handled")
        };
        assert!(started + COARSE >= before && started <= Instant::now() + COARSE);
    }
    assert_eq!(clerk.0.load(Ordering::SeqCst), 4);
}

async fn a_context_lends_services_outside_of_its_handler_too<S: Kind>(core: WorkerCore) {
    let executor = S::lending(&core, Clerk::default());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let handler = |_, context: PolicyContext<S::State>| async move {
        let _receiver_waits = sender.send(context);
        Ok::<_, Infallible>(())
    };
    let submitted = executor.try_submit(S::Key::default(), Envelope::new(()), handler);
    let context = receiver.await.expect("sent");
    assert!(context.service::<Clerk>().is_ok());
    drop(context);
    submitted.expect("room").await.expect("handled");
}

async fn a_missing_service_is_named<S: Kind>(core: WorkerCore) {
    let executor = S::lending(&core, Clerk::default());
    let asked = executor.execute(
        S::Key::default(),
        Envelope::new(()),
        |_, context: PolicyContext<S::State>| async move {
            assert!(context.service::<Clerk>().is_ok());
            Ok::<_, Infallible>(context.service::<Nobody>().map(|_| ()))
        },
    );
    let missing = asked.await.expect("handled").expect_err("nobody gave it");
    assert_eq!(missing.type_name(), std::any::type_name::<Nobody>());
    assert!(missing.to_string().contains("Nobody"), "{missing}");
}

async fn an_envelope_reaches_its_handler_whole<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let envelope = Envelope::new(5)
        .with_tag("red")
        .with_flag(2)
        .with_stream_key("order-7")
        .with_aggregate("shop::Order")
        .with_metadata("tenant", "old")
        .with_hop(
            Hop::current()
                .with_topic("orders")
                .with_partition(3)
                .with_metadata("tenant", "new"),
        )
        .with_hop(Hop::causation().with_topic("elsewhere").with_partition(9));
    let seen = executor.try_submit(
        S::Key::default(),
        envelope,
        |message: Envelope<i32>, _| async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(message)
        },
    );
    let seen = seen.expect("room").await.expect("handled");
    assert!(seen.has_tag("red") && !seen.has_tag("re") && seen.has_flag(2) && !seen.has_flag(1));
    assert!(seen.matches_aggregate("shop::Order") && !seen.matches_aggregate("Order"));
    assert_eq!((seen.payload, seen.stream_key()), (5, Some("order-7")));
    assert_eq!((seen.topic(), seen.partition()), (Some("orders"), Some(3)));
    assert_eq!(
        (seen.metadata("tenant"), seen.hops().len()),
        (Some("new"), 2)
    );
}

async fn messages_made_by_handlers_continue_the_conversation<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let root = Envelope::new(());
    let conversation = root.id();
    let mut next = root;
    for generation in 0..3 {
        let parent = next.id();
        let handled = executor.try_submit(
            S::Key::default(),
            next,
            |_, context: PolicyContext<S::State>| async move {
                Ok::<_, Infallible>(context.envelope(()))
            },
        );
        next = handled.expect("room").await.expect("handled");
        assert_eq!(
            next.correlation_id(),
            conversation,
            "generation {generation}"
        );
        assert_eq!(next.causation_id(), Some(parent));
        assert_ne!(next.id(), parent);
    }
}

async fn decisions_are_kept_in_order_and_given_back<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    for _ in 0..100 {
        let decided = executor.try_submit(
            S::Key::default(),
            Envelope::new(()),
            |_, mut context: PolicyContext<S::State>| async move {
                assert!(context.trail().is_empty(), "nothing of another message's");
                context.decide("limit", true, "500 of 10,000");
                tokio::task::yield_now().await;
                context.decide("region", false, format!("not {}", "here"));
                context.decide("retry", true, "");
                Ok::<_, Infallible>(context.finish())
            },
        );
        let trail = decided.expect("room").await.expect("handled");
        let of = |decision: &executor_core::Decision| {
            let (rule, reason) = (decision.rule(), decision.reason());
            (String::from(rule), decision.matched(), String::from(reason))
        };
        let all: Vec<_> = trail.iter().map(of).collect();
        let expected = [
            ("limit", true, "500 of 10,000"),
            ("region", false, "not here"),
            ("retry", true, ""),
        ];
        assert_eq!(
            all,
            expected.map(|(rule, matched, reason)| {
                (String::from(rule), matched, String::from(reason))
            })
        );
        assert_eq!((trail.matched().count(), trail.unmatched().count()), (2, 1));
    }
    assert!(retained_trails() <= RETAINED_TRAILS);
}
