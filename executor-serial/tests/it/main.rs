//! The serial executor, from the outside.

#[path = "../../../executor-core/tests/contract/mod.rs"]
mod contract;
mod order;
mod probe;
mod subject;
