//! Compares the work tree with a commit, and says what got slower.
//!
//! Both are measured by the benches of the work tree: the commit's libraries are laid out in the
//! target directory, with the work tree's benches beside them. Times are taken in turn, one process
//! of each after the other; instruction counts, where valgrind is, need no turns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use serde_json::Value;
use thiserror::Error;

/// What the build of the benches takes from the work tree.
const SHARED: [&str; 3] = ["Cargo.toml", "Cargo.lock", "benches"];
/// Files and directories of a tree that are no part of it.
const NOT_COPIED: [&str; 2] = ["target", "__pycache__"];

/// Compares the work tree with a commit.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to compare with, as git names it.
    commit: String,
    /// Samples of each side, at least 9.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u64).range(9..))]
    samples: u64,
    /// More than this many percent, in the median and in the minimum, are slower.
    #[arg(long, default_value_t = 8.0)]
    time_percent: f64,
    /// More than this many percent of instructions are slower.
    #[arg(long, default_value_t = 1.0)]
    instruction_percent: f64,
}

/// Why there is no comparison.
#[derive(Debug, Error)]
enum CompareError {
    #[error("{0} did not start: {1}")]
    NotStarted(String, io::Error),
    #[error("{0} failed; see above")]
    Failed(String),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("a line of the timings is {0:?}")]
    Line(String),
    #[error(
        "the benches of the work tree do not build with the libraries of {0}; its API is another"
    )]
    OtherApi(String),
}

type Figures = BTreeMap<String, Vec<f64>>;

/// A tree that is built and run.
struct Tree {
    source: PathBuf,
    target: PathBuf,
}

fn run(name: &str, command: &mut Command) -> Result<(), CompareError> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| CompareError::NotStarted(name.into(), error))?;
    if status.success() {
        return Ok(());
    }
    Err(CompareError::Failed(name.into()))
}

fn output(name: &str, command: &mut Command) -> Result<String, CompareError> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| CompareError::NotStarted(name.into(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CompareError::Failed(name.into()))
}

fn copy(from: &Path, to: &Path) -> Result<(), CompareError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| CompareError::File(path, error)
    };
    if !from.is_dir() {
        fs::copy(from, to).map_err(failed(from))?;
        return Ok(());
    }
    fs::create_dir_all(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        if !NOT_COPIED
            .iter()
            .any(|skipped| entry.file_name() == *skipped)
        {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The libraries of the commit, and the benches of the work tree.
fn lay_out(work: &Path, commit: &str, target: &Path) -> Result<Tree, CompareError> {
    let directory = target.join("compare-commits");
    let source = directory.join("source");
    if source.exists() {
        fs::remove_dir_all(&source).map_err(|error| CompareError::File(source.clone(), error))?;
    }
    fs::create_dir_all(&source).map_err(|error| CompareError::File(source.clone(), error))?;
    let archive = directory.join("commit.tar");
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(work)
        .args(["archive", "--format=tar", "-o"]);
    run("git archive", git.arg(&archive).arg(commit))?;
    let mut tar = Command::new("tar");
    run("tar", tar.arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    let benches = source.join("benches");
    if benches.exists() {
        fs::remove_dir_all(&benches).map_err(|error| CompareError::File(benches, error))?;
    }
    for shared in SHARED {
        copy(&work.join(shared), &source.join(shared))?;
    }
    Ok(Tree {
        source,
        target: directory.join("target"),
    })
}

impl Tree {
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo
            .args(arguments)
            .args(["-p", "executor-benches", "--no-default-features"])
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    fn build(&self) -> Result<(), CompareError> {
        run(
            "cargo build",
            &mut self.cargo(&["build", "--release", "--bin", "paths"]),
        )
    }

    /// One sample of every path.
    fn sample(&self, into: &mut Figures) -> Result<(), CompareError> {
        let program = self.target.join("release").join("paths");
        let text = output("paths", &mut Command::new(program))?;
        for line in text.lines() {
            let figure = line.split_once('\t');
            let figure = figure.and_then(|(name, ns)| Some((name, ns.parse().ok()?)));
            let (name, ns) = figure.ok_or_else(|| CompareError::Line(line.into()))?;
            into.entry(name.to_owned()).or_default().push(ns);
        }
        Ok(())
    }

    /// Instructions of every path that stays on its caller; none where they cannot be counted.
    fn instructions(&self) -> Result<BTreeMap<String, f64>, CompareError> {
        let counts = self.target.join("gungraun");
        if counts.exists() {
            fs::remove_dir_all(&counts)
                .map_err(|error| CompareError::File(counts.clone(), error))?;
        }
        let mut bench = self.cargo(&["bench", "--bench", "instructions"]);
        let text = output("cargo bench", bench.args(["--", "--save-summary=json"]))?;
        if let Some(why) = text.lines().find(|line| line.contains("DID NOT RUN")) {
            println!("{why}");
        }
        let mut found = BTreeMap::new();
        if counts.exists() {
            summaries(&counts, &mut found)?;
        }
        Ok(found)
    }
}

/// Reads every summary below a directory.
fn summaries(directory: &Path, into: &mut BTreeMap<String, f64>) -> Result<(), CompareError> {
    let failed = |error| CompareError::File(directory.to_owned(), error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            summaries(&path, into)?;
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| CompareError::File(path.clone(), error))?;
            let summary = serde_json::from_str(&text).unwrap_or(Value::Null);
            if let Some((name, count)) = instructions_of(&summary) {
                into.insert(name, count);
            }
        }
    }
    Ok(())
}

/// The bench's name and its instructions, as gungraun 0.20 writes them.
fn instructions_of(summary: &Value) -> Option<(String, f64)> {
    let count = summary.pointer("/profiles/0/data/total/metrics/Ir/values/new")?;
    Some((summary["id"].as_str()?.to_owned(), count.as_f64()?))
}

fn spread(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2])
}

/// Prints a line, and says whether it got slower.
fn judge(name: &str, unit: &str, before: f64, after: f64, percent: f64, sure: bool) -> bool {
    let change = (after / before - 1.0) * 100.0;
    let verdict = match change {
        change if change > percent && sure => "SLOWER",
        change if change < -percent => "faster",
        _ => "",
    };
    println!("{name:<40} {before:>12.1} {after:>12.1} {unit:<12} {change:>+7.1} % {verdict}");
    verdict == "SLOWER"
}

fn compare(arguments: &Arguments) -> Result<bool, CompareError> {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| work.join("target"), PathBuf::from);
    let mut parse = Command::new("git");
    parse.arg("-C").arg(&work).args(["rev-parse", "--short=12"]);
    let revision = format!("{}^{{commit}}", arguments.commit);
    let commit = output("git rev-parse", parse.arg(&revision))?;
    let commit = commit.trim();
    let before = lay_out(&work, commit, &target)?;
    let after = Tree {
        source: work.clone(),
        target,
    };
    after.build()?;
    before
        .build()
        .map_err(|_| CompareError::OtherApi(commit.into()))?;
    let (mut old, mut new) = (Figures::new(), Figures::new());
    for sample in 0..arguments.samples {
        eprint!("\rsample {} of {}", sample + 1, arguments.samples);
        before.sample(&mut old)?;
        after.sample(&mut new)?;
    }
    eprintln!();
    println!("{:<40} {commit:>12} {:>12}", "", "work tree");
    let mut slower = 0;
    for (name, old) in &old {
        let Some(new) = new.get(name) else { continue };
        let ((old_min, old), (new_min, new)) = (spread(old), spread(new));
        // A median alone may be the machine's; both together hardly are.
        let sure = new_min / old_min > 1.0 + arguments.time_percent / 100.0;
        slower += u32::from(judge(name, "ns", old, new, arguments.time_percent, sure));
    }
    let (old, new) = (before.instructions()?, after.instructions()?);
    for (name, &old) in &old {
        let Some(&new) = new.get(name) else { continue };
        let percent = arguments.instruction_percent;
        slower += u32::from(judge(name, "instructions", old, new, percent, true));
    }
    println!("{slower} got slower");
    Ok(slower == 0)
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare-commits: {error}");
            ExitCode::FAILURE
        }
    }
}
