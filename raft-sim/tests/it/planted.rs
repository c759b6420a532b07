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
        if let Some(w) = watched { simulation = simulation.watched_by(w); }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.machine(machine).workload(workload()).run_with(|c| plant(c))));
        match outcome {
            Err(_) => { println!("PANIC seed {seed}"); }
            Ok(Ok(_)) => clean += 1,
            Ok(Err(Failure::Violated(v))) => {
                let e = caught.entry(v.violation.checker.clone()).or_insert((0, seed, v.violation.problem.clone()));
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
    let five = ["election safety", "log matching", "leader completeness", "state machine safety", "durability", "exactly once", "linearizability"];
    for lie in [Lie::AcknowledgesBeforeDurable, Lie::ForgetsSynced { syncs: 3 }, Lie::FallsBack { syncs: 1 }, Lie::FallsBack { syncs: 5 }] {
        for w in std::iter::once(None).chain(five.iter().map(Some)) {
            let bounds = Bounds { nodes: Some(3), duration: 15 * SECOND, clients: Some(3), operations: Some(150), faults: Faults::parse("kills,power-losses").unwrap(), ..Bounds::default() };
            let w2 = w.map(|w| [*w]);
            hunt(&format!("{lie:?}"), w2.as_ref().map(|w| &w[..]), &bounds, seeds, Registers::default, ReadsAndWrites::default, |c| {
                for id in [1, 2] { c.disk(NodeId(id)).lie(Some(lie)); }
            });
        }
    }
}

#[test]
#[ignore]
fn explore_network() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let five = ["election safety", "leader append-only", "log matching", "leader completeness", "state machine safety", "durability", "exactly once", "linearizability"];
    for lie in [NetworkLie::AnswersForAnother, NetworkLie::RepeatsRequests, NetworkLie::AnswersOfAnotherCall] {
        for w in std::iter::once(None).chain(five.iter().map(Some)) {
            let bounds = Bounds { duration: 15 * SECOND, clients: Some(3), operations: Some(150), ..Bounds::default() };
            let w2 = w.map(|w| [*w]);
            hunt(&format!("{lie:?}"), w2.as_ref().map(|w| &w[..]), &bounds, seeds, accounts::Accounts::default, accounts::requests, |c| {
                c.network().lie(Some(lie));
            });
        }
    }
}

#[test]
#[ignore]
fn explore_others() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let bounds = Bounds { duration: 15 * SECOND, clients: Some(3), operations: Some(150), ..Bounds::default() };
    hunt("honest", None, &bounds, seeds, accounts::Accounts::default, accounts::requests, |_| ());
    hunt("bonus", None, &bounds, seeds, accounts::PaysABonus::default, accounts::requests, |_| ());
    hunt("merges", None, &bounds, seeds, accounts::Merges::default, accounts::requests, |_| ());
    hunt("panics", None, &bounds, seeds, accounts::Panics::default, accounts::requests, |_| ());
    hunt("repeats", None, &bounds, seeds, accounts::Accounts::default, || clients::Maybe::Repeated, |_| ());
    hunt("taken for no", None, &bounds, seeds, accounts::Accounts::default, || clients::Maybe::TakenForNo, |_| ());
}

#[test]
#[ignore]
fn explore_liveness() {
    use futures::FutureExt;
    use raft_sim::disk::Speed;
    use raft_sim::event::Site;
    use raft_sim::executor::WORLD;
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let bounds = Bounds { nodes: Some(3), duration: 3 * SECOND, clients: Some(3), operations: Some(20), faults: Faults::parse("kills").unwrap(), ..Bounds::default() };
    let acts: [(&str, fn(&Cluster<Registers>, NodeId)); 5] = [
        ("stuck", |c, id| c.disk(id).set_stuck_until(Some(SECOND * 3600))),
        ("slow", |c, id| c.disk(id).set_speed(Speed { factor: 50_000, ..Speed::default() })),
        ("paused", |c, id| c.pause(id)),
        ("wiped", |c, id| { c.crash(id, raft_sim::event::Crash::Killed); c.disk(id).wipe(); c.start(id); }),
        ("cut", |c, id| for o in c.ids() { if o != id { c.network().cut(Site::Node(id), Site::Node(o)); c.network().cut(Site::Node(o), Site::Node(id)); } }),
    ];
    for (name, act) in acts {
        for who in [&[1u64][..], &[1, 2]] {
            hunt(&format!("{name} {who:?}"), None, &bounds, seeds, Registers::default, ReadsAndWrites::default, |c| {
                let cluster = c.clone();
                let task = async move {
                    cluster.sleep(3 * SECOND + SECOND / 1000).await;
                    loop { for id in who { act(&cluster, NodeId(*id)); }
                    cluster.sleep(SECOND / 10).await; }
                };
                c.executor().spawn(WORLD, "fault", task.boxed());
            });
        }
    }
    let bounds = Bounds { draws_settings: false, ..bounds };
    hunt("fast clock", None, &bounds, seeds, Registers::default, ReadsAndWrites::default, |c| for id in c.ids() { c.set_up(id, |s| s.clock.drift_ppm = 1_000_000); });
    hunt("chunks", None, &bounds, seeds, Registers::default, || ReadsAndWrites { registers: 5, value_bytes_max: 1_000_000 }, |c| for id in c.ids() { c.set_up(id, |s| { s.options.snapshot_chunk_bytes = 100_000_000; s.options.core.limits.message_bytes_max = 100_000_000; s.options.snapshot_log_bytes = 100_000; }); });
}
