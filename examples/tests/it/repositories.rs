//! Repositories of every kind, and surroundings that could mislead git.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::support::{History, Repository, Run, git, replay};

fn two_commits() -> History {
    History::new()
        .commit()
        .file("a", "1")
        .file("d/b", "1")
        .commit()
        .file("a", "2")
}

#[test]
fn a_repository_with_sha_256_names_is_replayed() {
    let repository = Repository::init(&["--object-format=sha256"]);
    repository.import(two_commits());
    let report = repository.agrees();
    assert_eq!(report["head"].as_str().unwrap().len(), 64);
}

#[test]
fn a_bare_repository_is_replayed() {
    let repository = Repository::init(&["--bare"]);
    repository.import(two_commits());
    assert_eq!(repository.agrees()["events"], 3);
}

#[test]
fn a_work_tree_of_another_repository_is_replayed() {
    let repository = Repository::with(two_commits());
    let elsewhere = tempfile::tempdir().unwrap();
    let tree = elsewhere.path().join("tree");
    repository.git(&[
        "worktree",
        "add",
        "--quiet",
        "--detach",
        tree.to_str().unwrap(),
        "main~1",
    ]);
    let run = Run::new(replay(&tree).arg("--json"));
    assert_eq!((run.status, &run.json()["commits"]), (Some(0), &1.into()));
}

#[test]
fn any_directory_in_a_repository_stands_for_all_of_it() {
    let repository = Repository::with(two_commits());
    repository.git(&["reset", "--quiet", "--hard"]);
    let directory = repository.path().join("d");
    let run = Run::new(replay(Path::new(".")).current_dir(&directory).arg("--json"));
    assert_eq!((run.status, &run.json()["events"]), (Some(0), &3.into()));
}

#[test]
fn a_repository_without_commits_has_no_verdict() {
    Run::new(&mut replay(Repository::empty().path())).fails_with("HEAD names no commit");
}

#[test]
fn what_is_not_a_repository_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = replay(directory.path());
    command.env(
        "GIT_CEILING_DIRECTORIES",
        directory.path().parent().unwrap(),
    );
    Run::new(&mut command).fails_with("is not a git repository");
    Run::new(&mut replay(&directory.path().join("nowhere"))).fails_with("is not a git repository");
}

#[test]
fn a_machine_without_git_is_told_so() {
    let repository = Repository::with(two_commits());
    let nothing = tempfile::tempdir().unwrap();
    Run::new(replay(repository.path()).env("PATH", nothing.path())).fails_with("git was not found");
}

#[test]
fn a_repository_with_missing_objects_is_an_error_of_git() {
    let repository = Repository::with(two_commits());
    repository.git(&["repack", "-a", "-d", "--quiet"]);
    let packs = repository.path().join(".git/objects/pack");
    let unpacked = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(packs)
        .unwrap()
        .map(|file| file.unwrap().path())
    {
        std::fs::rename(&file, unpacked.path().join(file.file_name().unwrap())).unwrap();
    }
    Run::new(&mut replay(repository.path()))
        .fails_with("the commit that HEAD names cannot be read");
}

#[test]
fn the_repository_of_a_surrounding_hook_does_not_matter() {
    let (meant, other) = (
        Repository::with(two_commits()),
        Repository::with(History::new().commit()),
    );
    let hidden = other.path().join(".git");
    let run = Run::new(
        replay(meant.path())
            .env("GIT_DIR", &hidden)
            .env("GIT_WORK_TREE", other.path())
            .env("GIT_OBJECT_DIRECTORY", hidden.join("objects"))
            .env("GIT_INDEX_FILE", hidden.join("index"))
            .env("GIT_PREFIX", "d/")
            .arg("--json"),
    );
    assert_eq!((run.status, &run.json()["events"]), (Some(0), &3.into()));
}

#[test]
fn no_configuration_changes_what_is_replayed() {
    let library = [
        "9d1e619ff359b6e609b02f01e36952e603104bc6",
        "403bb72a4dd7152a2a128b3dd3d5cbd7a61b791e",
    ];
    let history = two_commits()
        .commit_on("side", Some(1))
        .file("side", "1")
        .commit()
        .merge(3)
        .file("side", "1")
        .submodule("library", library[0])
        .commit()
        .remove("d/b")
        .file("d/c", "1")
        .submodule("library", library[1]);
    let repository = Repository::with(history);
    repository.git(&["reset", "--quiet", "--hard"]);
    let hostile = [
        "color.ui=always",
        "core.abbrev=7",
        "core.quotePath=true",
        "diff.external=false",
        "diff.ignoreSubmodules=all",
        "diff.orderFile=/does/not/exist",
        "diff.relative=true",
        "diff.renames=copies",
        "format.notes=*",
        "format.pretty=fuller",
        "i18n.commitEncoding=UTF-16",
        "i18n.logOutputEncoding=UTF-16",
        "log.decorate=full",
        "log.diffMerges=off",
        "log.mailmap=true",
        "log.showRoot=false",
        "log.showSignature=true",
        "submodule.library.ignore=all",
    ];
    for setting in hostile {
        let (name, value) = setting.split_once('=').unwrap();
        repository.git(&["config", name, value]);
    }
    let run = Run::new(replay(&repository.path().join("d")).arg("--json"));
    assert_eq!(
        (run.status, &run.json()["events"]),
        (Some(0), &8.into()),
        "{run:?}"
    );
}

#[test]
fn a_replaced_commit_does_not_change_what_head_means() {
    let repository = Repository::with(two_commits());
    repository.git(&["replace", "main", "main~1"]);
    assert_eq!(repository.agrees()["commits"], 2);
}

#[test]
fn nothing_in_the_repository_is_written() {
    let repository = Repository::with(two_commits());
    repository.git(&["reset", "--quiet", "--hard"]);
    let before = files(repository.path());
    repository.agrees();
    assert_eq!(files(repository.path()), before);
}

#[test]
fn a_partial_clone_is_replayed_without_fetching() {
    let origin = Repository::with(two_commits());
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", origin.path().display());
    let clone = [
        "clone",
        "--quiet",
        "--bare",
        "--filter=blob:none",
        &url,
        "clone",
    ];
    assert!(
        git(directory.path())
            .args(clone)
            .status()
            .unwrap()
            .success()
    );
    drop(origin);
    let run = Run::new(replay(&directory.path().join("clone")).arg("--json"));
    assert_eq!(
        (run.status, &run.json()["events"]),
        (Some(0), &3.into()),
        "{run:?}"
    );
}

/// Every file below a directory with its length and the time of its last change.
fn files(directory: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        if data.is_dir() {
            found.extend(files(&entry.path()));
        }
        found.insert(entry.path(), (data.len(), data.modified().unwrap()));
    }
    found
}
