//! Counts the instructions of every path that stays on its caller, under valgrind.
//!
//! Counts do not depend on what else the machine does, so those of two commits can be compared. It
//! takes valgrind and the program `gungraun-runner` in the version of the crate; where one is
//! missing, the bench says so and counts nothing.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use executor_benches::paths::{PATHS, Path, Rig};

/// A rig in which the path was run until nothing grows any more.
fn warm(name: &str) -> (Rig, &'static Path) {
    let path = PATHS.iter().find(|path| path.name == name);
    let path = path.expect("the path is one of the table");
    let mut rig = Rig::new();
    path.warm_up(&mut rig);
    (rig, path)
}

/// What is generated to talk to the runner has a `main` of its own.
mod counted {
    use super::{Path, Rig, black_box, warm};
    use gungraun::{library_benchmark, library_benchmark_group};

    #[library_benchmark(setup = warm)]
    #[bench::parallel_ready("parallel execute, ready")]
    #[bench::parallel_yields("parallel execute, yields once")]
    #[bench::parallel_waits("parallel execute, waits for a permit")]
    #[bench::serial_by_handle("serial execute inline, by handle")]
    #[bench::serial_by_key("serial execute inline, by key")]
    #[bench::fresh_envelope("fresh envelope")]
    #[bench::child_envelope("child envelope")]
    #[bench::three_decisions("three decisions")]
    fn thousand((mut rig, path): (Rig, &'static Path)) -> Rig {
        path.round(black_box(&mut rig));
        // What is given back is dropped after the count.
        rig
    }

    library_benchmark_group!(name = paths, benchmarks = thousand);
    gungraun::main!(library_benchmark_groups = paths);

    pub(super) fn count() {
        main();
    }
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What is missing, and how to get it.
fn missing() -> Option<String> {
    if !runs("valgrind") {
        return Some("valgrind is not installed".into());
    }
    // As the crate finds it: by the environment of its build, or on the path.
    if !runs(option_env!("GUNGRAUN_RUNNER").unwrap_or("gungraun-runner")) {
        return Some(
            "gungraun-runner is not installed: cargo install gungraun-runner --version '^0.20'"
                .into(),
        );
    }
    None
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--test") {
        for path in PATHS.iter().filter(|path| path.on_caller) {
            let (mut rig, path) = warm(path.name);
            path.round(&mut rig);
            println!("{}: ran, nothing is counted", path.name);
        }
        return ExitCode::SUCCESS;
    }
    let under_valgrind = arguments
        .iter()
        .any(|argument| argument.starts_with("--gungraun-run"));
    if let Some(missing) = missing().filter(|_| !under_valgrind) {
        println!("instructions: DID NOT RUN: {missing}");
        return ExitCode::SUCCESS;
    }
    counted::count();
    ExitCode::SUCCESS
}
