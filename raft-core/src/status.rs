//! What an operator may want to see.

use alloc::vec::Vec;

use crate::progress::ProgressState;
use crate::{Configuration, EntryId, LogIndex, Node, NodeId, Term};

/// What a node does in its term (§5.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election (diss. §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
}

/// A node as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Status {
    /// Its id.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its current term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Who leads that term, as far as it knows.
    pub leader: Option<NodeId>,
    /// The log is committed up to here.
    pub commit: LogIndex,
    /// The state machine was handed everything up to here.
    pub handed_out: LogIndex,
    /// The entries up to here are durable at this node.
    pub durable: LogIndex,
    /// The entry before the first of the log: the compaction point.
    pub start: EntryId,
    /// The last entry of the log.
    pub last: EntryId,
    /// Where the newest durable snapshot ends.
    pub snapshot: EntryId,
    /// The configuration in force.
    pub configuration: Configuration,
    /// To whom the lead is being handed over.
    pub transferring: Option<NodeId>,
    /// What a leader knows of each other member, sorted by id; empty elsewhere.
    pub peers: Vec<PeerStatus>,
    /// What was refused, and how often.
    pub counters: Counters,
}

/// What a leader knows of one other member.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerStatus {
    /// Who it is.
    pub id: NodeId,
    /// Everything up to here is durable there.
    pub matched: LogIndex,
    /// The next entry that it will be sent.
    pub next: LogIndex,
    /// How it is sent entries.
    pub replication: Replication,
}

/// How a leader sends entries to a peer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Replication {
    /// It looks for the place where the logs part: one message at a time.
    Probe,
    /// The logs agree: pipelined.
    Replicate,
    /// The peer needs a snapshot.
    Snapshot,
}

/// What was refused, and how often. In a healthy cluster all of them stay zero.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counters {
    /// Messages to another node, from this one, or from nobody it leads.
    pub misaddressed: u64,
    /// Votes and acknowledgements of an incarnation that the configuration does not name.
    pub forgotten_incarnations: u64,
    /// Messages that contradict themselves.
    pub malformed: u64,
    /// Messages of a second leader in one term.
    pub second_leader: u64,
    /// Appends that contradict a committed entry.
    pub conflicts_with_committed: u64,
    /// Acknowledgements of what this leader never sent.
    pub acknowledged_unsent: u64,
    /// Appends dropped, in whole or in part, because the memory tail is full of entries that are not durable.
    pub appends_dropped: u64,
    /// Snapshots that make no sense.
    pub snapshots_refused: u64,
}

impl Status {
    pub(crate) fn of(node: &Node) -> Status {
        let peers = match &node.role {
            crate::node::RoleState::Leader(leader) => leader
                .peers
                .iter()
                .map(|peer| PeerStatus {
                    id: peer.id,
                    matched: peer.matched,
                    next: peer.next,
                    replication: match peer.state {
                        ProgressState::Probe { .. } => Replication::Probe,
                        ProgressState::Replicate => Replication::Replicate,
                        ProgressState::Snapshot => Replication::Snapshot,
                    },
                })
                .collect(),
            crate::node::RoleState::Follower
            | crate::node::RoleState::PreCandidate(_)
            | crate::node::RoleState::Candidate(_) => Vec::new(),
        };
        Status {
            id: node.options.id,
            role: node.role(),
            term: node.term,
            vote: node.vote.map(|vote| vote.candidate),
            leader: node.leader,
            commit: node.commit,
            handed_out: node.applying.handed_out,
            durable: node.disk.durable(),
            start: node.log.start(),
            last: node.log.last(),
            snapshot: node.snapshot,
            configuration: node.configuration().clone(),
            transferring: node.transferring(),
            peers,
            counters: node.counters,
        }
    }
}
