//! The log: the terms of all of it, and the entries of its tail.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{Entries, Entry, EntryId, LogIndex, Payload, Term, TermRuns};

/// The log since the compaction point. The terms of all entries are known; the entries themselves are in memory for
/// a suffix, the tail, which is bounded in bytes.
///
/// The tail consists of shared runs: one for each batch that was proposed or received. What goes to the disk, to
/// followers and to the state machine are parts of these runs, not copies.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    terms: TermRuns,
    /// Runs without a gap between them.
    runs: VecDeque<Run>,
    /// What was proposed since the last [`Log::seal`], after the runs.
    open: Vec<Entry>,
    open_bytes: usize,
    tail_bytes: usize,
}

#[derive(Clone, Debug)]
struct Run {
    first: LogIndex,
    /// Never empty.
    entries: Entries,
    cost_bytes: usize,
}

impl Run {
    fn new(entries: Entries, cost_bytes: usize) -> Option<Run> {
        let first = entries.first()?.id.index;
        Some(Run { first, entries, cost_bytes })
    }

    fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + self.entries.len() as u64 - 1)
    }

    /// The position of the entry at `index`, which is not before the run.
    fn position(&self, index: LogIndex) -> usize {
        usize::try_from(index.0 - self.first.0).unwrap_or(usize::MAX)
    }
}

impl Log {
    pub(crate) fn new(terms: TermRuns) -> Log {
        Log { terms, runs: VecDeque::new(), open: Vec::new(), open_bytes: 0, tail_bytes: 0 }
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

    /// What the tail costs.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes + self.open_bytes
    }

    /// The first index from which on all entries are in memory; after the last one when none is.
    pub(crate) fn tail_first(&self) -> LogIndex {
        let first = self.runs.front().map(|run| run.first);
        first.or(self.open.first().map(|entry| entry.id.index)).unwrap_or(self.last().index.next())
    }

    /// Appends the next entry, in `term`.
    pub(crate) fn push(&mut self, term: Term, payload: Payload) -> EntryId {
        let appended = self.terms.push(term);
        assert!(appended, "terms never decrease along a log (§5.3)");
        let entry = Entry { id: self.terms.last(), payload };
        let id = entry.id;
        self.open_bytes += entry.cost_bytes();
        self.open.push(entry);
        id
    }

    /// Makes one run of what was pushed, so that it can be shared. The others of this type's methods expect that.
    #[inline]
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.seal_open();
        }
    }

    #[inline(never)]
    fn seal_open(&mut self) {
        let bytes = core::mem::take(&mut self.open_bytes);
        let entries = self.open.drain(..).collect();
        self.push_run(entries, bytes);
        const KEPT_ENTRIES: usize = 1024;
        if self.open.capacity() > KEPT_ENTRIES {
            self.open.shrink_to(KEPT_ENTRIES);
        }
    }

    /// Appends entries that follow upon the last one, whose cost is `bytes`.
    pub(crate) fn append(&mut self, entries: Entries, bytes: usize) {
        self.seal();
        for same_term in entries.chunk_by(|a, b| a.id.term == b.id.term) {
            let appended = self.terms.extend(same_term[0].id.term, same_term.len() as u64);
            assert!(appended, "terms never decrease along a log (§5.3)");
        }
        self.push_run(entries, bytes);
    }

    fn push_run(&mut self, entries: Entries, bytes: usize) {
        if let Some(run) = Run::new(entries, bytes) {
            self.tail_bytes += bytes;
            self.runs.push_back(run);
        }
    }

    /// Drops the entry at `first` and all after it.
    pub(crate) fn truncate(&mut self, first: LogIndex) {
        self.seal();
        while let Some(run) = self.runs.pop_back() {
            self.tail_bytes -= run.cost_bytes;
            if run.first < first {
                let kept = run.entries.slice(0..run.position(first).min(run.entries.len()));
                let bytes = kept.cost_bytes();
                self.push_run(kept, bytes);
                break;
            }
        }
        self.terms.truncate(first);
    }

    /// Drops the entries up to `index`, which becomes the compaction point. A run that it lies in stays in memory
    /// until all of it is compacted.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        self.seal();
        self.terms.compact(index);
        while self.runs.front().is_some_and(|run| run.last() <= index) {
            self.pop_front();
        }
        const KEPT_RUNS: usize = 64;
        if self.runs.capacity() > KEPT_RUNS && self.runs.len() < self.runs.capacity() / 8 {
            self.runs.shrink_to(KEPT_RUNS.max(self.runs.len() * 2));
        }
    }

    /// Becomes empty, after `start`.
    pub(crate) fn reset(&mut self, start: EntryId) {
        *self = Log::new(TermRuns::new(start));
    }

    /// Lets go of runs that are durable, as all entries up to `durable` are, oldest first, until the tail is within
    /// `bytes_max`.
    pub(crate) fn evict(&mut self, durable: LogIndex, bytes_max: usize) {
        while self.tail_bytes() > bytes_max
            && self.runs.front().is_some_and(|run| run.last() <= durable)
        {
            self.pop_front();
        }
    }

    /// The entries from `first`, which is in memory, to `last` that fit: at least one. The sum of their costs with
    /// them.
    pub(crate) fn entries(
        &self,
        first: LogIndex,
        last: LogIndex,
        entries_max: usize,
        bytes_max: usize,
    ) -> (Entries, usize) {
        debug_assert!(self.open.is_empty(), "sealed first");
        let count =
            usize::try_from(last.0 - first.0 + 1).unwrap_or(usize::MAX).min(entries_max.max(1));
        let at = match self.runs.back() {
            Some(run) if run.first <= first => self.runs.len() - 1,
            _ => self.runs.partition_point(|run| run.first <= first) - 1,
        };
        let run = &self.runs[at];
        let from = run.position(first);
        if from + count <= run.entries.len() || at + 1 == self.runs.len() {
            let to = run.entries.len().min(from + count);
            if from == 0 && to == run.entries.len() && run.cost_bytes <= bytes_max {
                return (run.entries.clone(), run.cost_bytes);
            }
            let (fitting, bytes) = fitting(run.entries[from..to].iter(), bytes_max);
            return (run.entries.slice(from..from + fitting), bytes);
        }
        // They lie in several runs: this costs a copy of each entry, though not of its payload.
        let all =
            || self.runs.range(at..).flat_map(|run| run.entries.iter()).skip(from).take(count);
        let (fitting, bytes) = fitting(all(), bytes_max);
        let mut gathered = Vec::with_capacity(fitting);
        gathered.extend(all().take(fitting).cloned());
        (gathered.into(), bytes)
    }

    /// The cost in bytes of the entry at `index`, while it is in memory.
    pub(crate) fn cost_bytes(&self, index: LogIndex) -> Option<usize> {
        let at = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let run = self.runs.get(at)?;
        run.entries.get(run.position(index)).map(Entry::cost_bytes)
    }

    fn pop_front(&mut self) {
        if let Some(run) = self.runs.pop_front() {
            self.tail_bytes -= run.cost_bytes;
        }
    }
}

/// Into which runs the tail is cut makes no difference to what is taken out of it.
#[cfg(feature = "model")]
impl core::hash::Hash for Log {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (&self.terms, self.tail_first()).hash(state);
        for entry in self.runs.iter().flat_map(|run| run.entries.iter()).chain(&self.open) {
            entry.hash(state);
        }
    }
}

/// How many of `entries` cost at most `bytes_max`, but at least one, and what they cost.
pub(crate) fn fitting<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    bytes_max: usize,
) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0_usize);
    for entry in entries {
        let cost = entry.cost_bytes();
        if count > 0 && bytes.saturating_add(cost) > bytes_max {
            break;
        }
        count += 1;
        bytes += cost;
    }
    (count, bytes)
}
