//! What a node wants done, as one value.

use alloc::vec::Vec;

use crate::{
    ChangeFailed, Configuration, Entries, Envelope, Incarnation, LogIndex, NodeId, ReadRefused,
    SnapshotMeta, Term,
};

/// All that a node wants done since the last drain. Everything in it may start at once and in
/// parallel, with one rule: [`Effects::restore`] comes before [`Effects::applies`], and both keep
/// their order from one drain to the next. What must wait for the disk has not left the node.
#[derive(Debug, Default)]
pub struct Effects {
    /// At most one write is out at a time; [`crate::Input::Persisted`] answers it.
    pub write: Option<Write>,
    /// Messages to send. Each may be lost.
    pub messages: Vec<Envelope>,
    /// The state machine is to be replaced by the newest stored snapshot, which ends here.
    pub restore: Option<SnapshotMeta>,
    /// Committed entries for the state machine, in order; [`crate::Input::Applied`] answers them.
    pub applies: Option<Applies>,
    /// Old entries to be read from the log; [`crate::Input::Fetched`] answers each.
    pub fetches: Vec<Fetch>,
    /// Peers that need the newest stored snapshot; [`crate::Input::SnapshotSent`] answers each.
    pub snapshots: Vec<SendSnapshot>,
    /// Reads that are confirmed or refused: each that was asked for comes out once.
    pub reads: Vec<Read>,
    /// What became of the change of membership that was asked for here.
    pub change: Option<ChangeOutcome>,
}

impl Effects {
    /// Forgets everything, and keeps what is allocated for the next drain.
    pub(crate) fn clear(&mut self) {
        let Effects { write, messages, restore, applies, fetches, snapshots, reads, change } = self;
        *write = None;
        messages.clear();
        *restore = None;
        *applies = None;
        fetches.clear();
        snapshots.clear();
        reads.clear();
        *change = None;
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Effects { write, messages, restore, applies, fetches, snapshots, reads, change } = self;
        write.is_none()
            && messages.is_empty()
            && restore.is_none()
            && applies.is_none()
            && fetches.is_empty()
            && snapshots.is_empty()
            && reads.is_empty()
            && change.is_none()
    }
}

/// Names one write.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// One atomic change of what the disk holds: after a crash, all of it is there or none. It takes
/// effect in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Its name.
    pub id: WriteId,
    /// The whole log is replaced by an empty one that starts after this snapshot (which is durable
    /// already, §7).
    pub reset: Option<SnapshotMeta>,
    /// Entries up to this one are no longer needed: the log starts after it, with this configuration
    /// in force. Later entries stay.
    pub compact: Option<SnapshotMeta>,
    /// Entries without a gap. The first replaces the entry at its index, if there is one, and all
    /// after it.
    pub entries: Entries,
    /// Replaces the hard state. It comes last: its commit index lies within the log.
    pub hard_state: Option<HardState>,
}

/// What a node must not forget, beside its log (paper, Fig. 2).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardState {
    /// The latest term that the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<Vote>,
    /// An index known to be committed. The paper keeps it in memory only; written beside what is
    /// written anyway, it lets a restarted node apply before it has found a leader.
    pub commit: LogIndex,
}

/// A vote (§5.2). It is for one incarnation: a machine that was given up and comes back, and the one that takes its place,
/// are two candidates under one id.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Vote {
    /// The candidate.
    pub candidate: NodeId,
    /// Its incarnation, as it asked ([`crate::Envelope::incarnation`]).
    pub incarnation: Incarnation,
}

impl core::fmt::Display for Vote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "node {} (incarnation {})", self.candidate, self.incarnation)
    }
}

/// Committed entries that are durable here, without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Applies {
    /// The entries, in order; never empty.
    pub entries: Entries,
    /// The configuration in force at the last of them, for a snapshot that is taken there.
    pub configuration: Configuration,
}

/// Names one fetch.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Entries that are asked for, because they have left the memory tail.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// Its name.
    pub id: FetchId,
    /// The first entry.
    pub first: LogIndex,
    /// The last entry that is of use.
    pub last: LogIndex,
    /// Stop before the sum of [`crate::Entry::cost_bytes`] is greater than this, but not before the first entry.
    pub bytes_max: usize,
}

/// A peer needs entries that are compacted: send it the newest stored snapshot.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct SendSnapshot {
    /// Who needs it.
    pub to: NodeId,
}

/// Names one read that was asked for by [`crate::Node::read_index`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// How a read stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// Its name.
    pub id: ReadId,
    /// A state that contains this entry answers it linearizably; or why there is no such index.
    pub index: Result<LogIndex, ReadRefused>,
}

/// What became of a change of membership: the configuration that is in force now and committed, or why it is not the one
/// that was asked for.
pub type ChangeOutcome = Result<Configuration, ChangeFailed>;
