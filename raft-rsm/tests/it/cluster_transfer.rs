//! The lead is handed over: on request, and by a leader that is shut down.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Options, ProposeError, Runtime, TransferError, Uncertain};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    the_lead_goes_to_whom_it_is_handed
    the_lead_goes_to_the_best_where_nobody_is_named
    a_transfer_that_cannot_be_is_refused
    a_transfer_to_a_node_that_is_gone_ends_and_proposals_go_on
    a_leader_that_is_shut_down_leaves_a_new_one_behind
    what_is_pending_at_a_leader_that_is_shut_down_is_answered
    a_node_that_has_nobody_to_hand_the_lead_to_shuts_down_at_once
    a_leader_whose_successor_does_not_answer_shuts_down_after_an_election_timeout
}

type On = Arc<dyn Runtime>;

/// So long that whoever leads next was told to: nobody has waited.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(3);

fn slow_to_elect(options: &mut Options) {
    options.core.election_timeout = ELECTION_TIMEOUT;
}

/// Does something, which takes less than an election timeout.
fn without_an_election_timeout<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> T {
    let began = cluster.runtime.now();
    let result = work();
    let took = cluster.runtime.now().saturating_sub(began);
    assert!(took < ELECTION_TIMEOUT, "it took {took:?}");
    result
}

fn the_lead_goes_to_whom_it_is_handed(runtime: On) {
    let cluster = Cluster::with(3, runtime, slow_to_elect);
    let mut leader = cluster.leader();
    without_an_election_timeout(&cluster, || {
        for to in cluster.others(leader).into_iter().chain([leader]) {
            let handed = cluster.block_on(cluster.raft(leader).transfer_leadership(Some(to)));
            assert_eq!(handed, Ok(to));
            assert_eq!(cluster.leader(), to);
            leader = to;
            cluster.block_on(cluster.raft(leader).propose(Command::Inc)).expect("applied");
        }
    });
}

fn the_lead_goes_to_the_best_where_nobody_is_named(runtime: On) {
    let cluster = Cluster::with(3, runtime, slow_to_elect);
    let old = cluster.leader();
    cluster.block_on(cluster.raft(old).propose(Command::Inc)).expect("applied");
    // One of the two cannot keep up.
    let [behind, best] = cluster.others(old)[..] else { panic!("three nodes") };
    cluster.replicas[&behind].storage.writes.hold();
    for n in 2..=5 {
        assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(n));
    }
    let handed = cluster.block_on(cluster.raft(old).transfer_leadership(None));
    assert_eq!(handed, Ok(best));
    assert_eq!(cluster.leader_of(&[old, best]), best);
}

fn a_transfer_that_cannot_be_is_refused(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let transfer = |at: NodeId, to: Option<NodeId>| {
        cluster.block_on(cluster.raft(at).transfer_leadership(to)).unwrap_err()
    };
    let follower = cluster.others(leader)[0];
    let elsewhere = TransferError::NotLeader { leader: Some(leader) };
    assert_eq!(transfer(follower, None), elsewhere);
    assert_eq!(transfer(leader, Some(leader)), TransferError::LeadsAlready);
    assert_eq!(transfer(leader, Some(NodeId(9))), TransferError::NoCandidate);
    assert_eq!(cluster.leader(), leader);
    cluster.block_on(cluster.raft(leader).shutdown());
    assert_eq!(transfer(leader, None), TransferError::Stopped);
}

fn a_transfer_to_a_node_that_is_gone_ends_and_proposals_go_on(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let to = cluster.others(leader)[0];
    cluster.network.isolate(to);
    let raft = cluster.raft(leader).clone();
    let first = cluster.in_background({
        let raft = raft.clone();
        async move { raft.transfer_leadership(Some(to)).await }
    });
    cluster.eventually("its begin", || cluster.status(leader).transferring == Some(to));
    let second = cluster.block_on(raft.transfer_leadership(None));
    assert_eq!(second, Err(TransferError::InProgress { to }));
    // Whoever proposes meanwhile is sent to whom the lead goes.
    let refused = cluster.block_on(raft.propose(Command::Dec));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(to) }));
    assert_eq!(cluster.block_on(first).expect("answered"), Err(TransferError::TimedOut { to }));
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
    assert_eq!(cluster.status(leader).transferring, None);
}

fn a_leader_that_is_shut_down_leaves_a_new_one_behind(runtime: On) {
    let cluster = Cluster::with(3, runtime, slow_to_elect);
    let old = cluster.leader();
    cluster.block_on(cluster.raft(old).propose(Command::Inc)).expect("applied");
    without_an_election_timeout(&cluster, || {
        cluster.block_on(cluster.raft(old).shutdown());
        let new = cluster.leader_of(&cluster.others(old));
        cluster.block_on(cluster.raft(new).propose(Command::Inc)).expect("applied");
    });
    // A follower has nothing to hand over.
    let next = cluster.leader_of(&cluster.others(old));
    let follower = cluster.others(old).into_iter().find(|id| *id != next).expect("a follower");
    without_an_election_timeout(&cluster, || {
        cluster.block_on(cluster.raft(follower).shutdown());
    });
}

/// It waits for the answers that are on their way, so "maybe" is the exception.
fn what_is_pending_at_a_leader_that_is_shut_down_is_answered(runtime: On) {
    let cluster = Cluster::with(3, runtime, slow_to_elect);
    let old = cluster.leader();
    let raft = cluster.raft(old).clone();
    let first = cluster.status(old).last;
    let pending = cluster.in_background({
        let raft = raft.clone();
        async move { join_all((0..200).map(|_| raft.propose(Command::Inc))).await }
    });
    cluster.eventually("their begin", || cluster.status(old).last > first);
    cluster.block_on(raft.shutdown());
    let answers = cluster.block_on(pending).expect("answered");
    let applied = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(applied > 0);
    for answer in answers {
        assert!(!answer.is_err_and(|error| error.may_take_effect()), "it was for it to wait");
    }
    let new = cluster.leader_of(&cluster.others(old));
    let value = cluster.block_on(cluster.raft(new).query(())).expect("answered");
    assert_eq!(value, applied as u64);
}

fn a_node_that_has_nobody_to_hand_the_lead_to_shuts_down_at_once(runtime: On) {
    // Alone, and without a quorum.
    for count in [1, 3] {
        let mut cluster = Cluster::with(count, Arc::clone(&runtime), |options| {
            options.core.check_quorum = false;
            options.core.election_timeout = Duration::from_millis(500);
        });
        let leader = cluster.leader();
        cluster.block_on(cluster.raft(leader).propose(Command::Inc)).expect("applied");
        for id in cluster.others(leader) {
            let _disk = cluster.crash(id);
        }
        // Until they pass for dead.
        cluster.put_ahead(Duration::from_millis(600));
        let began = cluster.runtime.now();
        cluster.block_on(cluster.raft(leader).shutdown());
        let took = cluster.runtime.now().saturating_sub(began);
        assert!(took < Duration::from_millis(500), "of {count}: {took:?}");
    }
}

fn a_leader_whose_successor_does_not_answer_shuts_down_after_an_election_timeout(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    cluster.block_on(cluster.raft(leader).propose(Command::Inc)).expect("applied");
    // They pass for alive for a while yet.
    cluster.network.isolate(leader);
    let last = cluster.status(leader).last;
    let raft = cluster.raft(leader).clone();
    let pending = cluster.in_background({
        let raft = raft.clone();
        async move { raft.propose(Command::Dec).await }
    });
    cluster.eventually("its entry", || cluster.status(leader).last > last);
    let began = cluster.runtime.now();
    cluster.block_on(raft.shutdown());
    let took = cluster.runtime.now().saturating_sub(began);
    assert!(took < Duration::from_secs(2), "it waited for {took:?}");
    let answer = cluster.block_on(pending).expect("answered");
    assert_eq!(answer, Err(ProposeError::Maybe(Uncertain::Stopped)));
}
