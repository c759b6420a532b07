//! Runs of entries that many hold at once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, Range};

use crate::Entry;

/// A run of entries, shared: the log, the write and the messages to all followers hold the same one. To clone or
/// to slice it copies no entry.
///
/// It dereferences to `[Entry]`, and is made from a `Vec<Entry>` or by `collect`.
#[derive(Clone, Default)]
pub struct Entries {
    shared: Option<Arc<[Entry]>>,
    range: Range<usize>,
}

impl Entries {
    /// No entries.
    #[must_use]
    pub fn new() -> Entries {
        Entries::default()
    }

    /// A part of them, by position.
    ///
    /// # Panics
    /// When `range` does not lie within `0..self.len()`.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Entries {
        assert!(range.start <= range.end && range.end <= self.range.len(), "a part lies within");
        let start = self.range.start;
        Entries { shared: self.shared.clone(), range: start + range.start..start + range.end }
    }

    /// The sum of [`Entry::cost_bytes`].
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.iter().map(Entry::cost_bytes).sum()
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.shared.as_ref().map_or(&[], |shared| &shared[self.range.clone()])
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Entries {
        let shared: Arc<[Entry]> = entries.into_iter().collect();
        Entries { range: 0..shared.len(), shared: Some(shared).filter(|shared| !shared.is_empty()) }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Entries {
        entries.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = core::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Entries {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        Vec::<Entry>::deserialize(deserializer).map(Entries::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Entries, Entry, EntryId, LogIndex, Term};

    fn entries(terms: &[u64]) -> Entries {
        let entry = |(i, term): (u64, &u64)| {
            Entry::command(EntryId::new(Term(*term), LogIndex(i)), alloc::vec![7])
        };
        (1..).zip(terms).map(entry).collect()
    }

    #[test]
    fn parts_of_runs_are_equal_where_their_entries_are() {
        assert_eq!(entries(&[1, 1, 2]).slice(0..2), entries(&[1, 1]));
        assert_ne!(entries(&[1, 1]), entries(&[1, 2]));
        assert_ne!(entries(&[1, 1]), entries(&[1]));
    }
}
