//! Threads that use the executors while they end.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use executor_core::{Envelope, Shutdown, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_scenarios::{DEADLINE, block_on};

use crate::{check, core, echo, serial};

/// Uses the executors when its thread ends.
struct AtTheEnd(RefCell<Option<(WorkerCore, std::sync::mpsc::Sender<u64>)>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let Some((core, told)) = self.0.take() else {
            return;
        };
        let executor = serial(&core);
        let submitted = executor.submit(1, Envelope::new(1), echo).expect("open");
        let mut sum = submitted.wait().expect("handled");
        sum += block_on(executor.execute(1, Envelope::new(2), echo)).expect("handled");
        let parallel = ParallelExecutor::builder(&core).build().expect("legal");
        sum += block_on(parallel.execute(Envelope::new(4), echo)).expect("handled");
        let spawned = core.spawn_fn(|| 8).expect("open");
        sum += spawned.wait().expect("handled");
        let soon = Duration::from_millis(1);
        let delayed = executor.submit_after(1, soon, Envelope::new(16), echo);
        let delayed = delayed.expect("open").into_completion();
        sum += delayed.wait().expect("handled");
        let callbacks = core.callbacks();
        let called = callbacks.call_after(soon, || 32).expect("open");
        sum += called.into_completion().wait().expect("handled");
        // What is pending, in line or held when the thread is gone.
        let later = executor.submit_after(1, DEADLINE, Envelope::new(0), echo);
        drop(later.expect("open"));
        drop(executor.submit(1, Envelope::new(0), echo).expect("open"));
        assert!(block_on(executor.drain(DEADLINE)).is_complete());
        assert!(block_on(executor.shutdown(Shutdown::Drain, DEADLINE)).is_complete());
        told.send(sum).expect("somebody waits");
    }
}

thread_local! {
    static AT_THE_END: AtTheEnd = const { AtTheEnd(RefCell::new(None)) };
}

fn told(receiver: &Receiver<u64>) -> u64 {
    receiver.recv_timeout(DEADLINE).expect("told in time")
}

#[test]
fn a_thread_that_ends_may_use_everything() {
    for executors_first in [false, true] {
        let core = core(1);
        let (tell, receiver) = channel();
        let ending = core.clone();
        // What a thread touched first is dropped last, so that both orders come up.
        let thread = thread::spawn(move || {
            if executors_first {
                let executor = serial(&ending);
                block_on(executor.execute(1, Envelope::new(0), echo)).expect("handled");
            }
            AT_THE_END.with(|end| end.0.replace(Some((ending.clone(), tell))));
            let executor = serial(&ending);
            block_on(executor.execute(1, Envelope::new(0), echo)).expect("handled");
        });
        assert_eq!(told(&receiver), 63);
        thread.join().expect("no panic");
        check(&core);
    }
}
