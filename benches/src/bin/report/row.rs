//! What is known about one subject of one case with one set of parameters.

use serde::Serialize;
use serde_json::{Map, Value};

/// The parameters of a set, by name.
pub(crate) type Params = Map<String, Value>;

/// Makes parameters: `params! { "messages": 100 }`.
macro_rules! params {
    ($($name:literal: $value:expr),* $(,)?) => {
        $crate::row::Params::from_iter([$(($name.to_owned(), serde_json::json!($value))),*])
    };
}
pub(crate) use params;

/// Least, middle and greatest of the samples.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one sample.
    pub(crate) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self {
            min: samples[0],
            median: samples[samples.len() / 2],
            max: samples[samples.len() - 1],
        }
    }
}

/// One line of a table, and one object of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) subject: String,
    pub(crate) params: Params,
    /// Nanoseconds for each operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_ours: Option<f64>,
    /// Allocations of each operation, on all threads; not known of other processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<f64>,
    pub(crate) samples: usize,
    /// Where something else than time is measured: the median, or the greatest if none may be above zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// What `value` is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<&'static str>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) absent: Option<String>,
}

impl Row {
    /// The figure that the ratio is made of.
    pub(crate) fn figure(&self) -> Option<f64> {
        self.ns.map(|ns| ns.median).or(self.value)
    }

    /// The parameters as text: `messages=100 streams=10`.
    pub(crate) fn set(&self) -> String {
        let text = |(name, value): (&String, &Value)| match value {
            Value::String(value) => format!("{name}={value}"),
            value => format!("{name}={value}"),
        };
        self.params.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    fn matches(&self, subject: &str, set: &str) -> bool {
        let own = self.set();
        self.subject == subject
            && set
                .split_whitespace()
                .all(|wanted| own.split(' ').any(|param| param == wanted))
    }
}

/// The rows of a case, to be asked by its goals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a>(pub(crate) &'a [Row]);

impl<'a> Rows<'a> {
    pub(crate) fn row(self, subject: &str, set: &str) -> Option<&'a Row> {
        self.0.iter().find(|row| row.matches(subject, set))
    }

    /// The median time, or the value.
    pub(crate) fn figure(self, subject: &str, set: &str) -> Option<f64> {
        self.row(subject, set)?.figure()
    }

    /// How many times the figure of the first is that of the second.
    pub(crate) fn ratio(self, first: (&str, &str), second: (&str, &str)) -> Option<f64> {
        Some(self.figure(first.0, first.1)? / self.figure(second.0, second.1)?)
    }

    /// The most allocations of a subject, over all sets.
    pub(crate) fn allocations(self, subject: &str) -> Option<f64> {
        let rows = self.0.iter().filter(|row| row.subject == subject);
        rows.filter_map(|row| row.allocs).reduce(f64::max)
    }

    /// The greatest over the least figure of a subject, over all sets.
    pub(crate) fn spread(self, subject: &str) -> Option<f64> {
        let figures = || {
            let rows = self.0.iter().filter(|row| row.subject == subject);
            rows.filter_map(Row::figure)
        };
        Some(figures().reduce(f64::max)? / figures().reduce(f64::min)?)
    }

    /// The greatest figure of a subject, over all sets.
    pub(crate) fn worst(self, subject: &str) -> Option<f64> {
        let rows = self.0.iter().filter(|row| row.subject == subject);
        rows.filter_map(Row::figure).reduce(f64::max)
    }
}

impl Row {
    pub(crate) fn is_ours(&self) -> bool {
        self.subject == "ours" || self.subject.starts_with("ours:")
    }

    pub(crate) fn is_floor(&self) -> bool {
        self.subject.starts_with("floor:")
    }

    pub(crate) fn is_peer(&self) -> bool {
        !self.is_ours() && !self.is_floor()
    }
}
