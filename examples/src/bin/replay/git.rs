//! Git as a child process whose output is read while it runs.
//!
//! Only commands that read are run, and with optional locks and lazy fetches turned off, so that a replay changes
//! nothing in the repository. What a user's configuration could do to the output is overridden option by option; the
//! rest of the configuration stays, since it may be what allows the repository to be read at all.

use std::ffi::OsStr;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::allocations;
use crate::error::{MalformedOutput, ReplayError};
use crate::object::ObjectId;

/// What a surrounding git process, such as a hook, sets to say which repository is meant. We are told by argument.
const REPOSITORY_VARIABLES: [&str; 15] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The history along first parents, oldest first, a merge as its difference to the first parent.
const LOG: [&str; 21] = [
    "log",
    "--reverse",
    "--first-parent",
    "--diff-merges=first-parent",
    "--root",
    "--raw",
    "--no-renames",
    "--no-abbrev",
    "-z",
    "--format=%H %at",
    "--encoding=UTF-8",
    "--no-relative",
    "--ignore-submodules=none",
    "--no-ext-diff",
    "--no-show-signature",
    "--no-mailmap",
    "--no-notes",
    "--no-decorate",
    "--no-color",
    // An order of paths that the configuration asks for does not matter, but its file may be missing.
    "-O/dev/null",
    "--end-of-options",
];

/// How much of git's error output is kept.
const STDERR_LIMIT: u64 = 16 * 1_024;

/// A repository with at least one commit, pinned to the commit that `HEAD` named when it was opened.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
    pub(crate) head: ObjectId,
}

impl Repository {
    /// Finds the repository at `path`, or above it, and the commit that its `HEAD` names.
    pub(crate) fn open(path: &Path) -> Result<Self, ReplayError> {
        let question = output(path, ["rev-parse", "--git-dir"])?;
        if !question.succeeded {
            return Err(ReplayError::NotARepository {
                path: path.to_owned(),
                stderr: question.stderr,
            });
        }
        let head = output(path, ["rev-parse", "--verify", "HEAD^{commit}"])?;
        match ObjectId::from_hex(head.stdout.trim_ascii_end()) {
            Some(id) if head.succeeded => Ok(Self {
                path: path.to_owned(),
                head: id,
            }),
            _ if output(path, ["rev-parse", "--verify", "--quiet", "HEAD"])?.succeeded => {
                Err(ReplayError::HeadUnreadable {
                    path: path.to_owned(),
                    stderr: head.stderr,
                })
            }
            _ => Err(ReplayError::NoCommits {
                path: path.to_owned(),
                stderr: head.stderr,
            }),
        }
    }

    /// How many commits [`log`](Self::log) will show.
    pub(crate) fn commit_count(&self) -> Option<u64> {
        let head = self.head.to_string();
        let count = output(&self.path, ["rev-list", "--count", "--first-parent", &head]).ok()?;
        str::from_utf8(&count.stdout).ok()?.trim_end().parse().ok()
    }

    /// Starts to stream the history up to the pinned commit.
    pub(crate) fn log(&self) -> Result<GitStream, ReplayError> {
        let head = self.head.to_string();
        GitStream::start(
            "log",
            &self.path,
            LOG.into_iter().chain([head.as_str(), "--"]),
        )
    }

    /// Starts to stream the files of a commit.
    pub(crate) fn tree(&self, commit: ObjectId) -> Result<GitStream, ReplayError> {
        let commit = commit.to_string();
        GitStream::start(
            "ls-tree",
            &self.path,
            ["ls-tree", "-r", "-z", "--full-tree", &commit],
        )
    }
}

/// A running git whose standard output is read as it comes. Dropping it ends the child.
#[derive(Debug)]
pub(crate) struct GitStream {
    command: &'static str,
    child: Child,
    stderr: Option<JoinHandle<String>>,
}

impl GitStream {
    fn start<'a>(
        command: &'static str,
        path: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ReplayError> {
        let child = git(path)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_run)?;
        // It has the child from here on, and ends it if there is no thread.
        let mut stream = Self {
            command,
            child,
            stderr: None,
        };
        // A child that writes many errors must not block on a pipe that nobody empties.
        if let Some(stderr) = stream.child.stderr.take() {
            let reader = std::thread::Builder::new().spawn(move || {
                allocations::exclude_this_thread();
                read_errors(stderr)
            });
            let reader = reader.map_err(|source| ReplayError::NotStarted {
                what: "a thread for the errors of git",
                source,
            })?;
            stream.stderr = Some(reader);
        }
        Ok(stream)
    }

    /// The child's output; to be taken once.
    pub(crate) fn stdout(&mut self) -> Result<BufReader<ChildStdout>, ReplayError> {
        let stdout = self
            .child
            .stdout
            .take()
            .ok_or_else(|| ReplayError::GitUnreadable {
                command: self.command,
                source: io::Error::other("its output was taken before"),
            })?;
        Ok(BufReader::with_capacity(256 * 1_024, stdout))
    }

    /// Waits for the child's end, which must be a success.
    pub(crate) fn finish(mut self) -> Result<(), ReplayError> {
        let command = self.command;
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(ReplayError::GitFailed {
            command,
            status,
            stderr: self.errors(),
        })
    }

    /// Explains output that could not be parsed: if the child failed as well, that is the likely cause.
    pub(crate) fn explain(mut self, malformed: MalformedOutput) -> ReplayError {
        // A child that is still writing would wait for ever, now that nobody reads.
        if !matches!(malformed, MalformedOutput::Truncated { .. }) {
            return malformed.into();
        }
        match self.wait() {
            Ok(status) if !status.success() => ReplayError::CutOff {
                malformed,
                status,
                stderr: self.errors(),
            },
            _ => malformed.into(),
        }
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus, ReplayError> {
        let command = self.command;
        self.child
            .wait()
            .map_err(|source| ReplayError::GitUnreadable { command, source })
    }

    fn errors(&mut self) -> String {
        self.stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for GitStream {
    fn drop(&mut self) {
        // Both fail only for a child that has ended, which is what they are to bring about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a short command said.
struct Output {
    succeeded: bool,
    stdout: Vec<u8>,
    stderr: String,
}

fn output<'a>(
    path: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<Output, ReplayError> {
    let output = git(path).args(arguments).output().map_err(not_run)?;
    Ok(Output {
        succeeded: output.status.success(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn git(path: &Path) -> Command {
    let mut command = Command::new("git");
    for variable in REPOSITORY_VARIABLES {
        command.env_remove(variable);
    }
    command
        .args([OsStr::new("--no-pager"), OsStr::new("--no-replace-objects")])
        .args([OsStr::new("-C"), path.as_os_str()])
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

fn not_run(error: io::Error) -> ReplayError {
    match error.kind() {
        io::ErrorKind::NotFound => ReplayError::GitMissing,
        _ => ReplayError::GitNotRun(error),
    }
}

fn read_errors(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    // What cannot be read or kept is only missing from a message.
    let _ = stderr.by_ref().take(STDERR_LIMIT).read_to_end(&mut kept);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&kept).trim().to_owned()
}
