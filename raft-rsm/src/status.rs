//! How a node sees itself and its cluster.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use raft_core::{Configuration, Counters, EntryId, Incarnation, LogIndex, NodeId, Role, Term};
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::sessions::{Fill, TableLimits};
use crate::watch::{Watch, Watcher};

/// How a node sees itself and its cluster, as of the last round of its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// Whether it runs. A node that stops, or has stopped, is a follower of nobody.
    pub running: bool,
    /// Its role in its term.
    pub role: Role,
    /// Its current term.
    pub term: Term,
    /// Who leads that term, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its commit index.
    pub commit: LogIndex,
    /// The last entry that its state machine has applied, or that a restored snapshot replaced.
    pub applied: LogIndex,
    /// The last entry of its log.
    pub last: EntryId,
    /// The last entry that is durable here.
    pub durable: LogIndex,
    /// The size of its log in bytes, on disk.
    pub log_bytes: u64,
    /// What of its log is in memory, in bytes: see [`raft_core::Limits::tail_bytes_max`].
    pub tail_bytes: u64,
    /// The last entry of its newest own or received snapshot.
    pub snapshot: Option<EntryId>,
    /// The size of that snapshot's image in bytes, where it is known.
    pub snapshot_bytes: u64,
    /// What it remembers of clients.
    pub remembered: Remembered,
    /// The members, as of the latest configuration in its log.
    pub configuration: Configuration,
    /// The incarnation under which it speaks.
    pub incarnation: Incarnation,
    /// To whom it is handing over the lead.
    pub transferring: Option<NodeId>,
    /// Another member that is no longer what this one is. It stays until the two are seen to be alike again, which
    /// is possible only up to the next multiple of 65,536 entries, or until this node is restarted.
    pub diverged: Option<Divergence>,
    /// What it had to refuse or drop since it was started.
    pub refused: Refused,
    /// What its protocol refused since it was started. All zero in a healthy cluster.
    pub counters: Counters,
}

/// What the replicas remember of clients, so that no command is carried out twice, as of the last entry that was applied here.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Remembered {
    /// Sessions that are open, with the answers that are kept for them.
    pub sessions: TableStatus,
    /// Names of commands, with theirs.
    pub names: TableStatus,
}

/// How full a table is. The limits are this node's options; what holds are those of the leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableStatus {
    /// So many are in it.
    pub count: u64,
    /// [`crate::Options::sessions_max`], [`crate::Options::names_max`].
    pub count_max: u64,
    /// What is kept for them counts for this many bytes.
    pub bytes: u64,
    /// [`crate::Options::session_bytes_max`], [`crate::Options::name_bytes_max`].
    pub bytes_max: u64,
}

impl Remembered {
    /// Nothing yet.
    pub(crate) fn new(options: &Options) -> Remembered {
        let empty = |limits: TableLimits| TableStatus {
            count: 0,
            count_max: limits.count_max,
            bytes: 0,
            bytes_max: limits.bytes_max,
        };
        Remembered {
            sessions: empty(options.session_limits()),
            names: empty(options.name_limits()),
        }
    }

    pub(crate) fn update(&mut self, fill: &Fill) {
        (self.sessions.count, self.sessions.bytes) = (fill.sessions, fill.session_bytes);
        (self.names.count, self.names.bytes) = (fill.names, fill.name_bytes);
    }
}

/// Two replicas that were told the same and are no longer alike: see [`crate::StopReason::Diverged`]. Which of them is
/// wrong is for the majority to say; without one, for the operator.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Divergence {
    /// The other one.
    pub peer: NodeId,
    /// The first index at which they were seen to differ: something at or before it did.
    pub index: LogIndex,
}

/// What a node had to refuse or drop since it was started. The counts only grow.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// Packets that arrived faster than the node could take them up.
    pub packets: u64,
    /// Packets that were not for this node, or that said what cannot be.
    pub packets_senseless: u64,
    /// Parts of a snapshot that were not what the leader had read, by their checksums: a machine on the way damages
    /// what it holds. They were asked for again.
    pub chunks_damaged: u64,
    /// Snapshots from a leader that are longer than [`crate::Options::snapshot_bytes_max`], each time that one was offered.
    /// Without it this node cannot follow.
    pub snapshots_too_long: u64,
    /// Snapshots that this node offered as the leader, and that were too long for their receiver.
    pub snapshots_by_peers: u64,
    /// Proposals and queries that were answered by `Busy`.
    pub requests: u64,
}

/// The changes of a node's role, leader or term, and divergences: see [`crate::Raft::status_changes`].
#[derive(Debug)]
pub struct StatusChanges {
    watcher: Watcher<Status>,
}

impl StatusChanges {
    pub(crate) fn new(watch: Arc<Watch<Status>>) -> StatusChanges {
        StatusChanges { watcher: Watcher::new(watch) }
    }
}

impl Stream for StatusChanges {
    type Item = Status;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Status>> {
        self.watcher.poll_next(cx)
    }
}
