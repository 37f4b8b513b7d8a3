//! The serial executor, from the outside.

mod order;
