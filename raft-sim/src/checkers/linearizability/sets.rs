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

/// All sets of one search: lists from the largest number down, where each tail exists once. A number may be in a set
/// several times.
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

    /// `set` with `number`, once more if it was in it.
    pub(super) fn with(&mut self, set: SetId, number: u32) -> SetId {
        let tail = self.skip(set, |largest| largest > number);
        let tail = self.cons(number, tail);
        self.put_back(tail)
    }

    /// `set` with `number` once less; it is in it.
    pub(super) fn without(&mut self, set: SetId, number: u32) -> SetId {
        let tail = self.skip(set, |largest| largest > number);
        let cell = self.cell(tail);
        debug_assert!(cell.is_some_and(|cell| cell.largest == number), "{number} is in the set");
        self.put_back(cell.map_or(EMPTY, |cell| cell.rest))
    }

    /// How often `number` is in `set`.
    pub(super) fn count(&self, set: SetId, number: u32) -> usize {
        let not_smaller = self.iter(set).take_while(|other| *other >= number);
        not_smaller.filter(|other| *other == number).count()
    }

    pub(super) fn contains(&self, set: SetId, number: u32) -> bool {
        self.iter(set).find(|other| *other <= number) == Some(number)
    }

    /// Whether all that is in `part` is in `whole`, as often at least.
    pub(super) fn is_within(&self, mut part: SetId, mut whole: SetId) -> bool {
        while part != whole {
            let Some(wanted) = self.cell(part) else { return true };
            let Some(there) = self.cell(whole) else { return false };
            if there.largest < wanted.largest {
                return false;
            }
            if there.largest == wanted.largest {
                part = wanted.rest;
            }
            whole = there.rest;
        }
        true
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

    /// Puts the numbers of `set` that are not in `other` into `difference`, from the largest down. None is in
    /// them twice.
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
