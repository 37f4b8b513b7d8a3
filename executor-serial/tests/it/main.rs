//! The serial executor, from the outside.

mod abandoned;
mod batches;
mod begun;
mod capacity;
#[path = "../../../executor-core/tests/contract/mod.rs"]
mod contract;
mod deadlines;
mod delayed;
mod detached;
mod line;
mod order;
mod orphans;
mod reentrancy;
mod rig;
mod schedules;
mod state;
mod streams;
mod subject;
mod waiting;
