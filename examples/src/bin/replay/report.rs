//! The report: a verdict and the numbers, for people or for a machine.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dispatch::Sample;
use crate::tally::{Latencies, Violations};
use crate::verify::Comparison;

/// What was asked for, in words.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) repository: String,
    pub(crate) head: String,
    pub(crate) mode: String,
    pub(crate) host: String,
    pub(crate) workers: usize,
    pub(crate) producers: usize,
    pub(crate) preload: bool,
    pub(crate) waiting: bool,
}

/// Everything there is to say about a replay.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    /// The commit whose files the end was compared with.
    pub(crate) compared_with: String,
    pub(crate) commits: u64,
    pub(crate) events: u64,
    pub(crate) paths: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Latencies,
    /// Submissions that had to wait for room; `None` if there is no queue.
    pub(crate) waited: Option<u64>,
    pub(crate) steady: Option<SteadyState>,
    pub(crate) peak_memory: Option<u64>,
    pub(crate) violations: Violations,
    pub(crate) comparison: Comparison,
}

/// The second half of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyState {
    pub(crate) events: u64,
    pub(crate) new_paths: u64,
    pub(crate) allocations: u64,
}

impl SteadyState {
    /// What happened after half of all events were handled; `None` if too little of it was observed.
    pub(crate) fn from_samples(samples: &[Sample]) -> Option<Self> {
        let last = samples.last()?;
        let half = samples
            .iter()
            .find(|sample| sample.handled >= last.handled / 2)?;
        let events = last.handled - half.handled;
        (events > 0).then(|| Self {
            events,
            new_paths: last.paths - half.paths,
            allocations: last.allocations - half.allocations,
        })
    }

    fn allocations_per_event(&self) -> f64 {
        self.allocations as f64 / self.events as f64
    }
}

impl Report {
    /// Whether every event followed from the one before and the end is what git has.
    pub(crate) fn agrees(&self) -> bool {
        self.violations.count == 0 && self.comparison.differences == 0
    }

    /// Writes the report for people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Setting {
            repository,
            head,
            mode,
            host,
            workers,
            producers,
            ..
        } = &self.setting;
        let read = if self.setting.preload {
            "beforehand"
        } else {
            "meanwhile"
        };
        let waiting = if self.setting.waiting {
            ", handlers that give way"
        } else {
            ""
        };
        writeln!(out, "{repository} at {head}")?;
        writeln!(out, "mode {mode}, {workers} workers on {host}{waiting}")?;
        writeln!(out, "{producers} producers, history read {read}\n")?;
        writeln!(out, "commits           {:>12}", self.commits)?;
        writeln!(out, "events            {:>12}", self.events)?;
        writeln!(out, "paths             {:>12}", self.paths)?;
        writeln!(
            out,
            "seconds           {:>12.3}",
            self.elapsed.as_secs_f64()
        )?;
        writeln!(out, "events per second {:>12.0}", self.events_per_second())?;
        let Latencies { p50, p99, longest } = self.latencies;
        writeln!(
            out,
            "submitted to handled: p50 {p50:?}, p99 {p99:?}, longest {longest:?}"
        )?;
        if let Some(waited) = self.waited {
            writeln!(out, "waits for room    {waited:>12}")?;
        }
        self.write_memory(out)?;
        writeln!(out)?;
        self.write_verdict(out)
    }

    /// Writes the report for a machine: one JSON object on one line.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.to_json())
    }

    fn write_memory(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.steady {
            Some(steady) => {
                let SteadyState {
                    events,
                    new_paths,
                    allocations,
                } = steady;
                let ratio = steady.allocations_per_event();
                writeln!(
                    out,
                    "allocations       {ratio:>12.4} per event where events are submitted and handled"
                )?;
                writeln!(
                    out,
                    "    (second half: {allocations} for {events} events, {new_paths} of them the first of a path)"
                )?;
            }
            None => writeln!(out, "allocations       not measured: too few events")?,
        }
        match self.peak_memory {
            Some(bytes) => writeln!(out, "peak memory       {:>12} KiB", bytes / 1_024),
            None => writeln!(out, "peak memory       not known on this system"),
        }
    }

    fn write_verdict(&self, out: &mut impl Write) -> io::Result<()> {
        let Comparison {
            files,
            differences,
            first,
        } = &self.comparison;
        if self.violations.count > 0 {
            let count = self.violations.count;
            writeln!(
                out,
                "events that did not follow from the state they met: {count}"
            )?;
            list(out, &self.violations.first, count)?;
        }
        if *differences > 0 {
            writeln!(
                out,
                "differences from {}: {differences}",
                self.compared_with
            )?;
            list(out, first, *differences)?;
        }
        if self.compared_with != self.setting.head {
            writeln!(
                out,
                "The limit cut the history: this is the state after its last whole commit."
            )?;
        }
        let compared_with = &self.compared_with;
        if self.agrees() {
            writeln!(
                out,
                "AGREES: every event once and in order, and all {files} files of {compared_with}"
            )
        } else if self.setting.mode == "parallel" {
            writeln!(
                out,
                "DISAGREES: parallel keeps no order, and this history needs it; use serial"
            )
        } else {
            writeln!(out, "DISAGREES with {compared_with}")
        }
    }

    fn to_json(&self) -> Value {
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        json!({
            "repository": self.setting.repository,
            "head": self.setting.head,
            "mode": self.setting.mode,
            "host": self.setting.host,
            "workers": self.setting.workers,
            "producers": self.setting.producers,
            "preload": self.setting.preload,
            "waiting": self.setting.waiting,
            "agrees": self.agrees(),
            "compared_with": self.compared_with,
            "limited": self.compared_with != self.setting.head,
            "files": self.comparison.files,
            "commits": self.commits,
            "events": self.events,
            "paths": self.paths,
            "seconds": self.elapsed.as_secs_f64(),
            "events_per_second": self.events_per_second(),
            "latency_nanoseconds": {
                "p50": nanoseconds(self.latencies.p50),
                "p99": nanoseconds(self.latencies.p99),
                "longest": nanoseconds(self.latencies.longest),
            },
            "waits_for_room": self.waited,
            "second_half": self.steady.map(|steady| json!({
                "events": steady.events,
                "new_paths": steady.new_paths,
                "allocations": steady.allocations,
                "allocations_per_event": steady.allocations_per_event(),
            })),
            "peak_memory_bytes": self.peak_memory,
            "violations": {
                "count": self.violations.count,
                "first": texts(&self.violations.first),
            },
            "differences": {
                "count": self.comparison.differences,
                "first": texts(&self.comparison.first),
            },
        })
    }

    fn events_per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

fn list<T: ToString>(out: &mut impl Write, first: &[T], count: u64) -> io::Result<()> {
    for text in texts(first) {
        writeln!(out, "  {text}")?;
    }
    match count - first.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

/// The most memory that this process has had, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}
