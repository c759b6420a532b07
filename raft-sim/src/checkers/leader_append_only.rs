//! Leader append-only: a leader never overwrites or deletes entries in its log; it only appends new ones (§5.3).

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{EntryId, LogIndex, NodeId, Role, Term};

use super::{Checker, View};
use crate::event::{EntrySummary, Event};

/// While a node leads, its log does not get shorter, no place in it gets a second entry, and entries of its term
/// come after all that it had when it was elected.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly {
    leads: BTreeMap<NodeId, Lead>,
}

#[derive(Debug)]
struct Lead {
    term: Term,
    /// The last entry when it was elected.
    elected_with: EntryId,
    last: EntryId,
    written: BTreeMap<LogIndex, EntrySummary>,
}

impl Lead {
    fn grows(&mut self, node: NodeId, last: EntryId) -> Result<(), String> {
        if last.index < self.last.index {
            return Err(format!(
                "the log of node {node} went back from {} to {last} while it led term {}",
                self.last, self.term
            ));
        }
        self.last = last;
        Ok(())
    }

    fn writes(&mut self, node: NodeId, entry: EntrySummary) -> Result<(), String> {
        let first = *self.written.entry(entry.id.index).or_insert(entry);
        if first != entry {
            return Err(format!(
                "node {node} wrote {} and then {} while it led term {}",
                first.id, entry.id, self.term
            ));
        }
        if entry.id.term == self.term && entry.id.index <= self.elected_with.index {
            return Err(format!(
                "node {node} was elected to term {} with a log up to {} and writes {}",
                self.term, self.elected_with, entry.id
            ));
        }
        Ok(())
    }
}

impl Checker for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Role { node, role: Role::Leader, term, last, .. } => {
                let lead = self.leads.entry(*node).or_insert_with(|| Lead::new(*term, *last));
                if lead.term != *term {
                    *lead = Lead::new(*term, *last);
                }
                lead.grows(*node, *last)
            }
            Event::Role { node, .. }
            | Event::Crashed { node, .. }
            | Event::Stopped { node, .. } => {
                self.leads.remove(node);
                Ok(())
            }
            Event::Progress { node, last, .. } => match self.leads.get_mut(node) {
                Some(lead) => lead.grows(*node, *last),
                None => Ok(()),
            },
            Event::WriteBegan { node, entries, reset, .. } => {
                let Some(lead) = self.leads.get_mut(node) else { return Ok(()) };
                if reset.is_some() {
                    return Err(format!("node {node} replaced its log while it led"));
                }
                entries.iter().try_for_each(|entry| lead.writes(*node, *entry))
            }
            _ => Ok(()),
        }
    }
}

impl Lead {
    fn new(term: Term, last: EntryId) -> Lead {
        // Where entries of its term are in it already, nobody knows any more.
        let elected_with = if last.term == term { EntryId::ZERO } else { last };
        Lead { term, elected_with, last, written: BTreeMap::new() }
    }
}
