//! What the disk is known to hold, and the one write that is out.
//!
//! Nothing that promises durability is queued: whoever wants to say something that the disk must back asks here,
//! at the moment of saying it. So a message that waits has not left the core.

use core::time::Duration;

use crate::{HardState, LogIndex, SnapshotMeta, Term, Vote, WriteId};

/// What the disk is known to hold.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Disk {
    /// The term and vote that are durable.
    durable_vote: (Term, Option<Vote>),
    /// The entries of the present log up to here are durable. Zero while the log's start itself is not.
    durable: LogIndex,
    /// The entries of the present log up to here are durable or in the write that is out.
    written: LogIndex,
    /// The hard state of the last write, durable or out.
    written_state: HardState,
    /// The next write starts by replacing the log.
    pub(crate) reset: Option<SnapshotMeta>,
    /// The next write moves the log's start.
    pub(crate) compact: Option<SnapshotMeta>,
    out: Option<Out>,
    next_id: WriteId,
}

/// The write that is out.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
struct Out {
    id: WriteId,
    /// When it left.
    since: Duration,
    vote: (Term, Option<Vote>),
    /// When it is durable, so are the entries of the present log up to here. A truncation lowers it, so
    /// that what was overwritten meanwhile never counts.
    covers: LogIndex,
    /// It replaces the log by an empty one after this snapshot.
    reset: Option<SnapshotMeta>,
}

impl Disk {
    /// The disk holds `state` and all entries up to `last`.
    pub(crate) fn new(state: HardState, last: LogIndex) -> Disk {
        Disk {
            durable_vote: (state.term, state.vote),
            durable: last,
            written: last,
            written_state: state,
            reset: None,
            compact: None,
            out: None,
            next_id: WriteId(1),
        }
    }

    /// The entries of the present log up to here are durable.
    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    /// The entries of the present log up to here are durable or on their way.
    pub(crate) fn written(&self) -> LogIndex {
        self.written
    }

    /// Whether it is durable that `term` is the current one.
    pub(crate) fn holds_term(&self, term: Term) -> bool {
        self.durable_vote.0 == term
    }

    /// Whether it is durable that any term has begun.
    pub(crate) fn has_held_a_term(&self) -> bool {
        self.durable_vote.0 > Term(0)
    }

    /// Whether this vote in `term` is durable.
    pub(crate) fn holds_vote(&self, term: Term, vote: Vote) -> bool {
        self.durable_vote == (term, Some(vote))
    }

    /// Whether a write is out: the next one waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.out.is_some()
    }

    /// When the write that is out left.
    pub(crate) fn busy_since(&self) -> Option<Duration> {
        self.out.as_ref().map(|out| out.since)
    }

    /// Whether there is a reason to write. A commit index alone is none.
    pub(crate) fn wants_write(&self, state: HardState, last: LogIndex) -> bool {
        self.reset.is_some()
            || self.compact.is_some()
            || self.written < last
            || (self.written_state.term, self.written_state.vote) != (state.term, state.vote)
    }

    /// A write leaves `now`: it holds `state` and the entries up to `last`. Returns its id, and the hard state
    /// if that is new.
    pub(crate) fn write_left(
        &mut self,
        now: Duration,
        state: HardState,
        last: LogIndex,
        reset: Option<SnapshotMeta>,
    ) -> (WriteId, Option<HardState>) {
        let id = self.next_id;
        self.next_id = WriteId(id.0 + 1);
        self.written = last;
        let changed = (self.written_state != state).then_some(state);
        self.written_state = state;
        self.out =
            Some(Out { id, since: now, vote: (state.term, state.vote), covers: last, reset });
        (id, changed)
    }

    /// The write `id` is durable. Returns the snapshot after which the log now starts, if the write has
    /// replaced it; `None` when no such write is out.
    pub(crate) fn persisted(&mut self, id: WriteId) -> Option<Option<SnapshotMeta>> {
        let out = self.out.take_if(|out| out.id == id)?;
        self.durable_vote = out.vote;
        self.durable = self.durable.max(out.covers);
        Some(out.reset)
    }

    /// The entry at `first` and all after it are no longer those of the log.
    pub(crate) fn truncated(&mut self, first: LogIndex) {
        let kept = first.previous();
        self.durable = self.durable.min(kept);
        self.written = self.written.min(kept);
        if let Some(out) = &mut self.out {
            out.covers = out.covers.min(kept);
        }
    }

    /// One write is out at a time, so its name makes no difference; and it has just left.
    #[cfg(feature = "model")]
    pub(crate) fn canonicalize(&mut self, now: Duration) {
        self.next_id = WriteId(1);
        if let Some(out) = &mut self.out {
            (out.id, out.since) = (WriteId(0), now);
        }
    }

    /// The log is replaced by an empty one after `snapshot`: until that is durable, nothing is.
    pub(crate) fn replaced(&mut self, snapshot: SnapshotMeta) {
        self.durable = LogIndex::ZERO;
        self.written = snapshot.last.index;
        self.reset = Some(snapshot);
        self.compact = None;
        if let Some(out) = &mut self.out {
            out.covers = LogIndex::ZERO;
            out.reset = None;
        }
    }
}
