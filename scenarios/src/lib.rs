//! One message, and everything that can happen to it at once: how it enters, where it runs, what
//! panics, what becomes of its completion, what interferes, and when.
//!
//! The scenarios are the cross product of these, without the cells that cannot be, each of which has a
//! reason ([`Scenario::legal`]). Each is played on an executor of its own, with values that are made
//! once, dropped once, and not looked at afterwards; then the executor must still work, its counts
//! must add up, and its core must shut down.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "it lives with the tests of the core")]
#[path = "../../executor-core/tests/awkward/mod.rs"]
mod awkward;
mod axes;
mod expect;
mod held;
mod host;
mod play;
mod script;
pub mod sequences;
mod subject;
mod tracked;
mod waiting;

pub use axes::{Entry, Fate, Interference, Moment, Path, Scenario, Site, scenarios};
pub use host::{Host, Runtimes};
pub use play::play;
pub use waiting::{DEADLINE, block_on, eventually};
