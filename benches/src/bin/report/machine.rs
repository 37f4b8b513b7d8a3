//! What the figures were measured on, and of what; nothing that names the machine or its owner.

use std::path::Path;
use std::process::Command;

use chrono::Utc;

/// Where and when.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn read(workspace: &Path) -> Self {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, model)| model.trim().to_owned());
        let kernel = rustix::system::uname();
        // What the packager appended to the release says nothing about speed.
        let release = kernel.release().to_string_lossy();
        let release = release.split('-').next().unwrap_or_default();
        Self {
            processor: model.unwrap_or_else(|| "an unknown processor".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("{} {release}", kernel.sysname().to_string_lossy()),
            commit: commit(workspace),
            date: Utc::now().format("%Y-%m-%d").to_string(),
        }
    }
}

fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    // Without the locks that a status takes to write down what it found out.
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(workspace)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit(workspace: &Path) -> String {
    let Some(commit) = git(workspace, &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown (no git)".into();
    };
    // The document is written by this very program.
    let changed = git(workspace, &["status", "--porcelain", "--", ":!docs"]);
    match changed {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}, with changes that are not committed"),
    }
}
