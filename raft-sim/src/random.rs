//! The only source of chance in a run.

use std::ops::Range;
use std::time::Duration;

/// A seeded generator (splitmix64). Parts of the simulator draw from generators of their own, so that one that
/// draws more often does not shift the luck of the others.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that draws the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A generator of its own for whatever goes by `name`.
    #[must_use]
    pub fn fork(&self, name: &str) -> Random {
        let mut seed = self.state ^ 0x5851_f42d_4c95_7f2d;
        for byte in name.bytes() {
            seed = Random { state: seed ^ u64::from(byte) }.next();
        }
        Random { state: seed }
    }

    /// 64 bits, each as good as any other.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `range`; its start where the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        let span = range.end.saturating_sub(range.start);
        let product = u128::from(self.next()) * u128::from(span);
        // The high half is below `span`.
        range.start + u64::try_from(product >> 64).unwrap_or(0)
    }

    /// An index below `len`; 0 where `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.within(0..len as u64)).unwrap_or(0)
    }

    /// True with this probability, from 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        // Always one draw, whatever the probability.
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        unit < probability
    }

    /// A duration of `range`; its start where the range is empty.
    pub fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        range.start + Duration::from_nanos(self.within(0..nanos))
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// There is none.
    pub fn choose<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.index(choices.len())]
    }

    /// Puts `items` into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.index(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers_and_forks_do_not_shift_each_other() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        let mut fork = one.fork("disk");
        assert_ne!(fork.next(), one.clone().next());
        for _ in 0..100 {
            assert_eq!(one.next(), other.next());
        }
    }

    #[test]
    fn numbers_stay_within_their_range_and_reach_its_ends() {
        let mut random = Random::new(1);
        let drawn: std::collections::BTreeSet<u64> =
            (0..1000).map(|_| random.within(5..8)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(random.within(5..5), 5);
        assert!(!random.chance(0.0) && random.chance(1.0));
    }
}
