//! The node's only randomness.

use core::time::Duration;

/// A seeded generator (SplitMix64): the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from a sequence of its own, so that whoever draws it changes no other draw.
    pub(crate) fn fork(&self) -> u64 {
        Random::new(self.state ^ 0x6a09_e667_f3bc_c908).next()
    }

    /// From `base` up to, but not including, twice that (§5.2).
    pub(crate) fn timeout(&mut self, base: Duration) -> Duration {
        let nanos = u64::try_from(base.as_nanos()).unwrap_or(u64::MAX / 2).max(1);
        base.saturating_add(Duration::from_nanos(self.next() % nanos))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// A run that is to be repeated must be the same in every version.
    #[test]
    fn the_numbers_are_those_of_split_mix_64() {
        let mut random = Random::new(0);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn a_timeout_lies_between_once_and_twice_the_base() {
        let (mut random, base) = (Random::new(1), Duration::from_nanos(3));
        let drawn: Vec<u128> = (0..100).map(|_| random.timeout(base).as_nanos()).collect();
        assert!((3..6).all(|nanos| drawn.contains(&nanos)));
        assert!(drawn.iter().all(|nanos| (3..6).contains(nanos)));
    }
}
