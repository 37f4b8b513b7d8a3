use super::*;

#[test]
fn the_block_given_last_is_taken_first() {
    let class = Class::of(Layout::new::<[u64; 8]>());
    let first = take(class);
    // SAFETY: just taken.
    unsafe { give(class, first) };
    let second = take(class);
    assert_eq!(first, second);
    // SAFETY: just taken.
    unsafe { give(class, second) };
}

#[test]
fn live_blocks_are_distinct_and_their_memory_returns_after_a_burst() {
    let class = Class::of(Layout::new::<[u64; 128]>());
    let blocks: Vec<_> = (0..3 * RETAINED_BYTES / 1_024 + 5 * CHUNK_CELLS)
        .map(|_| take(class))
        .collect();
    let distinct: std::collections::HashSet<_> = blocks.iter().collect();
    assert_eq!(distinct.len(), blocks.len());
    let peak = pool_metrics().chunk_bytes;
    for block in blocks {
        // SAFETY: taken above, each once.
        unsafe { give(class, block) };
    }
    settle(|| false);
    let left = POOLS[4].chunk_bytes.load(Ordering::Relaxed);
    let two_chunks = 2 * 1_024 * Chunks::blocks(4);
    assert!(
        left <= RETAINED_BYTES + two_chunks && left < peak,
        "{left} of {peak} bytes retained"
    );
}

#[test]
fn ten_threads_of_a_hundred_lose_and_double_nothing() {
    const THREADS: usize = 10;
    const BLOCKS: usize = 100;
    let class = Class::of(Layout::new::<[u64; 16]>());
    let taken = std::sync::Barrier::new(THREADS);
    let all = std::sync::Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (taken, all) = (&taken, &all);
            scope.spawn(move || {
                for round in 0..20 {
                    let stamp = round * THREADS + thread;
                    let blocks: Vec<_> = (0..BLOCKS).map(|_| take(class)).collect();
                    for block in &blocks {
                        // SAFETY: the block is ours, and larger than a `usize`.
                        unsafe { block.cast::<usize>().write(stamp) };
                    }
                    let mut distinct = all.lock().expect("whole");
                    blocks.iter().for_each(|block| {
                        assert!(distinct.insert(block.as_ptr().addr()), "taken twice");
                    });
                    drop(distinct);
                    // All live at once, and only then given back.
                    if taken.wait().is_leader() {
                        let mut distinct = all.lock().expect("whole");
                        assert_eq!(distinct.len(), THREADS * BLOCKS);
                        distinct.clear();
                    }
                    taken.wait();
                    for block in blocks {
                        // SAFETY: as above.
                        assert_eq!(unsafe { block.cast::<usize>().read() }, stamp);
                        // SAFETY: taken above, each once.
                        unsafe { give(class, block) };
                    }
                }
            });
        }
    });
}

#[test]
fn what_fits_no_class_is_oversized() {
    assert!(matches!(
        Class::of(Layout::new::<[u8; 1_025]>()),
        Class::Oversized(_)
    ));
    let layout = Layout::from_size_align(64, 256).expect("legal");
    assert!(matches!(Class::of(layout), Class::Oversized(_)));
    assert_eq!(Class::of(Layout::new::<[u8; 65]>()), Class::Pooled(1));
}

#[test]
fn the_last_chunk_is_kept_and_what_it_has_free_is_not_sorted() {
    const CLASS: usize = 3;
    static POOL: Pool = Pool::new();
    let pool = &POOL;
    let blocks = Chunks::blocks(CLASS);
    let chunk = blocks * BLOCK_SIZES[CLASS];
    let take = |count: usize| -> Vec<_> {
        let magazine = || {
            let mut magazine = Magazine::EMPTY;
            pool.chunks().take(pool, CLASS, &mut magazine);
            magazine
        };
        (0..count / MAGAZINE_CELLS).map(|_| magazine()).collect()
    };
    let put = |magazines: Vec<Magazine>| {
        for mut magazine in magazines {
            pool.chunks().put(pool, CLASS, &mut magazine);
        }
    };
    let bytes = || pool.chunk_bytes.load(Ordering::Relaxed);
    for _ in 0..2 {
        let held = take(blocks);
        assert_eq!(bytes(), chunk);
        put(held);
        assert_eq!(bytes(), chunk, "the next message would allocate");
        assert!(!pool.is_unsettled(CLASS));
    }
    let held = take(3 * blocks);
    assert_eq!(bytes(), 3 * chunk);
    let (spread, kept): (Vec<_>, _) = held
        .into_iter()
        .enumerate()
        .partition(|(at, _)| at % 2 == 0);
    put(spread.into_iter().map(|(_, magazine)| magazine).collect());
    assert!(pool.is_unsettled(CLASS), "more than a chunk is free");
    put(kept.into_iter().map(|(_, magazine)| magazine).collect());
    assert_eq!(bytes(), chunk);
    assert!(!pool.is_unsettled(CLASS));
}
