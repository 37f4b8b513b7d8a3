//! The worker core, from the outside.

mod completions;
mod eventually;
mod ledger;
mod sizes;
mod workers;
