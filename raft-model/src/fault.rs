//! Errors that can be planted, so that it is seen that the checker finds them.
//!
//! All of them are planted where a node meets the model, as a driver, a disk or a network would break it. There is no switch
//! for them in the core.

use raft_core::{Envelope, Incarnation, LogIndex, Message, Node, Role};

use crate::disk::Disk;

/// An error that is planted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A disk forgets at a crash for whom its node voted, so the node votes twice in a term (§5.2).
    ForgetsVote,
    /// A disk forgets at a crash what its node has acknowledged (§5.3).
    ForgetsEntries,
    /// After a crash, a node takes the first configuration to be in force, and not the latest in its log (§6).
    ForgetsConfiguration,
    /// A leader tells others that an entry of an older term is committed because a majority holds it (§5.4.2, Figure 8).
    ///
    /// A follower cannot tell that from a leader whose rule of commitment is wrong: it is told a commit index, and
    /// applies. So it is the same error as seen from everywhere but within the leader, without a switch in the core.
    CountsOldTerms,
}

impl Fault {
    /// What a crash does to `disk`.
    pub(crate) fn crash(self, disk: &mut Disk) {
        match self {
            Fault::ForgetsVote => disk.hard_state.vote = None,
            Fault::ForgetsEntries => {
                disk.entries.clear();
                disk.hard_state.commit = LogIndex::ZERO;
            }
            Fault::ForgetsConfiguration | Fault::CountsOldTerms => {}
        }
    }

    /// What `node` says beyond what it should.
    pub(crate) fn lies(self, node: &Node) -> Vec<Envelope> {
        match self {
            Fault::CountsOldTerms => count_old_terms(node),
            Fault::ForgetsVote | Fault::ForgetsEntries | Fault::ForgetsConfiguration => Vec::new(),
        }
    }
}

/// The heartbeats of a leader that commits by counting alone. Its configuration is not joint.
fn count_old_terms(node: &Node) -> Vec<Envelope> {
    if node.role() != Role::Leader {
        return Vec::new();
    }
    let peers = node.status().peers;
    let mut held: Vec<LogIndex> = peers.iter().map(|peer| peer.matched).collect();
    held.push(node.durable());
    held.sort_unstable();
    let counted = held[(held.len() - 1) / 2];
    let lie = |to, matched| Envelope {
        from: node.id(),
        incarnation: Incarnation(0),
        is_meant: true,
        to,
        term: node.term(),
        message: Message::Heartbeat { commit: counted.min(matched), round: None },
    };
    let fooled = peers.iter().filter(|peer| peer.matched.min(counted) > node.commit());
    fooled.map(|peer| lie(peer.id, peer.matched)).collect()
}
