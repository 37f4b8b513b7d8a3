//! Trees with everything that git allows in them.

use crate::support::{History, Repository};

const SUBMODULE: [&str; 2] = [
    "9d1e619ff359b6e609b02f01e36952e603104bc6",
    "403bb72a4dd7152a2a128b3dd3d5cbd7a61b791e",
];

#[test]
fn paths_of_any_bytes_are_replayed() {
    let paths: [&[u8]; 12] = [
        b"a b",
        b" ",
        b"\"quoted\"",
        b"it's",
        b"line\nfeed",
        b"\n:000000 100644",
        b"tab\there",
        b"-dash",
        b":colon",
        b"back\\slash",
        b"not utf-8 \xff\xfe",
        "snow \u{2603}/caf\u{e9}".as_bytes(),
    ];
    let mut history = History::new();
    for round in 0..3 {
        history = history.commit();
        for path in paths {
            history = history.file(path, format!("{round}"));
        }
    }
    history = history.commit().remove(paths[4]).remove(paths[10]);
    let report = Repository::with(history).agrees();
    assert_eq!(report["paths"], paths.len());
    assert_eq!(report["events"], 3 * paths.len() + 2);
    assert_eq!(report["files"], paths.len() - 2);
}

#[test]
fn symbolic_links_submodules_and_mode_changes_are_replayed() {
    let history = History::new()
        .commit()
        .file("script", "#!/bin/sh")
        .entry("120000", "link", "script")
        .submodule("library", SUBMODULE[0])
        .commit()
        .entry("100755", "script", "#!/bin/sh")
        .submodule("library", SUBMODULE[1])
        .commit()
        .file("link", "a file now")
        .entry("120000", "script", "link");
    let report = Repository::with(history).agrees();
    assert_eq!(
        (&report["events"], &report["files"]),
        (&7.into(), &3.into())
    );
}

#[test]
fn a_file_that_becomes_a_directory_and_back_is_replayed() {
    let history = History::new()
        .commit()
        .file("a", "1")
        .commit()
        .remove("a")
        .file("a/b", "1")
        .file("a/c", "1")
        .commit()
        .remove("a")
        .file("a", "2");
    let report = Repository::with(history).agrees();
    assert_eq!(
        (&report["events"], &report["paths"]),
        (&7.into(), &3.into())
    );
}

#[test]
fn a_file_that_is_removed_and_made_again_is_replayed() {
    let mut history = History::new();
    for _ in 0..100 {
        history = history.commit().file("a", "same").commit().remove("a");
    }
    let report = Repository::with(history).agrees();
    assert_eq!(
        (&report["events"], &report["files"]),
        (&200.into(), &0.into())
    );
}

#[test]
fn renames_are_a_removal_and_an_addition_on_two_paths() {
    let history = History::new()
        .commit()
        .file("old", "the same content in both places")
        .commit()
        .remove("old")
        .file("new", "the same content in both places");
    assert_eq!(Repository::with(history).agrees()["events"], 3);
}
