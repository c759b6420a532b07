//! What a disk has acknowledged survives: term and vote (Fig. 2), the commit index written beside them, the entries.
//! And within one life none of them goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{EntryId, HardState, LogIndex, NodeId, Term, WriteId};

use super::{Checker, Log, View};
use crate::event::{EntrySummary, Event};

/// Compares what a node finds on its disk with what was acknowledged before.
#[derive(Debug, Default)]
pub struct Durability {
    nodes: BTreeMap<NodeId, Disk>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    /// What was acknowledged.
    durable: State,
    /// What is being written: it may be there after a crash, all of it, or not.
    writing: Option<Writing>,
    term: Term,
    commit: LogIndex,
}

#[derive(Clone, Debug, Default)]
struct State {
    hard_state: HardState,
    log: Log,
}

#[derive(Clone, Debug)]
struct Writing {
    id: WriteId,
    reset: Option<EntryId>,
    compact: Option<EntryId>,
    entries: Vec<EntrySummary>,
    hard_state: Option<HardState>,
}

/// What a node finds when it starts.
struct Found<'e> {
    hard_state: HardState,
    start: EntryId,
    last: EntryId,
    runs: &'e [EntryId],
}

impl State {
    fn write(&mut self, write: &Writing) {
        self.log.write(write.reset, write.compact, &write.entries);
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }

    /// Whether this state is what was found.
    fn check(&self, found: &Found<'_>) -> Result<(), String> {
        let (old, new) = (self.hard_state, found.hard_state);
        if new.term < old.term {
            return Err(format!("its term went back from {} to {}", old.term, new.term));
        }
        if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
            let vote = |vote: Option<NodeId>| vote.map_or("nobody".to_owned(), |id| id.to_string());
            let (old_vote, new_vote) = (vote(old.vote), vote(new.vote));
            return Err(format!("its vote in term {} was {old_vote}, and is {new_vote}", old.term));
        }
        if new.commit < old.commit {
            return Err(format!(
                "its commit index went back from {} to {}",
                old.commit, new.commit
            ));
        }
        if let Some((_, last)) = self.log.entries.last_key_value()
            && found.last.index < last.id.index
        {
            return Err(format!(
                "its log was durable up to {} and ends at {}",
                last.id, found.last
            ));
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

impl Disk {
    fn started(&mut self, found: &Found<'_>) -> Result<(), String> {
        self.term = found.hard_state.term;
        self.commit = LogIndex::ZERO;
        let interrupted = self.writing.take();
        let mut outcome = self.durable.check(found);
        if let Some(write) = interrupted {
            let mut with = self.durable.clone();
            with.write(&write);
            if with.check(found).is_ok() {
                // A write that cuts the log may not be there: then the older state fits as well.
                if outcome.is_err() || found.last.index >= with.log.end() {
                    self.durable = with;
                }
                outcome = Ok(());
            }
        }
        outcome?;
        // Whatever is there now was read, and counts from here on.
        self.durable.hard_state = found.hard_state;
        self.durable.log.start = found.start;
        let (first, last) = (found.start.index, found.last.index);
        self.durable.log.entries.retain(|index, _| *index > first && *index <= last);
        Ok(())
    }
}

impl Checker for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Started { node, hard_state, start, last, runs } => {
                let found = Found { hard_state: *hard_state, start: *start, last: *last, runs };
                let disk = self.nodes.entry(*node).or_default();
                disk.started(&found)
                    .map_err(|problem| format!("node {node} restarts and {problem}"))
            }
            Event::WriteBegan { node, id, reset, compact, entries, hard_state } => {
                let disk = self.nodes.entry(*node).or_default();
                if let Some(other) = &disk.writing {
                    return Err(format!("node {node} writes {} beside {}", id.0, other.id.0));
                }
                disk.writing = Some(Writing {
                    id: *id,
                    reset: *reset,
                    compact: *compact,
                    entries: entries.clone(),
                    hard_state: *hard_state,
                });
                Ok(())
            }
            Event::WriteEnded { node, id, error: None } => {
                let disk = self.nodes.entry(*node).or_default();
                if let Some(write) = disk.writing.take_if(|writing| writing.id == *id) {
                    disk.durable.write(&write);
                }
                Ok(())
            }
            Event::Role { node, term, .. } => {
                let disk = self.nodes.entry(*node).or_default();
                if *term < disk.term {
                    return Err(format!(
                        "the term of node {node} went back from {} to {term}",
                        disk.term
                    ));
                }
                disk.term = *term;
                Ok(())
            }
            Event::Progress { node, commit, .. } => {
                let disk = self.nodes.entry(*node).or_default();
                if *commit < disk.commit {
                    let before = disk.commit;
                    return Err(format!(
                        "the commit index of node {node} went back from {before} to {commit}"
                    ));
                }
                disk.commit = *commit;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
