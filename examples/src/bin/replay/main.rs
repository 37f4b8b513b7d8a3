//! Replays a git repository's history through an executor and checks the result against git itself.
//!
//! Every path is an aggregate, and every path that a commit changes is one event for it: the mode and blob before, the
//! mode and blob after. An event is handled only rightly if its "before" is the aggregate's present state, so one that
//! is lost, repeated or out of order is found where it happens. In the end every aggregate is compared with the file
//! that git has under its path. See `replay --help` for what can be chosen and what the exit status says.

#![deny(unsafe_code)]

mod aggregate;
mod allocations;
mod dispatch;
mod drive;
mod error;
mod git;
mod mutex;
mod object;
mod parallel;
mod parse;
mod producer;
mod report;
mod serial;
mod tally;
mod verify;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use executor_core::{MAX_WORKERS, WorkerCore};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;

use crate::drive::{Plan, Run};
use crate::error::ReplayError;
use crate::git::Repository;
use crate::mutex::MutexDrive;
use crate::parallel::ParallelDrive;
use crate::producer::Home;
use crate::report::{Report, Setting, SteadyState};
use crate::serial::SerialDrive;
use crate::tally::Tally;

/// Replay a repository's history, one event for each path that a commit changes, and check the result against git.
///
/// The history is the one along first parents from HEAD; a merge counts as its difference to its first parent. Nothing in
/// the repository is written.
#[derive(Debug, Parser)]
#[command(name = "replay", version, after_help = EXIT_STATUS)]
struct Arguments {
    /// The repository, or any directory in it.
    #[arg(default_value = ".")]
    repository: PathBuf,

    /// What handles the events.
    #[arg(long, value_enum, default_value_t = Mode::Serial)]
    mode: Mode,

    /// How many threads handle events [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<NonZeroUsize>,

    /// Where the workers live.
    #[arg(long, value_enum, default_value_t = Host::Threads)]
    host: Host,

    /// Stop before the commit with which there would be more than N events, and compare with the one before it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit_events: Option<u64>,

    /// Read the whole history into memory first, so that the numbers are the executor's and not those of git.
    #[arg(long)]
    preload: bool,

    /// Let handlers give way at every second event of a path, as ones do that read from a store.
    ///
    /// Always so in parallel mode, and never in mutex mode.
    #[arg(long)]
    waiting: bool,

    /// Write the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// As many as a core can have.
fn workers(given: &str) -> Result<NonZeroUsize, String> {
    let workers = given
        .parse()
        .ok()
        .filter(|n: &NonZeroUsize| n.get() <= MAX_WORKERS);
    workers.ok_or_else(|| format!("a number from 1 to {MAX_WORKERS} is needed"))
}

const EXIT_STATUS: &str = "\
Exit status:
  0  every event followed from the one before, and the end is what git has
  1  the replay disagrees with git, and the report says where
  2  there is no verdict: no repository, no commits, no git, output that cannot be read, or wrong arguments";

/// What handles the events.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The serial executor: the events of one path in order, different paths in parallel.
    Serial,
    /// The parallel executor: no order at all, so most histories fail.
    Parallel,
    /// No executor: producers handle their own events, under a mutex for each path.
    Mutex,
}

/// Where workers live.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Host {
    /// Threads of their own.
    Threads,
    /// A tokio runtime's threads.
    Tokio,
}

fn main() -> ExitCode {
    allocations::exclude_this_thread();
    match replay(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            if !error.is_broken_pipe() {
                // Nobody can be told if standard error is gone as well.
                let _ = writeln!(io::stderr(), "replay: {error}");
            }
            ExitCode::from(2)
        }
    }
}

/// Replays, writes the report, and tells whether everything agrees.
fn replay(arguments: &Arguments) -> Result<bool, ReplayError> {
    let repository = Repository::open(&arguments.repository)?;
    let tally = Tally::leak();
    let setting = setting(arguments, &repository);
    let progress = progress(&repository);
    let mut run = run(arguments, &setting, &repository, tally, &progress)?;
    progress.finish_and_clear();

    let states = std::mem::take(&mut run.states);
    let paths = run.events_by_path.len() as u64;
    let comparison = verify::compare(&repository, run.last_commit, states, &run.events_by_path)?;
    let report = Report {
        setting,
        compared_with: run.last_commit.to_string(),
        commits: run.commits,
        events: run.events,
        paths,
        elapsed: run.elapsed,
        latencies: tally.latencies(),
        waited: run.waited,
        steady: SteadyState::from_samples(&run.samples),
        peak_memory: report::peak_memory(),
        violations: tally.violations(),
        comparison,
    };
    write(&report, arguments.json).map_err(ReplayError::ReportUnwritten)?;
    Ok(report.agrees())
}

fn run(
    arguments: &Arguments,
    setting: &Setting,
    repository: &Repository,
    tally: &'static Tally,
    progress: &ProgressBar,
) -> Result<Run, ReplayError> {
    let runtime = match arguments.host {
        Host::Threads => None,
        Host::Tokio => Some(runtime(setting.workers)?),
    };
    let mut plan = Plan {
        producers: setting.producers,
        home: Home::Threads,
        limit_events: arguments.limit_events,
        preload: arguments.preload,
    };
    match arguments.mode {
        Mode::Serial => {
            let drive =
                SerialDrive::new(&core(&runtime, setting.workers)?, setting.waiting, tally)?;
            drive::run(repository, drive, &plan, tally, progress)
        }
        Mode::Parallel => {
            let core = core(&runtime, setting.workers)?;
            let drive = ParallelDrive::new(&core, tally)?;
            drive::run(repository, drive, &plan, tally, progress)
        }
        Mode::Mutex => {
            if let Some(runtime) = &runtime {
                plan.home = Home::Tasks(runtime.handle().clone());
            }
            drive::run(repository, MutexDrive::new(tally), &plan, tally, progress)
        }
    }
}

/// The workers of an executor.
fn core(runtime: &Option<Runtime>, workers: usize) -> Result<WorkerCore, ReplayError> {
    let builder = match runtime {
        Some(runtime) => WorkerCore::tokio(runtime.handle()).workers(workers),
        None => WorkerCore::threads(workers),
    };
    Ok(builder.name("replay").build()?)
}

fn runtime(workers: usize) -> Result<Runtime, ReplayError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|source| ReplayError::NotStarted {
            what: "the tokio runtime",
            source,
        })
}

fn setting(arguments: &Arguments, repository: &Repository) -> Setting {
    let processors = || std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
    let workers = arguments.workers.map_or_else(processors, NonZeroUsize::get);
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    Setting {
        repository: repository.path.display().to_string(),
        head: repository.head.to_string(),
        mode: name(arguments.mode.to_possible_value()),
        host: name(arguments.host.to_possible_value()),
        workers,
        // The baseline's producers are its workers; an executor gets more than one, so that they contend.
        producers: match arguments.mode {
            Mode::Mutex => workers,
            Mode::Serial | Mode::Parallel => workers.max(2),
        },
        preload: arguments.preload,
        waiting: match arguments.mode {
            Mode::Serial => arguments.waiting,
            Mode::Parallel => true,
            Mode::Mutex => false,
        },
    }
}

/// A bar over the commits, if there is somebody to see it.
fn progress(repository: &Repository) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos} of {len} commits, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    match repository.commit_count() {
        Some(commits) => ProgressBar::new(commits).with_style(style),
        None => ProgressBar::no_length(),
    }
}

fn write(report: &Report, json: bool) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        report.write_json(&mut out)?;
    } else {
        report.write_text(&mut out)?;
    }
    out.flush()
}
