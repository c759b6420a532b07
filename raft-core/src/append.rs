//! A follower's side of replication (§5.3).

use crate::log;
use crate::node::RoleState;
use crate::{
    AppendOutcome, Effects, Entries, Entry, EntryId, LogIndex, Message, Node, NodeId, Payload, Term,
};

impl Node {
    /// Takes in entries of the current term's leader (§5.3).
    pub(crate) fn receive_append_entries(
        &mut self,
        from: NodeId,
        previous: EntryId,
        entries: Entries,
        commit: LogIndex,
    ) {
        if !is_sound(previous, &entries, self.term) {
            self.counters.malformed += 1;
            return;
        }
        if !self.hear_leader(from) {
            return;
        }
        if self.contradicts_commit(previous) {
            self.counters.conflicts_with_committed += 1;
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

    /// Takes in a heartbeat. Its answer waits for no disk; where it is a promise, it needs that the node is known to have run.
    pub(crate) fn receive_heartbeat(&mut self, from: NodeId, commit: LogIndex, round: Option<u64>) {
        if !self.hear_leader(from) {
            return;
        }
        // An honest leader names only what it knows to be here; a wiped disk may have forgotten it.
        self.commit_to(commit.min(self.follower.verified));
        if let Some(round) = round
            && self.may_answer_rounds()
        {
            let received = self.follower.verified;
            let answer = self.envelope(from, Message::HeartbeatResponse { round, received });
            self.answers.push(answer);
        }
    }

    /// With leases, to answer a round of heartbeats is a promise (diss. §6.4.1). Who keeps it after a crash is whose disk
    /// shows that it ran before, in whatever term: [`Node::honour_former_leases`].
    fn may_answer_rounds(&self) -> bool {
        self.options.lease.is_none() || self.disk.has_held_a_term()
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

    /// Whether another entry is committed at the place of `id`, as far as its term is still known: no leader sends
    /// such an entry (§5.4.3).
    fn contradicts_commit(&self, id: EntryId) -> bool {
        id.index <= self.commit
            && self.log.terms().term(id.index).is_some_and(|term| term != id.term)
    }

    /// Puts those of `entries` that the log lacks into it. Returns the index up to which the log is then known to be
    /// the leader's; `None` when they contradict what is committed.
    fn take_entries(&mut self, previous: EntryId, entries: Entries) -> Option<LogIndex> {
        let start = self.log.start().index;
        // Compacted entries are committed, so they are the leader's, too.
        let held = previous.index.max(start);
        let here = |entry: &Entry| entry.id.index < start || self.log.terms().contains(entry.id);
        let known = match previous == self.log.last() {
            true => 0,
            false => entries.iter().take_while(|entry| here(entry)).count(),
        };
        // A stale or repeated message brings nothing new, and never makes the log shorter.
        let Some(first) = entries.get(known).map(|entry| entry.id.index) else {
            return Some(entries.last().map_or(held, |entry| held.max(entry.id.index)));
        };
        if first <= self.commit {
            self.counters.conflicts_with_committed += 1;
            return None;
        }
        if first <= self.log.last().index {
            self.log.truncate(first);
            self.disk.truncated(first);
            self.configurations.truncate(first);
            self.follower.verified = self.follower.verified.min(first.previous());
        }
        let new = match known {
            0 => entries,
            // Copied: a part of a resent run must not keep all of it in memory.
            known => entries[known..].iter().cloned().collect(),
        };
        let (fitting, bytes) = self.fitting(&new);
        let new = match fitting < new.len() {
            true => {
                self.counters.appends_dropped += 1;
                new.slice(0..fitting)
            }
            false => new,
        };
        self.take_configurations(&new);
        self.log.append(new, bytes);
        Some(self.log.last().index)
    }

    /// A configuration counts from the moment at which it is appended (§6).
    fn take_configurations(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push(entry.id.index, configuration.clone());
            }
        }
    }

    /// How many of `entries` the memory tail takes, and what they cost, after what is durable has left it as far as
    /// needed. An empty tail takes at least one.
    fn fitting(&mut self, entries: &Entries) -> (usize, usize) {
        let bytes_max = self.options.limits.tail_bytes_max;
        let bytes = entries.cost_bytes();
        self.log.evict(self.disk.durable(), bytes_max.saturating_sub(bytes));
        let room = bytes_max.saturating_sub(self.log.tail_bytes());
        if bytes <= room {
            return (entries.len(), bytes);
        }
        let is_empty = self.log.tail_first() > self.log.last().index;
        match log::fitting(entries.iter(), room) {
            (1, cost) if cost > room && !is_empty => (0, 0),
            fitting => fitting,
        }
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
