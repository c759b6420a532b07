//! What one server keeps: its log, and the snapshots of its state machine.

use std::collections::BTreeMap;

use raft_core::{
    Configuration, Entry, EntryId, Fetch, Fetched, HardState, Incarnation, LogIndex, Payload,
    Restored, SnapshotMeta, TermRuns, Write,
};

use crate::harness::configurations;

/// What one disk holds.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    pub(crate) hard_state: HardState,
    pub(crate) start: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
    /// Complete snapshots by the index of their last entry: what they say, and the state.
    pub(crate) snapshots: BTreeMap<LogIndex, (SnapshotMeta, State)>,
}

/// A state machine that tells any two histories apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) applied: LogIndex,
    pub(crate) check: u64,
}

impl Disk {
    pub(crate) fn new(incarnation: Incarnation, configuration: Configuration) -> Disk {
        Disk {
            incarnation,
            hard_state: HardState::default(),
            start: SnapshotMeta::new(EntryId::ZERO, configuration),
            entries: Vec::new(),
            snapshots: BTreeMap::new(),
        }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.last, |entry| entry.id)
    }

    /// The entry at `index`, while it is not compacted.
    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let at = index.0.checked_sub(self.start.last.index.0 + 1)?;
        self.entries.get(usize::try_from(at).unwrap())
    }

    /// Whether the disk holds this entry, or has compacted its index (what is compacted was committed).
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index <= self.start.last.index
            || self.entry(id.index).is_some_and(|entry| entry.id == id)
    }

    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(meta) = &write.reset {
            assert!(self.snapshots.contains_key(&meta.last.index), "the snapshot is durable first");
            self.start = meta.clone();
            self.entries.clear();
        }
        if let Some(meta) = &write.compact {
            let gone = meta.last.index.0 - self.start.last.index.0;
            self.entries.drain(..usize::try_from(gone).unwrap());
            self.start = meta.clone();
        }
        if let Some(first) = write.entries.first() {
            assert!(first.id.index > self.start.last.index, "nothing compacted is written again");
            assert!(first.id.index <= self.last().index.next(), "the log has no gap");
            let kept = first.id.index.0 - self.start.last.index.0 - 1;
            self.entries.truncate(usize::try_from(kept).unwrap());
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(state) = write.hard_state {
            let old = self.hard_state;
            assert!(state.term >= old.term, "the term on disk never goes back (§5.1)");
            assert!(state.commit >= old.commit, "the commit index on disk never goes back");
            assert!(state.commit <= self.last().index, "the commit index lies within the log");
            let changed = state.term == old.term && old.vote.is_some() && state.vote != old.vote;
            assert!(!changed, "one vote a term (§5.2)");
            self.hard_state = state;
        }
    }

    pub(crate) fn restored(&self) -> Restored {
        let mut terms = TermRuns::new(self.start.last);
        for entry in &self.entries {
            assert!(terms.push(entry.id.term));
        }
        let snapshot = self.snapshots.last_key_value().map(|(_, (meta, _))| meta.clone());
        Restored {
            incarnation: self.incarnation,
            hard_state: self.hard_state,
            start: self.start.clone(),
            terms,
            configurations: configurations(&self.entries),
            snapshot,
        }
    }

    pub(crate) fn read(&self, fetch: &Fetch) -> Fetched {
        if fetch.first <= self.start.last.index {
            return Fetched::Compacted;
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut index = fetch.first;
        while let Some(entry) = self.entry(index).filter(|_| index <= fetch.last) {
            bytes += entry.cost_bytes();
            if !entries.is_empty() && bytes > fetch.bytes_max {
                break;
            }
            entries.push(entry.clone());
            index = index.next();
        }
        if entries.is_empty() { Fetched::Compacted } else { Fetched::Entries(entries) }
    }

    /// The configurations that the disk holds at or after `index`, that at its start included.
    pub(crate) fn configurations_since(&self, index: LogIndex) -> Vec<Configuration> {
        let later = self.entries.iter().filter(|entry| entry.id.index >= index);
        let later = later.filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(configuration.clone()),
            Payload::Empty | Payload::Command(_) => None,
        });
        let start = (self.start.last.index >= index).then(|| self.start.configuration.clone());
        start.into_iter().chain(later).collect()
    }

    /// The index of the latest configuration in the log.
    pub(crate) fn configuration_index(&self) -> LogIndex {
        configurations(&self.entries).last().map_or(LogIndex::ZERO, |(index, _)| *index)
    }
}
