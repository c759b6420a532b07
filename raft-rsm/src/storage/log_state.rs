//! What a sequence of writes adds up to, without the entries: one meaning of [`Write`] for every storage.

use raft_core::{
    Configuration, EntryId, HardState, Incarnation, LogIndex, Payload, Restored, SnapshotMeta,
    TermRuns, Write,
};

/// Hard state, start, terms and configurations of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    pub(super) hard_state: HardState,
    pub(super) start: SnapshotMeta,
    pub(super) terms: TermRuns,
    /// Those among the entries after `start`, ascending, each with its index.
    pub(super) configurations: Vec<(LogIndex, Configuration)>,
}

impl LogState {
    /// That of a node that never ran.
    pub(super) fn first_start(configuration: Configuration) -> LogState {
        let Restored { incarnation: _, hard_state, start, terms, configurations, snapshot: _ } =
            Restored::first_start(configuration);
        LogState { hard_state, start, terms, configurations }
    }

    /// With the newest snapshot, what a node of this incarnation starts from.
    pub(super) fn restored(
        self,
        incarnation: Incarnation,
        snapshot: Option<SnapshotMeta>,
    ) -> Restored {
        let LogState { hard_state, start, terms, configurations } = self;
        Restored { incarnation, hard_state, start, terms, configurations, snapshot }
    }

    /// Carries out a whole write.
    ///
    /// # Errors
    /// The write does not follow from this state, and why; it may be carried out in part.
    pub(super) fn apply(&mut self, write: &Write) -> Result<(), String> {
        let Write { id: _, reset, compact, entries, hard_state } = write;
        if let Some(snapshot) = reset {
            self.reset(snapshot);
        }
        if let Some(snapshot) = compact {
            self.compact(snapshot)?;
        }
        if let Some(first) = entries.first() {
            self.truncate(first.id)?;
        }
        for entry in entries {
            self.append(entry.id)?;
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configure(entry.id.index, configuration.clone());
            }
        }
        if let Some(hard_state) = hard_state {
            self.set_hard_state(*hard_state)?;
        }
        Ok(())
    }

    /// Empties the log: it starts after `snapshot`.
    pub(super) fn reset(&mut self, snapshot: &SnapshotMeta) {
        self.start = snapshot.clone();
        self.terms = TermRuns::new(snapshot.last);
        self.configurations.clear();
    }

    /// Drops the entries up to the end of `snapshot`.
    pub(super) fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), String> {
        if !self.terms.contains(snapshot.last) {
            return Err(format!(
                "it compacts up to entry {}, which is not in the log from {} to {}",
                snapshot.last,
                self.start.last,
                self.terms.last(),
            ));
        }
        self.terms.compact(snapshot.last.index);
        self.configurations.retain(|(index, _)| *index > snapshot.last.index);
        self.start = snapshot.clone();
        Ok(())
    }

    /// Makes room for `first`: drops the entry at its index, and all after it.
    pub(super) fn truncate(&mut self, first: EntryId) -> Result<(), String> {
        if first.index <= self.start.last.index {
            return Err(format!(
                "it replaces entry {}, but everything up to {} is compacted",
                first, self.start.last,
            ));
        }
        self.terms.truncate(first.index);
        self.configurations.retain(|(index, _)| *index < first.index);
        Ok(())
    }

    /// Adds the next entry.
    pub(super) fn append(&mut self, entry: EntryId) -> Result<(), String> {
        let last = self.terms.last();
        if entry.index != last.index.next() || !self.terms.push(entry.term) {
            return Err(format!("it puts entry {} after entry {last}", entry));
        }
        Ok(())
    }

    /// The entry at `index`, which is the last one, carries `configuration`.
    pub(super) fn configure(&mut self, index: LogIndex, configuration: Configuration) {
        self.configurations.push((index, configuration));
    }

    /// Replaces the hard state.
    pub(super) fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), String> {
        let last = self.terms.last();
        if hard_state.commit > last.index {
            return Err(format!(
                "it commits entry {}, but the log ends at {last}",
                hard_state.commit
            ));
        }
        self.hard_state = hard_state;
        Ok(())
    }
}
