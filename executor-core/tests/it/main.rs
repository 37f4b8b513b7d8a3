//! The worker core, from the outside.

mod completions;
mod ledger;
mod sizes;
mod workers;
