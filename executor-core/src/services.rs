//! Services: what an executor was built with and its handlers may ask for, one value for each type.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

/// Why a handler was not given a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MissingService {
    /// The executor was not built with one.
    #[error(
        "no service of type `{type_name}` was given to the executor: add it with `.service(..)` when building"
    )]
    NotGiven {
        /// The full name of the type asked for.
        type_name: &'static str,
    },
    /// The context of a structured execution was asked outside of its handler.
    #[error(
        "the service of type `{type_name}` was asked for outside of the handler: ask in it, and take the `Arc` along"
    )]
    OutsideHandler {
        /// The full name of the type asked for.
        type_name: &'static str,
    },
}

impl MissingService {
    /// The full name of the type asked for.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::NotGiven { type_name } | Self::OutsideHandler { type_name } => type_name,
        }
    }
}

/// A map from a type to the one shared value of that type.
#[derive(Clone, Default)]
pub struct Services {
    /// Sorted by type, each type at most once: there are few, and they are looked up far more often
    /// than added.
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    id: TypeId,
    type_name: &'static str,
    /// A value of the type that `id` identifies.
    value: Arc<dyn Any + Send + Sync>,
}

impl Services {
    /// Creates an empty map, which allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds `service`, in place of an earlier one of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, service: T) {
        let entry = Entry {
            id: TypeId::of::<T>(),
            type_name: type_name::<T>(),
            value: Arc::new(service),
        };
        match self.position(entry.id) {
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Returns the service of type `T`.
    ///
    /// # Errors
    /// [`MissingService::NotGiven`], which names `T`, if none was added.
    pub fn get<T: Any + Send + Sync>(&self) -> Result<Arc<T>, MissingService> {
        self.position(TypeId::of::<T>())
            .ok()
            .and_then(|at| Arc::clone(&self.entries[at].value).downcast().ok())
            .ok_or(MissingService::NotGiven {
                type_name: type_name::<T>(),
            })
    }

    /// Where the entry of `id` is, or else where it belongs.
    fn position(&self, id: TypeId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.entries.iter().map(|entry| entry.type_name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Services;

    struct Ledger(u32);
    struct Clock;

    #[test]
    fn each_type_finds_its_own_service() {
        let mut services = Services::new();
        services.insert(1_u8);
        services.insert("text");
        services.insert(Ledger(7));
        services.insert(2_u16);
        assert_eq!(services.get::<Ledger>().unwrap().0, 7);
        assert_eq!(*services.get::<u8>().unwrap(), 1);
        assert_eq!(*services.get::<u16>().unwrap(), 2);
        assert_eq!(*services.get::<&'static str>().unwrap(), "text");
    }

    #[test]
    fn a_service_is_shared_and_not_copied() {
        let mut services = Services::new();
        services.insert(Ledger(7));
        let copy = services.clone();
        assert!(Arc::ptr_eq(
            &services.get::<Ledger>().unwrap(),
            &copy.get::<Ledger>().unwrap()
        ));
    }

    #[test]
    fn the_newest_service_of_a_type_replaces_the_one_before() {
        let mut services = Services::new();
        services.insert(Ledger(1));
        services.insert(Ledger(2));
        assert_eq!(services.get::<Ledger>().unwrap().0, 2);
    }

    #[test]
    fn a_missing_service_is_an_error_that_names_its_type() {
        let mut services = Services::new();
        services.insert(Ledger(1));
        let error = services.get::<Clock>().err().unwrap();
        assert_eq!(error.type_name(), std::any::type_name::<Clock>());
        assert_eq!(
            error.to_string(),
            format!(
                "no service of type `{}` was given to the executor: add it with `.service(..)` when building",
                error.type_name()
            )
        );
    }

    #[test]
    fn debug_names_the_types() {
        let mut services = Services::new();
        services.insert(1_u8);
        assert_eq!(format!("{services:?}"), r#"{"u8"}"#);
    }

    #[test]
    fn services_are_send_and_sync() {
        const fn send_and_sync<T: Send + Sync>() {}
        const { send_and_sync::<Services>() };
    }
}
