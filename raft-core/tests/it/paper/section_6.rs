//! §6: cluster membership changes, by joint consensus.

use raft_core::{ChangeFailed, Message, NodeId, Options, Role};

use crate::harness::*;
use crate::members::*;

#[test]
fn the_cluster_first_switches_to_joint_consensus_and_once_that_is_committed_to_the_new_configuration()
 {
    let mut leader = Replica::leader_in("1 2 3 +4");
    leader.change("1 2 4").unwrap();
    // Node 4 has everything, so it may vote; else it would catch up first.
    leader.acknowledge(&[4]);
    assert_eq!(leader.in_force(), "1 2 4 <1 <2 <3");
    leader.acknowledge(&[2, 4]);
    assert_eq!((leader.in_force().as_str(), leader.commit()), ("1 2 4", 2));
    assert!(leader.outcomes().is_empty());
    leader.acknowledge(&[2]);
    assert_eq!(leader.outcomes(), [Ok("1 2 4".to_owned())]);
}

#[test]
fn log_entries_are_replicated_to_all_servers_in_both_configurations() {
    let mut leader = Replica::candidate_in("3 4 <1 <2 +5");
    for peer in 2..=4 {
        leader.receive(peer, GRANTED);
    }
    for peer in 2..=5 {
        assert_eq!(leader.appends_to(peer), [[1]], "to {peer}");
    }
}

#[test]
fn any_server_from_either_configuration_may_serve_as_leader() {
    for id in 1..=4 {
        let mut candidate = Replica::first_in(id, "3 4 <1 <2");
        candidate.elect();
    }
}

/// "Agreement (for elections and entry commitment) requires separate majorities from both the old and new
/// configurations."
#[test]
fn an_election_requires_separate_majorities_of_both_configurations() {
    let wins = |granted: &[u64]| {
        let mut candidate = Replica::candidate_in("1 4 5 <1 <2 <3");
        for peer in granted {
            candidate.receive(*peer, GRANTED);
        }
        candidate.node.role() == Role::Leader
    };
    assert!(!wins(&[2, 3]), "all of the old ones");
    assert!(!wins(&[4, 5]), "all of the new ones");
    assert!(wins(&[2, 4]));
    assert!(wins(&[5, 3]));
}

#[test]
fn commitment_requires_separate_majorities_of_both_configurations() {
    let commits = |acknowledged: &[u64]| {
        let mut leader = Replica::candidate_in("1 4 5 <1 <2 <3");
        leader.receive(2, GRANTED);
        leader.receive(4, GRANTED);
        leader.acknowledge(acknowledged);
        leader.commit() > 0
    };
    assert!(!commits(&[]));
    assert!(!commits(&[2, 3]), "all of the old ones");
    assert!(!commits(&[4, 5]), "all of the new ones");
    assert!(commits(&[2, 4]));
}

#[test]
fn the_cluster_continues_to_serve_requests_throughout_the_change() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[4, 5]);
    cluster.elect(1);
    cluster.at(1).change("1 4 5").unwrap();
    let mut proposed = Vec::new();
    for n in 0..40 {
        let id = cluster.at(1).propose(&format!("{n}"));
        proposed.push(id);
        cluster.deliver();
        for id in 1..=5 {
            cluster.at(id).persist();
        }
    }
    cluster.settle();
    assert_eq!(cluster.in_force(1), "1 4 5");
    for id in [1, 4, 5] {
        let applied = cluster.at(id).applied_ids();
        assert!(proposed.iter().all(|id| applied.contains(id)));
    }
}

#[test]
fn a_server_uses_a_configuration_for_all_decisions_once_it_is_in_its_log_committed_or_not() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, append(id(0, 0), vec![change_entry(1, 1, "1 <1 <2 <3")], 0));
    assert_eq!((follower.in_force().as_str(), follower.commit()), ("1 <1 <2 <3", 0));
    // Not even durable.
    assert!(follower.write.is_some());
    // Its own vote is all of the new configuration, so one more of the old one is enough.
    follower.persist_all();
    follower.time_out();
    follower.receive(
        3,
        Message::PreVoteResponse { campaign: follower.node.term().next(), granted: true },
    );
    follower.persist_all();
    follower.receive(3, GRANTED);
    assert_eq!(follower.node.role(), Role::Leader);
}

#[test]
fn a_configuration_that_is_overwritten_is_rolled_back() {
    let mut follower = Replica::first_of(3);
    let joint = change_entry(1, 2, "4 5 <1 <2 <3");
    follower.receive_in(1, 2, append(id(0, 0), vec![entry(1, 1), joint], 0));
    follower.persist_all();
    assert_eq!(follower.in_force(), "4 5 <1 <2 <3");
    follower.receive_in(2, 3, append(id(1, 1), vec![entry(2, 2)], 0));
    assert_eq!(follower.in_force(), "1 2 3");
    // And a restart does not bring it back, before or after the disk has followed.
    follower.persist_all();
    follower.crash();
    assert_eq!(follower.in_force(), "1 2 3");
}

#[test]
fn the_leader_uses_the_rules_of_the_joint_configuration_to_determine_when_that_is_committed() {
    let mut leader = Replica::leader_in("1 2 3 +4 +5");
    leader.change("4 5 1").unwrap();
    leader.acknowledge(&[4, 5]);
    assert_eq!(leader.in_force(), "1 4 5 <1 <2 <3");
    leader.acknowledge(&[4, 5]);
    assert_eq!(leader.in_force(), "1 4 5 <1 <2 <3", "the old configuration has no majority");
    leader.acknowledge(&[3]);
    assert_eq!(leader.in_force(), "1 4 5");
}

/// "... a new leader may be chosen under either C-old or C-old,new, depending on whether the winning candidate has
/// received C-old,new."
#[test]
fn when_the_leader_crashes_the_next_is_chosen_under_the_configuration_that_it_has_received() {
    for received in [false, true] {
        let mut cluster = Cluster::in_configuration("1 2 3", &[4]);
        cluster.elect(1);
        cluster.change(1, "1 2 3 +4");
        cluster.partition(&[1]);
        if received {
            cluster.heal();
            cluster.partition(&[1, 2]);
        }
        cluster.at(1).change("1 2 3 4").unwrap();
        cluster.at(1).persist_all();
        cluster.deliver();
        if received {
            // The joint configuration gets to node 2, and no acknowledgement back.
            cluster.at(1).receive(4, accepted(3));
            cluster.at(1).persist_all();
            cluster.deliver();
            cluster.at(2).persist_all();
        }
        cluster.kill(1);
        cluster.heal();
        let expected = if received { "1 2 3 4 <1 <2 <3" } else { "1 2 3 +4" };
        assert_eq!(cluster.in_force(2), expected);
        cluster.run(1500);
        let leader = cluster.newest_leader();
        let expected = if received { "1 2 3 4" } else { "1 2 3 +4" };
        assert_eq!(cluster.in_force(leader), expected, "the next leader finishes what it has");
    }
}

#[test]
fn without_the_old_configuration_the_new_one_decides_nothing_while_they_are_joint() {
    let mut cluster = Cluster::in_configuration("4 5 <1 <2 <3", &[]);
    cluster.partition(&[4, 5]);
    cluster.run(5_000);
    assert!(cluster.leaders().is_empty());
    cluster.heal();
    cluster.run(3_000);
    let leader = cluster.newest_leader();
    assert_eq!(cluster.in_force(leader), "4 5");
}

#[test]
fn servers_that_are_not_in_the_new_configuration_can_be_shut_down_once_it_is_committed() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[4, 5]);
    cluster.elect(1);
    cluster.change(1, "1 4 5");
    cluster.kill(2);
    cluster.kill(3);
    cluster.at(1).propose("x");
    cluster.settle();
    assert_eq!(text(&cluster.at(4).applied).split(' ').next_back(), Some("x"));
}

/// "... new servers join the cluster as non-voting members (the leader replicates log entries to them, but they are not
/// considered for majorities)."
#[test]
fn learners_get_the_log_and_are_not_considered_for_majorities() {
    let mut leader = Replica::leader_in("1 2 3 +4 +5");
    leader.propose("x");
    assert_eq!(leader.appends_to(4), [[2]]);
    leader.acknowledge(&[4, 5]);
    assert_eq!(leader.commit(), 1);
    leader.acknowledge(&[2]);
    assert_eq!(leader.commit(), 2);
    let mut candidate = Replica::candidate_in("1 2 3 +4 +5");
    candidate.receive(4, GRANTED);
    candidate.receive(5, GRANTED);
    assert_eq!(candidate.node.role(), Role::Candidate);
    let asked: Vec<u64> = candidate.sent.iter().map(|envelope| envelope.to.0).collect();
    assert!(!asked.contains(&4) && !asked.contains(&5));
}

#[test]
fn once_the_new_servers_have_caught_up_the_change_proceeds() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[4]);
    cluster.elect(1);
    for n in 0..20 {
        cluster.at(1).propose(&format!("{n}"));
    }
    cluster.cut.extend([(1, 4), (4, 1)]);
    cluster.change(1, "1 2 3 4");
    assert_eq!(cluster.in_force(1), "1 2 3 +4");
    cluster.heal();
    cluster.run(200);
    assert_eq!(cluster.in_force(4), "1 2 3 4");
    assert_eq!(cluster.at(1).outcomes(), [Ok("1 2 3 4".to_owned())]);
}

/// "In this case, the leader steps down (returns to follower state) once it has committed the C-new log entry. This means
/// that there will be a period of time (while it is committing C-new) when the leader is managing a cluster that does not
/// include itself; it replicates log entries but does not count itself in majorities."
#[test]
fn a_leader_that_is_not_in_the_new_configuration_steps_down_once_that_is_committed() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("2 3").unwrap();
    leader.acknowledge(&[2, 3]);
    assert_eq!(leader.in_force(), "2 3");
    let new = leader.node.last().index.0;
    leader.persist_all();
    assert_eq!((leader.node.role(), leader.commit()), (Role::Leader, new - 1));
    leader.propose("it still replicates");
    leader.receive(2, accepted(new));
    // With itself it would be two of three.
    assert_eq!((leader.node.role(), leader.commit()), (Role::Leader, new - 1));
    leader.sent.clear();
    leader.receive(3, accepted(new));
    assert_eq!((leader.node.role(), leader.commit()), (Role::Follower, new));
    assert_eq!(leader.outcomes(), [Ok("2 3".to_owned())]);
    // They hear that it is committed, and the best of them is told to follow.
    for peer in [2, 3] {
        let commit = Message::Heartbeat { commit: index(new), round: None };
        assert!(leader.sent_to(peer).contains(&commit), "{:?}", leader.sent_to(peer));
    }
    let told = leader.sent.iter().filter(|envelope| envelope.message == Message::TimeoutNow);
    assert_eq!(told.count(), 1);
}

#[test]
fn a_removed_leader_never_campaigns_again() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[]);
    cluster.elect(1);
    cluster.change(1, "2 3");
    assert_ne!(cluster.newest_leader(), 1);
    let term = cluster.term(2);
    cluster.run(5_000);
    assert_eq!((cluster.role(1), cluster.term(2), cluster.term(3)), (Role::Follower, term, term));
    assert_eq!(cluster.at(1).node.next_tick(), core::time::Duration::MAX);
}

/// "... if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader, it
/// does not update its term or grant its vote."
#[test]
fn removed_servers_disrupt_nobody_who_hears_a_leader() {
    // Without PreVote: what they send is RequestVote.
    let mut cluster = Cluster::new((1..=4).map(|id| {
        let options = Options { pre_vote: false, ..Options::new(NodeId(id)) };
        Replica::start(options, Disk::empty(configuration("1 2 3 4")))
    }));
    cluster.elect(1);
    cluster.partition(&[4]);
    cluster.change(1, "1 2 3");
    let term = cluster.term(1);
    cluster.run(3_000);
    cluster.heal();
    // It never heard of its removal, and nobody tells it any more.
    cluster.run(5_000);
    assert_eq!(cluster.in_force(4), "1 2 3 4");
    assert!(cluster.term(4) > term);
    assert_eq!(cluster.leaders(), [1]);
    assert_eq!([1, 2, 3].map(|id| cluster.term(id)), [term; 3]);
}

#[test]
fn the_outcome_of_a_change_names_the_configuration_when_the_lead_is_lost() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    leader.receive_in(2, 3, heartbeat(0, 1));
    let expected = configuration("1 2 <1 <2 <3");
    assert_eq!(leader.changes, [Err(ChangeFailed::LostLead { configuration: expected })]);
}
