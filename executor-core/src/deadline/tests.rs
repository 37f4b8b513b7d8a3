use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_deadline_is_passed_from_its_instant_on() {
    let now = Instant::now();
    assert!(Deadline::at(now).has_passed());
    assert!(!Deadline::at(now + HOUR).has_passed());
    assert!(!Deadline::NONE.has_passed());
}

#[test]
fn a_deadline_gives_its_instant_back() {
    let now = Instant::now();
    for instant in [now, now + HOUR] {
        assert_eq!(Deadline::at(instant).instant(), Some(instant));
    }
    assert_eq!(Deadline::NONE.instant(), None);
}

#[test]
fn a_deadline_of_long_ago_is_one() {
    let before = Instant::now().checked_sub(2 * HOUR);
    // A machine that was started just now has no such instant.
    let Some(before) = before else { return };
    let deadline = Deadline::at(before);
    assert_ne!(deadline, Deadline::NONE);
    assert!(deadline.has_passed());
}
