//! Clusters of real replicas in this process, for the tests of driver and client.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, join_all, select};
use raft_rsm::raft_core::{
    Configuration, Entry, Incarnation, LogIndex, NodeId, Restored, Role, SnapshotMeta, Write,
};
use raft_rsm::storage::{MemoryStorage, SnapshotReader, SnapshotWriter, StorageError};
use raft_rsm::transport::memory::{Faults, MemoryNetwork, MemoryOptions};
use raft_rsm::{
    Client, ClientOptions, Context, Options, Raft, Runtime, SnapshotView, StateMachine, Status,
    Storage,
};
use serde::{Deserialize, Serialize};

use crate::runtime_ahead::Ahead;

/// Nothing here depends on this time: it ends a test that would hang.
const HANG_GUARD: Duration = Duration::from_secs(10);

/// What a wait lasts before it looks again.
const STEP: Duration = Duration::from_millis(2);

/// Where a test asks for nothing else.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);

/// Makes two tests of each function: one a runtime.
macro_rules! on_both_runtimes {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod on_threads {
            $(#[test] $(#[$attribute])* fn $name() {
                super::$name(std::sync::Arc::new(raft_rsm::runtime::ThreadRuntime::new()));
            })*
        }
        #[cfg(feature = "tokio")]
        mod on_tokio {
            $(#[test] $(#[$attribute])* fn $name() {
                let tokio = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .expect("a tokio runtime");
                let handle = tokio.handle().clone();
                super::$name(std::sync::Arc::new(raft_rsm::runtime::TokioRuntime::new(handle)));
                tokio.shutdown_background();
            })*
        }
    };
}
pub(crate) use on_both_runtimes;

/// A counter, with padding to make a log grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    value: u64,
    padding: Vec<u8>,
    probe: Arc<Probe>,
}

impl Counter {
    pub(crate) fn with(probe: Arc<Probe>) -> Counter {
        Counter { probe, ..Counter::default() }
    }
}

/// What a test sees of a machine, and does to it.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) seen: Mutex<Seen>,
    gate: (Mutex<Held>, Condvar),
    /// Makes the machine answer otherwise than it should, without a change to its state.
    pub(crate) lies: AtomicBool,
}

/// What the machine holds back.
#[derive(Debug, Default)]
struct Held {
    commands: bool,
    queries: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) value: u64,
    pub(crate) decs: u64,
    pub(crate) restores: u64,
    pub(crate) contexts: Vec<(LogIndex, Duration)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Inc,
    Dec,
    /// Replaces the padding, which is a part of the state.
    Pad(Vec<u8>),
    /// Panics in the machine.
    Panic,
    /// Cannot be read once it is serialized: postcard has no place for a field that is left out.
    Unreadable {
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<u8>,
    },
}

impl Probe {
    /// Holds every command back until [`Probe::release`].
    pub(crate) fn hold(&self) {
        self.gate.0.lock().unwrap().commands = true;
    }

    /// Holds every query back until [`Probe::release`].
    pub(crate) fn hold_queries(&self) {
        self.gate.0.lock().unwrap().queries = true;
    }

    pub(crate) fn release(&self) {
        *self.gate.0.lock().unwrap() = Held::default();
        self.gate.1.notify_all();
    }

    fn pass(&self, is_held: impl Fn(&Held) -> bool) {
        let held = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(held, |held| is_held(held)).unwrap());
    }
}

impl StateMachine for Counter {
    type Command = Command;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, context: &Context, command: Command) -> u64 {
        self.probe.pass(|held| held.commands);
        let mut seen = self.probe.seen.lock().unwrap();
        seen.contexts.push((context.index, context.time));
        match command {
            Command::Inc => self.value += 1,
            Command::Dec => {
                seen.decs += 1;
                self.value -= 1;
            }
            Command::Pad(padding) => self.padding = padding,
            Command::Unreadable { .. } => panic!("it cannot be read"),
            Command::Panic => {
                drop(seen);
                panic!("the machine was told to");
            }
        }
        seen.value = self.value;
        self.value + u64::from(self.probe.lies.load(Ordering::SeqCst))
    }

    fn query(&self, (): ()) -> u64 {
        self.probe.pass(|held| held.queries);
        self.value
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(Image(self.value, self.padding.clone()))
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        image.read_exact(&mut value)?;
        self.value = u64::from_le_bytes(value);
        self.padding.clear();
        image.read_to_end(&mut self.padding)?;
        let mut seen = self.probe.seen.lock().unwrap();
        seen.value = self.value;
        seen.restores += 1;
        Ok(())
    }
}

struct Image(u64, Vec<u8>);

impl SnapshotView for Image {
    fn write_to(&self, image: &mut dyn io::Write) -> io::Result<()> {
        image.write_all(&self.0.to_le_bytes())?;
        image.write_all(&self.1)
    }
}

/// Storage whose writes fail when they are told to, or hang, and whose log is empty to those who read it, or hangs, when
/// that is told.
pub(crate) struct Flaky {
    inner: MemoryStorage,
    pub(crate) fails: AtomicBool,
    pub(crate) forgets: AtomicBool,
    pub(crate) writes: Hang,
    pub(crate) reads: Hang,
}

/// Lets through, or holds back for as long as it is told.
#[derive(Default)]
pub(crate) struct Hang(Mutex<HangState>);

#[derive(Default)]
struct HangState {
    holds: bool,
    waiting: Vec<Waker>,
}

impl Hang {
    pub(crate) fn hold(&self) {
        self.0.lock().unwrap().holds = true;
    }

    pub(crate) fn release(&self) {
        let waiting = {
            let mut state = self.0.lock().unwrap();
            state.holds = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().waiting.len()
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if !state.holds {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

#[async_trait]
impl Storage for Flaky {
    async fn load(&self) -> Result<Restored, StorageError> {
        self.inner.load().await
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        self.writes.pass().await;
        if self.fails.load(Ordering::SeqCst) {
            return Err(StorageError::Io {
                action: "sync",
                path: "wal/7".into(),
                source: io::Error::other("the disk is gone"),
            });
        }
        self.inner.write(write).await
    }

    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        self.reads.pass().await;
        if self.forgets.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.inner.read(first, last, bytes_max).await
    }

    fn log_bytes(&self) -> u64 {
        self.inner.log_bytes()
    }

    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        self.inner.create_snapshot(meta)
    }

    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        self.inner.open_snapshot()
    }
}

/// One replica, running or crashed.
pub(crate) struct Replica {
    pub(crate) raft: Raft<Counter>,
    pub(crate) storage: Arc<Flaky>,
    pub(crate) probe: Arc<Probe>,
}

impl Replica {
    /// Lets go on what was held back.
    fn release(&self) {
        self.probe.release();
        self.storage.writes.release();
        self.storage.reads.release();
    }
}

/// A cluster of replicas on a network in memory.
pub(crate) struct Cluster {
    pub(crate) runtime: Arc<dyn Runtime>,
    clock: Arc<Ahead>,
    /// Of the node that was started last.
    election_timeout: Duration,
    pub(crate) network: MemoryNetwork,
    pub(crate) replicas: BTreeMap<NodeId, Replica>,
    change: fn(&mut Options),
}

impl Cluster {
    /// A cluster of `count` voters.
    pub(crate) fn new(count: u64, runtime: Arc<dyn Runtime>) -> Cluster {
        Cluster::with(count, runtime, |_| ())
    }

    /// A cluster whose options are changed.
    pub(crate) fn with(count: u64, runtime: Arc<dyn Runtime>, change: fn(&mut Options)) -> Cluster {
        let clock = Arc::new(Ahead::new(runtime));
        let runtime = Arc::clone(&clock) as Arc<dyn Runtime>;
        let options = MemoryOptions { seed: 7, ..MemoryOptions::default() };
        let network = MemoryNetwork::new(Arc::clone(&runtime), options);
        let mut cluster = Cluster {
            runtime,
            clock,
            election_timeout: ELECTION_TIMEOUT,
            network,
            replicas: BTreeMap::new(),
            change,
        };
        let ids = (1..=count).map(NodeId);
        let configuration = Configuration::new(ids.clone(), []);
        for id in ids {
            cluster.start(id, MemoryStorage::new(configuration.clone()));
        }
        cluster.leader();
        cluster
    }

    fn start(&mut self, id: NodeId, storage: MemoryStorage) {
        let mut options = Options::new(id);
        options.core.election_timeout = ELECTION_TIMEOUT;
        options.core.heartbeat_interval = HEARTBEAT_INTERVAL;
        (self.change)(&mut options);
        self.election_timeout = options.core.election_timeout;
        let (fails, forgets) = (AtomicBool::new(false), AtomicBool::new(false));
        let (writes, reads) = (Hang::default(), Hang::default());
        let storage = Arc::new(Flaky { inner: storage, fails, forgets, writes, reads });
        let probe = Arc::new(Probe::default());
        let machine = Counter::with(Arc::clone(&probe));
        let transport = self.network.transport(id);
        let started = Raft::start(
            options,
            machine,
            Arc::clone(&storage) as _,
            transport,
            Arc::clone(&self.runtime),
        );
        let raft = self.block_on(started).expect("the replica starts");
        self.replicas.insert(id, Replica { raft, storage, probe });
    }

    /// Crashes a replica: what it has not written is lost.
    pub(crate) fn crash(&mut self, id: NodeId) -> MemoryStorage {
        let replica = self.replicas.remove(&id).expect("it runs");
        let storage = replica.storage.inner.reopen();
        replica.release();
        self.block_on(replica.raft.shutdown());
        storage
    }

    pub(crate) fn restart(&mut self, id: NodeId, storage: MemoryStorage) {
        self.start(id, storage);
    }

    /// Starts a node that knows of nobody, and nobody of it, under an incarnation of its own.
    pub(crate) fn start_empty(&mut self, id: NodeId, incarnation: u64) {
        let incarnation = Incarnation(incarnation);
        self.start(id, MemoryStorage::of_incarnation(incarnation, Configuration::default()));
    }

    /// Does something in a task of its own; what comes of it comes through the channel.
    pub(crate) fn in_background<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            let _ = sender.send(work.await);
        };
        self.runtime.spawn("caller", Box::pin(task));
        receiver
    }

    /// Nobody proposes meanwhile.
    pub(crate) fn crash_and_restart_all(&mut self) {
        let disks: Vec<_> = self
            .replicas
            .iter()
            .map(|(id, replica)| (*id, replica.storage.inner.reopen()))
            .collect();
        self.stop_all();
        for (id, disk) in disks {
            self.restart(id, disk);
        }
        self.leader();
    }

    /// Stops all replicas at once. Time flies meanwhile: else their leader would wait for a successor.
    fn stop_all(&mut self) {
        let replicas = std::mem::take(&mut self.replicas);
        replicas.values().for_each(Replica::release);
        self.as_time_flies(join_all(replicas.values().map(|replica| replica.raft.shutdown())));
    }

    pub(crate) fn raft(&self, id: NodeId) -> &Raft<Counter> {
        &self.replicas[&id].raft
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.raft(id).status()
    }

    pub(crate) fn seen(&self, id: NodeId) -> Seen {
        self.replicas[&id].probe.seen.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client<Counter> {
        self.patient_client(HANG_GUARD)
    }

    /// A client whose operations end after this.
    pub(crate) fn patient_client(&self, deadline: Duration) -> Client<Counter> {
        let mut options = ClientOptions::default();
        options.deadline = deadline;
        Client::new(self.network.connector(), Arc::clone(&self.runtime), options)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.network.set_faults(faults);
    }

    /// Who leads among `ids`, all of which agree upon it.
    pub(crate) fn leader_of(&self, ids: &[NodeId]) -> NodeId {
        let mut leader = None;
        self.eventually("a leader", || {
            let statuses: Vec<Status> = ids.iter().map(|id| self.status(*id)).collect();
            let first = &statuses[0];
            let agreed = statuses.iter().all(|s| (s.term, s.leader) == (first.term, first.leader));
            leader = first.leader.filter(|leader| agreed && ids.contains(leader));
            if statuses.iter().all(|status| status.role == Role::Follower) {
                // Nothing but time makes one of them campaign.
                self.put_ahead(self.election_timeout / 8);
            }
            leader.is_some()
        });
        leader.expect("just seen")
    }

    pub(crate) fn leader(&self) -> NodeId {
        let ids: Vec<NodeId> = self.replicas.keys().copied().collect();
        self.leader_of(&ids)
    }

    pub(crate) fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.replicas.keys().copied().filter(|other| *other != id).collect()
    }

    /// Every running replica shows this value.
    pub(crate) fn all_show(&self, value: u64) {
        for id in self.replicas.keys() {
            self.eventually("the value", || self.seen(*id).value == value);
        }
    }

    /// Waits until `done`; the time only ends a test that would hang.
    pub(crate) fn eventually(&self, what: &str, mut done: impl FnMut() -> bool) {
        let began = self.runtime.now();
        while !done() {
            let statuses: Vec<Status> = self.replicas.values().map(|r| r.raft.status()).collect();
            let late = self.runtime.now().saturating_sub(began) > HANG_GUARD;
            assert!(!late, "no {what} in time: {statuses:#?}");
            self.pause(STEP);
        }
    }

    /// Waits for `future`; the time only ends a test that would hang.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let guard = self.runtime.sleep(HANG_GUARD);
        let future = std::pin::pin!(future);
        match block_on(select(future, guard)) {
            Either::Left((value, _)) => value,
            Either::Right(_) => panic!("no answer in time"),
        }
    }

    /// Waits for what only the passing of time brings about; of real time there are a few milliseconds for each heartbeat.
    pub(crate) fn as_time_flies<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        for _ in 0..HANG_GUARD.as_millis() / STEP.as_millis() {
            self.put_ahead(HEARTBEAT_INTERVAL);
            let step = self.runtime.sleep(STEP);
            if let Either::Left((value, _)) = block_on(select(future.as_mut(), step)) {
                return value;
            }
        }
        panic!("no answer in time")
    }

    /// A node without a leader, or a leader without a quorum, notices that in time.
    pub(crate) fn loses_its_leader(&self, id: NodeId) {
        self.as_time_flies(async {
            while self.status(id).leader.is_some() {
                self.runtime.sleep(STEP).await;
            }
        });
    }

    /// Puts the clock of all replicas ahead.
    pub(crate) fn put_ahead(&self, by: Duration) {
        self.clock.put_ahead(by);
    }

    pub(crate) fn pause(&self, duration: Duration) {
        block_on(self.runtime.sleep(duration));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.replicas.values().for_each(Replica::release);
        if !std::thread::panicking() {
            self.stop_all();
        }
    }
}
