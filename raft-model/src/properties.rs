//! What must hold in every state: the five properties of the paper's Figure 3, and what a message promises.

use std::sync::Arc;

use raft_core::{
    AppendOutcome, Configuration, EntryId, Envelope, LogIndex, Member, Message, NodeId, Role, Term,
    Vote,
};

use crate::server::{Done, Server};
use crate::state::State;

/// What must hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// At most one leader a term (§5.2).
    ElectionSafety,
    /// A leader never overwrites or deletes entries of its log (§5.3).
    LeaderAppendOnly,
    /// Two logs that hold the same entry are the same up to it (§5.3).
    LogMatching,
    /// What is committed in a term is in the log of every leader of a later one (§5.4).
    LeaderCompleteness,
    /// No two servers apply, or take for committed, different entries at an index (§5.4.3).
    StateMachineSafety,
    /// What is committed is on the disks of a quorum (§5.3, §6).
    Quorum,
    /// A vote or an acknowledgement that is on its way is backed by the disk of its sender.
    Promise,
    /// A disk is never told to take back a term, a vote or a commit index, nor to leave a gap in the log; and nothing is
    /// applied that is not on the own disk.
    Disk,
    /// A node never panics, and starts from whatever its disk holds.
    NoPanic,
}

impl Claim {
    /// All of them.
    pub const ALL: [Claim; 9] = [
        Claim::ElectionSafety,
        Claim::LeaderAppendOnly,
        Claim::LogMatching,
        Claim::LeaderCompleteness,
        Claim::StateMachineSafety,
        Claim::Quorum,
        Claim::Promise,
        Claim::Disk,
        Claim::NoPanic,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Claim::ElectionSafety => "election safety",
            Claim::LeaderAppendOnly => "leader append-only",
            Claim::LogMatching => "log matching",
            Claim::LeaderCompleteness => "leader completeness",
            Claim::StateMachineSafety => "state machine safety",
            Claim::Quorum => "what is committed is on the disks of a quorum",
            Claim::Promise => "a vote or acknowledgement in flight is backed by the disk",
            Claim::Disk => "a disk never takes back what it holds",
            Claim::NoPanic => "a node never panics",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Which claims were found not to hold, up to a state.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Broken(u16);

impl Broken {
    pub(crate) fn holds(self, claim: Claim) -> bool {
        self.0 & claim.bit() == 0
    }

    pub(crate) fn expect(&mut self, claim: Claim, holds: bool) {
        if !holds {
            self.0 |= claim.bit();
        }
    }
}

/// Judges the step that server `id` has taken from `before`: what it has `done`, and the state that it led to.
pub(crate) fn judge(state: &mut State, id: NodeId, before: &Arc<Server>, done: &Done) {
    let Some(server) = state.server(id).cloned() else { return };
    let mut broken = state.broken;
    broken.expect(Claim::Disk, !done.overwrote && !done.applied_early);
    if server.leads_in(server.node.term()) {
        judge_leader(state, &server, before, &mut broken);
    }
    if server.terms() != before.terms() || server.disk.entries != before.disk.entries {
        broken.expect(Claim::LogMatching, logs_match(state, id, &server));
    }
    for (commit, configuration) in &done.commits {
        commit_to(state, &server, *commit, configuration, &mut broken);
    }
    let committed = state.past.committed.iter().map(|(entry, _)| *entry);
    let agrees = committed
        .take_while(|entry| entry.index <= server.node.commit())
        .all(|entry| server.node.terms().contains(entry));
    broken.expect(Claim::StateMachineSafety, agrees);
    broken.expect(Claim::StateMachineSafety, applies_are_sound(state, before, done));
    broken.expect(Claim::LeaderCompleteness, leaders_are_complete(state));
    let backed = state.network.iter().all(|envelope| is_backed(envelope, state));
    broken.expect(Claim::Promise, backed);
    state.broken = broken;
}

fn judge_leader(state: &mut State, server: &Server, before: &Server, broken: &mut Broken) {
    let (id, term) = (server.node.id(), server.node.term());
    let is_second = |(led, leader): &(Term, NodeId)| *led == term && *leader != id;
    broken.expect(Claim::ElectionSafety, !state.past.leaders.iter().any(is_second));
    if !state.past.leaders.contains(&(term, id)) {
        state.past.leaders.push((term, id));
        state.past.leaders.sort_unstable();
    }
    let grew = server.terms().starts_with(before.terms());
    broken.expect(Claim::LeaderAppendOnly, grew || !before.leads_in(term));
}

/// Takes down what this server is the first to take for committed.
fn commit_to(
    state: &mut State,
    server: &Server,
    commit: LogIndex,
    configuration: &Configuration,
    broken: &mut Broken,
) {
    for index in state.past.committed.len() as u64 + 1..=commit.0 {
        let Some(term) = server.node.terms().term(LogIndex(index)) else { return };
        let entry = EntryId::new(term, LogIndex(index));
        broken.expect(Claim::Quorum, quorum_holds(state, configuration, entry));
        state.past.committed.push((entry, server.node.term()));
    }
}

/// Whether a server applies what is committed, in order and without a gap.
fn applies_are_sound(state: &State, before: &Server, done: &Done) -> bool {
    let first = match done.restarted {
        true => LogIndex(1),
        false => before.node.handed_out().next(),
    };
    let committed = state.past.committed.iter().map(|(entry, _)| *entry);
    let expected = committed.skip_while(|entry| entry.index < first);
    let applied = done.applied.iter().map(|entry| entry.id);
    applied.clone().count() == 0 || expected.take(done.applied.len()).eq(applied)
}

/// Whether the logs of one server, in memory and on its disk, match each other and all others.
fn logs_match(state: &State, id: NodeId, server: &Server) -> bool {
    let (memory, disk) = (server.terms(), server.disk.terms());
    let mut all = match_up(memory, &disk);
    for other in state.servers.iter().filter(|other| other.node.id() != id) {
        let (theirs, stored) = (other.terms(), other.disk.terms());
        all &= match_up(memory, theirs) && match_up(memory, &stored);
        all &= match_up(&disk, theirs) && match_up(&disk, &stored);
        // The same entries carry the same.
        let mut both = server.disk.entries.iter().zip(&other.disk.entries);
        all &= both.all(|(own, other)| own.id != other.id || own == other);
    }
    all
}

fn match_up(a: &[Term], b: &[Term]) -> bool {
    let agreed = a.iter().zip(b).rposition(|(a, b)| a == b);
    agreed.is_none_or(|last| a[..last] == b[..last])
}

/// Whether a quorum has this entry on its disks: in a joint configuration one of each set.
fn quorum_holds(state: &State, configuration: &Configuration, entry: EntryId) -> bool {
    let holds =
        |voter: &&Member| state.server(voter.id).is_some_and(|server| server.disk.holds(entry));
    let majority = |voters: &[Member]| {
        voters.is_empty() || voters.iter().filter(holds).count() > voters.len() / 2
    };
    majority(configuration.voters()) && majority(configuration.outgoing())
}

/// An old candidate may win its election late, after a later term has committed something: that is no violation.
fn leaders_are_complete(state: &State) -> bool {
    let mut leaders = state.servers.iter().filter(|server| server.node.role() == Role::Leader);
    leaders.all(|leader| {
        let earlier = |&&(_, term): &&(_, Term)| term < leader.node.term();
        let mut committed = state.past.committed.iter().filter(earlier);
        committed.all(|(entry, _)| leader.node.terms().contains(*entry))
    })
}

/// Whether the disk of the sender holds what the message promises, or has gone on to a later term since.
fn is_backed(envelope: &Envelope, state: &State) -> bool {
    let Some(from) = state.server(envelope.from) else { return false };
    let term = envelope.term;
    let disk = &from.disk;
    let is_over = disk.term() > term;
    let voted = |candidate, incarnation| {
        let vote = Vote { candidate, incarnation };
        is_over || (disk.term(), disk.hard_state.vote) == (term, Some(vote))
    };
    match &envelope.message {
        Message::VoteResponse { candidate, granted: true } => voted(envelope.to, *candidate),
        // A candidate or leader has voted for itself; what is refused for its term says nothing of it any more.
        Message::RequestVote { .. } | Message::AppendEntries { .. } | Message::TimeoutNow => {
            voted(envelope.from, envelope.incarnation)
        }
        Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
            is_over || (disk.term() == term && holds_leaders_log(state, from, term, *matched))
        }
        Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::VoteResponse { candidate: _, granted: false }
        | Message::AppendResponse(AppendOutcome::Rejected { .. })
        | Message::Heartbeat { .. }
        | Message::HeartbeatResponse { .. }
        | Message::ReadIndex { .. }
        | Message::ReadIndexResponse { .. } => true,
    }
}

/// Whether a disk holds the log of the leader of `term` up to `matched`, as far as that leader is still there.
fn holds_leaders_log(state: &State, server: &Server, term: Term, matched: LogIndex) -> bool {
    let held = usize::try_from(matched.0).unwrap_or(usize::MAX);
    let stored = server.disk.terms();
    let leader = state.servers.iter().find(|other| other.leads_in(term));
    stored.len() >= held
        && leader.is_none_or(|leader| leader.terms().get(..held) == Some(&stored[..held]))
}
