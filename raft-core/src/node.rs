//! One replica: facts and requests in, effects out.

use bytes::Bytes;
use core::time::Duration;

use crate::{Configuration, Effects, EntryId, Input, LogIndex, NodeId, Options, Restored, Term};

/// One replica of one group.
#[derive(Debug)]
pub struct Node {}

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
    #[error("the log ends at {last}, but entry {commit} was committed")]
    CommitBeyondLog {
        /// The last entry.
        last: EntryId,
        /// The commit index.
        commit: LogIndex,
    },
    /// `Restored::terms` and `Restored::start` do not fit together.
    #[error("the terms of the log start after {terms}, the log itself after {start}")]
    TermsMismatch {
        /// Where the terms start.
        terms: EntryId,
        /// Where the log starts.
        start: EntryId,
    },
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
    /// The command is longer than `Limits::command_bytes_max`.
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
}

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

impl Node {
    /// A node that starts from what its disk held.
    pub fn new(options: Options, restored: Restored) -> Result<Node, RestoreError> {
        todo!("{options:?} {restored:?}")
    }

    /// The configuration in force: the latest in the log.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        todo!()
    }
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        todo!()
    }
    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        todo!()
    }
    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        todo!()
    }
    /// Who leads the current term, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }
    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        todo!()
    }
    /// The last entry handed out in `Effects::applies` or replaced by a restore.
    #[must_use]
    pub fn handed_out(&self) -> LogIndex {
        todo!()
    }
    /// The last entry of the log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        todo!()
    }
    /// The last entry that is durable here.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        todo!()
    }
    /// The time at which this node next wants an `Input::Tick`, on the clock of the last one.
    #[must_use]
    pub fn next_tick(&self) -> Duration {
        todo!()
    }
    /// Whether the log could not be read (`Fetched::Failed`): the node does nothing any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        todo!()
    }
    /// Takes in one fact.
    pub fn step(&mut self, input: Input) {
        todo!("{input:?}")
    }
    /// Appends `command` to this leader's log.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, ProposeError> {
        todo!("{command:?}")
    }
    /// Fills `effects` (which is emptied first) with what is to be done.
    pub fn drain(&mut self, effects: &mut Effects) {
        todo!("{effects:?}")
    }
}
