//! State machine safety: no two nodes apply different entries at the same index (§5.4.3), none leaves one out, and the
//! machines give the same responses.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{LogIndex, NodeId, Term};

use super::{Checker, View};
use crate::event::{Digest, Event};

/// Compares what the nodes apply, over all their lives.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    applied: BTreeMap<LogIndex, Applied>,
    /// The last entry in the state of each node.
    positions: BTreeMap<NodeId, LogIndex>,
}

#[derive(Copy, Clone, Debug)]
struct Applied {
    node: NodeId,
    term: Term,
    command: Digest,
    response: Digest,
}

impl StateMachineSafety {
    fn apply(&mut self, index: LogIndex, new: Applied) -> Result<(), String> {
        let node = new.node;
        let before = self.positions.insert(node, index).unwrap_or_default();
        if index <= before {
            return Err(format!("node {node} applied {index} after {before}"));
        }
        if let Some((left_out, _)) = self.applied.range(before.next()..index).next() {
            return Err(format!(
                "node {node} applied {index} after {before} and left out {left_out}"
            ));
        }
        // What comes in between in time must not be in between in the log.
        if !self.applied.contains_key(&index)
            && let Some((other, position)) = self.positions.iter().find(|(_, at)| **at > index)
        {
            return Err(format!(
                "node {node} applied {index}, which node {other} left out: it is at {position}"
            ));
        }
        let first = *self.applied.entry(index).or_insert(new);
        if (first.term, first.command) != (new.term, new.command) {
            return Err(format!(
                "node {} applied another command at {index} (term {}) than node {node} (term {})",
                first.node, first.term, new.term
            ));
        }
        if first.response != new.response {
            return Err(format!(
                "the machines of node {} and node {node} answered differently to the same command \
                 at {index}: the machine is not deterministic, or a restored state differs",
                first.node
            ));
        }
        Ok(())
    }
}

impl Checker for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Applied { node, id, command, response } => {
                let (term, command, response) = (id.term, *command, *response);
                self.apply(id.index, Applied { node: *node, term, command, response })
            }
            Event::Restored { node, last } => {
                let before = self.positions.insert(*node, last.index).unwrap_or_default();
                if last.index < before {
                    return Err(format!("node {node} went back from {before} to {last}"));
                }
                Ok(())
            }
            // Its machine begins anew.
            Event::Started { node, .. } => {
                self.positions.remove(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
