//! Linearizable reads without an entry in the log: ReadIndex at leaders and followers (diss. §6.4), and leases (diss.
//! §6.4.1).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::node::RoleState;
use crate::{
    Effects, Lease, LogIndex, Message, Node, NodeId, Read, ReadError, ReadId, ReadOutcome,
    ReadRefused, Term,
};

/// The reads of a leader, on the way to being confirmed by a round of heartbeats.
///
/// A read shares the next round that *starts* after it arrived, never one that is under way. While one is under way, those
/// that arrive wait together for the next.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct LeaderReads {
    /// They wait for a round to start.
    waiting: Vec<Asker>,
    /// They wait for the answers to a round, oldest first.
    confirming: VecDeque<Confirming>,
    /// All of them.
    len: usize,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
struct Confirming {
    round: u64,
    /// The commit index when the round started.
    index: LogIndex,
    askers: Vec<Asker>,
}

/// Whose read it is.
#[derive(Copy, Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
enum Asker {
    Own(ReadId),
    Peer { id: NodeId, context: u64 },
}

impl LeaderReads {
    fn push(&mut self, asker: Asker) {
        self.waiting.push(asker);
        self.len += 1;
    }

    #[cfg(feature = "model")]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a round is to be started for them.
    pub(crate) fn want_a_round(&self) -> bool {
        !self.waiting.is_empty() && self.confirming.is_empty()
    }

    /// A round starts, with the log committed up to `index`.
    pub(crate) fn round_left(&mut self, round: u64, index: LogIndex) {
        if !self.waiting.is_empty() {
            let askers = core::mem::take(&mut self.waiting);
            self.confirming.push_back(Confirming { round, index, askers });
        }
    }

    /// A quorum has answered `round`. Takes out the oldest reads that this confirms.
    fn confirmed(&mut self, round: u64) -> Option<Confirming> {
        let oldest = self.confirming.front()?;
        if oldest.round > round {
            return None;
        }
        let confirmed = self.confirming.pop_front()?;
        self.len -= confirmed.askers.len();
        Some(confirmed)
    }

    fn into_askers(self) -> impl Iterator<Item = Asker> {
        let confirming = self.confirming.into_iter().flat_map(|confirming| confirming.askers);
        confirming.chain(self.waiting)
    }
}

/// The lease of a leader: no other leader can be elected until it ends.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct LeaseHeld {
    /// Rounds that are not confirmed yet, and when each left, oldest first. None where there are no leases.
    rounds: VecDeque<(u64, Duration)>,
    until: Duration,
    /// Another node was told to campaign without waiting: there is no lease for the rest of the term.
    pub(crate) is_over: bool,
}

impl LeaseHeld {
    pub(crate) fn round_left(&mut self, round: u64, now: Duration) {
        /// Older ones are of no use: by then the lease that they would confirm has ended.
        const ROUNDS_MAX: usize = 64;
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back((round, now));
    }

    /// A quorum has answered `round`, so it voted for nobody else since the round left.
    fn confirmed(&mut self, round: u64, length: Duration) {
        let answered = self.rounds.partition_point(|(left, _)| *left <= round);
        if let Some((_, left)) = self.rounds.drain(..answered).next_back() {
            self.until = self.until.max(left.saturating_add(length));
        }
    }
}

/// The reads that this node has asked its leader for.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct FollowerReads {
    next: u64,
    /// Oldest first.
    pending: VecDeque<FollowerRead>,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
struct FollowerRead {
    id: ReadId,
    /// Who is asked, in which term.
    leader: NodeId,
    term: Term,
    deadline: Duration,
    is_sent: bool,
}

impl FollowerReads {
    /// `first` is random: an answer to a former life of this process confirms nothing.
    pub(crate) fn new(first: u64) -> FollowerReads {
        FollowerReads { next: first >> 1, pending: VecDeque::new() }
    }

    fn next_id(&mut self) -> ReadId {
        let id = ReadId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    /// When the first of them is given up.
    pub(crate) fn next_deadline(&self) -> Duration {
        self.pending.front().map_or(Duration::MAX, |read| read.deadline)
    }

    /// Gives up those whose time has come.
    pub(crate) fn time_out(&mut self, now: Duration, done: &mut Vec<Read>) {
        let late = self.pending.partition_point(|read| read.deadline <= now);
        let late = self.pending.drain(..late);
        done.extend(late.map(|read| Read { id: read.id, index: Err(ReadRefused::TimedOut) }));
    }

    /// Nobody will answer any of them.
    pub(crate) fn refuse_all(&mut self, done: &mut Vec<Read>) {
        let all = self.pending.drain(..);
        done.extend(all.map(|read| Read { id: read.id, index: Err(ReadRefused::LostLeader) }));
    }
}

impl Node {
    /// Asks for an index at which a read is linearizable: one that comes out in [`Effects::reads`] under the returned id,
    /// or is refused there. A state that contains that index, at this node, answers the read as of a moment after this
    /// call (diss. §6.4). A follower asks its leader, and gives up after an election timeout. A leader confirms it, or
    /// loses the lead: without CheckQuorum, or while nothing of its own term is committed, that may take as long as it
    /// takes, so whoever asks needs a deadline of its own.
    ///
    /// # Errors
    /// Nothing will come out for it.
    pub fn read_index(&mut self) -> Result<ReadId, ReadError> {
        let pending_max = self.options.limits.reads_pending_max;
        let deadline = self.now().saturating_add(self.options.election_timeout);
        let term = self.term;
        match (&mut self.role, self.leader) {
            (RoleState::Leader(leader), _) => {
                if leader.reads.len >= pending_max {
                    return Err(ReadError::Busy);
                }
                let id = self.reads.next_id();
                leader.reads.push(Asker::Own(id));
                self.has_news = true;
                Ok(id)
            }
            (_, Some(leader)) => {
                if self.reads.pending.len() >= pending_max {
                    return Err(ReadError::Busy);
                }
                let id = self.reads.next_id();
                let read = FollowerRead { id, leader, term, deadline, is_sent: false };
                self.reads.pending.push_back(read);
                self.has_news = true;
                Ok(id)
            }
            (_, None) => Err(ReadError::NoLeader),
        }
    }

    /// The index at which a read is linearizable now, by the lease that this leader holds at the time of the last tick
    /// ([`crate::Options::lease`], diss. §6.4.1). `None`: it holds none; [`Node::read_index`] needs none.
    #[must_use]
    pub fn read_by_lease(&self) -> Option<LogIndex> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let holds = !leader.lease.is_over && self.now() < leader.lease.until;
        (holds && self.own_term_is_committed()).then_some(self.commit)
    }

    /// A follower asks for a read index.
    pub(crate) fn receive_read_index(&mut self, from: NodeId, context: u64) {
        let pending_max = self.options.limits.reads_pending_max;
        match &mut self.role {
            RoleState::Leader(leader) if leader.reads.len < pending_max => {
                leader.reads.push(Asker::Peer { id: from, context });
            }
            RoleState::Leader(_) => self.refuse_read(from, context, ReadOutcome::Busy),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.refuse_read(from, context, ReadOutcome::LostLeader);
            }
        }
    }

    pub(crate) fn receive_read_index_response(
        &mut self,
        from: NodeId,
        context: u64,
        outcome: ReadOutcome,
    ) {
        let pending = &mut self.reads.pending;
        let (id, term) = (ReadId(context), self.term);
        let asked = |read: &FollowerRead| (read.id, read.leader, read.term) == (id, from, term);
        if let Some(read) = pending.iter().position(asked).and_then(|at| pending.remove(at)) {
            let index = match outcome {
                ReadOutcome::Confirmed(index) => Ok(index),
                ReadOutcome::LostLeader => Err(ReadRefused::LostLeader),
                ReadOutcome::Busy => Err(ReadRefused::Busy),
            };
            self.reads_done.push(Read { id: read.id, index });
        }
    }

    /// Counts the answers to rounds of heartbeats: they confirm that this node led when the round left.
    pub(crate) fn confirm_rounds(&mut self, effects: &mut Effects) {
        let RoleState::Leader(leader) = &self.role else { return };
        let lease =
            self.options.lease.map(|lease| Lease::length(lease, self.options.election_timeout));
        if leader.reads.confirming.is_empty() && lease.is_none() {
            return;
        }
        let own = Some(leader.round);
        let Some(round) = self.quorum_of(leader, own, None, |peer| peer.answered).flatten() else {
            return;
        };
        let Some(leader) = self.leader_state() else { return };
        if let Some(length) = lease {
            leader.lease.confirmed(round, length);
        }
        while let Some(confirmed) = self.leader_state().and_then(|l| l.reads.confirmed(round)) {
            for asker in confirmed.askers {
                let index = confirmed.index;
                match asker {
                    Asker::Own(id) => effects.reads.push(Read { id, index: Ok(index) }),
                    Asker::Peer { id, context } => {
                        let message = Message::ReadIndexResponse {
                            context,
                            outcome: ReadOutcome::Confirmed(index),
                        };
                        effects.messages.push(self.envelope(id, message));
                    }
                }
            }
        }
    }

    /// The lead is lost before these reads were confirmed.
    pub(crate) fn refuse_reads(&mut self, reads: LeaderReads) {
        for asker in reads.into_askers() {
            match asker {
                Asker::Own(id) => {
                    self.reads_done.push(Read { id, index: Err(ReadRefused::LostLeader) });
                }
                Asker::Peer { id, context } => {
                    self.refuse_read(id, context, ReadOutcome::LostLeader);
                }
            }
        }
    }

    fn refuse_read(&mut self, to: NodeId, context: u64, outcome: ReadOutcome) {
        let answer = self.envelope(to, Message::ReadIndexResponse { context, outcome });
        self.answers.push(answer);
    }

    /// Sends a follower's reads to its leader, and hands out those that are decided. Who lost its leader meanwhile waits
    /// for nobody.
    pub(crate) fn drain_reads(&mut self, effects: &mut Effects) {
        if self.reads.pending.is_empty() && self.reads_done.is_empty() {
            return;
        }
        let (term, leader) = (self.term, self.leader);
        let mut pending = core::mem::take(&mut self.reads.pending);
        pending.retain_mut(|read| {
            if (read.term, Some(read.leader)) != (term, leader) {
                self.reads_done.push(Read { id: read.id, index: Err(ReadRefused::LostLeader) });
                return false;
            }
            if !core::mem::replace(&mut read.is_sent, true) {
                let message = Message::ReadIndex { context: read.id.0 };
                effects.messages.push(self.envelope(read.leader, message));
            }
            true
        });
        self.reads.pending = pending;
        effects.reads.append(&mut self.reads_done);
    }
}
