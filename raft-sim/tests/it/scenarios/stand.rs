//! A scenario on many seeds, and what scenarios do to a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use raft_rsm::raft_core::{NodeId, Role, Term};
use raft_rsm::{ProposeError, StateMachine, Status};
use raft_sim::event::{Crash, Site};
use raft_sim::executor::WORLD;
use raft_sim::network::Conditions;
use raft_sim::{Cluster, NodeSetup, Random, Report, Simulation};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Runs one seed alone, as a story, or a range of them: `7` or `0..1000`.
const SEEDS_VARIABLE: &str = "SCENARIO_SEEDS";

/// The cluster of a scenario. Clones are the same.
pub(super) struct Stand<M: StateMachine> {
    pub(super) cluster: Cluster<M>,
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    cut: BTreeSet<NodeId>,
    last_number: u64,
}

/// A proposal that was made, and its answer, once there is one.
pub(super) struct Proposal<T>(Arc<Mutex<Option<Result<T, ProposeError>>>>);

/// Runs a scenario with each seed on a cluster of `nodes`, on a reliable network. Returns what happened with each.
pub(super) fn run<M: StateMachine, F: Future<Output = ()> + Send + 'static>(
    nodes: usize,
    seeds: Range<u64>,
    machine: fn() -> M,
    set_up: impl Fn(u64, &mut NodeSetup),
    scenario: impl Fn(Stand<M>) -> F,
) -> Vec<Report> {
    let (seeds, is_story) = match std::env::var(SEEDS_VARIABLE) {
        Err(_) => (seeds, false),
        Ok(asked) => match asked.split_once("..") {
            Some((first, end)) => (first.parse().unwrap()..end.parse().unwrap(), false),
            None => (asked.parse().unwrap()..asked.parse::<u64>().unwrap() + 1, true),
        },
    };
    let run_one = |seed| {
        let mut simulation = Simulation::new(seed).nodes(nodes);
        if is_story {
            simulation = simulation.trace(Arc::new(|line| println!("{line}")));
        }
        let story = |cluster| scenario(Stand::new(cluster, seed));
        simulation.machine(machine).scenario(|setup| set_up(seed, setup), story)
    };
    let run_one = |seed| match catch_unwind(AssertUnwindSafe(|| run_one(seed))) {
        Ok(Ok(report)) => report,
        Ok(Err(failure)) => panic!("{failure} (its story: {SEEDS_VARIABLE}={seed})"),
        Err(panic) => {
            eprintln!("seed {seed} fails (its story: {SEEDS_VARIABLE}={seed})");
            resume_unwind(panic);
        }
    };
    seeds.map(run_one).collect()
}

impl<M: StateMachine> Clone for Stand<M> {
    fn clone(&self) -> Stand<M> {
        Stand { cluster: self.cluster.clone(), state: Arc::clone(&self.state) }
    }
}

impl<M: StateMachine> Stand<M> {
    fn new(cluster: Cluster<M>, seed: u64) -> Stand<M> {
        let random = Random::new(seed).fork("scenario");
        let state = State { random, cut: BTreeSet::new(), last_number: 0 };
        Stand { cluster, state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.cluster.ids()
    }

    /// The node after `id`, `steps` further round the circle.
    pub(super) fn after(&self, id: NodeId, steps: usize) -> NodeId {
        let ids = self.ids();
        let position = ids.iter().position(|other| *other == id).unwrap();
        ids[(position + steps) % ids.len()]
    }

    pub(super) fn others(&self, of: &[NodeId]) -> Vec<NodeId> {
        self.ids().into_iter().filter(|id| !of.contains(id)).collect()
    }

    pub(super) fn now(&self) -> Duration {
        self.cluster.now()
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.cluster.sleep(duration).await;
    }

    /// Draws with the scenario's own luck.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    pub(super) fn draw_node(&self) -> NodeId {
        let ids = self.ids();
        self.draw(|random| *random.choose(&ids))
    }

    /// A number that no other command of the scenario has.
    pub(super) fn fresh(&self) -> u64 {
        let mut state = self.state();
        state.last_number += 1;
        state.last_number
    }

    pub(super) fn set_conditions(&self, conditions: Conditions) {
        self.cluster.network().set_conditions(conditions);
    }

    /// Cuts a node off from all others.
    pub(super) fn cut(&self, id: NodeId) {
        self.state().cut.insert(id);
        self.cluster.network().isolate(Site::Node(id));
    }

    pub(super) fn cut_all(&self, ids: &[NodeId]) {
        ids.iter().for_each(|id| self.cut(*id));
    }

    pub(super) fn connect(&self, id: NodeId) {
        self.state().cut.remove(&id);
        self.cluster.network().rejoin(Site::Node(id));
    }

    pub(super) fn connect_all(&self) {
        self.ids().into_iter().for_each(|id| self.connect(id));
    }

    pub(super) fn is_cut(&self, id: NodeId) -> bool {
        self.state().cut.contains(&id)
    }

    pub(super) fn is_running(&self, id: NodeId) -> bool {
        self.cluster.running().contains(&id)
    }

    /// Kills the process of a node, or lets its machine lose power.
    pub(super) fn crash(&self, id: NodeId) {
        let crash = self.draw(|random| *random.choose(&[Crash::Killed, Crash::PowerLost]));
        self.cluster.crash(id, crash);
    }

    pub(super) fn crash_all(&self, ids: &[NodeId]) {
        ids.iter().for_each(|id| self.crash(*id));
    }

    pub(super) fn start(&self, id: NodeId) {
        self.cluster.start(id);
    }

    /// The nodes that run and are not cut off, as they see themselves.
    pub(super) fn connected(&self) -> Vec<Status> {
        let running = self.cluster.running().into_iter().filter(|id| !self.is_cut(*id));
        running.filter_map(|id| self.cluster.status(id)).collect()
    }

    /// Who leads, among those that are connected: the later term first.
    pub(super) fn leaders(&self) -> Vec<(Term, NodeId)> {
        let leads = |status: &Status| status.role == Role::Leader;
        let connected = self.connected().into_iter().filter(leads);
        let mut leaders: Vec<_> = connected.map(|status| (status.term, status.id)).collect();
        leaders.sort_unstable_by(|one, other| other.cmp(one));
        for pair in leaders.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "two nodes lead the same term");
        }
        leaders
    }

    /// Waits until a connected node leads: within ten tries of about half a second.
    pub(super) async fn one_leader(&self) -> NodeId {
        for _ in 0..10 {
            let pause = self.draw(|random| random.duration(&(MS * 450..MS * 500)));
            self.sleep(pause).await;
            if let Some((_, leader)) = self.leaders().first() {
                return *leader;
            }
        }
        panic!("no leader within 5 s");
    }

    pub(super) fn assert_no_leader(&self) {
        assert_eq!(self.leaders(), [], "nobody can lead");
    }

    /// The term of all connected nodes.
    pub(super) fn one_term(&self) -> Term {
        let terms: BTreeMap<_, _> =
            self.connected().into_iter().map(|status| (status.id, status.term)).collect();
        let mut all = terms.values();
        let term = *all.next().expect("a node is connected");
        assert!(all.all(|other| *other == term), "the terms differ: {terms:?}");
        term
    }

    /// Does something else beside.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.cluster.executor().spawn(WORLD, "scenario", task.boxed());
    }

    /// Proposes at a node, whether it leads or not.
    pub(super) fn propose(&self, id: NodeId, command: M::Command) -> Proposal<M::Response> {
        let answer = Arc::new(Mutex::new(None));
        let (proposed, to) = (self.cluster.propose(id, command), Arc::clone(&answer));
        self.spawn(async move {
            let result = proposed.await;
            *to.lock().unwrap() = Some(result);
        });
        Proposal(answer)
    }

    /// Proposes at a node; `None` if it says at once that it does not take it.
    pub(super) async fn accepted(
        &self,
        id: NodeId,
        command: M::Command,
    ) -> Option<Proposal<M::Response>> {
        let proposal = self.propose(id, command);
        // It takes no time to refuse, and some to write to the disk.
        self.sleep(Duration::from_micros(1)).await;
        (!proposal.is_refused()).then_some(proposal)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl<T: Clone> Proposal<T> {
    pub(super) fn answer(&self) -> Option<Result<T, ProposeError>> {
        self.0.lock().unwrap().clone()
    }
}

impl<T> Proposal<T> {
    /// It was answered, whatever with.
    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(&*self.0.lock().unwrap(), Some(Ok(_)))
    }

    /// Definitely not.
    pub(super) fn is_refused(&self) -> bool {
        matches!(&*self.0.lock().unwrap(), Some(Err(error)) if !error.may_take_effect())
    }
}
