//! An actor of kameo.

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use crate::mailbox::Mailbox;

/// The actor behind a [`KameoMailbox`].
#[derive(Debug, Default, Actor)]
pub struct Adder {
    total: u64,
}

/// Comes back as it is.
#[derive(Debug, Clone, Copy)]
pub struct Ask(u64);

/// Is added to the total.
#[derive(Debug, Clone, Copy)]
pub struct Tell(u64);

/// Takes the total.
#[derive(Debug, Clone, Copy)]
pub struct Total;

impl Message<Ask> for Adder {
    type Reply = u64;

    async fn handle(&mut self, message: Ask, _: &mut Context<Self, u64>) -> u64 {
        message.0
    }
}

impl Message<Tell> for Adder {
    type Reply = ();

    async fn handle(&mut self, message: Tell, _: &mut Context<Self, ()>) {
        self.total += message.0;
    }
}

impl Message<Total> for Adder {
    type Reply = u64;

    async fn handle(&mut self, _: Total, _: &mut Context<Self, u64>) -> u64 {
        std::mem::take(&mut self.total)
    }
}

/// An address with an unbounded mailbox.
#[derive(Debug, Clone)]
pub struct KameoMailbox(ActorRef<Adder>);

impl Mailbox for KameoMailbox {
    const NAME: &'static str = "kameo";

    async fn start() -> Self {
        Self(Adder::spawn_with_mailbox(
            Adder::default(),
            mailbox::unbounded(),
        ))
    }

    async fn ask(&self, message: u64) -> u64 {
        self.0.ask(Ask(message)).await.expect("the actor answers")
    }

    fn tell(&self, message: u64) {
        self.0
            .tell(Tell(message))
            .try_send()
            .expect("the actor lives");
    }

    async fn total(&self) -> u64 {
        self.0.ask(Total).await.expect("the actor answers")
    }
}
