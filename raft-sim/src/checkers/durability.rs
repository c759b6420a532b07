//! What a disk has acknowledged survives: term and vote (Fig. 2), the commit index written beside them, the entries.
//! And within one life none of them goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{LogIndex, NodeId, Term};

use super::stored::Found;
use super::{Checker, View};
use crate::event::Event;

/// Compares what a node finds on its disk with what was acknowledged before.
#[derive(Debug, Default)]
pub struct Durability {
    /// Term and commit index of the present life.
    nodes: BTreeMap<NodeId, (Term, LogIndex)>,
}

impl Checker for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn observe(&mut self, _: Duration, before: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Started { node, hard_state, .. } => {
                self.nodes.insert(*node, (hard_state.term, LogIndex::ZERO));
                let stored = before.node(*node).map(|node| &node.stored);
                let Some((stored, found)) = stored.zip(Found::of(event)) else { return Ok(()) };
                let problem = |problem| format!("node {node} restarts and {problem}");
                stored.check(found).map_err(problem)
            }
            Event::WriteBegan { node, id, .. } => {
                let stored = before.node(*node).map(|node| &node.stored);
                match stored.and_then(|stored| stored.writing.as_ref()) {
                    Some(other) => {
                        Err(format!("node {node} writes {} beside {}", id.0, other.id.0))
                    }
                    None => Ok(()),
                }
            }
            Event::Role { node, term, .. } => {
                let (before, _) = self.nodes.entry(*node).or_default();
                let old = std::mem::replace(before, *term);
                if *term < old {
                    return Err(format!("the term of node {node} went back from {old} to {term}"));
                }
                Ok(())
            }
            Event::Progress { node, commit, .. } => {
                let (_, before) = self.nodes.entry(*node).or_default();
                let old = std::mem::replace(before, *commit);
                if *commit < old {
                    return Err(format!(
                        "the commit index of node {node} went back from {old} to {commit}"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
