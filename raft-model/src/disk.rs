//! What survives a crash.

use raft_core::{
    Configuration, Entry, EntryId, HardState, Incarnation, LogIndex, Payload, Restored,
    SnapshotMeta, Term, TermRuns, Write,
};

/// One disk: the log from its first entry on, and the hard state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn empty() -> Disk {
        Disk { hard_state: HardState::default(), entries: Vec::new() }
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The entry at `index`.
    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.entry(id.index).is_some_and(|entry| entry.id == id)
    }

    pub(crate) fn terms(&self) -> Vec<Term> {
        self.entries.iter().map(|entry| entry.id.term).collect()
    }

    /// Carries a write out, whole. `false`: it contradicts what the disk holds.
    #[must_use]
    pub(crate) fn write(&mut self, write: &Write) -> bool {
        let mut is_sound = write.reset.is_none() && write.compact.is_none();
        if let Some(first) = write.entries.first() {
            let kept = usize::try_from(first.id.index.0.saturating_sub(1)).unwrap_or(usize::MAX);
            is_sound &= kept <= self.entries.len();
            self.entries.truncate(kept);
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(state) = write.hard_state {
            let old = self.hard_state;
            let changes_vote =
                state.term == old.term && old.vote.is_some() && state.vote != old.vote;
            is_sound &= state.term >= old.term && state.commit >= old.commit && !changes_vote;
            is_sound &= state.commit.0 <= self.entries.len() as u64;
            self.hard_state = state;
        }
        is_sound
    }

    /// What a node starts from whose cluster began with `first`.
    pub(crate) fn restored(&self, first: &Configuration) -> Restored {
        let mut terms = TermRuns::new(EntryId::ZERO);
        for entry in &self.entries {
            terms.push(entry.id.term);
        }
        let configurations = self.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((entry.id.index, configuration.clone())),
            Payload::Empty | Payload::Command(_) => None,
        });
        Restored {
            incarnation: Incarnation(0),
            hard_state: self.hard_state,
            start: SnapshotMeta::new(EntryId::ZERO, first.clone()),
            terms,
            configurations: configurations.collect(),
            snapshot: None,
        }
    }
}
