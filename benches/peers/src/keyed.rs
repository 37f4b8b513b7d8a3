//! What is written by hand to keep the order for each key: a map of mutexes.

use std::hint::black_box;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Mutex;

/// A mutex for each key.
#[derive(Debug, Clone, Default)]
pub struct Mutexes(Arc<DashMap<u64, Arc<Mutex<()>>, foldhash::fast::RandomState>>);

impl Mutexes {
    /// With the keys `0..keys`.
    #[must_use]
    pub fn of(keys: u64) -> Self {
        let mutexes = Self::default();
        for key in 0..keys {
            mutexes.0.insert(key, Arc::default());
        }
        mutexes
    }

    /// Gives the message back from within the mutex of its key.
    pub async fn lock(&self, key: u64, message: u64) -> u64 {
        let mutex = Arc::clone(&self.0.entry(key).or_default());
        let guard = mutex.lock().await;
        let message = black_box(message);
        drop(guard);
        message
    }
}

/// Locks the same mutex for each message.
pub async fn lock_each(mutex: &Mutex<()>, messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        let guard = mutex.lock().await;
        sum += black_box(message);
        drop(guard);
    }
    sum
}

/// A task for each stream with a mutex of its own.
///
/// # Panics
/// When a task does.
pub async fn lock_streams(streams: usize, messages: u64) -> u64 {
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            tokio::spawn(async move {
                let mutex = Arc::new(Mutex::new(()));
                lock_each(&mutex, messages).await
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("the task does not panic");
    }
    sum
}

/// A task for each slice of keys, which locks the mutex of each.
///
/// # Panics
/// When a task does.
pub async fn lock_keys(mutexes: Mutexes, keys: Vec<Arc<Vec<u32>>>) -> u64 {
    let tasks: Vec<_> = keys
        .into_iter()
        .map(|keys| {
            let mutexes = mutexes.clone();
            tokio::spawn(async move {
                let mut sum = 0;
                for &key in keys.iter() {
                    sum += mutexes.lock(u64::from(key), u64::from(key)).await;
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
