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

#[cfg(test)]
mod tests {
    use raft_rsm::raft_core::{EntryId, HardState};

    use super::super::told::{
        assert_caught, commits, crashed, entry, follows, hard_state, node, started, started_with,
        summary, tell, writes, writes_state, written,
    };
    use super::*;

    /// Node 1 has written two entries of term 1, and its vote in term 3; then this happens.
    fn check(then: &[Event]) -> Result<(), String> {
        let durable = [
            started(1),
            writes(1, 1, &[summary(1, 1), summary(1, 2)]),
            written(1, 1),
            writes_state(1, 2, &[], Some(hard_state(3, Some(2), 1))),
            written(1, 2),
        ];
        tell(Durability::default(), &[&durable, then].concat())
    }

    fn restarts(hard_state: HardState, last: EntryId) -> [Event; 2] {
        [crashed(1), started_with(1, hard_state, last)]
    }

    #[test]
    fn a_node_that_finds_what_it_wrote_is_fine() {
        assert_eq!(check(&restarts(hard_state(3, Some(2), 1), entry(1, 2))), Ok(()));
    }

    #[test]
    fn a_write_that_a_crash_has_interrupted_is_there_or_not() {
        let writes = writes_state(1, 3, &[summary(3, 3)], Some(hard_state(4, None, 2)));
        let without = restarts(hard_state(3, Some(2), 1), entry(1, 2));
        let with = Event::Started {
            node: node(1),
            hard_state: hard_state(4, None, 2),
            start: EntryId::ZERO,
            last: entry(3, 3),
            runs: vec![entry(1, 2), entry(3, 3)],
        };
        let story = |acknowledged: &[Event], found: &Event| {
            check(
                &[std::slice::from_ref(&writes), acknowledged, &[crashed(1), found.clone()]]
                    .concat(),
            )
        };
        assert_eq!(story(&[], &without[1]), Ok(()));
        assert_eq!(story(&[], &with), Ok(()));
        assert_eq!(story(&[written(1, 3)], &with), Ok(()));
        assert_caught(story(&[written(1, 3)], &without[1]), "its term went back");
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_caught() {
        let vote = hard_state(3, Some(2), 1);
        assert_caught(check(&restarts(vote, entry(1, 1))), "durable up to 2 and ends at 1.1");
        assert_caught(check(&restarts(vote, entry(2, 2))), "durable entry 1.1 is gone");
        let older = hard_state(2, None, 1);
        assert_caught(check(&restarts(older, entry(1, 2))), "its term went back from 3 to 2");
        let forgotten = hard_state(3, None, 1);
        let said = check(&restarts(forgotten, entry(1, 2)));
        assert_caught(
            said,
            "its vote in term 3 was node 2 (incarnation 0000000000000000), and is nobody",
        );
        let commit = hard_state(3, Some(2), 0);
        assert_caught(check(&restarts(commit, entry(1, 2))), "commit index went back from 1 to 0");
    }

    #[test]
    fn what_goes_back_within_a_life_is_caught() {
        let last = entry(1, 2);
        let terms = [follows(1, 4, last), follows(1, 3, last)];
        assert_caught(check(&terms), "went back from 4 to 3");
        let commits = [commits(1, 2, last), commits(1, 1, last)];
        assert_caught(check(&commits), "commit index of node 1 went back from 2 to 1");
    }

    #[test]
    fn two_writes_at_the_same_time_are_caught() {
        let story = [writes(1, 3, &[summary(3, 3)]), writes(1, 4, &[summary(3, 4)])];
        assert_caught(check(&story), "writes 4 beside 3");
    }
}
