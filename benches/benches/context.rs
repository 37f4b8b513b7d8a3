//! What a handler and its context cost: an inline closure, a prepared handler, recorded decisions.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use executor_benches::{block_on, echo, echo_decided, sum_below};
use executor_core::{Envelope, PolicyContext, WorkerCore};
use executor_serial::{SerialExecutor, Stream};

/// Times an execution of each message with `handler`, and checks the sum of the results.
fn timed<H, F>(stream: &Stream<u64>, messages: u64, handler: H) -> Duration
where
    H: FnOnce(Envelope<u64>, PolicyContext) -> F + Copy + Send + 'static,
    F: Future<Output = Result<u64, Infallible>> + Send + 'static,
{
    let start = Instant::now();
    let sum = block_on(async {
        let mut sum = 0;
        for message in 0..messages {
            sum += stream
                .execute(Envelope::new(message), handler)
                .await
                .expect("it is handled");
        }
        sum
    });
    let elapsed = start.elapsed();
    assert_eq!(sum, sum_below(messages));
    elapsed
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let serial = SerialExecutor::<u64>::builder(&core)
        .build()
        .expect("the options are legal");
    let stream = serial.stream(&0);

    let mut group = criterion.benchmark_group("context");
    group.bench_function("inline closure", |bencher| {
        bencher.iter_custom(|messages| {
            timed(&stream, messages, |message, _| async move {
                Ok(message.payload)
            })
        });
    });
    group.bench_function("prepared handler", |bencher| {
        bencher.iter_custom(|messages| timed(&stream, messages, echo));
    });
    group.bench_function("three decisions", |bencher| {
        bencher.iter_custom(|messages| timed(&stream, messages, echo_decided));
    });
    group.bench_function("child envelope", |bencher| {
        bencher.iter_custom(|messages| {
            timed(&stream, messages, |message, context| async move {
                Ok(black_box(context.envelope(message.payload)).payload)
            })
        });
    });
    group.bench_function("fresh envelope alone", |bencher| {
        bencher.iter(|| {
            let envelope = black_box(Envelope::new(black_box(1_u64)));
            assert_eq!(envelope.payload, 1);
        });
    });
    group.finish();
    criterion.final_summary();
}
