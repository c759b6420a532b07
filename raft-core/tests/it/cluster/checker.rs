//! Figure 3, and what every message promises.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{
    AppendOutcome, Configuration, Entry, EntryId, Envelope, Incarnation, LogIndex, Member, Message,
    Node, NodeId, Payload, Read, ReadId, Role, SnapshotMeta, Term, Vote,
};

use crate::cluster::disk::{Disk, State};
use crate::cluster::members::incarnation;
use crate::cluster::{Happened, Server};

/// What all servers together have done: the state of the checks.
#[derive(Default)]
pub(super) struct Checker {
    leaders: BTreeMap<Term, (NodeId, Incarnation)>,
    leader_last: BTreeMap<Term, LogIndex>,
    /// Every entry that any server has applied, the state after it, and a term in which it was committed.
    pub(super) applied: BTreeMap<LogIndex, (Entry, State, Term)>,
    /// The greatest index that any leader knew to be committed.
    committed: LogIndex,
    /// What the disks hold that are lost, or pass for it: their acknowledgements were true.
    pub(super) wiped: BTreeMap<(NodeId, Incarnation), Disk>,
    /// What was committed when each read was asked for, by who asked in which life.
    reads: BTreeMap<(NodeId, u64, ReadId), LogIndex>,
}

impl Checker {
    /// What must hold of `id` after each step.
    pub(super) fn check(
        &mut self,
        servers: &BTreeMap<NodeId, Server>,
        id: NodeId,
        happened: &mut Happened,
    ) {
        let node = servers[&id].node.as_ref().unwrap();
        if node.role() != Role::Leader {
            return;
        }
        let (term, last, commit) = (node.term(), node.last(), node.commit());
        happened.elections += u64::from(!self.leaders.contains_key(&term));
        let own = (id, node.incarnation());
        let leader = *self.leaders.entry(term).or_insert(own);
        assert_eq!(leader, own, "Election Safety: one leader a term ({term})");
        let before = self.leader_last.entry(term).or_insert(last.index);
        assert!(last.index >= *before, "Leader Append-Only: a leader's log never gets shorter");
        *before = last.index;
        if commit > self.committed {
            self.committed = commit;
            // By counting it commits entries of its own term only (§5.4.2).
            self.check_quorum(servers, node.configuration(), EntryId::new(term, commit));
        }
    }

    /// Commitment takes a majority of each set of voters, under the incarnations that are named (§6).
    fn check_quorum(
        &self,
        servers: &BTreeMap<NodeId, Server>,
        configuration: &Configuration,
        committed: EntryId,
    ) {
        let holds = |voter: &&Member| {
            let disk = &servers[&voter.id].disk;
            let named = incarnation(voter);
            let disk = match named == disk.incarnation {
                true => Some(disk),
                false => self.wiped.get(&(voter.id, named)),
            };
            disk.is_some_and(|disk| disk.holds(committed))
        };
        for voters in [configuration.voters(), configuration.outgoing()] {
            let quorum =
                voters.is_empty() || voters.iter().filter(holds).count() > voters.len() / 2;
            assert!(quorum, "{committed} is committed without a quorum of {configuration:?}");
        }
    }

    /// Log Matching: where two logs hold the same entry, they are the same up to it.
    pub(super) fn check_log_matching(servers: &BTreeMap<NodeId, Server>, id: NodeId) {
        let disk = &servers[&id].disk;
        for (other_id, other) in servers {
            let same = |entry: &&Entry| {
                other.disk.entry(entry.id.index).is_some_and(|theirs| theirs.id == entry.id)
            };
            let Some(agreed) = disk.entries.iter().rev().find(same) else { continue };
            for entry in disk.entries.iter().take_while(|entry| entry.id.index <= agreed.id.index) {
                if entry.id.index > other.disk.start.last.index {
                    let theirs = other.disk.entry(entry.id.index);
                    assert_eq!(theirs, Some(entry), "Log Matching of {id} and {other_id}");
                }
            }
        }
    }

    /// Whoever holds a lease at this moment, by clocks that are equal, knows all that is committed (diss. §6.4.1).
    pub(super) fn check_leases(
        &self,
        servers: &BTreeMap<NodeId, Server>,
        now: Duration,
        happened: &mut Happened,
    ) {
        for (id, server) in servers.iter().filter(|(_, server)| server.ticked == now) {
            if let Some(index) = server.node.as_ref().and_then(Node::read_by_lease) {
                happened.lease_reads += 1;
                let committed = self.committed;
                assert!(
                    index >= committed,
                    "{id} reads {index} by lease, {committed} is committed"
                );
            }
        }
    }

    pub(super) fn read_asked(&mut self, id: NodeId, life: u64, read: ReadId) {
        let before = self.reads.insert((id, life, read), self.committed);
        assert!(before.is_none(), "a read has a name of its own");
    }

    /// A read index is at least what was committed anywhere when it was asked for (diss. §6.4).
    pub(super) fn read_done(
        &mut self,
        (id, life, was_away): (NodeId, u64, bool),
        read: Read,
        happened: &mut Happened,
    ) {
        let Some(committed) = self.reads.remove(&(id, life, read.id)) else {
            assert!(was_away, "each read that was asked for comes out once");
            return;
        };
        match read.index {
            Ok(index) => {
                happened.reads += 1;
                assert!(index >= committed, "{id} reads {index}, {committed} was committed before");
            }
            Err(_) => happened.reads_refused += 1,
        }
    }

    /// A process ends: nobody waits for its reads any more.
    pub(super) fn life_ended(&mut self, id: NodeId) {
        self.reads.retain(|(asker, ..), _| *asker != id);
    }

    pub(super) fn check_that_no_read_waits(&self) {
        assert!(self.reads.is_empty(), "each read comes out: {:?}", self.reads);
    }

    /// The latest configuration that was applied anywhere, and its index.
    pub(super) fn last_configuration(&self) -> Option<(LogIndex, Configuration)> {
        self.configuration_at(LogIndex(u64::MAX))
    }

    /// The latest configuration that was applied anywhere up to `index`.
    pub(super) fn configuration_at(&self, index: LogIndex) -> Option<(LogIndex, Configuration)> {
        self.applied.range(..=index).rev().find_map(|(index, (entry, ..))| match &entry.payload {
            Payload::Configuration(configuration) => Some((*index, configuration.clone())),
            Payload::Empty | Payload::Command(_) => None,
        })
    }

    /// A snapshot, and the start of a log, carry the configuration in force at their index (§7). Before the first entry
    /// with a configuration that is the one from which the server started.
    pub(super) fn check_meta(&self, meta: &SnapshotMeta) {
        let Some((at, configuration)) = self.configuration_at(meta.last.index) else { return };
        // The nodes of the first configuration know their own names before the log does.
        let is_named = |(found, expected): (&Member, &Member)| {
            let named = Member { incarnation: Some(Incarnation(0)), ..expected.clone() };
            found == expected || (expected.incarnation.is_none() && *found == named)
        };
        let same = |found: &[Member], expected: &[Member]| {
            found.len() == expected.len() && found.iter().zip(expected).all(is_named)
        };
        let found = &meta.configuration;
        let same = same(found.voters(), configuration.voters())
            && same(found.outgoing(), configuration.outgoing())
            && same(found.learners(), configuration.learners());
        assert!(same, "{found:?} at {}, {configuration:?} since {at}", meta.last);
    }

    /// State Machine Safety: no two servers apply different entries at an index, none skips one.
    pub(super) fn apply(&mut self, state: State, entry: &Entry, term: Term) -> State {
        assert_eq!(entry.id.index, state.applied.next(), "applied in order, without a gap");
        let payload = match &entry.payload {
            Payload::Empty => 0,
            Payload::Command(command) => u64::from_le_bytes(command[..8].try_into().unwrap()),
            Payload::Configuration(configuration) => configuration.members().len() as u64,
        };
        let check = (state.check.rotate_left(7) ^ payload ^ entry.id.term.0.rotate_left(32))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = State { applied: entry.id.index, check };
        let applied = || (entry.clone(), state, term);
        let (first, after, _) = self.applied.entry(entry.id.index).or_insert_with(applied);
        assert_eq!(first, entry, "State Machine Safety");
        assert_eq!(*after, state, "the same commands lead to the same state");
        state
    }

    /// Leader Completeness: what a leader sends agrees with all that was committed in its term or before.
    pub(super) fn leader_completeness(&self, envelope: &Envelope) {
        let Message::AppendEntries { previous, entries, .. } = &envelope.message else { return };
        for id in entries.iter().map(|entry| entry.id).chain([*previous]) {
            let applied = self.applied.get(&id.index);
            if let Some((applied, _, _)) = applied.filter(|(_, _, term)| *term <= envelope.term) {
                assert_eq!(
                    applied.id, id,
                    "Leader Completeness: {} lacks an applied entry",
                    envelope.from
                );
            }
        }
    }
}

/// Whatever leaves a node claims only what its disk holds at that moment.
pub(super) fn check_promise(envelope: &Envelope, disk: &Disk, term: Term) {
    let vote = (disk.hard_state.term, disk.hard_state.vote);
    let own_vote = Some(Vote { candidate: envelope.from, incarnation: envelope.incarnation });
    match &envelope.message {
        Message::RequestVote { .. } => {
            assert_eq!(vote, (envelope.term, own_vote), "the own vote is durable first");
        }
        Message::VoteResponse { candidate: incarnation, granted: true } => {
            let granted = Some(Vote { candidate: envelope.to, incarnation: *incarnation });
            assert_eq!(vote, (envelope.term, granted), "a granted vote is durable first");
        }
        Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
            assert_eq!(disk.hard_state.term, envelope.term, "the term is durable first");
            assert!(disk.last().index >= *matched, "an acknowledged entry is durable first");
        }
        Message::AppendEntries { .. } => {
            assert_eq!(vote, (envelope.term, own_vote), "a leader's vote is durable");
        }
        Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::VoteResponse { candidate: _, granted: false }
        | Message::AppendResponse(AppendOutcome::Rejected { .. })
        | Message::Heartbeat { .. }
        | Message::HeartbeatResponse { .. }
        | Message::TimeoutNow
        | Message::ReadIndex { .. }
        | Message::ReadIndexResponse { .. } => assert!(envelope.term <= term),
    }
}
