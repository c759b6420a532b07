//! How often each of some small numbers was counted, with all that two counts have in common shared.

use super::FixedHashMap;

/// Names what was counted. What is equal has the same name, and the default is nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CountsId(u32);

/// A binary tree: the bits of a number lead from its root to the leaf with the number's count. Each tree exists
/// once; one without counts has the name 0, and that of a leaf is its count.
pub(super) struct Counts {
    /// The two halves of the tree with the name `n` are at `n - 1`.
    halves: Vec<[u32; 2]>,
    names: FixedHashMap<[u32; 2], u32>,
    /// How many bits the numbers have.
    bits: u32,
}

impl Counts {
    /// Counts of numbers below `limit`.
    pub(super) fn below(limit: usize) -> Counts {
        let bits = usize::BITS - limit.leading_zeros();
        Counts { halves: Vec::new(), names: FixedHashMap::default(), bits }
    }

    /// How many different trees exist: the memory that they need.
    pub(super) fn len(&self) -> usize {
        self.halves.len()
    }

    /// `counts` with one more of `number`.
    pub(super) fn with(&mut self, counts: CountsId, number: u32) -> CountsId {
        CountsId(self.add(counts.0, self.bits, number))
    }

    /// How often `number` is in `counts`.
    pub(super) fn count(&self, counts: CountsId, number: u32) -> u32 {
        (0..self.bits).rev().fold(counts.0, |tree, bit| self.halves(tree)[half_of(number, bit)])
    }

    /// Whether `whole` has no less of any number than `part`.
    pub(super) fn is_within(&self, part: CountsId, whole: CountsId) -> bool {
        self.is_tree_within(part.0, whole.0, self.bits)
    }

    fn add(&mut self, tree: u32, bits: u32, number: u32) -> u32 {
        let Some(bit) = bits.checked_sub(1) else { return tree + 1 };
        let mut halves = self.halves(tree);
        let half = &mut halves[half_of(number, bit)];
        *half = self.add(*half, bit, number);
        let all = &mut self.halves;
        *self.names.entry(halves).or_insert_with(|| {
            all.push(halves);
            u32::try_from(all.len()).unwrap_or(u32::MAX)
        })
    }

    fn is_tree_within(&self, part: u32, whole: u32, bits: u32) -> bool {
        if part == whole || part == 0 {
            return true;
        }
        if whole == 0 {
            return false;
        }
        let Some(bit) = bits.checked_sub(1) else { return part <= whole };
        let ([part_low, part_high], [low, high]) = (self.halves(part), self.halves(whole));
        self.is_tree_within(part_low, low, bit) && self.is_tree_within(part_high, high, bit)
    }

    fn halves(&self, tree: u32) -> [u32; 2] {
        (tree as usize).checked_sub(1).map_or([0, 0], |place| self.halves[place])
    }
}

fn half_of(number: u32, bit: u32) -> usize {
    usize::from(number >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_counts_have_equal_names_in_whatever_order_they_came_to_be() {
        let mut counts = Counts::below(100);
        let count = |counts: &mut Counts, numbers: &[u32]| {
            numbers.iter().fold(CountsId::default(), |id, number| counts.with(id, *number))
        };
        let one = count(&mut counts, &[99, 0, 7, 7]);
        assert_eq!(one, count(&mut counts, &[7, 0, 7, 99]));
        assert_eq!([0, 7, 8, 99].map(|number| counts.count(one, number)), [1, 2, 0, 1]);
        assert_eq!(count(&mut counts, &[]), CountsId::default());
    }

    #[test]
    fn a_part_has_no_more_of_anything() {
        let mut counts = Counts::below(4);
        let none = CountsId::default();
        let one = counts.with(none, 1);
        let two = counts.with(one, 1);
        let other = counts.with(one, 3);
        for (part, whole) in [(none, none), (none, one), (one, two), (one, other), (two, two)] {
            assert!(counts.is_within(part, whole));
        }
        for (part, whole) in [(one, none), (two, one), (two, other), (other, two)] {
            assert!(!counts.is_within(part, whole));
        }
    }

    #[test]
    fn nothing_at_all_can_be_counted() {
        let mut counts = Counts::below(1);
        let one = counts.with(CountsId::default(), 0);
        assert_eq!((counts.count(one, 0), Counts::below(0).count(CountsId::default(), 0)), (1, 0));
    }
}
