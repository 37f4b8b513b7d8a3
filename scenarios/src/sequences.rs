//! Operations in any order, against models of the two executors that one thread follows.
//!
//! After each operation the executor has come to rest: what is ready was handled, and what waits does so
//! for whoever plays. So the model knows who runs, who is queued and who is in line, and what each
//! operation must give.

mod message;
mod op;
mod parallel;
mod serial;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use executor_core::{Report, Shutdown, Totals, VirtualClock, WorkerCore};

use crate::host::Host;
use crate::waiting::{DEADLINE, block_on, eventually};
use message::{Door, End, Held, Message, Place};
pub use op::{KEYS, Op};
use parallel::Parallel;
use serial::Serial;

/// How many messages of a stream, or of the parallel executor, may be queued.
const ROOM: usize = 2;
const TICK: Duration = Duration::from_millis(1);

type Ending = Pin<Box<dyn Future<Output = Report>>>;

/// Plays operations on a serial executor and its model, and lets everything end.
///
/// # Panics
/// When the executor does anything else than its model.
pub fn play_serial(ops: &[Op], host: &Host) {
    let mut serial = Serial::new(host);
    for op in ops {
        serial.play(op);
    }
    serial.finish();
}

/// Plays operations on a parallel executor and its model, and lets everything end.
///
/// # Panics
/// When the executor does anything else than its model.
pub fn play_parallel(ops: &[Op], host: &Host) {
    let mut parallel = Parallel::new(host);
    for op in ops {
        parallel.play(op);
    }
    parallel.finish();
}

/// What the two rigs have in common.
struct Common {
    clock: VirtualClock,
    core: WorkerCore,
    /// The tick that the clock shows.
    now: u64,
    messages: Vec<Message>,
    /// Which handlers were started, in order.
    started: Arc<Mutex<Vec<u64>>>,
    closed: Option<Shutdown>,
    refused: u64,
    ending: Option<Ending>,
}

impl Common {
    fn new(host: &Host) -> Self {
        let clock = VirtualClock::new();
        let core = host.core().tick(TICK).clock(&clock).build();
        Self {
            core: core.expect("threads start"),
            clock,
            now: 0,
            messages: Vec::new(),
            started: Arc::default(),
            closed: None,
            refused: 0,
            ending: None,
        }
    }

    fn next_id(&self) -> u64 {
        self.messages.len() as u64
    }

    fn note(&mut self, key: u64, waits: bool, door: Arc<Door>, place: Place, held: Held) -> u64 {
        let id = self.next_id();
        self.messages.push(Message {
            key,
            waits,
            door,
            place,
            structured: false,
            held,
        });
        id
    }

    fn at(&mut self, id: u64) -> &mut Message {
        &mut self.messages[usize::try_from(id).expect("small")]
    }

    /// One of those messages of which `which` holds.
    fn choose(&self, index: usize, which: impl Fn(&Message) -> bool) -> Option<u64> {
        let all: Vec<_> = (0..)
            .zip(&self.messages)
            .filter(|(_, message)| which(message))
            .collect();
        (!all.is_empty()).then(|| all[index % all.len()].0)
    }

    /// The timers that are due, in the order of their times and of the calls.
    fn due(&self) -> Vec<u64> {
        let mut due: Vec<_> = (0..)
            .zip(&self.messages)
            .filter_map(|(id, message)| match message.place {
                Place::Timer(tick) if tick <= self.now => Some((tick, id)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn advance(&mut self, ticks: u32) {
        self.now += u64::from(ticks);
        self.clock.advance(TICK * ticks);
    }

    /// Waits until everybody was told what the model says.
    fn settle_outcomes(&mut self) {
        for (id, message) in self.messages.iter_mut().enumerate() {
            match message.place {
                Place::Over(expected) if !matches!(message.held, Held::Gone) => {
                    let mut seen = None;
                    eventually("an outcome", || {
                        seen = message.held.poll();
                        seen.is_some()
                    });
                    assert_eq!(seen, Some(expected), "the outcome of {id}");
                }
                Place::Over(_) => {}
                _ => assert_eq!(message.held.poll(), None, "{id} is not over"),
            }
        }
    }

    fn cancel(&mut self, index: usize) {
        let which = |message: &Message| matches!(message.held, Held::Now(_) | Held::Later(_));
        let Some(id) = self.choose(index, which) else {
            return;
        };
        let message = self.at(id);
        let is_waiting = matches!(message.place, Place::Timer(_) | Place::Line | Place::Queued);
        let cancelled = message.held.cancel(id);
        assert_eq!(cancelled, is_waiting, "{:?}", message.place);
        if is_waiting {
            message.place = Place::Over(End::Cancelled);
        }
    }

    /// Lets a handler that waits end.
    fn open(&mut self, index: usize) {
        if let Some(id) = self.choose(index, |message| message.place == Place::Running) {
            self.at(id).door.open();
        }
    }

    /// Begins a shutdown, which ends what was not admitted yet.
    fn begin_shutdown(&mut self, mode: Shutdown, ending: impl Future<Output = Report> + 'static) {
        let mut ending: Ending = Box::pin(ending);
        let polled = ending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            self.ending = Some(ending);
        }
        self.closed = Some(mode);
        for message in &mut self.messages {
            if matches!(message.place, Place::Timer(_) | Place::Line) {
                message.place = Place::Over(End::Aborted);
            }
        }
    }

    /// Whether all ends, and all counts.
    fn finish(&mut self, totals: &Totals) {
        if let Some(ending) = self.ending.take() {
            let report = block_on(ending);
            assert!(report.is_complete(), "{report:?}");
        }
        assert_eq!(
            totals.handled,
            self.ends(|end| matches!(end, End::Value(_)))
        );
        assert_eq!(totals.cancelled, self.ends(|end| end == End::Cancelled));
        assert_eq!(totals.aborted, self.ends(|end| end == End::Aborted));
        assert_eq!(totals.refused, self.refused);
        let report = block_on(self.core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(report.is_complete(), "{report:?}");
    }

    fn ends(&self, which: impl Fn(End) -> bool) -> u64 {
        let over = |message: &&Message| matches!(message.place, Place::Over(end) if which(end));
        self.messages.iter().filter(over).count() as u64
    }
}
