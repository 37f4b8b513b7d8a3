//! The `replay` program against repositories made for the purpose, run as its users run it; and what the
//! documents name.

mod arguments;
mod broken_input;
mod guarantees;
mod history_shapes;
mod odd_trees;
mod repositories;
mod support;
mod verdicts;
