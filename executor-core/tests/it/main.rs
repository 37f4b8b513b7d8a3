//! The worker core, from the outside.

mod callbacks;
mod completions;
mod eventually;
mod hosts;
mod ledger;
mod sizes;
mod sleeping;
mod timers;
mod turned_away;
mod workers;
