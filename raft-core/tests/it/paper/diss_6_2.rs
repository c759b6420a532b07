//! diss. §6.2 Routing requests to the leader: CheckQuorum.

use raft_core::{LogIndex, Message, NodeId, Options, ProposeError, Role, Term};

use crate::harness::*;

/// "A leader in Raft steps down if an election timeout elapses without a successful round of heartbeats to a majority
/// of its cluster."
#[test]
fn a_leader_steps_down_if_an_election_timeout_elapses_without_a_majority_of_its_cluster() {
    let mut leader = Replica::leader_of(5);
    // One of five answers: with the leader itself, two.
    let mut elapsed = 0;
    while leader.node.role() == Role::Leader {
        leader.tick(100);
        elapsed += 100;
        let round = leader.last_round(2).unwrap_or(0);
        leader.receive(2, Message::HeartbeatResponse { round, received: LogIndex(1) });
        assert!(elapsed <= 600, "it still leads");
    }
    assert!(elapsed >= 500, "after {elapsed} ms");
    assert_eq!((leader.node.role(), leader.node.term()), (Role::Follower, Term(1)));
    let refused = leader.node.propose("x".into());
    assert_eq!(
        refused,
        Err(ProposeError::NotLeader { leader: None }),
        "the client may go elsewhere"
    );
}

#[test]
fn a_leader_that_hears_a_majority_does_not_step_down() {
    let mut leader = Replica::leader_of(5);
    for i in 0..100 {
        leader.sent.clear();
        leader.tick(100);
        // Heartbeat answers and acknowledgements both count, and not always the same followers give them.
        let round = leader.last_round(2).unwrap();
        leader.receive(2 + i % 4, Message::HeartbeatResponse { round, received: LogIndex(1) });
        leader.receive(2 + (i + 1) % 4, accepted(1));
        assert_eq!(leader.node.role(), Role::Leader);
    }
}

/// Learners are no part of any majority.
#[test]
fn learners_keep_no_leader_in_office() {
    let members = raft_core::Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId));
    let mut leader = Replica::leader(Options::new(NodeId(1)), Disk::empty(members));
    for _ in 0..10 {
        leader.tick(100);
        for learner in [4, 5] {
            leader.receive_in(1, learner, accepted(1));
        }
    }
    assert_eq!(leader.node.role(), Role::Follower);
}

/// A process that was paused knows it before it answers anything: the time comes first.
#[test]
fn a_leader_that_was_paused_steps_down_before_it_takes_what_has_queued_up() {
    let mut leader = Replica::leader_of(3);
    leader.tick(10_000);
    assert_eq!(leader.node.role(), Role::Follower);
}

#[test]
fn the_only_voter_never_steps_down() {
    let mut leader = Replica::leader_of(1);
    leader.tick(100_000);
    assert_eq!(leader.node.role(), Role::Leader);
}

#[test]
fn without_check_quorum_a_leader_stays() {
    let options = Options { check_quorum: false, ..Options::new(NodeId(1)) };
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.tick(100_000);
    assert_eq!(leader.node.role(), Role::Leader);
}

/// Followers that the old leader cannot reach elect another, and the old one follows it once they meet.
#[test]
fn a_leader_in_a_minority_gives_way() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.run(300);
    cluster.partition(&[1, 2]);
    cluster.at(1).propose("lost");
    cluster.run(5000);
    assert_ne!(cluster.at(1).node.role(), Role::Leader);
    let leader = cluster.leaders()[0];
    assert!([3, 4, 5].contains(&leader));
    cluster.at(leader).propose("kept");
    cluster.run(300);
    cluster.heal();
    cluster.run(5000);
    for node in 1..=5 {
        assert_eq!(text(&cluster.at(node).applied), "- - kept", "at {node}");
        assert_eq!(cluster.at(node).node.leader(), Some(NodeId(leader)));
    }
}
