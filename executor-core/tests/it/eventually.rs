//! Waiting for what others do: never for a time, always with a deadline that fails.

use std::time::{Duration, Instant};

/// No step of a test takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `holds` does, and lets other threads run meanwhile.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
#[allow(
    dead_code,
    reason = "not every test binary that includes this needs it"
)]
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// The same for a condition that needs the runtime of this thread to go on.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
#[allow(
    dead_code,
    reason = "not every test binary that includes this needs it"
)]
pub(crate) async fn in_time(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        tokio::task::yield_now().await;
    }
}

/// How many threads of this process have a name that begins with `prefix`, of at most 15 bytes.
#[allow(
    dead_code,
    reason = "not every test binary that includes this needs it"
)]
#[cfg(target_os = "linux")]
pub(crate) fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}
