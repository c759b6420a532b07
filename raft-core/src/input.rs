//! Facts: what happened around the node.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{
    Configuration, Entry, EntryId, Envelope, FetchId, HardState, Incarnation, LogIndex, NodeId,
    RestoreError, Term, TermRuns, WriteId,
};

/// One fact. Taking it in cannot fail, whatever it says.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time, since an origin of the driver's choice, on a clock that never goes back and goes on
    /// while the process is paused. The driver reads it *after* it took the other inputs of the
    /// round, and steps it first, so that a process that was paused knows before it answers anything.
    Tick(Duration),
    /// A message has arrived.
    Receive(Envelope),
    /// This [`crate::Write`] is durable, whole.
    Persisted(WriteId),
    /// The state machine has applied every entry up to this index (which it was handed before).
    Applied(LogIndex),
    /// A snapshot of this node's own state machine is durable.
    SnapshotTaken(SnapshotMeta),
    /// A snapshot that a leader sent is durable here, whole.
    SnapshotReceived(SnapshotMeta),
    /// A transfer asked for by [`crate::SendSnapshot`] has ended.
    SnapshotSent {
        /// Who was to get it.
        to: NodeId,
        /// How it ended.
        outcome: SnapshotOutcome,
    },
    /// The answer to a [`crate::Fetch`].
    Fetched {
        /// Which one.
        id: FetchId,
        /// What was found.
        result: Fetched,
    },
    /// The connection to this peer is closed: what was on its way may be lost. Where the peer leads, a follower asks at
    /// once whether an election could be won (diss. §9.6), which disturbs nobody who still hears the leader.
    Disconnected(NodeId),
}

/// How the transfer of a snapshot ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotOutcome {
    /// The peer has it, durably; it ends with this entry.
    Delivered(EntryId),
    /// It did not get through.
    Failed,
}

/// What storage answers to a [`crate::Fetch`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fetched {
    /// The entries from the first one asked for on, without a gap: at least one, and no more than
    /// was asked for.
    Entries(Vec<Entry>),
    /// The first entry asked for is no longer in the log.
    Compacted,
    /// The log cannot be read. The node stops.
    Failed,
}

/// What a snapshot says about itself (§7).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotMeta {
    /// The last entry that the snapshot replaces.
    pub last: EntryId,
    /// The configuration in force at that entry.
    pub configuration: Configuration,
}

/// What the disk held when the node started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restored {
    /// Names the data directory: drawn at random when it was created. [`Incarnation`] 0 is for those who do not tell
    /// incarnations apart.
    pub incarnation: Incarnation,
    /// The last hard state that was written.
    pub hard_state: HardState,
    /// Where the log starts: the last compacted entry and the configuration in force there. For a log
    /// that was never compacted, [`EntryId::ZERO`] and the first configuration.
    pub start: SnapshotMeta,
    /// The terms of the entries after `start`, up to the last one.
    pub terms: TermRuns,
    /// The configurations among these entries, ascending, each with its index.
    pub configurations: Vec<(LogIndex, Configuration)>,
    /// The newest complete snapshot, if there is one.
    pub snapshot: Option<SnapshotMeta>,
}

impl Restored {
    /// What a node starts from that never ran before: an empty log, the first configuration, and incarnation 0. A node
    /// that is to join a cluster starts from an empty configuration.
    #[must_use]
    pub fn first_start(configuration: Configuration) -> Restored {
        Restored {
            incarnation: Incarnation(0),
            hard_state: HardState::default(),
            start: SnapshotMeta { last: EntryId::ZERO, configuration },
            terms: TermRuns::new(EntryId::ZERO),
            configurations: Vec::new(),
            snapshot: None,
        }
    }

    /// Whether all of this can be of one disk, and of the node `id`.
    pub(crate) fn check(&self, id: NodeId) -> Result<(), RestoreError> {
        let Restored { incarnation, hard_state, start, terms, configurations, snapshot } = self;
        if terms.start() != start.last {
            return Err(RestoreError::TermsMismatch { terms: terms.start(), start: start.last });
        }
        let (last, commit) = (terms.last(), hard_state.commit);
        let snapshot = snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        if start.last.index > snapshot.index {
            return Err(RestoreError::Gap { start: start.last, snapshot });
        }
        let holds_snapshot = terms.contains(snapshot);
        if !holds_snapshot && commit >= snapshot.index {
            // A log that knows the snapshot's entry to be committed has it.
            return Err(RestoreError::Conflict { snapshot, last });
        }
        if commit > last.index && holds_snapshot {
            return Err(RestoreError::CommitBeyondLog { last, commit });
        }
        if *incarnation == Incarnation::NOBODY {
            return Err(RestoreError::Nobody(id));
        }
        check_places(configurations, terms)?;
        let named = start.configuration.member(id);
        if last == EntryId::ZERO
            && hard_state.term == Term(0)
            && named.is_some_and(|member| !member.is(id, *incarnation))
        {
            return Err(RestoreError::OtherIncarnation { id, incarnation: *incarnation });
        }
        Ok(())
    }
}

/// Configurations come with the index of their entries, in the order of the log.
fn check_places(
    configurations: &[(LogIndex, Configuration)],
    terms: &TermRuns,
) -> Result<(), RestoreError> {
    let mut before = terms.start().index;
    for (index, _) in configurations {
        if *index <= before || *index > terms.last().index {
            let last = terms.last();
            return Err(RestoreError::MisplacedConfiguration { index: *index, last });
        }
        before = *index;
    }
    Ok(())
}
