use super::*;

/// Workers that have lain down in this order, each with the tick until which it may park.
fn sleeping(ticks: &[u64]) -> Sleepers {
    let sleepers = Sleepers::new(ticks.len());
    for (worker, &tick) in ticks.iter().enumerate() {
        let _lain = sleepers.lie_down(worker, false, tick, false, || false);
    }
    assert_eq!(sleepers.asleep(), ticks.len());
    sleepers
}

const fn down(keeps: bool, naps: bool) -> Lain {
    Lain::Down { keeps, naps }
}

#[test]
fn who_naps_is_left_the_work_while_another_is_awake() {
    let sleepers = Sleepers::new(3);
    assert_eq!(
        sleepers.lie_down(0, false, NEVER, false, || false),
        down(false, false)
    );
    assert!(!sleepers.is_napping());
    assert_eq!(
        sleepers.lie_down(1, false, 7, true, || false),
        down(true, true)
    );
    assert!(sleepers.is_napping());
    assert_eq!(sleepers.wake_for_work(), None, "the third is awake");
    assert_eq!(
        sleepers.lie_down(2, false, NEVER, true, || false),
        down(false, false),
        "one naps at a time"
    );
    assert_eq!(sleepers.wake_for_work(), Some(2), "nobody is awake");
    sleepers.stop_searching();
    assert_eq!(sleepers.wake_for_work(), None);
    assert_eq!(sleepers.wake_one(), Some(0), "what cannot wait");
    sleepers.stop_searching();
    // It gets up by itself.
    assert!(sleepers.get_up(1));
    sleepers.stop_searching();
    assert!(!sleepers.is_napping());
    assert_eq!(
        sleepers.lie_down(1, false, NEVER, true, || false),
        down(false, true)
    );
    assert_eq!(sleepers.wake_all(), [1]);
    assert!(!sleepers.is_napping());
}

#[test]
fn waking_all_takes_every_sleeper_and_each_is_a_searcher() {
    let sleepers = sleeping(&[NEVER, 9, NEVER]);
    assert_eq!(sleepers.watch(), 9);
    let mut woken = sleepers.wake_all();
    woken.sort_unstable();
    assert_eq!(woken, [0, 1, 2]);
    assert_eq!((sleepers.asleep(), sleepers.watch()), (0, NEVER));
    for _ in woken {
        assert!(!sleepers.start_searching(), "somebody searches");
        sleepers.stop_searching();
    }
    assert!(sleepers.start_searching());
    assert!(sleepers.wake_all().is_empty());
}

#[test]
fn nobody_is_woken_while_somebody_searches() {
    let sleepers = sleeping(&[NEVER, NEVER]);
    assert_eq!(sleepers.wake_one(), Some(1));
    assert_eq!((sleepers.wake_one(), sleepers.wake_keeper()), (None, None));
    sleepers.stop_searching();
    assert_eq!(sleepers.wake_one(), Some(0));
    sleepers.stop_searching();
    assert_eq!((sleepers.wake_one(), sleepers.wake_keeper()), (None, None));
}

#[test]
fn the_earliest_keeps_the_time_and_is_woken_last() {
    let sleepers = sleeping(&[9, 5, 7]);
    assert_eq!(sleepers.watch(), 5);
    assert_eq!(sleepers.wake_one(), Some(2));
    assert_eq!(sleepers.watch(), 5);
    sleepers.stop_searching();
    assert_eq!(sleepers.wake_keeper(), Some(1));
    assert_eq!(sleepers.watch(), NEVER);
    sleepers.stop_searching();
    assert_eq!(sleepers.wake_one(), Some(0));
}

#[test]
fn who_is_needed_gets_up_as_a_searcher_unless_it_was_woken() {
    let sleepers = Sleepers::new(1);
    assert!(sleepers.start_searching());
    assert_eq!(sleepers.lie_down(0, true, 5, false, || true), Lain::Up);
    assert_eq!((sleepers.asleep(), sleepers.watch()), (0, NEVER));
    assert!(!sleepers.start_searching());
    let woken = || sleepers.wake_one() == Some(0);
    assert_eq!(
        sleepers.lie_down(0, true, 5, false, woken),
        down(true, false)
    );
    assert!(!sleepers.get_up(0), "it was woken");
    assert!(!sleepers.start_searching(), "and so it searches");
    assert_eq!(
        sleepers.lie_down(0, true, NEVER, false, || false),
        down(false, false)
    );
    assert!(sleepers.start_searching());
}
