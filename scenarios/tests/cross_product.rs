//! Every scenario, or as many as there is time for.
//!
//! - `SCENARIO=Submit/QueuedReady/Nowhere/Kept/Cancel` plays that one, as does `Delay/../Cancel/Early`;
//! - `SCENARIOS=2000` plays so many, chosen by `SCENARIO_SEED`, and `SCENARIOS=all` plays all, which is
//!   the default;
//! - `SCENARIOS_WITHOUT=Forgotten` leaves those out whose name contains the word, as a leak checker must;
//! - `SCENARIO_ROUNDS=10` plays each so often, each time on another of the hosts; four times is the default,
//!   with one worker and with two on threads of their own, and on both kinds of runtime.

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use executor_scenarios::{Host, Runtimes, Scenario, play, scenarios};

/// Set in a child process, to the scenario that it plays to its end.
const CHILD: &str = "SCENARIO_IN_CHILD";

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The scenarios to play, in the order in which they are played.
fn chosen() -> Vec<Scenario> {
    let mut legal: Vec<_> = (scenarios().filter(|scenario| scenario.legal().is_ok()))
        .filter(|scenario| !scenario.aborts())
        .collect();
    if let Ok(without) = env::var("SCENARIOS_WITHOUT") {
        legal.retain(|scenario| !scenario.to_string().contains(&without));
    }
    if let Ok(name) = env::var("SCENARIO") {
        legal.retain(|scenario| scenario.to_string() == name);
        assert!(!legal.is_empty(), "there is no legal scenario {name}");
        return legal;
    }
    let clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    };
    let seed = number("SCENARIO_SEED").unwrap_or_else(clock);
    println!("SCENARIO_SEED={seed}");
    let mut random = seed | 1;
    for at in (1..legal.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        legal.swap(at, (random >> 16) as usize % (at + 1));
    }
    match env::var("SCENARIOS") {
        Ok(most) if most != "all" => legal.truncate(most.parse().expect("a number, or `all`")),
        _ => {}
    }
    legal
}

#[test]
fn every_legal_scenario_ends_as_it_should() {
    let runtimes = Runtimes::start();
    let hosts = runtimes.hosts();
    let rounds = number("SCENARIO_ROUNDS").unwrap_or(hosts.len() as u64);
    let chosen = chosen();
    let mut failed = Vec::new();
    for round in 0..rounds {
        for (index, scenario) in (0..).zip(&chosen) {
            let host = &hosts[(round + index) as usize % hosts.len()];
            let played = catch_unwind(AssertUnwindSafe(|| play(scenario, host)));
            if played.is_err() {
                println!("FAILED on {host}: SCENARIO={scenario}");
                failed.push(scenario.to_string());
            }
            assert!(failed.len() < 20, "too many have failed: {failed:#?}");
        }
    }
    println!("{} scenarios, {rounds} times", chosen.len());
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

#[test]
fn every_cell_is_legal_or_has_a_reason() {
    let mut reasons = BTreeMap::<_, u32>::new();
    let mut legal = 0;
    for scenario in scenarios() {
        match scenario.legal() {
            Ok(()) => legal += 1,
            Err(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    for (reason, cells) in &reasons {
        println!("{cells:>6} cells: {reason}");
    }
    println!("{legal:>6} cells are legal");
    assert!(legal > 1_000, "{legal}");
}

#[test]
fn a_panic_while_another_unwinds_aborts_the_process() {
    if let Ok(name) = env::var(CHILD) {
        let scenario = scenarios().find(|scenario| scenario.to_string() == name);
        play(&scenario.expect("the parent knows it"), &Host::Threads(1));
        return;
    }
    let this = env::current_exe().expect("a path");
    let aborting = scenarios().filter(|scenario| scenario.aborts() && scenario.legal().is_ok());
    for scenario in aborting {
        let child = Command::new(&this)
            .args([
                "--exact",
                "a_panic_while_another_unwinds_aborts_the_process",
            ])
            .env(CHILD, scenario.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it starts");
        // Neither a success, nor a test that failed and could say so: no code, but a signal.
        assert_eq!(child.code(), None, "{scenario}: {child}");
    }
}
