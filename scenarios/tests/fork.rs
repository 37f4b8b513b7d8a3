//! A child process after `fork`, which has the memory of its parent and none of its workers.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Envelope, PolicyContext, RejectReason, Shutdown, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_scenarios::{DEADLINE, block_on};
use executor_serial::SerialExecutor;

/// So long is waited for what does not come.
const SHORT: Duration = Duration::from_millis(20);
/// What a child says that has nothing to complain about.
const WELL: &str = "well";
/// The part of an id that no two threads share.
const NODE: u64 = (1 << 52) - 1;

async fn echo<S>(message: Envelope<u64>, _: PolicyContext<S>) -> Result<u64, Infallible> {
    Ok(message.payload)
}

/// A core and its executors.
struct Rig {
    core: WorkerCore,
    serial: SerialExecutor<u64>,
    parallel: ParallelExecutor,
}

impl Rig {
    fn new() -> Self {
        let core = WorkerCore::threads(2).build().expect("threads start");
        Self {
            serial: SerialExecutor::builder(&core).build().expect("legal"),
            parallel: ParallelExecutor::builder(&core).build().expect("legal"),
            core,
        }
    }

    /// Whether everything that can be done is done.
    fn check(&self) {
        let submitted = self.serial.submit(1, Envelope::new(1), echo).expect("open");
        assert_eq!(outcome(submitted.wait_timeout(DEADLINE)), 1);
        let executed = block_on(self.serial.execute(1, Envelope::new(2), echo));
        assert_eq!(executed.expect("handled"), 2);
        let submitted = self.parallel.submit(Envelope::new(3), echo).expect("open");
        assert_eq!(outcome(submitted.wait_timeout(DEADLINE)), 3);
        let spawned = self.core.spawn_fn(|| 4).expect("open");
        assert_eq!(outcome(spawned.wait_timeout(DEADLINE)), 4);
        let report = block_on(self.core.drain(DEADLINE));
        assert!(report.is_complete(), "{report:?}");
    }

    fn end(&self) {
        let report = block_on(self.core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(report.is_complete(), "{report:?}");
    }

    /// Waits until the workers hold nothing that a child would find held for ever.
    fn settle(&self) {
        let late = Instant::now() + DEADLINE;
        while self.core.metrics().asleep != 2 {
            assert!(Instant::now() < late, "the workers do not sleep");
            thread::yield_now();
        }
    }
}

fn outcome<E, C>(outcome: Result<Result<u64, E>, C>) -> u64 {
    let Ok(Ok(value)) = outcome else {
        panic!("no value in time");
    };
    value
}

/// One test at a time: a child would find held for ever what the threads of another hold.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `act` in a child process, and gives what it wrote, if it ended in time.
fn in_child(act: impl FnOnce(&mut UnixStream)) -> String {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
    // SAFETY: the child uses its one thread, and memory whose locks nobody held.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    if child == 0 {
        drop(ours);
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut theirs)));
        let said = match acted {
            Ok(()) => WELL.into(),
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(_) => "it has panicked".into(),
            },
        };
        let _ = theirs.write_all(said.as_bytes());
        // SAFETY: what would run at an exit is the parent's.
        unsafe { libc::_exit(0) };
    }
    drop(theirs);
    ours.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut said = String::new();
    let read = ours.read_to_string(&mut said);
    // SAFETY: the child is ours, and was not waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: as above; its status is not asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    read.expect("the child hangs");
    said
}

#[test]
fn a_child_process_can_do_what_needs_no_worker_and_its_parent_is_not_disturbed() {
    let _alone = alone();
    let rig = Rig::new();
    rig.check();
    rig.settle();
    let said = in_child(|_| {
        // On the caller.
        let executed = block_on(rig.serial.execute(1, Envelope::new(5), echo));
        assert_eq!(executed.expect("handled"), 5);
        let executed = block_on(rig.parallel.execute(Envelope::new(6), echo));
        assert_eq!(executed.expect("handled"), 6);
        let report = block_on(rig.core.drain(DEADLINE));
        assert!(report.is_complete(), "{report:?}");
        // What would run on a worker is accepted, and waits.
        let submitted = rig.serial.submit(1, Envelope::new(7), echo).expect("open");
        let submitted = submitted.wait_timeout(SHORT).expect_err("nobody runs it");
        let spawned = rig.core.spawn_fn(|| 8).expect("open");
        let spawned = spawned.wait_timeout(SHORT).expect_err("nobody runs it");
        let report = block_on(rig.serial.drain(SHORT));
        assert!(!report.is_complete(), "{report:?}");
        let report = block_on(rig.core.shutdown(Shutdown::Abort, SHORT));
        assert!(!report.is_complete(), "{report:?}");
        // Once it is shut down it says so.
        let refused = rig.serial.submit(2, Envelope::new(9), echo);
        let refused = refused.expect_err("closed");
        assert_eq!(refused.reason, RejectReason::Closed);
        assert_eq!(refused.work.payload, 9);
        assert!(rig.parallel.submit(Envelope::new(9), echo).is_err());
        assert!(rig.core.spawn_fn(|| 9).is_err());
        drop((submitted, spawned));
        // A core of the child's own is whole.
        let own = Rig::new();
        own.check();
        own.end();
    });
    assert_eq!(said, WELL);
    rig.check();
    rig.end();
}

#[test]
fn a_child_process_drops_what_it_has_of_its_parents_executors() {
    let _alone = alone();
    let rig = Rig::new();
    rig.check();
    rig.settle();
    let mut rig = Some(rig);
    let said = in_child(|_| drop(rig.take()));
    assert_eq!(said, WELL);
    let rig = rig.expect("the parent has its own");
    rig.check();
    rig.end();
}

#[test]
fn a_child_process_shares_no_ids_with_its_parent_or_with_another() {
    let _alone = alone();
    let node = || Envelope::new(()).id().as_u64_pair().1 & NODE;
    let own = node();
    let mut nodes = vec![own];
    for _ in 0..3 {
        let said = in_child(|pipe| {
            write!(pipe, "{} ", node()).expect("the parent reads");
        });
        let (number, verdict) = said.split_once(' ').expect("a number");
        assert_eq!(verdict, WELL);
        nodes.push(number.parse().expect("a number"));
    }
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    assert_eq!(node(), own);
}
