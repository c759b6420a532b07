//! Clusters on real files and TCP, on both runtimes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use raft_rsm::raft_core::{Configuration, Member, NodeId, Role};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions};
use raft_rsm::transport::{
    Connector, TcpConnector, TcpLimits, TcpOptions, TcpTransport, Transport,
};
use raft_rsm::{
    Begin, Client, ClientOptions, Cluster, JoinError, MembershipChange, Options, Raft, Runtime,
    ServeError, connect, serve,
};
use tempfile::TempDir;

use crate::cluster::{Command, Counter, ELECTION_TIMEOUT, Probe};
use crate::runtime_ahead::Ahead;

/// Nothing here depends on this time: it ends a test that would hang.
const HANG_GUARD: Duration = Duration::from_secs(120);

/// Makes the transport and the connector that belong to a runtime.
type Listen = Box<dyn Fn(TcpOptions) -> Arc<dyn Transport>>;
type Connect = Box<dyn Fn(Cluster) -> Arc<dyn Connector>>;

/// What a cluster stands on.
struct Ground {
    runtime: Arc<dyn Runtime>,
    listen: Listen,
    connect: Connect,
    #[cfg(feature = "tokio")]
    _tokio: Option<tokio::runtime::Runtime>,
}

fn threads() -> Ground {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let (listening, connecting) = (Arc::clone(&runtime), Arc::clone(&runtime));
    Ground {
        runtime,
        listen: Box::new(move |options| {
            TcpTransport::bind(options, Arc::clone(&listening)).expect("a free port")
        }),
        connect: Box::new(move |cluster| {
            TcpConnector::new(cluster, None, TcpLimits::default(), Arc::clone(&connecting))
        }),
        #[cfg(feature = "tokio")]
        _tokio: None,
    }
}

#[cfg(feature = "tokio")]
fn tokio() -> Ground {
    use raft_rsm::runtime::TokioRuntime;
    use raft_rsm::transport::{TokioConnector, TokioTransport};

    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime");
    let runtime = Arc::new(TokioRuntime::new(tokio.handle().clone()));
    let (listening, connecting) = (Arc::clone(&runtime), Arc::clone(&runtime));
    Ground {
        runtime,
        listen: Box::new(move |options| {
            TokioTransport::bind(options, Arc::clone(&listening)).expect("a free port")
        }),
        connect: Box::new(move |cluster| {
            TokioConnector::new(cluster, None, TcpLimits::default(), Arc::clone(&connecting))
        }),
        _tokio: Some(tokio),
    }
}

/// Three nodes with their directories.
struct Nodes {
    ground: Ground,
    /// The ground's, for all but its sockets.
    clock: Arc<Ahead>,
    cluster: Cluster,
    dir: TempDir,
    /// How many times each node was replaced by another machine.
    replaced: BTreeMap<NodeId, usize>,
    running: BTreeMap<NodeId, (Raft<Counter>, Arc<Probe>)>,
    change: fn(&mut Options),
}

impl Nodes {
    fn start(ground: Ground, change: fn(&mut Options)) -> Nodes {
        let cluster = free_addresses();
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(Ahead::new(Arc::clone(&ground.runtime)));
        let (running, replaced) = (BTreeMap::new(), BTreeMap::new());
        let mut nodes = Nodes { ground, clock, cluster, dir, replaced, running, change };
        nodes.run_all(Begin::Anew);
        nodes
    }

    fn run_all(&mut self, begin: Begin) {
        for id in 1..=3 {
            self.run(NodeId(id), begin);
        }
        self.leader();
    }

    fn dir(&self, id: NodeId) -> PathBuf {
        let machine = self.replaced.get(&id).copied().unwrap_or_default();
        self.dir.path().join(format!("{id}.{machine}"))
    }

    fn run(&mut self, id: NodeId, begin: Begin) {
        let (peers, members) = (self.cluster.clone(), self.cluster.configuration());
        self.run_as(id, peers, members, begin);
    }

    /// Runs a node with an empty directory that knows of nobody else. Returns it as a member.
    fn run_empty(&mut self, id: NodeId) -> Member {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let alone: Cluster = format!("{id}={address}").parse().expect("a cluster");
        self.run_as(id, alone, Configuration::default(), Begin::Anew);
        let incarnation = self.running[&id].0.status().incarnation;
        Member::of_incarnation(id, incarnation, address)
    }

    /// Runs another machine with an empty directory as a node that goes on running. Returns the old one and, as a
    /// member, the new one.
    fn run_beside(&mut self, id: NodeId) -> (Raft<Counter>, Member) {
        let (old, _) = self.running.remove(&id).expect("it runs");
        *self.replaced.entry(id).or_default() += 1;
        (old, self.run_empty(id))
    }

    fn run_as(&mut self, id: NodeId, peers: Cluster, members: Configuration, begin: Begin) {
        let runtime = Arc::clone(&self.clock) as Arc<dyn Runtime>;
        let options = FileStorageOptions::new(self.dir(id), self.cluster.default_id(), id);
        let fs = Arc::new(StdFileSystem);
        let storage = match begin {
            Begin::Anew => {
                block_on(FileStorage::create(options, members, fs, Arc::clone(&runtime)))
            }
            Begin::Join => {
                let nobody = Configuration::default();
                block_on(FileStorage::create(options, nobody, fs, Arc::clone(&runtime)))
            }
            Begin::Again => block_on(FileStorage::open(options, fs, Arc::clone(&runtime))),
        };
        let storage = storage.expect("a sound directory");
        let listen = TcpOptions::of_cluster(storage.identity(), peers);
        let transport = (self.ground.listen)(listen.expect("a member"));
        let mut options = Options::new(id);
        options.core.election_timeout = ELECTION_TIMEOUT;
        (self.change)(&mut options);
        let probe = Arc::new(Probe::default());
        let machine = Counter::with(Arc::clone(&probe));
        let raft = block_on(Raft::start(options, machine, Arc::new(storage), transport, runtime));
        self.running.insert(id, (raft.expect("it starts"), probe));
    }

    fn stop(&mut self, id: NodeId) {
        let (raft, _) = self.running.remove(&id).expect("it runs");
        block_on(raft.shutdown());
    }

    /// At once, so that their leader soon notices that there is nobody to succeed it.
    fn stop_all(&mut self) {
        let stopped = self.running.values().map(|(raft, _)| raft.shutdown());
        block_on(join_all(stopped));
        self.running.clear();
    }

    fn client(&self) -> Client<Counter> {
        let mut options = ClientOptions::default();
        options.deadline = HANG_GUARD;
        let connector = (self.ground.connect)(self.cluster.clone());
        Client::new(connector, Arc::clone(&self.ground.runtime), options)
    }

    fn eventually(&self, what: &str, done: impl Fn() -> bool) {
        let began = self.ground.runtime.now();
        while !done() {
            let late = self.ground.runtime.now().saturating_sub(began) > HANG_GUARD;
            let nodes: Vec<_> = self.running.values().map(|(raft, _)| raft.status()).collect();
            assert!(!late, "no {what} in time: {nodes:#?}");
            block_on(self.ground.runtime.sleep(Duration::from_millis(5)));
        }
    }

    fn all_show(&self, value: u64) {
        for (_, probe) in self.running.values() {
            self.eventually("the value", || probe.seen.lock().unwrap().value == value);
        }
    }

    fn leader(&self) -> NodeId {
        let leader = || self.running.values().find_map(|(raft, _)| raft.status().leader);
        let runs = |id: NodeId| self.running.contains_key(&id);
        self.eventually("leader", || {
            if self.running.values().all(|(raft, _)| raft.status().role == Role::Follower) {
                // Nothing but time makes one of them campaign.
                self.clock.put_ahead(ELECTION_TIMEOUT / 8);
            }
            leader().is_some_and(runs)
        });
        leader().expect("just seen")
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (raft, _) in self.running.values() {
            block_on(raft.shutdown());
        }
    }
}

/// Addresses that were free a moment ago.
fn free_addresses() -> Cluster {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = [bind(), bind(), bind()];
    let parts: Vec<String> = (1..)
        .zip(&free)
        .map(|(id, free)| format!("{id}={}", free.local_addr().expect("bound")))
        .collect();
    parts.join(",").parse().expect("a cluster")
}

fn commands_survive_the_stop_of_the_leader_and_of_all(ground: Ground) {
    let mut nodes = Nodes::start(ground, |_| ());
    let client = nodes.client();
    for n in 1..=50 {
        assert_eq!(block_on(client.propose(&Command::Inc)), Ok(n));
    }
    let leader = nodes.leader();
    nodes.stop(leader);
    let answered = block_on(client.propose_until_answered(&Command::Inc)).expect("answered");
    assert!((51..=52).contains(&answered.response), "{answered:?}");
    nodes.run(leader, Begin::Again);
    nodes.all_show(answered.response);
    nodes.stop_all();
    nodes.run_all(Begin::Again);
    let value = block_on(client.query(&())).expect("answered");
    assert_eq!(value, answered.response);
    nodes.all_show(value);
}

fn a_node_far_behind_gets_a_snapshot_and_the_log_stays_short(ground: Ground) {
    let mut nodes = Nodes::start(ground, |options| {
        options.snapshot_log_bytes = 100_000;
        options.snapshot_chunk_bytes = 10_000;
        options.core.limits.kept_entries_max = 10;
    });
    let client = nodes.client();
    assert_eq!(block_on(client.propose(&Command::Inc)), Ok(1));
    let leader = nodes.leader();
    let victim = *nodes.running.keys().find(|id| **id != leader).expect("three nodes");
    nodes.stop(victim);
    for n in 0..100_u32 {
        let padding = (0..20_000).map(|i| (i + n).to_le_bytes()[0]).collect();
        block_on(client.propose(&Command::Pad(padding))).expect("applied");
    }
    for (raft, _) in nodes.running.values() {
        nodes.eventually("short log", || raft.status().log_bytes < 800_000);
        assert!(raft.status().snapshot.is_some());
    }
    nodes.run(victim, Begin::Again);
    assert_eq!(block_on(client.propose(&Command::Inc)), Ok(2));
    nodes.all_show(2);
    assert!(nodes.running[&victim].1.seen.lock().unwrap().restores >= 1);
    nodes.stop(victim);
    nodes.run(victim, Begin::Again);
    nodes.all_show(2);
}

/// It is started with an empty directory, and knows of nobody; the leader finds it by the address in the configuration.
fn a_node_joins_and_another_one_leaves(ground: Ground) {
    let mut nodes = Nodes::start(ground, |options| {
        options.snapshot_log_bytes = 20_000;
        options.core.limits.kept_entries_max = 10;
    });
    let client = nodes.client();
    block_on(client.propose(&Command::Pad(vec![7; 50_000]))).expect("applied");
    for n in 1..=20 {
        assert_eq!(block_on(client.propose(&Command::Inc)), Ok(n));
    }
    for (raft, _) in nodes.running.values() {
        block_on(raft.snapshot()).expect("taken");
    }
    let (id, leader) = (NodeId(4), nodes.leader());
    let joins = nodes.run_empty(id);
    let change = MembershipChange::AddVoter(joins);
    let joined = block_on(client.change_membership(&change, HANG_GUARD)).expect("joined");
    assert!(joined.is_voter(id));
    nodes.all_show(20);
    assert!(nodes.running[&id].1.seen.lock().unwrap().restores >= 1);
    // One leaves and another one dies, so the new node is needed.
    let [leaves, dies] =
        [1, 2, 3].map(NodeId).into_iter().filter(|other| *other != leader).collect::<Vec<_>>()[..]
    else {
        panic!("three nodes")
    };
    let change = MembershipChange::Remove(leaves);
    let left = block_on(client.change_membership(&change, HANG_GUARD)).expect("left");
    assert!(!left.contains(leaves));
    nodes.stop(leaves);
    nodes.stop(dies);
    let answered = block_on(client.propose_until_answered(&Command::Inc)).expect("applied");
    nodes.all_show(answered.response);
    // It comes back with what it has, and is no stranger.
    nodes.stop(id);
    let address = joined.member(id).expect("a member").address.clone();
    let alone = format!("{id}={address}").parse().expect("a cluster");
    nodes.run_as(id, alone, Configuration::default(), Begin::Again);
    nodes.all_show(answered.response);
}

/// An operator gave its node to another machine, and it did not end, or comes back.
fn a_machine_that_was_replaced_does_not_shut_out_the_one_in_its_place(ground: Ground) {
    let mut nodes = Nodes::start(ground, |_| ());
    let client = nodes.client();
    assert_eq!(block_on(client.propose(&Command::Inc)), Ok(1));
    nodes.all_show(1);
    let leader = nodes.leader();
    let [replaced, dies] =
        [1, 2, 3].map(NodeId).into_iter().filter(|other| *other != leader).collect::<Vec<_>>()[..]
    else {
        panic!("three nodes")
    };
    let (old, new) = nodes.run_beside(replaced);
    let change = MembershipChange::AddVoter(new.clone());
    let changed = block_on(client.change_membership(&change, HANG_GUARD)).expect("admitted");
    assert_eq!(changed.member(replaced), Some(&new));
    // Without it there is no majority.
    nodes.stop(dies);
    let answered = block_on(client.propose_until_answered(&Command::Inc)).expect("applied");
    nodes.all_show(answered.response);
    assert!(old.status().running);
    block_on(old.shutdown());
}

macro_rules! on_both_grounds {
    ($($name:ident)*) => {
        mod on_threads {
            $(#[test] fn $name() {
                super::$name(super::threads());
            })*
        }
        #[cfg(feature = "tokio")]
        mod on_tokio {
            $(#[test] fn $name() {
                super::$name(super::tokio());
            })*
        }
    };
}

on_both_grounds! {
    commands_survive_the_stop_of_the_leader_and_of_all
    a_node_far_behind_gets_a_snapshot_and_the_log_stays_short
    a_node_joins_and_another_one_leaves
    a_machine_that_was_replaced_does_not_shut_out_the_one_in_its_place
}

#[test]
fn a_replica_is_served_anew_once_and_again_as_often_as_one_likes() {
    let mut cluster: Cluster = {
        let all = free_addresses();
        format!("1={}", all.address(NodeId(1)).expect("a member")).parse().expect("a cluster")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("node");
    let id = NodeId(1);
    let machine = Counter::default;

    let absent = block_on(serve(&cluster, id, &dir, Begin::Again, machine())).unwrap_err();
    assert!(matches!(absent, ServeError::Storage(_)), "{absent}");
    let stranger = block_on(serve(&cluster, NodeId(9), &dir, Begin::Anew, machine())).unwrap_err();
    assert!(matches!(stranger, ServeError::NotAMember { .. }), "{stranger}");

    for (n, begin) in (1..).zip([Begin::Anew, Begin::Again, Begin::Again]) {
        let raft = block_on(serve(&cluster, id, &dir, begin, machine())).expect("served");
        let client = connect::<Counter>(&cluster);
        assert_eq!(block_on(client.propose(&Command::Inc)), Ok(n));
        let twice = block_on(serve(&cluster, id, &dir, Begin::Again, machine())).unwrap_err();
        assert!(matches!(twice, ServeError::Storage(_)), "{twice}");
        block_on(raft.shutdown());
        // Next time it is elsewhere, and the text has others in it.
        cluster = free_addresses();
    }
    let anew = block_on(serve(&cluster, id, &dir, Begin::Anew, machine())).unwrap_err();
    assert!(matches!(anew, ServeError::Storage(_)), "{anew}");
}

#[test]
fn a_replica_that_joins_waits_until_it_is_let_in_and_is_served_again_without_more_ado() {
    let both = free_addresses();
    let [first, second] = [1, 2].map(|id| (NodeId(id), both.address(NodeId(id)).expect("there")));
    let alone: Cluster = format!("1={}", first.1).parse().expect("a cluster");
    let dir = tempfile::tempdir().expect("a directory");
    let dirs = [1, 2].map(|id: u64| dir.path().join(id.to_string()));
    let run = |cluster: &Cluster, id: u64, begin| {
        let dir = &dirs[usize::try_from(id).expect("small") - 1];
        block_on(serve(cluster, NodeId(id), dir, begin, Counter::default()))
    };
    let lonely = run(&both, 2, Begin::Join).unwrap_err();
    assert!(matches!(lonely, ServeError::Join(JoinError::NoAnswer { .. })), "{lonely}");
    assert!(!dirs[1].exists());

    let leader = run(&alone, 1, Begin::Anew).expect("served");
    let client = connect::<Counter>(&alone);
    assert_eq!(block_on(client.propose(&Command::Inc)), Ok(1));
    let joins = run(&both, 2, Begin::Join).expect("served");
    assert_eq!(joins.status().configuration, Configuration::default());
    let member = Member::of_incarnation(second.0, joins.status().incarnation, second.1);
    let change = MembershipChange::AddVoter(member);
    let members = block_on(leader.change_membership(change)).expect("it is let in");
    assert_eq!(members.voters().len(), 2);
    block_on(joins.shutdown());
    // Without it there is no majority.
    let joined = run(&both, 2, Begin::Again).expect("served again");
    assert_eq!(block_on(client.propose(&Command::Inc)), Ok(2));
    assert_eq!(joined.status().configuration.voters().len(), 2);
    block_on(joined.shutdown());
    block_on(leader.shutdown());
}
