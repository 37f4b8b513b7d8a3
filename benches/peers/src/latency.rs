//! How long messages wait for their handling when they arrive at random times.

use std::fmt;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// When messages were due, and how long after that they were handled.
#[derive(Debug)]
pub struct Arrivals {
    origin: Instant,
    due: Vec<AtomicU64>,
    waited: Vec<AtomicU64>,
    handled: AtomicU64,
}

/// What became of messages that were sent at random times, in nanoseconds.
#[derive(Debug)]
pub struct Driven {
    /// How long each waited, from when it was due until it was handled.
    pub waits: Vec<u64>,
    /// How late each was sent: the part of its wait for which whoever sends had no processor, or was at those before.
    pub late: Vec<u64>,
    /// The whole time.
    pub took: Duration,
}

impl Arrivals {
    /// For so many messages.
    #[must_use]
    pub fn of(messages: usize) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            due: (0..messages).map(|_| AtomicU64::new(0)).collect(),
            waited: (0..messages).map(|_| AtomicU64::new(0)).collect(),
            handled: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes that a message is handled; what a handler calls.
    pub fn note(&self, message: usize) {
        let due = self.due[message].load(Ordering::Relaxed);
        let waited = self.now().saturating_sub(due);
        self.waited[message].store(waited, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Release);
    }

    /// Sends each message after its gap, in nanoseconds, whether or not those before are handled,
    /// and waits for all.
    ///
    /// A message that is sent too late, because sending takes its time, counts from when it was due.
    ///
    /// # Panics
    /// When not all are handled within a minute.
    pub fn drive(&self, gaps: impl Iterator<Item = f64>, mut send: impl FnMut(usize)) -> Driven {
        self.handled.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let mut due = self.now() as f64;
        let mut late = Vec::with_capacity(self.due.len());
        for (message, gap) in (0..self.due.len()).zip(gaps) {
            due += gap;
            let mut now = self.now();
            while (now as f64) < due {
                // Whoever handles the messages may need this processor.
                std::thread::yield_now();
                now = self.now();
            }
            self.due[message].store(due as u64, Ordering::Relaxed);
            late.push(now - due as u64);
            send(message);
        }
        let sent = late.len() as u64;
        while self.handled.load(Ordering::Acquire) < sent {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{} of {sent} messages were handled",
                self.handled.load(Ordering::Acquire),
            );
            std::thread::yield_now();
        }
        let waited = self.waited.iter().take(late.len());
        Driven {
            waits: waited
                .map(|waited| waited.load(Ordering::Relaxed))
                .collect(),
            late,
            took: start.elapsed(),
        }
    }
}

/// Works for about a microsecond; what a hot stream does all the time.
pub fn microsecond() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(1) {
        spin_loop();
    }
}

/// A tokio task with a channel for each key.
pub struct TokioActors {
    senders: Vec<mpsc::UnboundedSender<usize>>,
    hot: Arc<AtomicBool>,
}

impl fmt::Debug for TokioActors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioActors").finish_non_exhaustive()
    }
}

impl TokioActors {
    /// Starts an actor for each of the keys `0..keys`.
    #[must_use]
    pub fn start(runtime: &Runtime, keys: u32, arrivals: &Arc<Arrivals>) -> Self {
        let start = |_| {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let arrivals = Arc::clone(arrivals);
            runtime.spawn(async move {
                while let Some(message) = receiver.recv().await {
                    arrivals.note(message);
                }
            });
            sender
        };
        Self {
            senders: (0..keys).map(start).collect(),
            hot: Arc::default(),
        }
    }

    /// Sends to the actor of a key.
    ///
    /// # Panics
    /// When the actor is gone.
    pub fn send(&self, key: u32, message: usize) {
        self.senders[key as usize]
            .send(message)
            .expect("the actor lives");
    }

    /// Keeps one more actor busy until [`TokioActors::cool_down`].
    pub fn heat_up(&self, runtime: &Runtime) {
        let (sender, mut receiver) = mpsc::unbounded_channel::<()>();
        let hot = Arc::clone(&self.hot);
        hot.store(true, Ordering::Relaxed);
        let _ = sender.send(());
        runtime.spawn(async move {
            while receiver.recv().await.is_some() && hot.load(Ordering::Relaxed) {
                microsecond();
                // It holds the receiver itself.
                let _ = sender.send(());
            }
        });
    }

    /// Lets the busy actor end.
    pub fn cool_down(&self) {
        self.hot.store(false, Ordering::Relaxed);
    }
}
