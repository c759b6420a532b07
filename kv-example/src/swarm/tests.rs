//! Seeds of the swarm, and faults that it finds: clients that believe too much, machines that do what the store must not do.

mod clients;
mod machines;
mod remembering;

use raft_sim::plan::Bounds;
use raft_sim::{Failure, Simulation, Violated};

use super::*;

/// Within so many seeds each fault must show.
const SEEDS: u64 = 200;

/// Short runs: what is planted shows often.
fn bounds() -> Bounds {
    Bounds { duration: Duration::from_secs(20), operations: Some(250), ..Bounds::default() }
}

/// What is seen first of a fault, by any checker or by the one that watches alone.
fn found<M: StateMachine, W: Workload<Machine = M>>(
    machine: impl Fn() -> M + Send + Sync + Copy + 'static,
    workload: impl Fn() -> W,
    watched_by: Option<&str>,
) -> Violated {
    let run = |seed| {
        let simulation = Simulation::new(seed).bounds(bounds());
        let simulation = match watched_by {
            Some(checker) => simulation.watched_by(&[checker]),
            None => simulation,
        };
        match simulation.machine(machine).workload(workload()).run() {
            Ok(_) => None,
            Err(Failure::Violated(violated)) => Some(violated),
            Err(failure) => panic!("{failure}"),
        }
    };
    let violated = (0..SEEDS).find_map(run).expect("nobody has noticed anything");
    println!("{violated}");
    violated
}

#[test]
fn clusters_of_the_store_survive_whatever_the_seeds_say() {
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in 0..20 {
        let run = Simulation::new(seed).machine(store).workload(Clerks::default());
        let report = run.run().unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.undecided, None);
        for (what, count) in report.counts.workload {
            *counts.entry(what).or_default() += count;
        }
    }
    // Each of them happens.
    for what in [
        "entries without a new command",
        "events watched",
        "exactly once",
        "leases ended by time",
        "leases found ended",
        "leases granted",
        "leases kept alive",
        "nodes that have forgotten",
        "no room for a session",
        "pages",
        "set exactly once",
        "watches that came to the end",
        "watches that came too late",
    ] {
        assert!(counts.get(what).is_some_and(|count| *count >= 5), "{what}: {counts:?}");
    }
}
