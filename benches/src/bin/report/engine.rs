//! Takes the samples: one of each subject in turn, so that all meet the same noise.

use std::path::Path;
use std::time::Duration;

use executor_bench_peers::Round;
use executor_benches::allocator::counted;
use indicatif::ProgressBar;
use thiserror::Error;

use crate::outside::Outside;
use crate::row::{Params, Row, Spread};

/// Fewest samples that say anything.
pub(crate) const MIN_SAMPLES: usize = 9;
/// Rounds of one sample at most.
const MAX_ROUNDS: u128 = 100_000;
/// Rounds before the first sample at most, in which pools and queues grow to what is needed.
const WARM_UP: usize = 32;

/// A case did not do its work.
#[derive(Debug, Error)]
pub(crate) enum CaseError {
    #[error("{subject}: a round gave {got} instead of {expected}: a completion is lost or wrong")]
    Lost {
        subject: String,
        got: u64,
        expected: u64,
    },
    #[error("{0}")]
    Outside(String),
}

/// One of those that are compared.
pub(crate) struct Subject<'a> {
    name: String,
    operations: u64,
    expected: u64,
    /// Whether its allocations happen in this process.
    counted: bool,
    round: Box<dyn FnMut() -> Round + 'a>,
}

impl<'a> Subject<'a> {
    /// A subject that measures its rounds itself; each has `operations` and results in `expected`.
    pub(crate) fn new(
        name: impl Into<String>,
        operations: u64,
        expected: u64,
        round: impl FnMut() -> Round + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            operations,
            expected,
            counted: true,
            round: Box::new(round),
        }
    }

    /// A subject all of whose work is measured.
    pub(crate) fn all(
        name: impl Into<String>,
        operations: u64,
        expected: u64,
        mut work: impl FnMut() -> u64 + 'a,
    ) -> Self {
        Self::new(name, operations, expected, move || Round::of(&mut work))
    }

    /// A subject in another process, whose allocations nobody sees.
    pub(crate) fn elsewhere(mut self) -> Self {
        self.counted = false;
        self
    }

    fn round(&mut self) -> Result<Duration, CaseError> {
        let round = (self.round)();
        if round.sum == self.expected {
            return Ok(round.took);
        }
        Err(CaseError::Lost {
            subject: self.name.clone(),
            got: round.sum,
            expected: self.expected,
        })
    }

    fn rounds(&mut self, rounds: u32) -> Result<f64, CaseError> {
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            took += self.round()?;
        }
        Ok(took.as_nanos() as f64 / (self.operations * u64::from(rounds)) as f64)
    }

    /// Warms up, and gives how many rounds make a sample of about `target`.
    fn calibrate(&mut self, target: Duration) -> Result<u32, CaseError> {
        let mut shortest = self.round()?;
        let mut spent = shortest;
        for _ in 1..WARM_UP {
            if spent >= target {
                break;
            }
            let took = self.round()?;
            spent += took;
            shortest = shortest.min(took);
        }
        let rounds = target.as_nanos() / shortest.as_nanos().max(1);
        Ok(u32::try_from(rounds.clamp(1, MAX_ROUNDS)).unwrap_or(1))
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    pub(crate) samples: usize,
    /// How long a sample takes, unless one round is longer.
    pub(crate) target: Duration,
}

/// A case that is being run.
pub(crate) struct Run<'a> {
    pub(crate) case: String,
    pub(crate) effort: Effort,
    pub(crate) outside: &'a Outside,
    /// A directory for files that a case needs.
    pub(crate) scratch: &'a Path,
    pub(crate) progress: &'a ProgressBar,
    pub(crate) rows: Vec<Row>,
}

impl Run<'_> {
    /// What a quick run takes, or a whole one.
    pub(crate) fn pick<T: Copy>(&self, quick: &[T], whole: &[T]) -> Vec<T> {
        if self.effort.quick { quick } else { whole }.to_vec()
    }

    fn row(&self, subject: &str, params: &Params) -> Row {
        Row {
            case: self.case.clone(),
            subject: subject.to_owned(),
            params: params.clone(),
            ns: None,
            ratio_to_ours: None,
            allocs: None,
            bytes: None,
            samples: 0,
            value: None,
            values: None,
            unit: None,
            absent: None,
        }
    }

    fn say(&self, subject: &str) {
        self.progress
            .set_message(format!("{} {subject}", self.case));
    }

    /// Samples all subjects in turn; the ratios are to the first one of ours, or to the first.
    pub(crate) fn compare(
        &mut self,
        params: &Params,
        mut subjects: Vec<Subject<'_>>,
    ) -> Result<(), CaseError> {
        let mut rounds = Vec::with_capacity(subjects.len());
        for subject in &mut subjects {
            self.say(&subject.name);
            rounds.push(subject.calibrate(self.effort.target)?);
        }
        let mut taken = vec![Vec::with_capacity(self.effort.samples); subjects.len()];
        for sample in 0..self.effort.samples {
            for (index, subject) in subjects.iter_mut().enumerate() {
                self.say(&format!("{} sample {}", subject.name, sample + 1));
                taken[index].push(subject.rounds(rounds[index])?);
            }
        }
        let first = self.rows.len();
        for (index, subject) in subjects.iter_mut().enumerate() {
            let mut row = self.row(&subject.name, params);
            let samples = std::mem::take(&mut taken[index]);
            row.samples = samples.len();
            row.ns = Some(Spread::of(samples));
            if subject.counted {
                let (measured, counts) = counted(|| subject.rounds(rounds[index]));
                measured?;
                let operations = (subject.operations * u64::from(rounds[index])) as f64;
                row.allocs = Some(counts.allocations as f64 / operations);
                row.bytes = Some(counts.bytes as f64 / operations);
            }
            self.rows.push(row);
        }
        self.relate(first);
        Ok(())
    }

    /// Takes samples of several figures of each subject in turn: a row for each figure.
    ///
    /// `sample` gives, for a subject, the parameters of each figure, its unit and its value; the unit
    /// `ns` makes a time of it.
    pub(crate) fn figures(
        &mut self,
        samples: usize,
        subjects: &mut [(&str, &mut dyn FnMut() -> Result<Vec<Figure>, CaseError>)],
    ) -> Result<(), CaseError> {
        let mut taken: Vec<Vec<(Figure, Vec<f64>)>> = vec![Vec::new(); subjects.len()];
        for sample in 0..samples {
            for (index, (name, measure)) in subjects.iter_mut().enumerate() {
                self.say(&format!("{name} sample {}", sample + 1));
                for (position, figure) in measure()?.into_iter().enumerate() {
                    if taken[index].len() == position {
                        taken[index].push((figure.clone(), Vec::new()));
                    }
                    taken[index][position].1.push(figure.value);
                }
            }
        }
        let first = self.rows.len();
        for (index, (name, _)) in subjects.iter().enumerate() {
            for (figure, samples) in std::mem::take(&mut taken[index]) {
                let mut row = self.row(name, &figure.params);
                row.samples = samples.len();
                let spread = Spread::of(samples);
                if figure.unit == "ns" {
                    row.ns = Some(spread);
                } else {
                    let judged = if figure.zero {
                        spread.max
                    } else {
                        spread.median
                    };
                    (row.value, row.values, row.unit) =
                        (Some(judged), Some(spread), Some(figure.unit));
                }
                self.rows.push(row);
            }
        }
        self.relate(first);
        Ok(())
    }

    /// Says that somebody is not there, and why.
    pub(crate) fn absent(&mut self, subject: &str, why: impl Into<String>) {
        let mut row = self.row(subject, &Params::new());
        row.absent = Some(why.into());
        self.rows.push(row);
    }

    /// Fills in the ratios of the rows from `first` on, among those with the same parameters.
    fn relate(&mut self, first: usize) {
        let rows = &mut self.rows[first..];
        let bases: Vec<_> = rows
            .iter()
            .map(|row| {
                let same = || rows.iter().filter(|other| other.params == row.params);
                let ours = same().find(|other| other.is_ours());
                ours.or_else(|| same().next()).and_then(Row::figure)
            })
            .collect();
        for (row, base) in rows.iter_mut().zip(bases) {
            row.ratio_to_ours = row
                .figure()
                .zip(base)
                .filter(|&(_, base)| base > 0.0)
                .map(|(figure, base)| figure / base);
        }
    }
}

/// One figure of a subject.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) params: Params,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// Whether no sample may be above zero: then the greatest is judged, not the median.
    pub(crate) zero: bool,
}
