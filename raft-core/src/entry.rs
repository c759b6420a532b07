//! The words of the paper as types: term, log index, node, entry.

use core::fmt;

use bytes::Bytes;

use crate::Configuration;

/// A term: a logical clock that counts elections (§5.1). Term 0 is before the first election.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Term(pub u64);

/// The position of an entry in the log. The first entry has index 1; 0 is the place before it (§5.3).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogIndex(pub u64);

/// The name of one server of the cluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub u64);

/// Names one entry: two entries with the same id are the same, and so are all before them (§5.3).
///
/// Ordered as §5.4.1 compares logs: by term first, then by index. Of two logs, the one whose last
/// entry's id is the greater is the more up-to-date one.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntryId {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// The entry's position in the log.
    pub index: LogIndex,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// The entry's term and index.
    pub id: EntryId,
    /// What the entry carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Payload {
    /// Nothing: the entry with which a new leader opens its term, so that the entries before it
    /// commit (§8, diss. §6.4). State machines skip it.
    Empty,
    /// A command for the state machine, opaque to the protocol.
    Command(Bytes),
    /// The members from this entry on, as soon as it is in a log (§6). State machines skip it.
    Configuration(Configuration),
}

impl LogIndex {
    /// The place before the first entry.
    pub const ZERO: LogIndex = LogIndex(0);

    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> LogIndex {
        LogIndex(self.0.saturating_add(1))
    }

    /// The index before this one; [`LogIndex::ZERO`] has none before it and stays.
    #[must_use]
    pub const fn previous(self) -> LogIndex {
        LogIndex(self.0.saturating_sub(1))
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

impl EntryId {
    /// The place before the first entry of a log that was never compacted.
    pub const ZERO: EntryId = EntryId { term: Term(0), index: LogIndex(0) };

    /// The id of the entry of `term` at `index`.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> EntryId {
        EntryId { term, index }
    }
}

impl Entry {
    /// What an entry costs beside its payload, in bytes, wherever a limit counts bytes.
    pub const OVERHEAD_BYTES: usize = 64;

    /// An entry that carries a command.
    #[must_use]
    pub fn command(id: EntryId, command: impl Into<Bytes>) -> Entry {
        Entry { id, payload: Payload::Command(command.into()) }
    }

    /// What the entry counts for in every limit that is given in bytes: its payload and
    /// [`Entry::OVERHEAD_BYTES`].
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        Entry::OVERHEAD_BYTES + self.payload.len()
    }
}

impl Payload {
    /// The length of the command, in bytes; of a configuration, about what it takes; else 0.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Payload::Empty => 0,
            Payload::Command(command) => command.len(),
            Payload::Configuration(configuration) => configuration.len_bytes(),
        }
    }

    /// Whether there is nothing in it, or a command of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Written `index.term`, as in `17.3`.
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_its_payload_and_a_constant_even_when_that_is_empty() {
        let id = EntryId::new(Term(1), LogIndex(1));
        for len in [0, 1, 1000] {
            let entry = Entry::command(id, alloc::vec![0; len]);
            assert_eq!((entry.payload.len(), entry.payload.is_empty()), (len, len == 0));
            assert_eq!(entry.cost_bytes(), Entry::OVERHEAD_BYTES + len);
        }
        assert!(Payload::Empty.is_empty());
    }
}
