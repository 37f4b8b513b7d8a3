//! What a handler is given beside its message: services, the message's place in a conversation, and a decision trail.

use std::error::Error;

use executor_serial::{Envelope, MissingService, SerialExecutor, WorkerCore};
use tokio::runtime::Handle;

/// A service that the executor is built with.
struct Limits {
    daily: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::tokio(&Handle::current()).build()?;
    let accounts: SerialExecutor<u64> = SerialExecutor::builder(&core)
        .service(Limits { daily: 10_000 })
        .build()?;

    let request = Envelope::new(25_000);
    let request_id = request.id();
    let (trail, notice) = accounts
        .execute(7, request, |amount, mut context| async move {
            let limits = context.service::<Limits>()?;
            context.decide("positive", amount.payload > 0, "not zero");
            context.decide(
                "daily-limit",
                amount.payload <= limits.daily,
                "25,000 of 10,000",
            );
            // What this message causes belongs to the same conversation, and names it as the cause.
            let notice = context.envelope("refused");
            Ok::<_, MissingService>((context.finish(), notice))
        })
        .await?;

    let rules: Vec<_> = trail.iter().map(|decision| decision.rule()).collect();
    assert_eq!(rules, ["positive", "daily-limit"]);
    assert_eq!((trail.matched().count(), trail.unmatched().count()), (1, 1));
    assert_eq!(notice.causation_id(), Some(request_id));
    assert_eq!(notice.correlation_id(), request_id);

    // A service that was never given is an error that names its type.
    let missing = accounts
        .execute(7, Envelope::new(()), |_, context| async move {
            context.service::<String>().map(drop)
        })
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("String"));
    println!("refused by daily-limit; {missing}");
    Ok(())
}
