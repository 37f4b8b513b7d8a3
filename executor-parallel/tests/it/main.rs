//! The parallel executor, from the outside.

#[path = "../../../executor-core/tests/contract/mod.rs"]
mod contract;
mod delayed;
mod limit;
mod permits;
mod put_off;
mod subject;
