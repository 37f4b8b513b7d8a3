//! What all actors can do: answer a question, and add up what they are told.

use std::future::Future;

/// An actor's address.
///
/// It is made within the runtime that the actor is to run on.
pub trait Mailbox: Clone + Send + Sync + 'static {
    /// The name in the report.
    const NAME: &'static str;

    /// Starts an actor.
    fn start() -> impl Future<Output = Self> + Send;

    /// Asks, and gives the message that the actor sends back.
    fn ask(&self, message: u64) -> impl Future<Output = u64> + Send;

    /// Adds to the actor's total without waiting.
    fn tell(&self, message: u64);

    /// Takes the total of everything told before.
    fn total(&self) -> impl Future<Output = u64> + Send;
}

/// Asks one after another; the sum of the answers.
pub async fn ask_each<M: Mailbox>(mailbox: M, messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        sum += mailbox.ask(message).await;
    }
    sum
}

/// Tells all, and then takes the total.
pub async fn tell_all<M: Mailbox>(mailbox: M, messages: u64) -> u64 {
    for message in 0..messages {
        mailbox.tell(message);
    }
    mailbox.total().await
}

/// A task for each mailbox, which asks one after another; the sum of all answers.
///
/// # Panics
/// When a task does.
pub async fn ask_streams<M: Mailbox>(mailboxes: Vec<M>, messages: u64) -> u64 {
    let tasks: Vec<_> = mailboxes
        .into_iter()
        .map(|mailbox| tokio::spawn(ask_each(mailbox, messages)))
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("the task does not panic");
    }
    sum
}

/// A task for each slice of `keys`, which asks the mailbox of each key in turn; the sum of all answers.
///
/// # Panics
/// When a task does, or a key has no mailbox.
pub async fn ask_keys<M: Mailbox>(
    mailboxes: std::sync::Arc<Vec<M>>,
    keys: Vec<std::sync::Arc<Vec<u32>>>,
) -> u64 {
    let tasks: Vec<_> = keys
        .into_iter()
        .map(|keys| {
            let mailboxes = std::sync::Arc::clone(&mailboxes);
            tokio::spawn(async move {
                let mut sum = 0;
                for &key in keys.iter() {
                    sum += mailboxes[key as usize].ask(u64::from(key)).await;
                }
                sum
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("the task does not panic");
    }
    sum
}

/// Starts `count` actors.
pub async fn start_all<M: Mailbox>(count: usize) -> Vec<M> {
    let mut mailboxes = Vec::with_capacity(count);
    for _ in 0..count {
        mailboxes.push(M::start().await);
    }
    mailboxes
}
