//! Election safety: at most one leader can be elected in a given term (§5.2).

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{Envelope, Incarnation, Message, NodeId, Role, Term, Vote};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::Event;

/// Nobody leads a term in which another one leads: by what nodes say of themselves, and by what they send as leaders;
/// and nobody votes twice in a term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    /// What they send says which machine it was that led.
    machines: BTreeMap<Term, Incarnation>,
    /// Whoever has lost its disk is another incarnation, and has given no vote yet.
    votes: BTreeMap<(NodeId, Incarnation, Term), Vote>,
}

impl ElectionSafety {
    fn leads(&mut self, term: Term, node: NodeId) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node {
            return Ok(());
        }
        Err(format!("node {leader} and node {node} both lead term {term}"))
    }

    fn machine_leads(&mut self, envelope: &Envelope) -> Result<(), String> {
        let Envelope { from, incarnation, term, .. } = *envelope;
        let first = *self.machines.entry(term).or_insert(incarnation);
        if first == incarnation {
            return Ok(());
        }
        Err(format!("node {from} leads term {term} as incarnation {first} and as {incarnation}"))
    }

    fn votes(&mut self, envelope: &Envelope, vote: Vote) -> Result<(), String> {
        let (voter, term) = (envelope.from, envelope.term);
        let name = (voter, envelope.incarnation, term);
        let first = *self.votes.entry(name).or_insert(vote);
        if first == vote {
            return Ok(());
        }
        Err(format!("node {voter} votes for {first} and for {vote} in term {term}"))
    }
}

impl Checker for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        if let Event::Role { node, role: Role::Leader, term, .. } = event {
            return self.leads(*term, *node);
        }
        let Event::Sent { packet, .. } = event else { return Ok(()) };
        let Packet::Raft(envelope) = &**packet else { return Ok(()) };
        match envelope.message {
            Message::AppendEntries { .. } | Message::Heartbeat { .. } => {
                self.leads(envelope.term, envelope.from)?;
                self.machine_leads(envelope)
            }
            Message::RequestVote { .. } => {
                let Envelope { from: candidate, incarnation, .. } = *envelope;
                self.votes(envelope, Vote { candidate, incarnation })
            }
            Message::VoteResponse { candidate: incarnation, granted: true } => {
                self.votes(envelope, Vote { candidate: envelope.to, incarnation })
            }
            Message::VoteResponse { candidate: _, granted: false }
            | Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{assert_caught, entry, follows, leads, sent, tell};
    use super::*;

    fn check(story: &[Event]) -> Result<(), String> {
        tell(ElectionSafety::default(), story)
    }

    #[test]
    fn a_second_leader_of_a_term_is_caught() {
        let last = entry(1, 1);
        let again = [leads(1, 2, last), follows(1, 2, last), leads(1, 2, last), leads(2, 3, last)];
        assert_eq!(check(&again), Ok(()));
        assert_caught(check(&[leads(1, 2, last), leads(2, 2, last)]), "both lead term 2");
    }

    #[test]
    fn whoever_sends_as_a_leader_is_one() {
        let heartbeat =
            || Message::Heartbeat { commit: raft_rsm::raft_core::LogIndex(0), round: None };
        let story = |term| [leads(1, 2, entry(1, 1)), sent(2, 3, term, heartbeat())];
        assert_eq!(check(&story(3)), Ok(()));
        assert_caught(check(&story(2)), "node 1 and node 2 both lead term 2");
    }

    /// Two machines may be about that pass for one node.
    #[test]
    fn a_second_incarnation_that_leads_a_term_is_caught() {
        let heartbeat = |incarnation| {
            let message =
                Message::Heartbeat { commit: raft_rsm::raft_core::LogIndex(0), round: None };
            let mut event = sent(1, 2, 5, message);
            if let Event::Sent { packet, .. } = &mut event
                && let Some(Packet::Raft(envelope)) = std::sync::Arc::get_mut(packet)
            {
                envelope.incarnation = Incarnation(incarnation);
            }
            event
        };
        assert_eq!(check(&[heartbeat(7), heartbeat(7)]), Ok(()));
        assert_caught(check(&[heartbeat(7), heartbeat(8)]), "node 1 leads term 5 as incarnation");
    }

    #[test]
    fn a_second_vote_in_a_term_is_caught() {
        let vote = |incarnation, granted| Message::VoteResponse {
            candidate: Incarnation(incarnation),
            granted,
        };
        let grants = |to, term| sent(3, to, term, vote(0, true));
        let refuses = sent(3, 2, 5, vote(0, false));
        assert_eq!(check(&[grants(1, 5), grants(1, 5), refuses, grants(2, 6)]), Ok(()));
        let first = "node 3 votes for node 1 (incarnation 0000000000000000) and for node";
        assert_caught(check(&[grants(1, 5), grants(2, 5)]), &format!("{first} 2"));
        // Two machines may be about that pass for one node.
        let grants_another = sent(3, 1, 5, vote(7, true));
        assert_caught(
            check(&[grants(1, 5), grants_another]),
            &format!("{first} 1 (incarnation 0000000000000007)"),
        );
        // Who asks for votes votes for itself.
        let asks = sent(3, 2, 5, Message::RequestVote { last: entry(1, 1), transfer: false });
        assert_caught(check(&[grants(1, 5), asks]), &format!("{first} 3"));
    }
}
