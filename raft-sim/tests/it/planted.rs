//! Faults planted at the boundary, and the checkers that must catch them.

mod accounts;
mod clients;

use std::time::Duration;

use raft_rsm::StateMachine;
use raft_rsm::raft_core::NodeId;
use raft_sim::disk::Lie;
use raft_sim::network::Lie as NetworkLie;
use raft_sim::plan::Bounds;
use raft_sim::registers::{ReadsAndWrites, Registers};
use raft_sim::{Cluster, Failure, Faults, Simulation, Workload};

const SECOND: Duration = Duration::from_secs(1);

fn hunt<M: StateMachine, W: Workload<Machine = M>>(
    name: &str,
    watched: Option<&[&str]>,
    bounds: &Bounds,
    seeds: u64,
    machine: fn() -> M,
    workload: impl Fn() -> W,
    plant: impl Fn(&Cluster<M>),
) {
    let began = std::time::Instant::now();
    let mut caught = std::collections::BTreeMap::<String, (u64, u64, String)>::new();
    let mut clean = 0;
    for seed in 0..seeds {
        let mut simulation = Simulation::new(seed).bounds(bounds.clone());
        if let Some(w) = watched {
            simulation = simulation.watched_by(w);
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            simulation.machine(machine).workload(workload()).run_with(|c| plant(c))
        }));
        match outcome {
            Err(_) => {
                println!("PANIC seed {seed}");
            }
            Ok(Ok(_)) => clean += 1,
            Ok(Err(Failure::Violated(v))) => {
                let e = caught.entry(v.violation.checker.clone()).or_insert((
                    0,
                    seed,
                    v.violation.problem.clone(),
                ));
                e.0 += 1;
            }
            Ok(Err(e)) => panic!("{e}"),
        }
    }
    println!("== {name} {watched:?}: clean {clean} of {seeds} in {:?}", began.elapsed());
    for (c, (n, seed, p)) in caught {
        println!("     {c}: {n}, first {seed}: {}", p.lines().next().unwrap_or(""));
    }
}

#[test]
#[ignore]
fn explore_disks() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let five = [
        "election safety",
        "log matching",
        "leader completeness",
        "state machine safety",
        "durability",
        "exactly once",
        "linearizability",
    ];
    for lie in [
        Lie::AcknowledgesBeforeDurable,
        Lie::ForgetsSynced { syncs: 3 },
        Lie::FallsBack { syncs: 1 },
        Lie::FallsBack { syncs: 5 },
    ] {
        for w in std::iter::once(None).chain(five.iter().map(Some)) {
            let bounds = Bounds {
                nodes: Some(3),
                duration: 15 * SECOND,
                clients: Some(3),
                operations: Some(150),
                faults: Faults::parse("kills,power-losses").unwrap(),
                ..Bounds::default()
            };
            let w2 = w.map(|w| [*w]);
            hunt(
                &format!("{lie:?}"),
                w2.as_ref().map(|w| &w[..]),
                &bounds,
                seeds,
                Registers::default,
                ReadsAndWrites::default,
                |c| {
                    for id in [1, 2] {
                        c.disk(NodeId(id)).lie(Some(lie));
                    }
                },
            );
        }
    }
}

#[test]
#[ignore]
fn explore_network() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let five = [
        "election safety",
        "leader append-only",
        "log matching",
        "leader completeness",
        "state machine safety",
        "durability",
        "exactly once",
        "linearizability",
    ];
    for lie in [
        NetworkLie::AnswersForAnother,
        NetworkLie::RepeatsRequests,
        NetworkLie::AnswersOfAnotherCall,
    ] {
        for w in std::iter::once(None).chain(five.iter().map(Some)) {
            let bounds = Bounds {
                duration: 15 * SECOND,
                clients: Some(3),
                operations: Some(150),
                ..Bounds::default()
            };
            let w2 = w.map(|w| [*w]);
            hunt(
                &format!("{lie:?}"),
                w2.as_ref().map(|w| &w[..]),
                &bounds,
                seeds,
                accounts::Accounts::default,
                accounts::requests,
                |c| {
                    c.network().lie(Some(lie));
                },
            );
        }
    }
}

#[test]
#[ignore]
fn explore_others() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let bounds = Bounds {
        duration: 15 * SECOND,
        clients: Some(3),
        operations: Some(150),
        ..Bounds::default()
    };
    hunt("honest", None, &bounds, seeds, accounts::Accounts::default, accounts::requests, |_| ());
    hunt("bonus", None, &bounds, seeds, accounts::PaysABonus::default, accounts::requests, |_| ());
    hunt("merges", None, &bounds, seeds, accounts::Merges::default, accounts::requests, |_| ());
    hunt("panics", None, &bounds, seeds, accounts::Panics::default, accounts::requests, |_| ());
    hunt(
        "repeats",
        None,
        &bounds,
        seeds,
        accounts::Accounts::default,
        || clients::Maybe::Repeated,
        |_| (),
    );
    hunt(
        "taken for no",
        None,
        &bounds,
        seeds,
        accounts::Accounts::default,
        || clients::Maybe::TakenForNo,
        |_| (),
    );
}
