//! What a client remembers from one operation to the next.

use std::sync::Mutex;
use std::time::Duration;

use raft_core::{LogIndex, NodeId};

use super::route::following;
use crate::Runtime;
use crate::status::Status;
use crate::watch::lock;

/// While it is in use, a client asks for the members this often: so it knows somebody, also once all whom it was told of
/// have been replaced one after the other.
const LEARN_EACH: Duration = Duration::from_secs(30);

/// After a node that did not say who the members are, the next one is asked no sooner.
const LEARN_AGAIN: Duration = Duration::from_secs(1);

/// Who can help with an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Leader,
    /// A follower, too: that it has answered does not make it the leader.
    Anyone,
    /// Whoever has anything at all to say, of whichever cluster.
    Stale,
}

/// Where operations begin, and how fresh the addresses are.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Who answered last as the leader ...
    leader: Option<NodeId>,
    /// ... and who answered last what anyone may.
    reader: Option<NodeId>,
    /// When the members were asked for ...
    asked_at: Option<Duration>,
    /// ... and when somebody said who they are.
    learned_at: Option<Duration>,
    /// How far the node had got of which the members were learned ...
    learned_commit: LogIndex,
    /// ... and who they are.
    members: Vec<NodeId>,
    /// Whether the connector was told to stay with the cluster of a node that has answered.
    pub(super) stays: bool,
}

impl Memory {
    /// Where an operation begins.
    pub(super) fn first(&self, asked: Asked, nodes: &[NodeId]) -> Option<NodeId> {
        let remembered = match asked {
            Asked::Leader => self.leader,
            Asked::Anyone | Asked::Stale => self.reader.or(self.leader),
        };
        remembered.filter(|node| nodes.contains(node))
    }

    pub(super) fn remember(&mut self, asked: Asked, node: NodeId) {
        match asked {
            Asked::Leader => self.leader = Some(node),
            Asked::Anyone | Asked::Stale => self.reader = Some(node),
        }
    }

    /// The next operation does not begin at `node`, if it would.
    pub(super) fn forget(&mut self, node: NodeId, nodes: &[NodeId]) {
        // Where nobody has answered yet, it would begin at the same one each time.
        if self.leader.is_none_or(|leader| leader == node) {
            self.leader = following(node, nodes);
        }
        // Without a reader, the leader is asked.
        if self.reader == Some(node) {
            self.reader = following(node, nodes);
        }
    }

    /// Whether to ask for the members now: any number of operations may meet the same hint at once.
    pub(super) fn may_learn(&mut self, now: Duration, pause: Duration) -> bool {
        let is_due = self.asked_at.is_none_or(|at| now.saturating_sub(at) >= pause);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }

    /// Whether to ask for the members although all goes well, now that `node` has answered: the first time, once in a while,
    /// and if that node is not known to be one.
    pub(super) fn should_learn(&mut self, node: NodeId, now: Duration) -> bool {
        let is_old = self.learned_at.is_none_or(|at| now.saturating_sub(at) >= LEARN_EACH);
        let is_stranger = !self.members.is_empty() && !self.members.contains(&node);
        (is_old || is_stranger) && self.may_learn(now, LEARN_AGAIN)
    }

    /// Takes in who the members are, if the node knows at least as much as those who were asked before: one that was
    /// removed, or that is cut off, tells of members that are none any more.
    pub(super) fn learn(&mut self, status: &Status, now: Duration) -> bool {
        let is_news = status.commit >= self.learned_commit;
        if is_news {
            self.learned_at = Some(now);
            self.learned_commit = status.commit;
            self.members = status.configuration.members().iter().map(|member| member.id).collect();
            // Who is no member any more may answer for ever with what it had then.
            for remembered in [&mut self.leader, &mut self.reader] {
                *remembered = remembered.filter(|node| self.members.contains(node));
            }
        }
        is_news
    }

    /// Who of the nodes that can be called is a member; or all, if that is not known of any. Who was removed may be gone, and
    /// cost a time limit each time.
    pub(super) fn members_of(&self, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
        if nodes.iter().any(|node| self.members.contains(node)) {
            nodes.retain(|node| self.members.contains(node));
        }
        nodes
    }
}

/// A try of which there is no answer yet. Dropped with its operation, it has the next one begin elsewhere: a caller that
/// is less patient than the client would else meet the same hung node each time.
pub(super) struct UnderWay<'o> {
    runtime: &'o dyn Runtime,
    memory: &'o Mutex<Memory>,
    node: NodeId,
    nodes: &'o [NodeId],
    /// Until then a healthy node may be silent.
    silent_until: Duration,
    has_ended: bool,
}

impl<'o> UnderWay<'o> {
    /// A try at the first of `at`, which is one of the nodes beside it.
    pub(super) fn begin(
        runtime: &'o dyn Runtime,
        memory: &'o Mutex<Memory>,
        at: (NodeId, &'o [NodeId]),
        silent_max: Duration,
    ) -> UnderWay<'o> {
        let ((node, nodes), silent_until) = (at, runtime.now().saturating_add(silent_max));
        UnderWay { runtime, memory, node, nodes, silent_until, has_ended: false }
    }

    /// What came of it is known.
    pub(super) fn ended(mut self) {
        self.has_ended = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.has_ended && self.runtime.now() >= self.silent_until {
            lock(self.memory).forget(self.node, self.nodes);
        }
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
        // Who only reads asks the leader as long as nobody else has answered.
        memory.remember(Asked::Leader, NodeId(2));
        assert_eq!(memory.first(Asked::Anyone, &NODES), Some(NodeId(2)));
        memory.forget(NodeId(2), &NODES);
        memory.forget(NodeId(3), &NODES);
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
    fn members_are_asked_for_after_the_first_success_and_once_in_a_while_as_long_as_there_is_one() {
        let mut memory = Memory::default();
        let status = status();
        let mut asks = |at_secs| memory.should_learn(NodeId(1), Duration::from_secs(at_secs));
        assert_eq!([5, 5, 6].map(&mut asks), [true, false, true], "until somebody answers");
        memory.learn(&status, Duration::from_secs(6));
        let mut asks = |at_secs| memory.should_learn(NodeId(1), Duration::from_secs(at_secs));
        assert_eq!([7, 35, 36, 36].map(&mut asks), [false, false, true, false]);
        memory.learn(&status, Duration::from_secs(40));
        assert!(!memory.should_learn(NodeId(1), Duration::from_secs(69)));
    }

    /// One that lags behind may have told of members that are gone.
    #[test]
    fn members_are_asked_for_when_one_answers_that_is_not_known_to_be_one() {
        let mut memory = Memory::default();
        let member = raft_core::Member::new(NodeId(1), "host:1");
        let configuration = raft_core::Configuration::of_members([member], [], []);
        memory.learn(&Status { configuration, ..status() }, Duration::ZERO);
        let now = Duration::from_secs(5);
        assert!(!memory.should_learn(NodeId(1), now));
        assert!(memory.should_learn(NodeId(4), now));
        assert!(!memory.should_learn(NodeId(4), now), "once a second");
    }

    fn status() -> Status {
        let restored = raft_core::Restored::first_start(raft_core::Configuration::default());
        let node = raft_core::Node::new(raft_core::Options::new(NodeId(1)), restored).unwrap();
        crate::raft::first_status(&node, None, 0, &crate::Options::new(NodeId(1)))
    }

    #[test]
    fn members_come_first_as_long_as_one_of_them_can_be_called() {
        let mut memory = Memory::default();
        assert_eq!(memory.members_of(NODES.to_vec()), NODES);
        let members = [2, 3, 4].map(|id| raft_core::Member::new(NodeId(id), "host:1"));
        let configuration = raft_core::Configuration::of_members(members, [], []);
        memory.learn(&Status { configuration, ..status() }, Duration::ZERO);
        assert_eq!(memory.members_of(NODES.to_vec()), NODES[1..]);
        assert_eq!(memory.members_of(vec![NodeId(1), NodeId(9)]), [NodeId(1), NodeId(9)]);
    }

    #[test]
    fn whoever_lags_behind_has_nothing_to_tell_of_members() {
        let mut status = status();
        let mut memory = Memory::default();
        let mut is_news = |commit| {
            status.commit = LogIndex(commit);
            memory.learn(&status, Duration::ZERO)
        };
        assert_eq!([0, 7, 6, 7, 8].map(&mut is_news), [true, true, false, true, true]);
    }
}
