//! One message to one aggregate, and its answer.

use std::convert::Infallible;
use std::error::Error;

use executor_serial::{Envelope, SerialExecutor, WorkerCore};
use tokio::runtime::Handle;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::tokio(&Handle::current()).build()?;
    let people: SerialExecutor<&str> = SerialExecutor::builder(&core).build()?;

    let answer = people
        .execute(
            "alice",
            Envelope::new("hello"),
            |greeting, _context| async move {
                Ok::<_, Infallible>(format!("{} from alice", greeting.payload))
            },
        )
        .await?;

    assert_eq!(answer, "hello from alice");
    println!("{answer}");
    Ok(())
}
