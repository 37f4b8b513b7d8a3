//! Handlers that use the runtime's I/O and time, and who starts threads.

use std::time::Duration;

use executor_core::WorkerCore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::eventually::DEADLINE;
#[cfg(target_os = "linux")]
use crate::eventually::threads_named;

fn many(workers: usize, name: &str) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(workers).thread_name(name);
    builder.enable_all().build().expect("a runtime")
}

fn one() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A handler that talks to another one over a socket of the runtime, and uses its clock.
async fn talk(core: WorkerCore) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let answering = core.spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let number = stream.read_u64().await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        stream.write_u64(number + 1).await
    });
    let asking = core.spawn(async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u64(41).await?;
        stream.read_u64().await
    });
    let (answering, asking) = (answering.expect("open"), asking.expect("open"));
    let both = async { (answering.await, asking.await) };
    let (answered, asked) = tokio::time::timeout(DEADLINE, both).await.expect("in time");
    answered.expect("no panic").expect("no I/O error");
    assert_eq!(asked.expect("no panic").expect("no I/O error"), 42);
}

#[test]
fn handlers_use_io_and_time_of_the_runtime_that_hosts_them() {
    for runtime in [one(), many(2, "hosting")] {
        let core = WorkerCore::tokio(runtime.handle()).build().expect("tasks");
        runtime.block_on(talk(core));
    }
}

#[test]
fn handlers_on_own_threads_use_io_and_time_of_the_runtime_they_were_given() {
    let runtime = many(1, "lending");
    let core = WorkerCore::threads(2).runtime(runtime.handle().clone());
    runtime.block_on(talk(core.build().expect("threads")));
}

#[cfg(target_os = "linux")]
#[test]
fn the_tokio_host_starts_no_thread_of_its_own() {
    let runtime = many(2, "only");
    runtime.block_on(async {
        let core = WorkerCore::tokio(runtime.handle()).name("hosted");
        let core = core.build().expect("tasks");
        assert_eq!(core.metrics().workers, 2);
        for _ in 0..1_000 {
            let name = core.spawn_fn(|| std::thread::current().name().map(String::from));
            let name = name.expect("open").await.expect("handled");
            assert_eq!(name.as_deref(), Some("only"));
        }
        // None that is named as the core's would be, and few of the blocking pool's: one that looks after workers
        // may be on its way out while the next begins.
        assert_eq!(threads_named("hosted"), 0);
        assert!((2..10).contains(&threads_named("only")));
    });
    let runtime = one();
    let here = std::thread::current().id();
    runtime.block_on(async {
        let core = WorkerCore::tokio(runtime.handle()).build().expect("a task");
        assert_eq!(core.metrics().workers, 1);
        let there = core.spawn_fn(|| std::thread::current().id());
        assert_eq!(there.expect("open").await.expect("handled"), here);
    });
}
