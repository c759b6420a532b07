//! Three nodes in one process, each on a tokio runtime of its own: a node is killed by taking the ground from
//! under it, as a power cut would. What it has not made durable is lost.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raft_rsm::raft_core::{LogIndex, NodeId, Role};
use raft_rsm::{Admission, Begin, Cluster, Context, Raft, SnapshotView, StateMachine, Status};

use crate::connect::free_ports;
use crate::failure::Failure;
use crate::node;
use crate::store::{Answer, Command, Query, Response, Store};

const NODES: u64 = 3;

/// Ports that were free a moment ago may be taken: then other ones are tried, so often.
const STARTS_MAX: usize = 5;

/// How often a condition is looked at that nobody announces.
const POLL: Duration = Duration::from_millis(5);

/// The nodes that run, and all that is needed to start one again.
pub(super) struct DemoCluster {
    disks: PathBuf,
    cluster: Cluster,
    nodes: BTreeMap<NodeId, DemoNode>,
}

struct DemoNode {
    raft: Raft<Observed>,
    store: Arc<Mutex<Store>>,
    /// What the node stands on: it ends when this is dropped.
    _ground: Ground,
}

/// A tokio runtime that ends, when it is dropped, without waiting for anything.
struct Ground(Option<tokio::runtime::Runtime>);

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl DemoCluster {
    /// Starts nodes with disks below `disks`.
    pub(super) async fn start(disks: &Path) -> Result<DemoCluster, Failure> {
        let mut starts = 0;
        loop {
            starts += 1;
            // Each try has disks of its own: what a failed one leaves belongs to other addresses.
            let disks = if starts == 1 { disks.to_owned() } else { disks.join(starts.to_string()) };
            match DemoCluster::start_on(&disks, free_ports(NODES)?).await {
                Err(failure) if starts == STARTS_MAX => return Err(failure),
                Err(_) => {}
                Ok(cluster) => return Ok(cluster),
            }
        }
    }

    async fn start_on(disks: &Path, cluster: Cluster) -> Result<DemoCluster, Failure> {
        let disks = disks.to_owned();
        let mut demo = DemoCluster { disks, cluster, nodes: BTreeMap::new() };
        let ids: Vec<NodeId> = demo.cluster.addresses().map(|(id, _)| id).collect();
        for id in ids {
            demo.start_node(id, true).await?;
        }
        Ok(demo)
    }

    async fn start_node(&mut self, id: NodeId, init: bool) -> Result<(), Failure> {
        let data = self.disks.join(format!("node{id}"));
        let mut options = node::Options::new(id, self.cluster.clone(), data);
        options.begin = if init { Begin::Anew } else { Begin::Again };
        let store = Arc::new(Mutex::new(Store::default()));
        let machine = Observed { store: Arc::clone(&store) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("node{id}"))
            .enable_all()
            .build()
            .map_err(|error| Failure::environment(format!("cannot start threads: {error}")))?;
        let starting = runtime.spawn(async move { node::start(&options, machine).await });
        let ground = Ground(Some(runtime));
        let raft = starting.await.map_err(Failure::environment)??;
        self.nodes.insert(id, DemoNode { raft, store, _ground: ground });
        Ok(())
    }

    /// The members, and where they listen.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Who leads, among the nodes that run.
    pub(super) async fn leader(&self, patience: Duration) -> Result<NodeId, Failure> {
        let leader = || {
            let leaders = self.statuses().filter(|status| status.role == Role::Leader);
            leaders.max_by_key(|status| status.term).map(|status| status.id)
        };
        until(patience, "no node leads", leader).await
    }

    /// Takes a node down, with nothing said to anybody and nothing written any more.
    pub(super) fn kill(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    /// Starts a node again from its disk.
    pub(super) async fn restart(&mut self, id: NodeId, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            // A write that was under way when it was killed may still hold the disk.
            match self.start_node(id, false).await {
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => tokio::time::sleep(POLL).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Waits until all nodes have applied everything that is committed. Returns how many entries that is.
    pub(super) async fn catch_up(&self, patience: Duration) -> Result<LogIndex, Failure> {
        let target = self.statuses().map(|status| status.commit).max().unwrap_or(LogIndex::ZERO);
        let caught_up = || self.statuses().all(|status| status.applied >= target).then_some(target);
        until(patience, "a node does not catch up", caught_up).await
    }

    /// Each node's own state.
    pub(super) fn stores(&self) -> impl Iterator<Item = (NodeId, Store)> {
        self.nodes.iter().map(|(id, node)| (*id, lock(&node.store).clone()))
    }

    /// Stops all nodes in good order.
    pub(super) async fn shutdown(mut self) {
        for node in self.nodes.values() {
            node.raft.shutdown().await;
        }
        self.nodes.clear();
    }

    fn statuses(&self) -> impl Iterator<Item = Status> {
        self.nodes.values().map(|node| node.raft.status())
    }
}

/// Looks again and again until `condition` holds.
async fn until<T>(
    patience: Duration,
    problem: &str,
    condition: impl Fn() -> Option<T>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            let patience = patience.as_secs();
            return Err(Failure::environment(format!("{problem} within {patience} s")));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // The store is a value that is replaced whole: a panic elsewhere leaves none half-way.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store that can be looked at from outside while it is replicated.
struct Observed {
    store: Arc<Mutex<Store>>,
}

impl StateMachine for Observed {
    type Command = Command;
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, context: &Context, command: Command) -> Response {
        lock(&self.store).apply(context, command)
    }

    fn advance(&mut self, context: &Context) {
        lock(&self.store).advance(context);
    }

    fn due(&self) -> Option<Duration> {
        lock(&self.store).due()
    }

    fn is_ready(&self, query: &Query, since: LogIndex) -> bool {
        lock(&self.store).is_ready(query, since)
    }

    fn admission(&self) -> Admission<Command> {
        lock(&self.store).admission()
    }

    fn query(&self, query: Query) -> Answer {
        lock(&self.store).query(query)
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        lock(&self.store).snapshot()
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        lock(&self.store).restore(image)
    }
}
