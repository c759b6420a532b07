//! Why something was refused.

use crate::{Configuration, EntryId, Incarnation, LogIndex, NodeId};

/// Why a node cannot start from what its disk held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Entries are missing between the snapshot and the log.
    #[error("the log starts after entry {start}, but the newest snapshot ends at {snapshot}")]
    Gap {
        /// Where the log starts.
        start: EntryId,
        /// Where the snapshot ends.
        snapshot: EntryId,
    },
    /// The log ends before an index that was committed.
    #[error("the log ends at {last}, but index {commit} was committed")]
    CommitBeyondLog {
        /// The last entry.
        last: EntryId,
        /// The commit index.
        commit: LogIndex,
    },
    /// The snapshot ends with an entry that the log contradicts.
    #[error("the snapshot ends at {snapshot}, which the committed log up to {last} does not hold")]
    Conflict {
        /// Where the snapshot ends.
        snapshot: EntryId,
        /// The last entry of the log.
        last: EntryId,
    },
    /// [`crate::Restored::terms`] and [`crate::Restored::start`] do not fit together.
    #[error("the terms of the log start after {terms}, the log itself after {start}")]
    TermsMismatch {
        /// Where the terms start.
        terms: EntryId,
        /// Where the log starts.
        start: EntryId,
    },
    /// [`crate::Restored::configurations`] are not in the log, or not in its order.
    #[error("a configuration at index {index}, which is not its place in the log up to {last}")]
    MisplacedConfiguration {
        /// Where it is said to be.
        index: LogIndex,
        /// The last entry of the log.
        last: EntryId,
    },
    /// A node that never ran would begin with a configuration that names it under another incarnation, so it could never
    /// vote. Incarnations are drawn with the data directory: a first configuration leaves them open
    /// ([`crate::Configuration::unnamed`]), and a node that lost its disk begins with an empty one and is re-admitted.
    #[error(
        "the first configuration names another incarnation of node {id} than {incarnation}, its own"
    )]
    OtherIncarnation {
        /// The node.
        id: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// The incarnation is the one that stands for no node ([`Incarnation::NOBODY`]): nothing that it says would count.
    #[error("the incarnation of node {0} is the one that stands for nobody")]
    Nobody(NodeId),
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
}

/// Why a command was not appended. It never will be: it may be proposed again, anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another node leads, or none that is known.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The command is longer than [`crate::Limits::command_bytes_max`].
    #[error("the command has {len} bytes, the limit is {max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A limit on uncommitted entries or on the memory tail is reached: try again later.
    #[error("too many entries wait to be committed")]
    Busy,
    /// The lead is being handed over: propose there, or here if that does not come about in time.
    #[error("the lead is being handed over to node {to}")]
    Transferring {
        /// To whom.
        to: NodeId,
    },
}

/// Why a change of membership was not begun. It never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Another node leads, or none that is known.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// One change at a time: another one is under way.
    #[error("another change of membership is under way")]
    InProgress {
        /// The configuration in force.
        configuration: Configuration,
    },
    /// The lead is being handed over.
    #[error("the lead is being handed over to node {to}")]
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// The target makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a change of membership did not lead to the configuration that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeFailed {
    /// A voter that was to join did not catch up in time. It stays a learner of `configuration`, which is in force, unless
    /// its former incarnation is still a voter there; the change may be asked for again.
    #[error("node {id} did not catch up; it may be made a voter later")]
    NotCaughtUp {
        /// Who did not.
        id: NodeId,
        /// The configuration in force, committed or not.
        configuration: Configuration,
    },
    /// A voter whose incarnation the target names has not said whether it is that one: nothing was changed. It may be down;
    /// the change may be asked for again.
    #[error(
        "node {id}, a voter, has not been heard: it is not known whether it is the one that is named"
    )]
    NotHeard {
        /// Who was not.
        id: NodeId,
        /// The configuration in force, committed or not.
        configuration: Configuration,
    },
    /// This node lost the lead: the next leader may complete the change, or not. `configuration` is what this node knew
    /// last.
    #[error("the lead was lost before the change of membership was complete")]
    LostLead {
        /// The latest configuration here, committed or not.
        configuration: Configuration,
    },
}

/// Why the lead is not handed over. This node leads on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// This node leads already.
    #[error("this node leads already")]
    LeadsAlready,
    /// The lead is being handed over already.
    #[error("the lead is being handed over to node {to} already")]
    InProgress {
        /// To whom.
        to: NodeId,
    },
    /// No voter of that id, or no other voter at all, or none that was heard within an election timeout.
    #[error("there is no such voter to hand the lead over to")]
    NoCandidate,
}

/// Why a read was not taken up: nothing will come of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader is known here.
    #[error("no leader is known")]
    NoLeader,
    /// [`crate::Limits::reads_pending_max`] is reached.
    #[error("too many reads are pending")]
    Busy,
}

/// Why a read that was taken up has no index. It may be asked for again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ReadRefused {
    /// The lead was lost, or the leader.
    #[error("there is another leader, or none")]
    LostLeader,
    /// The leader has as many reads as it takes ([`crate::Limits::reads_pending_max`]).
    #[error("the leader has too many reads under way")]
    Busy,
    /// The leader did not answer within an election timeout.
    #[error("the leader did not answer in time")]
    TimedOut,
}
