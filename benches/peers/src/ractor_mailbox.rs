//! An actor of ractor.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call};

use crate::mailbox::Mailbox;

/// The actor behind a [`RactorMailbox`].
#[derive(Debug)]
pub struct Adder;

/// What an [`Adder`] understands.
#[derive(Debug)]
pub enum Message {
    /// Comes back as it is.
    Ask(u64, RpcReplyPort<u64>),
    /// Is added to the total.
    Tell(u64),
    /// Takes the total.
    Total(RpcReplyPort<u64>),
}

impl Actor for Adder {
    type Msg = Message;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ask(message, answer) => answer.send(message)?,
            Message::Tell(message) => *total += message,
            Message::Total(answer) => answer.send(std::mem::take(total))?,
        }
        Ok(())
    }
}

/// An actor's address; mailboxes of ractor are unbounded.
#[derive(Debug, Clone)]
pub struct RactorMailbox(ActorRef<Message>);

impl Mailbox for RactorMailbox {
    const NAME: &'static str = "ractor";

    async fn start() -> Self {
        let (actor, _) = Actor::spawn(None, Adder, ())
            .await
            .expect("the actor starts");
        Self(actor)
    }

    async fn ask(&self, message: u64) -> u64 {
        call!(self.0, Message::Ask, message).expect("the actor answers")
    }

    fn tell(&self, message: u64) {
        self.0
            .send_message(Message::Tell(message))
            .expect("the actor lives");
    }

    async fn total(&self) -> u64 {
        call!(self.0, Message::Total).expect("the actor answers")
    }
}
