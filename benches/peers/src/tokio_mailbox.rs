//! The actor that everybody writes by hand: a task, an mpsc channel, and a oneshot for each answer.

use tokio::sync::{mpsc, oneshot};

use crate::mailbox::Mailbox;

#[derive(Debug)]
enum Message {
    Ask(u64, oneshot::Sender<u64>),
    Tell(u64),
    Total(oneshot::Sender<u64>),
}

/// The sending end of the actor's channel, which is unbounded: a bounded one is slower.
#[derive(Debug, Clone)]
pub struct TokioMailbox(mpsc::UnboundedSender<Message>);

impl Mailbox for TokioMailbox {
    const NAME: &'static str = "tokio-mpsc-oneshot";

    async fn start() -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut total = 0;
            while let Some(message) = receiver.recv().await {
                match message {
                    // Nobody stops waiting for an answer here.
                    Message::Ask(message, answer) => drop(answer.send(message)),
                    Message::Tell(message) => total += message,
                    Message::Total(answer) => drop(answer.send(std::mem::take(&mut total))),
                }
            }
        });
        Self(sender)
    }

    async fn ask(&self, message: u64) -> u64 {
        self.begin(message).await.expect("the actor answers")
    }

    fn tell(&self, message: u64) {
        self.0
            .send(Message::Tell(message))
            .expect("the actor lives");
    }

    async fn total(&self) -> u64 {
        let (answer, answered) = oneshot::channel();
        self.0
            .send(Message::Total(answer))
            .expect("the actor lives");
        answered.await.expect("the actor answers")
    }
}

impl TokioMailbox {
    fn begin(&self, message: u64) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send(Message::Ask(message, answer))
            .expect("the actor lives");
        answered
    }

    /// Asks all before the first answer is awaited; the sum of the answers.
    ///
    /// # Panics
    /// When the actor is gone.
    pub async fn ask_all(self, messages: u64) -> u64 {
        let mut answers = Vec::with_capacity(usize::try_from(messages).unwrap_or(0));
        answers.extend((0..messages).map(|message| self.begin(message)));
        let mut sum = 0;
        for answered in answers {
            sum += answered.await.expect("the actor answers");
        }
        sum
    }

    /// A burst of `half` questions, and then as many round trips; the sum of the answers.
    pub async fn mixed(self, half: u64) -> u64 {
        let burst = self.clone().ask_all(half).await;
        let mut sum = burst;
        for message in 0..half {
            sum += self.ask(message).await;
        }
        sum
    }
}
