use super::*;

/// Cells are aligned to 64 bytes.
const CELLS: [usize; 3] = [64, 128, 192];

/// Pushes a cell, and tells what it was linked to.
fn push(word: &StrandWord, cell: usize) -> (Push, usize) {
    let mut next = usize::MAX;
    let pushed = word.push(cell, |newest| next = newest);
    (pushed, next)
}

/// An owned stream.
fn owned() -> StrandWord {
    let word = StrandWord::new();
    assert!(word.try_own());
    word
}

/// What is done to a stream.
type Step = fn(&StrandWord);

const PARK: Step = |word| assert!(word.park());
const WAKE: Step = |word| assert!(!word.wake());
const CLOSE: Step = StrandWord::close;
const QUEUE: Step = |word| assert!(word.push_if_busy(CELLS[2], |_| {}));

#[test]
fn an_idle_stream_has_one_owner_until_it_lets_go() {
    let word = StrandWord::new();
    assert!(!word.is_busy());
    assert!(word.try_own());
    assert!(word.is_busy());
    assert!(!word.try_own());
    assert_eq!(word.let_go(), LetGo::Idle);
    assert!(!word.is_busy());
    assert_eq!(push(&word, CELLS[0]), (Push::Scheduled, 0));
    assert!(word.is_busy());
    assert!(!word.try_own());
}

#[test]
fn pushed_cells_form_a_list_that_the_owner_takes_whole() {
    for steps in [&[] as &[Step], &[WAKE], &[PARK]] {
        let word = owned();
        assert_eq!(word.take(), 0);
        steps.iter().for_each(|step| step(&word));
        assert_eq!(push(&word, CELLS[0]), (Push::Queued, 0));
        assert_eq!(push(&word, CELLS[1]), (Push::Queued, CELLS[0]));
        assert_eq!(word.let_go(), LetGo::Kept);
        assert_eq!(word.take(), CELLS[1]);
        assert_eq!(word.take(), 0);
        assert!(word.is_busy());
        assert_eq!(push(&word, CELLS[2]), (Push::Queued, 0));
    }
}

#[test]
fn a_closed_stream_refuses_messages_and_ends_for_good() {
    for queued in [false, true] {
        let word = owned();
        assert!(!word.is_closed());
        if queued {
            assert_eq!(push(&word, CELLS[0]).0, Push::Queued);
        }
        word.close();
        assert!(word.is_closed() && word.is_busy());
        assert_eq!(push(&word, CELLS[1]), (Push::Closed, usize::MAX));
        assert_eq!(word.take(), if queued { CELLS[0] } else { 0 });
        assert_eq!(word.let_go(), LetGo::Over);
        assert!(word.is_closed() && !word.is_busy());
        assert_eq!(push(&word, CELLS[1]), (Push::Closed, usize::MAX));
        assert!(!word.try_own());
    }
}

#[test]
fn the_frameworks_own_cells_join_a_busy_stream_alone() {
    let word = StrandWord::new();
    assert!(!word.push_if_busy(CELLS[0], |_| panic!("nothing is linked")));
    assert!(!word.is_busy());
    word.close();
    assert!(!word.push_if_busy(CELLS[0], |_| panic!("nothing is linked")));
    for steps in [&[] as &[Step], &[WAKE], &[PARK], &[CLOSE]] {
        let word = owned();
        assert_eq!(push(&word, CELLS[0]).0, Push::Queued);
        steps.iter().for_each(|step| step(&word));
        let mut next = 0;
        assert!(word.push_if_busy(CELLS[1], |newest| next = newest));
        assert_eq!(next, CELLS[0]);
        assert_eq!(word.take(), CELLS[1]);
        assert!(word.is_busy());
    }
}

#[test]
fn a_parked_stream_is_owned_by_the_first_that_wakes_it() {
    for steps in [&[] as &[Step], &[QUEUE], &[CLOSE], &[QUEUE, CLOSE]] {
        let word = owned();
        steps.iter().for_each(|step| step(&word));
        assert!(word.park());
        assert!(word.is_busy());
        assert!(word.wake());
        assert!(!word.wake(), "the first one is the owner");
        assert!(!word.park(), "it was woken meanwhile");
        assert!(word.park(), "and that is forgotten now");
        assert_eq!(
            word.is_closed(),
            steps.iter().any(|&step| std::ptr::fn_addr_eq(step, CLOSE))
        );
    }
}

#[test]
fn a_wake_of_a_running_stream_is_kept_until_the_next_poll() {
    let word = owned();
    word.begin_poll();
    assert!(!word.wake());
    assert!(!word.wake());
    word.begin_poll();
    assert!(word.park(), "it was polled after the wakes");
    assert!(word.wake());
    assert!(!word.wake());
    assert!(!word.park(), "it was woken after the poll began");
    assert!(!word.wake());
    assert_eq!(word.let_go(), LetGo::Idle, "a wake keeps no stream");
    assert!(!word.is_busy());
}

#[test]
fn a_wake_of_an_idle_stream_is_nothing() {
    let word = StrandWord::new();
    assert!(!word.wake());
    assert!(word.try_own(), "nothing was set");
    assert!(word.park(), "nothing was set");
}
