//! What is known of a cluster from what happened so far: kept once, for all checkers.

use std::collections::BTreeMap;

use raft_rsm::raft_core::{
    Configuration, EntryId, HardState, Incarnation, LogIndex, NodeId, Role, Term,
};

use super::stored::Stored;
use crate::event::{EntrySummary, Event};

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: BTreeMap<NodeId, NodeView>,
    committed: BTreeMap<LogIndex, Committed>,
    /// Everything up to here was said to be committed by some node.
    commit: LogIndex,
    /// Everything up to here is among `committed`, or was compacted before it could be.
    learned: LogIndex,
}

/// What is known of a node.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Whether it runs.
    pub is_running: bool,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: LogIndex,
    /// What its machine has applied.
    pub applied: LogIndex,
    /// The last entry of its log, as it says itself.
    pub last: EntryId,
    /// The size of its log on disk, in bytes.
    pub log_bytes: u64,
    /// The size of its newest snapshot's image, in bytes, where it is known.
    pub image_bytes: u64,
    /// The incarnation under which it speaks.
    pub incarnation: Incarnation,
    /// The members, as of the latest configuration in its log.
    pub configuration: Configuration,
    /// It has lost its disk, and is not yet again what it was.
    pub is_wiped: bool,
    /// What it has written to its disk.
    pub stored: Stored,
}

/// A committed entry.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry.
    pub entry: EntrySummary,
    /// The term of the node that was the first to know: it was committed in this one or an earlier one.
    pub known_in: Term,
}

impl View {
    /// What is known of a node; `None` before it was started for the first time.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.get(&id)
    }

    /// All nodes that were ever started.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeView)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The committed entries that are known, by their index.
    #[must_use]
    pub fn committed(&self) -> &BTreeMap<LogIndex, Committed> {
        &self.committed
    }

    /// The greatest commit index that a node had.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// Who leads the latest term that anybody leads.
    #[must_use]
    pub fn leader(&self) -> Option<(NodeId, &NodeView)> {
        let leaders = self.nodes().filter(|(_, node)| node.is_running && node.role == Role::Leader);
        leaders.max_by_key(|(_, node)| node.term)
    }

    /// The members, as whoever leads knows them, each with what is known of it; all nodes, where nobody leads.
    #[must_use]
    pub fn members(&self) -> Vec<(NodeId, &NodeView)> {
        let configuration = self.leader().map(|(_, leader)| &leader.configuration);
        let known = configuration.filter(|configuration| !configuration.voters().is_empty());
        self.nodes().filter(|(id, _)| known.is_none_or(|known| known.contains(*id))).collect()
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Started { node, hard_state, last, .. } => {
                let known = self.nodes.entry(*node).or_insert_with(NodeView::new);
                known.started(*hard_state, *last);
                known.stored.observe(event);
            }
            Event::Crashed { node, .. } | Event::Stopped { node, .. } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.is_running = false;
                    node.role = Role::Follower;
                }
            }
            Event::Role { node, role, term, last, .. } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    (node.role, node.term, node.last) = (*role, *term, *last);
                }
            }
            Event::Progress { node: id, commit, applied, last, log_bytes, image_bytes, .. } => {
                if let Some(node) = self.nodes.get_mut(id) {
                    (node.commit, node.applied, node.last) = (*commit, *applied, *last);
                    (node.log_bytes, node.image_bytes) = (*log_bytes, *image_bytes);
                }
                self.learn_commits(*id);
            }
            Event::WriteBegan { node: id, .. } | Event::WriteEnded { node: id, .. } => {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.stored.observe(event);
                }
            }
            Event::Configured { node, incarnation, configuration, .. } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    (node.incarnation, node.configuration) = (*incarnation, configuration.clone());
                }
            }
            // It forgets, and nobody may hold that against it.
            Event::Wiped { node } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.stored = Stored::default();
                    node.is_wiped = true;
                }
            }
            Event::Readmitted { node } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.is_wiped = false;
                }
            }
            Event::HandingOver { .. }
            | Event::Operated { .. }
            | Event::NotStarted { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Applied { .. }
            | Event::Restored { .. }
            | Event::SnapshotStored { .. }
            | Event::Sent { .. }
            | Event::Delivered { .. }
            | Event::Lost { .. }
            | Event::Asked { .. }
            | Event::RequestArrived { .. }
            | Event::CallEnded { .. }
            | Event::OperationBegan { .. }
            | Event::OperationEnded { .. }
            | Event::Fault { .. }
            | Event::FaultEnded { .. }
            | Event::Healed => {}
        }
    }

    /// Takes the entries that a node has applied from its log: they are committed, and durable there.
    fn learn_commits(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        self.commit = self.commit.max(node.commit);
        if node.applied <= self.learned {
            return;
        }
        let log = &node.stored.log;
        for (index, entry) in log.entries.range(self.learned.next()..=node.applied) {
            let new = Committed { entry: *entry, known_in: node.term };
            self.committed.entry(*index).or_insert(new);
        }
        self.learned = self.learned.max(log.start.index.min(node.applied));
        while self.committed.contains_key(&self.learned.next()) {
            self.learned = self.learned.next();
        }
    }
}

impl NodeView {
    fn new() -> NodeView {
        NodeView {
            is_running: false,
            role: Role::Follower,
            term: Term(0),
            commit: LogIndex::ZERO,
            applied: LogIndex::ZERO,
            last: EntryId::ZERO,
            log_bytes: 0,
            image_bytes: 0,
            incarnation: Incarnation::default(),
            configuration: Configuration::default(),
            is_wiped: false,
            stored: Stored::default(),
        }
    }

    fn started(&mut self, hard_state: HardState, last: EntryId) {
        self.is_running = true;
        self.role = Role::Follower;
        self.term = hard_state.term;
        self.commit = LogIndex::ZERO;
        self.applied = LogIndex::ZERO;
        self.last = last;
    }
}
