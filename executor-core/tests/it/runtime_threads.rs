//! Threads of a runtime that are blocked, by tasks of the user or by handlers, while others are idle.

use std::sync::mpsc;
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
