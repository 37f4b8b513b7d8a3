//! Random sequences of operations, on both executors and their models, on every kind of host.

use std::sync::LazyLock;

use executor_core::Shutdown;
use executor_scenarios::sequences::{KEYS, Op, play_parallel, play_serial};
use executor_scenarios::{Host, Runtimes};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::sample::select;
use proptest::strategy::Just;

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let any_index = any::<usize>;
    prop_oneof![
        6 => (key(), any::<bool>()).prop_map(|(key, waits)| Op::Submit { key, waits }),
        2 => (key(), any::<bool>(), 0..5_usize)
            .prop_map(|(key, waits, size)| Op::Batch { key, waits, size }),
        5 => (key(), any::<bool>()).prop_map(|(key, waits)| Op::Execute { key, waits }),
        4 => (key(), any::<bool>(), 0..4_u32)
            .prop_map(|(key, waits, ticks)| Op::Delay { key, waits, ticks }),
        2 => any_index().prop_map(Op::Drop),
        3 => any_index().prop_map(Op::Cancel),
        6 => any_index().prop_map(Op::Open),
        3 => (0..4_u32).prop_map(Op::Advance),
        2 => Just(Op::Evict),
        1 => (1..4_usize).prop_map(Op::Limit),
        1 => Just(Op::Drain),
    ]
}

/// Operations, and at some point of them a shutdown.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let mode = prop_oneof![Just(Shutdown::Drain), Just(Shutdown::Abort)];
    (prop::collection::vec(op(), 1..60), any::<usize>(), mode).prop_map(|(mut ops, at, mode)| {
        ops.insert(at % (ops.len() + 1), Op::Shutdown(mode));
        ops
    })
}

fn hosts() -> &'static [Host; 4] {
    static RUNTIMES: LazyLock<(Runtimes, [Host; 4])> = LazyLock::new(|| {
        let runtimes = Runtimes::start();
        let hosts = runtimes.hosts();
        (runtimes, hosts)
    });
    &RUNTIMES.1
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each step of a shrink may wait for what does not come.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_serial_executor_does_what_its_model_does(ops in ops(), host in select(hosts())) {
        play_serial(&ops, &host);
    }

    #[test]
    fn a_parallel_executor_does_what_its_model_does(ops in ops(), host in select(hosts())) {
        play_parallel(&ops, &host);
    }
}
