//! Messages of one key are handled one after another, in order; those of different keys at the same time.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use executor_serial::{Envelope, SerialExecutor, WorkerCore, join_all};
use tokio::runtime::Handle;
use tokio::sync::Barrier;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::tokio(&Handle::current()).build()?;
    // Each account has its own state: the deposits that it has seen.
    let accounts = SerialExecutor::builder(&core)
        .state(|_: &&str| Vec::new())
        .build()?;

    // A hundred deposits, of which none is waited for; only room in the queue would be. Each handler gives way in between,
    // and still none overtakes another.
    let mut deposits = Vec::new();
    for deposit in 0..100_usize {
        let submitted = accounts.submit_wait(
            "alice",
            Envelope::new(deposit),
            |deposit, mut context| async move {
                tokio::task::yield_now().await;
                assert_eq!(context.state().len(), deposit.payload);
                context.state().push(deposit.payload);
                Ok::<_, Infallible>(context.state().len())
            },
        );
        deposits.push(submitted.await?);
    }
    let lengths = join_all(deposits)
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    assert_eq!(lengths, (1..=100).collect::<Vec<_>>());

    // Two keys that wait for each other both finish, so they must have run at the same time.
    let meeting = Arc::new(Barrier::new(2));
    let meet = |key| {
        let meeting = Arc::clone(&meeting);
        accounts.submit_wait(key, Envelope::new(()), move |_, _context| async move {
            Ok::<_, Infallible>(meeting.wait().await.is_leader())
        })
    };
    let met = join_all([meet("alice").await?, meet("bob").await?]).await;
    assert_eq!(
        met.into_iter()
            .filter(|leader| matches!(leader, Ok(true)))
            .count(),
        1
    );
    println!("a hundred deposits in order, and two accounts at once");
    Ok(())
}
