//! A follower's side of replication (§5.3).

use alloc::vec::Vec;

use crate::node::RoleState;
use crate::{AppendOutcome, Effects, Entry, EntryId, LogIndex, Message, Node, NodeId, Term};

impl Node {
    /// Takes in entries of the current term's leader (§5.3).
    pub(crate) fn receive_append_entries(
        &mut self,
        from: NodeId,
        previous: EntryId,
        entries: Vec<Entry>,
        commit: LogIndex,
    ) {
        if !is_sound(previous, &entries, self.term) {
            self.counters.malformed += 1;
            return;
        }
        if !self.hear_leader(from) {
            return;
        }
        if !self.matches(previous) {
            let hint = self.log.terms().last_at_most(previous.index.previous(), previous.term);
            let outcome = AppendOutcome::Rejected { previous: previous.index, hint };
            let answer = self.envelope(from, Message::AppendResponse(outcome));
            self.answers.push(answer);
            return;
        }
        let Some(verified) = self.take_entries(previous, entries) else { return };
        self.follower.verified = self.follower.verified.max(verified);
        self.follower.owed = self.follower.owed.max(Some(verified));
        self.commit_to(commit.min(verified));
    }

    /// Takes in a heartbeat. Its answer promises nothing and leaves at once.
    pub(crate) fn receive_heartbeat(&mut self, from: NodeId, commit: LogIndex, round: Option<u64>) {
        if !self.hear_leader(from) {
            return;
        }
        // An honest leader names only what it knows to be here; a wiped disk may have forgotten it.
        self.commit_to(commit.min(self.follower.verified));
        if let Some(round) = round {
            let received = self.follower.verified;
            let answer = self.envelope(from, Message::HeartbeatResponse { round, received });
            self.answers.push(answer);
        }
    }

    /// Acknowledges to the leader what is durable by now, never more.
    pub(crate) fn drain_acknowledgement(&mut self, effects: &mut Effects) {
        let (RoleState::Follower, Some(leader)) = (&self.role, self.leader) else { return };
        if !self.disk.holds_term(self.term) {
            // Without the term, a crash would make this node answer to an earlier leader again.
            return;
        }
        let matched = self.follower.verified.min(self.disk.durable());
        let owed = self.follower.owed.is_some_and(|owed| owed <= matched);
        if !owed && matched <= self.follower.claimed {
            return;
        }
        self.follower.claimed = matched;
        if owed {
            self.follower.owed = None;
        }
        let outcome = AppendOutcome::Accepted { matched };
        effects.messages.push(self.envelope(leader, Message::AppendResponse(outcome)));
    }

    /// The consistency check: whether the log holds `previous` (§5.3). What is committed or compacted is the same in
    /// every log that has it.
    fn matches(&self, previous: EntryId) -> bool {
        previous.index <= self.log.start().index || self.log.terms().contains(previous)
    }

    /// Puts those of `entries` that the log lacks into it. Returns the index up to which the log is then known to be
    /// the leader's; `None` when they contradict what is committed.
    fn take_entries(&mut self, previous: EntryId, entries: Vec<Entry>) -> Option<LogIndex> {
        let start = self.log.start().index;
        let mut verified = previous.index.max(start.min(self.commit));
        for entry in entries {
            let index = entry.id.index;
            if index <= start || self.log.terms().contains(entry.id) {
                // Here already: a stale or repeated message never makes the log shorter.
                verified = verified.max(index);
                continue;
            }
            if index <= self.commit {
                self.counters.conflicts_with_committed += 1;
                return None;
            }
            if index <= self.log.last().index {
                self.log.truncate(index);
                self.disk.truncated(index);
                self.follower.verified = self.follower.verified.min(index.previous());
            }
            if !self.has_room(entry.cost_bytes()) {
                self.counters.appends_dropped += 1;
                break;
            }
            self.log.push(entry.id.term, entry.payload);
            verified = index;
        }
        Some(verified)
    }

    /// Whether the memory tail takes an entry of this cost, after what is durable has left it as far as needed. One
    /// entry always fits.
    fn has_room(&mut self, cost: usize) -> bool {
        let bytes_max = self.options.limits.tail_bytes_max;
        self.log.evict(self.disk.durable(), bytes_max.saturating_sub(cost));
        self.log.tail_bytes() + cost <= bytes_max || self.log.tail_first() > self.log.last().index
    }
}

/// Whether the entries follow upon `previous` without a gap, in terms that never decrease up to that of their leader.
fn is_sound(previous: EntryId, entries: &[Entry], term: Term) -> bool {
    let mut before = previous;
    for entry in entries {
        if Some(entry.id.index.0) != before.index.0.checked_add(1) || entry.id.term < before.term {
            return false;
        }
        before = entry.id;
    }
    before.term <= term
}
