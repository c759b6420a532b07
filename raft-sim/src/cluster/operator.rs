//! What an operator does to nodes, and what happens to their disks.

use raft_rsm::StateMachine;
use raft_rsm::raft_core::{Incarnation, NodeId};

use super::Cluster;
use crate::event::{Crash, Event};

/// How a node comes back after its disk was lost.
#[derive(Copy, Clone, Debug)]
pub(super) enum Lost {
    /// Its operator knows: it waits, as another incarnation, to be made a member again.
    Noticed,
    /// Nobody knows: it starts as for the first time, as the incarnation that it was.
    Unnoticed(Incarnation),
}

impl<M: StateMachine> Cluster<M> {
    /// A node loses its disk, and its life if it has one. When it is started it is another incarnation, without a
    /// configuration: it counts for nothing until a change of membership makes it a member as that.
    pub fn wipe(&self, id: NodeId) {
        self.lose_disk(id, Lost::Noticed);
    }

    /// A node loses its disk, and its life if it has one, and nobody notices: when it is started it begins as it did for
    /// the first time, as the incarnation that it was. It has forgotten its votes and acknowledgements, which count all
    /// the same: no Raft survives that.
    pub fn wipe_unnoticed(&self, id: NodeId) {
        let incarnation = self.nodes().get(&id).and_then(|node| node.incarnation);
        self.lose_disk(id, incarnation.map_or(Lost::Noticed, Lost::Unnoticed));
    }

    fn lose_disk(&self, id: NodeId, lost: Lost) {
        self.crash(id, Crash::PowerLost);
        self.disk(id).wipe();
        if let Some(node) = self.nodes().get_mut(&id) {
            (node.has_data, node.lost, node.incarnation) = (false, Some(lost), None);
        }
        self.tell(Event::Wiped { node: id });
    }

    /// How often a node was started, if it runs.
    #[must_use]
    pub fn life(&self, id: NodeId) -> Option<u64> {
        let nodes = self.nodes();
        let node = nodes.get(&id)?;
        node.life.as_ref().map(|_| node.lives)
    }

    /// If a node hands the lead over from now on, it was asked to.
    pub(crate) fn will_hand_over(&self, id: NodeId) {
        if let Some(life) = self.nodes().get_mut(&id).and_then(|node| node.life.as_mut()) {
            life.is_to_hand_over = true;
        }
    }

    /// If a node hands the lead over from now on, nobody has asked it to.
    pub(crate) fn will_lead_on(&self, id: NodeId) {
        if let Some(life) = self.nodes().get_mut(&id).and_then(|node| node.life.as_mut()) {
            life.is_to_hand_over = false;
        }
    }
}
