//! What an executor lends to all its handlers: its name and its services.

use crate::services::Services;

/// Name and services of one executor.
#[derive(Debug, Default)]
pub struct Environment {
    /// The executor's name, for errors, traces and metrics.
    pub name: String,
    /// What handlers can ask their context for.
    pub services: Services,
}

static NONE: Environment = Environment {
    name: String::new(),
    services: Services::new(),
};

impl Environment {
    /// The environment of work that belongs to no executor.
    pub(crate) fn none() -> &'static Self {
        &NONE
    }
}
