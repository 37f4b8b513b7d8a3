//! Plays a scenario.

use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use executor_core::{RejectReason, Report, Shutdown, VirtualClock, WorkerCore};

use crate::awkward::{Awkward, Trap};
use crate::axes::{Fate, Interference, Moment, Path, Scenario, Site};
use crate::held::{Held, Seen};
use crate::host::Host;
use crate::script::Stage;
use crate::subject::{DELAY, Subject};
use crate::tracked::{Blown, Ledger, defuse};
use crate::waiting::{DEADLINE, Woken, block_on, eventually};

/// What the messages so far amount to.
#[derive(Debug, Default)]
struct Account {
    admitted: u64,
    refused: u64,
}

/// Plays a scenario on a core of its own.
///
/// # Panics
/// When anything is lost, doubled, too early or late, or does not add up.
pub fn play(scenario: &Scenario, host: &Host) {
    let clock = VirtualClock::new();
    let core = host.core();
    let core = if scenario.entry.is_delayed() {
        core.clock(&clock)
    } else {
        core
    };
    let core = core.build().expect("threads start");
    let ledger = Ledger::default();
    perform(scenario, &core, &clock, &ledger);
    let drained = block_on(core.drain(DEADLINE));
    assert!(
        drained.is_complete(),
        "the core is not drained: {drained:?}"
    );
    let report = block_on(core.shutdown(Shutdown::Drain, DEADLINE));
    assert!(report.is_complete(), "the core does not end: {report:?}");
    drop(core);
    eventually("every value is dropped", || {
        (0..=scenario.may_leak()).contains(&ledger.alive())
    });
    assert_eq!(ledger.broken(), 0, "a value was used after its end");
}

fn perform(scenario: &Scenario, core: &WorkerCore, clock: &VirtualClock, ledger: &Ledger) {
    let Scenario {
        entry,
        path,
        site,
        fate,
        interference,
        ..
    } = *scenario;
    let mut account = Account::default();
    let mut subject = Some(Subject::new(core, scenario, ledger));
    // An execution borrows its executor.
    let lender = subject.clone().filter(|_| entry.is_lazy());
    let before = Stage::new(Site::Nowhere, true, ledger);
    let stage = Stage::new(site, path.is_pending(), ledger);

    let mut held = {
        let subject = subject.as_ref().expect("nobody has dropped it yet");
        if path.is_queued() {
            drop(subject.submit(&before).expect("there is room"));
            account.admitted += 1;
            eventually("the message before is running", || before.is_reached());
        }
        if path.is_in_line() {
            let filling = Stage::new(Site::Nowhere, false, ledger);
            drop(subject.submit(&filling).expect("there is room for one"));
            account.admitted += 1;
        }
        match &lender {
            Some(lender) => lender.execute(&stage),
            None if entry.is_delayed() => {
                Held::Delayed(subject.delay(clock, &stage).expect("it is open"))
            }
            None => subject.admit(entry, &stage),
        }
    };
    let trap = match site {
        Site::WakerClone => Trap::Clone,
        Site::WakerWake => Trap::Wake,
        Site::WakerDrop => Trap::Drop,
        _ => Trap::None,
    };
    let wakers = [Awkward::new(trap, blown), Awkward::new(trap, blown)];
    let mut seen = begin(scenario, &mut held, &wakers);

    let ending = match scenario.moment {
        Moment::Admitted => {
            clock.advance(DELAY);
            if path.is_pending() && scenario.surely_starts() {
                before.open();
                reach(scenario, &stage, &mut held, &mut seen);
            }
            interfere(scenario, &mut subject, &mut held, &mut seen)
        }
        Moment::Early => {
            let ending = interfere(scenario, &mut subject, &mut held, &mut seen);
            clock.advance(DELAY);
            ending
        }
        Moment::Due => {
            if path == Path::QueuedPending {
                // Then it is to start at its time.
                before.open();
                let subject = subject.as_ref().expect("nobody has dropped it yet");
                eventually("the message before is over", || subject.is_whole());
            }
            meanwhile(
                || clock.advance(DELAY),
                || interfere(scenario, &mut subject, &mut held, &mut seen),
            )
        }
    };
    before.open();
    if path.is_pending() && scenario.moment != Moment::Admitted && scenario.surely_starts() {
        reach(scenario, &stage, &mut held, &mut seen);
    }
    stage.open();
    let seen = finish(scenario, held, seen, &wakers);
    wakers.iter().for_each(|waker| waker.disarm());
    if let Some(mut ending) = ending {
        let report = block_on(ending.as_mut());
        assert!(report.is_complete(), "it does not end: {report:?}");
    }

    if let Some(seen) = seen {
        let allowed = scenario.allowed();
        assert!(allowed.contains(&seen), "{seen:?}, and not {allowed:?}");
    }
    if seen == Some(Seen::Rejected) {
        account.refused += 1;
    } else if !scenario.is_never_admitted() && !scenario.leaves_line() {
        account.admitted += 1;
    }
    let drained = block_on(core.drain(DEADLINE));
    assert!(drained.is_complete(), "not drained: {drained:?}");
    let expected = scenario.starts();
    assert!(
        expected.contains(&stage.starts()),
        "the handler was started {} times, and not {expected:?}",
        stage.starts()
    );
    if let Some(thread) = stage.first_poll() {
        let is_inline = thread == thread::current().id();
        // What is structured runs where it is polled; it is in line when it is moved, if it is queued.
        let is_polled_here = entry.is_structured() && (fate != Fate::Moved || path.is_pending());
        let must_be = is_polled_here || !path.is_queued();
        assert_eq!(is_inline, must_be, "where the handler ran first");
    }
    if let Some(subject) = &subject {
        let is_open = !matches!(
            interference,
            Interference::ShutdownDrain | Interference::ShutdownAbort
        );
        probe(subject, is_open, &mut account, ledger);
        if entry.is_delayed() {
            probe_later(subject, is_open, clock, &mut account, ledger);
        }
        settle(subject, &account);
    }
}

/// Waits until the handler waits.
fn reach(scenario: &Scenario, stage: &Stage, held: &mut Held<'_>, seen: &mut Option<Seen>) {
    let woken = Arc::new(Woken::default());
    let waker = woken.waker();
    eventually("the handler waits", || {
        if scenario.entry.is_structured() && !held.is_gone() && !stage.is_reached() {
            *seen = held.poll(&waker);
        }
        stage.is_reached() || seen.is_some()
    });
}

/// Runs `call` while another thread runs `other`.
fn meanwhile<R>(other: impl FnOnce() + Send, call: impl FnOnce() -> R) -> R {
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            both.wait();
            other();
        });
        both.wait();
        let result = call();
        thread.join().expect("no panic of another's");
        result
    })
}

fn blown() -> Box<dyn std::any::Any + Send> {
    Box::new(Blown)
}

/// The first part of the completion's fate.
fn begin(scenario: &Scenario, held: &mut Held<'_>, wakers: &[Arc<Awkward>; 2]) -> Option<Seen> {
    let is_lazy = scenario.entry.is_lazy();
    let [first, second] = wakers;
    let mut seen = None;
    match scenario.fate {
        Fate::Kept | Fate::DroppedWhenReady if is_lazy => seen = held.poll(&second.waker()),
        Fate::Kept | Fate::DroppedWhenReady | Fate::NeverPolled => {}
        Fate::DroppedAtOnce => held.drop_now(),
        Fate::DroppedAfterPoll => {
            seen = poll_awkwardly(held, first);
            held.drop_now();
        }
        Fate::Moved => seen = poll_awkwardly(held, first),
        Fate::Forgotten => {
            if is_lazy {
                seen = held.poll(Waker::noop());
            }
            held.forget();
        }
        Fate::TwoWakers => {
            seen = poll_awkwardly(held, first);
            if seen.is_none() {
                seen = poll_awkwardly(held, second);
            }
        }
    }
    if scenario.path == Path::InlineReady && !scenario.is_never_admitted() {
        assert!(seen.is_some(), "it is over with its first poll");
    } else {
        assert_eq!(seen, None, "it cannot be over yet");
    }
    seen
}

/// Polls, and again if the waker's clone panicked.
fn poll_awkwardly(held: &mut Held<'_>, awkward: &Arc<Awkward>) -> Option<Seen> {
    let waker = awkward.waker();
    let polled = defuse(|| held.poll_or_blow(&waker));
    let seen = match polled {
        Some(seen) => seen,
        None => held.poll(&waker),
    };
    defuse(|| drop(waker));
    seen
}

type Ending = std::pin::Pin<Box<dyn Future<Output = Report> + Send>>;

fn interfere(
    scenario: &Scenario,
    subject: &mut Option<Subject>,
    held: &mut Held<'_>,
    seen: &mut Option<Seen>,
) -> Option<Ending> {
    let executor = subject.as_ref().expect("nobody has dropped it yet");
    let mut ending = match scenario.interference {
        Interference::Nothing => return None,
        Interference::Cancel => {
            *seen = held.cancel();
            return None;
        }
        Interference::Eviction => {
            let is_idle = scenario.path == Path::InlineReady && !scenario.is_never_admitted();
            let evicted = executor.evict_idle();
            assert_eq!(evicted, usize::from(is_idle), "only idle streams go");
            return None;
        }
        Interference::LastHandle => {
            *subject = None;
            return None;
        }
        Interference::Drain => executor.drain(),
        Interference::ShutdownDrain => executor.shutdown(Shutdown::Drain),
        Interference::ShutdownAbort => executor.shutdown(Shutdown::Abort),
    };
    // Begun now; it ends when what it waits for does.
    match ending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(report) => {
            assert!(report.is_complete(), "{report:?}");
            None
        }
        Poll::Pending => Some(ending),
    }
}

/// The rest of the completion's fate.
fn finish(
    scenario: &Scenario,
    mut held: Held<'_>,
    seen: Option<Seen>,
    wakers: &[Arc<Awkward>; 2],
) -> Option<Seen> {
    if seen.is_some() || held.is_gone() {
        return seen;
    }
    match scenario.fate {
        Fate::Kept => return Some(held.wait()),
        Fate::Moved => {
            return thread::scope(|scope| {
                let waiting = scope.spawn(|| held.wait());
                Some(waiting.join().expect("no panic of another's"))
            });
        }
        Fate::TwoWakers => {
            if !scenario.entry.is_structured() {
                let last = &wakers[1];
                eventually("the last waker is woken", || last.woken() != 0);
            }
            return Some(held.wait());
        }
        Fate::DroppedWhenReady => {
            held.let_timer_be();
            match &held {
                Held::Completion(completion) => {
                    eventually("the outcome is there", || completion.is_done());
                }
                _ => eventually("the outcome is there", || wakers[1].woken() != 0),
            }
        }
        Fate::NeverPolled | Fate::DroppedAtOnce | Fate::DroppedAfterPoll | Fate::Forgotten => {}
    }
    held.drop_now();
    None
}

/// Whether the executor still works, or still refuses.
fn probe(subject: &Subject, is_open: bool, account: &mut Account, ledger: &Ledger) {
    let stage = Stage::new(Site::Nowhere, false, ledger);
    match subject.submit(&stage) {
        Ok(completion) => {
            assert!(is_open, "a closed executor has admitted a message");
            account.admitted += 1;
            assert_eq!(Held::Completion(completion).wait(), Seen::Value);
        }
        Err(refused) => {
            assert!(!is_open, "an open executor has refused a message");
            assert_eq!(refused.reason, RejectReason::Closed);
            refused.work.payload.look();
            account.refused += 1;
        }
    }
    let expected = if is_open { Seen::Value } else { Seen::Rejected };
    let stage = Stage::new(Site::Nowhere, false, ledger);
    assert_eq!(subject.execute(&stage).wait(), expected);
    *(if is_open {
        &mut account.admitted
    } else {
        &mut account.refused
    }) += 1;
}

/// Whether the executor still delays, or refuses that too.
fn probe_later(
    subject: &Subject,
    is_open: bool,
    clock: &VirtualClock,
    account: &mut Account,
    ledger: &Ledger,
) {
    let stage = Stage::new(Site::Nowhere, false, ledger);
    match subject.delay(clock, &stage) {
        Ok(delayed) => {
            assert!(is_open, "a closed executor has delayed a message");
            account.admitted += 1;
            clock.advance(DELAY);
            assert_eq!(Held::Delayed(delayed).wait(), Seen::Value);
        }
        Err(refused) => {
            assert!(!is_open, "an open executor has refused a message");
            assert_eq!(refused.reason, RejectReason::Closed);
            refused.work.payload.look();
            account.refused += 1;
        }
    }
}

/// Whether nothing is held back, and the counts add up.
fn settle(subject: &Subject, account: &Account) {
    eventually("nothing is held back", || subject.is_whole());
    let totals = subject.totals();
    assert_eq!(totals.finished(), account.admitted, "{totals:?}");
    assert_eq!(totals.refused, account.refused, "{totals:?}");
    subject.evict_idle();
    assert_eq!(subject.totals(), totals, "eviction moves counts alone");
}
