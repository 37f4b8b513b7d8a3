//! Idle actors by the thousand.

use tokio::sync::{mpsc, oneshot};

/// What an [`IdleActor`] is asked.
type Question = (u64, oneshot::Sender<u64>);

/// A task behind a channel with room for 16.
#[derive(Debug)]
pub struct IdleActor(mpsc::Sender<Question>);

impl IdleActor {
    /// Starts the task on the runtime whose context this runs in.
    #[must_use]
    pub fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel::<Question>(16);
        tokio::spawn(async move {
            while let Some((message, answer)) = receiver.recv().await {
                // Nobody stops waiting for an answer here.
                let _ = answer.send(message);
            }
        });
        Self(sender)
    }

    /// Asks it, so that it was used once.
    ///
    /// # Panics
    /// When the actor is gone.
    pub async fn ask(&self, message: u64) -> u64 {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((message, answer))
            .await
            .expect("the actor lives");
        answered.await.expect("the actor answers")
    }
}
