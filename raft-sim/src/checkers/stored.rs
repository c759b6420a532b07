//! What a node's disk holds, by what was written to it and acknowledged.

use std::collections::BTreeMap;

use raft_rsm::raft_core::{EntryId, HardState, LogIndex, Vote, WriteId};

use crate::event::{EntrySummary, Event};

/// A log as it was written.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The entry before the first: what is up to here is compacted.
    pub start: EntryId,
    /// The entries.
    pub entries: BTreeMap<LogIndex, EntrySummary>,
}

/// What a node has written.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// What was acknowledged.
    pub durable: State,
    /// What is being written: after a crash, all of it is there or nothing.
    pub writing: Option<Writing>,
    /// The log with what is being written.
    pub log: Log,
}

/// Log and hard state at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The hard state.
    pub hard_state: HardState,
    /// The log.
    pub log: Log,
}

/// A write, without the payloads.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Its name.
    pub id: WriteId,
    reset: Option<EntryId>,
    compact: Option<EntryId>,
    entries: Vec<EntrySummary>,
    hard_state: Option<HardState>,
}

/// What a node finds on its disk when it starts.
#[derive(Copy, Clone, Debug)]
pub(super) struct Found<'e> {
    hard_state: HardState,
    start: EntryId,
    last: EntryId,
    runs: &'e [EntryId],
}

impl Stored {
    pub(super) fn observe(&mut self, event: &Event) {
        match event {
            Event::Started { .. } => {
                if let Some(found) = Found::of(event) {
                    self.started(found);
                }
            }
            Event::WriteBegan { reset, compact, entries, .. } => {
                self.log.write(*reset, *compact, entries);
                self.writing = Writing::of(event);
            }
            Event::WriteEnded { id, error: None, .. } => {
                if let Some(writing) = self.writing.take_if(|writing| writing.id == *id) {
                    self.durable.write(&writing);
                }
            }
            _ => {}
        }
    }

    /// Whether this is what was acknowledged, with the write that a crash has interrupted or without it.
    pub(super) fn check(&self, found: Found<'_>) -> Result<(), String> {
        let without = self.durable.check(found);
        match &self.writing {
            Some(writing) if without.is_err() => {
                self.durable.with(writing).check(found).or(without)
            }
            Some(_) | None => without,
        }
    }

    /// From here on, what was found counts.
    fn started(&mut self, found: Found<'_>) {
        if let Some(writing) = self.writing.take() {
            let with = self.durable.with(&writing);
            let ends = (with.log.start, with.log.end());
            if with.check(found).is_ok() && ends == (found.start, found.last.index) {
                self.durable = with;
            }
        }
        self.durable.hard_state = found.hard_state;
        let log = &mut self.durable.log;
        log.start = found.start;
        log.entries.retain(|index, _| *index > found.start.index && *index <= found.last.index);
        self.log = log.clone();
    }
}

impl State {
    fn write(&mut self, write: &Writing) {
        self.log.write(write.reset, write.compact, &write.entries);
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }

    fn with(&self, write: &Writing) -> State {
        let mut with = self.clone();
        with.write(write);
        with
    }

    /// Whether all of this state was found.
    fn check(&self, found: Found<'_>) -> Result<(), String> {
        let (old, new) = (self.hard_state, found.hard_state);
        if new.term < old.term {
            return Err(format!("its term went back from {} to {}", old.term, new.term));
        }
        if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
            let (old_vote, new_vote) = (name(old.vote), name(new.vote));
            return Err(format!("its vote in term {} was {old_vote}, and is {new_vote}", old.term));
        }
        if new.commit < old.commit {
            return Err(format!(
                "its commit index went back from {} to {}",
                old.commit, new.commit
            ));
        }
        if found.last.index < self.log.end() {
            let end = self.log.end();
            return Err(format!("its log was durable up to {end} and ends at {}", found.last));
        }
        for entry in self.log.entries.values() {
            if entry.id.index <= found.start.index {
                continue;
            }
            let run = found.runs.iter().find(|run| run.index >= entry.id.index);
            if run.is_none_or(|run| run.term != entry.id.term) {
                return Err(format!("its durable entry {} is gone", entry.id));
            }
        }
        Ok(())
    }
}

fn name(vote: Option<Vote>) -> String {
    vote.map_or("nobody".to_owned(), |vote| vote.to_string())
}

impl Writing {
    fn of(event: &Event) -> Option<Writing> {
        let Event::WriteBegan { id, reset, compact, entries, hard_state, .. } = event else {
            return None;
        };
        Some(Writing {
            id: *id,
            reset: *reset,
            compact: *compact,
            entries: entries.clone(),
            hard_state: *hard_state,
        })
    }
}

impl Found<'_> {
    pub(super) fn of(event: &Event) -> Option<Found<'_>> {
        let Event::Started { hard_state, start, last, runs, .. } = event else { return None };
        Some(Found { hard_state: *hard_state, start: *start, last: *last, runs })
    }
}

impl Log {
    /// The id of the entry at an index, or of the one before the first; `None` if it is not there.
    #[must_use]
    pub fn id(&self, index: LogIndex) -> Option<EntryId> {
        if index == self.start.index {
            return Some(self.start);
        }
        self.entries.get(&index).map(|entry| entry.id)
    }

    /// The index of the last entry.
    #[must_use]
    pub fn end(&self) -> LogIndex {
        self.entries.last_key_value().map_or(self.start.index, |(index, _)| *index)
    }

    fn write(
        &mut self,
        reset: Option<EntryId>,
        compact: Option<EntryId>,
        entries: &[EntrySummary],
    ) {
        if let Some(end) = reset {
            self.start = end;
            self.entries.clear();
        }
        if let Some(end) = compact {
            self.start = end;
            self.entries = self.entries.split_off(&end.index.next());
        }
        if let Some(first) = entries.first() {
            self.entries.split_off(&first.id.index);
            self.entries.extend(entries.iter().map(|entry| (entry.id.index, *entry)));
        }
    }
}
