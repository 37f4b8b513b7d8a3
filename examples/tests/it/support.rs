//! Temporary repositories, and runs of the program on them.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Every way to run that keeps order and so must agree with git.
pub(crate) const ORDERED: [&[&str]; 6] = [
    &["--mode", "serial"],
    &["--mode", "serial", "--host", "tokio"],
    &["--mode", "serial", "--waiting"],
    &[
        "--mode",
        "serial",
        "--waiting",
        "--host",
        "tokio",
        "--preload",
    ],
    &["--mode", "mutex"],
    &["--mode", "mutex", "--host", "tokio", "--preload"],
];

/// A repository that is removed at the end of its test.
pub(crate) struct Repository {
    directory: TempDir,
}

impl Repository {
    /// One without commits.
    pub(crate) fn empty() -> Self {
        Self::init(&[])
    }

    /// One with the given history.
    pub(crate) fn with(history: History) -> Self {
        let repository = Self::empty();
        repository.import(history);
        repository
    }

    pub(crate) fn init(options: &[&str]) -> Self {
        let repository = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let mut arguments = vec!["init", "--quiet", "--initial-branch=main"];
        arguments.extend(options);
        repository.git(&arguments);
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn import(&self, history: History) {
        let mut child = git(self.path())
            .args(["fast-import", "--quiet", "--force"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&history.stream)
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Runs git, which must succeed, and gives what it wrote.
    pub(crate) fn git(&self, arguments: &[&str]) -> Vec<u8> {
        let output = git(self.path()).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {errors}");
        output.stdout
    }

    /// The commit that a name stands for.
    pub(crate) fn commit(&self, name: &str) -> String {
        String::from_utf8(self.git(&["rev-parse", name]))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Replays in every way that keeps order, checks that each agrees with git, and gives one report.
    #[track_caller]
    pub(crate) fn agrees(&self) -> Value {
        let mut last = Value::Null;
        for options in ORDERED {
            let run = Run::new(replay(self.path()).args(options).arg("--json"));
            assert_eq!(
                run.status,
                Some(0),
                "{options:?}: {}{}",
                run.stdout,
                run.stderr
            );
            last = run.json();
            assert_eq!(last["agrees"], true);
        }
        last
    }
}

/// Git without anybody's configuration.
pub(crate) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    isolate(&mut command);
    command
        .arg("-C")
        .arg(directory)
        .args(["-c", "protocol.file.allow=always"]);
    command
}

/// The program on a repository.
pub(crate) fn replay(repository: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    isolate(&mut command);
    command.arg(repository);
    command
}

fn isolate(command: &mut Command) {
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE");
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs to the end; a panic is a failure of every test.
    #[track_caller]
    pub(crate) fn new(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
        Self {
            status: status.code(),
            stdout,
            stderr,
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Checks that there was no verdict, and an explanation.
    #[track_caller]
    pub(crate) fn fails_with(&self, explanation: &str) {
        assert_eq!(self.status, Some(2), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        assert!(
            self.stderr.contains(explanation),
            "{self:?} should explain {explanation:?}"
        );
    }
}

/// A stream for `git fast-import`, which makes any tree without touching the file system.
pub(crate) struct History {
    stream: Vec<u8>,
    commits: u32,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            stream: Vec::new(),
            commits: 0,
        }
    }

    /// Begins a commit on the main branch; what follows are its changes.
    pub(crate) fn commit(self) -> Self {
        self.commit_on("main", None)
    }

    /// Begins a commit on a branch, on top of the given commit if the branch is new.
    pub(crate) fn commit_on(mut self, branch: &str, parent: Option<u32>) -> Self {
        self.commits += 1;
        let commits = self.commits;
        let time = 1_000_000_000 + commits;
        self.line(format!("commit refs/heads/{branch}\nmark :{commits}"));
        self.line(format!("committer A <a@example.org> {time} +0000\ndata 0"));
        if let Some(parent) = parent {
            self.line(format!("from :{parent}"));
        }
        self
    }

    /// Makes the commit that was begun a merge.
    pub(crate) fn merge(mut self, other: u32) -> Self {
        self.line(format!("merge :{other}"));
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry("100644", path, content)
    }

    pub(crate) fn entry(
        mut self,
        mode: &str,
        path: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
    ) -> Self {
        let (path, content) = (quote(path.as_ref()), content.as_ref());
        self.line(format!("M {mode} inline {path}\ndata {}", content.len()));
        self.stream.extend_from_slice(content);
        self.line("");
        self
    }

    pub(crate) fn submodule(mut self, path: &str, commit: &str) -> Self {
        self.line(format!("M 160000 {commit} {path}"));
        self
    }

    pub(crate) fn remove(mut self, path: impl AsRef<[u8]>) -> Self {
        let path = quote(path.as_ref());
        self.line(format!("D {path}"));
        self
    }

    fn line(&mut self, line: impl AsRef<str>) {
        self.stream.extend_from_slice(line.as_ref().as_bytes());
        self.stream.push(b'\n');
    }
}

/// Git's quoting: every byte in octal is always right.
fn quote(path: &[u8]) -> String {
    let octal: String = path.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("\"{octal}\"")
}

/// A `git` that does something else instead of `git log`.
///
/// The script lies in the repository: one that is written just before it is run may still be open for
/// writing in a process that another test has forked and that has not begun its own program.
pub(crate) struct FakeGit {
    on_log: String,
    log: Option<TempDir>,
}

impl FakeGit {
    /// `on_log` is shell script; `"$real" "$@"` in it is what git would have done.
    pub(crate) fn new(on_log: &str) -> Self {
        Self {
            on_log: on_log.into(),
            log: None,
        }
    }

    /// One that writes `log` where git would write its log.
    pub(crate) fn with_log(log: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("log"), log).unwrap();
        Self {
            on_log: "cat \"$FAKE_LOG/log\"".into(),
            log: Some(directory),
        }
    }

    /// The program, finding this git first.
    pub(crate) fn replay(&self, repository: &Path) -> Command {
        let mut path = OsString::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake:"));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = replay(repository);
        command.env("PATH", path).env("FAKE_REAL", real_git());
        command.env("FAKE_ON_LOG", &self.on_log);
        if let Some(log) = &self.log {
            command.env("FAKE_LOG", log.path());
        }
        command
    }
}

fn real_git() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|directory| directory.join(OsStr::new("git")))
        .find(|candidate| candidate.is_file())
        .expect("git is on PATH")
}
