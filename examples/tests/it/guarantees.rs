//! The document of the guarantees names tests and files that exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/guarantees.md")).expect("the document")
}

/// The names in backticks of a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_holds_a_guarantee_exists() {
    let root = root();
    let document = document();
    let mut unheld = Vec::new();
    let mut missing = Vec::new();
    let mut tests = 0;
    let mut heading = None;
    for line in document.lines() {
        if line.starts_with('#') {
            unheld.extend(heading.take());
            heading = line.strip_prefix("### ");
        }
        let Some(entry) = line.strip_prefix("- `") else {
            continue;
        };
        let Some((path, listed)) = entry.split_once("`: ") else {
            continue;
        };
        let source = fs::read_to_string(root.join(path)).unwrap_or_default();
        for name in names(listed) {
            tests += 1;
            let plain = source.contains(&format!("fn {name}("));
            if !plain && !source.contains(&format!("fn {name}<")) {
                missing.push(format!("{path}: {name}"));
            }
            heading = None;
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(unheld.is_empty(), "no test holds: {unheld:#?}");
    assert!(tests >= 24, "only {tests} tests are named");
}

#[test]
fn every_file_that_is_named_exists() {
    let (root, document) = (root(), document());
    let mut files = 0;
    let mut missing = Vec::new();
    for name in document.lines().flat_map(names) {
        // What follows a blank are the arguments of a command.
        let path = name.split(' ').next().unwrap_or_default();
        if Path::new(path).extension().is_some() {
            files += 1;
            if !root.join(path).is_file() {
                missing.push(path);
            }
        }
    }
    assert!(missing.is_empty(), "no such files: {missing:#?}");
    assert!(files >= 24, "only {files} files are named");
}
