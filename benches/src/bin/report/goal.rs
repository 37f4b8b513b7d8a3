//! What a case is to reach, and whether it did.

use serde::Serialize;

use crate::row::Rows;

/// Which side of the figure is the good one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost,
    AtLeast,
}

/// One figure that a case is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// What is measured, without the figure.
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) figure: f64,
    pub(crate) unit: &'static str,
    /// Measured in whole runs only: a quick one leaves it out.
    pub(crate) slow: bool,
    pub(crate) measured: fn(Rows<'_>) -> Option<f64>,
}

/// At most so many nanoseconds.
pub(crate) const fn ns(
    what: &'static str,
    figure: f64,
    measured: fn(Rows<'_>) -> Option<f64>,
) -> Goal {
    at_most(what, figure, "ns", measured)
}

/// At most so much.
pub(crate) const fn at_most(
    what: &'static str,
    figure: f64,
    unit: &'static str,
    measured: fn(Rows<'_>) -> Option<f64>,
) -> Goal {
    Goal {
        what,
        bound: Bound::AtMost,
        figure,
        unit,
        slow: false,
        measured,
    }
}

/// At least so many times.
pub(crate) const fn at_least(
    what: &'static str,
    figure: f64,
    measured: fn(Rows<'_>) -> Option<f64>,
) -> Goal {
    Goal {
        what,
        bound: Bound::AtLeast,
        figure,
        unit: "times",
        slow: false,
        measured,
    }
}

/// No allocation for each operation; what starts the threads of a round is spread over its operations.
pub(crate) const NO_ALLOCATION: Goal = at_most(
    "allocations of ours, an operation",
    0.001,
    "allocations",
    |rows| rows.allocations("ours"),
);

impl Goal {
    pub(crate) const fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    pub(crate) fn judge(&self, rows: Rows<'_>) -> Part {
        let measured = (self.measured)(rows);
        let met = measured.is_some_and(|measured| match self.bound {
            Bound::AtMost => measured <= self.figure,
            Bound::AtLeast => measured >= self.figure,
        });
        let bound = match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        Part {
            goal: format!("{}: {bound} {} {}", self.what, self.figure, self.unit),
            value: self.figure,
            unit: self.unit,
            measured,
            met,
        }
    }
}

/// One goal, judged.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Part {
    pub(crate) goal: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// None: it was not measured, and so not met.
    pub(crate) measured: Option<f64>,
    pub(crate) met: bool,
}

/// All goals of a case, as the JSON has them; the figure is that of the first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) case: String,
    pub(crate) subject: &'static str,
    pub(crate) value: Option<f64>,
    pub(crate) unit: Option<&'static str>,
    pub(crate) met: bool,
    pub(crate) parts: Vec<Part>,
}

impl Verdict {
    pub(crate) fn of(case: String, goals: &[Goal], rows: Rows<'_>, quick: bool) -> Self {
        let wanted = goals.iter().filter(|goal| !(quick && goal.slow));
        let parts: Vec<_> = wanted.map(|goal| goal.judge(rows)).collect();
        Self {
            case,
            subject: "goal",
            value: parts.first().map(|part| part.value),
            unit: parts.first().map(|part| part.unit),
            met: parts.iter().all(|part| part.met),
            parts,
        }
    }
}
