//! Faults that no Raft survives, planted at the boundary, and the checkers that notice them.
//!
//! Each row is a test: within 200 seeds the fault is seen, first by one of the checkers in the second column while all of
//! them watch, and by each in the third while it watches alone.
//!
//! | fault | seen first by | and by each of these alone |
//! |---|---|---|
//! | a disk that acknowledges before it is durable | durability | election safety, log matching, leader completeness, state machine safety, exactly once, linearizability |
//! | a disk that forgets what it synced | durability | the same |
//! | a node that comes back without its vote, on a disk that falls back | durability | the same |
//! | a network that delivers a node's answers in the name of another, too | leader completeness, liveness | leader completeness, state machine safety, exactly once, linearizability |
//! | a network that repeats requests | exactly once | linearizability |
//! | a network that gives the answer to another call | linearizability | |
//! | a machine that is not deterministic | state machine safety, linearizability | both; and by its own node, while nobody watches |
//! | a machine that keeps what it had when it is restored | state machine safety | |
//! | a machine that panics | no panics | |
//! | a client that sends a "maybe" once more, and counts one | linearizability | |
//! | a client that takes a "maybe" for a no | linearizability | |
//! | a disk that is stuck for ever; a slow one; a wiped one | liveness | |
//! | a node that stands still for ever; one that is cut off | liveness | |
//! | a clock at twice the speed | budgets (heartbeats) | |
//! | clocks that drift beyond the bound of the leases | linearizability | |
//! | a node that loses its disk and comes back as what it was | any of those that a disk that forgets is seen by | the same |
//! | a node with larger messages than was said | budgets (packets) | |
//! | a node that holds more of its log than was said | budgets (memory) | |
//!
//! No fault at the boundary makes a leader change its own log: it only appends to it while it leads, whatever others
//! do. What leader append-only catches is told to it by hand, as to every checker, in the tests beside it.

pub(crate) mod accounts;
mod boundary;
pub(crate) mod clients;
mod machines;

use std::time::Duration;

use raft_rsm::StateMachine;
use raft_sim::plan::Bounds;
use raft_sim::{Cluster, Failure, Faults, Simulation, Violated, Workload};

/// Within so many seeds each fault must show.
const SEEDS: u64 = 200;

const SECOND: Duration = Duration::from_secs(1);

type Plant<M> = dyn Fn(&Cluster<M>);

/// A fault, and the runs in which it should show.
pub(crate) struct Planted<M: StateMachine, W> {
    bounds: Bounds,
    machine: fn() -> M,
    workload: fn() -> W,
    plant: Box<Plant<M>>,
}

impl<M: StateMachine, W: Workload<Machine = M>> Planted<M, W> {
    /// A machine or a workload that is a fault by itself.
    pub(crate) fn new(bounds: Bounds, machine: fn() -> M, workload: fn() -> W) -> Planted<M, W> {
        Planted { bounds, machine, workload, plant: Box::new(|_| ()) }
    }

    /// A fault beside an honest machine and workload.
    pub(crate) fn with(self, plant: impl Fn(&Cluster<M>) + 'static) -> Planted<M, W> {
        Planted { plant: Box::new(plant), ..self }
    }

    /// Whichever checker sees the fault first, it is one of these.
    pub(crate) fn is_seen_first_by(&self, checkers: &[&str]) -> &Planted<M, W> {
        let violated = (0..SEEDS).find_map(|seed| self.run(seed, None).err());
        let violated = violated.expect("nobody has noticed anything");
        println!("{violated}");
        assert!(checkers.contains(&&*violated.violation.checker), "{violated}");
        self
    }

    /// Each of these sees the fault, while it watches alone.
    pub(crate) fn is_seen_by(&self, checkers: &[&str]) {
        for checker in checkers {
            let violated = (0..SEEDS).find_map(|seed| self.run(seed, Some(checker)).err());
            let violated = violated.unwrap_or_else(|| panic!("{checker} has noticed nothing"));
            println!("{violated}");
            assert_eq!(violated.violation.checker, *checker);
        }
    }

    /// How many nodes stop by themselves in the runs, while nobody watches.
    pub(crate) fn stops(&self) -> u64 {
        let stops = |seed| {
            let simulation = Simulation::new(seed).bounds(self.bounds.clone()).watched_by(&[]);
            let simulation = simulation.machine(self.machine).workload((self.workload)());
            let report =
                simulation.run_with(&self.plant).unwrap_or_else(|failure| panic!("{failure}"));
            report.counts.stops
        };
        (0..10).map(stops).sum()
    }

    fn run(&self, seed: u64, watched_by: Option<&str>) -> Result<(), Violated> {
        let simulation = Simulation::new(seed).bounds(self.bounds.clone());
        let simulation = match watched_by {
            Some(checker) => simulation.watched_by(&[checker]),
            None => simulation,
        };
        let simulation = simulation.machine(self.machine).workload((self.workload)());
        match simulation.run_with(&self.plant) {
            Ok(_) => Ok(()),
            Err(Failure::Violated(violated)) => Err(violated),
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Without the fault, nothing is violated in the first of these runs.
    pub(crate) fn would_be_fine_without(&self) -> &Planted<M, W> {
        for seed in 0..10 {
            let simulation = Simulation::new(seed).bounds(self.bounds.clone());
            let simulation = simulation.machine(self.machine).workload((self.workload)());
            simulation.run().unwrap_or_else(|failure| panic!("{failure}"));
        }
        self
    }
}

/// Runs of a few seconds, with these kinds of faults.
pub(crate) fn bounds(seconds: u64, faults: &str) -> Bounds {
    Bounds {
        clients: Some(3),
        operations: Some(usize::try_from(seconds).unwrap() * 10),
        duration: SECOND * u32::try_from(seconds).unwrap(),
        faults: Faults::parse(faults).unwrap(),
        ..Bounds::default()
    }
}
