//! The nodes of a run: real ones, on simulated disks, clocks and network, which can be started, crashed, paused.

mod operator;
mod own_process;
mod start;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use raft_rsm::raft_core::{
    Configuration, EntryId, Incarnation, LogIndex, Member, NodeId, Role, Term,
};
use raft_rsm::{Client, ClientOptions, Options, Raft, Runtime, StateMachine, Status, StopReason};

use self::operator::Lost;
use self::start::Start;
use crate::disk::Disk;
use crate::event::{Crash, Event, HandOver, Listener};
use crate::executor::{Executor, ProcessId, Sleep, WORLD};
use crate::network::Network;
use crate::observed::{Ledger, ObservedMachine, Told};
use crate::random::Random;
use crate::runtime::{Clock, ProcessRuntime, WorkTime};

/// How one node is set up.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    /// The node's own options.
    pub options: Options,
    /// See [`raft_rsm::storage::FileStorageOptions::segment_bytes`].
    pub segment_bytes: u64,
    /// See [`raft_rsm::storage::FileStorageOptions::preallocate_bytes`].
    pub preallocate_bytes: u64,
    /// The node's clock.
    pub clock: Clock,
    /// How long its machine takes for what it is handed at once, in true time.
    pub apply_time: Range<Duration>,
    /// It is no member at first: it starts without a configuration and waits to be added.
    pub is_spare: bool,
}

impl NodeSetup {
    /// The crate's own defaults, with small log files and a true clock.
    #[must_use]
    pub fn new(id: NodeId) -> NodeSetup {
        NodeSetup {
            options: Options::new(id),
            segment_bytes: 64 * 1024,
            preallocate_bytes: 4 * 1024,
            clock: Clock::TRUE,
            apply_time: Duration::ZERO..Duration::from_micros(100),
            is_spare: false,
        }
    }
}

/// A handle on the machine of one node, and to whatever it replicates.
pub type Replica<M> = Raft<ObservedMachine<M>>;

/// The nodes of a run. Clones are the same cluster.
pub struct Cluster<M: StateMachine> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: StateMachine> {
    executor: Executor,
    network: Network,
    listener: Arc<dyn Listener>,
    machine: Arc<dyn Fn() -> M + Send + Sync>,
    random: Random,
    ledger: Arc<Ledger>,
    nodes: Mutex<BTreeMap<NodeId, Node<M>>>,
}

struct Node<M: StateMachine> {
    setup: NodeSetup,
    disk: Disk,
    /// Its data directory was created.
    has_data: bool,
    /// How it comes back after its disk was lost.
    lost: Option<Lost>,
    /// The incarnation that its data directory has, once that was read.
    incarnation: Option<Incarnation>,
    lives: u64,
    life: Option<Life<M>>,
}

/// One life of a node, from its start to its end.
struct Life<M: StateMachine> {
    process: ProcessId,
    ready: Option<Ready<M>>,
    seen: Seen,
    /// The latest configuration as it was told last.
    configuration: Configuration,
    /// It was asked to hand the lead over, or to stop.
    is_to_hand_over: bool,
    /// It crashes after so many further steps of its own.
    dies_after: Option<(u32, Crash)>,
    /// It could not be started.
    failed: Option<String>,
}

/// A node that has started.
struct Ready<M: StateMachine> {
    replica: Replica<M>,
    machine: Arc<Mutex<M>>,
}

/// The status as it was told last.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    role: Option<(Role, Term, Option<NodeId>)>,
    commit: LogIndex,
    applied: LogIndex,
    last: EntryId,
    transferring: Option<NodeId>,
}

impl<M: StateMachine> Clone for Cluster<M> {
    fn clone(&self) -> Cluster<M> {
        Cluster { shared: Arc::clone(&self.shared) }
    }
}

impl<M: StateMachine> Cluster<M> {
    /// A cluster of nodes that are not started yet.
    #[must_use]
    pub fn new(
        executor: Executor,
        network: Network,
        listener: Arc<dyn Listener>,
        machine: Arc<dyn Fn() -> M + Send + Sync>,
        random: Random,
        setups: Vec<NodeSetup>,
    ) -> Cluster<M> {
        let nodes = setups.into_iter().map(|setup| {
            let id = setup.options.core.id;
            let disk = Disk::new(random.fork(&format!("disk {id}")));
            let node = Node {
                setup,
                disk,
                has_data: false,
                lost: None,
                incarnation: None,
                lives: 0,
                life: None,
            };
            (id, node)
        });
        let nodes = Mutex::new(nodes.collect());
        let ledger = Arc::default();
        let shared = Shared { executor, network, listener, machine, random, ledger, nodes };
        Cluster { shared: Arc::new(shared) }
    }

    /// All nodes, running or not, sorted.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes().keys().copied().collect()
    }

    /// The nodes that run, sorted: those that are paused, too.
    #[must_use]
    pub fn running(&self) -> Vec<NodeId> {
        let nodes = self.nodes();
        nodes.iter().filter(|(_, node)| node.life.is_some()).map(|(id, _)| *id).collect()
    }

    /// The network between them.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.shared.network
    }

    /// The executor that runs them.
    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.shared.executor
    }

    /// Waits for some true time.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.shared.executor.sleep(duration)
    }

    /// The true time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.executor.now()
    }

    /// The disk of a node.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn disk(&self, id: NodeId) -> Disk {
        self.nodes()[&id].disk.clone()
    }

    /// The handle of a node that runs and is ready.
    #[must_use]
    pub fn replica(&self, id: NodeId) -> Option<Replica<M>> {
        let nodes = self.nodes();
        let ready = nodes.get(&id)?.life.as_ref()?.ready.as_ref()?;
        Some(ready.replica.clone())
    }

    /// How a running node sees itself.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<Status> {
        self.replica(id).map(|replica| replica.status())
    }

    /// The node that leads the highest term, as the nodes that run see themselves.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let statuses = self.running().into_iter().filter_map(|id| self.status(id));
        let leaders = statuses.filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    /// What the machines were told so far, by whichever node was the first to apply it, in the order of the log.
    #[must_use]
    pub fn told(&self) -> Vec<Told<M::Command>> {
        self.shared.ledger.told::<M>()
    }

    /// Two machines that were told different times of the log at the same entry, if there are any.
    #[must_use]
    pub fn told_differently(&self) -> Option<String> {
        self.shared.ledger.difference()
    }

    /// A client that can call every node.
    #[must_use]
    pub fn client(&self, number: u64, options: ClientOptions) -> Client<M> {
        self.client_of(number, &self.ids(), options)
    }

    /// A client that knows these nodes only.
    #[must_use]
    pub fn client_of(&self, number: u64, nodes: &[NodeId], options: ClientOptions) -> Client<M> {
        let connector = self.shared.network.connector_to(number, nodes);
        Client::new(connector, self.world_runtime(number), options)
    }

    /// The runtime of a client: it is never killed, and its clock is true.
    #[must_use]
    pub fn world_runtime(&self, number: u64) -> Arc<dyn Runtime> {
        let random = self.shared.random.fork(&format!("client {number}"));
        let executor = self.shared.executor.clone();
        let work_time = Arc::new(|_: &str| Duration::ZERO);
        Arc::new(ProcessRuntime::new(executor, WORLD, Clock::TRUE, random, work_time))
    }

    /// Whether each node allows this of what is remembered of sessions and names, whoever leads.
    #[must_use]
    pub fn all_allow(&self, is_allowed: impl Fn(&Options) -> bool) -> bool {
        self.nodes().values().all(|node| is_allowed(&node.setup.options))
    }

    /// Changes how a node is set up; it counts from its next start.
    pub fn set_up(&self, id: NodeId, change: impl FnOnce(&mut NodeSetup)) {
        if let Some(node) = self.nodes().get_mut(&id) {
            change(&mut node.setup);
        }
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&self) {
        self.ids().into_iter().for_each(|id| self.start(id));
    }

    /// Starts a node, unless it runs: with its disk as it is. It is ready some steps later.
    pub fn start(&self, id: NodeId) {
        let shared = &self.shared;
        let mut nodes = self.nodes();
        let members = first_members(&nodes);
        let Some(node) = nodes.get_mut(&id).filter(|node| node.life.is_none()) else { return };
        node.lives += 1;
        let process = shared.executor.process();
        let random = shared.random.fork(&format!("node {id} life {}", node.lives));
        let work_time = work_time(&shared.executor, node, random.fork("work"));
        let runtime: Arc<dyn Runtime> = Arc::new(ProcessRuntime::new(
            shared.executor.clone(),
            process,
            node.setup.clock,
            random,
            work_time,
        ));
        node.life = Some(Life {
            process,
            ready: None,
            seen: Seen::default(),
            configuration: Configuration::default(),
            is_to_hand_over: false,
            dies_after: None,
            failed: None,
        });
        let start = Start {
            id,
            setup: node.setup.clone(),
            has_data: node.has_data,
            configuration: match (node.setup.is_spare, node.lost) {
                (true, _) | (_, Some(Lost::Noticed)) => Configuration::default(),
                (false, Some(Lost::Unnoticed(_)) | None) => members,
            },
            incarnation: match node.lost {
                Some(Lost::Unnoticed(incarnation)) => Some(incarnation),
                Some(Lost::Noticed) | None => None,
            },
            disk: node.disk.clone(),
            process,
            runtime,
        };
        drop(nodes);
        let cluster = self.clone();
        let task = async move {
            let started = start.run(&cluster).await;
            cluster.started(id, process, started);
        };
        shared.executor.spawn(process, "start", task.boxed());
    }

    fn started(&self, id: NodeId, process: ProcessId, started: Result<Ready<M>, String>) {
        let mut nodes = self.nodes();
        let life = nodes.get_mut(&id).and_then(|node| node.life.as_mut());
        let Some(life) = life.filter(|life| life.process == process) else { return };
        match started {
            Ok(ready) => life.ready = Some(ready),
            Err(reason) => life.failed = Some(reason),
        }
    }

    /// Ends a node at once, if it runs.
    pub fn crash(&self, id: NodeId, crash: Crash) {
        if self.end(id, crash) {
            self.tell(Event::Crashed { node: id, crash });
        }
    }

    /// Ends a node after so many further steps of its own.
    pub fn crash_after_steps(&self, id: NodeId, steps: u32, crash: Crash) {
        if let Some(life) = self.nodes().get_mut(&id).and_then(|node| node.life.as_mut()) {
            life.dies_after = Some((steps, crash));
        }
    }

    /// Lets a node stand still, if it runs: its clock and what others send to it go on.
    pub fn pause(&self, id: NodeId) {
        if self.process(id).is_some_and(|process| self.shared.executor.pause(process)) {
            self.tell(Event::Paused { node: id });
        }
    }

    /// Lets a paused node go on.
    pub fn resume(&self, id: NodeId) {
        if self.process(id).is_some_and(|process| self.shared.executor.resume(process)) {
            self.tell(Event::Resumed { node: id });
        }
    }

    /// Shuts a node down as an operator would, and waits until it has stopped. A leader hands the lead over first.
    pub async fn stop(&self, id: NodeId) {
        if let Some(replica) = self.replica(id) {
            self.will_hand_over(id);
            replica.shutdown().await;
        }
    }

    /// Called after each step of the executor: tells what has changed at the node to which it belongs.
    pub(crate) fn after_step(&self, process: ProcessId, name: &str) {
        if process == WORLD {
            return;
        }
        let mut nodes = self.nodes();
        let found = nodes.iter_mut().find_map(|(id, node)| {
            let life = node.life.as_mut().filter(|life| life.process == process)?;
            Some((*id, &node.disk, life))
        });
        let Some((id, disk, life)) = found else { return };
        if let Some(crash) = disk.was_cut() {
            drop(nodes);
            return self.crash(id, crash);
        }
        if let Some((steps, crash)) = &mut life.dies_after {
            let crash = *crash;
            if *steps == 0 {
                drop(nodes);
                return self.crash(id, crash);
            }
            *steps -= 1;
        }
        if let Some(reason) = life.failed.take() {
            drop(nodes);
            self.tell(Event::NotStarted { node: id, reason });
            self.end(id, Crash::Killed);
            return;
        }
        // Only its driver changes what it tells of itself.
        if name != "raft" && name != "start" {
            return;
        }
        drop(nodes);
        let Some((replica, is_running)) = self.look(id, process) else { return };
        // A replica that ends shows itself as stopped before it has ended.
        if !is_running && let Some(reason) = replica.stopped().now_or_never() {
            let was_asked = reason == StopReason::Shutdown;
            self.tell(Event::Stopped { node: id, reason, was_asked });
            self.end(id, Crash::Killed);
        }
    }

    /// Tells what has changed in the status of a node since it was looked at last; returns its handle if it is ready, and
    /// whether it runs.
    fn look(&self, id: NodeId, process: ProcessId) -> Option<(Replica<M>, bool)> {
        let mut nodes = self.nodes();
        let life = nodes.get_mut(&id)?.life.as_mut().filter(|life| life.process == process)?;
        let replica = life.ready.as_ref()?.replica.clone();
        let status = replica.status();
        let now = Seen::of(&status);
        let before = std::mem::replace(&mut life.seen, now);
        let was_asked = life.is_to_hand_over;
        let is_configured = life.configuration != status.configuration;
        if is_configured {
            life.configuration = status.configuration.clone();
        }
        drop(nodes);
        self.tell_changes(id, before, now, &status);
        if is_configured {
            self.tell_configuration(id, &status);
        }
        if let Some(to) = now.transferring.filter(|_| before.transferring.is_none()) {
            let why = if was_asked { HandOver::Asked } else { HandOver::SickDisk };
            self.tell(Event::HandingOver { node: id, to, why });
        }
        Some((replica, status.running))
    }

    fn tell_changes(&self, node: NodeId, before: Seen, now: Seen, status: &Status) {
        if before == now {
            return;
        }
        if before.role != now.role {
            let old = before.role.map(|(role, term, _)| (role, term));
            let changed = match status.role {
                Role::Leader => old != Some((Role::Leader, status.term)),
                Role::Candidate => old != Some((Role::Candidate, status.term)),
                Role::Follower | Role::PreCandidate => {
                    old.map(|(role, _)| role) != Some(status.role)
                }
            };
            self.tell(Event::Role {
                node,
                role: status.role,
                term: status.term,
                leader: status.leader,
                last: status.last,
                changed,
            });
        }
        if (before.commit, before.applied, before.last) != (now.commit, now.applied, now.last) {
            self.tell(Event::Progress {
                node,
                commit: now.commit,
                applied: now.applied,
                last: now.last,
                log_bytes: status.log_bytes,
                tail_bytes: status.tail_bytes,
                image_bytes: status.snapshot_bytes,
            });
        }
    }

    fn tell_configuration(&self, node: NodeId, status: &Status) {
        self.tell(Event::Configured {
            node,
            incarnation: status.incarnation,
            configuration: status.configuration.clone(),
            leads: (status.role == Role::Leader).then_some(status.term),
        });
    }

    /// Ends the life of a node; false if it had none. Nothing gets out of it any more while its tasks are dropped.
    fn end(&self, id: NodeId, crash: Crash) -> bool {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(&id) else { return false };
        let Some(life) = node.life.take() else { return false };
        let disk = node.disk.clone();
        drop(nodes);
        self.shared.network.end_life(id, crash);
        disk.end_life(crash);
        self.shared.executor.kill(life.process);
        true
    }

    fn process(&self, id: NodeId) -> Option<ProcessId> {
        Some(self.nodes().get(&id)?.life.as_ref()?.process)
    }

    fn tell(&self, event: Event) {
        self.shared.listener.event(self.shared.executor.now(), event);
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node<M>>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the blocking work of a node takes: what is not its machine's is its disk's.
fn work_time<M: StateMachine>(executor: &Executor, node: &Node<M>, random: Random) -> WorkTime {
    let (disk, now) = (node.disk.clone(), executor.clone());
    let (apply_time, random) = (node.setup.apply_time.clone(), Mutex::new(random));
    Arc::new(move |name| match name {
        "apply" => random.lock().unwrap_or_else(PoisonError::into_inner).duration(&apply_time),
        name => disk.work_time(now.now(), name),
    })
}

/// The configuration with which all but the spare nodes start: whose incarnations nobody knows yet, the first leader
/// names them.
fn first_members<M: StateMachine>(nodes: &BTreeMap<NodeId, Node<M>>) -> Configuration {
    let members = nodes.iter().filter(|(_, node)| !node.setup.is_spare);
    Configuration::of_members(members.map(|(id, _)| Member::new(*id, "")), [], [])
}

impl Seen {
    fn of(status: &Status) -> Seen {
        Seen {
            role: Some((status.role, status.term, status.leader)),
            commit: status.commit,
            applied: status.applied,
            last: status.last,
            transferring: status.transferring,
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Cluster<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.ids()).finish_non_exhaustive()
    }
}
