//! Options at both ends of their ranges, and beyond.

use std::time::{Duration, Instant};

use executor_core::{BuildError, Envelope, MAX_BATCH, MAX_WORKERS, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_scenarios::{DEADLINE, block_on};
use executor_serial::SerialExecutor;

use crate::{check, core, echo, value};

#[test]
fn options_work_at_both_ends_of_their_ranges_and_not_beyond() {
    for core in [
        WorkerCore::threads(1).batch(1).budget(1).build(),
        WorkerCore::threads(2)
            .batch(MAX_BATCH)
            .budget(u32::MAX as usize)
            .build(),
        WorkerCore::threads(MAX_WORKERS / 16).build(),
    ] {
        check(&core.expect("legal"));
    }
    let refused = [
        WorkerCore::threads(MAX_WORKERS + 1).build().err(),
        WorkerCore::threads(usize::MAX).build().err(),
        WorkerCore::threads(1).batch(MAX_BATCH + 1).build().err(),
        WorkerCore::threads(1).budget(usize::MAX).build().err(),
    ];
    let core = core(1);
    let builder = || SerialExecutor::<u64>::builder(&core);
    for one in [true, false] {
        let (most, streams) = if one {
            (1, 1)
        } else {
            (u32::MAX as usize, usize::MAX)
        };
        let executor = builder()
            .queue_per_stream(most)
            .queue_total(most)
            .resident_streams(streams)
            .build()
            .expect("legal");
        for key in 0..10 {
            let submitted = executor.submit(key, Envelope::new(key), echo);
            assert_eq!(submitted.expect("it waits").wait().expect("handled"), key);
        }
    }
    let serial = [
        builder().queue_per_stream(usize::MAX).build().err(),
        builder().queue_total(usize::MAX).build().err(),
    ];
    let parallel = || ParallelExecutor::builder(&core);
    for most in [1, executor_parallel::MAX_CONCURRENCY] {
        let executor = parallel().max_concurrency(most).queue(1).build();
        let executor = executor.expect("legal");
        assert_eq!(executor.available_permits(), most);
        let outcome = block_on(executor.execute(Envelope::new(3), echo));
        assert_eq!(outcome.expect("handled"), 3);
        assert!(executor.set_max_concurrency(0).is_err());
        assert!(executor.set_max_concurrency(usize::MAX).is_err());
        assert_eq!(executor.available_permits(), most);
    }
    let parallel = [
        parallel().max_concurrency(usize::MAX).build().err(),
        parallel()
            .max_concurrency(executor_parallel::MAX_CONCURRENCY + 1)
            .build()
            .err(),
    ];
    for error in refused.into_iter().chain(serial).chain(parallel) {
        assert!(
            matches!(error, Some(BuildError::OutOfRange { .. })),
            "{error:?}"
        );
    }
    check(&core);
}

#[test]
fn options_of_nothing_are_refused() {
    let threads = || WorkerCore::threads(1);
    let refused = [
        WorkerCore::threads(0).build().err(),
        threads().workers(0).build().err(),
        threads().batch(0).build().err(),
        threads().budget(0).build().err(),
        threads().tick(Duration::ZERO).build().err(),
        threads().tick(Duration::from_nanos(999)).build().err(),
        threads().tick(Duration::from_secs(2)).build().err(),
        threads().tick(Duration::MAX).build().err(),
    ];
    let core = core(1);
    let serial = || SerialExecutor::<u64>::builder(&core);
    let serial = [
        serial().queue_per_stream(0).build().err(),
        serial().queue_total(0).build().err(),
        serial().resident_streams(0).build().err(),
    ];
    let parallel = || ParallelExecutor::builder(&core);
    let parallel = [
        parallel().max_concurrency(0).build().err(),
        parallel().queue(0).build().err(),
        parallel().queue(usize::MAX).build().err(),
    ];
    for error in refused.into_iter().chain(serial).chain(parallel) {
        assert!(
            matches!(error, Some(BuildError::OutOfRange { .. })),
            "{error:?}"
        );
    }
    check(&core);
}

#[test]
fn a_core_of_the_most_workers_works_and_ends() {
    let core = core(MAX_WORKERS);
    let spawn = |number| core.spawn_fn(move || number).expect("open");
    let spawned: Vec<_> = (0..4 * MAX_WORKERS).map(spawn).collect();
    for (number, spawned) in spawned.into_iter().enumerate() {
        let outcome = spawned.wait_timeout(DEADLINE).expect("in time");
        assert_eq!(outcome.expect("handled"), number);
    }
    check(&core);
}

#[test]
fn names_are_free_but_those_that_no_thread_can_have_are_refused() {
    for name in ["", " ", "../../%s{}", &"long".repeat(10_000)] {
        let core = WorkerCore::threads(1).name(name).build().expect("legal");
        let parallel = ParallelExecutor::builder(&core).name(name).build();
        assert_eq!(parallel.expect("legal").name(), name);
        check(&core);
    }
    let refused = WorkerCore::threads(2).name("zero\0byte").build().err();
    assert!(
        matches!(refused, Some(BuildError::Thread { index: 0, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_limit_may_leap_between_its_ends_while_handlers_run() {
    let core = core(2);
    let executor = ParallelExecutor::builder(&core).max_concurrency(1).build();
    let executor = executor.expect("legal");
    let submit = |number| executor.submit(Envelope::new(number), echo).expect("room");
    let begun = Instant::now();
    let submitted: Vec<_> = (0..1_000)
        .map(|number| {
            let most = [executor_parallel::MAX_CONCURRENCY, 1][number as usize % 2];
            executor.set_max_concurrency(most).expect("legal");
            submit(number)
        })
        .collect();
    for (number, completion) in (0..).zip(submitted) {
        assert_eq!(value(completion.wait_timeout(DEADLINE)), number);
    }
    assert!(block_on(executor.drain(DEADLINE)).is_complete());
    assert_eq!(executor.available_permits(), 1);
    assert!(begun.elapsed() < DEADLINE, "each permit is taken by itself");
    check(&core);
}
