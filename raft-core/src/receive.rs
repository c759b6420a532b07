//! What arrives from peers: the term first (§5.1), then the message.

use crate::configuration::Speaker;
use crate::{
    AppendOutcome, EntryId, Envelope, Incarnation, LogIndex, Message, Node, ReadOutcome, Role, Term,
};

impl Node {
    /// Takes in one message. Whatever it says, it never panics: what makes no sense is refused and counted.
    pub(crate) fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, incarnation, is_meant, to, term, message } = envelope;
        let speaker = Speaker { id: from, incarnation, is_meant };
        if to != self.options.id || from == self.options.id {
            self.counters.misaddressed += 1;
            return;
        }
        if term == Term(u64::MAX) || incarnation == Incarnation::NOBODY {
            // There must be room for the next term; and nobody speaks for nobody.
            self.counters.malformed += 1;
            return;
        }
        if let Message::PreVote { campaign, last } = message {
            // It changes no term, neither its sender's nor this node's.
            self.receive_pre_vote(from, campaign, last);
            return;
        }
        // With leases, who has entered the term by another way still keeps what it promised to the leader before.
        let may_disrupt = term > self.term || self.options.lease.is_some();
        if matches!(message, Message::RequestVote { transfer: false, .. })
            && may_disrupt
            && self.is_disruption()
        {
            return;
        }
        if term > self.term {
            if self.comes_from_outside(speaker, &message) {
                self.counters.misaddressed += 1;
                return;
            }
            self.enter_term(term);
        }
        if let Message::PreVoteResponse { campaign, granted } = message {
            self.receive_pre_vote_response(speaker, campaign, granted);
            return;
        }
        if term < self.term {
            self.refuse_old_term(speaker, &message);
            return;
        }
        match message {
            // They were taken above: they are about a term that nobody is in yet.
            Message::PreVote { .. } | Message::PreVoteResponse { .. } => {}
            Message::RequestVote { last, transfer: _ } => self.receive_request_vote(speaker, last),
            Message::VoteResponse { candidate, granted } => {
                self.receive_vote_response(speaker, candidate, granted);
            }
            Message::AppendEntries { previous, entries, commit } => {
                self.receive_append_entries(from, previous, entries, commit);
            }
            Message::AppendResponse(outcome) => self.receive_append_response(speaker, outcome),
            Message::Heartbeat { commit, round } => self.receive_heartbeat(from, commit, round),
            Message::HeartbeatResponse { round, received } => {
                self.receive_heartbeat_response(speaker, round, received);
            }
            Message::TimeoutNow => self.receive_timeout_now(from),
            Message::ReadIndex { context } => self.receive_read_index(from, context),
            Message::ReadIndexResponse { context, outcome } => {
                self.receive_read_index_response(from, context, outcome);
            }
        }
    }

    /// Whether this is an answer to this leader from a node that is no member, and so was asked nothing: a node that was
    /// removed deposes nobody (diss. §4.2.3), nor does a machine that was given up and is back beside its replacement.
    fn comes_from_outside(&self, from: Speaker, message: &Message) -> bool {
        match message {
            Message::PreVoteResponse { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => {
                let mut members = self.configuration().every_incarnation();
                let is_member = members.any(|member| member.is(from.id, from.incarnation));
                self.role() == Role::Leader && !is_member
            }
            Message::PreVote { .. }
            | Message::RequestVote { .. }
            | Message::AppendEntries { .. }
            | Message::Heartbeat { .. }
            | Message::TimeoutNow => false,
        }
    }

    /// Tells who lives in an old term that it is over. Whatever the settings of either side: a leader that is ignored
    /// by a node of a later term, and does not learn of it, would block that node for ever.
    fn refuse_old_term(&mut self, from: Speaker, message: &Message) {
        let answer = match message {
            Message::RequestVote { .. } => {
                Message::VoteResponse { candidate: from.incarnation, granted: false }
            }
            Message::AppendEntries { previous, .. } => {
                Message::AppendResponse(AppendOutcome::Rejected {
                    previous: previous.index,
                    hint: EntryId::ZERO,
                })
            }
            Message::Heartbeat { round, .. } => {
                Message::HeartbeatResponse { round: round.unwrap_or(0), received: LogIndex::ZERO }
            }
            Message::ReadIndex { context } => {
                Message::ReadIndexResponse { context: *context, outcome: ReadOutcome::LostLeader }
            }
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndexResponse { .. } => return,
        };
        let answer = self.envelope(from.id, answer);
        self.answers.push(answer);
    }
}
