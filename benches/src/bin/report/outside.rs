//! Peers in other languages: processes that are sent one line for a round, and answer with one.
//!
//! A line has the name of the work and its numbers; the answer has nanoseconds and results. They
//! measure themselves, so that the way to them costs nothing, and wait without using the processor.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use executor_bench_peers::Round;

use crate::engine::{Run, Subject};

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// A process that waits for work.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    process: RefCell<Process>,
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends at the end of its input.
        self.input = None;
        // There is nothing to do about a process that ended badly after its last answer.
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(name: &'static str, mut command: Command) -> Result<Rc<Self>, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("it does not start: {error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or("it has no output")?;
        let peer = Self {
            name,
            process: RefCell::new(Process {
                child,
                input,
                output: BufReader::new(output),
            }),
        };
        peer.try_ask("ready").map(|_| Rc::new(peer))
    }

    fn try_ask(&self, line: &str) -> Result<Vec<i64>, String> {
        let mut process = self.process.borrow_mut();
        let input = process.input.as_mut().ok_or("it has no input")?;
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .map_err(|error| format!("it takes no work: {error}"))?;
        let mut answer = String::new();
        process
            .output
            .read_line(&mut answer)
            .map_err(|error| format!("it does not answer: {error}"))?;
        let numbers: Option<Vec<i64>> = answer
            .split_whitespace()
            .map(|number| number.parse().ok())
            .collect();
        numbers
            .filter(|numbers| !numbers.is_empty())
            .ok_or_else(|| format!("it answers {answer:?} to {line:?}"))
    }

    /// Sends one line of work, and gives the numbers of the answer.
    ///
    /// # Panics
    /// When the process is gone, or answers something else.
    pub(crate) fn ask(&self, line: &str) -> Vec<i64> {
        self.try_ask(line)
            .unwrap_or_else(|why| panic!("{}: {why}", self.name))
    }

    fn round(&self, line: &str) -> Round {
        let numbers = self.ask(line);
        Round {
            took: Duration::from_nanos(numbers[0].unsigned_abs()),
            sum: numbers.get(1).map_or(0, |sum| sum.unsigned_abs()),
        }
    }
}

/// Whoever is there, and why the others are not.
pub(crate) struct Outside {
    pub(crate) go: Result<Rc<Peer>, String>,
    pub(crate) asyncio: Result<Rc<Peer>, String>,
    pub(crate) uvloop: Result<Rc<Peer>, String>,
}

impl Outside {
    /// Starts those that the machine has; `scratch` takes what has to be built.
    pub(crate) fn start(scratch: &Path) -> Self {
        Self {
            go: start_go(scratch),
            asyncio: start_python("asyncio"),
            uvloop: start_python("uvloop"),
        }
    }
}

fn start_go(scratch: &Path) -> Result<Rc<Peer>, String> {
    let program: PathBuf = scratch.join("report-go-peer");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(Path::new(SOURCES).join("go"))
        .stdin(Stdio::null())
        .output()
        .map_err(|_| "go is not installed".to_owned())?;
    if !built.status.success() {
        // The compiler names paths of the machine, which are nothing for a document.
        eprintln!("{}", String::from_utf8_lossy(&built.stderr));
        return Err("go is there, but does not build the program".into());
    }
    let mut command = Command::new(program);
    command.env("GOMAXPROCS", "2");
    Peer::start("go", command)
}

fn start_python(name: &'static str) -> Result<Rc<Peer>, String> {
    let import = format!("import {name}");
    let found = Command::new("python3")
        .args(["-c", &import])
        .stdin(Stdio::null())
        .output()
        .map_err(|_| "python3 is not installed".to_owned())?;
    if !found.status.success() {
        return Err(format!("python3 has no module {name}"));
    }
    let mut command = Command::new("python3");
    command
        .arg(Path::new(SOURCES).join("python").join("peer.py"))
        .arg(name);
    Peer::start(name, command)
}

/// A subject of another process, or a note that it is absent.
pub(crate) fn subject<'a>(
    run: &mut Run<'_>,
    peer: &Result<Rc<Peer>, String>,
    name: &str,
    line: String,
    operations: u64,
    expected: u64,
) -> Option<Subject<'a>> {
    match peer {
        Ok(peer) => {
            let peer = Rc::clone(peer);
            let round = move || peer.round(&line);
            Some(Subject::new(name, operations, expected, round).elsewhere())
        }
        Err(why) => {
            let known = |row: &crate::row::Row| row.subject == name && row.absent.is_some();
            if !run.rows.iter().any(known) {
                run.absent(name, why.clone());
            }
            None
        }
    }
}
