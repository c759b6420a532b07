//! Replicas that are told the same and are no longer alike.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use raft_rsm::raft_core::{LogIndex, NodeId};
use raft_rsm::{Options, Runtime, StopReason};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    replicas_that_are_alike_go_on
    a_replica_that_differs_from_the_majority_stops_and_the_others_go_on
    a_leader_that_differs_from_the_majority_stops_and_another_one_leads
    two_replicas_that_differ_both_report_and_go_on
    a_divergence_outlives_a_snapshot_and_a_restart
    a_replica_that_comes_back_alike_is_reported_no_longer
    nothing_is_compared_where_it_is_turned_off
}

type On = Arc<dyn Runtime>;

const CHECK_ENTRIES: u64 = 10;

fn often(options: &mut Options) {
    options.divergence_check_entries = CHECK_ENTRIES;
    options.snapshot_log_bytes = u64::MAX;
}

/// Has its machine answer otherwise from now on.
fn corrupt(cluster: &Cluster, id: NodeId) {
    cluster.replicas[&id].probe.lies.store(true, Ordering::SeqCst);
}

fn inc(cluster: &Cluster, at: NodeId, times: u64) {
    for _ in 0..times {
        cluster.block_on(cluster.raft(at).propose(Command::Inc)).expect("applied");
    }
}

/// The replica stops, and says which of its marks was the first to differ.
fn diverges(cluster: &Cluster, id: NodeId) -> (LogIndex, Option<LogIndex>) {
    let reason = cluster.block_on(cluster.raft(id).stopped());
    assert!(reason.to_string().contains("has diverged from the majority"), "{reason}");
    match reason {
        StopReason::Diverged { index, agreed, own, majority } => {
            assert_ne!(own, majority);
            (index, agreed)
        }
        reason => panic!("{reason}"),
    }
}

fn replicas_that_are_alike_go_on(runtime: On) {
    let cluster = Cluster::with(3, runtime, often);
    let leader = cluster.leader();
    inc(&cluster, leader, 100);
    cluster.all_show(100);
    for id in cluster.replicas.keys() {
        let status = cluster.status(*id);
        assert!(status.running && status.diverged.is_none(), "{status:?}");
    }
}

fn a_replica_that_differs_from_the_majority_stops_and_the_others_go_on(runtime: On) {
    let cluster = Cluster::with(3, runtime, often);
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    inc(&cluster, leader, 25);
    cluster.all_show(25);
    corrupt(&cluster, victim);
    let right = cluster.status(victim).applied;
    inc(&cluster, leader, 25);

    let (index, agreed) = diverges(&cluster, victim);
    assert_eq!(index.0 % CHECK_ENTRIES, 0);
    assert!(index > right && agreed.is_none_or(|agreed| agreed <= right), "{agreed:?}, {index}");
    for id in [leader, cluster.others(leader)[1]] {
        cluster.eventually("report", || cluster.status(id).diverged.is_some());
        assert_eq!(cluster.status(id).diverged.map(|found| found.peer), Some(victim));
    }
    inc(&cluster, leader, 10);
}

fn a_leader_that_differs_from_the_majority_stops_and_another_one_leads(runtime: On) {
    let cluster = Cluster::with(3, runtime, often);
    let client = cluster.client();
    let victim = cluster.leader();
    corrupt(&cluster, victim);
    for _ in 0..CHECK_ENTRIES {
        let inc = client.propose_until_answered(&Command::Inc);
        cluster.block_on(inc).expect("applied");
    }
    diverges(&cluster, victim);
    let leader = cluster.leader_of(&cluster.others(victim));
    inc(&cluster, leader, 10);
}

fn two_replicas_that_differ_both_report_and_go_on(runtime: On) {
    let cluster = Cluster::with(2, runtime, often);
    let leader = cluster.leader();
    let other = cluster.others(leader)[0];
    corrupt(&cluster, other);
    inc(&cluster, leader, 25);
    for (id, peer) in [(leader, other), (other, leader)] {
        cluster.eventually("report", || cluster.status(id).diverged.is_some());
        assert_eq!(cluster.status(id).diverged.map(|found| found.peer), Some(peer));
    }
    inc(&cluster, leader, 25);
    cluster.all_show(50);
    assert!(cluster.status(leader).running && cluster.status(other).running);
}

/// The machine answers right again, from a state that nobody can trust.
fn a_divergence_outlives_a_snapshot_and_a_restart(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, often);
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    corrupt(&cluster, victim);
    inc(&cluster, leader, 3);
    cluster.eventually("commands", || cluster.seen(victim).value == 3);
    cluster.block_on(cluster.raft(victim).snapshot()).expect("taken");
    let disk = cluster.crash(victim);
    cluster.restart(victim, disk);
    cluster.eventually("restored state", || cluster.seen(victim).restores == 1);
    inc(&cluster, leader, 20);
    let (index, agreed) = diverges(&cluster, victim);
    assert_eq!((index.0 % CHECK_ENTRIES, agreed), (0, None));
}

fn a_replica_that_comes_back_alike_is_reported_no_longer(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, often);
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    corrupt(&cluster, victim);
    inc(&cluster, leader, 20);
    diverges(&cluster, victim);
    cluster.eventually("report", || cluster.status(leader).diverged.is_some());
    // Its log was right: only what it made of it was not, and there is no snapshot of that.
    let disk = cluster.crash(victim);
    cluster.restart(victim, disk);
    inc(&cluster, leader, 20);
    cluster.all_show(40);
    cluster.eventually("no report", || {
        cluster.replicas.keys().all(|id| cluster.status(*id).diverged.is_none())
    });
    assert!(cluster.status(victim).running);
}

fn nothing_is_compared_where_it_is_turned_off(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| options.divergence_check_entries = 0);
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    corrupt(&cluster, victim);
    inc(&cluster, leader, 50);
    cluster.all_show(50);
    assert!(cluster.status(victim).running && cluster.status(leader).diverged.is_none());
}
