//! Mechanisms that cost other consensus libraries their safety, their liveness or their users' trust, where it takes
//! more than the core to show them. Each test names where it happened; `docs/traps.md` lists them all.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use raft_rsm::raft_core::{Configuration, NodeId};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::storage::{MemoryStorage, Storage};
use raft_rsm::testing::storage::StorageUnderTest;
use raft_rsm::transport::Transport;
use raft_rsm::transport::memory::{MemoryNetwork, MemoryOptions};
use raft_rsm::{Client, ClientOptions, Options, QueryError, Raft, Runtime};

use crate::cluster::{Cluster, Command, Counter, on_both_runtimes};
use crate::storage_disk::TestDisk;
use crate::storage_stand::{create, open, options};

on_both_runtimes! {
    queries_are_answered_when_their_leader_loses_the_lead_and_when_it_stops
    whoever_asks_for_a_snapshot_while_one_is_built_gets_the_next_one
    what_the_log_grows_by_while_a_snapshot_is_built_is_compacted_without_further_commands
}

type On = Arc<dyn Runtime>;

/// raft-rs #167 and #332: reads that are dropped in silence.
fn queries_are_answered_when_their_leader_loses_the_lead_and_when_it_stops(runtime: On) {
    for stops in [false, true] {
        let cluster = Cluster::new(3, Arc::clone(&runtime));
        let old = cluster.leader();
        cluster.network.isolate(old);
        let mut queries = join_all((0..20).map(|_| cluster.raft(old).query(())));
        assert!((&mut queries).now_or_never().is_none(), "they wait");
        if stops {
            cluster.as_time_flies(cluster.raft(old).shutdown());
        } else {
            cluster.leader_of(&cluster.others(old));
            cluster.network.heal();
        }
        for answer in cluster.block_on(queries) {
            let error = answer.expect_err("it does not lead any more");
            let expected = matches!(
                (stops, &error),
                (true, QueryError::Stopped)
                    | (_, QueryError::Superseded | QueryError::NotLeader { .. })
            );
            assert!(expected, "{error}");
        }
    }
}

/// A runtime that does not begin to write snapshots before it is told.
struct Held {
    inner: On,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    opened: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        drop(self.opened.wait_while(state, |state| !state.open).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.opened.notify_all();
    }

    fn arrived(&self) -> usize {
        self.state.lock().unwrap().arrived
    }
}

impl Runtime for Held {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(name, task);
    }

    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        if name != "snapshot" {
            return self.inner.spawn_blocking(name, work);
        }
        let gate = Arc::clone(&self.gate);
        let work = move || {
            gate.pass();
            work();
        };
        self.inner.spawn_blocking(name, Box::new(work));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }
}

/// A cluster of one whose snapshots wait for the gate.
fn held(runtime: On, change: fn(&mut Options)) -> (Cluster, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let held = Held { inner: runtime, gate: Arc::clone(&gate) };
    (Cluster::with(1, Arc::new(held), change), gate)
}

/// openraft #1829: a trigger that is lost while a snapshot is being built; openraft #1761: whoever waits for one waits for
/// ever.
fn whoever_asks_for_a_snapshot_while_one_is_built_gets_the_next_one(runtime: On) {
    let (cluster, gate) = held(runtime, |_| ());
    let leader = cluster.leader();
    let mut asked = Vec::new();
    for n in 1..=3 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
        let applied = cluster.status(leader).last.index;
        let mut taken = Box::pin(cluster.raft(leader).snapshot());
        assert!((&mut taken).now_or_never().is_none(), "it waits");
        asked.push((applied, taken));
        cluster.eventually("the first snapshot", || gate.arrived() == 1);
    }
    gate.open();
    for (applied, taken) in asked {
        let taken = cluster.block_on(taken).expect("taken");
        assert!(taken.index >= applied, "it lacks what was applied before");
    }
    assert_eq!(gate.arrived(), 2, "the second and the third share one");
}

/// openraft #1829: the same with the trigger that is the size of the log.
fn what_the_log_grows_by_while_a_snapshot_is_built_is_compacted_without_further_commands(
    runtime: On,
) {
    let (cluster, gate) = held(runtime, |options| {
        options.snapshot_log_bytes = 1000;
        options.core.limits.kept_entries_max = 0;
    });
    let leader = cluster.leader();
    for n in 1..=200 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
    }
    assert_eq!(gate.arrived(), 1, "one at a time");
    assert!(cluster.status(leader).log_bytes > 5000);
    gate.open();
    cluster.eventually("short log", || cluster.status(leader).log_bytes <= 1000);
}

/// A storage whose disk says that it has synced, and has not.
struct Unsynced(TestDisk);

impl StorageUnderTest for Unsynced {
    fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
        let storage = create(&self.0, &options(), configuration).unwrap();
        self.0.forget_syncs();
        Arc::new(storage)
    }

    fn crash(&mut self) -> Arc<dyn Storage> {
        self.0.crash();
        Arc::new(open(&self.0, &options()).unwrap())
    }
}

/// openraft #418, robustmq PR 2039: that the user's store must sync was left to the documentation.
#[test]
fn the_suite_for_storages_finds_one_that_does_not_sync() {
    let finds = |check: fn(&mut dyn StorageUnderTest)| {
        let unsynced = || check(&mut Unsynced(TestDisk::new(3)));
        std::panic::catch_unwind(unsynced).is_err()
    };
    assert!(finds(raft_rsm::testing::storage::what_was_written_is_there_after_a_crash));
    assert!(finds(raft_rsm::testing::storage::a_finished_snapshot_is_there_after_a_crash));
}

/// openraft #1494 and #858: type parameters everywhere, so that each change of a trait is one of every signature. Here a
/// service names its own machine, and whatever lies below is chosen where it starts.
#[test]
fn a_service_names_one_type_and_it_is_its_own() {
    struct Service {
        raft: Raft<Counter>,
        _client: Client<Counter>,
    }
    let ids = [1, 2].map(NodeId);
    let disk = TestDisk::new(1);
    let storages: [Arc<dyn Storage>; 2] = [
        Arc::new(MemoryStorage::new(Configuration::new([ids[0]], []))),
        Arc::new(create(&disk, &options(), Configuration::new([ids[1]], []).unnamed()).unwrap()),
    ];
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let network = MemoryNetwork::new(Arc::clone(&runtime), MemoryOptions::default());
    let mut services = Vec::new();
    for (id, storage) in ids.into_iter().zip(storages) {
        let transport: Arc<dyn Transport> = network.transport(id);
        let (machine, runtime) = (Counter::default(), Arc::clone(&runtime));
        let client =
            Client::new(network.connector(), Arc::clone(&runtime), ClientOptions::default());
        let raft = Raft::start(Options::new(id), machine, storage, transport, runtime);
        let raft = futures::executor::block_on(raft).expect("it starts");
        services.push(Service { raft, _client: client });
    }
    for service in services {
        futures::executor::block_on(service.raft.shutdown());
    }
}
