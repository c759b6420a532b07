//! A whole cluster without a network, a disk or a clock: the test is all three. After each step it checks the
//! five properties of the paper's Figure 3 and what every message promises.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Configuration, Effects, Entry, EntryId, Envelope, Fetch, Fetched, HardState,
    Incarnation, Input, LogIndex, Member, Message, Node, NodeId, Options, Payload, Restored, Role,
    SnapshotMeta, SnapshotOutcome, Term, TermRuns, Write,
};

use crate::harness::configurations;

/// What one disk holds.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    pub(crate) hard_state: HardState,
    start: SnapshotMeta,
    entries: Vec<Entry>,
    /// Complete snapshots by the index of their last entry: what they say, and the state.
    snapshots: BTreeMap<LogIndex, (SnapshotMeta, State)>,
}

/// A state machine that tells any two histories apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) applied: LogIndex,
    pub(crate) check: u64,
}

impl Disk {
    fn new(configuration: Configuration) -> Disk {
        Disk {
            incarnation: Incarnation(0),
            hard_state: HardState::default(),
            start: SnapshotMeta::new(EntryId::ZERO, configuration),
            entries: Vec::new(),
            snapshots: BTreeMap::new(),
        }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.last, |entry| entry.id)
    }

    /// The entry at `index`, while it is not compacted.
    fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let at = index.0.checked_sub(self.start.last.index.0 + 1)?;
        self.entries.get(usize::try_from(at).unwrap())
    }

    /// Whether the disk holds this entry, or has compacted its index (what is compacted was committed).
    fn holds(&self, id: EntryId) -> bool {
        id.index <= self.start.last.index
            || self.entry(id.index).is_some_and(|entry| entry.id == id)
    }

    fn write(&mut self, write: &Write) {
        if let Some(meta) = &write.reset {
            assert!(self.snapshots.contains_key(&meta.last.index), "the snapshot is durable first");
            self.start = meta.clone();
            self.entries.clear();
        }
        if let Some(meta) = &write.compact {
            let gone = meta.last.index.0 - self.start.last.index.0;
            self.entries.drain(..usize::try_from(gone).unwrap());
            self.start = meta.clone();
        }
        if let Some(first) = write.entries.first() {
            assert!(first.id.index > self.start.last.index, "nothing compacted is written again");
            assert!(first.id.index <= self.last().index.next(), "the log has no gap");
            let kept = first.id.index.0 - self.start.last.index.0 - 1;
            self.entries.truncate(usize::try_from(kept).unwrap());
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(state) = write.hard_state {
            let old = self.hard_state;
            assert!(state.term >= old.term, "the term on disk never goes back (§5.1)");
            assert!(state.commit >= old.commit, "the commit index on disk never goes back");
            assert!(state.commit <= self.last().index, "the commit index lies within the log");
            let changed = state.term == old.term && old.vote.is_some() && state.vote != old.vote;
            assert!(!changed, "one vote a term (§5.2)");
            self.hard_state = state;
        }
    }

    fn restored(&self) -> Restored {
        let mut terms = TermRuns::new(self.start.last);
        for entry in &self.entries {
            assert!(terms.push(entry.id.term));
        }
        let snapshot = self.snapshots.last_key_value().map(|(_, (meta, _))| meta.clone());
        Restored {
            incarnation: self.incarnation,
            hard_state: self.hard_state,
            start: self.start.clone(),
            terms,
            configurations: configurations(&self.entries),
            snapshot,
        }
    }

    fn read(&self, fetch: &Fetch) -> Fetched {
        if fetch.first <= self.start.last.index {
            return Fetched::Compacted;
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut index = fetch.first;
        while let Some(entry) = self.entry(index).filter(|_| index <= fetch.last) {
            bytes += entry.cost_bytes();
            if !entries.is_empty() && bytes > fetch.bytes_max {
                break;
            }
            entries.push(entry.clone());
            index = index.next();
        }
        if entries.is_empty() { Fetched::Compacted } else { Fetched::Entries(entries) }
    }
}

/// One server: a node while it runs, and a disk for ever.
pub(crate) struct Server {
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) state: State,
    write: Option<Write>,
    fetches: Vec<Fetch>,
    /// Commands that are handed out and not yet reported as applied.
    applying: Option<LogIndex>,
    configuration: Configuration,
    lives: u64,
}

/// What all servers together have done: the state of the checks.
#[derive(Default)]
struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    leader_last: BTreeMap<Term, LogIndex>,
    /// Every entry that any server has applied, the state after it, and a term in which it was committed.
    applied: BTreeMap<LogIndex, (Entry, State, Term)>,
    committed: LogIndex,
}

pub(crate) struct Cluster {
    pub(crate) now: Duration,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    /// Messages on their way, oldest first.
    pub(crate) network: Vec<Envelope>,
    /// Snapshots on their way: from, to.
    pub(crate) transfers: Vec<(NodeId, NodeId)>,
    /// Pairs between which nothing arrives.
    pub(crate) cut: Vec<(NodeId, NodeId)>,
    options: BTreeMap<NodeId, Options>,
    configuration: Configuration,
    checker: Checker,
    proposed: u64,
    /// What really happened, so that a run in which nothing happened can be seen for what it is.
    pub(crate) happened: Happened,
}

/// What really happened in a run.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Happened {
    pub(crate) messages: u64,
    pub(crate) elections: u64,
    pub(crate) applied: u64,
    pub(crate) restored: u64,
    pub(crate) compacted: u64,
    pub(crate) fetched: u64,
    pub(crate) crashed: u64,
    pub(crate) truncated: u64,
}

const NETWORK_MAX: usize = 400;

impl Cluster {
    pub(crate) fn new(
        configuration: Configuration,
        options: impl Fn(NodeId) -> Options,
    ) -> Cluster {
        let members: Vec<NodeId> =
            configuration.members().into_iter().map(|member| member.id).collect();
        let mut cluster = Cluster {
            now: Duration::ZERO,
            servers: BTreeMap::new(),
            network: Vec::new(),
            transfers: Vec::new(),
            cut: Vec::new(),
            options: members.iter().map(|id| (*id, options(*id))).collect(),
            configuration: configuration.clone(),
            checker: Checker::default(),
            proposed: 0,
            happened: Happened::default(),
        };
        for id in members {
            let server = Server {
                node: None,
                disk: Disk::new(configuration.clone()),
                state: State { applied: LogIndex::ZERO, check: 0 },
                write: None,
                fetches: Vec::new(),
                applying: None,
                configuration: configuration.clone(),
                lives: 0,
            };
            cluster.servers.insert(id, server);
            cluster.start(id);
        }
        cluster
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    /// The leader of the highest term, if it runs.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let nodes = self.servers.values().filter_map(|server| server.node.as_ref());
        let leaders = nodes.filter(|node| node.role() == Role::Leader);
        leaders.max_by_key(|node| node.term()).map(Node::id)
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        let mut options = self.options[&id].clone();
        let now = self.now;
        let server = self.servers.get_mut(&id).unwrap();
        if server.node.is_some() {
            return;
        }
        server.lives += 1;
        options.seed = id.0 * 1_000 + server.lives;
        let mut node =
            Node::new(options, server.disk.restored()).expect("what was written is sound");
        server.state = State { applied: LogIndex::ZERO, check: 0 };
        node.step(Input::Tick(now));
        server.node = Some(node);
        self.drain(id);
    }

    /// Keeps what is durable, and nothing else.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        self.happened.crashed += u64::from(server.node.is_some());
        server.node = None;
        server.write = None;
        server.fetches.clear();
        server.applying = None;
        // Who sends to it will be told that the transfer has ended; who is gone needs no word.
        self.transfers.retain(|(from, _)| *from != id);
    }

    pub(crate) fn step(&mut self, id: NodeId, input: Input, drain: bool) {
        let Some(node) = &mut self.servers.get_mut(&id).unwrap().node else { return };
        let commit = node.commit();
        node.step(input);
        assert!(node.commit() >= commit, "the commit index never goes back");
        self.check(id);
        if drain {
            self.drain(id);
        }
    }

    pub(crate) fn tick(&mut self, by: Duration, drain: bool) {
        self.now += by;
        for id in self.ids() {
            self.step(id, Input::Tick(self.now), drain);
        }
    }

    pub(crate) fn propose(&mut self, id: NodeId, bytes: usize) -> Option<EntryId> {
        self.proposed += 1;
        let mut command = vec![0; bytes.max(8)];
        command[..8].copy_from_slice(&self.proposed.to_le_bytes());
        let node = self.servers.get_mut(&id)?.node.as_mut()?;
        node.propose(Bytes::from(command)).ok()
    }

    /// Delivers the message at this place of the network, or loses it where the link is cut.
    pub(crate) fn deliver(&mut self, at: usize, keep: bool, drain: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = at % self.network.len();
        let envelope = match keep {
            true => self.network[at].clone(),
            false => self.network.remove(at),
        };
        if self.cut.contains(&(envelope.from, envelope.to)) {
            return;
        }
        self.happened.messages += 1;
        self.step(envelope.to, Input::Receive(envelope), drain);
    }

    /// The disk finishes its write.
    pub(crate) fn persist(&mut self, id: NodeId, drain: bool) {
        let server = self.servers.get_mut(&id).unwrap();
        let Some(write) = server.write.take() else { return };
        let last = server.disk.last().index;
        server.disk.write(&write);
        self.happened.truncated += u64::from(server.disk.last().index < last);
        self.happened.compacted += u64::from(write.compact.is_some());
        self.check_log_matching(id);
        self.step(id, Input::Persisted(write.id), drain);
    }

    pub(crate) fn answer_fetch(&mut self, id: NodeId, drain: bool) {
        let server = self.servers.get_mut(&id).unwrap();
        if server.fetches.is_empty() {
            return;
        }
        let fetch = server.fetches.remove(0);
        let result = server.disk.read(&fetch);
        self.happened.fetched += 1;
        self.step(id, Input::Fetched { id: fetch.id, result }, drain);
    }

    pub(crate) fn report_applied(&mut self, id: NodeId, drain: bool) {
        if let Some(index) = self.servers.get_mut(&id).unwrap().applying.take() {
            self.step(id, Input::Applied(index), drain);
        }
    }

    /// Takes a snapshot of what the state machine has applied.
    pub(crate) fn take_snapshot(&mut self, id: NodeId, drain: bool) {
        let checker = &self.checker;
        let server = self.servers.get_mut(&id).unwrap();
        let index = server.state.applied;
        let (Some(_), Some((entry, ..))) = (&server.node, checker.applied.get(&index)) else {
            return;
        };
        let meta = SnapshotMeta::new(entry.id, server.configuration.clone());
        let newest = server.disk.snapshots.last_key_value().map_or(LogIndex::ZERO, |(i, _)| *i);
        if index > newest {
            server.disk.snapshots.insert(index, (meta.clone(), server.state));
        }
        self.step(id, Input::SnapshotTaken(meta), drain);
    }

    /// Ends the oldest transfer of a snapshot.
    pub(crate) fn finish_transfer(&mut self, succeed: bool, drain: bool) {
        if self.transfers.is_empty() {
            return;
        }
        let (from, to) = self.transfers.remove(0);
        let newest = self.servers[&from].disk.snapshots.last_key_value();
        let (index, (meta, state)) = newest.expect("who is asked for a snapshot has one");
        let (index, meta, state) = (*index, meta.clone(), *state);
        let connected = !self.cut.contains(&(from, to)) && self.servers[&to].node.is_some();
        let outcome = match succeed && connected {
            true => {
                let receiver = self.servers.get_mut(&to).unwrap();
                receiver.disk.snapshots.insert(index, (meta.clone(), state));
                let last = meta.last;
                self.step(to, Input::SnapshotReceived(meta), drain);
                SnapshotOutcome::Delivered(last)
            }
            false => SnapshotOutcome::Failed,
        };
        self.step(from, Input::SnapshotSent { to, outcome }, drain);
    }

    /// Everything works for this long: messages arrive in order, disks write.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.settle();
            self.tick(Duration::from_millis(10), true);
        }
        self.settle();
    }

    /// Everything works until nothing is left to do at this moment.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let busy = |server: &Server| {
                server.write.is_some() || !server.fetches.is_empty() || server.applying.is_some()
            };
            if self.network.is_empty()
                && self.transfers.is_empty()
                && !self.servers.values().any(busy)
            {
                return;
            }
            for _ in 0..self.network.len() {
                self.deliver(0, false, true);
            }
            self.finish_transfer(true, true);
            for id in self.ids() {
                self.persist(id, true);
                self.answer_fetch(id, true);
                self.report_applied(id, true);
            }
        }
        panic!("the cluster does not come to rest: {} messages", self.network.len());
    }

    pub(crate) fn drain(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        let Some(node) = &mut server.node else { return };
        let mut effects = Effects::default();
        node.drain(&mut effects);
        let term = node.term();
        if let Some(write) = effects.write {
            assert!(server.write.is_none(), "one write out at a time");
            server.write = Some(write);
        }
        for envelope in effects.messages {
            check_promise(&envelope, &server.disk, term);
            self.checker.leader_completeness(&envelope);
            self.network.push(envelope);
        }
        if self.network.len() > NETWORK_MAX {
            self.network.drain(..self.network.len() - NETWORK_MAX);
        }
        if let Some(meta) = effects.restore {
            self.happened.restored += 1;
            server.state = server.disk.snapshots[&meta.last.index].1;
            assert!(server.disk.holds(meta.last), "the log was reset first");
        }
        if let Some(applies) = effects.applies {
            self.happened.applied += applies.entries.len() as u64;
            for entry in &applies.entries {
                assert!(server.disk.holds(entry.id), "applied before it is durable here");
                server.state = self.checker.apply(server.state, entry, term);
            }
            server.configuration = applies.configuration;
            server.applying = Some(server.state.applied);
        }
        server.fetches.extend(effects.fetches);
        self.transfers.extend(effects.snapshots.iter().map(|send| (id, send.to)));
    }

    fn check(&mut self, id: NodeId) {
        let node = self.servers[&id].node.as_ref().unwrap();
        if node.role() != Role::Leader {
            return;
        }
        let (term, last, commit) = (node.term(), node.last(), node.commit());
        self.happened.elections += u64::from(!self.checker.leaders.contains_key(&term));
        let leader = *self.checker.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "Election Safety: one leader a term ({term})");
        let before = self.checker.leader_last.entry(term).or_insert(last.index);
        assert!(last.index >= *before, "Leader Append-Only: a leader's log never gets shorter");
        *before = last.index;
        if commit > self.checker.committed {
            self.checker.committed = commit;
            let hold = |voters: &[Member]| {
                let holds = |voter: &&Member| {
                    let disk = &self.servers[&voter.id].disk;
                    voter.is(voter.id, disk.incarnation) && disk.last().index >= commit
                };
                voters.is_empty() || voters.iter().filter(holds).count() > voters.len() / 2
            };
            let configuration = node.configuration();
            let quorum = hold(configuration.voters()) && hold(configuration.outgoing());
            assert!(quorum, "{commit} is committed without a quorum");
        }
    }

    /// Log Matching: where two logs hold the same entry, they are the same up to it.
    fn check_log_matching(&self, id: NodeId) {
        let disk = &self.servers[&id].disk;
        for (other_id, other) in &self.servers {
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
}

impl Checker {
    /// State Machine Safety: no two servers apply different entries at an index, none skips one.
    fn apply(&mut self, state: State, entry: &Entry, term: Term) -> State {
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
    fn leader_completeness(&self, envelope: &Envelope) {
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
fn check_promise(envelope: &Envelope, disk: &Disk, term: Term) {
    let vote = (disk.hard_state.term, disk.hard_state.vote);
    match &envelope.message {
        Message::RequestVote { .. } => {
            assert_eq!(vote, (envelope.term, Some(envelope.from)), "the own vote is durable first");
        }
        Message::VoteResponse { granted: true } => {
            assert_eq!(vote, (envelope.term, Some(envelope.to)), "a granted vote is durable first");
        }
        Message::AppendResponse(AppendOutcome::Accepted { matched }) => {
            assert_eq!(disk.hard_state.term, envelope.term, "the term is durable first");
            assert!(disk.last().index >= *matched, "an acknowledged entry is durable first");
        }
        Message::AppendEntries { .. } => {
            assert_eq!(vote, (envelope.term, Some(envelope.from)), "a leader's vote is durable");
        }
        Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::VoteResponse { granted: false }
        | Message::AppendResponse(AppendOutcome::Rejected { .. })
        | Message::Heartbeat { .. }
        | Message::HeartbeatResponse { .. }
        | Message::TimeoutNow
        | Message::ReadIndex { .. }
        | Message::ReadIndexResponse { .. } => assert!(envelope.term <= term),
    }
}
