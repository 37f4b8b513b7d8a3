//! What is done in a sequence, and how it is read from bytes.

use executor_core::Shutdown;

/// How many streams there are.
pub const KEYS: u64 = 3;

/// What is done.
///
/// A key is less than [`KEYS`]. A message is chosen by any number, modulo how many there are to which
/// the operation can be done; without any, nothing is done.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are explained once, for all")]
pub enum Op {
    /// Submits a message whose handler waits for its door, or does not.
    Submit { key: u64, waits: bool },
    /// Submits so many messages at once, which wait for one door.
    Batch { key: u64, waits: bool, size: usize },
    /// Executes a message.
    Execute { key: u64, waits: bool },
    /// Submits a message that is admitted so many ticks later.
    Delay { key: u64, waits: bool, ticks: u32 },
    /// Drops the caller's end of a message.
    Drop(usize),
    /// Cancels a message.
    Cancel(usize),
    /// Opens the door of a handler that waits.
    Open(usize),
    /// Moves the clock on by so many ticks.
    Advance(u32),
    /// Evicts the streams that are idle.
    Evict,
    /// Sets how many handlers may live, at least one.
    Limit(usize),
    /// Drains, or finds that it would have to wait.
    Drain,
    /// Shuts the executor down; only the first has an effect.
    Shutdown(Shutdown),
}

impl Op {
    /// Reads the next operation, of two bytes, all of which are legal; none: the bytes are used up.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (&[kind, detail], rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        let key = u64::from(detail & 0b11) % KEYS;
        let waits = detail & 0b100 != 0;
        let number = detail >> 3;
        Some(match kind % 16 {
            0 | 1 => Self::Submit { key, waits },
            2 => Self::Batch {
                key,
                waits,
                size: usize::from(number % 5),
            },
            3 | 4 => Self::Execute { key, waits },
            5 | 6 => Self::Delay {
                key,
                waits,
                ticks: u32::from(number % 4),
            },
            7 => Self::Drop(detail.into()),
            8 | 9 => Self::Cancel(detail.into()),
            10 | 11 => Self::Open(detail.into()),
            12 => Self::Advance(u32::from(detail % 4)),
            13 => Self::Evict,
            14 => Self::Limit(usize::from(detail % 3) + 1),
            _ => match detail % 4 {
                0 => Self::Shutdown(Shutdown::Abort),
                1 => Self::Shutdown(Shutdown::Drain),
                _ => Self::Drain,
            },
        })
    }
}
