//! Disks, networks, clocks and nodes that are not what they should be.

use futures::FutureExt;
use raft_rsm::StateMachine;
use raft_rsm::raft_core::{Lease, NodeId};
use raft_sim::disk::{self, Speed};
use raft_sim::event::{Crash, Site};
use raft_sim::executor::WORLD;
use raft_sim::network;
use raft_sim::plan::Bounds;
use raft_sim::registers::{ReadsAndWrites, Registers};
use raft_sim::{Cluster, Workload};

use super::accounts::{Accounts, requests};
use super::{Planted, SECOND, bounds};

const MINUTE: u32 = 60;

/// What a majority that forgets can break.
const BROKEN_BY_FORGETTING: [&str; 6] = [
    "election safety",
    "log matching",
    "leader completeness",
    "state machine safety",
    "exactly once",
    "linearizability",
];

/// The disks of three nodes lie, and the machines lose power: what was acknowledged may be gone from a majority.
fn disks_that_lie(lie: disk::Lie) -> Planted<Registers, ReadsAndWrites> {
    let bounds = Bounds { nodes: Some(3), ..bounds(15, "kills,power-losses") };
    Planted::new(bounds, Registers::default, ReadsAndWrites::default).with(move |cluster| {
        for id in cluster.ids() {
            cluster.disk(id).lie(Some(lie));
        }
    })
}

#[test]
fn disks_that_acknowledge_before_it_is_durable_are_caught() {
    disks_that_lie(disk::Lie::AcknowledgesBeforeDurable)
        .would_be_fine_without()
        .is_seen_first_by(&["durability"])
        .is_seen_by(&BROKEN_BY_FORGETTING);
}

#[test]
fn disks_that_forget_a_synced_write_on_a_majority_are_caught() {
    disks_that_lie(disk::Lie::ForgetsSynced { syncs: 3 })
        .is_seen_first_by(&["durability"])
        .is_seen_by(&BROKEN_BY_FORGETTING);
}

#[test]
fn nodes_that_come_back_without_their_vote_are_caught() {
    disks_that_lie(disk::Lie::FallsBack { syncs: 5 })
        .is_seen_first_by(&["durability"])
        .is_seen_by(&BROKEN_BY_FORGETTING);
}

fn network_that_lies(lie: network::Lie) -> Planted<Accounts, impl Workload<Machine = Accounts>> {
    Planted::new(bounds(15, "all"), Accounts::default, requests)
        .with(move |cluster| cluster.network().lie(Some(lie)))
}

#[test]
fn a_network_that_answers_for_another_is_caught() {
    network_that_lies(network::Lie::AnswersForAnother)
        .is_seen_first_by(&["leader completeness", "liveness"])
        .is_seen_by(&[
            "leader completeness",
            "state machine safety",
            "exactly once",
            "linearizability",
        ]);
}

#[test]
fn a_network_that_repeats_requests_is_caught() {
    network_that_lies(network::Lie::RepeatsRequests)
        .is_seen_first_by(&["exactly once"])
        .is_seen_by(&["linearizability"]);
}

#[test]
fn a_network_that_gives_the_answer_to_another_call_is_caught() {
    network_that_lies(network::Lie::AnswersOfAnotherCall).is_seen_first_by(&["linearizability"]);
}

/// When nothing should be wrong any more, this is, again and again, at these nodes of three.
fn for_ever(
    nodes: &'static [u64],
    wrong: fn(&Cluster<Registers>, NodeId),
) -> Planted<Registers, ReadsAndWrites> {
    let bounds = Bounds { nodes: Some(3), ..bounds(3, "none") };
    let duration = bounds.duration;
    Planted::new(bounds, Registers::default, ReadsAndWrites::default).with(move |cluster| {
        let at = cluster.clone();
        let task = async move {
            at.sleep(duration).await;
            loop {
                at.sleep(SECOND / 10).await;
                nodes.iter().for_each(|id| wrong(&at, NodeId(*id)));
            }
        };
        cluster.executor().spawn(WORLD, "fault", task.boxed());
    })
}

fn cut_off<M: StateMachine>(cluster: &Cluster<M>, node: NodeId) {
    for other in cluster.ids().into_iter().filter(|other| *other != node) {
        cluster.network().cut(Site::Node(node), Site::Node(other));
        cluster.network().cut(Site::Node(other), Site::Node(node));
    }
}

#[test]
fn what_is_wrong_for_ever_at_one_node_is_caught() {
    let stuck = |cluster: &Cluster<Registers>, id| {
        cluster.disk(id).set_stuck_until(Some(cluster.now() + SECOND * MINUTE));
    };
    let slow = |cluster: &Cluster<Registers>, id| {
        cluster.disk(id).set_speed(Speed { factor: 100_000, ..Speed::default() });
    };
    let wiped = |cluster: &Cluster<Registers>, id| {
        cluster.crash(id, Crash::Killed);
        cluster.disk(id).wipe();
        cluster.start(id);
    };
    let faults: [fn(&Cluster<Registers>, NodeId); 5] =
        [stuck, slow, wiped, Cluster::pause, cut_off];
    for fault in faults {
        for_ever(&[2], fault).is_seen_first_by(&["liveness"]);
    }
}

#[test]
fn a_majority_that_stands_still_for_ever_is_caught() {
    let stuck = |cluster: &Cluster<Registers>, id| {
        cluster.disk(id).set_stuck_until(Some(cluster.now() + SECOND * MINUTE));
    };
    let faults: [fn(&Cluster<Registers>, NodeId); 3] = [stuck, Cluster::pause, cut_off];
    for fault in faults {
        for seed in 0..10 {
            // There may be a leader all the time: it can do nothing for its clients.
            let violated = for_ever(&[1, 2], fault).run(seed, None).unwrap_err();
            assert_eq!(violated.violation.checker, "liveness", "{violated}");
        }
    }
}

/// Settings of the nodes that the budgets know nothing of.
fn nodes_that_differ(
    bounds: Bounds,
    workload: fn() -> ReadsAndWrites,
    differ: fn(&mut raft_sim::NodeSetup),
) -> Planted<Registers, ReadsAndWrites> {
    Planted::new(bounds, Registers::default, workload).with(move |cluster| {
        for id in cluster.ids() {
            cluster.set_up(id, differ);
        }
    })
}

#[test]
fn clocks_at_twice_the_speed_are_caught() {
    let workload = ReadsAndWrites::default;
    nodes_that_differ(Bounds { nodes: Some(3), ..bounds(3, "none") }, workload, |setup| {
        setup.clock.drift_ppm = 1_000_000;
    })
    .would_be_fine_without()
    .is_seen_first_by(&["budgets"]);
}

/// Node 1 of five is made the leader and cut off from the others, but not from the clients, again and again. Its clock and
/// that of node 2 run so fast, all others' so much, and leases state such a bound.
fn leases(drifts_ppm: [i32; 2], clock_drift_ppm: u32) -> Planted<Registers, ReadsAndWrites> {
    let bounds = Bounds {
        nodes: Some(5),
        clients: Some(5),
        operations: Some(1500),
        draws_settings: false,
        ..bounds(15, "none")
    };
    let workload = || ReadsAndWrites { registers: 1, value_bytes_max: 10 };
    Planted::new(bounds, Registers::default, workload).with(move |cluster| {
        for id in cluster.ids() {
            cluster.set_up(id, |setup| {
                setup.options.core.lease = Some(Lease { clock_drift_ppm });
                setup.clock.drift_ppm = drifts_ppm[usize::from(id.0 > 2)];
            });
        }
        let at = cluster.clone();
        let task = async move {
            let first = NodeId(1);
            while at.now() < SECOND * 13 {
                at.sleep(SECOND).await;
                if let Some(leader) = at.leader().and_then(|leader| at.replica(leader)) {
                    let _ = leader.transfer_leadership(Some(first)).await;
                }
                at.sleep(SECOND).await;
                let others = at.ids().into_iter().filter(|id| *id != first).map(Site::Node);
                for other in others.clone() {
                    at.network().cut(Site::Node(first), other);
                    at.network().cut(other, Site::Node(first));
                }
                at.sleep(SECOND * 2).await;
                for other in others {
                    at.network().mend(Site::Node(first), other);
                    at.network().mend(other, Site::Node(first));
                }
            }
        };
        cluster.executor().spawn(WORLD, "fault", task.boxed());
    })
}

/// The lease of node 1 outlives an election among the others: its clock runs at less than a third of the speed.
#[test]
fn clocks_that_drift_beyond_the_bound_of_the_leases_are_caught() {
    leases([-700_000, 0], 1000).is_seen_first_by(&["linearizability"]);
}

#[test]
fn clocks_that_drift_within_the_bound_of_the_leases_are_survived() {
    for seed in 0..40 {
        let planted = leases([-200_000, 50_000], 200_000);
        planted.run(seed, None).unwrap_or_else(|violated| panic!("{violated}"));
    }
}

/// A disk is lost, and its node comes back as the incarnation that it was: what it has forgotten still counts.
#[test]
fn nodes_that_lose_their_disks_and_come_back_as_what_they_were_are_caught() {
    let bounds = Bounds { nodes: Some(3), ..bounds(15, "kills,partitions") };
    let planted = Planted::new(bounds, Registers::default, ReadsAndWrites::default);
    let planted = planted.with(|cluster| {
        let at = cluster.clone();
        let task = async move {
            for id in [1, 2, 3].map(NodeId).into_iter().cycle() {
                at.sleep(SECOND * 2).await;
                at.wipe_unnoticed(id);
                at.start(id);
            }
        };
        cluster.executor().spawn(WORLD, "fault", task.boxed());
    });
    planted.is_seen_first_by(&BROKEN_BY_FORGETTING).is_seen_by(&BROKEN_BY_FORGETTING);
}

#[test]
fn messages_that_are_longer_than_was_said_are_caught() {
    let bounds = Bounds { nodes: Some(3), draws_settings: false, ..bounds(8, "kills,partitions") };
    let workload = || ReadsAndWrites { registers: 5, value_bytes_max: 300_000 };
    nodes_that_differ(bounds, workload, |setup| {
        setup.options.core.limits.message_bytes_max = usize::MAX;
    })
    .is_seen_first_by(&["budgets"]);
}

#[test]
fn memory_that_is_held_for_longer_than_was_said_is_caught() {
    let workload = || ReadsAndWrites { registers: 5, value_bytes_max: 2000 };
    nodes_that_differ(bounds(10, "none"), workload, |setup| {
        setup.options.core.limits.tail_bytes_max = usize::MAX;
    })
    .would_be_fine_without()
    .is_seen_first_by(&["budgets"]);
}
