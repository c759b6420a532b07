//! Messages on their way.
//!
//! What was sent once can arrive at any time, any number of times, or never: the network is a set that only grows, so
//! loss, repetition and disorder need no actions of their own. What can have no effect any more is taken out of it, and
//! what has one effect left is brought into one form for all that have the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft_core::{Entries, EntryId, Envelope, LogIndex, Message, NodeId, Role, Term, Vote};

use crate::bounds::Bounds;
use crate::server::Server;

/// Messages, each once, sorted by their hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    sent: Vec<(u64, Arc<Envelope>)>,
}

impl Network {
    /// The messages.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Envelope>> {
        self.sent.iter().map(|(_, envelope)| envelope)
    }

    /// The hash of each.
    pub(crate) fn prints(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().map(|(print, _)| *print)
    }

    pub(crate) fn send(&mut self, envelope: Envelope) {
        self.insert(Arc::new(envelope));
    }

    fn insert(&mut self, envelope: Arc<Envelope>) {
        let mut hasher = DefaultHasher::new();
        envelope.hash(&mut hasher);
        let print = hasher.finish();
        if let Err(place) = self.sent.binary_search_by_key(&print, |(print, _)| *print) {
            self.sent.insert(place, (print, envelope));
        }
    }

    /// Brings the messages into canonical form, as these servers can take them now and later.
    pub(crate) fn canonicalize(&mut self, servers: &[Arc<Server>], bounds: &Bounds) {
        let mut changed = Vec::new();
        self.sent.retain(|(_, envelope)| match outlook(envelope, servers, bounds) {
            Outlook::Open => true,
            Outlook::None => false,
            Outlook::Only(other) => {
                changed.push(other);
                false
            }
        });
        for envelope in changed {
            self.insert(Arc::new(envelope));
        }
    }
}

/// What a message can still bring about.
enum Outlook {
    Open,
    /// Nothing.
    None,
    /// The same as this one.
    Only(Envelope),
}

fn server(servers: &[Arc<Server>], id: NodeId) -> Option<&Server> {
    let place = usize::try_from(id.0.checked_sub(1)?).ok()?;
    servers.get(place).map(Arc::as_ref)
}

/// A term on the disk never goes back. So whoever has it there takes no message of an earlier one but to refuse it, whatever
/// the message says.
fn outlook(envelope: &Envelope, servers: &[Arc<Server>], bounds: &Bounds) -> Outlook {
    let Some(to) = server(servers, envelope.to) else { return Outlook::None };
    let Some(from) = server(servers, envelope.from) else { return Outlook::None };
    let (term, durable) = (envelope.term, to.disk.term());
    let none_unless = |open| if open { Outlook::Open } else { Outlook::None };
    if !bounds.refusals && is_refusal(envelope, to) {
        return Outlook::None;
    }
    match &envelope.message {
        // Once a term is durable, nobody becomes a candidate in it who is none, nor a leader who is no candidate.
        Message::VoteResponse { .. } => none_unless(term > durable || to.campaigns_in(term)),
        Message::AppendResponse(_) | Message::HeartbeatResponse { .. } => {
            none_unless(term > durable || to.campaigns_in(term) || to.leads_in(term))
        }
        Message::PreVoteResponse { campaign, .. } => {
            none_unless(term > durable || *campaign > durable)
        }
        Message::TimeoutNow | Message::ReadIndexResponse { .. } => none_unless(term >= durable),
        Message::PreVote { campaign, last } => {
            pre_vote(envelope, *campaign, *last, to, from, bounds)
        }
        Message::RequestVote { .. }
        | Message::AppendEntries { .. }
        | Message::Heartbeat { .. }
        | Message::ReadIndex { .. } => request(envelope, to, from, bounds),
    }
}

/// A request of a term that is over can only be refused, and the refusal tells of the term.
fn request(envelope: &Envelope, to: &Server, from: &Server, bounds: &Bounds) -> Outlook {
    let (term, durable) = (envelope.term, to.disk.term());
    let asks_for_vote = matches!(envelope.message, Message::RequestVote { .. });
    let is_decided = asks_for_vote && term == durable && is_decided(envelope, to, from, bounds);
    if term >= durable && !is_decided {
        Outlook::Open
    } else if can_learn(from, bounds) {
        refused(envelope)
    } else {
        Outlook::None
    }
}

/// Whether a message says no more than that there is a later term, or that a vote is denied. Who is in no later term can
/// only be answered that an earlier one is over.
fn is_refusal(envelope: &Envelope, to: &Server) -> bool {
    match envelope.message {
        Message::VoteResponse { candidate: _, granted } => !granted,
        Message::AppendResponse(_) | Message::HeartbeatResponse { .. } => {
            envelope.term > to.disk.term()
        }
        Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::RequestVote { .. }
        | Message::AppendEntries { .. }
        | Message::Heartbeat { .. }
        | Message::TimeoutNow
        | Message::ReadIndex { .. }
        | Message::ReadIndexResponse { .. } => false,
    }
}

/// Whether the vote of a term is given for good and the candidate no longer asks for it: it is answered without a
/// consequence. (A pre-candidate would stand back for the one that it has voted for.)
fn is_decided(envelope: &Envelope, to: &Server, from: &Server, bounds: &Bounds) -> bool {
    let may_stand_back = |vote: Vote| bounds.pre_vote && vote.candidate == envelope.from;
    let given = to.disk.hard_state.vote.is_some_and(|vote| !may_stand_back(vote));
    given && !from.campaigns_in(envelope.term)
}

/// Whether a refusal of an old term can have an effect on its receiver: it raises the term, or it is an answer to what the
/// receiver does in its last term.
fn can_learn(server: &Server, bounds: &Bounds) -> bool {
    let campaigns = matches!(server.node.role(), Role::Candidate | Role::Leader);
    bounds.refusals && (server.disk.term() < Term(bounds.term_max) || campaigns)
}

/// A pre-vote changes no term, so its own makes no difference; once the term that it is about is there, it is refused.
fn pre_vote(
    envelope: &Envelope,
    campaign: Term,
    last: EntryId,
    to: &Server,
    from: &Server,
    bounds: &Bounds,
) -> Outlook {
    let is_over = campaign <= to.disk.term();
    if is_over && !can_learn(from, bounds) {
        return Outlook::None;
    }
    let message = Message::PreVote {
        campaign: if is_over && campaign <= from.disk.term() { Term(0) } else { campaign },
        last: if is_over { EntryId::ZERO } else { last },
    };
    only(Envelope { term: Term(0), message, ..envelope.clone() }, envelope)
}

/// Nothing else than `form` does.
fn only(form: Envelope, envelope: &Envelope) -> Outlook {
    if form == *envelope { Outlook::Open } else { Outlook::Only(form) }
}

/// Of what is refused for its term, only that is of use which the refusal repeats.
fn refused(envelope: &Envelope) -> Outlook {
    let message = match &envelope.message {
        Message::RequestVote { .. } => {
            Message::RequestVote { last: EntryId::ZERO, transfer: false }
        }
        Message::AppendEntries { previous, .. } => Message::AppendEntries {
            previous: EntryId::new(Term(0), previous.index),
            entries: Entries::new(),
            commit: LogIndex::ZERO,
        },
        Message::Heartbeat { round, .. } => {
            Message::Heartbeat { commit: LogIndex::ZERO, round: Some(round.unwrap_or(0)) }
        }
        Message::ReadIndex { .. }
        | Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::VoteResponse { .. }
        | Message::AppendResponse(_)
        | Message::HeartbeatResponse { .. }
        | Message::TimeoutNow
        | Message::ReadIndexResponse { .. } => envelope.message.clone(),
    };
    only(Envelope { term: Term(0), message, ..envelope.clone() }, envelope)
}
