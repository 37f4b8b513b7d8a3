//! Errors as `?` and those who report them use them.

use std::collections::HashSet;
use std::error::Error;
use std::io;

use executor_core::{Batch, Envelope, ExecuteError, Failure, RejectReason, Rejected, WorkerCore};

/// A message that can neither be shown nor copied.
struct Plain;

type Boxed = Box<dyn Error + Send + Sync>;

fn refused() -> Rejected<Envelope<Plain>> {
    Rejected {
        reason: RejectReason::Closed,
        work: Envelope::new(Plain),
    }
}

fn panicked() -> Failure<io::Error> {
    let core = WorkerCore::threads(1).build().expect("threads");
    let task = core.spawn_fn(|| panic!("boiled over")).expect("open");
    match task.wait() {
        Err(Failure::Panicked(panic)) => Failure::Panicked(panic),
        other => panic!("{other:?}"),
    }
}

/// The texts of an error and of all below it.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

#[test]
fn every_error_can_be_boxed_and_says_each_thing_once() {
    let disk = || io::Error::other("the disk is full");
    let errors: Vec<(&str, Boxed)> = vec![
        ("shutdown has begun", refused().into()),
        (
            "shutdown has begun",
            ExecuteError::<_, io::Error>::from(refused()).into(),
        ),
        ("boiled over", panicked().into()),
        (
            "boiled over",
            ExecuteError::<Plain, _>::from(panicked()).into(),
        ),
        ("the disk is full", Failure::Handler(disk()).into()),
        (
            "the disk is full",
            ExecuteError::<Plain, _>::from(Failure::Handler(disk())).into(),
        ),
        ("before it did", Failure::<io::Error>::Aborted.into()),
    ];
    for (said, error) in errors {
        let texts = chain(&*error);
        assert!(texts[0].contains(said), "{texts:?}");
        let distinct: HashSet<_> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len(), "{texts:?}");
    }
}

#[test]
fn what_holds_a_message_can_be_shown_whatever_the_message_is() {
    let error = ExecuteError::<Plain, io::Error>::from(refused());
    assert_eq!(
        format!("{error:?}"),
        "Rejected(Rejected { reason: Closed, .. })"
    );
    let batch = Batch::<u8, io::Error, Plain> {
        accepted: Vec::new(),
        refused: None,
    };
    assert_eq!(
        format!("{batch:?}"),
        "Batch { accepted: [], refused: None }"
    );
}
