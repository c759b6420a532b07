//! A leader's side: replication (§5.3), commitment (§5.4.2), heartbeats, CheckQuorum (diss. §6.2).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::log::Log;
use crate::membership::Change;
use crate::node::RoleState;
use crate::progress::{PeerFetch, Progress, ProgressState};
use crate::reads::{LeaderReads, LeaseHeld};
use crate::transfer::Transfer;
use crate::{
    AppendOutcome, ChangeFailed, Counters, Effects, Entries, EntryId, Envelope, Fetch, FetchId,
    Incarnation, Limits, LogIndex, Member, Message, Node, NodeId, Payload, SendSnapshot, Term,
};

/// What a leader keeps for its term (paper, Fig. 2: "volatile state on leaders").
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Leader {
    /// All other members, and those that are just leaving, sorted by id.
    pub(crate) peers: Vec<Progress>,
    /// The entry with which it opened its term.
    pub(crate) first: LogIndex,
    /// The latest round of heartbeats. The first one is random, so that an answer to a former life of this
    /// process confirms nothing.
    pub(crate) round: u64,
    pub(crate) heartbeat_due: Duration,
    /// Whether a round of heartbeats starts at the next drain.
    heartbeat_now: bool,
    pub(crate) uncommitted: Uncommitted,
    pub(crate) reads: LeaderReads,
    pub(crate) lease: LeaseHeld,
    pub(crate) change: Option<Change>,
    pub(crate) transfer: Option<Transfer>,
}

impl Leader {
    pub(crate) fn progress_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    pub(crate) fn progress(&self, id: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    /// The peer that has answered, if what this incarnation of it says counts.
    fn who_answers(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        counters: &mut Counters,
    ) -> Option<&mut Progress> {
        let Some(peer) = self.progress_mut(from) else {
            counters.misaddressed += 1;
            return None;
        };
        if !peer.hears(incarnation) {
            counters.forgotten_incarnations += 1;
            return None;
        }
        Some(peer)
    }

    /// When it next has something to do without an input.
    pub(crate) fn next_tick(&self) -> Duration {
        let transfer = self.transfer.as_ref().map_or(Duration::MAX, |transfer| transfer.deadline);
        self.heartbeat_due.min(transfer)
    }
}

/// What this leader has proposed and is not committed: the cost of each entry, for the limits.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Uncommitted {
    /// The index before the first of `costs_bytes`.
    before: LogIndex,
    costs_bytes: VecDeque<usize>,
    bytes: usize,
}

impl Uncommitted {
    /// Of a leader whose first entry is at `first`; that one is not counted.
    fn new(first: LogIndex) -> Uncommitted {
        Uncommitted { before: first, costs_bytes: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn has_room(&self, cost: usize, limits: &Limits) -> bool {
        self.costs_bytes.is_empty()
            || (self.costs_bytes.len() < limits.uncommitted_entries_max
                && self.bytes + cost <= limits.uncommitted_bytes_max)
    }

    pub(crate) fn push(&mut self, cost: usize) {
        self.costs_bytes.push_back(cost);
        self.bytes += cost;
    }

    pub(crate) fn committed(&mut self, index: LogIndex) {
        while self.before < index {
            let Some(cost) = self.costs_bytes.pop_front() else { break };
            self.bytes -= cost;
            self.before = self.before.next();
        }
        const KEPT_ENTRIES: usize = 1024;
        if self.costs_bytes.is_empty() && self.costs_bytes.capacity() > 4 * KEPT_ENTRIES {
            self.costs_bytes.shrink_to(KEPT_ENTRIES);
        }
    }
}

impl Node {
    pub(crate) fn leader_state(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// Takes the lead: the election of this term is won (§5.2).
    pub(crate) fn lead(&mut self) {
        let (now, id) = (self.now(), self.options.id);
        // With an entry of its own term, a leader can commit what earlier terms have left (§5.4.2, §8).
        let first = self.log.push(self.term, Payload::Empty).index;
        let members = self.configurations.latest().members();
        let peers = members.into_iter().filter(|member| member.id != id);
        self.role = RoleState::Leader(Leader {
            peers: peers.map(|member| Progress::new(member, first, now)).collect(),
            first,
            round: self.random.next() >> 1,
            heartbeat_due: now.saturating_add(self.options.heartbeat_interval),
            heartbeat_now: false,
            uncommitted: Uncommitted::new(first),
            reads: LeaderReads::default(),
            lease: LeaseHeld::default(),
            change: None,
            transfer: None,
        });
        self.leader = Some(id);
    }

    pub(crate) fn tick_leader(&mut self) {
        let now = self.now();
        let (timeout, interval) = (self.options.election_timeout, self.options.heartbeat_interval);
        let Some(leader) = self.leader_state() else { return };
        leader.transfer.take_if(|transfer| transfer.deadline <= now);
        if now < leader.heartbeat_due {
            return;
        }
        leader.heartbeat_due = now.saturating_add(interval);
        leader.heartbeat_now = true;
        leader.peers.retain(|peer| peer.leaving_until.is_none_or(|until| until > now));
        if self.options.check_quorum && self.quorum_heard_at().saturating_add(timeout) <= now {
            // Others may have elected a new leader by now (diss. §6.2).
            self.stop_leading();
        } else if self.is_stalled() {
            // Its heartbeats keep others from leading, and it can answer nobody.
            self.stop_leading();
        } else {
            self.hand_over_if_the_disk_is_sick();
        }
    }

    /// Whether the own disk has not taken a write in for so long that another voter had better lead.
    fn is_stalled(&self) -> bool {
        self.write_waits() >= self.options.write_stall_max && !self.is_sole_voter()
    }

    /// The latest moment by which a quorum had been heard in this term.
    fn quorum_heard_at(&self) -> Duration {
        let RoleState::Leader(leader) = &self.role else { return self.now() };
        let heard_at = self.quorum_of(leader, self.now(), Duration::ZERO, |peer| peer.heard_at);
        heard_at.unwrap_or(self.now())
    }

    /// The greatest value that a quorum has reached, when this node has reached `own`, and who was not heard
    /// `nothing`.
    pub(crate) fn quorum_of<T: Ord + Copy>(
        &self,
        leader: &Leader,
        own: T,
        nothing: T,
        of: impl Fn(&Progress) -> T,
    ) -> Option<T> {
        let (id, incarnation) = (self.options.id, self.incarnation);
        self.configuration().quorum_value(|voter: &Member| {
            if voter.is(id, incarnation) {
                return own;
            }
            leader.progress(voter.id).filter(|p| p.speaks_for(voter)).map_or(nothing, &of)
        })
    }

    pub(crate) fn receive_append_response(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        outcome: AppendOutcome,
    ) {
        let (now, last, start) = (self.now(), self.log.last().index, self.log.start());
        let RoleState::Leader(leader) = &mut self.role else { return };
        let round = leader.round;
        let Some(peer) = leader.who_answers(from, incarnation, &mut self.counters) else { return };
        match outcome {
            AppendOutcome::Accepted { matched } if matched > last => {
                self.counters.acknowledged_unsent += 1;
            }
            AppendOutcome::Accepted { matched } => {
                peer.heard_at = now;
                // Only what is not committed yet can become so.
                if peer.accepted(matched, start.index) && matched > self.commit {
                    self.advance_commit();
                }
            }
            AppendOutcome::Rejected { previous, hint } if hint.index >= previous => {
                self.counters.malformed += 1;
            }
            AppendOutcome::Rejected { previous, hint } => {
                peer.heard_at = now;
                let current = match peer.state {
                    ProgressState::Probe { .. } => previous.next() == peer.next,
                    ProgressState::Replicate => previous > peer.matched,
                    ProgressState::Snapshot => false,
                };
                if current && hint.index < peer.matched {
                    // Its disk has lost what it acknowledged. Nothing can be sent that it would take: ask now and then.
                    peer.probe_later(peer.next, round);
                } else if current {
                    peer.probe(next_after_rejection(&self.log, hint));
                }
            }
        }
    }

    pub(crate) fn receive_heartbeat_response(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        round: u64,
        received: LogIndex,
    ) {
        let now = self.now();
        let last = self.log.last().index;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let current = leader.round;
        let Some(peer) = leader.who_answers(from, incarnation, &mut self.counters) else { return };
        if received > last || round > current {
            self.counters.acknowledged_unsent += 1;
            return;
        }
        peer.heard_at = now;
        peer.answered = peer.answered.max(Some(round));
        peer.heartbeat_answered(round, received);
    }

    /// Commits what a quorum holds durably, this node among it or not (§5.3). Only an entry of the leader's own
    /// term is committed by counting; those before it follow (§5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let durable = self.disk.durable();
        let matched = self.quorum_of(leader, durable, LogIndex::ZERO, |peer| peer.matched);
        let Some(quorum) = matched else { return };
        if quorum > self.commit && self.log.terms().term(quorum) == Some(self.term) {
            self.commit_to(quorum);
        }
    }

    /// Heartbeats, and to each peer as few AppendEntries as its window and the message limit allow.
    pub(crate) fn drain_leader(&mut self, effects: &mut Effects) {
        if !matches!(self.role, RoleState::Leader(_)) {
            return;
        }
        self.confirm_rounds(effects);
        let (now, may_read) = (self.now(), self.own_term_is_committed());
        let RoleState::Leader(leader) = &mut self.role else { return };
        let for_reads = may_read && leader.reads.want_a_round();
        let heartbeat = core::mem::take(&mut leader.heartbeat_now) || for_reads;
        if heartbeat {
            leader.round = leader.round.wrapping_add(1);
            if self.options.lease.is_some() {
                leader.lease.round_left(leader.round, now);
            }
            if may_read {
                leader.reads.round_left(leader.round, self.commit);
            }
        }
        let round = leader.round;
        let mut sender = Sender {
            id: self.options.id,
            incarnation: self.incarnation,
            term: self.term,
            commit: self.commit,
            round,
            log: &self.log,
            limits: &self.options.limits,
            next_fetch: &mut self.next_fetch,
            effects,
        };
        for peer in &mut leader.peers {
            if heartbeat {
                peer.at_heartbeat.get_or_insert((round, peer.matched, peer.next));
                sender.heartbeat(peer, Some(round));
            }
            sender.entries(peer);
            if peer.commit_sent < peer.matched.min(self.commit) {
                // The commit index moved, and no entries are there to carry it.
                sender.heartbeat(peer, None);
            }
        }
        if heartbeat {
            // Who is alone needs no answer.
            self.confirm_rounds(effects);
        }
        self.drain_transfer(effects);
        self.retire_if_removed(effects);
    }

    /// Whether an entry of this leader's own term is committed: only then does it know what is (§5.4.2, diss. §6.4).
    pub(crate) fn own_term_is_committed(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => self.commit >= leader.first,
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// This node led until now: whoever waits for it is told.
    pub(crate) fn lead_lost(&mut self, leader: Leader) {
        self.refuse_reads(leader.reads);
        if leader.change.is_some() {
            let configuration = self.configuration().clone();
            self.change_done = Some(Err(ChangeFailed::LostLead { configuration }));
        }
    }

    /// The first entry that a fetch for a peer has asked for; `None` when nobody waits for that answer any more.
    pub(crate) fn asked_for_peer(&self, id: FetchId) -> Option<LogIndex> {
        let RoleState::Leader(leader) = &self.role else { return None };
        leader.peers.iter().find(|peer| peer.fetch.is_asked(id)).map(|peer| peer.next)
    }

    /// Old entries for a peer have been read; `None` when they are compacted.
    pub(crate) fn fetched_for_peer(&mut self, id: FetchId, found: Option<Entries>) {
        let Some(leader) = self.leader_state() else { return };
        let Some(peer) = leader.peers.iter_mut().find(|peer| peer.fetch.is_asked(id)) else {
            return;
        };
        peer.fetch = found.map_or(PeerFetch::Compacted, PeerFetch::Found);
    }
}

/// Where to try next, when the follower's last entry that may match is `hint` (§5.3).
fn next_after_rejection(log: &Log, hint: EntryId) -> LogIndex {
    let start = log.start();
    if hint.index < start.index {
        return hint.index.next();
    }
    let candidate = log.terms().last_at_most(hint.index, hint.term);
    if candidate == start && start.term > hint.term {
        // Even the compaction point conflicts: only a snapshot helps.
        return start.index;
    }
    candidate.index.next()
}

/// What it takes to send to peers, borrowed for one drain.
struct Sender<'a> {
    id: NodeId,
    incarnation: Incarnation,
    term: Term,
    commit: LogIndex,
    round: u64,
    log: &'a Log,
    limits: &'a Limits,
    next_fetch: &'a mut u64,
    effects: &'a mut Effects,
}

impl Sender<'_> {
    fn send(&mut self, to: NodeId, message: Message) {
        let (from, incarnation, term) = (self.id, self.incarnation, self.term);
        self.effects.messages.push(Envelope { from, incarnation, to, term, message });
    }

    fn heartbeat(&mut self, peer: &mut Progress, round: Option<u64>) {
        let commit = self.commit.min(peer.matched);
        peer.commit_sent = peer.commit_sent.max(commit);
        self.send(peer.id, Message::Heartbeat { commit, round });
    }

    /// Sends what the peer may be sent now.
    fn entries(&mut self, peer: &mut Progress) {
        let asked = peer.ask.take();
        let start = self.log.start().index;
        if asked.is_some_and(|index| index < start) {
            // Compacted: the peer needs a snapshot, or a rejection of what comes after it says so.
            peer.probe(peer.next.min(start.next()));
        }
        let mut sent = false;
        while peer.may_send(self.limits) {
            if peer.next <= start || peer.fetch.is_compacted() {
                peer.await_snapshot();
                self.effects.snapshots.push(SendSnapshot { to: peer.id });
                return;
            }
            let Some((entries, bytes)) = self.next_entries(peer) else { break };
            let end = entries.last().map_or(peer.next.previous(), |entry| entry.id.index);
            if !self.append(peer, peer.next.previous(), entries) {
                break;
            }
            peer.sent(self.round, end, bytes);
            sent = true;
        }
        // The answer to anything that was sent covers what was asked for, too.
        if let Some(index) = asked
            && !sent
        {
            self.append(peer, index, Entries::new());
        }
    }

    /// The entries that the next message to the peer carries, and what they cost. `None` when there is nothing to
    /// say, or when they must be read first.
    fn next_entries(&mut self, peer: &mut Progress) -> Option<(Entries, usize)> {
        let last = self.log.last().index;
        if peer.next > last {
            // Whether the peer has everything is unknown: an empty message asks.
            let probes = matches!(peer.state, ProgressState::Probe { .. });
            let asks = probes && peer.matched.next() < peer.next;
            return asks.then(|| (Entries::new(), 0));
        }
        if peer.next < self.log.tail_first() {
            let entries = self.fetched(peer)?;
            let bytes = entries.cost_bytes();
            return Some((entries, bytes));
        }
        let Limits { message_entries_max, message_bytes_max, .. } = *self.limits;
        Some(self.log.entries(peer.next, last, message_entries_max, message_bytes_max))
    }

    /// Sends one AppendEntries. `false`: `previous` has been compacted.
    fn append(&mut self, peer: &mut Progress, previous: LogIndex, entries: Entries) -> bool {
        let Some(term) = self.log.terms().term(previous) else { return false };
        let end = entries.last().map_or(previous, |entry| entry.id.index);
        peer.commit_sent = peer.commit_sent.max(self.commit.min(end));
        let previous = EntryId::new(term, previous);
        self.send(peer.id, Message::AppendEntries { previous, entries, commit: self.commit });
        true
    }

    /// The entries from `peer.next` on, when they have been read; else asks for them.
    fn fetched(&mut self, peer: &mut Progress) -> Option<Entries> {
        match core::mem::replace(&mut peer.fetch, PeerFetch::None) {
            PeerFetch::Found(entries) => return Some(entries),
            PeerFetch::Asked(id) => {
                peer.fetch = PeerFetch::Asked(id);
                return None;
            }
            PeerFetch::None | PeerFetch::Compacted => {}
        }
        let id = FetchId(*self.next_fetch);
        *self.next_fetch += 1;
        peer.fetch = PeerFetch::Asked(id);
        let count = self.limits.message_entries_max as u64;
        let last = LogIndex(peer.next.0.saturating_add(count.saturating_sub(1)));
        self.effects.fetches.push(Fetch {
            id,
            first: peer.next,
            last: last.min(self.log.tail_first().previous()),
            bytes_max: self.limits.message_bytes_max,
        });
        None
    }
}
