//! The worker core, from the outside.

mod completions;
mod eventually;
mod hosts;
mod ledger;
mod sizes;
mod sleeping;
mod workers;
