//! One replica with its disk and its mail.

use std::time::Duration;

use raft_core::{
    AppendOutcome, Applies, ChangeOutcome, Configuration, Effects, Entry, EntryId, Envelope, Fetch,
    Fetched, HardState, Incarnation, Input, LogIndex, Message, Node, NodeId, Options, Read,
    Restored, Role, SendSnapshot, SnapshotMeta, Term, TermRuns, Write,
};

use super::{GRANTED, accepted, configurations, entries, envelope, ms, snapshot, voters};

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    pub(crate) hard_state: HardState,
    pub(crate) start: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<SnapshotMeta>,
}

impl Disk {
    pub(crate) fn empty(configuration: Configuration) -> Disk {
        Disk {
            incarnation: Incarnation(0),
            hard_state: HardState::default(),
            start: SnapshotMeta::new(EntryId::ZERO, configuration),
            entries: Vec::new(),
            snapshot: None,
        }
    }

    /// A disk whose log has entries of these terms, in that `term`, committed up to `commit`.
    pub(crate) fn with_log(
        configuration: Configuration,
        terms: &[u64],
        term: u64,
        commit: u64,
    ) -> Disk {
        let hard_state = HardState { term: Term(term), vote: None, commit: LogIndex(commit) };
        Disk { hard_state, entries: entries(0, terms), ..Disk::empty(configuration) }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.last, |entry| entry.id)
    }

    /// Carries a write out, whole.
    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(reset) = &write.reset {
            self.start = reset.clone();
            self.entries.clear();
        }
        if let Some(compact) = &write.compact {
            self.start = compact.clone();
            self.entries.retain(|entry| entry.id.index > compact.last.index);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            assert_eq!(self.last().index.next(), first.id.index, "a write leaves no gap");
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        assert!(self.hard_state.commit <= self.last().index);
    }

    pub(crate) fn restored(&self) -> Restored {
        let mut terms = TermRuns::new(self.start.last);
        for entry in &self.entries {
            assert!(terms.push(entry.id.term));
        }
        Restored {
            incarnation: self.incarnation,
            hard_state: self.hard_state,
            start: self.start.clone(),
            terms,
            configurations: configurations(&self.entries),
            snapshot: self.snapshot.clone(),
        }
    }

    /// Answers a fetch as storage does.
    pub(crate) fn read(&self, fetch: &Fetch) -> Fetched {
        if fetch.first <= self.start.last.index {
            return Fetched::Compacted;
        }
        let mut bytes = 0;
        let wanted = self.entries.iter().filter(|entry| entry.id.index >= fetch.first);
        let found: Vec<Entry> = wanted
            .take_while(|entry| {
                bytes += entry.cost_bytes();
                entry.id.index <= fetch.last
                    && (entry.id.index == fetch.first || bytes <= fetch.bytes_max)
            })
            .cloned()
            .collect();
        Fetched::Entries(found)
    }
}

/// A replica, its disk, and all that left it and was not taken yet.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) options: Options,
    pub(crate) node: Node,
    pub(crate) disk: Disk,
    pub(crate) now: Duration,
    /// The write that is out.
    pub(crate) write: Option<Write>,
    pub(crate) sent: Vec<Envelope>,
    /// Everything that went to the state machine since the start of the process.
    pub(crate) applied: Vec<Entry>,
    pub(crate) restores: Vec<SnapshotMeta>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) snapshots: Vec<SendSnapshot>,
    pub(crate) reads: Vec<Read>,
    pub(crate) changes: Vec<ChangeOutcome>,
    /// Whether the state machine applies at once what it is handed.
    pub(crate) applies_at_once: bool,
    effects: Effects,
}

impl Replica {
    pub(crate) fn start(options: Options, disk: Disk) -> Replica {
        Replica::start_at(ms(1000), options, disk)
    }

    fn start_at(now: Duration, options: Options, disk: Disk) -> Replica {
        let node = Node::new(options.clone(), disk.restored()).expect("a sound disk");
        let mut replica = Replica {
            options,
            node,
            disk,
            now,
            write: None,
            sent: Vec::new(),
            applied: Vec::new(),
            restores: Vec::new(),
            fetches: Vec::new(),
            snapshots: Vec::new(),
            reads: Vec::new(),
            changes: Vec::new(),
            applies_at_once: true,
            effects: Effects::default(),
        };
        replica.tick(0);
        replica
    }

    /// Replica 1 of `count` voters, never started before.
    pub(crate) fn first_of(count: u64) -> Replica {
        Replica::start(Options::new(NodeId(1)), Disk::empty(voters(count)))
    }

    /// Replica 1 of 3, in `term` with a log of these terms on its disk.
    pub(crate) fn with_log(terms: &[u64], term: u64, commit: u64) -> Replica {
        Replica::start(Options::new(NodeId(1)), Disk::with_log(voters(3), terms, term, commit))
    }

    /// Replica 1 of `count`, leading term 1; its first entry, at index 1, is committed.
    pub(crate) fn leader_of(count: u64) -> Replica {
        Replica::leader(Options::new(NodeId(1)), Disk::empty(voters(count)))
    }

    /// Starts, wins an election, and has its first entry acknowledged by everybody.
    pub(crate) fn leader(options: Options, disk: Disk) -> Replica {
        let mut replica = Replica::start(options, disk);
        replica.elect();
        replica.persist_all();
        let last = replica.node.last().index.0;
        for peer in replica.peers() {
            replica.receive(peer, accepted(last));
        }
        replica.persist_all();
        assert_eq!(replica.node.commit(), replica.node.last().index);
        replica.sent.clear();
        replica
    }

    /// Runs an election that everybody grants. The leader's first entry stays in the write that is out.
    pub(crate) fn elect(&mut self) {
        self.time_out();
        for peer in self.peers() {
            let campaign = self.node.term().next();
            if self.node.role() == Role::PreCandidate {
                self.receive(peer, Message::PreVoteResponse { campaign, granted: true });
            }
        }
        self.persist_all();
        for peer in self.peers() {
            if self.node.role() == Role::Candidate {
                self.receive(peer, GRANTED);
            }
        }
        assert_eq!(self.node.role(), Role::Leader);
        self.sent.clear();
    }

    /// Lets the election timeout pass.
    pub(crate) fn time_out(&mut self) {
        let wait = match self.node.role() {
            Role::Follower => self.node.next_tick().saturating_sub(self.now),
            Role::PreCandidate | Role::Candidate | Role::Leader => {
                2 * self.options.election_timeout
            }
        };
        self.now += wait;
        self.tick(0);
    }

    pub(crate) fn peers(&self) -> Vec<u64> {
        let own = self.node.id();
        let members = self.node.configuration().members();
        members.into_iter().map(|member| member.id).filter(|id| *id != own).map(|id| id.0).collect()
    }

    pub(crate) fn tick(&mut self, milliseconds: u64) {
        self.now += ms(milliseconds);
        self.step(Input::Tick(self.now));
    }

    pub(crate) fn step(&mut self, input: Input) {
        self.node.step(input);
        self.drain();
    }

    /// A message of the replica's current term.
    pub(crate) fn receive(&mut self, from: u64, message: Message) {
        self.receive_in(self.node.term().0, from, message);
    }

    pub(crate) fn receive_in(&mut self, term: u64, from: u64, message: Message) {
        let (from, to) = (NodeId(from), self.node.id());
        self.step(Input::Receive(envelope(from, to, Term(term), message)));
    }

    pub(crate) fn propose(&mut self, command: &str) -> EntryId {
        let id = self.node.propose(command.to_owned().into()).expect("a leader with room");
        self.drain();
        id
    }

    pub(crate) fn drain(&mut self) {
        self.node.drain(&mut self.effects);
        let Effects { write, messages, restore, applies, fetches, snapshots, reads, change } =
            &mut self.effects;
        if let Some(write) = write.take() {
            assert!(self.write.is_none(), "at most one write is out");
            self.write = Some(write);
        }
        self.sent.append(messages);
        self.restores.extend(restore.take());
        self.fetches.append(fetches);
        self.snapshots.append(snapshots);
        self.reads.append(reads);
        self.changes.extend(change.take());
        let Some(Applies { entries, .. }) = applies.take() else { return };
        let last = entries.last().expect("a batch is never empty").id.index;
        self.applied.extend(entries.iter().cloned());
        if self.applies_at_once {
            self.step(Input::Applied(last));
        }
    }

    /// The write that is out becomes durable. Whether there was one.
    pub(crate) fn persist(&mut self) -> bool {
        let Some(write) = self.write.take() else { return false };
        self.disk.write(&write);
        self.step(Input::Persisted(write.id));
        true
    }

    pub(crate) fn persist_all(&mut self) {
        while self.persist() {}
    }

    /// Answers every fetch from the disk.
    pub(crate) fn read_all(&mut self) {
        while let Some(fetch) = self.fetches.pop() {
            let result = self.disk.read(&fetch);
            self.step(Input::Fetched { id: fetch.id, result });
        }
    }

    /// The state machine's snapshot up to `index` is durable.
    pub(crate) fn take_snapshot(&mut self, index: u64) {
        let at = LogIndex(index);
        let found = self.disk.entries.iter().find(|entry| entry.id.index == at);
        let last = found.expect("the log holds what its snapshot ends with").id;
        let meta = snapshot(last, self.node.configuration());
        self.disk.snapshot = Some(meta.clone());
        self.step(Input::SnapshotTaken(meta));
    }

    /// A leader's snapshot is durable here.
    pub(crate) fn receive_snapshot(&mut self, last: EntryId) {
        let meta = snapshot(last, self.node.configuration());
        if self.disk.snapshot.as_ref().is_none_or(|old| old.last.index < last.index) {
            self.disk.snapshot = Some(meta.clone());
        }
        self.step(Input::SnapshotReceived(meta));
    }

    /// The process dies, with the write that is out, and starts again from its disk.
    pub(crate) fn crash(&mut self) {
        *self = Replica::start_at(self.now, self.options.clone(), self.disk.clone());
    }

    /// All that left since this was asked last.
    pub(crate) fn take_sent(&mut self) -> Vec<Envelope> {
        core::mem::take(&mut self.sent)
    }

    /// The messages that left for `to` since the mail was taken last.
    pub(crate) fn sent_to(&self, to: u64) -> Vec<Message> {
        let sent = self.sent.iter().filter(|envelope| envelope.to == NodeId(to));
        sent.map(|envelope| envelope.message.clone()).collect()
    }

    /// The indexes of the entries in each AppendEntries for `to`.
    pub(crate) fn appends_to(&self, to: u64) -> Vec<Vec<u64>> {
        let appends = self.sent_to(to).into_iter().filter_map(|message| match message {
            Message::AppendEntries { entries, .. } => {
                Some(entries.iter().map(|entry| entry.id.index.0).collect())
            }
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::RequestVote { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::Heartbeat { .. }
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => None,
        });
        appends.collect()
    }

    /// Whether an acknowledgement has left for `to` that covers `index`.
    pub(crate) fn has_acknowledged(&self, to: u64, index: u64) -> bool {
        self.sent_to(to).iter().any(|message| {
            matches!(message, Message::AppendResponse(AppendOutcome::Accepted { matched })
                if matched.0 >= index)
        })
    }

    pub(crate) fn applied_ids(&self) -> Vec<EntryId> {
        self.applied.iter().map(|entry| entry.id).collect()
    }

    /// The round of the latest heartbeat to `to`.
    pub(crate) fn last_round(&self, to: u64) -> Option<u64> {
        self.sent_to(to).iter().rev().find_map(|message| match message {
            Message::Heartbeat { round, .. } => *round,
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::RequestVote { .. }
            | Message::VoteResponse { .. }
            | Message::AppendEntries { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => None,
        })
    }

    pub(crate) fn peer(&self, id: u64) -> raft_core::PeerStatus {
        let peers = self.node.status().peers;
        *peers.iter().find(|peer| peer.id == NodeId(id)).expect("a peer of a leader")
    }
}
