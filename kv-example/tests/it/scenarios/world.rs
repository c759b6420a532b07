//! What all scenarios have in common: a cluster, its clients, and what they saw.

use std::convert::Infallible;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use kv_example::clerk::{Clerk, DeleteError, PutError};
use kv_example::store::{Store, Version, Versioned};
use kv_example::swarm::{Model, Outcome, read, written};
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Client, ClientOptions};
use raft_sim::checkers::linearizability::check;
use raft_sim::event::{Digest, Site};
use raft_sim::executor::WORLD;
use raft_sim::history::{History, OperationId};
use raft_sim::model::register::{Reply, Request};
use raft_sim::{Cluster, NodeSetup, Random, Report, Simulation};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// After so long, there is a new leader.
pub(super) const ELECTION_TIMEOUT: Duration = SECOND;

/// The threshold of all scenarios with snapshots, in bytes of log.
pub(super) const THRESHOLD: u64 = 1000;

/// The log of no node may be longer, where there is a threshold.
pub(super) const LOG_BYTES_MAX: u64 = 8 * THRESHOLD;

/// How often logs are looked at.
const LOOK_EACH: Duration = MS;

/// Each scenario is run with all of them, unless it says so.
const SEEDS: Range<u64> = 0..3;

/// After so long, a client takes its request or the answer for lost: more than a put takes where all is well, and little
/// enough to get on.
const CALL_TIMEOUT: Duration = MS.saturating_mul(200);

type Seen = History<Request<String, Digest>, Reply<Digest>>;

/// A cluster, and what its clients saw. Clones are the same one.
#[derive(Clone)]
pub(super) struct World {
    pub(super) cluster: Cluster<Store>,
    /// Chance of the scenario's own.
    pub(super) random: Random,
    seen: Arc<Mutex<Seen>>,
}

/// Plays a scenario with several seeds. Returns how each run went, for a look at whether it was what it should be.
pub(super) fn play<F: Future<Output = ()> + Send + 'static>(
    servers: usize,
    threshold: Option<u64>,
    scenario: impl Fn(World) -> F,
) -> Vec<Report> {
    play_seeds(SEEDS, servers, threshold, scenario)
}

pub(super) fn play_seeds<F: Future<Output = ()> + Send + 'static>(
    seeds: Range<u64>,
    servers: usize,
    threshold: Option<u64>,
    scenario: impl Fn(World) -> F,
) -> Vec<Report> {
    seeds
        .map(|seed| play_seed(seed, servers, |setup| compact(setup, threshold), &scenario))
        .collect()
}

pub(super) fn play_seed<F: Future<Output = ()> + Send + 'static>(
    seed: u64,
    servers: usize,
    set_up: impl Fn(&mut NodeSetup),
    scenario: impl FnOnce(World) -> F,
) -> Report {
    // Seen where the test fails.
    println!("seed {seed}");
    let seen = Arc::new(Mutex::new(History::new()));
    let world = Arc::clone(&seen);
    let report = Simulation::new(seed)
        .nodes(servers)
        .machine(Store::default)
        .scenario(set_up, |cluster| {
            scenario(World { cluster, random: Random::new(seed).fork("scenario"), seen: world })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let verdict = check(&Model::new(), &seen.lock().unwrap());
    assert!(verdict.is_linearizable(), "{verdict}");
    report
}

/// A snapshot each time that the log has grown by `threshold`.
pub(super) fn compact(setup: &mut NodeSetup, threshold: Option<u64>) {
    if let Some(threshold) = threshold {
        setup.options.snapshot_log_bytes = threshold;
        // What stays in the log behind a snapshot counts as well.
        setup.options.core.limits.kept_bytes_max = usize::try_from(threshold).unwrap();
    }
}

impl World {
    /// A client that knows all nodes and never gives up.
    pub(super) fn client(&self, number: u64) -> TestClient {
        self.client_with(number, Clerk::new)
    }

    /// The same, in a session of its own.
    pub(super) fn client_in_session(&self, number: u64) -> TestClient {
        self.client_with(number, Clerk::in_session)
    }

    fn client_with(&self, number: u64, clerk: fn(Client<Store>) -> Clerk) -> TestClient {
        let mut options = ClientOptions::default();
        options.deadline = 3600 * SECOND;
        options.call_timeout = CALL_TIMEOUT;
        let clerk = clerk(self.cluster.client(number, options));
        TestClient { number, clerk, world: self.clone() }
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.cluster.sleep(duration).await;
    }

    /// Waits for a leader.
    pub(super) async fn leader(&self) -> NodeId {
        loop {
            if let Some(leader) = self.cluster.leader() {
                return leader;
            }
            self.sleep(10 * MS).await;
        }
    }

    /// Starts a task of its own, so that the seed decides when it goes on.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            let _ = sender.send(task.await);
        };
        self.cluster.executor().spawn(WORLD, "client", task.boxed());
        receiver
    }

    /// Cuts the nodes in `left` off from the others. All clients reach all nodes.
    pub(super) fn split(&self, left: &[NodeId]) {
        let (left, right): (Vec<NodeId>, Vec<NodeId>) =
            self.cluster.ids().into_iter().partition(|id| left.contains(id));
        self.cluster.network().heal();
        self.cluster.network().separate(&sites(&left), &sites(&right));
    }

    /// Panics once the log of a node that runs is longer than the bound.
    pub(super) async fn watch_logs(&self) -> Infallible {
        loop {
            for id in self.cluster.running() {
                let bytes = self.cluster.status(id).map_or(0, |status| status.log_bytes);
                assert!(bytes <= LOG_BYTES_MAX, "the log of node {id} has {bytes} bytes");
            }
            self.sleep(LOOK_EACH).await;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

pub(super) fn sites(nodes: &[NodeId]) -> Vec<Site> {
    nodes.iter().copied().map(Site::Node).collect()
}

/// Does `work` while something else goes on that has no end.
pub(super) async fn during<T>(
    meanwhile: impl Future<Output = Infallible>,
    work: impl Future<Output = T>,
) -> T {
    match select(pin!(work), pin!(meanwhile)).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => match never {},
    }
}

/// A clerk that takes down what it asks for, and what it is told.
pub(super) struct TestClient {
    number: u64,
    clerk: Clerk,
    pub(super) world: World,
}

/// What came of a put.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Done(Version),
    Maybe,
    /// The key has this version.
    Version(Version),
    NoKey,
}

impl TestClient {
    /// The value of a key, with its version.
    pub(super) async fn get(&self, key: &str) -> Option<Versioned> {
        let id = self.begin(Request::Get { key: key.to_owned() });
        let found = self.clerk.get(key).await.expect("it never gives up");
        self.end(id, read(Ok(found.clone())));
        found
    }

    pub(super) async fn put(&self, key: &str, value: impl Into<Bytes>, version: Version) -> Put {
        let value = value.into();
        let Version(number) = version;
        let digest = Digest::of(&value);
        let id = self.begin(Request::Put { key: key.to_owned(), value: digest, version: number });
        let put = self.clerk.put(key, value, version).await;
        let (came_of_it, outcome) = match put {
            Ok(version) => (Put::Done(version), written(Ok(version))),
            Err(PutError::Client(error)) => panic!("client {} gives up: {error}", self.number),
            Err(error) => (Put::of(&error), written(Err(error))),
        };
        self.end(id, outcome);
        came_of_it
    }

    /// Deletes a key at this version; whether it was done. Only for clients in a session: they know.
    pub(super) async fn delete(&self, key: &str, version: Version) -> bool {
        let Version(number) = version;
        let id = self.begin(Request::Delete { key: key.to_owned(), version: Some(number) });
        let (is_done, reply) = match self.clerk.delete(key, Some(version)).await {
            Ok(Version(version)) => (true, Reply::Deleted { version }),
            Err(DeleteError::VersionMismatch { current: Version(current) }) => {
                (false, Reply::VersionMismatch { current })
            }
            Err(DeleteError::NoKey) => (false, Reply::NoKey),
            Err(other @ (DeleteError::Maybe | DeleteError::Client(_) | _)) => {
                panic!("client {} does not know: {other}", self.number)
            }
        };
        self.end(id, Outcome::Answered(reply));
        is_done
    }

    /// Puts at the version that it believes in, then gets, until the put is done or may be. Returns the version that it
    /// got last, and whether the put is known to be done.
    pub(super) async fn put_until_written(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        believed: Version,
    ) -> (Version, bool) {
        let value = value.into();
        let mut version = believed;
        loop {
            let put = self.put(key, value.clone(), version).await;
            let found = self.get(key).await;
            let now = found.as_ref().map_or(Version::ABSENT, |versioned| versioned.version);
            match put {
                Put::Done(_) => return (now, true),
                Put::Maybe => return (now, false),
                Put::Version(_) | Put::NoKey => version = now,
            }
        }
    }

    /// Puts at the version that it believes in until the value is known to have been there.
    pub(super) async fn put_at_least_once(&self, key: &str, value: &str, believed: Version) {
        let mut version = believed;
        loop {
            if let Put::Done(_) = self.put(key, value.to_owned(), version).await {
                return;
            }
            let found = self.get(key).await;
            if found.as_ref().is_some_and(|found| found.value == value.as_bytes()) {
                return;
            }
            version = found.map_or(Version::ABSENT, |found| found.version);
        }
    }

    /// Checks that a key has this value; returns its version.
    pub(super) async fn expect(&self, key: &str, value: &str) -> Version {
        let Versioned { version, value: found, .. } =
            self.get(key).await.unwrap_or_else(|| panic!("there is no key {key}"));
        assert_eq!(found, value.as_bytes(), "the value of {key}");
        version
    }

    fn begin(&self, request: Request<String, Digest>) -> OperationId {
        self.world.seen().begin(self.number, request, self.world.cluster.now())
    }

    fn end(&self, id: OperationId, outcome: Outcome) {
        self.world.seen().end(id, outcome, self.world.cluster.now());
    }
}

impl Put {
    fn of(error: &PutError) -> Put {
        match error {
            PutError::VersionMismatch { current } => Put::Version(*current),
            PutError::NoKey => Put::NoKey,
            PutError::Maybe => Put::Maybe,
            other @ (PutError::Client(_) | _) => panic!("{other}"),
        }
    }
}
