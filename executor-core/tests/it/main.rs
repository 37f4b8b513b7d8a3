//! The worker core, from the outside.

mod callbacks;
mod completions;
mod errors;
mod eventually;
mod hosts;
mod ledger;
mod outcomes;
mod real_time;
mod runtime_threads;
mod schedules;
mod sizes;
mod sleeping;
mod timers;
mod traits;
mod turned_away;
mod virtual_clock;
mod workers;
