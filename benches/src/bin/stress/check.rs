//! What must hold when a round is over.

use executor_core::{Shutdown, Totals};

use crate::message::Ledger;

/// What was violated, one line for each.
pub(crate) type Violations = Vec<String>;

pub(crate) fn expect(violations: &mut Violations, holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        violations.push(what());
    }
}

impl Ledger {
    /// Whether the executor's own totals say the same.
    pub(crate) fn check(
        &self,
        name: &str,
        totals: Totals,
        mode: Shutdown,
        violations: &mut Violations,
    ) {
        let (finished, admitted, dropped) =
            (totals.finished(), self.admitted.get(), self.dropped.get());
        expect(
            violations,
            (admitted..=admitted + dropped).contains(&finished),
            || {
                format!(
                    "{name}: {finished} outcomes of {admitted} admitted and {dropped} dropped: {totals:?}"
                )
            },
        );
        expect(violations, totals.refused == self.refused.get(), || {
            format!(
                "{name}: {} refusals were seen: {totals:?}",
                self.refused.get()
            )
        });
        expect(violations, self.values.get() <= totals.handled, || {
            format!("{name}: {} values were seen: {totals:?}", self.values.get())
        });
        let started = self.started.get();
        let ran = totals.handled + totals.failed + totals.panicked;
        // An abort, or the drop of a structured execution, ends handlers that have started.
        let exact = mode == Shutdown::Drain && (dropped == 0 || name != "parallel");
        expect(
            violations,
            if exact {
                ran == started
            } else {
                ran <= started
            },
            || format!("{name}: {started} handlers started: {totals:?}"),
        );
        let cancelled = self.cancelled.get();
        let right = if name == "parallel" {
            (cancelled..=cancelled + dropped).contains(&totals.cancelled)
        } else {
            totals.cancelled == cancelled
        };
        expect(violations, right, || {
            format!("{name}: {cancelled} were cancelled: {totals:?}")
        });
        expect(
            violations,
            mode == Shutdown::Abort || totals.aborted == 0,
            || format!("{name}: aborted by a shutdown that drains: {totals:?}"),
        );
    }

    pub(crate) fn print(&self, name: &str) {
        println!(
            "    {name:<9} {:>8} admitted, {:>7} started, {:>7} values, {:>6} cancelled, {:>6} refused, {:>5} dropped",
            self.admitted.get(),
            self.started.get(),
            self.values.get(),
            self.cancelled.get(),
            self.refused.get(),
            self.dropped.get(),
        );
    }
}
