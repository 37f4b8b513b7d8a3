//! Threads of a runtime that are blocked, by tasks of the user or by handlers, while others are idle.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use executor_core::WorkerCore;
use tokio::runtime::Runtime;

use crate::eventually::{DEADLINE, eventually};

/// How long a task blocks that waits for what does not come.
const PATIENCE: Duration = DEADLINE.checked_div(2).expect("not by zero");

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A core on the runtime whose workers have nothing to do.
fn core_on(runtime: &Runtime, workers: usize) -> WorkerCore {
    let core = WorkerCore::tokio(runtime.handle()).workers(workers).build();
    let core = core.expect("legal");
    eventually("all workers sleep", || core.metrics().asleep == workers);
    core
}

#[test]
fn what_a_task_of_the_user_submits_runs_although_it_blocks_its_thread() {
    for workers in [1, 2] {
        let runtime = runtime();
        let core = core_on(&runtime, workers);
        for round in 0..50 {
            let inner = core.clone();
            let waits = async move {
                let five = inner.spawn_fn(|| 5).expect("open");
                five.wait_timeout(PATIENCE).is_ok()
            };
            let waited = runtime.block_on(runtime.spawn(waits));
            assert!(
                waited.expect("no panic"),
                "round {round}, {workers} workers"
            );
        }
    }
}

#[test]
fn a_task_of_the_user_that_submits_and_blocks_holds_nobody_else_up() {
    let runtime = runtime();
    let core = core_on(&runtime, 2);
    let (go_on, told) = mpsc::channel::<()>();
    let (tell, has_submitted) = mpsc::channel();
    let inner = core.clone();
    let blocks = runtime.spawn(async move {
        inner.spawn_fn_detached(|| ()).expect("open");
        tell.send(()).expect("it is heard");
        told.recv_timeout(PATIENCE).is_ok()
    });
    has_submitted.recv().expect("it submits");
    let from_outside = core.spawn_fn(|| 5).expect("open");
    assert!(from_outside.wait_timeout(PATIENCE).is_ok());
    go_on.send(()).expect("it waits");
    assert!(runtime.block_on(blocks).expect("no panic"));
}

#[test]
fn a_handler_that_a_task_of_the_user_wakes_goes_on_although_that_blocks_its_thread() {
    let runtime = runtime();
    let core = core_on(&runtime, 2);
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let woken = core.spawn(receiver).expect("open");
    eventually("it waits", || core.metrics().waiting == 1);
    eventually("all workers sleep", || core.metrics().asleep == 2);
    let (go_on, told) = mpsc::channel::<()>();
    let blocks = runtime.spawn(async move {
        sender.send(()).expect("it is heard");
        told.recv_timeout(PATIENCE).is_ok()
    });
    assert!(woken.wait_timeout(PATIENCE).is_ok());
    go_on.send(()).expect("it waits");
    assert!(runtime.block_on(blocks).expect("no panic"));
}

#[test]
fn what_a_handler_submits_to_another_core_runs_although_it_blocks_its_thread() {
    let runtime = runtime();
    let (first, second) = (core_on(&runtime, 2), core_on(&runtime, 2));
    let blocks = move || {
        let (tell, told) = mpsc::channel();
        let tells = move || tell.send(thread::current().id());
        second.spawn_fn_detached(tells).expect("open");
        let other = told.recv_timeout(PATIENCE).expect("it runs");
        other != thread::current().id()
    };
    let met = first.spawn_fn(blocks).expect("open").wait();
    assert!(met.expect("no panic"));
}

/// How many of a runtime's two threads are parked.
fn parked(runtime: &Runtime) -> usize {
    let metrics = runtime.metrics();
    let counts = [0, 1].map(|thread| metrics.worker_park_unpark_count(thread));
    counts.iter().filter(|&count| count % 2 == 1).count()
}

/// Where the threads of a runtime wait that are about to park.
#[derive(Clone, Default)]
struct Gate {
    /// Who waits in it, in the order in which they came; None: it is open.
    waiting: Arc<Mutex<Option<Vec<mpsc::Sender<()>>>>>,
}

impl Gate {
    fn pass(&self) {
        let (let_go, gone) = mpsc::channel();
        if let Some(waiting) = &mut *self.waiting.lock().expect("no panic") {
            waiting.push(let_go);
        } else {
            return;
        }
        // An error: the gate was opened.
        let _either = gone.recv();
    }

    fn close(&self) {
        *self.waiting.lock().expect("no panic") = Some(Vec::new());
    }

    fn open(&self) {
        *self.waiting.lock().expect("no panic") = None;
    }

    /// Opens it in the end, also when the test fails, or its runtime would not end.
    fn opened_at_last(&self) -> impl Drop + use<> {
        struct Open(Gate);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Open(self.clone())
    }

    /// How many have come to it since it was closed.
    fn came(&self) -> usize {
        let waiting = self.waiting.lock().expect("no panic");
        waiting.as_ref().map_or(0, Vec::len)
    }

    /// Lets the first go that came.
    fn let_first_go(&self) {
        let waiting = self.waiting.lock().expect("no panic");
        waiting.iter().flatten().take(1).for_each(|first| {
            first.send(()).expect("it waits");
        });
    }
}

#[test]
fn what_a_handler_submits_runs_although_it_blocks_its_thread_while_the_other_is_about_to_park() {
    let gate = Gate::default();
    let at_park = gate.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_park(move || at_park.pass())
        .build()
        .expect("a runtime");
    let _opened = gate.opened_at_last();
    let core = core_on(&runtime, 2);
    eventually("both threads are parked", || parked(&runtime) == 2);
    // One thread is busy, so that the other searches, and the first may not when it is idle again.
    let (go_on, told) = mpsc::channel::<()>();
    let busy = runtime.spawn(async move { told.recv_timeout(PATIENCE).is_ok() });
    eventually("one thread is busy", || parked(&runtime) == 1);
    gate.close();
    drop(runtime.spawn(async {}));
    eventually("one has searched", || gate.came() == 1);
    go_on.send(()).expect("it waits");
    eventually("the other could not", || gate.came() == 2);
    gate.let_first_go();
    eventually("the first is parked", || parked(&runtime) == 1);
    let inner = core.clone();
    let blocks = move || {
        let (tell, told) = mpsc::channel();
        let tells = move || tell.send(()).expect("it is heard");
        inner.spawn_fn_detached(tells).expect("open");
        gate.open();
        told.recv_timeout(PATIENCE).is_ok()
    };
    let met = core.spawn_fn(blocks).expect("open").wait();
    assert!(met.expect("no panic"), "nobody has come");
    assert!(runtime.block_on(busy).expect("no panic"));
}
