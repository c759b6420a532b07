//! What happens in a run, as it is told to the checkers, the digest, the counts and the trace.

mod digest;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use raft_rsm::Consistency;
use raft_rsm::StopReason;
use raft_rsm::raft_core::{
    Configuration, EntryId, HardState, Incarnation, LogIndex, NodeId, Role, Term, WriteId,
};
use raft_rsm::transport::Packet;

pub use self::digest::Fnv;

/// Who can send and receive: nodes and clients.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// A node of the cluster.
    Node(NodeId),
    /// A client, by its number.
    Client(u64),
}

/// Names one packet, request or answer on the network.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParcelId(pub u64);

/// Names one transmission of a client's request.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Who asks where a node's own process does: no client has this number.
pub const OWN_PROCESS: u64 = u64::MAX;

/// The digest of a command, a payload or a response: the same for the same bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

/// How a node ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// The process was killed: what it wrote is in the memory of the system, and safe.
    Killed,
    /// The machine lost power: what was not synced is lost, torn, or there.
    PowerLost,
}

/// An entry of the log, without its payload.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EntrySummary {
    /// Its id.
    pub id: EntryId,
    /// What it says.
    pub payload: Digest,
}

/// What a request of a client is about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A command.
    Propose(Digest),
    /// A command that may be sent again and is to be carried out once.
    ProposeKnown {
        /// By what it is known again.
        known: Digest,
        /// The command.
        command: Digest,
    },
    /// That a session is opened or closed.
    Session,
    /// A query, and how fresh its answer has to be.
    Query(Consistency),
    /// The node's status.
    Status,
}

/// What came of one transmission of a request, as far as its client knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// There is an answer of the machine.
    Answered,
    /// Definitely not.
    Refused,
    /// Nobody knows.
    Maybe,
}

/// What an operator asks a leader for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A change of membership.
    Membership,
    /// A transfer of the lead.
    Transfer,
}

/// What came of it, as far as the operator knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OperationOutcome {
    /// It is done.
    Done,
    /// It was not begun.
    Refused,
    /// It was begun, and is not done, or nobody knows.
    Failed,
}

/// Why a leader hands the lead over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// It was asked to, or is being shut down.
    Asked,
    /// Its disk is sick.
    SickDisk,
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A node was started, with what its disk held.
    Started {
        /// Which one.
        node: NodeId,
        /// Its hard state on the disk.
        hard_state: HardState,
        /// Its log on the disk starts after this entry ...
        start: EntryId,
        /// ... and ends with this one.
        last: EntryId,
        /// The last entry of each stretch of entries of one term in it.
        runs: Vec<EntryId>,
    },
    /// A node could not be started.
    NotStarted {
        /// Which one.
        node: NodeId,
        /// Why not.
        reason: String,
    },
    /// A node was ended from outside.
    Crashed {
        /// Which one.
        node: NodeId,
        /// How.
        crash: Crash,
    },
    /// A node stopped by itself, or because it was asked to.
    Stopped {
        /// Which one.
        node: NodeId,
        /// Why.
        reason: StopReason,
        /// Whether it was shut down as an operator would.
        was_asked: bool,
    },
    /// A node stands still.
    Paused {
        /// Which one.
        node: NodeId,
    },
    /// A node goes on.
    Resumed {
        /// Which one.
        node: NodeId,
    },
    /// The role, term or leader of a node changed.
    Role {
        /// Which one.
        node: NodeId,
        /// Its role.
        role: Role,
        /// Its term.
        term: Term,
        /// Whom it takes for the leader.
        leader: Option<NodeId>,
        /// The last entry of its log.
        last: EntryId,
        /// Whether it is the role that changed, or the term of a leader.
        changed: bool,
    },
    /// A node's commit index, its last applied entry or the last entry of its log changed.
    Progress {
        /// Which one.
        node: NodeId,
        /// Its commit index.
        commit: LogIndex,
        /// The last entry that its machine has applied.
        applied: LogIndex,
        /// The last entry of its log.
        last: EntryId,
        /// The size of its log on disk, in bytes.
        log_bytes: u64,
        /// What of its log is in memory, in bytes.
        tail_bytes: u64,
        /// The size of its newest snapshot's image, in bytes, where it is known.
        image_bytes: u64,
    },
    /// The latest configuration in the log of a node changed.
    Configured {
        /// Which one.
        node: NodeId,
        /// The incarnation under which it speaks.
        incarnation: Incarnation,
        /// The members.
        configuration: Configuration,
        /// The term that it leads, if it does.
        leads: Option<Term>,
    },
    /// A leader begins to hand the lead over.
    HandingOver {
        /// Which one.
        node: NodeId,
        /// To whom.
        to: NodeId,
        /// Why.
        why: HandOver,
    },
    /// A node that does not run has lost its disk, and all that it knew.
    Wiped {
        /// Which one.
        node: NodeId,
    },
    /// A node that had lost its disk is a member again as what it is now, or no member any more.
    Readmitted {
        /// Which one.
        node: NodeId,
    },
    /// An operator was told what came of an operation.
    Operated {
        /// Of which.
        operation: Operation,
        /// What.
        outcome: OperationOutcome,
        /// What was asked for, and what was said.
        what: String,
    },
    /// A node began a write to its disk.
    WriteBegan {
        /// Which one.
        node: NodeId,
        /// The write.
        id: WriteId,
        /// The log begins anew after this entry of a leader's snapshot.
        reset: Option<EntryId>,
        /// The log is compacted up to here.
        compact: Option<EntryId>,
        /// The entries written.
        entries: Vec<EntrySummary>,
        /// The hard state written.
        hard_state: Option<HardState>,
    },
    /// A write was acknowledged by the disk, or failed.
    WriteEnded {
        /// Which node's.
        node: NodeId,
        /// The write.
        id: WriteId,
        /// The error, if it failed.
        error: Option<String>,
    },
    /// A machine applied a command.
    Applied {
        /// On which node.
        node: NodeId,
        /// Where in the log.
        id: EntryId,
        /// The command.
        command: Digest,
        /// What the machine answered.
        response: Digest,
    },
    /// A machine was restored from a snapshot that ends here.
    Restored {
        /// On which node.
        node: NodeId,
        /// Where the snapshot ends.
        last: EntryId,
    },
    /// A snapshot became durable.
    SnapshotStored {
        /// On which node.
        node: NodeId,
        /// Where it ends.
        last: EntryId,
    },
    /// A packet left a node.
    Sent {
        /// The packet on its way.
        parcel: ParcelId,
        /// What it says.
        packet: Arc<Packet>,
        /// Its length on the wire, in bytes.
        bytes: usize,
        /// The digest of its bytes on the wire.
        digest: Digest,
    },
    /// A packet reached a node.
    Delivered {
        /// Which.
        parcel: ParcelId,
        /// At whom.
        to: NodeId,
    },
    /// A packet, a request or an answer was lost.
    Lost {
        /// Which.
        parcel: ParcelId,
        /// How.
        why: &'static str,
    },
    /// A client sent a request.
    Asked {
        /// The transmission.
        call: CallId,
        /// Who asks: a client, or [`OWN_PROCESS`].
        client: u64,
        /// Which node.
        to: NodeId,
        /// What.
        kind: RequestKind,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A client's request reached a node.
    RequestArrived {
        /// The transmission.
        call: CallId,
        /// Which node.
        at: NodeId,
    },
    /// A transmission ended for the client.
    CallEnded {
        /// The transmission.
        call: CallId,
        /// With what.
        outcome: CallOutcome,
    },
    /// An operation of a client began.
    OperationBegan {
        /// Who.
        client: u64,
        /// What.
        operation: String,
    },
    /// An operation of a client ended.
    OperationEnded {
        /// Who.
        client: u64,
        /// Whether it was answered, and not left unknown or refused.
        answered: bool,
        /// With what.
        outcome: String,
    },
    /// A fault began.
    Fault {
        /// Its kind.
        kind: &'static str,
        /// Whom it hits, and how.
        what: String,
    },
    /// A fault ended.
    FaultEnded {
        /// Its kind.
        kind: &'static str,
    },
    /// All faults have ended: from here on the cluster has to recover.
    Healed,
}

/// Hears of all that happens, in order. It is called within a step and does not call back.
pub trait Listener: Send + Sync + 'static {
    /// At the true time `now`, this happened.
    fn event(&self, now: Duration, event: Event);
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Node(id) => write!(f, "node {id}"),
            Site::Client(number) => write!(f, "client {number}"),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
