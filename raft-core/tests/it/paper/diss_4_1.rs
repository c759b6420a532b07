//! diss. §4.1 to §4.3: safety of membership changes, availability, and arbitrary changes by joint consensus.

use raft_core::{ChangeError, ChangeFailed, Message, NodeId, Options, Replication, Role};

use crate::harness::*;
use crate::members::*;

/// The correction of the single-server algorithm (Ongaro 2015), kept for joint consensus, too: "a leader [may] not append a
/// C-new entry until it has committed an entry from its current term".
#[test]
fn a_change_waits_until_an_entry_of_the_leaders_own_term_is_committed() {
    let mut leader = Replica::candidate_in("1 2 3");
    leader.receive(2, GRANTED);
    leader.change("1 2").unwrap();
    leader.persist_all();
    leader.tick(100);
    assert_eq!((leader.in_force().as_str(), leader.commit()), ("1 2 3", 0));
    leader.receive(2, accepted(1));
    assert_eq!((leader.in_force().as_str(), leader.commit()), ("1 2 <1 <2 <3", 1));
}

/// diss. §4.1: "... the cluster's leader must not begin another change until the last one has committed."
#[test]
fn a_change_waits_until_the_configuration_before_it_is_committed() {
    let mut cluster = Cluster::in_configuration("1 2 3 +4", &[]);
    cluster.elect(1);
    // It is appended, gets to node 2 alone, and the leader dies.
    cluster.cut.extend([(1, 3), (1, 4)]);
    cluster.at(1).change("1 2 3").unwrap();
    cluster.deliver();
    cluster.at(2).persist();
    cluster.kill(1);
    let next = cluster.at(2);
    assert_eq!(next.in_force(), "1 2 3");
    next.elect();
    next.change("1 2 3 +5").unwrap();
    next.persist_all();
    assert_eq!(next.in_force(), "1 2 3", "{:?}", next.node.status());
    assert!(!next.node.configuration_is_committed());
    let last = next.node.last().index.0;
    next.receive(3, accepted(last));
    assert_eq!(next.in_force(), "1 2 3 +5");
}

#[test]
fn one_change_at_a_time_and_the_second_is_refused_with_the_configuration_in_force() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    let configuration = configuration("1 2 <1 <2 <3");
    assert_eq!(leader.change("1"), Err(ChangeError::InProgress { configuration }));
    // One that nobody here has asked for counts, too.
    let mut next = Replica::candidate_in("1 2 <1 <2 <3");
    next.receive(2, GRANTED);
    assert!(matches!(next.change("1"), Err(ChangeError::InProgress { .. })));
    leader.acknowledge(&[2]);
    leader.acknowledge(&[2]);
    assert_eq!(leader.outcomes(), [Ok("1 2".to_owned())]);
    assert_eq!(leader.change("1"), Ok(()));
}

/// diss. §4.2.1: "The replication of entries to the new server is split into rounds. Each round replicates all the log
/// entries present in the leader's log at the start of the round [...]. If the last round lasts less than an election
/// timeout, then the leader adds the new server to the cluster."
#[test]
fn a_new_server_catches_up_in_rounds_of_which_the_last_is_shorter_than_an_election_timeout() {
    let mut leader = Replica::leader_in("1 2 3 +4");
    leader.propose("before");
    leader.acknowledge(&[2, 3]);
    leader.change("1 2 3 4").unwrap();
    for _ in 0..3 {
        slow_round(&mut leader);
        assert_eq!(leader.in_force(), "1 2 3 +4", "the round took 600 ms");
    }
    leader.tick(300);
    leader.acknowledge(&[2, 3, 4]);
    assert_eq!(leader.in_force(), "1 2 3 4 <1 <2 <3");
}

/// Who does not know that it is a member grants no vote, and a voter may be needed at once.
#[test]
fn a_new_server_has_caught_up_only_with_the_configuration_that_made_it_a_learner() {
    let mut leader = Replica::leader_in("1");
    leader.change("1 2").unwrap();
    leader.acknowledge(&[]);
    leader.receive(2, accepted(1));
    leader.tick(100);
    assert_eq!((leader.in_force().as_str(), leader.commit()), ("1 +2", 2));
    leader.acknowledge(&[2]);
    assert_eq!(leader.in_force(), "1 2 <1");
}

/// diss. §4.2.1: "The algorithm waits a fixed number of rounds (such as 10). [...] Otherwise, the leader aborts the
/// configuration change with an error." "[It] should also abort the change if the new server is unavailable."
#[test]
fn a_server_that_is_too_slow_is_given_up_after_ten_rounds_with_the_configuration_in_force() {
    let mut leader = Replica::leader_in("1 2 3 +4");
    leader.propose("before");
    leader.acknowledge(&[2, 3]);
    leader.change("1 2 3 4").unwrap();
    for round in 1..=10 {
        assert!(leader.changes.is_empty(), "round {round}");
        slow_round(&mut leader);
    }
    let in_force = configuration("1 2 3 +4");
    let failed = ChangeFailed::NotCaughtUp { id: NodeId(4), configuration: in_force.clone() };
    assert_eq!(leader.changes, [Err(failed)]);
    assert_eq!(leader.in_force(), "1 2 3 +4");
    assert_eq!(leader.change("1 2 3 4"), Ok(()), "it may be asked for again");
}

#[test]
fn a_server_that_is_unavailable_is_given_up_in_time_and_stays_a_learner() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[4]);
    cluster.kill(4);
    cluster.elect(1);
    cluster.change(1, "1 2 3 4");
    cluster.run(59_000);
    assert!(cluster.at(1).changes.is_empty());
    cluster.run(2_000);
    let failed = "node 4 did not catch up; it may be made a voter later";
    assert_eq!(cluster.at(1).outcomes(), [Err(failed.to_owned())]);
    assert_eq!(cluster.in_force(1), "1 2 3 +4");
    // The cluster has not waited for it: it serves as before.
    cluster.at(1).propose("x");
    cluster.settle();
    assert!(text(&cluster.at(1).applied).ends_with('x'));
}

/// diss. §4.2.1: a server that is added without a log needs the snapshot, and until then no vote of it is needed.
#[test]
fn a_new_server_gets_the_snapshot_of_a_compacted_log_and_then_becomes_a_voter() {
    let start = |id: u64, text: &str| {
        let mut options = Options::new(NodeId(id));
        options.limits.kept_entries_max = 0;
        Replica::start(options, Disk::empty(configuration(text)))
    };
    let mut cluster = Cluster::new([start(1, "1 2"), start(2, "1 2"), start(3, "")]);
    cluster.elect(1);
    for n in 0..10 {
        cluster.at(1).propose(&format!("{n}"));
    }
    cluster.settle();
    cluster.at(1).take_snapshot(9);
    cluster.settle();
    cluster.change(1, "1 2 3");
    cluster.run(500);
    assert_eq!(cluster.in_force(3), "1 2 3");
    assert_eq!(cluster.at(3).restores.len(), 1);
    assert_eq!(cluster.at(1).peer(3).replication, Replication::Replicate);
}

/// diss. §4.2.2: "a leader that is removed from the configuration steps down once the C-new entry is committed", and "a server
/// that is not part of its own latest configuration should still start new elections, as it might still be needed until the
/// C-new entry is committed. It does not count its own vote in elections unless it is part of its latest configuration."
#[test]
fn a_server_that_is_not_part_of_its_latest_configuration_still_campaigns_until_that_is_committed() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[]);
    cluster.elect(1);
    cluster.at(1).change("2").unwrap();
    // All have the joint configuration. The new one gets to those who leave only, and the leader dies.
    for _ in 0..2 {
        cluster.deliver();
        for id in 1..=3 {
            cluster.at(id).persist();
        }
    }
    while cluster.in_force(1) != "2" {
        cluster.deliver();
        cluster.at(1).persist();
    }
    cluster.cut.insert((1, 2));
    cluster.deliver();
    cluster.at(3).persist();
    assert_eq!((cluster.in_force(2).as_str(), cluster.in_force(3).as_str()), ("2 <1 <2 <3", "2"));
    cluster.at(1).persist_all();
    cluster.kill(1);
    cluster.heal();
    // Node 2 has the shorter log, so only node 3 can win: by the vote of node 2 alone.
    cluster.run(5_000);
    assert_eq!((cluster.leaders(), cluster.in_force(2)), (vec![2], "2".to_owned()));
    assert_eq!(cluster.role(3), Role::Follower);
    let (commit, last) = (cluster.at(2).commit(), cluster.at(2).node.last().index.0);
    assert_eq!(commit, last);
}

/// Found by random stories. Node 5 was to become a voter; of that only node 3 knows, and needs its vote. Node 5 has heard of
/// a later leader since, which is gone: it is a learner again, with the longest log.
#[test]
fn a_learner_leads_for_a_moment_where_nobody_else_can() {
    let replica = |id: u64, terms: &[u64], term: u64| {
        let disk = Disk::with_log(configuration("1 2 3 +5"), terms, term, 1);
        Replica::start(Options::new(NodeId(id)), disk)
    };
    let mut joint = Disk::with_log(configuration("1 2 3 +5"), &[1, 1], 1, 1);
    joint.entries[1] = change_entry(1, 2, "1 2 5 <1 <2 <3");
    let third = Replica::start(Options::new(NodeId(3)), joint);
    let mut cluster =
        Cluster::new([replica(1, &[1], 1), replica(2, &[1], 1), third, replica(5, &[1, 2], 2)]);
    cluster.kill(2);
    cluster.run(60_000);
    let leader = cluster.newest_leader();
    assert_ne!(leader, 5);
    assert_eq!(cluster.in_force(leader), "1 2 3 +5");
    let id = cluster.at(leader).propose("x");
    cluster.settle();
    assert_eq!(cluster.at(5).applied_ids().last(), Some(&id));
}

#[test]
fn a_server_outside_of_its_latest_configuration_does_not_count_its_own_vote() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, append(id(0, 0), vec![change_entry(1, 1, "2 3 <1 <2 <3")], 1));
    replica.receive(2, append(id(1, 1), vec![change_entry(1, 2, "2 3")], 1));
    replica.persist_all();
    replica.time_out();
    let campaign = replica.node.term().next();
    replica.receive(3, Message::PreVoteResponse { campaign, granted: true });
    assert_eq!(replica.node.role(), Role::PreCandidate, "1 of 2, and not 2 of 3");
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    replica.persist_all();
    replica.receive(3, GRANTED);
    assert_eq!(replica.node.role(), Role::Candidate);
    replica.receive(2, GRANTED);
    assert_eq!(replica.node.role(), Role::Leader);
}

#[test]
fn a_removed_server_that_knows_that_its_removal_is_committed_never_campaigns() {
    let mut replica = Replica::first_of(3);
    let removal = vec![change_entry(1, 1, "2 3 <1 <2 <3"), change_entry(1, 2, "2 3")];
    replica.receive_in(1, 2, append(id(0, 0), removal, 2));
    replica.persist_all();
    for _ in 0..10 {
        replica.tick(1_000);
    }
    assert_eq!((replica.node.role(), replica.node.term().0), (Role::Follower, 1));
}

/// diss. §4.2.3: PreVote alone does not keep a removed server with an up-to-date log from disrupting; that others hear a
/// leader does. What such a server answers to the leader deposes it neither.
#[test]
fn what_a_removed_server_answers_in_a_later_term_deposes_nobody() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    leader.acknowledge(&[2, 3]);
    leader.acknowledge(&[2, 3]);
    leader.receive_in(9, 3, accepted(1));
    leader.receive_in(9, 3, Message::HeartbeatResponse { round: 0, received: index(1) });
    leader.receive_in(9, 3, Message::RequestVote { last: id(9, 9), transfer: false });
    assert_eq!((leader.node.role(), leader.node.term().0), (Role::Leader, 1));
    assert_eq!(leader.node.counters().misaddressed, 2);
}

/// diss. §4.3: "from any configuration to any other", and each of both majorities is asked.
#[test]
fn any_configuration_can_follow_upon_any_other() {
    let all = ["1", "1 2", "3", "4 5", "1 2 3", "3 4 5", "1 2 3 4 5", "2 4 +1", "1 +2 +3", "5 +4"];
    for from in all {
        for to in all {
            let spares: Vec<u64> =
                (1..=5).filter(|id| !configuration(from).contains(NodeId(*id))).collect();
            let mut cluster = Cluster::in_configuration(from, &spares);
            cluster.run(1_500);
            let leader = cluster.newest_leader();
            cluster.change(leader, to);
            cluster.run(3_000);
            assert_eq!(cluster.at(leader).outcomes(), [Ok(to.to_owned())], "from {from} to {to}");
            let leader = cluster.newest_leader();
            let id = cluster.at(leader).propose("x");
            cluster.settle();
            for member in configuration(to).members() {
                let applied = cluster.at(member.id.0).applied_ids();
                assert_eq!(applied.last(), Some(&id), "node {} of {to}", member.id);
            }
        }
    }
}

/// diss. §4.1: only addresses and learners differ, so there are no two majorities to be kept apart.
#[test]
fn a_change_of_addresses_or_learners_needs_no_joint_configuration() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2 3 +4").unwrap();
    assert_eq!(leader.in_force(), "1 2 3 +4");
    leader.acknowledge(&[2]);
    let mut moved = incarnated(3, 0);
    moved.address = "elsewhere:1".to_owned();
    let target = leader.node.configuration().with_voter(moved);
    leader.change_to(&target).unwrap();
    assert_eq!(leader.node.configuration(), &target);
    leader.acknowledge(&[2]);
    assert_eq!(leader.changes.pop(), Some(Ok(target)));
}

/// Node 4 takes 600 ms for what is in the log; meanwhile it grows.
fn slow_round(leader: &mut Replica) {
    let until = leader.node.last().index.0;
    leader.propose("meanwhile");
    for _ in 0..6 {
        leader.tick(100);
        answer_heartbeats(leader, &[2, 3, 4]);
    }
    leader.acknowledge(&[2, 3]);
    leader.receive(4, accepted(until));
}

/// What followers need to be heard, and no more.
fn answer_heartbeats(leader: &mut Replica, peers: &[u64]) {
    for peer in peers {
        let round = leader.last_round(*peer).expect("a heartbeat");
        leader.receive(*peer, Message::HeartbeatResponse { round, received: index(1) });
    }
    leader.sent.clear();
}
