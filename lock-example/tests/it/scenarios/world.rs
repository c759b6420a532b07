//! What all scenarios have in common: a cluster, and clients that lose what they are told to lose.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use kv_example::clerk::{Clerk, PutError};
use kv_example::store::{Store, Version};
use lock_example::fenced::FencedLock;
use lock_example::versioned::Lock;
use raft_rsm::raft_core::NodeId;
use raft_rsm::transport::{CallError, Connector};
use raft_rsm::wire::{Outcome, Request, read_answer, read_request};
use raft_rsm::{Client, ClientOptions, Runtime};
use raft_sim::executor::{ProcessId, WORLD};
use raft_sim::runtime::{Clock, ProcessRuntime};
use raft_sim::{Cluster, Random, Simulation};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes, ten clients one after the other on a network that loses what wakes them included: a watch
/// whose answer is lost is asked for again after five seconds.
pub(super) const PATIENCE: Duration = SECOND.saturating_mul(120);

/// Each scenario is run with all of them.
const SEEDS: Range<u64> = 0..3;

/// After so long, a client takes its request or the answer for lost.
const CALL_TIMEOUT: Duration = MS.saturating_mul(200);

/// A cluster of the store. Clones are the same one.
#[derive(Clone)]
pub(super) struct World {
    pub(super) cluster: Cluster<Store>,
    random: Random,
}

/// Plays a scenario with several seeds.
pub(super) fn play<F: Future<Output = ()> + Send + 'static>(
    servers: usize,
    scenario: impl Fn(World) -> F,
) {
    for seed in SEEDS {
        // Seen where the test fails.
        println!("seed {seed}");
        Simulation::new(seed)
            .nodes(servers)
            .machine(Store::default)
            .scenario(
                |_| (),
                |cluster| scenario(World { cluster, random: Random::new(seed).fork("scenario") }),
            )
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}

impl World {
    /// A client in a process of its own, which never gives up.
    pub(super) fn client(&self, number: u64) -> TestClient {
        self.client_within(number, 3600 * SECOND)
    }

    /// A client in a process of its own, each request of which ends after `deadline`.
    pub(super) fn client_within(&self, number: u64, deadline: Duration) -> TestClient {
        let executor = self.cluster.executor().clone();
        let process = executor.process();
        let random = self.random.fork(&format!("client {number}"));
        let clock = Clock { origin: Duration::ZERO, drift_ppm: 0 };
        let work_time = Arc::new(|_: &str| Duration::ZERO);
        let runtime: Arc<dyn Runtime> =
            Arc::new(ProcessRuntime::new(executor, process, clock, random, work_time));
        let lossy = Arc::new(Lossy {
            inner: self.cluster.network().connector_to(number, &self.cluster.ids()),
            answers_to_lose: AtomicUsize::new(0),
            gate: futures::lock::Mutex::new(()),
        });
        let mut options = ClientOptions::default();
        options.deadline = deadline;
        options.call_timeout = CALL_TIMEOUT;
        let client = Client::new(Arc::clone(&lossy) as _, Arc::clone(&runtime), options);
        let (clerk, world) = (Clerk::new(client), self.clone());
        TestClient { number, process, clerk, runtime, lossy, world }
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.cluster.sleep(duration).await;
    }

    /// Starts a task of its own, so that the seed decides when it goes on.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        self.spawn_in(WORLD, task)
    }

    fn spawn_in<T: Send + 'static>(
        &self,
        process: ProcessId,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            let _ = sender.send(task.await);
        };
        self.cluster.executor().spawn(process, "client", task.boxed());
        receiver
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
}

/// A client, its side of the locks, and its luck.
pub(super) struct TestClient {
    pub(super) number: u64,
    process: ProcessId,
    pub(super) clerk: Clerk,
    runtime: Arc<dyn Runtime>,
    pub(super) lossy: Arc<Lossy>,
    pub(super) world: World,
}

impl TestClient {
    pub(super) fn versioned(&self) -> Lock {
        Lock::new(self.clerk.clone(), Arc::clone(&self.runtime), "l")
    }

    pub(super) fn fenced(&self) -> FencedLock {
        FencedLock::new(self.clerk.clone(), Arc::clone(&self.runtime))
    }

    /// Runs a task in its process.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        self.world.spawn_in(self.process, task)
    }

    /// `kill -9`.
    pub(super) fn kill(&self) {
        self.world.cluster.executor().kill(self.process);
    }

    pub(super) fn pause(&self) {
        self.world.cluster.executor().pause(self.process);
    }

    pub(super) fn resume(&self) {
        self.world.cluster.executor().resume(self.process);
    }

    /// Under the lock: "l0" must be empty; it is ours for 10 ms; then it is empty again.
    pub(super) async fn use_alone(&self) {
        self.write("l0", "", format!("client {}", self.number)).await;
        self.world.sleep(10 * MS).await;
        self.write("l0", &format!("client {}", self.number), String::new()).await;
    }

    /// Replaces a value that nobody else may change meanwhile.
    async fn write(&self, key: &str, expected: &str, value: String) {
        let found = self.clerk.get(key).await.expect("it never gives up");
        let (version, before) = match found {
            Some(found) => (found.version, found.value),
            None => (Version::ABSENT, Bytes::new()),
        };
        assert_eq!(before, expected, "client {} is not alone", self.number);
        match self.clerk.put(key, value.clone().into(), version).await {
            Ok(_) => {}
            Err(PutError::Maybe) => {
                let found = self.clerk.get(key).await.expect("it never gives up");
                let found = found.expect("it was written").value;
                assert_eq!(found, value, "client {} is not alone", self.number);
            }
            Err(error) => panic!("client {} is not alone: {error}", self.number),
        }
    }
}

/// Loses the answers to the next commands, which have been carried out; the client notices it when the gate is open.
pub(super) struct Lossy {
    inner: Arc<dyn Connector>,
    pub(super) answers_to_lose: AtomicUsize,
    pub(super) gate: futures::lock::Mutex<()>,
}

#[async_trait]
impl Connector for Lossy {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let is_command = matches!(read_request(&request), Some(Request::Propose(_)));
        let answer = self.inner.call(to, request, deadline).await?;
        // One that was refused is not what is meant.
        let is_done = matches!(read_answer(&answer), Some(Outcome::Answered(_)));
        let less = |left: usize| left.checked_sub(1);
        let lost = is_command
            && is_done
            && self.answers_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        if lost {
            drop(self.gate.lock().await);
            return Err(CallError::MaybeSent { to, reason: "it was lost".to_owned() });
        }
        Ok(answer)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.inner.nodes()
    }
}

/// All are different, and each is greater than the one before.
pub(super) fn assert_growing<T: Ord + Copy>(tokens: &[T]) {
    assert!(tokens.is_sorted(), "they do not grow");
    assert_eq!(
        tokens.iter().copied().collect::<BTreeSet<_>>().len(),
        tokens.len(),
        "one comes twice"
    );
}
