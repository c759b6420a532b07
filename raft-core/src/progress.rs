//! What a leader knows of one peer, and what it may send it.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{Entries, FetchId, Incarnation, Limits, LogIndex, Member, NodeId};

/// What a leader knows of one peer (paper, Fig. 2: `nextIndex` and `matchIndex`).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Progress {
    pub(crate) id: NodeId,
    /// The incarnation that counts: that of the configuration, or, where it names none, the first one heard that may be
    /// meant.
    pub(crate) incarnation: Option<Incarnation>,
    /// Where none is known, one that has answered and that the configuration does not mean: what it says counts for nothing.
    pub(crate) unmeant: Option<Incarnation>,
    /// It is no member any more: until then it is sent what it has not heard yet.
    pub(crate) leaving_until: Option<Duration>,
    /// Everything up to here is durable at the peer, and the same as here.
    pub(crate) matched: LogIndex,
    /// The next entry to send.
    pub(crate) next: LogIndex,
    pub(crate) state: ProgressState,
    /// AppendEntries that are not answered yet: the last index of each, and its cost in bytes.
    inflight: VecDeque<(LogIndex, usize)>,
    inflight_bytes: usize,
    /// When the peer was last heard in this term.
    pub(crate) heard_at: Duration,
    /// The latest round of heartbeats that it has answered.
    pub(crate) answered: Option<u64>,
    /// The greatest commit index that was sent to the peer.
    pub(crate) commit_sent: LogIndex,
    /// The round, `matched` and `next` when a heartbeat left: the first since one was answered. (Not the latest: where
    /// an answer takes longer than the interval of heartbeats, that one is never answered in time.)
    pub(crate) at_heartbeat: Option<(u64, LogIndex, LogIndex)>,
    /// All was received, but not all is acknowledged: the answer may be lost, so ask again for the one
    /// that covers this index.
    pub(crate) ask: Option<LogIndex>,
    pub(crate) fetch: PeerFetch,
}

/// The last index of a message that stands for one that is lost: no log gets there.
const UNSENT: LogIndex = LogIndex(u64::MAX);

/// How a leader sends to a peer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) enum ProgressState {
    /// It does not know where the logs part: one message at a time.
    Probe {
        /// The message on its way: the round in which it left, its last index, and its cost in bytes.
        sent: Option<(u64, LogIndex, usize)>,
    },
    /// The logs agree up to `next`: one message after the other, as the window allows.
    Replicate,
    /// The peer needs a snapshot, which is on its way.
    Snapshot,
}

/// Entries for the peer that have left the memory tail.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) enum PeerFetch {
    None,
    Asked(FetchId),
    /// They begin at `next`.
    Found(Entries),
    /// They are compacted: only a snapshot helps.
    Compacted,
}

impl PeerFetch {
    pub(crate) fn is_asked(&self, id: FetchId) -> bool {
        matches!(self, PeerFetch::Asked(asked) if *asked == id)
    }

    pub(crate) fn is_compacted(&self) -> bool {
        matches!(self, PeerFetch::Compacted)
    }
}

impl Progress {
    /// Of a peer of which nothing is known, by a leader whose last entry is before `next`.
    pub(crate) fn new(member: &Member, next: LogIndex, now: Duration) -> Progress {
        Progress {
            id: member.id,
            incarnation: member.incarnation,
            unmeant: None,
            leaving_until: None,
            matched: LogIndex::ZERO,
            next,
            state: ProgressState::Probe { sent: None },
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            heard_at: now,
            answered: None,
            commit_sent: LogIndex::ZERO,
            at_heartbeat: None,
            ask: None,
            fetch: PeerFetch::None,
        }
    }

    /// Whether what this incarnation says counts; where none is known, the first one does that may be meant.
    pub(crate) fn hears(&mut self, incarnation: Incarnation, may_be_meant: bool) -> bool {
        match self.incarnation {
            Some(known) => known == incarnation,
            None if may_be_meant => {
                self.incarnation = Some(incarnation);
                true
            }
            None => {
                self.unmeant = Some(incarnation);
                false
            }
        }
    }

    /// Whether the peer is this voter, under the same incarnation.
    pub(crate) fn speaks_for(&self, voter: &Member) -> bool {
        voter.id == self.id
            && (voter.incarnation.is_none() || voter.incarnation == self.incarnation)
    }

    /// Whether what is known of the peer is true of this member of a new configuration.
    pub(crate) fn is_still(&self, member: &Member) -> bool {
        match (self.incarnation, member.incarnation) {
            // Nothing that counts was heard of it.
            (None, _) => true,
            (Some(known), Some(named)) => known == named,
            // Nobody counted, and now whoever speaks does.
            (Some(Incarnation::NOBODY), None) => false,
            // Who comes back may have lost its disk in between.
            (Some(_), None) => self.leaving_until.is_none(),
        }
    }

    /// Whether another AppendEntries may leave now.
    pub(crate) fn may_send(&self, limits: &Limits) -> bool {
        match self.state {
            ProgressState::Probe { sent } => sent.is_none(),
            ProgressState::Replicate => {
                self.inflight.len() < limits.inflight_messages_max
                    && self.inflight_bytes < limits.inflight_bytes_max
            }
            ProgressState::Snapshot => false,
        }
    }

    /// An AppendEntries has left: it ends with `last` and costs `bytes`.
    pub(crate) fn sent(&mut self, round: u64, last: LogIndex, bytes: usize) {
        match &mut self.state {
            ProgressState::Probe { sent } => *sent = Some((round, last, bytes)),
            ProgressState::Replicate => {
                self.next = last.next();
                self.inflight.push_back((last, bytes));
                self.inflight_bytes += bytes;
            }
            ProgressState::Snapshot => {}
        }
    }

    /// The peer holds everything up to `matched`. Returns whether that is new.
    pub(crate) fn accepted(&mut self, matched: LogIndex, log_start: LogIndex) -> bool {
        let grew = matched > self.matched;
        self.matched = self.matched.max(matched);
        if self.next <= self.matched {
            // Sent before the leader went back to probing: what is being read for the peer is no longer the next.
            self.next = self.matched.next();
            self.fetch = PeerFetch::None;
        }
        while let Some((last, bytes)) = self.inflight.front().copied() {
            if last > matched {
                break;
            }
            self.inflight.pop_front();
            self.inflight_bytes -= bytes;
        }
        match self.state {
            ProgressState::Probe { sent: Some((_, last, bytes)) }
                if matched.next() >= self.next && last >= self.next && last < UNSENT =>
            {
                // What it follows upon is there, so it will be taken; it need not be sent twice.
                self.replicate();
                self.sent(0, last, bytes);
            }
            ProgressState::Probe { .. } if grew || matched.next() >= self.next => self.replicate(),
            ProgressState::Snapshot if self.matched >= log_start => self.replicate(),
            ProgressState::Probe { .. } | ProgressState::Replicate | ProgressState::Snapshot => {}
        }
        if self.ask.is_some_and(|asked| asked <= self.matched) {
            self.ask = None;
        }
        grew
    }

    fn replicate(&mut self) {
        self.enter(ProgressState::Replicate, self.next.max(self.matched.next()));
    }

    /// Goes back to one message at a time, from `next` on, which never falls to `matched` or below.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.enter(ProgressState::Probe { sent: None }, next.max(self.matched.next()));
    }

    /// As [`Progress::probe`], but nothing leaves before the peer answers a heartbeat that leaves after
    /// this `round`.
    pub(crate) fn probe_later(&mut self, next: LogIndex, round: u64) {
        self.probe(next);
        // It stands for a message that is lost.
        self.state = ProgressState::Probe { sent: Some((round, UNSENT, 0)) };
    }

    /// What was on its way may be lost.
    pub(crate) fn connection_lost(&mut self) {
        match self.state {
            ProgressState::Probe { .. } => self.probe(self.next),
            ProgressState::Replicate => self.probe(self.matched.next()),
            // The transfer of a snapshot has an end of its own.
            ProgressState::Snapshot => {}
        }
    }

    pub(crate) fn awaits_snapshot(&self) -> bool {
        self.state == ProgressState::Snapshot
    }

    pub(crate) fn await_snapshot(&mut self) {
        self.enter(ProgressState::Snapshot, self.next);
    }

    /// The peer was just heard, and who leaves is kept. What is in flight is of use to the limits alone, and the last answer
    /// to reads and leases.
    #[cfg(feature = "model")]
    pub(crate) fn canonicalize(&mut self, now: Duration, may_forget_rounds: bool) {
        self.heard_at = now;
        self.leaving_until = self.leaving_until.map(|_| Duration::MAX);
        self.inflight.clear();
        self.inflight_bytes = 0;
        if may_forget_rounds {
            self.answered = None;
        }
    }

    #[cfg(feature = "model")]
    pub(crate) fn awaits_fetch(&self) -> bool {
        matches!(self.fetch, PeerFetch::Asked(_))
    }

    fn enter(&mut self, state: ProgressState, next: LogIndex) {
        self.state = state;
        self.next = next;
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.at_heartbeat = None;
        self.ask = None;
        self.fetch = PeerFetch::None;
    }

    /// The peer has answered the heartbeat of `round`, and has received everything up to `received`,
    /// durable or not. What left before that heartbeat and is not received is lost.
    pub(crate) fn heartbeat_answered(&mut self, round: u64, received: LogIndex) {
        let left = self.at_heartbeat.take_if(|(at, _, _)| *at <= round);
        let forgot = left.is_some_and(|(_, matched, _)| received < matched);
        if forgot && self.state != ProgressState::Snapshot {
            // A restarted peer holds more than it knows to be the leader's, so it cannot commit it.
            self.ask = Some(self.matched);
        }
        match self.state {
            ProgressState::Probe { sent: Some((sent_round, last, _)) } if sent_round < round => {
                if received >= last {
                    self.ask = Some(last);
                } else {
                    self.state = ProgressState::Probe { sent: None };
                }
            }
            ProgressState::Replicate => {
                let Some((_, _, next)) = left else { return };
                if received.max(self.matched).next() < next {
                    self.probe(received.next());
                } else if self.matched.next() < next {
                    self.ask = Some(next.previous());
                }
            }
            ProgressState::Probe { .. } | ProgressState::Snapshot => {}
        }
    }
}
