//! The parallel executor, from the outside.

#[path = "../../../executor-core/tests/contract/mod.rs"]
mod contract;
mod limit;
mod permits;
mod subject;
