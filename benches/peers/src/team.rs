//! Threads that start together and are timed together.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::Round;

/// Runs `work` on `threads` threads; measures from their common start to the end of the last.
///
/// # Panics
/// When a thread does.
pub fn together(threads: usize, work: impl Fn(usize) -> u64 + Sync) -> Round {
    let (barrier, work) = (&Barrier::new(threads), &work);
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let sum = work(thread);
                    (start, Instant::now(), sum)
                })
            })
            .collect();
        let ended: Vec<_> = started
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"))
            .collect();
        // With more threads than cores some start late; what counts is when the first one did.
        let start = ended.iter().map(|&(start, _, _)| start).min();
        let end = ended.iter().map(|&(_, end, _)| end).max();
        Round {
            took: end
                .zip(start)
                .map_or_else(Default::default, |(end, start)| end - start),
            sum: ended.iter().map(|&(_, _, sum)| sum).sum(),
        }
    })
}
