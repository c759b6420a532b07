//! Random numbers for the runtimes that are not simulated.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// A splitmix64 generator that threads share without a lock. Not for secrets.
pub(super) struct Chance(AtomicU64);

impl Chance {
    /// Seeded by the operating system, through the keys of the standard library's hasher.
    pub(super) fn new() -> Chance {
        Chance(AtomicU64::new(RandomState::new().build_hasher().finish()))
    }

    pub(super) fn next(&self) -> u64 {
        const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
