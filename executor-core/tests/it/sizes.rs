//! Every size and alignment, in and out.

use executor_core::{WorkerCore, pool_metrics};

#[repr(align(128))]
#[derive(Clone)]
struct Wide<const N: usize>([u8; N]);

#[repr(align(16))]
#[derive(Clone)]
struct Medium<const N: usize>([u8; N]);

fn pattern<const N: usize>() -> [u8; N] {
    std::array::from_fn(|at| (at * 7 + N) as u8)
}

fn round_trips<const N: usize>(core: &WorkerCore) {
    let plain = pattern::<N>();
    let future = async move {
        tokio::task::yield_now().await;
        plain
    };
    assert!(
        core.spawn(future).expect("open").wait().expect("handled") == plain,
        "{N} bytes"
    );
    assert!(
        core.spawn_fn(move || plain)
            .expect("open")
            .wait()
            .expect("handled")
            == plain,
        "{N} bytes"
    );
    let (medium, wide) = (Medium(plain), Wide(plain));
    let future = async move {
        assert_eq!(
            (
                &raw const medium as usize % 16,
                &raw const wide as usize % 128
            ),
            (0, 0)
        );
        tokio::task::yield_now().await;
        assert_eq!(
            (
                &raw const medium as usize % 16,
                &raw const wide as usize % 128
            ),
            (0, 0)
        );
        (medium, wide)
    };
    let (medium, wide) = core.spawn(future).expect("open").wait().expect("handled");
    assert!(medium.0 == plain && wide.0 == plain, "{N} bytes");
}

macro_rules! sizes {
    ($core:expr; $($size:literal)*) => { $(round_trips::<$size>($core);)* };
}

#[test]
fn values_of_every_size_and_alignment_come_out_as_they_went_in() {
    let core = WorkerCore::threads(2).build().expect("threads");
    sizes![&core; 0 1 2 3 7 8 9 15 16 17 24 31 32 33 40 48 56 63 64 65 72 80 88 96 104 112 120 127 128 129 160 192
        224 240 255 256 257 320 384 448 496 511 512 513 640 768 896 960 1000 1023 1024 1025 1536 2047 2048 2049
        3000 4095 4096];
    let before = pool_metrics().oversized;
    for _ in 0..10 {
        let large = pattern::<4_096>();
        assert!(
            core.spawn_fn(move || large)
                .expect("open")
                .wait()
                .expect("handled")
                == large
        );
    }
    assert_eq!(
        pool_metrics().oversized - before,
        10,
        "one allocation for each that fits no class"
    );
}
