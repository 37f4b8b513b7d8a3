//! Counts values that live.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How many values of a test live, and how many were ever made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<(AtomicI64, AtomicI64)>);

/// A value that a ledger counts.
#[derive(Debug)]
pub(crate) struct Counted(Ledger);

impl Ledger {
    pub(crate) fn value(&self) -> Counted {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }

    pub(crate) fn alive(&self) -> i64 {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn made(&self) -> i64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let before = self.0.0.0.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a value was dropped twice");
    }
}
