//! A run: a plan carried out, and judged.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::join_all;
use raft_rsm::{ClientOptions, StateMachine, Status};

use crate::checkers::linearizability::{STEPS_MAX, Undecided, Verdict, check_with};
use crate::checkers::stale::StaleReads;
use crate::checkers::{self, Budgets, Checker, LINEARIZABILITY, SAME_STATE, STALE_READS, WORKLOAD};
use crate::cluster::{Cluster, NodeSetup};
use crate::event::Listener;
use crate::executor::{Executor, Step, WORLD};
use crate::faults::Faults;
use crate::history::History;
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::plan::{Bounds, Plan, PlanError};
use crate::random::Random;
use crate::recorder::{Recorder, TraceTo, Violation};
use crate::report::{Counts, Report};
use crate::workload::{Factory, Session, Shared, Workload};

/// No operation of a client may take longer, whatever goes wrong.
const OPERATION_MAX: Duration = Duration::from_secs(12);

/// All nodes have caught up so long after the last operation.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// Nodes that have lost their disks are what they were so long after, and no change of membership is half-way.
const RECOVERED_WITHIN: Duration = Duration::from_secs(40);

/// Operations of each client once all faults have ended. Each of them must be answered.
const LAST_OPERATIONS: usize = 2;

/// A simulation of a cluster, to be set up and run: see the [example](crate).
pub struct Simulation<M = (), W = ()> {
    seed: u64,
    bounds: Bounds,
    machine: M,
    workload: W,
    trace: Option<TraceTo>,
    /// `None`: all of them.
    watched_by: Option<Vec<String>>,
}

/// Why a run is not a good one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It cannot be run at all: nothing was tested.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Something happened that must not happen.
    #[error(transparent)]
    Violated(#[from] Violated),
}

/// Something happened that must not happen.
#[derive(Clone, Debug)]
pub struct Violated {
    /// What, and when.
    pub violation: Violation,
    /// The run up to there.
    pub report: Box<Report>,
}

impl fmt::Display for Violated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { checker, problem, at } = &self.violation;
        write!(
            f,
            "seed {}: violation of {checker} at {:.6} s: {problem}",
            self.report.seed,
            at.as_secs_f64()
        )
    }
}

impl std::error::Error for Violated {}

impl Simulation {
    /// A simulation of whatever `seed` stands for.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            bounds: Bounds::default(),
            machine: (),
            workload: (),
            trace: None,
            watched_by: None,
        }
    }
}

impl<M, W> Simulation<M, W> {
    /// Nodes in the cluster, instead of a number that the seed draws.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.bounds.nodes = Some(nodes);
        self
    }

    /// Clients, instead of a number that the seed draws.
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        self.bounds.clients = Some(clients);
        self
    }

    /// Operations of all clients together, instead of a number that the seed draws.
    #[must_use]
    pub fn operations(mut self, operations: usize) -> Self {
        self.bounds.operations = Some(operations);
        self
    }

    /// How long faults go on, in virtual time: 50 seconds unless it is said.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.bounds.duration = duration;
        self
    }

    /// What may go wrong: everything unless it is said.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.bounds.faults = faults;
        self
    }

    /// All bounds at once.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Hears the run as a story, a line an event.
    #[must_use]
    pub fn trace(mut self, trace: TraceTo) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Lets only these checkers of [`checkers::NAMES`] watch, instead of all: what another one would have seen first does
    /// not end the run. A node that panics, and a run that stands still, end it all the same.
    #[must_use]
    pub fn watched_by(mut self, checkers: &[&str]) -> Self {
        self.watched_by = Some(checkers.iter().map(ToString::to_string).collect());
        self
    }

    /// The machine that is replicated: each replica begins with what `machine` makes.
    #[must_use]
    pub fn machine<N: StateMachine>(
        self,
        machine: impl Fn() -> N + Send + Sync + 'static,
    ) -> Simulation<Factory<N>, W> {
        let Simulation { seed, bounds, machine: _, workload, trace, watched_by } = self;
        Simulation { seed, bounds, machine: Arc::new(machine), workload, trace, watched_by }
    }

    /// What the clients do.
    #[must_use]
    pub fn workload<V: Workload>(self, workload: V) -> Simulation<M, V> {
        let Simulation { seed, bounds, machine, workload: _, trace, watched_by } = self;
        Simulation { seed, bounds, machine, workload, trace, watched_by }
    }
}

impl<M: StateMachine, W: Workload<Machine = M>> Simulation<Factory<M>, W> {
    /// Draws a plan from the seed, carries it out and judges it.
    ///
    /// # Errors
    /// It cannot be run, or something happened that must not happen.
    pub fn run(self) -> Result<Report, Failure> {
        self.run_with(|_| ())
    }

    /// As [`Simulation::run`], with a fault planted that no plan has: `plant` is given the cluster before any of its
    /// nodes is started. It may let disks and the network lie, or spawn a task that does something later.
    ///
    /// # Errors
    /// As for [`Simulation::run`].
    pub fn run_with(self, plant: impl FnOnce(&Cluster<M>)) -> Result<Report, Failure> {
        let plan = Plan::draw(self.seed, &self.bounds)?;
        self.carry_out(&plan, plant)
    }

    /// Carries out a plan and judges it.
    ///
    /// # Errors
    /// Something happened that must not happen.
    pub fn run_plan(self, plan: &Plan) -> Result<Report, Failure> {
        self.carry_out(plan, |_| ())
    }

    fn carry_out(self, plan: &Plan, plant: impl FnOnce(&Cluster<M>)) -> Result<Report, Failure> {
        let is_watching = is_watching(self.watched_by)?;
        let mut checkers = checkers::all(budgets(&plan.setups), OPERATION_MAX);
        checkers.retain(|checker| is_watching(checker.name()));
        let run = Run::new(plan, checkers, Arc::clone(&self.machine), self.trace);
        plant(&run.cluster);
        let workload = Arc::new(self.workload);
        let model = workload.model(&self.machine);
        let shared = Arc::new(Shared {
            model,
            history: Mutex::new(History::new()),
            stale: Mutex::new(StaleReads::default()),
            executor: run.executor.clone(),
            listener: Arc::clone(&run.recorder) as _,
        });
        let story = story(
            plan.clone(),
            run.cluster.clone(),
            run.nemesis(plan),
            Arc::clone(&workload),
            Arc::clone(&shared),
        );
        run.drive(story);
        let mut undecided = None;
        if !run.recorder.is_violated() {
            run.recorder.finish(run.executor.now());
            if is_watching(LINEARIZABILITY) {
                let applications = run.recorder.applications();
                let history = shared.history().with_stale_calls_first();
                match check_with(&shared.model, &history, &applications, STEPS_MAX) {
                    Verdict::Linearizable => {}
                    Verdict::Violation(found) => run.violate(LINEARIZABILITY, found.to_string()),
                    Verdict::Undecided(found) => undecided = Some(found),
                }
            }
            let stale = shared.stale.lock().unwrap_or_else(PoisonError::into_inner).check();
            if let Some(problem) = stale.err().filter(|_| is_watching(STALE_READS)) {
                run.violate(STALE_READS, problem);
            }
            let told_differently = run.cluster.told_differently();
            let differing = told_differently.or_else(|| run.differing(&*workload));
            if let Some(problem) = differing.filter(|_| is_watching(SAME_STATE)) {
                run.violate(SAME_STATE, problem);
            }
            if is_watching(WORKLOAD)
                && let Err(problem) = workload.judge(&run.cluster.told())
            {
                run.violate(WORKLOAD, problem);
            }
        }
        run.end(plan, undecided, workload.counts())
    }
}

impl<M: StateMachine> Simulation<Factory<M>, ()> {
    /// Runs a scenario of one's own: `scenario` does to the cluster what it likes, and asserts what it likes, in
    /// virtual time. The checkers watch; the settings are those of [`NodeSetup::new`], changed by `set_up`. All nodes
    /// are started before; the network is reliable until it is told otherwise.
    ///
    /// # Errors
    /// Something happened that must not happen.
    ///
    /// # Panics
    /// The scenario panics.
    pub fn scenario<S, F>(
        self,
        set_up: impl Fn(&mut NodeSetup),
        scenario: S,
    ) -> Result<Report, Failure>
    where
        S: FnOnce(Cluster<M>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let bounds = Bounds { draws_settings: false, faults: Faults::none(), ..self.bounds };
        let mut plan = Plan::draw(self.seed, &bounds)?;
        plan.setups.iter_mut().for_each(set_up);
        plan.baseline = crate::network::Conditions::reliable();
        let is_watching = is_watching(self.watched_by)?;
        let mut checkers = checkers::all(budgets(&plan.setups), Duration::MAX);
        checkers.retain(|checker| is_watching(checker.name()));
        let run = Run::new(&plan, checkers, self.machine, self.trace);
        run.cluster.start_all();
        run.drive(scenario(run.cluster.clone()));
        if !run.recorder.is_violated() {
            run.recorder.finish(run.executor.now());
        }
        run.end(&plan, None, BTreeMap::new())
    }
}

/// Whether a checker was chosen.
fn is_watching(chosen: Option<Vec<String>>) -> Result<impl Fn(&str) -> bool, PlanError> {
    let unknown = chosen.iter().flatten().find(|name| !checkers::NAMES.contains(&name.as_str()));
    match unknown {
        Some(name) => Err(PlanError::Checker { name: name.clone() }),
        None => Ok(move |name: &str| {
            chosen.as_ref().is_none_or(|chosen| chosen.iter().any(|one| one == name))
        }),
    }
}

/// What the settings allow.
fn budgets(setups: &[NodeSetup]) -> Budgets {
    /// One more than the interval says within any second; clocks may be a little fast, and a new leader sends one at once.
    const HEARTBEATS_MORE: u128 = 3;
    /// The length of a log is known to a sixteenth of it or some hundred bytes, and some of it is not applied yet.
    const LOG_BYTES_MORE: u64 = 8 * 1024;
    let mut budgets = Budgets {
        packet_bytes_max: 0,
        log_bytes_max: 0,
        tail_bytes_max: 0,
        heartbeats_a_second_max: 0,
    };
    for setup in setups {
        let (options, limits) = (&setup.options, &setup.options.core.limits);
        let packet_bytes = limits.message_bytes_max.max(options.snapshot_chunk_bytes);
        budgets.packet_bytes_max = budgets.packet_bytes_max.max(packet_bytes);
        let kept_bytes = (limits.kept_bytes_max as u64).saturating_mul(2);
        let log_bytes = options.snapshot_log_bytes.saturating_mul(2).saturating_add(kept_bytes);
        let log_bytes = log_bytes.saturating_add(LOG_BYTES_MORE);
        budgets.log_bytes_max = budgets.log_bytes_max.max(log_bytes);
        budgets.tail_bytes_max = budgets.tail_bytes_max.max(limits.tail_bytes_max as u64);
        let interval = options.core.heartbeat_interval.as_millis().max(1);
        let heartbeats = usize::try_from(1000 / interval + HEARTBEATS_MORE).unwrap_or(usize::MAX);
        budgets.heartbeats_a_second_max = budgets.heartbeats_a_second_max.max(heartbeats);
    }
    budgets
}

/// The parts of a run.
struct Run<M: StateMachine> {
    executor: Executor,
    recorder: Arc<Recorder>,
    cluster: Cluster<M>,
}

impl<M: StateMachine> Run<M> {
    fn new(
        plan: &Plan,
        checkers: Vec<Box<dyn Checker>>,
        machine: Factory<M>,
        trace: Option<TraceTo>,
    ) -> Run<M> {
        let random = Random::new(plan.seed);
        let executor = Executor::new(random.fork("executor"));
        let recorder = Arc::new(Recorder::new(checkers, trace));
        let listener: Arc<dyn Listener> = Arc::clone(&recorder) as _;
        let network = Network::new(executor.clone(), random.fork("network"), Arc::clone(&listener));
        network.set_conditions(plan.baseline.clone());
        let cluster = Cluster::new(
            executor.clone(),
            network,
            listener,
            machine,
            random.fork("cluster"),
            plan.setups.clone(),
        );
        Run { executor, recorder, cluster }
    }

    fn nemesis(&self, plan: &Plan) -> Nemesis<M> {
        let listener = Arc::clone(&self.recorder) as _;
        Nemesis::new(self.cluster.clone(), listener, plan.baseline.clone())
    }

    fn violate(&self, checker: &str, problem: String) {
        self.recorder.violate(self.executor.now(), checker, problem);
    }

    /// Runs until `story` has ended, or something is violated.
    fn drive(&self, story: impl Future<Output = ()> + Send + 'static) {
        let is_over = Arc::new(Mutex::new(false));
        let over = Arc::clone(&is_over);
        let task = async move {
            story.await;
            *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        };
        self.executor.spawn(WORLD, "story", task.boxed());
        while !self.recorder.is_violated() {
            match self.executor.step() {
                Step::Ran { process: WORLD, .. } => {
                    if *is_over.lock().unwrap_or_else(PoisonError::into_inner) {
                        return;
                    }
                }
                Step::Ran { process, name } => self.cluster.after_step(process, &name),
                Step::Time => {}
                Step::Panicked { process: WORLD, message, .. } => {
                    self.end_all();
                    let seed_at = self.executor.now();
                    panic!("at {seed_at:?} of virtual time: {message}");
                }
                Step::Panicked { name, message, .. } => {
                    self.violate("no panics", format!("{name} panicked: {message}"));
                }
                Step::Idle => self.violate("liveness", "nothing will ever happen again".to_owned()),
                Step::Livelock => {
                    self.violate(
                        "liveness",
                        "it goes round in a circle within one moment".to_owned(),
                    );
                }
            }
        }
    }

    /// Two members that have applied the same and are not alike.
    fn differing<W: Workload<Machine = M>>(&self, workload: &W) -> Option<String> {
        let leader = self.cluster.leader()?;
        let (status, cluster) = (self.cluster.status(leader)?, &self.cluster);
        let state = |id| cluster.inspect(id, |machine| workload.state(machine)).flatten();
        let own = state(leader)?;
        let members = status.configuration.members();
        let mut others = members
            .iter()
            .map(|member| member.id)
            .filter(|id| cluster.status(*id).is_some_and(|other| other.applied == status.applied));
        let other = others.find(|id| state(*id).is_some_and(|state| state != own))?;
        let applied = status.applied;
        Some(format!(
            "nodes {leader} and {other} have both applied {applied} entries and are not alike"
        ))
    }

    /// Nothing of the run is left in memory.
    fn end_all(&self) {
        self.recorder.close();
        for id in self.cluster.ids() {
            self.cluster.crash(id, crate::event::Crash::Killed);
        }
        self.cluster.network().clear();
        self.executor.clear();
    }

    fn counts(&self) -> Counts {
        let mut counts = self.recorder.counts();
        counts.network = self.cluster.network().totals();
        for id in self.cluster.ids() {
            counts.disks.add(&self.cluster.disk(id).counters());
        }
        counts
    }

    fn end(
        self,
        plan: &Plan,
        undecided: Option<Undecided>,
        workload: BTreeMap<String, u64>,
    ) -> Result<Report, Failure> {
        let report = Report {
            seed: plan.seed,
            nodes: plan.members(),
            digest: self.recorder.digest().to_string(),
            virtual_time: self.executor.now(),
            steps: self.executor.steps(),
            events: self.recorder.events(),
            counts: Counts { workload, ..self.counts() },
            undecided,
        };
        let violation = self.recorder.violation();
        self.end_all();
        match violation {
            None => Ok(report),
            Some(violation) => Err(Violated { violation, report: Box::new(report) }.into()),
        }
    }
}

/// All that happens in a run: the clients work while things go wrong; then all faults end, and everybody must be
/// answered.
async fn story<M: StateMachine, W: Workload<Machine = M>>(
    plan: Plan,
    cluster: Cluster<M>,
    nemesis: Nemesis<M>,
    workload: Arc<W>,
    shared: Arc<Shared<W::Model>>,
) {
    cluster.start_all();
    let faults = nemesis.schedule(&plan.faults, plan.duration);
    let random = Random::new(plan.seed).fork("clients");
    let mut clients = Vec::new();
    for number in 0..plan.clients {
        let random = random.fork(&number.to_string());
        let number = number as u64;
        let client = cluster.client(number, ClientOptions::default());
        let session = Session::new(number, client, cluster.clone(), random, Arc::clone(&shared));
        let share = plan.operations.div_ceil(plan.clients);
        let pace = Pace { pause: plan.pause, until: plan.duration };
        clients.push(work(session, cluster.clone(), Arc::clone(&workload), share, pace));
    }
    let clients = join_all(clients.into_iter().map(|client| spawn(&cluster, client)));
    let sleep = cluster.sleep(plan.duration);
    let (sessions, (), ()) = futures::join!(clients, sleep, faults);
    nemesis.heal();
    let sleep = cluster.sleep(checkers::LEADER_WITHIN);
    futures::join!(sleep, nemesis.shut_down_others(checkers::LEADER_WITHIN));
    nemesis.recover(RECOVERED_WITHIN).await;
    let last = sessions.into_iter().flatten().map(|mut session| {
        let workload = Arc::clone(&workload);
        async move {
            session.all_faults_have_ended();
            for _ in 0..LAST_OPERATIONS {
                workload.operation(&mut session).await;
            }
        }
    });
    join_all(last).await;
    catch_up(&cluster).await;
}

/// How long a client pauses between two operations, on average, and until when it goes on.
#[derive(Copy, Clone)]
struct Pace {
    pause: Duration,
    until: Duration,
}

/// One client, until its operations are done or the time is up.
async fn work<M: StateMachine, W: Workload<Machine = M>>(
    mut session: Session<W>,
    cluster: Cluster<M>,
    workload: Arc<W>,
    operations: usize,
    pace: Pace,
) -> Session<W> {
    for _ in 0..operations {
        let pause = session.random().duration(&(Duration::ZERO..pace.pause * 2));
        cluster.sleep(pause).await;
        if cluster.now() >= pace.until {
            break;
        }
        workload.operation(&mut session).await;
    }
    session
}

/// Runs a future as a task of its own, so that the seed decides when it goes on.
async fn spawn<M: StateMachine, T: Send + 'static>(
    cluster: &Cluster<M>,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let task = async move {
        let _ = sender.send(future.await);
    };
    cluster.executor().spawn(WORLD, "client", task.boxed());
    receiver.await.ok()
}

/// Waits until all members have applied what is committed, or until they should have.
async fn catch_up<M: StateMachine>(cluster: &Cluster<M>) {
    let until = cluster.now() + CATCH_UP_MAX;
    while cluster.now() < until {
        if let Some(leader) = cluster.leader().and_then(|id| cluster.status(id)) {
            let members = leader.configuration.members();
            let mut members = members.into_iter().map(|member| cluster.status(member.id));
            let has_all = |status: Status| status.applied == leader.last.index;
            if members.all(|status| status.is_some_and(has_all)) {
                return;
            }
        }
        cluster.sleep(Duration::from_millis(100)).await;
    }
}
