//! A whole cluster without a network, a disk or a clock: the test is all three. After each step it checks the
//! five properties of the paper's Figure 3 and what every message promises.

mod checker;
mod disk;
mod members;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Configuration, Effects, EntryId, Envelope, Fetch, Incarnation, Input, LogIndex, Node, NodeId,
    Options, Role, SnapshotMeta, SnapshotOutcome, Write,
};

use crate::cluster::checker::{Checker, check_promise};
use crate::cluster::disk::{Disk, State};

/// One server: a node while it runs, and a disk for ever.
pub(crate) struct Server {
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) state: State,
    write: Option<Write>,
    fetches: Vec<Fetch>,
    /// Commands that are handed out and not yet reported as applied.
    applying: Option<LogIndex>,
    /// The configuration in force at what was applied.
    configuration: Configuration,
    /// The target of the change of membership that was begun here.
    change: Option<Configuration>,
    /// The time of its last tick.
    ticked: Duration,
    lives: u64,
    /// It was away, and nobody waits for the reads that it was asked for before.
    was_away: bool,
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
    /// Machines that were given up and run all the same: as they were when another one took their place.
    away: BTreeMap<(NodeId, Incarnation), Server>,
    options: BTreeMap<NodeId, Options>,
    checker: Checker,
    proposed: u64,
    /// What really happened, so that a run in which nothing happened can be seen for what it is.
    pub(crate) happened: Happened,
}

macro_rules! happened {
    ($($(#[doc = $doc:literal])* $kind:ident,)+) => {
        /// What really happened in a run.
        #[derive(Copy, Clone, Debug, Default)]
        pub(crate) struct Happened {
            $($(#[doc = $doc])* pub(crate) $kind: u64,)+
        }

        impl Happened {
            pub(crate) fn add(&mut self, other: &Happened) {
                $(self.$kind += other.$kind;)+
            }

            /// Each kind by its name.
            pub(crate) fn kinds(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($kind), self.$kind)),+]
            }
        }
    };
}

happened! {
    messages,
    elections,
    applied,
    restored,
    compacted,
    fetched,
    crashed,
    truncated,
    /// Changes of membership that succeeded, and those that failed, by why.
    changed,
    not_caught_up,
    lost_lead,
    /// Joint configurations that were left by another leader than the one that was asked for the change.
    finished_by_the_next,
    /// Configurations that were overwritten.
    rolled_back,
    /// Leaders that stepped down since they were removed.
    retired,
    /// Campaigns at a leader's word.
    transferred,
    reads,
    reads_refused,
    lease_reads,
    wiped,
    /// Disks that passed for lost.
    came_back,
    /// Machines that were given up, and are there again as they were, in place of those that took theirs.
    exchanged,
    /// New incarnations of nodes that became voters.
    readmitted,
}

const NETWORK_MAX: usize = 400;

impl Server {
    /// One that does not run yet.
    fn new(disk: Disk, lives: u64) -> Server {
        Server {
            node: None,
            configuration: disk.start.configuration.clone(),
            disk,
            state: State { applied: LogIndex::ZERO, check: 0 },
            write: None,
            fetches: Vec::new(),
            applying: None,
            change: None,
            ticked: Duration::ZERO,
            lives,
            was_away: false,
        }
    }
}

impl Cluster {
    /// Of the members of `configuration`, and so many nodes more, which know of no configuration.
    pub(crate) fn new(
        configuration: Configuration,
        spares: u64,
        options: impl Fn(NodeId) -> Options,
    ) -> Cluster {
        let mut members: Vec<NodeId> =
            configuration.members().into_iter().map(|member| member.id).collect();
        let last = members.last().map_or(0, |id| id.0);
        members.extend((last + 1..=last + spares).map(NodeId));
        let mut cluster = Cluster {
            now: Duration::ZERO,
            servers: BTreeMap::new(),
            network: Vec::new(),
            transfers: Vec::new(),
            cut: Vec::new(),
            away: BTreeMap::new(),
            options: members.iter().map(|id| (*id, options(*id))).collect(),
            checker: Checker::default(),
            proposed: 0,
            happened: Happened::default(),
        };
        for id in members {
            let configuration = match configuration.contains(id) {
                true => configuration.clone(),
                false => Configuration::default(),
            };
            let server = Server::new(Disk::new(Incarnation(0), configuration), 0);
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
        server.ticked = now;
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
        server.change = None;
        self.checker.life_ended(id);
        // Who sends to it will be told that the transfer has ended; who is gone needs no word.
        self.transfers.retain(|(from, _)| *from != id);
    }

    pub(crate) fn step(&mut self, id: NodeId, input: Input, drain: bool) {
        let server = self.servers.get_mut(&id).unwrap();
        let Some(node) = &mut server.node else { return };
        if let Input::Tick(now) = input {
            server.ticked = now;
        }
        let commit = node.commit();
        node.step(input);
        assert!(node.commit() >= commit, "the commit index never goes back");
        self.checker.check(&self.servers, id, &mut self.happened);
        self.checker.check_leases(&self.servers, self.now, &mut self.happened);
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
        let (last, in_force) = (server.disk.last().index, server.disk.configuration_index());
        server.disk.write(&write);
        let first = write.entries.first().map_or(LogIndex(u64::MAX), |entry| entry.id.index);
        self.happened.truncated += u64::from(first <= last);
        self.happened.rolled_back += u64::from(first <= in_force);
        self.happened.compacted += u64::from(write.compact.is_some());
        for meta in write.reset.iter().chain(&write.compact) {
            self.checker.check_meta(meta);
        }
        Checker::check_log_matching(&self.servers, id);
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
        checker.check_meta(&meta);
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
        let (mut effects, role) = (Effects::default(), node.role());
        let was_joint = role == Role::Leader && node.configuration().is_joint();
        node.drain(&mut effects);
        let left_joint = was_joint && !node.configuration().is_joint();
        self.happened.finished_by_the_next += u64::from(left_joint && server.change.is_none());
        // Only who was removed gives up its lead without a fact.
        self.happened.retired += u64::from((role, node.role()) == (Role::Leader, Role::Follower));
        let term = node.term();
        if let Some(write) = effects.write {
            assert!(server.write.is_none(), "one write out at a time");
            server.write = Some(write);
        }
        for envelope in effects.messages {
            check_promise(&envelope, &server.disk, term);
            self.checker.leader_completeness(&envelope);
            self.happened.transferred += u64::from(members::is_told_to_campaign(&envelope));
            self.network.push(envelope);
        }
        if self.network.len() > NETWORK_MAX {
            self.network.drain(..self.network.len() - NETWORK_MAX);
        }
        if let Some(meta) = effects.restore {
            self.happened.restored += 1;
            server.state = server.disk.snapshots[&meta.last.index].1;
            server.configuration = meta.configuration;
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
        for read in effects.reads {
            let asker = (id, server.lives, server.was_away);
            self.checker.read_done(asker, read, &mut self.happened);
        }
        if let Some(outcome) = effects.change {
            members::check_outcome(server, &outcome, &mut self.happened);
        }
        self.transfers.extend(effects.snapshots.iter().map(|send| (id, send.to)));
    }
}
