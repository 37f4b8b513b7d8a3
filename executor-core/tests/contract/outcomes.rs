//! Values, errors, panics, names and refusals.

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use executor_core::{BuildError, Envelope, ExecuteError, Executor, Failure, WorkerCore};

use super::{Gate, Kind, on_every_host};

on_every_host![
    a_value_goes_in_and_comes_out,
    the_handler_sees_the_envelope_it_was_given,
    an_error_reaches_the_caller_unchanged,
    an_option_of_zero_is_refused_by_name,
    a_panic_reaches_its_caller_and_nobody_else,
    a_panic_of_a_submitted_handler_reaches_its_completion,
    names_and_totals_tell_what_happened,
    a_message_past_its_deadline_expires_unseen,
    a_handler_sees_its_deadline,
];

async fn a_value_goes_in_and_comes_out<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let value = executor
        .execute(
            S::Key::default(),
            Envelope::new(42),
            |message, _| async move { Ok::<i32, Infallible>(message.payload) },
        )
        .await;
    assert_eq!(value.expect("handled"), 42);
    let submitted = executor.try_submit(
        S::Key::default(),
        Envelope::new(42),
        |message, _| async move {
            tokio::task::yield_now().await;
            Ok::<i32, Infallible>(message.payload)
        },
    );
    assert_eq!(
        submitted.expect("there is room").await.expect("handled"),
        42
    );
}

async fn the_handler_sees_the_envelope_it_was_given<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let envelope = Envelope::new(String::from("payload"))
        .with_tag("red")
        .with_flag(4);
    let (id, correlation) = (envelope.id(), envelope.correlation_id());
    let seen = executor.execute(
        S::Key::default(),
        envelope,
        move |message, context| async move {
            assert_eq!(
                (context.message_id(), context.correlation_id()),
                (message.id(), message.correlation_id())
            );
            assert_eq!(context.attempt(), 1);
            let child = context.envelope(());
            assert_eq!(
                (child.correlation_id(), child.causation_id()),
                (message.correlation_id(), Some(message.id()))
            );
            Ok::<_, Infallible>(message)
        },
    );
    let seen = seen.await.expect("handled");
    assert_eq!(
        (seen.id(), seen.correlation_id(), seen.payload.as_str()),
        (id, correlation, "payload")
    );
    assert!(seen.has_tag("red") && seen.has_flag(4));
}

#[derive(Debug, PartialEq, Eq)]
struct Refusal(String);

async fn an_error_reaches_the_caller_unchanged<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let failing = |message: Envelope<&'static str>, _| async move {
        Err::<(), _>(Refusal(message.payload.into()))
    };
    match executor
        .execute(S::Key::default(), Envelope::new("executed"), failing)
        .await
    {
        Err(ExecuteError::Handler(error)) => assert_eq!(error, Refusal("executed".into())),
        other => panic!("not the handler's error: {other:?}"),
    }
    match executor
        .try_submit(S::Key::default(), Envelope::new("submitted"), failing)
        .expect("room")
        .await
    {
        Err(Failure::Handler(error)) => assert_eq!(error, Refusal("submitted".into())),
        other => panic!("not the handler's error: {other:?}"),
    }
    assert!(
        executor
            .execute(S::Key::default(), Envelope::new(()), |_, _| async {
                Ok::<_, Refusal>(())
            })
            .await
            .is_ok()
    );
    assert_eq!(
        (executor.totals().failed, executor.totals().handled),
        (2, 1)
    );
}

async fn an_option_of_zero_is_refused_by_name<S: Kind>(core: WorkerCore) {
    let of_core = [
        ("workers", WorkerCore::threads(0).build().err()),
        ("batch", WorkerCore::threads(1).batch(0).build().err()),
        ("budget", WorkerCore::threads(1).budget(0).build().err()),
    ];
    for (name, error) in S::zeros(&core).into_iter().chain(of_core) {
        let error = error.unwrap_or_else(|| panic!("`{name}` of 0 was accepted"));
        assert!(
            matches!(error, BuildError::OutOfRange { option, value: 0, least: 1, .. } if option == name),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(name) && error.to_string().contains('0'),
            "{error}"
        );
    }
}

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("dropped"));
    }
}

macro_rules! panicking_ways {
    ($run:ident) => {
        $run!("made", |_, _| {
            if true {
                resume_unwind(Box::new("made"));
            }
            async { Ok::<(), Infallible>(()) }
        });
        $run!("polled", |_, _| async {
            if true {
                resume_unwind(Box::new(String::from("polled")));
            }
            Ok::<(), Infallible>(())
        });
        $run!("awaited", |_, _| async {
            tokio::task::yield_now().await;
            if true {
                resume_unwind(Box::new("awaited"));
            }
            Ok::<(), Infallible>(())
        });
        $run!("dropped", |_, _| {
            let bomb = Bomb;
            let mut polled = false;
            std::future::poll_fn(move |_| {
                let _bomb = &bomb;
                assert!(!std::mem::replace(&mut polled, true));
                std::task::Poll::Ready(Ok::<(), Infallible>(()))
            })
        });
    };
}

async fn a_panic_reaches_its_caller_and_nobody_else<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    macro_rules! run {
        ($text:literal, $handler:expr) => {
            match executor
                .execute(S::Key::default(), Envelope::new(()), $handler)
                .await
            {
                Err(ExecuteError::Panicked(panic)) => assert_eq!(panic.message(), Some($text)),
                other => panic!("{}: not a panic: {other:?}", $text),
            }
            let next = executor.execute(
                S::Key::default(),
                Envelope::new(7),
                |message, _| async move { Ok::<i32, Infallible>(message.payload) },
            );
            assert_eq!(next.await.expect("handled"), 7, "after {}", $text);
        };
    }
    panicking_ways!(run);
    assert_eq!(
        (executor.totals().panicked, executor.totals().handled),
        (4, 4)
    );
    assert!(executor.drain(super::DEADLINE).await.is_complete());
    assert!(S::is_whole(&executor));
}

async fn a_panic_of_a_submitted_handler_reaches_its_completion<S: Kind>(core: WorkerCore) {
    let executor = S::narrow(&core, 8);
    macro_rules! run {
        ($text:literal, $handler:expr) => {
            let broken = executor
                .try_submit(S::Key::default(), Envelope::new(()), $handler)
                .expect("room");
            let next = executor.try_submit(
                S::Key::default(),
                Envelope::new(7),
                |message, _| async move { Ok::<i32, Infallible>(message.payload) },
            );
            match broken.await {
                Err(Failure::Panicked(panic)) => assert_eq!(panic.message(), Some($text)),
                other => panic!("{}: not a panic: {other:?}", $text),
            }
            assert_eq!(
                next.expect("room").await.expect("handled"),
                7,
                "after {}",
                $text
            );
        };
    }
    panicking_ways!(run);
    assert!(executor.drain(super::DEADLINE).await.is_complete());
    assert_eq!(
        (executor.totals().panicked, executor.totals().handled),
        (4, 4)
    );
    assert!(S::is_whole(&executor));
}

async fn names_and_totals_tell_what_happened<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "orders");
    assert_eq!(executor.name(), "orders");
    assert_eq!(executor.totals().finished(), 0);
    let text = format!("{executor:?}");
    assert!(
        text.contains("orders") && text.contains("Executor"),
        "{text}"
    );
    executor
        .execute(S::Key::default(), Envelope::new(()), |_, _| async {
            Ok::<_, Infallible>(())
        })
        .await
        .expect("handled");
    assert_eq!(
        (executor.totals().handled, executor.totals().finished()),
        (1, 1)
    );
}

async fn a_message_past_its_deadline_expires_unseen<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let ran = Gate::new();
    let past = || Envelope::new(()).with_deadline(Instant::now());
    let handler = || {
        let ran = ran.clone();
        move |_, _| async move {
            ran.one();
            Ok::<_, Infallible>(())
        }
    };
    let executed = executor.execute(S::Key::default(), past(), handler()).await;
    assert!(
        matches!(executed, Err(ExecuteError::Expired)),
        "{executed:?}"
    );
    let submitted = executor
        .try_submit(S::Key::default(), past(), handler())
        .expect("room")
        .await;
    assert!(matches!(submitted, Err(Failure::Expired)), "{submitted:?}");
    assert_eq!((ran.count(), executor.totals().expired), (0, 2));
    executor
        .execute(S::Key::default(), Envelope::new(()), handler())
        .await
        .expect("handled");
    assert_eq!(ran.count(), 1);
}

async fn a_handler_sees_its_deadline<S: Kind>(core: WorkerCore) {
    let executor = S::wide(&core, "wide");
    let deadline = Instant::now() + Duration::from_secs(3_600);
    let envelope = Envelope::new(()).with_deadline(deadline);
    let seen = executor.execute(S::Key::default(), envelope, |_, context| async move {
        Ok::<_, Infallible>((context.deadline(), context.is_cancelled()))
    });
    assert_eq!(seen.await.expect("handled"), (Some(deadline), false));
}
