//! A network that lies: faults that no Raft survives, to see that the checkers notice.

use raft_rsm::raft_core::{Incarnation, NodeId};
use raft_rsm::transport::Packet;

/// What a network does that none may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Some responses of a node arrive a second time, in the name of another node.
    AnswersForAnother,
    /// Some requests of clients reach the node twice.
    RepeatsRequests,
    /// Some clients get the answer to an earlier call, of whichever client, instead of their own.
    AnswersOfAnotherCall,
}

/// How often it lies, where it could.
pub(super) const LIE_CHANCE: f64 = 0.2;

/// The packet in another's name.
pub(super) fn in_the_name_of(
    mut packet: Packet,
    from: NodeId,
    incarnation: Option<Incarnation>,
) -> Packet {
    match &mut packet {
        Packet::Raft(envelope) => {
            envelope.from = from;
            envelope.incarnation = incarnation.unwrap_or(envelope.incarnation);
        }
        Packet::SnapshotChunk(chunk) => chunk.from = from,
        Packet::SnapshotResponse(response) => response.from = from,
        Packet::Checksum(checksum) => checksum.from = from,
    }
    packet
}
