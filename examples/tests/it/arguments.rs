//! The command line.

use std::path::Path;

use crate::support::{Run, replay};

#[test]
fn help_tells_the_options_and_the_exit_status() {
    let run = Run::new(replay(Path::new(".")).arg("--help"));
    assert_eq!(run.status, Some(0));
    for wanted in [
        "--mode",
        "--workers",
        "--host",
        "--limit-events",
        "--json",
        "Exit status",
    ] {
        assert!(
            run.stdout.contains(wanted),
            "{wanted} is missing: {}",
            run.stdout
        );
    }
}

#[test]
fn wrong_arguments_are_refused_with_a_reason() {
    for wrong in [
        &["--mode", "magic"][..],
        &["--workers", "0"],
        &["--workers", "many"],
        &["--limit-events", "0"],
        &["--host", "moon"],
        &["two", "repositories"],
    ] {
        let run = Run::new(replay(Path::new(".")).args(wrong));
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(2), ""),
            "{wrong:?}"
        );
        assert!(run.stderr.contains("error:"), "{wrong:?}: {run:?}");
    }
}
