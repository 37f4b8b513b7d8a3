//! What the report says, and that a run without order is found out.

use crate::support::{History, Repository, Run, replay};

fn one_path(commits: u32) -> Repository {
    let changes = |history: History, round| history.commit().file("a", format!("{round}"));
    Repository::with((0..commits).fold(History::new(), changes))
}

#[test]
fn one_path_with_many_changes_is_replayed_in_order() {
    assert_eq!(one_path(2_000).agrees()["events"], 2_000);
}

#[test]
fn running_without_order_disagrees_where_order_matters() {
    let repository = one_path(2_000);
    for host in ["threads", "tokio"] {
        let run = Run::new(replay(repository.path()).args(["--mode", "parallel", "--host", host]));
        assert_eq!(run.status, Some(1), "{run:?}");
        assert!(run.stdout.contains("events that did not follow"), "{run:?}");
        assert!(run.stdout.contains("parallel keeps no order"), "{run:?}");
    }
}

#[test]
fn running_without_order_disagrees_about_two_events_and_about_distant_ones() {
    let twice = one_path(2);
    let rewritten = (0..3).fold(History::new(), |history, version| {
        (0..1_000).fold(history.commit(), |history, path| {
            history.file(format!("{path}"), format!("{path} {version}"))
        })
    });
    let rewritten = Repository::with(rewritten);
    for repository in [twice, rewritten] {
        let run = Run::new(replay(repository.path()).args(["--mode", "parallel"]));
        assert_eq!(run.status, Some(1), "{run:?}");
    }
}

#[test]
fn too_many_workers_are_refused() {
    let repository = one_path(2);
    for mode in ["serial", "mutex"] {
        let workers = "18446744073709551615";
        let options = ["--mode", mode, "--host", "tokio", "--workers", workers];
        let run = Run::new(replay(repository.path()).args(options));
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(run.stderr.contains("from 1 to 1024"), "{run:?}");
    }
}

#[test]
fn running_without_order_agrees_where_every_path_has_one_event() {
    let history = (0..500).fold(History::new(), |history, path| {
        history.commit().file(format!("{path}"), format!("{path}"))
    });
    let repository = Repository::with(history);
    let run = Run::new(replay(repository.path()).args(["--mode", "parallel"]));
    assert_eq!(run.status, Some(0), "{run:?}");
}

#[test]
fn any_number_of_workers_agrees() {
    let repository = one_path(500);
    for workers in ["1", "2", "3", "8"] {
        for mode in ["serial", "mutex"] {
            for host in ["threads", "tokio"] {
                let options = ["--mode", mode, "--workers", workers, "--host", host];
                let run = Run::new(replay(repository.path()).args(options));
                assert_eq!(run.status, Some(0), "{options:?}: {run:?}");
            }
        }
    }
}

#[test]
fn the_report_for_people_has_every_number() {
    let run = Run::new(&mut replay(one_path(1_000).path()));
    for wanted in [
        "mode serial",
        "commits",
        "events per second",
        "submitted to handled",
        "waits for room",
        "allocations",
        "peak memory",
        "AGREES: every event once and in order",
    ] {
        assert!(
            run.stdout.contains(wanted),
            "{wanted} is missing: {}",
            run.stdout
        );
    }
    assert_eq!(run.stderr, "");
}

#[test]
fn the_report_for_machines_has_every_number() {
    let report = one_path(3_000).agrees();
    assert_eq!(
        (&report["commits"], &report["paths"]),
        (&3_000.into(), &1.into())
    );
    assert!(report["events_per_second"].as_f64().unwrap() > 0.0);
    let latency = &report["latency_nanoseconds"];
    assert!(latency["p50"].as_u64().unwrap() <= latency["p99"].as_u64().unwrap());
    assert!(latency["p99"].as_u64().unwrap() <= latency["longest"].as_u64().unwrap());
    assert!(
        report["second_half"]["allocations_per_event"]
            .as_f64()
            .unwrap()
            < 1.0
    );
    // Said if the system says it, and only then.
    let status = std::fs::read_to_string("/proc/self/status");
    let is_known = status.is_ok_and(|status| status.contains("VmHWM"));
    let peak = report["peak_memory_bytes"].as_u64();
    assert_eq!(peak.is_some_and(|bytes| bytes > 0), is_known);
}
