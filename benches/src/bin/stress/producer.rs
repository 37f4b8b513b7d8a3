//! A thread that sends messages in every way.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use executor_benches::{block_on, poll_once, yield_once};
use executor_core::{Completion, Envelope, ExecuteError, Failure, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::{SerialExecutor, Stream};
use hdrhistogram::Histogram;

use crate::message::{Deed, Ledger, Outcome, Round, Tally, Token, in_stream, parked, under_limit};

/// How many completions a producer keeps before it takes the oldest.
const KEPT: usize = 64;

/// A thread that sends messages.
pub(crate) struct Producer {
    pub(crate) round: &'static Round,
    pub(crate) index: usize,
    pub(crate) random: u64,
    pub(crate) sequence: u64,
    pub(crate) core: WorkerCore,
    pub(crate) streams: Vec<Stream<u64, Tally>>,
    pub(crate) evicting: SerialExecutor<u64, Tally>,
    pub(crate) keys: u64,
    pub(crate) parallel: ParallelExecutor,
    pub(crate) kept: VecDeque<(&'static Ledger, Outcome)>,
    pub(crate) tasks: VecDeque<Completion<u64>>,
    /// How long outcomes were waited for, in nanoseconds.
    pub(crate) stalls: Histogram<u64>,
}

impl Producer {
    /// Waits for `future`, and notes for how long.
    fn wait<F: Future>(&mut self, future: F) -> F::Output {
        let start = Instant::now();
        let output = block_on(future);
        self.stalls
            .saturating_record(start.elapsed().as_nanos() as u64);
        output
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound
    }

    pub(crate) fn token(&mut self) -> Envelope<Token> {
        self.sequence += 1;
        self.round.made.add(1);
        Envelope::new(Token {
            round: self.round,
            producer: self.index,
            sequence: self.sequence,
        })
    }

    pub(crate) fn deed(&mut self) -> Deed {
        match self.below(64) {
            0 => Deed::Panic,
            1..4 => Deed::Fail,
            4..12 => Deed::Yield,
            12..20 => Deed::Park,
            20..26 => Deed::Stray,
            _ => Deed::Return,
        }
    }

    pub(crate) fn run(&mut self) {
        while !self.round.stop.load(Ordering::Relaxed) {
            match self.below(8) {
                0..4 => self.use_stream(),
                4 => self.use_key(),
                5..7 => self.use_parallel(),
                _ => self.spawn(),
            }
            while self.kept.len() > KEPT {
                self.settle_oldest();
            }
            while self.tasks.len() > KEPT {
                self.join_oldest();
            }
        }
        while !self.kept.is_empty() {
            self.settle_oldest();
        }
        while !self.tasks.is_empty() {
            self.join_oldest();
        }
    }

    pub(crate) fn use_stream(&mut self) {
        let ledger = &self.round.serial;
        let (message, deed) = (self.token(), self.deed());
        let index = self.below(self.streams.len() as u64) as usize;
        let stream = self.streams[index].clone();
        let handler = move |message, context| in_stream(message, context, ledger, deed);
        match self.below(8) {
            0 => {
                let outcome = self.wait(stream.execute(message, handler));
                note_execution(ledger, outcome);
            }
            1 => {
                let mut execution = stream.execute(message, handler);
                match poll_once(pin!(&mut execution)) {
                    Poll::Ready(outcome) => note_execution(ledger, outcome),
                    Poll::Pending => ledger.dropped.add(1),
                }
            }
            2 => {
                let submission = self.wait(stream.submit_wait(message, handler));
                self.note_submission(ledger, submission);
            }
            3 | 4 => self.note_submission(ledger, stream.try_submit(message, handler)),
            5 => {
                let messages = [message, self.token(), self.token()];
                let batch = stream.submit_batch(messages, handler);
                for completion in batch.accepted {
                    self.note_submission(ledger, Ok(completion));
                }
                if let Some(refused) = batch.refused {
                    ledger.refused.add(refused.work.len() as u64);
                }
            }
            _ => self.note_submission(ledger, stream.submit(message, handler)),
        }
    }

    pub(crate) fn use_key(&mut self) {
        let ledger = &self.round.evicting;
        let (message, deed, key) = (self.token(), self.deed(), self.below(self.keys));
        let handler = move |message, context| in_stream(message, context, ledger, deed);
        match self.below(16) {
            0..6 => {
                let evicting = self.evicting.clone();
                let outcome = self.wait(evicting.execute(key, message, handler));
                note_execution(ledger, outcome);
            }
            6 => {
                self.evicting.evict_idle();
                self.note_submission(
                    ledger,
                    self.evicting.clone().try_submit(key, message, handler),
                );
            }
            _ => {
                let submission = self.evicting.submit(key, message, handler);
                self.note_submission(ledger, submission);
            }
        }
    }

    pub(crate) fn use_parallel(&mut self) {
        let ledger = &self.round.parallel;
        let (message, deed) = (self.token(), self.deed());
        let parallel = self.parallel.clone();
        let handler = move |message, context| under_limit(message, context, deed);
        match self.below(8) {
            0 | 1 => {
                let outcome = self.wait(parallel.execute(message, handler));
                note_execution(ledger, outcome);
            }
            2 => match poll_once(pin!(parallel.execute(message, handler))) {
                Poll::Ready(outcome) => note_execution(ledger, outcome),
                Poll::Pending => ledger.dropped.add(1),
            },
            3 => match parallel.try_execute(message, handler) {
                Ok(execution) => note_execution(ledger, self.wait(execution)),
                Err(_) => ledger.refused.add(1),
            },
            4 => {
                let submission = self.wait(parallel.submit_wait(message, handler));
                self.note_submission(ledger, submission);
            }
            5 => self.note_submission(ledger, parallel.try_submit(message, handler)),
            _ => self.note_submission(ledger, parallel.submit(message, handler)),
        }
    }

    pub(crate) fn spawn(&mut self) {
        let round = self.round;
        let ledger = &round.spawned;
        let task = match self.below(4) {
            0 => self
                .core
                .spawn_fn(move || {
                    ledger.started.add(1);
                    1
                })
                .ok(),
            1 => self
                .core
                .spawn(async move {
                    ledger.started.add(1);
                    yield_once().await;
                    1
                })
                .ok(),
            _ => self
                .core
                .spawn(async move {
                    ledger.started.add(1);
                    parked(round).await;
                    1
                })
                .ok(),
        };
        match task {
            Some(task) => {
                ledger.admitted.add(1);
                if self.below(4) == 0 {
                    drop(task);
                } else {
                    self.tasks.push_back(task);
                }
            }
            None => ledger.refused.add(1),
        }
    }

    /// Keeps, drops or cancels what was admitted.
    pub(crate) fn note_submission(
        &mut self,
        ledger: &'static Ledger,
        submission: executor_core::Submission<u64, &'static str, Token>,
    ) {
        let completion = match submission {
            Ok(completion) => completion,
            Err(_) => return ledger.refused.add(1),
        };
        ledger.admitted.add(1);
        match self.below(8) {
            0 => drop(completion),
            1 | 2 => match completion.cancel() {
                Ok(_) => ledger.cancelled.add(1),
                Err(completion) => self.kept.push_back((ledger, completion)),
            },
            3 => match completion.wait_timeout(Duration::from_micros(50)) {
                Ok(outcome) => note_outcome(ledger, &outcome),
                Err(completion) => self.kept.push_back((ledger, completion)),
            },
            4 => {
                let mut completion = completion;
                match poll_once(pin!(&mut completion)) {
                    Poll::Ready(outcome) => note_outcome(ledger, &outcome),
                    Poll::Pending => self.kept.push_back((ledger, completion)),
                }
            }
            _ => self.kept.push_back((ledger, completion)),
        }
    }

    pub(crate) fn settle_oldest(&mut self) {
        if let Some((ledger, completion)) = self.kept.pop_front() {
            note_outcome(ledger, &self.wait(completion));
        }
    }

    pub(crate) fn join_oldest(&mut self) {
        if let Some(Ok(one)) = self.tasks.pop_front().map(block_on) {
            self.round.spawned.values.add(one);
        }
    }
}

fn note_outcome(ledger: &Ledger, outcome: &Result<u64, Failure<&'static str>>) {
    if let Ok(one) = outcome {
        ledger.values.add(*one);
    }
}

fn note_execution(ledger: &Ledger, outcome: Result<u64, ExecuteError<Token, &'static str>>) {
    match outcome {
        Err(ExecuteError::Rejected(_)) => ledger.refused.add(1),
        Err(_) => ledger.admitted.add(1),
        Ok(one) => {
            ledger.admitted.add(1);
            ledger.values.add(one);
        }
    }
}
