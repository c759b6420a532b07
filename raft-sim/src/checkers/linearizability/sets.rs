//! Sets of small numbers that share what they have in common.

use super::FixedHashMap;

/// Names a set. Equal sets have equal names, and the empty one has the default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SetId(u32);

const EMPTY: SetId = SetId(0);

/// A number, and the set of those before it.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
struct Cell {
    largest: u32,
    rest: SetId,
}

/// All sets of one search: lists from the largest number down, where each tail exists once.
///
/// The numbers of a search grow with time, and what it adds and removes is recent: near the front of a list.
pub(super) struct Sets {
    /// The set with the name `n` is at `n - 1`.
    cells: Vec<Cell>,
    names: FixedHashMap<Cell, SetId>,
    /// Numbers to be put back in front of a tail, the smallest last.
    in_front: Vec<u32>,
}

impl Sets {
    pub(super) fn new() -> Sets {
        Sets { cells: Vec::new(), names: FixedHashMap::default(), in_front: Vec::new() }
    }

    /// How many different lists exist: the memory that they need.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// `set` with `number`, which is not in it.
    pub(super) fn with(&mut self, set: SetId, number: u32) -> SetId {
        let tail = self.skip(set, |largest| largest > number);
        let tail = self.cons(number, tail);
        self.put_back(tail)
    }

    /// `set` without `number`, which is in it.
    pub(super) fn without(&mut self, set: SetId, number: u32) -> SetId {
        let tail = self.skip(set, |largest| largest > number);
        let cell = self.cell(tail);
        debug_assert!(cell.is_some_and(|cell| cell.largest == number), "{number} is in the set");
        self.put_back(cell.map_or(EMPTY, |cell| cell.rest))
    }

    pub(super) fn contains(&self, set: SetId, number: u32) -> bool {
        self.iter(set).find(|other| *other <= number) == Some(number)
    }

    /// The numbers of `set`, from the largest down.
    pub(super) fn iter(&self, set: SetId) -> impl Iterator<Item = u32> + '_ {
        let mut set = set;
        std::iter::from_fn(move || {
            let cell = self.cell(set)?;
            set = cell.rest;
            Some(cell.largest)
        })
    }

    /// Puts the numbers of `set` that are not in `other` into `difference`, from the largest down.
    pub(super) fn difference(&self, set: SetId, other: SetId, difference: &mut Vec<u32>) {
        difference.clear();
        let mut others = self.iter(other).peekable();
        for number in self.iter(set) {
            while others.next_if(|other| *other > number).is_some() {}
            if others.peek() != Some(&number) {
                difference.push(number);
            }
        }
    }

    fn cell(&self, set: SetId) -> Option<Cell> {
        let place = (set.0 as usize).checked_sub(1)?;
        Some(self.cells[place])
    }

    /// The tail of `set` after the numbers that are `in_front`, which are kept to be put back.
    fn skip(&mut self, mut set: SetId, is_in_front: impl Fn(u32) -> bool) -> SetId {
        self.in_front.clear();
        while let Some(cell) = self.cell(set)
            && is_in_front(cell.largest)
        {
            self.in_front.push(cell.largest);
            set = cell.rest;
        }
        set
    }

    fn put_back(&mut self, mut set: SetId) -> SetId {
        while let Some(number) = self.in_front.pop() {
            set = self.cons(number, set);
        }
        set
    }

    fn cons(&mut self, largest: u32, rest: SetId) -> SetId {
        let cell = Cell { largest, rest };
        let cells = &mut self.cells;
        *self.names.entry(cell).or_insert_with(|| {
            cells.push(cell);
            SetId(u32::try_from(cells.len()).unwrap_or(u32::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_equal_names_in_whatever_order_they_came_to_be() {
        let mut sets = Sets::new();
        let set = |sets: &mut Sets, numbers: &[u32]| {
            numbers.iter().fold(SetId::default(), |id, number| sets.with(id, *number))
        };
        let one = set(&mut sets, &[5, 1, 9]);
        assert_eq!(one, set(&mut sets, &[9, 5, 1]));
        assert_eq!(sets.iter(one).collect::<Vec<_>>(), [9, 5, 1]);
        assert_eq!(
            [0, 1, 5, 7, 9].map(|number| sets.contains(one, number)),
            [false, true, true, false, true]
        );
        let two = sets.without(one, 5);
        assert_eq!(two, set(&mut sets, &[1, 9]));
        let two = sets.without(two, 9);
        assert_eq!(sets.without(two, 1), SetId::default());
    }

    #[test]
    fn a_difference_is_what_the_other_does_not_have() {
        let mut sets = Sets::new();
        let [one, other] = [&[1, 2, 3, 7][..], &[2, 5, 7, 8]].map(|numbers| {
            numbers.iter().fold(SetId::default(), |id, number| sets.with(id, *number))
        });
        let mut difference = vec![42];
        sets.difference(one, other, &mut difference);
        assert_eq!(difference, [3, 1]);
        sets.difference(SetId::default(), one, &mut difference);
        assert!(difference.is_empty(), "{difference:?}");
    }
}
