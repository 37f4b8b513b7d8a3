//! Channels with one consumer, which adds up plain integers.
//!
//! They have no tasks and no results: less than what an executor does.

use std::fmt;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::Runtime;

/// Asks the consumer for the sum so far; no message has this value.
const TOTAL: u64 = u64::MAX;

type Send = Box<dyn Fn(u64) + std::marker::Send + Sync>;
type Length = Box<dyn Fn() -> usize + std::marker::Send + Sync>;

/// A channel and its consumer.
pub struct Channel {
    /// The name in the report.
    pub name: &'static str,
    send: Option<Send>,
    length: Option<Length>,
    totals: Mutex<mpsc::Receiver<u64>>,
    consumer: Option<JoinHandle<()>>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Adds up, and reports when asked.
struct Adder {
    total: u64,
    totals: mpsc::Sender<u64>,
}

impl Adder {
    #[inline]
    fn take(&mut self, message: u64) {
        if message == TOTAL {
            // The channel's owner waits for it, unless it is gone.
            let _ = self.totals.send(std::mem::take(&mut self.total));
        } else {
            self.total += message;
        }
    }
}

impl Channel {
    fn with_thread(
        name: &'static str,
        send: Send,
        length: Length,
        mut receive: impl FnMut() -> Option<u64> + std::marker::Send + 'static,
    ) -> Self {
        let (sender, totals) = mpsc::channel();
        let mut adder = Adder {
            total: 0,
            totals: sender,
        };
        let consumer = thread::spawn(move || {
            while let Some(message) = receive() {
                adder.take(message);
            }
        });
        Self {
            name,
            send: Some(send),
            length: Some(length),
            totals: Mutex::new(totals),
            consumer: Some(consumer),
        }
    }

    /// Crossbeam's unbounded channel.
    #[must_use]
    pub fn crossbeam() -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let counted = sender.clone();
        Self::with_thread(
            "crossbeam-channel",
            Box::new(move |message| {
                // A message that is not taken is missing in the sum.
                let _ = sender.send(message);
            }),
            Box::new(move || counted.len()),
            move || receiver.recv().ok(),
        )
    }

    /// Flume's unbounded channel.
    #[must_use]
    pub fn flume() -> Self {
        let (sender, receiver) = flume::unbounded();
        let counted = sender.clone();
        Self::with_thread(
            "flume",
            Box::new(move |message| {
                // A message that is not taken is missing in the sum.
                let _ = sender.send(message);
            }),
            Box::new(move || counted.len()),
            move || receiver.recv().ok(),
        )
    }

    /// Kanal's unbounded channel.
    #[must_use]
    pub fn kanal() -> Self {
        let (sender, receiver) = kanal::unbounded();
        let counted = sender.clone();
        Self::with_thread(
            "kanal",
            Box::new(move |message| {
                // A message that is not taken is missing in the sum.
                let _ = sender.send(message);
            }),
            Box::new(move || counted.len()),
            move || receiver.recv().ok(),
        )
    }

    /// Tokio's unbounded channel, its consumer a task of the runtime.
    #[must_use]
    pub fn tokio(runtime: &Runtime) -> Self {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let (totals_sender, totals) = mpsc::channel();
        let mut adder = Adder {
            total: 0,
            totals: totals_sender,
        };
        runtime.spawn(async move {
            while let Some(message) = receiver.recv().await {
                adder.take(message);
            }
        });
        Self {
            name: "tokio-mpsc",
            send: Some(Box::new(move |message| {
                // A message that is not taken is missing in the sum.
                let _ = sender.send(message);
            })),
            length: None,
            totals: Mutex::new(totals),
            consumer: None,
        }
    }

    /// Sends the messages `0..messages`.
    pub fn send_all(&self, messages: u64) {
        if let Some(send) = &self.send {
            for message in 0..messages {
                send(message);
            }
        }
    }

    /// Waits until everything sent was received; the sum.
    ///
    /// # Panics
    /// When the consumer is gone.
    #[must_use]
    pub fn total(&self) -> u64 {
        if let Some(send) = &self.send {
            send(TOTAL);
        }
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.recv().expect("the consumer answers")
    }

    /// How many messages wait, where the channel can tell.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        self.length.as_ref().map(|length| length())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Without a sender the consumer ends.
        (self.send, self.length) = (None, None);
        if let Some(consumer) = self.consumer.take() {
            // A consumer that panicked has failed the round that it was in.
            let _ = consumer.join();
        }
    }
}
