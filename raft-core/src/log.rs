//! The log: the terms of all of it, and the entries of its tail.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{Entry, EntryId, LogIndex, Payload, Term, TermRuns};

/// The log since the compaction point. The terms of all entries are known; the entries themselves are
/// in memory for a suffix, the tail, which is bounded in bytes.
#[derive(Debug)]
pub(crate) struct Log {
    terms: TermRuns,
    /// The last entries, without a gap up to the last one.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

impl Log {
    pub(crate) fn new(terms: TermRuns) -> Log {
        Log { terms, tail: VecDeque::new(), tail_bytes: 0 }
    }

    pub(crate) fn terms(&self) -> &TermRuns {
        &self.terms
    }

    /// The entry before the first one.
    pub(crate) fn start(&self) -> EntryId {
        self.terms.start()
    }

    pub(crate) fn last(&self) -> EntryId {
        self.terms.last()
    }

    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The first index from which on all entries are in memory; after the last one when none is.
    pub(crate) fn tail_first(&self) -> LogIndex {
        LogIndex(self.last().index.0 + 1 - self.tail.len() as u64)
    }

    /// Appends the next entry, in `term`.
    pub(crate) fn push(&mut self, term: Term, payload: Payload) -> EntryId {
        let appended = self.terms.push(term);
        assert!(appended, "terms never decrease along a log (§5.3)");
        let entry = Entry { id: self.terms.last(), payload };
        self.tail_bytes += entry.cost_bytes();
        let id = entry.id;
        self.tail.push_back(entry);
        id
    }

    /// Drops the entry at `first` and all after it.
    pub(crate) fn truncate(&mut self, first: LogIndex) {
        while self.tail.back().is_some_and(|entry| entry.id.index >= first) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.cost_bytes();
            }
        }
        self.terms.truncate(first);
    }

    /// Drops the entries up to `index`, which becomes the compaction point.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        self.terms.compact(index);
        while self.tail.front().is_some_and(|entry| entry.id.index <= index) {
            self.pop_front();
        }
        self.shrink();
    }

    /// Becomes empty, after `start`.
    pub(crate) fn reset(&mut self, start: EntryId) {
        *self = Log::new(TermRuns::new(start));
    }

    /// Lets go of entries up to `durable`, oldest first, until the tail is within `bytes_max`.
    pub(crate) fn evict(&mut self, durable: LogIndex, bytes_max: usize) {
        while self.tail_bytes > bytes_max
            && self.tail.front().is_some_and(|entry| entry.id.index <= durable)
        {
            self.pop_front();
        }
    }

    /// The entries from `first` to `last` that are in memory and fit: at least the one at `first`, which
    /// is in memory. Adds their cost to `bytes`.
    pub(crate) fn entries(
        &self,
        first: LogIndex,
        last: LogIndex,
        entries_max: usize,
        bytes_max: usize,
        bytes: &mut usize,
    ) -> Vec<Entry> {
        let at =
            |index: LogIndex| usize::try_from(index.0 - self.tail_first().0).unwrap_or(usize::MAX);
        let from = at(first);
        let to = at(last.next()).min(self.tail.len()).min(from.saturating_add(entries_max.max(1)));
        let mut fitting = 0;
        for entry in self.tail.range(from..to) {
            let cost = entry.cost_bytes();
            if fitting > 0 && *bytes + cost > bytes_max {
                break;
            }
            *bytes += cost;
            fitting += 1;
        }
        self.tail.range(from..from + fitting).cloned().collect()
    }

    /// The cost in bytes of the entry at `index`, while it is in memory.
    pub(crate) fn cost_bytes(&self, index: LogIndex) -> Option<usize> {
        let at = usize::try_from(index.0.checked_sub(self.tail_first().0)?).ok()?;
        self.tail.get(at).map(Entry::cost_bytes)
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= entry.cost_bytes();
        }
    }

    /// Gives memory back that a burst has left behind.
    fn shrink(&mut self) {
        const KEPT_ENTRIES: usize = 1024;
        if self.tail.capacity() > KEPT_ENTRIES && self.tail.len() < self.tail.capacity() / 8 {
            self.tail.shrink_to(KEPT_ENTRIES.max(self.tail.len() * 2));
        }
    }
}
