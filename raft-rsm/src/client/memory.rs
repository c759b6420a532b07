//! What a client remembers from one operation to the next.

use std::time::Duration;

use raft_core::{LogIndex, NodeId};

use super::route::following;
use crate::status::Status;

/// Who can help with an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Leader,
    /// A follower, too: that it has answered does not make it the leader.
    Anyone,
}

/// Where operations begin, and how fresh the addresses are.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Who answered last as the leader ...
    leader: Option<NodeId>,
    /// ... and who answered last what anyone may.
    reader: Option<NodeId>,
    learned_at: Option<Duration>,
    /// How far the node had got of which the addresses were learned.
    learned_commit: LogIndex,
}

impl Memory {
    /// Where an operation begins.
    pub(super) fn first(&self, asked: Asked, nodes: &[NodeId]) -> Option<NodeId> {
        let remembered = match asked {
            Asked::Leader => self.leader,
            Asked::Anyone => self.reader.or(self.leader),
        };
        remembered.filter(|node| nodes.contains(node))
    }

    pub(super) fn remember(&mut self, asked: Asked, node: NodeId) {
        match asked {
            Asked::Leader => self.leader = Some(node),
            Asked::Anyone => self.reader = Some(node),
        }
    }

    /// The next operation does not begin at `node`, if it would.
    pub(super) fn forget(&mut self, node: NodeId, nodes: &[NodeId]) {
        for remembered in [&mut self.leader, &mut self.reader] {
            if *remembered == Some(node) {
                *remembered = following(node, nodes);
            }
        }
    }

    /// Whether to ask for the members now: any number of operations may meet the same hint at once.
    pub(super) fn may_learn(&mut self, now: Duration, pause: Duration) -> bool {
        let is_due = self.learned_at.is_none_or(|at| now.saturating_sub(at) >= pause);
        if is_due {
            self.learned_at = Some(now);
        }
        is_due
    }

    /// Whether a node knows at least as much as those who were asked before: one that was removed, or that is cut off,
    /// tells of members that are none any more.
    pub(super) fn is_news(&mut self, status: &Status) -> bool {
        let is_news = status.commit >= self.learned_commit;
        if is_news {
            self.learned_commit = status.commit;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    #[test]
    fn a_follower_that_answered_a_query_is_not_taken_for_the_leader() {
        let mut memory = Memory::default();
        memory.remember(Asked::Leader, NodeId(2));
        assert_eq!(memory.first(Asked::Anyone, &NODES), Some(NodeId(2)));
        memory.remember(Asked::Anyone, NodeId(3));
        assert_eq!(memory.first(Asked::Leader, &NODES), Some(NodeId(2)));
        assert_eq!(memory.first(Asked::Anyone, &NODES), Some(NodeId(3)));
    }

    #[test]
    fn whoever_did_not_answer_is_not_asked_first_the_next_time() {
        let mut memory = Memory::default();
        memory.remember(Asked::Leader, NodeId(3));
        memory.forget(NodeId(2), &NODES);
        assert_eq!(memory.first(Asked::Leader, &NODES), Some(NodeId(3)));
        memory.forget(NodeId(3), &NODES);
        assert_eq!(memory.first(Asked::Leader, &NODES), Some(NodeId(1)));
        assert_eq!(memory.first(Asked::Leader, &NODES[1..]), None);
    }

    #[test]
    fn members_are_asked_for_once_in_a_while() {
        let (mut memory, pause) = (Memory::default(), Duration::from_millis(10));
        let asked = [0, 1, 9, 10, 11].map(Duration::from_millis);
        let asked = asked.map(|now| memory.may_learn(now, pause));
        assert_eq!(asked, [true, false, false, true, false]);
    }

    #[test]
    fn whoever_lags_behind_has_nothing_to_tell_of_members() {
        let restored = raft_core::Restored::first_start(raft_core::Configuration::default());
        let node = raft_core::Node::new(raft_core::Options::new(NodeId(1)), restored).unwrap();
        let mut status = crate::raft::first_status(&node, None, 0);
        let mut memory = Memory::default();
        let mut is_news = |commit| {
            status.commit = LogIndex(commit);
            memory.is_news(&status)
        };
        assert_eq!([0, 7, 6, 7, 8].map(&mut is_news), [true, true, false, true, true]);
    }
}
