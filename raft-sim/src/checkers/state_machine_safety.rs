//! State machine safety: no two nodes apply different entries at the same index (§5.4.3), none leaves one out, and the
//! machines give the same responses; so no node ever finds that it has diverged.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::StopReason;
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
            let where_else = match first.node {
                other if other == node => "in an earlier life".to_owned(),
                other => format!("at node {other}"),
            };
            return Err(format!(
                "the machine of node {node} answers the command at {index} otherwise than \
                 {where_else}: the machine is not deterministic, or a restored state differs"
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
            Event::Stopped { node, reason: reason @ StopReason::Diverged { .. }, .. } => {
                Err(format!("node {node} has stopped: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{assert_caught, entry, node, started, tell};
    use super::*;

    fn check(story: &[Event]) -> Result<(), String> {
        tell(StateMachineSafety::default(), story)
    }

    fn applies(id: u64, index: u64) -> Event {
        answers(id, index, index)
    }

    fn answers(id: u64, index: u64, response: u64) -> Event {
        let (command, response) = (Digest(index), Digest(response));
        Event::Applied { node: node(id), id: entry(1, index), command, response }
    }

    fn restored(id: u64, index: u64) -> Event {
        Event::Restored { node: node(id), last: entry(1, index) }
    }

    #[test]
    fn nodes_that_apply_the_same_in_order_are_fine_in_all_their_lives() {
        let story = [
            applies(1, 1),
            // Not every entry is a command.
            applies(1, 3),
            applies(2, 1),
            applies(2, 3),
            started(2),
            applies(2, 1),
            restored(2, 3),
            applies(1, 4),
            applies(2, 4),
        ];
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn another_entry_at_the_same_index_is_caught() {
        let Event::Applied { node, id, response, .. } = applies(2, 1) else { unreachable!() };
        let other = Event::Applied { node, id, command: Digest(9), response };
        assert_caught(check(&[applies(1, 1), other]), "another command at 1");
    }

    #[test]
    fn another_response_is_caught() {
        let story = [answers(1, 1, 5), answers(2, 1, 6)];
        assert_caught(check(&story), "otherwise than");
    }

    #[test]
    fn a_node_that_finds_that_it_has_diverged_is_caught() {
        let (index, agreed) = (LogIndex(20), Some(LogIndex(10)));
        let reason = StopReason::Diverged { index, agreed, own: 1, majority: 2 };
        let stopped = Event::Stopped { node: node(1), reason, was_asked: false };
        assert_caught(check(&[stopped]), "diverged from the majority between index 10 and 20");
    }

    #[test]
    fn what_is_left_out_or_done_twice_is_caught() {
        assert_caught(check(&[applies(1, 1), applies(1, 2), applies(1, 2)]), "applied 2 after 2");
        let story = [applies(1, 1), applies(1, 2), applies(1, 3), applies(2, 1), applies(2, 3)];
        assert_caught(check(&story), "left out 2");
        let story = [applies(1, 1), applies(1, 3), applies(2, 1), applies(2, 2)];
        assert_caught(check(&story), "node 1 left out");
    }

    #[test]
    fn a_restore_that_goes_back_is_caught() {
        assert_caught(check(&[applies(1, 5), restored(1, 3)]), "went back from 5");
    }
}
