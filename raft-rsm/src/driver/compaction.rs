//! When to take a snapshot, so that the log on disk stays bounded.

use raft_core::{LogIndex, WriteId};

/// The log, as far as it matters here.
#[derive(Copy, Clone, Debug)]
pub(crate) struct LogExtent {
    /// Its size on disk.
    pub(crate) bytes: u64,
    /// Where the newest snapshot ends.
    pub(crate) snapshot: LogIndex,
    /// What a snapshot that is taken now would contain.
    pub(crate) applied: LogIndex,
    /// Its last entry.
    pub(crate) last: LogIndex,
}

impl LogExtent {
    /// Whether a snapshot would contain at least half of what has come since the last one. After a restart it would
    /// contain next to nothing: the log has to be applied first.
    fn is_worth_it(&self) -> bool {
        let gained = self.applied.0.saturating_sub(self.snapshot.0);
        gained > 0 && gained >= self.last.0.saturating_sub(self.applied.0)
    }

    /// About how much of it is not applied, in bytes.
    fn backlog_bytes(&self) -> u64 {
        let backlog = u128::from(self.last.0.saturating_sub(self.applied.0));
        let entries = u128::from(self.last.0.saturating_sub(self.snapshot.0).max(1));
        u64::try_from(u128::from(self.bytes) * backlog / entries).unwrap_or(u64::MAX)
    }
}

/// Decides by the size of the log on disk. It looks at the level in each round, so no trigger is lost
/// while a snapshot is being built.
#[derive(Debug)]
pub(crate) struct Compaction {
    /// The log may grow by this much between two snapshots ...
    growth_bytes_max: u64,
    /// ... or by the size of the last image, where that is greater: else a large state would be
    /// written again and again for a few new entries.
    image_bytes: u64,
    /// What of the log the last snapshot contains and the compaction has left. Entries are kept behind a snapshot for
    /// followers that lag, so this can be more than nothing.
    floor_bytes: u64,
    /// The size of the applied log when the snapshot that is being built was begun, and how much more there was by the
    /// time at which the compaction left: all of that comes after the snapshot.
    built_at_bytes: u64,
    since_bytes: u64,
    state: State,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A snapshot is being built.
    Building,
    /// It is durable; the next write will contain the compaction.
    BeforeWrite,
    /// That write is under way.
    Writing(WriteId),
}

impl Compaction {
    pub(crate) fn new(growth_bytes_max: u64) -> Compaction {
        Compaction {
            growth_bytes_max,
            image_bytes: 0,
            floor_bytes: 0,
            built_at_bytes: 0,
            since_bytes: 0,
            state: State::Idle,
        }
    }

    /// Whether a snapshot is to be taken now.
    pub(crate) fn is_due(&self, log: &LogExtent) -> bool {
        let growth = log.bytes.saturating_sub(self.floor_bytes);
        let has_grown = growth > self.growth_bytes_max.max(self.image_bytes);
        self.state == State::Idle && has_grown && log.is_worth_it()
    }

    pub(crate) fn is_building(&self) -> bool {
        self.state == State::Building
    }

    pub(crate) fn building(&mut self, log: &LogExtent) {
        self.built_at_bytes = log.bytes.saturating_sub(log.backlog_bytes());
        self.state = State::Building;
    }

    /// There was nothing to take a snapshot of.
    pub(crate) fn skipped(&mut self) {
        self.state = State::Idle;
    }

    /// A snapshot of the own machine is durable.
    pub(crate) fn taken(&mut self, image_bytes: u64) {
        self.image_bytes = image_bytes;
        self.state = State::BeforeWrite;
    }

    /// The log was replaced by a leader's snapshot, or the machine was restored from one. `image_bytes` is 0 where an
    /// earlier restore went so far already, and said how long the image is.
    pub(crate) fn restored(&mut self, image_bytes: u64, log_bytes: u64) {
        if image_bytes > 0 {
            self.image_bytes = image_bytes;
        }
        self.floor_bytes = self.floor_bytes.min(log_bytes);
    }

    /// The node was drained: `new` is the write that came out, `busy` whether one is under way.
    pub(crate) fn drained(&mut self, new: Option<WriteId>, busy: bool, log_bytes: u64) {
        if self.state == State::BeforeWrite {
            self.since_bytes = log_bytes.saturating_sub(self.built_at_bytes);
            match new {
                Some(id) => self.state = State::Writing(id),
                // Nothing was to be compacted.
                None if !busy => self.settle(log_bytes),
                None => {}
            }
        }
    }

    pub(crate) fn persisted(&mut self, id: WriteId, log_bytes: u64) {
        if self.state == State::Writing(id) {
            self.settle(log_bytes);
        }
    }

    fn settle(&mut self, log_bytes: u64) {
        self.floor_bytes = log_bytes.saturating_sub(self.since_bytes);
        self.state = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that is applied to its end.
    fn log(bytes: u64) -> LogExtent {
        let last = LogIndex(bytes.max(1));
        LogExtent { bytes, snapshot: LogIndex::ZERO, applied: last, last }
    }

    /// A log with entries of ten bytes after a snapshot up to 100.
    fn backlog(applied: u64, last: u64) -> LogExtent {
        let snapshot = LogIndex(100);
        let bytes = (last - snapshot.0) * 10;
        LogExtent { bytes, snapshot, applied: LogIndex(applied), last: LogIndex(last) }
    }

    #[test]
    fn what_is_not_applied_yet_neither_calls_for_a_snapshot_nor_counts_as_kept() {
        let mut compaction = Compaction::new(1000);
        // A restart: the log is there, and none of it is in the machine.
        assert!(!compaction.is_due(&backlog(100, 500)));
        assert!(!compaction.is_due(&backlog(102, 500)));
        assert!(compaction.is_due(&backlog(300, 500)));
        compaction.building(&backlog(300, 500));
        compaction.taken(10);
        compaction.drained(Some(WriteId(1)), true, 4000);
        compaction.persisted(WriteId(1), 2000);
        // All that is left is new to the next snapshot.
        let rest = LogExtent {
            bytes: 2000,
            snapshot: LogIndex(300),
            applied: LogIndex(500),
            last: LogIndex(500),
        };
        assert!(compaction.is_due(&rest));
    }

    #[test]
    fn a_snapshot_is_due_when_the_log_has_grown_by_the_limit() {
        let mut compaction = Compaction::new(1000);
        assert!(!compaction.is_due(&log(1000)));
        assert!(compaction.is_due(&log(1001)));
        compaction.building(&log(5000));
        assert!(!compaction.is_due(&log(5000)));
        compaction.taken(10);
        compaction.drained(None, true, 5000);
        assert!(!compaction.is_due(&log(5000)));
        compaction.drained(Some(WriteId(7)), true, 5000);
        compaction.persisted(WriteId(6), 5000);
        assert!(!compaction.is_due(&log(5000)));
        // 800 bytes stay for followers that lag.
        compaction.persisted(WriteId(7), 800);
        assert!(!compaction.is_due(&log(1800)));
        assert!(compaction.is_due(&log(1801)));
    }

    #[test]
    fn a_large_image_is_not_written_again_for_few_entries() {
        let mut compaction = Compaction::new(1000);
        compaction.building(&log(0));
        compaction.taken(10_000);
        compaction.drained(None, false, 0);
        assert!(!compaction.is_due(&log(10_000)));
        assert!(compaction.is_due(&log(10_001)));
    }

    #[test]
    fn a_restore_that_has_nothing_to_do_does_not_forget_how_large_the_image_is() {
        let mut compaction = Compaction::new(1000);
        compaction.restored(10_000, 0);
        compaction.restored(0, 0);
        assert!(!compaction.is_due(&log(10_000)));
        assert!(compaction.is_due(&log(10_001)));
    }

    #[test]
    fn growth_while_nothing_was_there_to_take_makes_the_next_one_due() {
        let mut compaction = Compaction::new(1000);
        compaction.building(&log(0));
        compaction.skipped();
        assert!(compaction.is_due(&log(1001)));
    }

    /// openraft #1829: a trigger that is lost while a snapshot is being built.
    #[test]
    fn growth_while_a_snapshot_is_built_makes_the_next_one_due() {
        let mut compaction = Compaction::new(1000);
        compaction.building(&log(1500));
        compaction.taken(10);
        // 4000 bytes were appended meanwhile, and 800 stay for followers that lag.
        compaction.drained(Some(WriteId(7)), true, 5500);
        compaction.persisted(WriteId(7), 4800);
        assert!(compaction.is_due(&log(4800)));
        compaction.building(&log(4800));
        compaction.taken(10);
        compaction.drained(Some(WriteId(8)), true, 4800);
        compaction.persisted(WriteId(8), 800);
        assert!(!compaction.is_due(&log(1800)));
        assert!(compaction.is_due(&log(1801)));
    }
}
