//! How packets get from node to node, and requests from clients to nodes.

pub mod memory;
mod options;
mod shell;
mod tcp;
#[cfg(feature = "tokio")]
mod tokio;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use raft_core::{Envelope, LogIndex, Member, NodeId, SnapshotMeta};
use serde::{Deserialize, Serialize};

pub use self::options::{BindError, TcpLimits, TcpOptions};
pub use self::tcp::{TcpConnector, TcpTransport};
#[cfg(feature = "tokio")]
pub use self::tokio::{TokioConnector, TokioTransport};
use crate::Identity;
use crate::configuration_codec::encode_configuration;
pub use crate::net::counters::TransportCounters;

/// Moves packets between nodes, and hands the requests of clients to a [`Service`]. Each sentence of its
/// contract is a test in [`crate::testing::transport`].
///
/// Packets may be lost, repeated and reordered, never changed: a packet that is damaged on the way is not delivered.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Starts to deliver: packets for this node to `inbox`, requests of clients to `service`.
    /// Called once.
    fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>);

    /// Where the peers listen from now on, `HOST:PORT`; the node itself may be among them. Links to others are closed,
    /// except to those that dial this node and ask for a way back: a leader may know a node that does not know it yet. An
    /// address that is new is dialled, at once; one that is empty says nothing, and what was known of it stays. A
    /// transport that finds nodes by their id has no use for addresses, and may reach others, too.
    ///
    /// A peer whose incarnation is named is that one alone: what another one sends is not delivered, nothing is sent to
    /// it, and the connections that it has are closed. So a machine whose node was admitted again elsewhere does not
    /// stand in the way of its replacement. Where none is named, any may come, and one that does not go away may not keep
    /// the others out for ever. A node names nobody while it knows no leader: its own configuration may be the one that
    /// is out of date, and the one that it does not name the only one that could tell it. A transport that does not
    /// tell incarnations apart may deliver whatever comes.
    ///
    /// Never waits, and costs nothing when nothing changes: it may be called in each round of a loop.
    fn set_peers(&self, peers: &[Member]);

    /// Sends a packet on its way and returns at once. A queue that is full drops it.
    fn send(&self, packet: Packet);

    /// The longest packet that it carries, in bytes of its binary form; `None`: any. Options that need more are
    /// refused when a node starts, since what is too long would be dropped again and again.
    fn packet_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Stops to deliver and closes everything; returns when nothing of it runs any more.
    async fn shutdown(&self);
}

/// Where a transport delivers to.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one packet that is for this node. Never blocks; drops the packet when the node cannot
    /// keep up.
    fn deliver(&self, packet: Packet);

    /// The connection to or from this peer was closed: what was on its way may be lost.
    fn disconnected(&self, peer: NodeId);
}

/// What travels between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A message of the protocol.
    Raft(Envelope),
    /// A part of a snapshot.
    SnapshotChunk(SnapshotChunk),
    /// The answer to one.
    SnapshotResponse(SnapshotResponse),
    /// What a replica has become.
    Checksum(Checksum),
}

/// A part of a snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// Names the transfer: random, so that a late chunk of another one is known as such.
    pub transfer: u64,
    /// What the snapshot says about itself.
    pub meta: SnapshotMeta,
    /// The length of the whole image, in bytes.
    pub image_bytes: u64,
    /// Where in the image `data` begins, in bytes.
    pub offset: u64,
    /// Over `data` and what says which part it is, made when it was read: see [`SnapshotChunk::is_sound`].
    pub checksum: u32,
    /// The part itself. Empty, where the sender only asks how the transfer stands.
    pub data: Bytes,
}

impl SnapshotChunk {
    /// With its checksum made anew, over what the other fields say.
    #[must_use]
    pub fn sealed(mut self) -> SnapshotChunk {
        self.checksum = self.expected_checksum();
        self
    }

    /// Whether it is what its sender read: the checksum goes all the way from the disk of one node to that of the
    /// other, through memories and queues that no transport guards.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checksum == self.expected_checksum()
    }

    fn expected_checksum(&self) -> u32 {
        let SnapshotChunk { transfer, meta, image_bytes, offset, data, .. } = self;
        let (term, index) = (meta.last.term.0, meta.last.index.0);
        let mut hasher = crc32fast::Hasher::new();
        for field in [*transfer, term, index, *image_bytes, *offset] {
            hasher.update(&field.to_le_bytes());
        }
        let mut configuration = BytesMut::new();
        encode_configuration(&meta.configuration, &mut configuration);
        hasher.update(&configuration);
        hasher.update(data);
        hasher.finalize()
    }
}

/// What the receiver of a snapshot answers to a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotResponse {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// Which transfer.
    pub transfer: u64,
    /// How it stands.
    pub status: SnapshotStatus,
}

/// How the transfer of a snapshot stands at its receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotStatus {
    /// Some of it has arrived: send what is missing.
    Continue {
        /// Names what the receiver has: random. Another name than before says that the receiver has lost it, and
        /// begins anew.
        reception: u64,
        /// Everything before this offset, in bytes, has arrived.
        offset: u64,
        /// Where the chunks begin that have arrived beyond that, in bytes, in order: no more than a window holds.
        held: Vec<u64>,
    },
    /// The snapshot is durable here, or no longer needed.
    Done,
    /// The receiver has given this transfer up.
    Refused,
    /// The receiver takes no image that is longer than this, in bytes: `Options::snapshot_bytes_max`.
    TooLong {
        /// Its limit.
        image_bytes_max: u64,
    },
}

/// What a replica has become, to be compared with what the receiver is at the same index. Nobody waits for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// Up to where the sender has applied the log.
    pub index: LogIndex,
    /// Its running checksum there.
    pub checksum: u32,
}

impl SnapshotStatus {
    /// How long its list is, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            SnapshotStatus::Continue { held, .. } => size_of_val(held.as_slice()),
            SnapshotStatus::Done | SnapshotStatus::Refused | SnapshotStatus::TooLong { .. } => 0,
        }
    }
}

impl Packet {
    /// Who sends it.
    #[must_use]
    pub fn from(&self) -> NodeId {
        match self {
            Packet::Raft(envelope) => envelope.from,
            Packet::SnapshotChunk(chunk) => chunk.from,
            Packet::SnapshotResponse(response) => response.from,
            Packet::Checksum(checksum) => checksum.from,
        }
    }

    /// Whom it is for.
    #[must_use]
    pub fn to(&self) -> NodeId {
        match self {
            Packet::Raft(envelope) => envelope.to,
            Packet::SnapshotChunk(chunk) => chunk.to,
            Packet::SnapshotResponse(response) => response.to,
            Packet::Checksum(checksum) => checksum.to,
        }
    }
}

/// Answers the requests of clients. A transport moves the bytes and does not look into them.
pub trait Service: Send + Sync + 'static {
    /// Takes one request and returns at once; `reply` is given the answer later, on whatever thread.
    fn call(&self, request: Bytes, reply: Reply);
}

/// The way back to the client that asked. Dropped without an answer, the client is told that there is none.
pub struct Reply(Option<Box<dyn FnOnce(Option<Bytes>) + Send>>);

impl Reply {
    /// `send` is called once: with the answer, or with `None` when there will be none. It never blocks.
    pub fn new(send: impl FnOnce(Option<Bytes>) + Send + 'static) -> Reply {
        Reply(Some(Box::new(send)))
    }

    /// Answers.
    pub fn send(mut self, answer: Bytes) {
        if let Some(send) = self.0.take() {
            send(Some(answer));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            send(None);
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// How a client reaches nodes.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Sends one request to one node and waits for the answer, for at most `deadline` from now.
    /// Any number may be in flight at once. Dropping the future drops the answer, not the request.
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError>;

    /// The nodes that can be called, sorted.
    fn nodes(&self) -> Vec<NodeId>;

    /// Where the members listen, `HOST:PORT`, as far as is known by now: they are among [`Connector::nodes`] until it is told
    /// of others, and these addresses are tried first. The nodes that it was created with stay, for when nobody is there.
    /// What is no address is passed over.
    ///
    /// A connector that finds nodes by their id has no use for it; that is the default.
    fn learn(&self, _nodes: &[(NodeId, String)]) {}

    /// Whether to tell it where nodes listen also while all of its calls go well. One that finds nodes by their id says no,
    /// and spares them the questions.
    fn wants_to_learn(&self) -> bool {
        true
    }

    /// The cluster of this node, which was called, is the one that is meant: nodes of another one are not called from now on.
    /// So a client that was told no cluster id does not mix a cluster that was recovered from one survivor with the nodes
    /// that were left behind. `None`: it is open again which one is meant, unless the connector was told when it was created.
    ///
    /// A connector that cannot reach several clusters has no use for it; that is the default.
    fn stay_with(&self, _node: Option<NodeId>) {}

    /// Asks who listens at an address, `HOST:PORT`, and waits for the answer, for at most `deadline` from now. It
    /// may be a node of any cluster.
    ///
    /// # Errors
    /// Nothing was learned, and nothing has changed anywhere. By default there are no addresses.
    async fn identify(
        &self,
        address: &str,
        _deadline: Duration,
    ) -> Result<Identity, IdentifyError> {
        let reason = "this connector dials no addresses".to_owned();
        Err(IdentifyError { address: address.to_owned(), reason })
    }
}

/// It is not known who listens at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot ask who listens at {address}: {reason}")]
pub struct IdentifyError {
    /// Where it was asked.
    pub address: String,
    /// Why there is no answer.
    pub reason: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request did not leave: it has no effect, now or later.
    #[error("cannot reach node {to}: {reason}")]
    NotSent {
        /// Whom it was for.
        to: NodeId,
        /// Why.
        reason: String,
    },
    /// The request left and nothing came back: it may take effect, now or later.
    #[error("no answer from node {to}: {reason}")]
    MaybeSent {
        /// Whom it was for.
        to: NodeId,
        /// Why.
        reason: String,
    },
}
