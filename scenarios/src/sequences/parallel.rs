//! The parallel executor.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use executor_core::{Envelope, PolicyContext, RejectReason, Shutdown};
use executor_parallel::ParallelExecutor;

use super::message::{Door, End, Handling, Held, Message, Place};
use super::{Common, Op, ROOM, TICK};
use crate::host::Host;
use crate::waiting::{DEADLINE, block_on, eventually};

pub(super) struct Parallel {
    common: Common,
    executor: ParallelExecutor,
    limit: usize,
    running: Vec<u64>,
    /// Those that were cancelled keep their place until their turn.
    line: VecDeque<u64>,
    starts: usize,
}

impl Parallel {
    pub(super) fn new(host: &Host) -> Self {
        let common = Common::new(host);
        let executor = ParallelExecutor::builder(&common.core)
            .max_concurrency(ROOM)
            .queue(ROOM);
        Self {
            executor: executor.build().expect("legal"),
            common,
            limit: ROOM,
            running: Vec::new(),
            line: VecDeque::new(),
            starts: 0,
        }
    }

    fn handler(
        &self,
        door: &Arc<Door>,
        waits: bool,
    ) -> impl FnOnce(Envelope<u64>, PolicyContext<()>) -> Handling + Send + 'static {
        let (door, started) = (Arc::clone(door), Arc::clone(&self.common.started));
        move |message, _| {
            Box::pin(async move {
                started.lock().expect("whole").push(message.payload);
                if waits {
                    std::future::poll_fn(|context| door.poll(context)).await;
                }
                Ok(message.payload)
            })
        }
    }

    /// The message has a permit, or is in line for one.
    fn admit(&mut self, id: u64) {
        self.common.at(id).place = Place::Queued;
        self.line.push_back(id);
        self.serve();
    }

    fn serve(&mut self) {
        let messages = &mut self.common.messages;
        self.running.retain(|&id| {
            let message = &mut messages[id as usize];
            if message.place == Place::Running && message.door.open.load(Ordering::SeqCst) {
                message.place = Place::Over(End::Value(id));
            }
            message.place == Place::Running
        });
        while self.running.len() < self.limit {
            let Some(id) = self.line.pop_front() else {
                return;
            };
            let message = &mut messages[id as usize];
            if message.place != Place::Queued {
                continue;
            }
            self.starts += 1;
            if message.waits {
                message.place = Place::Running;
                self.running.push(id);
            } else {
                message.place = Place::Over(End::Value(id));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.limit && self.line.len() >= ROOM
    }

    pub(super) fn play(&mut self, op: &Op) {
        let is_open = self.common.closed.is_none();
        match op {
            Op::Submit { key, waits } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                match self.executor.try_submit(Envelope::new(id), handler) {
                    Ok(completion) => {
                        assert!(is_open && !self.is_full(), "{id} was admitted");
                        let held = Held::Now(completion);
                        self.common.note(*key, *waits, door, Place::Queued, held);
                        self.admit(id);
                    }
                    Err(refused) => {
                        assert_eq!(refused.work.payload, id);
                        self.common.refused += 1;
                        let expected = if is_open {
                            assert!(self.is_full(), "{id} was refused");
                            RejectReason::Full { limit: ROOM }
                        } else {
                            RejectReason::Closed
                        };
                        assert_eq!(refused.reason, expected);
                    }
                }
            }
            Op::Execute { key, waits } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                let executor = self.executor.clone();
                let mut held = Held::Execution(Box::pin(async move {
                    executor.execute(Envelope::new(id), handler).await
                }));
                let seen = held.poll();
                if !is_open {
                    assert_eq!(seen, Some(End::Dropped));
                    self.common.refused += 1;
                    return;
                }
                let is_inline = self.running.len() < self.limit;
                self.common.note(*key, *waits, door, Place::Queued, held);
                self.common.at(id).structured = true;
                self.admit(id);
                let expected = (is_inline && !*waits).then_some(End::Value(id));
                assert_eq!(seen, expected);
            }
            Op::Delay { key, waits, ticks } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                let instant = self.common.clock.now() + TICK * *ticks;
                match self.executor.submit_at(instant, Envelope::new(id), handler) {
                    Ok(delayed) => {
                        assert!(is_open);
                        let place = Place::Timer(self.common.now + u64::from(*ticks));
                        let held = Held::Later(delayed);
                        self.common.note(*key, *waits, door, place, held);
                        if *ticks == 0 {
                            self.common.clock.advance(Duration::ZERO);
                        }
                    }
                    Err(refused) => {
                        assert!(!is_open);
                        assert_eq!(refused.work.payload, id);
                        self.common.refused += 1;
                    }
                }
            }
            Op::Drop(index) => {
                // A caller who is in line stays there until somebody looks, which is not told.
                let which = |message: &Message| {
                    let is_in_line = message.structured && message.place == Place::Queued;
                    !matches!(message.held, Held::Gone) && !is_in_line
                };
                if let Some(id) = self.common.choose(*index, which) {
                    let message = self.common.at(id);
                    message.held = Held::Gone;
                    if message.structured && message.place == Place::Running {
                        message.place = Place::Over(End::Cancelled);
                    }
                }
            }
            Op::Cancel(index) => self.common.cancel(*index),
            Op::Open(index) => self.common.open(*index),
            Op::Advance(ticks) => self.common.advance(*ticks),
            Op::Limit(limit) => {
                self.executor.set_max_concurrency(*limit).expect("legal");
                self.limit = *limit;
            }
            Op::Drain => {
                let mut drain = pin!(self.executor.drain(DEADLINE));
                if self.running.is_empty() {
                    assert!(block_on(drain).is_complete());
                } else {
                    let polled = drain.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending(), "it waits for what runs");
                }
            }
            Op::Batch { .. } | Op::Evict => {}
            Op::Shutdown(_) if !is_open => {}
            Op::Shutdown(mode) => {
                let executor = self.executor.clone();
                let mode = *mode;
                let ending = async move { executor.shutdown(mode, DEADLINE).await };
                self.common.begin_shutdown(mode, ending);
                if mode == Shutdown::Abort {
                    for message in &mut self.common.messages {
                        let end = match (message.place, message.structured) {
                            (Place::Queued, true) => End::Dropped,
                            (Place::Queued, false) | (Place::Running, false) => End::Aborted,
                            // What runs in its caller's own future is the caller's to end.
                            _ => continue,
                        };
                        self.common.refused += u64::from(end == End::Dropped);
                        message.place = Place::Over(end);
                    }
                    self.line.clear();
                }
            }
        }
        self.serve();
        for id in self.common.due() {
            self.admit(id);
        }
        self.settle();
    }

    fn settle(&mut self) {
        let free = self.limit.saturating_sub(self.running.len());
        let handled = self.common.ends(|end| matches!(end, End::Value(_)));
        let messages = &mut self.common.messages;
        eventually("the executor has come to rest", || {
            for message in messages.iter_mut().filter(|message| message.structured) {
                if let Some(end) = message.held.poll() {
                    assert_eq!(message.place, Place::Over(end));
                }
            }
            let metrics = self.executor.metrics();
            let permits = self.executor.available_permits();
            let starts = self.common.started.lock().expect("whole").len();
            let seen = (starts, metrics.totals.handled, metrics.waiting, permits);
            seen == (self.starts, handled, self.line.len(), free)
        });
        self.common.settle_outcomes();
    }

    /// Lets everything end, and adds up.
    pub(super) fn finish(mut self) {
        while let Some(&id) = self.running.first() {
            self.common.at(id).door.open();
            self.serve();
            self.settle();
        }
        assert!(self.line.is_empty());
        let totals = self.executor.metrics().totals;
        self.common.finish(&totals);
    }
}
