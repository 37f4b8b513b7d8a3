//! The serial executor.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use executor_core::{Envelope, PolicyContext, RejectReason, Shutdown};
use executor_serial::SerialExecutor;

use super::message::{Door, End, Handling, Held, Place};
use super::{Common, KEYS, Op, ROOM, TICK};
use crate::host::Host;
use crate::waiting::{DEADLINE, block_on, eventually};

/// A stream, as the model knows it.
#[derive(Default)]
struct Stream {
    is_resident: bool,
    running: Option<u64>,
    /// Those that were cancelled keep their place until their turn.
    queue: VecDeque<u64>,
    line: VecDeque<u64>,
    /// What its state has counted.
    count: u64,
    /// Which handlers were started, in order.
    started: Vec<u64>,
}

pub(super) struct Serial {
    common: Common,
    executor: SerialExecutor<u64, u64>,
    streams: BTreeMap<u64, Stream>,
}

impl Serial {
    pub(super) fn new(host: &Host) -> Self {
        let common = Common::new(host);
        let executor = SerialExecutor::<u64>::builder(&common.core)
            .state(|_| 0)
            .queue_per_stream(ROOM);
        Self {
            executor: executor.build().expect("legal"),
            streams: (0..KEYS).map(|key| (key, Stream::default())).collect(),
            common,
        }
    }

    fn handler(
        &self,
        door: &Arc<Door>,
        waits: bool,
    ) -> impl FnOnce(Envelope<u64>, PolicyContext<u64>) -> Handling + Clone + Send + 'static {
        let (door, started) = (Arc::clone(door), Arc::clone(&self.common.started));
        move |message, mut context| {
            Box::pin(async move {
                started.lock().expect("whole").push(message.payload);
                if waits {
                    std::future::poll_fn(|context| door.poll(context)).await;
                }
                *context.state() += 1;
                Ok(*context.state())
            })
        }
    }

    /// The message is admitted: behind what is queued.
    fn admit(&mut self, id: u64) {
        let key = self.common.at(id).key;
        self.common.at(id).place = Place::Queued;
        let stream = self.streams.get_mut(&key).expect("known");
        stream.is_resident = true;
        stream.queue.push_back(id);
    }

    /// The message waits for room.
    fn line_up(&mut self, id: u64) {
        let key = self.common.at(id).key;
        self.streams
            .get_mut(&key)
            .expect("known")
            .line
            .push_back(id);
    }

    /// The caller's end of a message goes; of an execution in line, the message with it.
    fn drop_held(&mut self, id: u64) {
        let message = self.common.at(id);
        let held = std::mem::replace(&mut message.held, Held::Gone);
        if message.place == Place::Line && matches!(held, Held::Execution(_)) {
            message.place = Place::Over(End::Dropped);
            let key = message.key;
            let stream = self.streams.get_mut(&key).expect("known");
            stream.line.retain(|&in_line| in_line != id);
        }
        drop(held);
    }

    /// Runs what a stream has, until one waits.
    fn run(&mut self, key: u64) {
        let is_aborting = self.common.closed == Some(Shutdown::Abort);
        let stream = self.streams.get_mut(&key).expect("known");
        loop {
            if let Some(id) = stream.running {
                let message = &mut self.common.messages[id as usize];
                if !is_aborting && message.waits && !message.door.open.load(Ordering::SeqCst) {
                    return;
                }
                stream.running = None;
                message.place = Place::Over(if is_aborting {
                    End::Aborted
                } else {
                    stream.count += 1;
                    End::Value(stream.count)
                });
            }
            let Some(id) = stream.queue.pop_front() else {
                return;
            };
            if let Some(next) = stream.line.pop_front() {
                let message = &mut self.common.messages[next as usize];
                if message.place == Place::Line {
                    message.place = Place::Queued;
                }
                stream.queue.push_back(next);
            }
            let message = &mut self.common.messages[id as usize];
            if message.place != Place::Queued {
                continue;
            }
            if is_aborting {
                message.place = Place::Over(End::Aborted);
                continue;
            }
            message.place = Place::Running;
            stream.running = Some(id);
            stream.started.push(id);
        }
    }

    fn has_room(&self, key: u64) -> bool {
        self.streams[&key].queue.len() < ROOM
    }

    pub(super) fn play(&mut self, op: &Op) {
        let is_open = self.common.closed.is_none();
        match op {
            Op::Submit { key, waits } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                match self.executor.try_submit(*key, Envelope::new(id), handler) {
                    Ok(completion) => {
                        assert!(is_open && self.has_room(*key), "{id} was admitted");
                        let held = Held::Now(completion);
                        self.common.note(*key, *waits, door, Place::Queued, held);
                        self.admit(id);
                        self.run(*key);
                    }
                    Err(refused) => {
                        assert_eq!(refused.work.payload, id);
                        self.common.refused += 1;
                        let expected = if is_open {
                            assert!(!self.has_room(*key), "{id} was refused");
                            RejectReason::Full { limit: ROOM }
                        } else {
                            RejectReason::Closed
                        };
                        assert_eq!(refused.reason, expected);
                    }
                }
            }
            Op::Batch { key, waits, size } => {
                let first = self.common.next_id();
                let door = Arc::new(Door::default());
                let ids = (first..).take(*size).map(Envelope::new);
                let batch = self
                    .executor
                    .submit_batch(*key, ids, self.handler(&door, *waits));
                let room = ROOM - self.streams[key].queue.len();
                let admitted = if is_open { room.min(*size) } else { 0 };
                assert_eq!(batch.accepted.len(), admitted);
                let refused = batch.refused.map_or(0, |refused| refused.work.len());
                assert_eq!(refused, *size - admitted);
                self.common.refused += refused as u64;
                for completion in batch.accepted {
                    let (door, held) = (Arc::clone(&door), Held::Now(completion));
                    let id = self.common.note(*key, *waits, door, Place::Queued, held);
                    self.admit(id);
                }
                if is_open {
                    self.streams.get_mut(key).expect("known").is_resident = true;
                }
                self.run(*key);
            }
            Op::Execute { key, waits } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                let (executor, key) = (self.executor.clone(), *key);
                let mut held = Held::Execution(Box::pin(async move {
                    executor.execute(key, Envelope::new(id), handler).await
                }));
                let seen = held.poll();
                if !is_open {
                    assert_eq!(seen, Some(End::Dropped));
                    self.common.refused += 1;
                    return;
                }
                if !self.has_room(key) {
                    assert_eq!(seen, None, "it waits in line");
                    self.common.note(key, *waits, door, Place::Line, held);
                    self.line_up(id);
                    return self.settle();
                }
                let is_inline = self.streams[&key].running.is_none();
                self.common.note(key, *waits, door, Place::Queued, held);
                self.admit(id);
                self.run(key);
                if is_inline && !*waits {
                    assert_eq!(Some(self.common.at(id).place), seen.map(Place::Over));
                } else {
                    assert_eq!(seen, None);
                }
            }
            Op::Delay { key, waits, ticks } => {
                let (id, door) = (self.common.next_id(), Arc::new(Door::default()));
                let handler = self.handler(&door, *waits);
                let after = TICK * *ticks;
                match self
                    .executor
                    .submit_after(*key, after, Envelope::new(id), handler)
                {
                    Ok(delayed) => {
                        assert!(is_open);
                        let place = Place::Timer(self.common.now + u64::from(*ticks));
                        self.common
                            .note(*key, *waits, door, place, Held::Later(delayed));
                        self.streams.get_mut(key).expect("known").is_resident = true;
                        if *ticks == 0 {
                            // It is due, and fires when somebody looks.
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
                if let Some(id) = self
                    .common
                    .choose(*index, |message| !matches!(message.held, Held::Gone))
                {
                    self.drop_held(id);
                }
            }
            Op::Cancel(index) => self.common.cancel(*index),
            Op::Open(index) => {
                self.common.open(*index);
                (0..KEYS).for_each(|key| self.run(key));
            }
            Op::Advance(ticks) => self.common.advance(*ticks),
            // A shutdown evicts by itself, when everything has ended.
            Op::Evict if !is_open => {
                self.executor.evict_idle();
            }
            Op::Evict => {
                let has_timer = |key| {
                    (self.common.messages.iter()).any(|message| {
                        message.key == key && matches!(message.place, Place::Timer(_))
                    })
                };
                let mut expected = 0;
                for (key, stream) in &mut self.streams {
                    let is_busy = stream.running.is_some() || !stream.queue.is_empty();
                    if stream.is_resident && !is_busy && !has_timer(*key) {
                        stream.is_resident = false;
                        stream.count = 0;
                        expected += 1;
                    }
                }
                let mut evicted = 0;
                // A worker lets a stream go a moment after its last outcome.
                eventually("idle streams are evicted", || {
                    evicted += self.executor.evict_idle();
                    evicted >= expected
                });
                assert_eq!(evicted, expected, "only idle streams are evicted");
            }
            Op::Limit(_) => {}
            Op::Drain => {
                let is_busy = self.streams.values().any(|stream| stream.running.is_some());
                let mut drain = pin!(self.executor.drain(DEADLINE));
                if is_busy {
                    let polled = drain.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending(), "it waits for what runs");
                } else {
                    assert!(block_on(drain).is_complete());
                }
            }
            Op::Shutdown(_) if !is_open => {}
            Op::Shutdown(mode) => {
                let executor = self.executor.clone();
                let mode = *mode;
                // Their messages come back.
                for message in &mut self.common.messages {
                    if message.place == Place::Line && matches!(message.held, Held::Execution(_)) {
                        message.place = Place::Over(End::Dropped);
                        self.common.refused += 1;
                    }
                }
                let ending = async move { executor.shutdown(mode, DEADLINE).await };
                self.common.begin_shutdown(mode, ending);
                for key in 0..KEYS {
                    self.streams.get_mut(&key).expect("known").line.clear();
                    self.run(key);
                }
            }
        }
        for id in self.common.due() {
            let key = self.common.at(id).key;
            if self.has_room(key) {
                self.admit(id);
            } else {
                self.common.at(id).place = Place::Line;
                self.line_up(id);
            }
            // In one turn, the handlers of the turn's first messages may run before or after the
            // turn's last one looks for room: either is right, and a full queue keeps the order.
            self.run(key);
        }
        self.settle();
    }

    /// Waits until the executor has come to where the model is.
    fn settle(&mut self) {
        let running = (self.streams.values())
            .filter(|stream| stream.running.is_some())
            .count();
        let depth: usize = self.streams.values().map(|stream| stream.queue.len()).sum();
        let handled = self.common.ends(|end| matches!(end, End::Value(_)));
        eventually("the executor has come to rest", || {
            let metrics = self.executor.metrics();
            let seen = (metrics.totals.handled, metrics.busy, metrics.depth);
            seen == (handled, running, depth)
        });
        let started: usize = self
            .streams
            .values()
            .map(|stream| stream.started.len())
            .sum();
        eventually("all handlers that can start have", || {
            self.common.started.lock().expect("whole").len() == started
        });
        for stream in self.streams.values() {
            let all = self.common.started.lock().expect("whole").clone();
            let of_stream: Vec<_> = (all.into_iter())
                .filter(|id| stream.started.contains(id))
                .collect();
            assert_eq!(of_stream, stream.started, "the order of a stream");
        }
        self.common.settle_outcomes();
    }

    /// Lets everything end, and adds up.
    pub(super) fn finish(mut self) {
        for key in 0..KEYS {
            while let Some(id) = self.streams[&key].running {
                self.common.at(id).door.open();
                self.run(key);
            }
        }
        self.settle();
        let totals = self.executor.metrics().totals;
        self.common.finish(&totals);
    }
}
