//! Snapshots and compaction (§7). The images are the driver's to write, move and read.

use crate::applying::Applying;
use crate::{LogIndex, Node, NodeId, SnapshotMeta, SnapshotOutcome, Term};

impl Node {
    /// A snapshot of this node's own state machine is durable: the log before it may go, but for a few entries that
    /// are kept for followers who lag a little.
    pub(crate) fn snapshot_taken(&mut self, meta: &SnapshotMeta) {
        let index = meta.last.index;
        if index <= self.snapshot.index || index <= self.log.start().index {
            // A received snapshot has overtaken it.
            return;
        }
        if index > self.applying.handed_out || !self.log.terms().contains(meta.last) {
            self.counters.snapshots_refused += 1;
            return;
        }
        self.snapshot = meta.last;
        let start = self.compaction_point(index);
        if start <= self.log.start().index {
            return;
        }
        self.log.compact(start);
        self.configurations.compact(start);
        let configuration = self.configurations.at(start).clone();
        self.disk.compact = Some(SnapshotMeta { last: self.log.start(), configuration });
    }

    /// A snapshot of a leader is durable here. If the log goes on from it, the log stays (§7, last paragraph);
    /// else it is replaced, which counts once that is durable, too.
    pub(crate) fn snapshot_received(&mut self, meta: SnapshotMeta) {
        let index = meta.last.index;
        if index <= self.commit {
            return;
        }
        let absurd = index.0 >= u64::MAX / 2
            || meta.last.term == Term(u64::MAX)
            // Terms never decrease along a log (§5.3).
            || self.log.terms().term(self.commit) > Some(meta.last.term);
        let contained = self.log.terms().contains(meta.last);
        if absurd || (!contained && self.leader_state().is_some()) {
            // A leader's log holds everything that is committed (§5.4.3).
            self.counters.snapshots_refused += 1;
            return;
        }
        if meta.last.term > self.term {
            self.enter_term(meta.last.term);
        }
        if !contained {
            self.snapshot = meta.last;
            self.commit = index;
            self.applying = Applying::new(index);
            self.replace_log(meta);
            // What was known of a longer log is known no more.
            let follower = &mut self.follower;
            follower.verified = index;
            follower.claimed = follower.claimed.min(index.previous());
            follower.owed = follower.owed.min(Some(index));
        }
        self.commit_to(index);
        self.follower.verified = self.follower.verified.max(index);
    }

    /// The log starts anew after a received snapshot that it does not go on from: at the next write, with the configurations
    /// that it takes with it.
    pub(crate) fn replace_log(&mut self, mut meta: SnapshotMeta) {
        self.configurations.replace(&mut meta);
        self.log.reset(meta.last);
        self.disk.replaced(meta);
    }

    /// The log that starts after a received snapshot is durable: the state machine may follow.
    pub(crate) fn snapshot_installed(&mut self, meta: SnapshotMeta) {
        self.applying.restore = Some(meta);
    }

    /// A transfer to a follower has ended.
    pub(crate) fn snapshot_sent(&mut self, to: NodeId, outcome: SnapshotOutcome) {
        let end = self.log.last().index;
        let Some(leader) = self.leader_state() else { return };
        let round = leader.round;
        let Some(peer) = leader.progress_mut(to) else { return };
        if !peer.awaits_snapshot() {
            return;
        }
        match outcome {
            // Only the follower itself can say what its log holds: this is where to ask.
            SnapshotOutcome::Delivered(last) => peer.probe(last.index.min(end).next()),
            SnapshotOutcome::Failed => peer.probe_later(peer.next, round),
        }
    }

    /// Where the log is to start, with a snapshot at `snapshot`.
    fn compaction_point(&self, snapshot: LogIndex) -> LogIndex {
        let limits = &self.options.limits;
        let (mut start, mut entries, mut bytes) = (snapshot, 0, 0);
        while entries < limits.kept_entries_max {
            let Some(cost) = self.log.cost_bytes(start) else { break };
            bytes += cost;
            if bytes > limits.kept_bytes_max {
                break;
            }
            entries += 1;
            start = start.previous();
        }
        start
    }
}
