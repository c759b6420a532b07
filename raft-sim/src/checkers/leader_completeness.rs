//! Leader completeness: an entry committed in a term is in the logs of the leaders of all later terms (§5.4).

use std::time::Duration;

use raft_rsm::raft_core::{EntryId, NodeId, Role, Term};

use super::{Checker, View};
use crate::event::Event;

/// Whoever is elected has all that is known to have been committed in earlier terms, and nobody puts another entry in
/// the place of a committed one.
#[derive(Copy, Clone, Debug)]
pub struct LeaderCompleteness;

impl LeaderCompleteness {
    fn elected(view: &View, node: NodeId, term: Term, last: EntryId) -> Result<(), String> {
        let Some(known) = view.node(node) else { return Ok(()) };
        for (index, committed) in view.committed().iter().rev() {
            if committed.known_in >= term {
                continue;
            }
            if *index > last.index {
                return Err(format!(
                    "node {node} leads term {term} with a log up to {last}, and {} was committed \
                     in term {} or before",
                    committed.entry.id, committed.known_in
                ));
            }
            if *index <= known.stored.log.start.index {
                break;
            }
            match known.stored.log.entries.get(index) {
                Some(entry) if *entry != committed.entry => {
                    return Err(format!(
                        "node {node} leads term {term} with {} where {} is committed",
                        entry.id, committed.entry.id
                    ));
                }
                // What is not there is still to be written, and looked at then.
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

impl Checker for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, _: Duration, before: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Role { node, role: Role::Leader, term, last, changed: true, .. } => {
                LeaderCompleteness::elected(before, *node, *term, *last)
            }
            Event::WriteBegan { node, entries, .. } => {
                let Some(known) = before.node(*node) else { return Ok(()) };
                for entry in entries {
                    let Some(committed) = before.committed().get(&entry.id.index) else { continue };
                    // An entry of an earlier term may still be replaced at a node that has heard nothing.
                    if committed.entry != *entry
                        && (known.role == Role::Leader && known.term > committed.known_in)
                    {
                        return Err(format!(
                            "node {node}, which leads term {}, writes {} where {} is committed",
                            known.term, entry.id, committed.entry.id
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
