//! Histories of every shape: merges, commits without changes, shallow ones, long ones.

use crate::support::{History, Repository, Run, git, replay};

#[test]
fn a_merge_is_its_difference_to_the_first_parent() {
    let history = History::new()
        .commit()
        .file("a", "1")
        .commit_on("side", Some(1))
        .file("b", "1")
        .commit_on("side", None)
        .file("b", "2")
        .file("a", "side")
        .commit()
        .file("c", "1")
        .commit()
        .merge(3)
        .file("a", "side")
        .file("b", "2");
    let report = Repository::with(history).agrees();
    assert_eq!(
        (&report["commits"], &report["events"]),
        (&3.into(), &4.into())
    );
}

#[test]
fn commits_that_change_nothing_are_counted_and_passed_over() {
    let history = History::new()
        .commit()
        .commit()
        .file("a", "1")
        .commit()
        .commit()
        .file("a", "2")
        .commit();
    let report = Repository::with(history).agrees();
    assert_eq!(
        (&report["commits"], &report["events"]),
        (&5.into(), &2.into())
    );
}

#[test]
fn a_history_without_a_single_file_agrees() {
    let report = Repository::with(History::new().commit().commit()).agrees();
    assert_eq!(
        (&report["commits"], &report["events"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn a_shallow_clone_begins_with_everything_added() {
    let mut history = History::new();
    for round in 0..10 {
        history = history
            .commit()
            .file("a", format!("{round}"))
            .file(format!("{round}"), "");
    }
    let origin = Repository::with(history);
    let clone = tempfile::tempdir().unwrap();
    let url = format!("file://{}", origin.path().display());
    let cloned = git(clone.path())
        .args(["clone", "--quiet", "--depth=3", &url, "clone"])
        .status();
    assert!(cloned.unwrap().success());
    let run = Run::new(replay(&clone.path().join("clone")).arg("--json"));
    assert_eq!(run.status, Some(0), "{run:?}");
    let report = run.json();
    assert_eq!(
        (&report["commits"], &report["events"]),
        (&3.into(), &13.into())
    );
}

#[test]
fn a_long_history_of_many_paths_is_replayed() {
    let mut history = History::new();
    for round in 0..2_000_u32 {
        history = history.commit();
        for path in 0..5 {
            let path = (round * 7 + path * 13) % 97;
            history = history.file(format!("{}/{path}", path % 5), format!("{round}"));
        }
    }
    assert_eq!(Repository::with(history).agrees()["events"], 10_000);
}

#[test]
fn a_limit_cuts_after_the_last_whole_commit() {
    let history = History::new()
        .commit()
        .file("a", "1")
        .file("b", "1")
        .commit()
        .file("a", "2")
        .commit()
        .file("a", "3")
        .file("b", "3")
        .commit()
        .file("c", "4");
    let repository = Repository::with(history);
    let limited =
        |limit| Run::new(replay(repository.path()).args(["--json", "--limit-events", limit]));
    let report = limited("4").json();
    assert_eq!(
        (&report["commits"], &report["events"]),
        (&2.into(), &3.into())
    );
    assert_eq!(report["compared_with"], repository.commit("main~2"));
    assert_eq!(
        (&report["agrees"], &report["limited"]),
        (&true.into(), &true.into())
    );

    let report = limited("6").json();
    assert_eq!(
        (&report["events"], &report["limited"]),
        (&6.into(), &false.into())
    );
    limited("1").fails_with("leaves no whole commit");
}

#[test]
fn a_limited_report_says_what_it_was_compared_with() {
    let repository = Repository::with(
        History::new()
            .commit()
            .file("a", "1")
            .commit()
            .file("a", "2"),
    );
    let run = Run::new(replay(repository.path()).args(["--limit-events", "1"]));
    assert_eq!(run.status, Some(0));
    assert!(run.stdout.contains("The limit cut the history"), "{run:?}");
    assert!(
        run.stdout
            .contains(&format!("files of {}", repository.commit("main~1"))),
        "{run:?}"
    );
}
