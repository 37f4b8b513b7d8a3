//! The serial executor, from the outside.

mod abandoned;
mod capacity;
#[path = "../../../executor-core/tests/contract/mod.rs"]
mod contract;
mod delayed;
mod detached;
mod order;
mod orphans;
mod reentrancy;
mod state;
mod streams;
mod subject;
