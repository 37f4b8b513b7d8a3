//! Keys and arrival times with the distributions that services see.

/// A generator of numbers that differ enough, the same in every run (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// In `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The time to the next of random arrivals that are `mean` apart.
    pub(crate) fn gap(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.fraction()).ln()
    }
}

/// `count` of the keys `0..keys`, the `n`th of which comes in proportion to `1 / n`.
pub(crate) fn zipf(keys: u32, count: usize, seed: u64) -> Vec<u32> {
    let mut total = 0.0;
    let cumulative: Vec<f64> = (1..=keys)
        .map(|rank| {
            total += 1.0 / f64::from(rank);
            total
        })
        .collect();
    let mut numbers = Numbers::new(seed);
    (0..count)
        .map(|_| {
            let wanted = numbers.fraction() * total;
            let rank = cumulative.partition_point(|&reached| reached < wanted);
            // Popular keys are scattered, so that they share no cache line by their number.
            let rank = rank.min(keys as usize - 1) as u64;
            ((rank * 7_919) % u64::from(keys)) as u32
        })
        .collect()
}

/// `count` of the keys `0..keys`, each as often as any other.
pub(crate) fn uniform(keys: u32, count: usize, seed: u64) -> Vec<u32> {
    let mut numbers = Numbers::new(seed);
    (0..count)
        .map(|_| (numbers.next() % u64::from(keys)) as u32)
        .collect()
}
