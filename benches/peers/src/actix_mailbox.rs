//! An actor of actix, whose actors share the thread of their system or have an arbiter's.

use std::fmt;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, MessageResult, System, SystemRunner};

/// The actor behind the addresses.
#[derive(Debug, Default)]
pub struct Adder {
    total: u64,
}

impl Actor for Adder {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1 << 20);
    }
}

/// Comes back as it is.
#[derive(Debug)]
pub struct Ask(u64);

impl Message for Ask {
    type Result = u64;
}

/// Is added to the total.
#[derive(Debug)]
pub struct Tell(u64);

impl Message for Tell {
    type Result = ();
}

/// Takes the total.
#[derive(Debug)]
pub struct Total;

impl Message for Total {
    type Result = u64;
}

impl Handler<Ask> for Adder {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, message: Ask, _: &mut Context<Self>) -> MessageResult<Ask> {
        MessageResult(message.0)
    }
}

impl Handler<Tell> for Adder {
    type Result = ();

    fn handle(&mut self, message: Tell, _: &mut Context<Self>) {
        self.total += message.0;
    }
}

impl Handler<Total> for Adder {
    type Result = MessageResult<Total>;

    fn handle(&mut self, _: Total, _: &mut Context<Self>) -> MessageResult<Total> {
        MessageResult(std::mem::take(&mut self.total))
    }
}

/// An actor on the calling thread, and one on a thread of its own.
pub struct Actix {
    system: SystemRunner,
    near: Addr<Adder>,
    arbiter: Arbiter,
    far: Addr<Adder>,
}

impl fmt::Debug for Actix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actix").finish_non_exhaustive()
    }
}

impl Default for Actix {
    fn default() -> Self {
        Self::new()
    }
}

impl Actix {
    /// Starts both actors.
    #[must_use]
    pub fn new() -> Self {
        let system = System::new();
        let near = system.block_on(async { Adder::default().start() });
        let arbiter = system.block_on(async { Arbiter::new() });
        let far = Adder::start_in_arbiter(&arbiter.handle(), |_| Adder::default());
        Self {
            system,
            near,
            arbiter,
            far,
        }
    }

    /// Asks the actor on the calling thread one after another; the sum of the answers.
    ///
    /// # Panics
    /// When the actor is gone.
    #[must_use]
    pub fn ask_near(&self, messages: u64) -> u64 {
        let near = self.near.clone();
        // As a task: a `block_on` parks and unparks for each answer.
        let asking = async move { ask_each(&near, messages).await };
        self.system
            .block_on(async { actix::spawn(asking).await })
            .expect("the task does not panic")
    }

    /// Asks the actor on the other thread one after another; the sum of the answers.
    ///
    /// # Panics
    /// When the actor is gone.
    #[must_use]
    pub fn ask_far(&self, messages: u64) -> u64 {
        self.system.block_on(ask_each(&self.far, messages))
    }

    /// Tells the actor on the other thread, and takes the total.
    ///
    /// # Panics
    /// When the actor is gone.
    #[must_use]
    pub fn tell_all(&self, messages: u64) -> u64 {
        self.system.block_on(async {
            for message in 0..messages {
                self.far.do_send(Tell(message));
            }
            self.far.send(Total).await.expect("the actor answers")
        })
    }
}

impl Drop for Actix {
    fn drop(&mut self) {
        self.arbiter.stop();
        System::current().stop();
    }
}

async fn ask_each(actor: &Addr<Adder>, messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        sum += actor.send(Ask(message)).await.expect("the actor answers");
    }
    sum
}
