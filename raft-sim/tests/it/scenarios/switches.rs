//! Nodes of one cluster whose settings of PreVote and CheckQuorum differ, as during an upgrade: etcd #8501,
//! raft-rs #42 and #84.

use raft_sim::NodeSetup;

use super::ledger::raft_with;
use super::stand::SECOND;

/// Each of three nodes has one of four mixes.
const MIXES: u64 = 4 * 4 * 4;

/// The mix that a seed stands for: two bits a node.
fn set_up(seed: u64, setup: &mut NodeSetup) {
    let core = &mut setup.options.core;
    let bits = seed >> (2 * (core.id.0 - 1));
    core.pre_vote = bits & 1 == 1;
    core.check_quorum = bits & 2 == 2;
}

/// Whoever was cut off comes back with a high term and a short log, and the leader is gone: the third must be elected,
/// although the first refuses its lower term, and although it cannot win itself.
#[test]
fn mixed_pre_vote_and_check_quorum_elect_a_leader_from_a_low_term_and_a_high_one() {
    raft_with(3, 0..2 * MIXES, set_up, |stand| async move {
        stand.commit(3).await;
        for round in 0..3 {
            let leader = stand.one_leader().await;
            let (behind, ahead) = (stand.after(leader, 1), stand.after(leader, 2));
            stand.cut(behind);
            for _ in 0..3 {
                stand.commit(2).await;
            }
            // Without PreVote its term grows all the while.
            stand.sleep(5 * SECOND).await;
            stand.cut(leader);
            // The other one may raise its term as well, or not.
            if round == 1 {
                stand.sleep(3 * SECOND).await;
            }
            stand.connect(behind);
            assert_eq!(stand.one_leader().await, ahead, "the only one with all entries");
            stand.commit(2).await;
            stand.connect(leader);
            stand.commit(3).await;
        }
    });
}

/// A node is set up anew and restarted while the others go on, one after the other. It comes back with PreVote, the high
/// term from before and a short log, at the moment at which the leader is gone: neither of the two that are left may
/// wait for the other for ever.
#[test]
fn mixed_pre_vote_and_check_quorum_commit_throughout_a_rolling_change() {
    raft_with(3, 0..MIXES, set_up, |stand| async move {
        stand.commit(3).await;
        for id in stand.ids() {
            stand.cut(id);
            stand.sleep(3 * SECOND).await;
            stand.crash(id);
            stand.cluster.set_up(id, |setup| {
                setup.options.core.pre_vote = true;
                setup.options.core.check_quorum = true;
            });
            stand.commit(2).await;
            let leader = stand.one_leader().await;
            stand.cut(leader);
            stand.connect(id);
            stand.start(id);
            stand.commit(2).await;
            stand.connect(leader);
            stand.commit(3).await;
        }
    });
}
