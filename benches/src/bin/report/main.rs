//! Measures the executors against their peers, case by case, and writes down what it found.
//!
//! All subjects of a case run in one process in turn, sample by sample, so that they meet the same
//! machine in the same mood; only ratios mean anything elsewhere. Every result is checked, and a
//! case that loses one fails.

mod callers;
mod case_budget;
mod case_bursts;
mod case_context;
mod case_latency;
mod case_limits;
mod case_memory;
mod case_producers;
mod case_serial;
mod case_streams;
mod case_tasks;
mod case_timers;
mod case_wakes;
mod cases;
mod document;
mod engine;
mod floors;
mod goal;
mod keys;
mod machine;
mod outside;
mod plots;
mod row;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use executor_benches::allocator::Counting;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cases::{CASES, Case};
use crate::engine::{Effort, MIN_SAMPLES, Run};
use crate::goal::Verdict;
use crate::machine::Machine;
use crate::outside::Outside;
use crate::row::{Row, Rows};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Length of a sample of a quick run, and of a whole one.
const TARGETS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];

/// Measures the executors against their peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Cases by number or name, separated by commas; all of them if none is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Shorter samples and fewer sizes: all cases within five minutes.
    #[arg(long)]
    quick: bool,
    /// Samples of each subject, at least 9; by default 9 for a quick run and 11 for a whole one.
    #[arg(long)]
    samples: Option<usize>,
    /// Also writes an array with an object for each case, subject and set of parameters.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Names the cases, and measures nothing.
    #[arg(long)]
    list: bool,
    /// Runs the work whose system calls somebody counts.
    #[arg(long, hide = true)]
    traced: Option<String>,
}

/// A case that was run.
struct Done {
    case: &'static Case,
    rows: Vec<Row>,
    verdict: Verdict,
    failed: Option<String>,
}

fn chosen(only: &[String]) -> Result<Vec<&'static Case>, String> {
    if let Some(unknown) = only
        .iter()
        .find(|wanted| !CASES.iter().any(|case| case.is_called(wanted)))
    {
        return Err(format!("no case is called {unknown:?}; --list names them"));
    }
    let wanted = |case: &&Case| only.is_empty() || only.iter().any(|only| case.is_called(only));
    Ok(CASES.iter().filter(wanted).collect())
}

fn run_case(
    case: &'static Case,
    effort: Effort,
    outside: &Outside,
    scratch: &Path,
    progress: &ProgressBar,
) -> Done {
    let mut run = Run {
        case: case.name(),
        effort,
        outside,
        scratch,
        progress,
        rows: Vec::new(),
    };
    let failed = (case.run)(&mut run).err().map(|error| error.to_string());
    let rows = run.rows;
    let mut verdict = Verdict::of(case.name(), case.goals, Rows(&rows), effort.quick);
    verdict.met &= failed.is_none();
    Done {
        case,
        rows,
        verdict,
        failed,
    }
}

fn write_json(path: &Path, done: &[Done]) -> Result<(), Box<dyn Error>> {
    let mut objects = Vec::new();
    for done in done {
        for row in &done.rows {
            objects.push(serde_json::to_value(row)?);
        }
        objects.push(serde_json::to_value(&done.verdict)?);
    }
    std::fs::write(path, serde_json::to_string_pretty(&objects)? + "\n")?;
    Ok(())
}

fn report(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let cases = chosen(&arguments.only)?;
    if arguments.list {
        for case in &cases {
            println!("{:<32} {}", case.name(), case.title);
        }
        return Ok(true);
    }
    if let Some(work) = &arguments.traced {
        case_wakes::traced(work)?;
        return Ok(true);
    }
    let default = if arguments.quick { MIN_SAMPLES } else { 11 };
    let samples = arguments.samples.unwrap_or(default);
    if samples < MIN_SAMPLES {
        return Err(format!("{samples} samples say nothing; at least {MIN_SAMPLES}").into());
    }
    let effort = Effort {
        quick: arguments.quick,
        samples,
        target: TARGETS[usize::from(!arguments.quick)],
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let machine = Machine::read(&workspace);
    let scratch = tempfile::tempdir()?;
    let outside = Outside::start(scratch.path());
    let progress = ProgressBar::new(cases.len() as u64).with_style(ProgressStyle::with_template(
        "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}",
    )?);
    println!("ns for each operation, unless a unit is named; two workers everywhere");
    let start = Instant::now();
    let mut done = Vec::with_capacity(cases.len());
    for case in cases {
        let began = Instant::now();
        let ran = run_case(case, effort, &outside, scratch.path(), &progress);
        progress.inc(1);
        progress.suspend(|| {
            println!("\n{} {}", case.name(), case.title);
            print!("{}", table::plain(&ran.rows, &ran.verdict));
            if let Some(failed) = &ran.failed {
                println!("    FAILED: {failed}");
            }
            println!("    in {:.1} s", began.elapsed().as_secs_f64());
        });
        done.push(ran);
    }
    progress.finish_and_clear();
    let met = done.iter().filter(|done| done.verdict.met).count();
    let failed = done.iter().filter(|done| done.failed.is_some()).count();
    println!(
        "\n{met} of {} cases reach their goals, {failed} failed, in {} s",
        done.len(),
        start.elapsed().as_secs()
    );
    if let Some(path) = &arguments.json {
        write_json(path, &done)?;
    }
    if arguments.only.is_empty() && failed == 0 {
        document::write(&workspace.join("docs"), &machine, effort, &done)?;
        println!("written: docs/benchmarks.md");
    } else {
        println!(
            "docs/benchmarks.md is left as it is: it takes a run in which every case succeeds"
        );
    }
    Ok(failed == 0)
}

fn main() -> ExitCode {
    match report(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}
