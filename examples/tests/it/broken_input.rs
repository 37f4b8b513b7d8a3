//! A git whose output is cut off or wrong, and a reader of our output that goes away.

use crate::support::{FakeGit, History, Repository, Run, replay};

fn three_commits() -> Repository {
    Repository::with(
        History::new()
            .commit()
            .file("a", "1")
            .commit()
            .file("a", "2")
            .commit()
            .file("a", "3"),
    )
}

/// The bytes of one commit in the log: 40 digits, a space, 10 digits, NUL, line feed; 99 bytes of change, NUL; "a", NUL.
const COMMIT: usize = 52 + 1 + 99 + 2;

fn log_of(repository: &Repository) -> Vec<u8> {
    repository.git(&[
        "log",
        "--reverse",
        "--raw",
        "--root",
        "--no-abbrev",
        "-z",
        "--format=%H %at",
    ])
}

#[test]
fn a_log_cut_off_inside_a_record_names_the_position() {
    let repository = three_commits();
    for cut in [1, 51, 53, 60, 151, 152, 153, COMMIT + 1, 3 * COMMIT - 1] {
        let fake = FakeGit::new(&format!("\"$real\" \"$@\" | head -c {cut}"));
        Run::new(&mut fake.replay(repository.path())).fails_with(&format!("cut off at byte {cut}"));
    }
}

#[test]
fn a_git_that_is_killed_names_the_position_and_the_signal() {
    let fake = FakeGit::new("\"$real\" \"$@\" | head -c 200; echo out of memory >&2; kill -9 $$");
    let run = Run::new(&mut fake.replay(three_commits().path()));
    run.fails_with("cut off at byte 200");
    run.fails_with("signal: 9");
    run.fails_with("out of memory");
}

#[test]
fn a_log_that_ends_between_two_commits_is_incomplete() {
    let repository = three_commits();
    let first = repository.commit("main~2");
    let fake = FakeGit::new(&format!("\"$real\" \"$@\" | head -c {COMMIT}"));
    Run::new(&mut fake.replay(repository.path()))
        .fails_with(&format!("ends at {first} instead of"));
    let nothing = FakeGit::new("exit 0");
    Run::new(&mut nothing.replay(repository.path())).fails_with("ends at nothing instead of");
}

#[test]
fn a_git_that_fails_is_quoted() {
    let fake = FakeGit::new("\"$real\" \"$@\"; echo broken pack >&2; exit 3");
    let run = Run::new(&mut fake.replay(three_commits().path()));
    run.fails_with("exit status: 3: broken pack");
}

#[test]
fn a_git_that_writes_endless_errors_is_not_waited_for() {
    let fake = FakeGit::new("head -c 1000000 /dev/zero | tr '\\0' x >&2; \"$real\" \"$@\"");
    let run = Run::new(&mut fake.replay(three_commits().path()));
    assert_eq!(run.status, Some(0), "{run:?}");
}

#[test]
fn a_log_with_another_grammar_names_the_position() {
    let repository = three_commits();
    let mut log = log_of(&repository);
    log[COMMIT] = b'?';
    let run = Run::new(&mut FakeGit::with_log(&log).replay(repository.path()));
    run.fails_with(&format!("has no commit at byte {COMMIT}, but \"?"));
}

#[test]
fn a_log_that_lost_an_event_disagrees_by_name() {
    let repository = three_commits();
    let mut log = log_of(&repository);
    // The second commit keeps its header and loses its change.
    log.drain(COMMIT + 52..2 * COMMIT);
    let run = Run::new(&mut FakeGit::with_log(&log).replay(repository.path()));
    assert_eq!(run.status, Some(1), "{run:?}");
    let last = repository.commit("main");
    assert!(run.stdout.contains(&format!(
        "a, commit {last} of 1000000003: the file should be 100644"
    )));
    assert!(
        run.stdout
            .contains("events that did not follow from the state they met: 1\n"),
        "{run:?}"
    );
}

#[test]
fn a_log_that_repeats_an_event_disagrees() {
    let repository = three_commits();
    let log = log_of(&repository);
    let repeated = [&log[..2 * COMMIT], &log[COMMIT..]].concat();
    let run = Run::new(
        FakeGit::with_log(&repeated)
            .replay(repository.path())
            .arg("--json"),
    );
    assert_eq!(
        (run.status, &run.json()["violations"]["count"]),
        (Some(1), &1.into())
    );
}

#[test]
fn a_log_in_another_order_disagrees() {
    let repository = three_commits();
    let log = log_of(&repository);
    let swapped = [&log[COMMIT..2 * COMMIT], &log[..COMMIT], &log[2 * COMMIT..]].concat();
    let run = Run::new(
        FakeGit::with_log(&swapped)
            .replay(repository.path())
            .arg("--json"),
    );
    assert_eq!(
        (run.status, &run.json()["violations"]["count"]),
        (Some(1), &3.into())
    );
}

#[test]
fn a_log_that_lost_the_last_event_of_a_path_differs_from_the_tree() {
    let history = History::new()
        .commit()
        .file("a", "1")
        .file("b", "1")
        .commit()
        .file("c", "1");
    let repository = Repository::with(history);
    let mut log = log_of(&repository);
    // The change of "b" is the second of the first commit.
    log.drain(COMMIT..COMMIT + 101);
    let run = Run::new(&mut FakeGit::with_log(&log).replay(repository.path()));
    assert_eq!(run.status, Some(1), "{run:?}");
    assert!(run.stdout.contains("b: git has 100644"), "{run:?}");
    assert!(run.stdout.contains("the replay has no file"), "{run:?}");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let repository = three_commits();
    for options in [&[][..], &["--json"][..]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = Run::new(replay(repository.path()).args(options).stdout(writer));
        assert_eq!((run.status, run.stderr.as_str()), (Some(2), ""));
    }
}
