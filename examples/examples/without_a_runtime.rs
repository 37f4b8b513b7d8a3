//! Threads of the core's own, and a caller that blocks: no asynchronous runtime anywhere.

use std::convert::Infallible;
use std::error::Error;

use executor_serial::{Envelope, SerialExecutor, WorkerCore};

fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::threads(2).name("counter").build()?;
    let counters = SerialExecutor::builder(&core)
        .state(|_: &u8| 0_u64)
        .build()?;

    // Submitting from a plain thread waits for room when a stream is full, so memory stays bounded.
    let mut last = None;
    for step in 0..10_000_u64 {
        last = Some(
            counters.submit(0, Envelope::new(step), |step, mut context| async move {
                assert_eq!(*context.state(), step.payload);
                *context.state() += 1;
                Ok::<_, Infallible>(*context.state())
            })?,
        );
    }
    // All others were let go: dropping a completion does not cancel its message.
    let counted = last.expect("there was a last step").wait()?;
    assert_eq!(counted, 10_000);

    // Work without a key goes to the same workers.
    let name = core
        .spawn_fn(|| std::thread::current().name().map(str::to_owned))?
        .wait()?;
    assert!(name.is_some_and(|name| name.starts_with("counter")));
    println!("counted to {counted} on two threads");
    Ok(())
}
