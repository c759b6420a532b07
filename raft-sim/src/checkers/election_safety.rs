//! Election safety: at most one leader can be elected in a given term (§5.2).

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{Message, NodeId, Role, Term};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::Event;

/// Nobody leads a term in which another one leads: by what nodes say of themselves, and by what they send as leaders;
/// and nobody votes twice in a term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
}

impl ElectionSafety {
    fn leads(&mut self, term: Term, node: NodeId) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node {
            return Ok(());
        }
        Err(format!("node {leader} and node {node} both lead term {term}"))
    }

    fn votes(&mut self, voter: NodeId, term: Term, candidate: NodeId) -> Result<(), String> {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        Err(format!("node {voter} votes for node {first} and for node {candidate} in term {term}"))
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
                self.leads(envelope.term, envelope.from)
            }
            Message::RequestVote { .. } => self.votes(envelope.from, envelope.term, envelope.from),
            Message::VoteResponse { granted: true } => {
                self.votes(envelope.from, envelope.term, envelope.to)
            }
            Message::VoteResponse { granted: false }
            | Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. } => Ok(()),
        }
    }
}
