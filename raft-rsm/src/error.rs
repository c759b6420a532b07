//! Why something was not done; every variant says whether it may still be.

use raft_core::{Configuration, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use crate::sessions::SessionRefusal;
use crate::storage::StorageError;

/// Why a command has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// *Definitely not*: another node leads, or none that is known. Propose there.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// *Definitely not*: too much is pending at this node. Try again later.
    #[error("too many requests are pending")]
    Busy,
    /// *Definitely not*, and it never will: the command is longer than the limit.
    #[error("the command has {len} bytes, the limit is {max}")]
    TooLarge {
        /// Its length in bytes, serialized.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// *Definitely not*, and it never will: the command cannot be serialized, or not be read again from what it is
    /// serialized to (postcard is not self-describing: `#[serde(skip_serializing_if)]` and the like do not work).
    #[error("the command cannot be serialized: {problem}")]
    Serialize {
        /// Why not.
        problem: String,
    },
    /// *Definitely not*, and it never will: the machine does not admit it
    /// ([`crate::StateMachine::admission`]).
    #[error("{problem}")]
    NotAdmitted {
        /// Why not.
        problem: String,
    },
    /// *Definitely not*: another entry was committed at the command's place in the log, or one of a later term
    /// before it. It may be proposed again.
    #[error("a new leader replaced the command before it was committed")]
    Superseded,
    /// *Definitely not*: the node had stopped before the command was proposed.
    #[error("the node has stopped")]
    Stopped,
    /// *Not by this transmission, and by none later*: the session has ended, or never was. Whether an earlier transmission
    /// was carried out, nobody knows any more.
    #[error("the session has ended")]
    SessionExpired,
    /// *Definitely not*: there is no room for another session, another name or another answer
    /// ([`crate::Options::sessions_max`], [`crate::Options::names_max`], and their bytes). Try again in some seconds: each
    /// time may cost an entry in the log.
    #[error("there is no room for another session, name or answer")]
    SessionsFull,
    /// *Definitely not*: the session has too many commands under way ([`crate::IN_FLIGHT_MAX`]).
    #[error("the session has too many commands under way")]
    SessionBusy,
    /// *Not by this transmission*: an earlier one was carried out, but its response is not kept; or the session has said
    /// that it does not wait for it any more.
    #[error("an earlier transmission was carried out or given up, and its response is not kept")]
    ResponseForgotten,
    /// *Definitely not*: another command has this name.
    #[error("another command was sent under this name")]
    NameTaken,
    /// *Maybe*: the command may have taken effect, or take effect later.
    #[error("the command may have taken effect: {0}")]
    Maybe(Uncertain),
}

/// Why nobody can say whether a command took, or will take, effect.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Uncertain {
    /// It was neither committed nor replaced in time ([`crate::Options::request_timeout`]).
    #[error("there was no decision in time")]
    TimedOut,
    /// A snapshot from the leader replaced the part of the log in which it was.
    #[error("a snapshot replaced the log around it")]
    SnapshotPassed,
    /// The node stopped while it waited.
    #[error("the node stopped while it waited")]
    Stopped,
    /// The node lost the lead: the next leader decides.
    #[error("the node lost the lead while it waited")]
    LostLead,
}

impl ProposeError {
    /// Whether the command may have taken effect, or take effect later. When `false`, it may be
    /// proposed again without harm: of a command in a session, this one transmission is meant.
    #[must_use]
    pub fn may_take_effect(&self) -> bool {
        match self {
            ProposeError::Maybe(_) | ProposeError::ResponseForgotten => true,
            ProposeError::SessionExpired
            | ProposeError::SessionsFull
            | ProposeError::SessionBusy
            | ProposeError::NameTaken
            | ProposeError::NotLeader { .. }
            | ProposeError::Busy
            | ProposeError::TooLarge { .. }
            | ProposeError::Serialize { .. }
            | ProposeError::NotAdmitted { .. }
            | ProposeError::Superseded
            | ProposeError::Stopped => false,
        }
    }
}

impl From<SessionRefusal> for ProposeError {
    fn from(why: SessionRefusal) -> ProposeError {
        match why {
            SessionRefusal::Expired => ProposeError::SessionExpired,
            SessionRefusal::Full => ProposeError::SessionsFull,
            SessionRefusal::TooMany => ProposeError::SessionBusy,
            SessionRefusal::Forgotten => ProposeError::ResponseForgotten,
            SessionRefusal::NameTaken => ProposeError::NameTaken,
        }
    }
}

/// Why a query has no answer. A query changes nothing: it may always be asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Another node leads, or none that is known. Ask there.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too much is pending at this node. Try again later.
    #[error("too many requests are pending")]
    Busy,
    /// The lead was lost, here or by the leader that this node had asked, before that could confirm it. Try again.
    #[error("the leader lost the lead before it could confirm the query")]
    Superseded,
    /// It could not be answered in time ([`crate::Options::request_timeout`]).
    #[error("the query could not be answered in time")]
    TimedOut,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why the members are not those that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MembershipError {
    /// *Definitely not*: another node leads, or none that is known. Ask there.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// *Definitely not*: too many requests are pending, or the lead is just being handed over. Try again later.
    #[error("too many requests are pending, or the lead is being handed over")]
    Busy,
    /// *Definitely not*: one change at a time, and another one is under way.
    #[error("another change of membership is under way")]
    InProgress {
        /// The configuration in force.
        configuration: Configuration,
    },
    /// *Definitely not*, and it never will: the target makes no sense.
    #[error("{problem}")]
    Invalid {
        /// Why not.
        problem: String,
    },
    /// *Not yet*: a voter that was to join did not catch up in time ([`raft_core::Options::catch_up_max`]). It stays a
    /// learner of the configuration that is in force now, unless its former incarnation is still a voter there; ask again
    /// later.
    #[error("node {id} did not catch up in time; it may be made a voter later")]
    NotCaughtUp {
        /// Who did not.
        id: NodeId,
        /// The configuration in force.
        configuration: Configuration,
    },
    /// *Definitely not*: a voter whose incarnation the target names has not said in time whether it is that one. It may be
    /// down.
    #[error(
        "node {id}, a voter, has not been heard: it is not known whether it is the one that is named"
    )]
    NotHeard {
        /// Who was not.
        id: NodeId,
        /// The configuration in force.
        configuration: Configuration,
    },
    /// *Definitely not*: the node had stopped before.
    #[error("the node has stopped")]
    Stopped,
    /// *Maybe*: the change may be completed all the same, in part or as a whole. The status tells which members are in
    /// force.
    #[error("the change may take effect: {0}")]
    Maybe(Uncertain),
}

impl From<raft_core::ChangeError> for MembershipError {
    fn from(error: raft_core::ChangeError) -> MembershipError {
        match error {
            raft_core::ChangeError::NotLeader { leader } => MembershipError::NotLeader { leader },
            raft_core::ChangeError::InProgress { configuration } => {
                MembershipError::InProgress { configuration }
            }
            raft_core::ChangeError::Invalid(problem) => {
                MembershipError::Invalid { problem: problem.to_owned() }
            }
            // What a later version of the core may refuse for is definitely not done either.
            raft_core::ChangeError::Transferring { .. } | _ => MembershipError::Busy,
        }
    }
}

impl From<raft_core::ChangeFailed> for MembershipError {
    fn from(failed: raft_core::ChangeFailed) -> MembershipError {
        match failed {
            raft_core::ChangeFailed::NotCaughtUp { id, configuration } => {
                MembershipError::NotCaughtUp { id, configuration }
            }
            raft_core::ChangeFailed::NotHeard { id, configuration } => {
                MembershipError::NotHeard { id, configuration }
            }
            raft_core::ChangeFailed::LostLead { .. } | _ => {
                MembershipError::Maybe(Uncertain::LostLead)
            }
        }
    }
}

/// Why the lead was not handed over. It may still be soon, but nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TransferError {
    /// Another node leads, or none that is known. Ask there.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The node leads already.
    #[error("the node leads already")]
    LeadsAlready,
    /// The lead is being handed over already.
    #[error("the lead is being handed over to node {to} already")]
    InProgress {
        /// To whom.
        to: NodeId,
    },
    /// There is no such voter, or no other at all, or none that was heard lately.
    #[error("there is no such voter to hand the lead over to, or it was not heard lately")]
    NoCandidate,
    /// It did not take the lead within an election timeout.
    #[error("node {to} did not take the lead in time")]
    TimedOut {
        /// Who did not.
        to: NodeId,
    },
    /// Too many requests are pending. Try again later.
    #[error("too many requests are pending")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl From<raft_core::TransferError> for TransferError {
    fn from(error: raft_core::TransferError) -> TransferError {
        match error {
            raft_core::TransferError::NotLeader { leader } => TransferError::NotLeader { leader },
            raft_core::TransferError::LeadsAlready => TransferError::LeadsAlready,
            raft_core::TransferError::InProgress { to } => TransferError::InProgress { to },
            raft_core::TransferError::NoCandidate | _ => TransferError::NoCandidate,
        }
    }
}

/// Why a snapshot was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No command was applied yet, so there is nothing to keep.
    #[error("nothing was applied yet")]
    NothingApplied,
    /// Too many callers wait for a snapshot. Try again later.
    #[error("too many requests are pending")]
    Busy,
    /// It was not durable in time ([`crate::Options::snapshot_timeout`]). It may be later.
    #[error("the snapshot was not durable in time")]
    TimedOut,
    /// The node has stopped. A snapshot that was under way may have been completed.
    #[error("the node has stopped")]
    Stopped,
}

/// Why a node could not be started. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The disk could not be read, or does not hold what it should.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the disk holds makes no sense, or the options do not.
    #[error(transparent)]
    Restore(#[from] raft_core::RestoreError),
    /// The options of this crate contradict each other.
    #[error("{0}")]
    Options(&'static str),
}

/// Why a node has stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// [`crate::Raft::shutdown`] was called.
    #[error("the node was shut down")]
    Shutdown,
    /// Storage failed. Nothing is tried again, since nobody knows what the disk holds.
    #[error("storage failed: {problem}")]
    Storage {
        /// What failed, and where.
        problem: String,
    },
    /// A committed entry or a snapshot cannot be read by this version of the program.
    #[error("{problem}")]
    Unreadable {
        /// Which one, and why.
        problem: String,
    },
    /// The state machine failed.
    #[error("the state machine failed: {problem}")]
    Machine {
        /// How.
        problem: String,
    },
    /// This replica is not what most others are, though it was told the same: the state machine is not deterministic
    /// ([`crate::StateMachine`]), its program is not that of the others, or memory or a disk is damaged. The
    /// others go on. Its snapshots hold its state, too, so it comes back with an empty disk, as one that has lost it.
    #[error("{}", diverged(*index, *agreed, *own, *majority))]
    Diverged {
        /// Where it was seen: something at or before this index was answered otherwise here.
        index: LogIndex,
        /// The last index at which it was known since its start to be what the majority is.
        agreed: Option<LogIndex>,
        /// The running checksum here, at `index`.
        own: u32,
        /// The one of the majority.
        majority: u32,
    },
    /// The runtime dropped the node or one of its tasks: it is shutting down, it cannot start threads, or the node's
    /// own code panicked.
    #[error("the runtime dropped the node")]
    Dropped,
    /// A contract within this crate is broken.
    #[error("internal error: {problem}")]
    Internal {
        /// Which one.
        problem: String,
    },
}

impl From<StorageError> for StopReason {
    fn from(error: StorageError) -> StopReason {
        StopReason::Storage { problem: error.to_string() }
    }
}

fn diverged(index: LogIndex, agreed: Option<LogIndex>, own: u32, majority: u32) -> String {
    let place = match agreed {
        Some(agreed) => format!("between index {agreed} and {index}"),
        None => format!("at or before index {index}"),
    };
    format!(
        "this replica has diverged from the majority {place} (checksum {own:08x}, theirs is {majority:08x}): its state \
         machine is not deterministic, its program is another one, or its memory or disk is damaged; let it join again \
         with an empty disk"
    )
}
