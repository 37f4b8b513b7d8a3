//! Ids and times from the usual calls.

use std::hint::black_box;
use std::time::SystemTime;

use uuid::Uuid;

/// A version 7 id for each message.
#[must_use]
pub fn uuids(messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        black_box(Uuid::now_v7());
        sum += message;
    }
    sum
}

/// The time for each message.
#[must_use]
pub fn times(messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        black_box(SystemTime::now());
        sum += message;
    }
    sum
}
