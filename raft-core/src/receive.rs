//! What arrives from peers: the term first (§5.1), then the message.

use crate::{AppendOutcome, EntryId, Envelope, LogIndex, Message, Node, NodeId, Term};

impl Node {
    /// Takes in one message. Whatever it says, it never panics: what makes no sense is refused and counted.
    pub(crate) fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, to, term, message } = envelope;
        if to != self.options.id || from == self.options.id {
            self.counters.misaddressed += 1;
            return;
        }
        if term == Term(u64::MAX) {
            // There must be room for the next term.
            self.counters.malformed += 1;
            return;
        }
        if let Message::PreVote { campaign, last } = message {
            // It changes no term, neither its sender's nor this node's.
            self.receive_pre_vote(from, campaign, last);
            return;
        }
        if matches!(message, Message::RequestVote { .. })
            && term > self.term
            && self.is_disruption()
        {
            return;
        }
        if term > self.term {
            self.enter_term(term);
        }
        if let Message::PreVoteResponse { campaign, granted } = message {
            self.receive_pre_vote_response(from, campaign, granted);
            return;
        }
        if term < self.term {
            self.refuse_old_term(from, &message);
            return;
        }
        match message {
            // They were taken above: they are about a term that nobody is in yet.
            Message::PreVote { .. } | Message::PreVoteResponse { .. } => {}
            Message::RequestVote { last } => self.receive_request_vote(from, last),
            Message::VoteResponse { granted } => self.receive_vote_response(from, granted),
            Message::AppendEntries { previous, entries, commit } => {
                self.receive_append_entries(from, previous, entries, commit);
            }
            Message::AppendResponse(outcome) => self.receive_append_response(from, outcome),
            Message::Heartbeat { commit, round } => self.receive_heartbeat(from, commit, round),
            Message::HeartbeatResponse { round, received } => {
                self.receive_heartbeat_response(from, round, received);
            }
        }
    }

    /// Tells who lives in an old term that it is over. Whatever the settings of either side: a leader that is ignored
    /// by a node of a later term, and does not learn of it, would block that node for ever.
    fn refuse_old_term(&mut self, from: NodeId, message: &Message) {
        let answer = match message {
            Message::RequestVote { .. } => Message::VoteResponse { granted: false },
            Message::AppendEntries { previous, .. } => {
                Message::AppendResponse(AppendOutcome::Rejected {
                    previous: previous.index,
                    hint: EntryId::ZERO,
                })
            }
            Message::Heartbeat { round, .. } => {
                Message::HeartbeatResponse { round: round.unwrap_or(0), received: LogIndex::ZERO }
            }
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. } => return,
        };
        let answer = self.envelope(from, answer);
        self.answers.push(answer);
    }
}
