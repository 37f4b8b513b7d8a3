//! Whether the checks catch faults: applies each of `ci/faults/*.fault`, one at a time, to a copy of
//! the workspace, and runs the check that is named in it, which must fail.
//!
//! A fault is text: comments, `tier:` and `run:`, and lines that begin with ` `, `-` or `+`, as in a
//! patch, under the crate they are meant for. There are no line numbers: the old lines are looked for in
//! all sources of the crate, and must be there once.
//!
//! ```sh
//! cargo run -p executor-scenarios --bin faults                # all
//! cargo run -p executor-scenarios --bin faults -- let_go      # those whose name contains it
//! cargo run -p executor-scenarios --bin faults -- --find      # only whether their old lines are there
//! ```
//!
//! What became of each goes to `reliability/faults` in the target directory.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;

type Fallible<T> = Result<T, Box<dyn Error>>;

const HOST: &str = "x86_64-unknown-linux-gnu";
/// A check that takes longer hangs, in seconds.
const PATIENCE: &str = "120";
/// A build takes no longer, in seconds.
const BUILD_PATIENCE: &str = "1200";

/// Applies the faults of ci/faults, one at a time, to a copy of the workspace, and runs the check that each
/// names, which must fail.
#[derive(Parser)]
struct Args {
    /// Only faults whose names contain one of these.
    names: Vec<String>,
    /// Only look whether the lines that each fault changes are there, once; runs nothing.
    #[arg(long)]
    find: bool,
}

/// A change that must not go unnoticed.
struct Fault {
    name: String,
    /// The sentence that says what is wrong.
    about: String,
    tier: String,
    run: String,
    package: String,
    old: String,
    new: String,
}

impl Fault {
    fn read(path: &Path) -> Fallible<Self> {
        let text = fs::read_to_string(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut fault = Self {
            name: name.into_owned(),
            about: String::new(),
            tier: String::new(),
            run: String::new(),
            package: String::new(),
            old: String::new(),
            new: String::new(),
        };
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# ") {
                fault.about += about;
            } else if let Some(tier) = line.strip_prefix("tier: ") {
                fault.tier = tier.into();
            } else if let Some(run) = line.strip_prefix("run: ") {
                fault.run = run.into();
            } else if let Some(package) = line.strip_prefix("in: ") {
                fault.package = package.into();
            } else if let Some(old) = line.strip_prefix('-') {
                writeln!(fault.old, "{old}")?;
            } else if let Some(new) = line.strip_prefix('+') {
                writeln!(fault.new, "{new}")?;
            } else {
                let both = line.strip_prefix(' ').unwrap_or(line);
                writeln!(fault.old, "{both}")?;
                writeln!(fault.new, "{both}")?;
            }
        }
        if fault.old == fault.new {
            return Err(format!("{}: it changes nothing", path.display()).into());
        }
        Ok(fault)
    }

    /// The file of `tree` that it changes, and what that is.
    fn find(&self, tree: &Path) -> Fallible<(PathBuf, String)> {
        let mut found = None;
        for path in sources(&tree.join(&self.package).join("src"))? {
            let text = fs::read_to_string(&path)?;
            match text.matches(&self.old).count() {
                0 => {}
                1 if found.is_none() => found = Some((path, text)),
                _ => return Err(format!("{}: its old lines are not unique", self.name).into()),
            }
        }
        found.ok_or_else(|| format!("{}: its old lines are nowhere", self.name).into())
    }

    /// The command of its tier.
    fn command(&self, tree: &Path, target: &Path, patience: &str) -> Fallible<Command> {
        let mut command = Command::new("timeout");
        command
            .current_dir(tree)
            .args(["-k", "5", patience, "cargo"]);
        let flags = |more: &str| {
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            format!("{flags} {more}")
        };
        match self.tier.as_str() {
            "test" => {
                command
                    .arg("test")
                    .env("CARGO_TARGET_DIR", target.join("debug"));
            }
            "chaos" => {
                command
                    .arg("test")
                    .env("CARGO_TARGET_DIR", target.join("chaos"));
                command.env("RUSTFLAGS", flags("--cfg executor_chaos"));
            }
            "loom" => {
                command.args(["test", "--release"]);
                command.env("CARGO_TARGET_DIR", target.join("loom"));
                command.env("RUSTFLAGS", flags("--cfg loom"));
                command.env("LOOM_MAX_PREEMPTIONS", "2");
                command.env("CARGO_PROFILE_RELEASE_LTO", "off");
                command.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
            }
            "tsan" => {
                let sanitized =
                    "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg executor_tsan";
                let suppressions = tree.join("ci/tsan.supp");
                let options = format!("suppressions={} halt_on_error=1", suppressions.display());
                command.args(["+nightly", "run", "--target", HOST]);
                command.env("CARGO_TARGET_DIR", target.join("tsan"));
                command.env("RUSTFLAGS", flags(sanitized));
                command.env("TSAN_OPTIONS", options);
            }
            other => return Err(format!("{}: there is no tier {other}", self.name).into()),
        }
        Ok(command)
    }

    /// Applies it, runs its check, and takes it back.
    fn try_in(&self, tree: &Path, target: &Path) -> Fallible<Option<&'static str>> {
        let (path, before) = self.find(tree)?;
        fs::write(&path, before.replacen(&self.old, &self.new, 1))?;
        let caught = self.check(tree, target);
        fs::write(path, before)?;
        caught
    }

    /// Runs its check; tells what caught it, if anything did.
    fn check(&self, tree: &Path, target: &Path) -> Fallible<Option<&'static str>> {
        let (packages, filter) = self.run.split_once(" -- ").unwrap_or((&self.run, ""));
        let mut build = self.command(tree, target, BUILD_PATIENCE)?;
        build.args(packages.split_whitespace());
        if self.tier == "tsan" {
            build.args(["--", "--help"]);
        } else {
            build.arg("--no-run");
        }
        let built = build
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            return Err(format!("{}: does not build:\n{said}", self.name).into());
        }
        let mut run = self.command(tree, target, PATIENCE)?;
        run.args(packages.split_whitespace());
        run.arg("--").args(filter.split_whitespace());
        let ran = run.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        Ok(match ran.code() {
            Some(0) => None,
            Some(124 | 137) => Some("it hangs"),
            _ => Some("it fails"),
        })
    }
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Fallible<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Copies what git knows of, changes that are not committed included.
fn copy_tree(from: &Path, to: &Path) -> Fallible<()> {
    let listed = Command::new("git")
        .current_dir(from)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for file in String::from_utf8(listed.stdout)?.lines() {
        let target = to.join(file);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        // A file that git still lists may be gone.
        if from.join(file).exists() {
            fs::copy(from.join(file), target)?;
        }
    }
    Ok(())
}

fn run() -> Fallible<bool> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join("ci/faults"))? {
        faults.push(Fault::read(&entry?.path())?);
    }
    if !args.names.is_empty() {
        faults.retain(|fault| args.names.iter().any(|part| fault.name.contains(part)));
    }
    if faults.is_empty() {
        return Err("no fault has such a name: `ls ci/faults` lists them".into());
    }
    faults.sort_by(|a, b| a.name.cmp(&b.name));
    if args.find {
        let lost: Vec<_> = faults
            .iter()
            .filter_map(|fault| fault.find(&root).err())
            .collect();
        lost.iter().for_each(|error| eprintln!("{error}"));
        println!(
            "{} of {} faults have their lines",
            faults.len() - lost.len(),
            faults.len()
        );
        return Ok(lost.is_empty());
    }
    try_all(&faults, &root)
}

/// Applies each; whether all are caught.
fn try_all(faults: &[Fault], root: &Path) -> Fallible<bool> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let work = target.join("faults");
    let tree = work.join("tree");
    copy_tree(root, &tree)?;
    let records = target.join("reliability/faults");
    fs::create_dir_all(&records)?;
    let mut all_caught = true;
    for fault in faults {
        let started = Instant::now();
        let caught = fault.try_in(&tree, &work);
        let verdict = match &caught {
            Ok(Some(how)) => how,
            Ok(None) => "NOT CAUGHT",
            Err(error) => {
                eprintln!("{error}");
                "NO FAULT"
            }
        };
        let is_caught = matches!(caught, Ok(Some(_)));
        all_caught &= is_caught;
        println!(
            "{verdict:<10} {:>4} s  {:<34} {}",
            started.elapsed().as_secs(),
            fault.name,
            fault.about
        );
        let record = format!(
            "{{\"fault\": {:?}, \"about\": {:?}, \"tier\": {:?}, \"caught\": {is_caught}}}\n",
            fault.name, fault.about, fault.tier,
        );
        fs::write(records.join(format!("{}.json", fault.name)), record)?;
    }
    Ok(all_caught)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}
