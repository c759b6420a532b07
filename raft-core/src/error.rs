//! Why something was refused.

use crate::{EntryId, LogIndex, NodeId};

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
}
