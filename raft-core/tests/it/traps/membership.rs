//! Changes of membership, and what they leave behind.

use raft_core::{
    ChangeError, Configuration, Incarnation, Input, Member, Message, Node, NodeId, Options,
    RestoreError, Restored, Role, SnapshotMeta, TransferError,
};

use crate::harness::*;
use crate::members::*;

/// Ongaro 2015: two leaders, each with an uncommitted change of the same configuration by one server, have quorums that do
/// not meet. Here the second one neither begins before an entry of its own term is committed, nor by less than a joint
/// configuration.
#[test]
fn two_leaders_with_changes_of_their_own_commit_nothing_apart() {
    let mut cluster = Cluster::in_configuration("1 2 3 4", &[5]);
    cluster.elect(1);
    cluster.partition(&[1, 5]);
    // It stays at the first leader, and its new server.
    cluster.at(1).change("1 2 3 4 5").unwrap();
    cluster.at(1).persist_all();
    cluster.run(1_500);
    let second = cluster.newest_leader();
    cluster.change(second, "2 3 4");
    let committed = cluster.at(second).applied_ids();
    assert_eq!(cluster.in_force(second), "2 3 4");
    assert_eq!(cluster.at(1).commit(), 1, "1 and 5 are no quorum");
    cluster.heal();
    cluster.run(3_000);
    let leader = cluster.newest_leader();
    let applied = cluster.at(leader).applied_ids();
    assert!(applied.starts_with(&committed));
}

/// raft-rs, openraft PR 1871: a joint configuration that is stranded when its leader dies half-way.
#[test]
fn the_next_leader_leaves_a_joint_configuration_wherever_the_first_one_died() {
    for deliveries in 0..12 {
        let mut cluster = Cluster::in_configuration("1 2 3", &[4, 5]);
        cluster.elect(1);
        cluster.change(1, "1 2 3 +4 +5");
        cluster.at(1).change("3 4 5").unwrap();
        let mut was_joint = false;
        for _ in 0..deliveries {
            cluster.deliver();
            for id in 1..=5 {
                cluster.at(id).persist();
            }
            was_joint |= cluster.replicas.values().any(|r| r.node.configuration().is_joint());
        }
        cluster.kill(1);
        cluster.run(5_000);
        let leader = cluster.newest_leader();
        let expected = if was_joint { "3 4 5" } else { "1 2 3 +4 +5" };
        let in_force = cluster.in_force(leader);
        assert!(in_force == expected || in_force == "1 2 3 +4 +5", "{deliveries}: {in_force}");
        assert!(cluster.at(leader).node.configuration_is_committed());
        cluster.at(leader).propose("x");
        cluster.settle();
        assert!(text(&cluster.at(leader).applied).ends_with('x'));
    }
}

/// etcd #11038: a removed leader that lingers.
#[test]
fn a_removed_leader_makes_room_at_once() {
    let mut cluster = Cluster::in_configuration("1 2 3", &[]);
    cluster.elect(1);
    let before = [2, 3].map(|id| cluster.at(id).now);
    cluster.change(1, "2 3");
    assert_eq!(cluster.role(1), Role::Follower);
    let leader = cluster.newest_leader();
    assert_ne!(leader, 1);
    assert_eq!([2, 3].map(|id| cluster.at(id).now), before, "without an election timeout");
    cluster.at(leader).propose("x");
    cluster.settle();
    assert!(text(&cluster.at(leader).applied).ends_with('x'));
}

/// etcd #10563: of two voters one is removed, and never hears that.
#[test]
fn of_two_voters_the_one_that_is_removed_hears_of_it() {
    for removed in [1, 2] {
        let mut cluster = Cluster::in_configuration("1 2", &[]);
        cluster.elect(1);
        let stays = 3 - removed;
        cluster.change(1, &stays.to_string());
        cluster.run(100);
        assert_eq!(cluster.leaders(), [stays]);
        assert_eq!(cluster.in_force(removed), stays.to_string());
        assert!(cluster.at(removed).node.configuration_is_committed());
        let term = cluster.term(stays);
        cluster.run(5_000);
        assert_eq!((cluster.role(removed), cluster.term(stays)), (Role::Follower, term));
    }
}

/// etcd #10563: and if it cannot hear it, it disturbs nobody.
#[test]
fn who_cannot_hear_of_its_removal_disturbs_nobody_when_it_is_back() {
    let mut cluster = Cluster::in_configuration("1 2", &[]);
    cluster.elect(1);
    cluster.at(1).change("1").unwrap();
    while cluster.in_force(1) != "1" {
        cluster.deliver();
        cluster.at(1).persist();
        cluster.at(2).persist();
    }
    cluster.kill(2);
    cluster.settle();
    assert_eq!(cluster.at(1).outcomes(), [Ok("1".to_owned())]);
    cluster.run(5_000);
    cluster.restart(2);
    cluster.run(5_000);
    assert_eq!((cluster.leaders(), cluster.term(1).0), (vec![1], 1));
    assert!(cluster.at(2).node.configuration().is_joint());
}

/// etcd/raft #43, #354: a change that is refused, and nobody says so.
#[test]
fn every_change_that_is_not_begun_is_an_error_and_every_other_has_an_outcome() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    assert!(matches!(leader.change("2 3"), Err(ChangeError::InProgress { .. })));
    leader.receive_in(2, 2, heartbeat(0, 1));
    assert!(matches!(leader.change("1"), Err(ChangeError::NotLeader { .. })));
    assert_eq!(leader.outcomes().len(), 1, "of the one that was begun");
}

/// openraft #1805: the lead is handed over to a node that does not know yet that it is a voter, and so does not campaign.
#[test]
fn the_target_of_a_transfer_has_the_entry_that_made_it_a_voter_before_it_is_told() {
    let mut leader = Replica::leader_in("1 2 3 +4");
    assert_eq!(leader.node.transfer_leadership(Some(NodeId(4))), Err(TransferError::NoCandidate));
    leader.change("1 2 3 4").unwrap();
    leader.acknowledge(&[2, 4]);
    leader.acknowledge(&[2, 3]);
    leader.acknowledge(&[2, 3]);
    assert_eq!(leader.in_force(), "1 2 3 4");
    assert!(leader.peer(4).matched < leader.node.last().index);
    leader.sent.clear();
    leader.node.transfer_leadership(Some(NodeId(4))).unwrap();
    leader.drain();
    assert!(!leader.sent_to(4).contains(&Message::TimeoutNow));
    leader.acknowledge(&[4]);
    assert!(leader.sent_to(4).contains(&Message::TimeoutNow));
}

/// openraft #898, TigerBeetle's recovery notes: what a wiped node has forgotten may elect a leader that lacks it.
#[test]
fn a_wiped_voter_neither_votes_nor_acknowledges_before_it_is_a_member_again() {
    let mut candidate = Replica::candidate_in("1 2 3");
    candidate.receive_as(2, 7, GRANTED);
    assert_eq!(candidate.node.role(), Role::Candidate);
    assert_eq!(candidate.node.counters().forgotten_incarnations, 1);
    candidate.receive(3, GRANTED);
    candidate.persist_all();
    candidate.receive_as(2, 7, accepted(1));
    candidate.receive_as(2, 7, Message::HeartbeatResponse { round: 0, received: index(0) });
    assert_eq!(candidate.commit(), 0);
    assert_eq!(candidate.node.counters().forgotten_incarnations, 3);
    candidate.receive(2, accepted(1));
    assert_eq!(candidate.commit(), 1);
}

#[test]
fn a_wiped_voter_does_not_campaign_though_the_log_names_it() {
    for (incarnation, role) in [(0, Role::PreCandidate), (1, Role::Follower)] {
        let disk =
            Disk { incarnation: Incarnation(incarnation), ..Disk::empty(Configuration::default()) };
        let mut wiped = Replica::start(Options::new(NodeId(3)), disk);
        wiped.receive_in(1, 1, append(id(0, 0), vec![change_entry(1, 1, "1 2 3 +4")], 1));
        wiped.persist_all();
        for _ in 0..10 {
            wiped.tick(1_000);
        }
        assert_eq!((wiped.in_force().as_str(), wiped.node.role()), ("1 2 3 +4", role));
    }
}

/// Votes that were given under an incarnation stay what they were: who is wiped may have granted one in this very term.
#[test]
fn a_wiped_node_that_knows_of_no_members_grants_no_vote() {
    let mut wiped = Replica::first_in(3, "");
    let campaign = raft_core::Term(1);
    wiped.receive_in(0, 1, Message::PreVote { campaign, last: id(0, 0) });
    wiped.receive_in(1, 1, Message::RequestVote { last: id(0, 0), transfer: false });
    wiped.persist_all();
    let denied = Message::PreVoteResponse { campaign, granted: false };
    assert_eq!(wiped.sent_to(1), [denied, DENIED]);
}

/// Found by random stories: the first configuration names no incarnations, and comes back to a wiped node in a snapshot. It
/// passed for the only voter, and led in a term that another node led, too.
#[test]
fn a_wiped_node_is_not_meant_by_a_configuration_that_names_no_incarnation() {
    let unnamed = Configuration::of_members([Member::new(NodeId(1), "")], [], []);
    let mut founder = Replica::start(Options::new(NodeId(1)), Disk::empty(unnamed.clone()));
    founder.persist_all();
    assert_eq!(founder.node.role(), Role::Leader);
    let incarnation = Incarnation(1);
    let mut wiped = Replica::start(
        Options::new(NodeId(1)),
        Disk { incarnation, ..Disk::empty(Configuration::default()) },
    );
    let meta = SnapshotMeta::new(id(1, 5), unnamed);
    wiped.disk.snapshot = Some(meta.clone());
    wiped.receive_in(2, 2, heartbeat(0, 1));
    wiped.step(Input::SnapshotReceived(meta));
    for _ in 0..10 {
        wiped.persist_all();
        wiped.tick(1_000);
    }
    assert_eq!((wiped.node.role(), wiped.node.term().0), (Role::Follower, 2));
    wiped.sent.clear();
    wiped.receive_in(3, 2, Message::RequestVote { last: id(2, 9), transfer: false });
    wiped.persist_all();
    assert_eq!(wiped.sent_to(2), [DENIED]);
}

/// So a node that joins has a name before it is a voter, and has the entry that names it.
#[test]
fn who_joins_without_a_name_is_named_before_it_becomes_a_voter() {
    let mut leader = Replica::leader_in("1");
    let target = leader.node.configuration().with_voter(Member::new(NodeId(2), ""));
    leader.change_to(&target).unwrap();
    leader.persist_all();
    assert_eq!(leader.in_force(), "1 +2");
    leader.receive_as(2, 5, accepted(2));
    let named = leader.node.configuration().learners().to_vec();
    assert_eq!(named, [incarnated(2, 5)]);
    leader.persist_all();
    leader.receive_as(2, 5, accepted(2));
    assert_eq!(leader.in_force(), "1 +2", "it does not know its name yet");
    leader.receive_as(2, 5, accepted(3));
    assert_eq!(leader.in_force(), "1 2 <1");
    assert_eq!(leader.node.configuration().voters()[1], incarnated(2, 5));
}

#[test]
fn a_wiped_voter_comes_back_as_a_learner_of_its_new_incarnation_and_then_as_a_voter() {
    for directly in [false, true] {
        let mut cluster = Cluster::in_configuration("1 2 3", &[]);
        cluster.elect(1);
        cluster.at(1).propose("x");
        cluster.settle();
        cluster.wipe(3);
        let anew = incarnated(3, 1);
        let configuration = cluster.at(1).node.configuration().clone();
        if !directly {
            cluster.at(1).change_to(&configuration.with_learner(anew.clone())).unwrap();
            cluster.run(500);
            assert_eq!(cluster.in_force(1), "1 2 +3");
            assert_eq!(cluster.in_force(3), "1 2 +3");
        }
        let target = configuration.with_voter(anew);
        cluster.at(1).change_to(&target).unwrap();
        cluster.run(500);
        assert_eq!(cluster.at(1).changes.last(), Some(&Ok(target)));
        // It counts: with it there is a quorum without node 2.
        cluster.kill(2);
        cluster.at(1).propose("y");
        cluster.settle();
        assert!(
            text(&cluster.at(3).applied).ends_with("x 1 2 3 +3 1 2 3 <1 <2 <3 1 2 3 y")
                || !directly
        );
        assert!(text(&cluster.at(1).applied).ends_with('y'));
        cluster.kill(1);
        cluster.restart(2);
        cluster.run(3_000);
        let leader = cluster.newest_leader();
        assert!(text(&cluster.at(leader).applied).contains('y'));
    }
}

/// In the joint configuration on the way the old half counts neither what the node was nor what it is.
#[test]
fn on_the_way_back_of_a_wiped_voter_its_forgotten_half_counts_for_nothing() {
    let mut leader = Replica::leader_in("1 2 3");
    let target = leader.node.configuration().with_learner(incarnated(3, 7));
    leader.change_to(&target).unwrap();
    assert_eq!(leader.in_force(), "1 2 <1 <2 <3 +3");
    leader.persist_all();
    leader.receive(3, accepted(2));
    leader.receive_as(3, 7, accepted(2));
    assert_eq!(leader.commit(), 1);
    leader.receive(2, accepted(2));
    assert_eq!(leader.commit(), 2);
}

/// A target that names most of the voters under other incarnations would lead into a joint configuration whose old half
/// nobody can speak for: it would never be left.
#[test]
fn a_change_that_forgets_most_voters_is_refused() {
    let mut leader = Replica::leader_in("1 2 3");
    let target = |voters: [(u64, u64); 3]| {
        let voters = voters.map(|(id, incarnation)| incarnated(id, incarnation));
        Configuration::of_members(voters, [], [])
    };
    for forgetful in [[(1, 0), (2, 7), (3, 7)], [(1, 7), (2, 0), (3, 0)]] {
        let refused = leader.change_to(&target(forgetful));
        assert!(matches!(refused, Err(ChangeError::Invalid(_))), "{refused:?}");
        assert_eq!((leader.in_force().as_str(), leader.node.last()), ("1 2 3", id(1, 1)));
    }
    leader.change_to(&target([(1, 0), (2, 0), (3, 7)])).unwrap();
}

/// The incarnations of a first configuration are not known yet. To name those that are heard is no change of who votes.
#[test]
fn a_target_that_names_incarnations_as_they_are_heard_needs_no_joint_configuration() {
    let mut leader = Replica::start(Options::new(NodeId(1)), Disk::empty(unnamed(&[1, 2, 3])));
    leader.elect();
    let target = configuration("1 2 3");
    let refused = leader.change_to(&target);
    assert!(matches!(refused, Err(ChangeError::Invalid(_))), "it has heard nobody: {refused:?}");
    leader.acknowledge(&[2]);
    leader.change_to(&target).unwrap();
    let mut joint = false;
    for _ in 0..4 {
        leader.acknowledge(&[2, 3]);
        joint |= leader.node.configuration().is_joint();
    }
    assert_eq!((leader.changes.as_slice(), joint), ([Ok(target)].as_slice(), false));
}

#[test]
fn incarnations_are_named_as_they_are_heard_and_from_then_on_no_other_counts() {
    let mut leader = Replica::start(Options::new(NodeId(1)), Disk::empty(unnamed(&[1, 2, 3])));
    leader.elect();
    leader.persist_all();
    leader.receive_as(2, 5, accepted(1));
    let named = leader.node.configuration();
    let incarnation = |id| named.member(NodeId(id)).unwrap().incarnation;
    assert_eq!([1, 2, 3].map(incarnation), [Some(Incarnation(0)), Some(Incarnation(5)), None]);
    leader.persist_all();
    leader.receive_as(2, 6, accepted(2));
    assert_eq!((leader.commit(), leader.node.counters().forgotten_incarnations), (1, 1));
    leader.receive_as(2, 5, accepted(2));
    assert_eq!(leader.commit(), 2);
}

/// It may have lost its disk in between, and then only its old incarnation would ever have counted.
#[test]
fn who_left_and_comes_back_without_a_name_starts_anew() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    leader.acknowledge(&[2]);
    leader.acknowledge(&[2]);
    let anew = Member::new(NodeId(3), "");
    let target = leader.node.configuration().with_learner(anew);
    leader.change_to(&target).unwrap();
    assert_eq!(leader.peer(3).matched, index(0));
    leader.acknowledge(&[2]);
    let last = leader.node.last().index.0;
    leader.receive_as(3, 7, accepted(last));
    assert_eq!(leader.peer(3).matched, index(last));
    assert_eq!(leader.node.counters().forgotten_incarnations, 0);
}

/// openraft #1808: members from before a snapshot survive it. Here it also takes with it a change that was under way.
#[test]
fn a_received_snapshot_replaces_configurations_that_are_not_committed() {
    let mut follower = Replica::first_of(3);
    let joint = change_entry(1, 2, "4 5 <1 <2 <3");
    follower.receive_in(1, 2, append(id(0, 0), vec![entry(1, 1), joint], 0));
    follower.persist_all();
    let meta = SnapshotMeta::new(id(2, 9), configuration("1 2 3 +6"));
    follower.disk.snapshot = Some(meta.clone());
    follower.step(Input::SnapshotReceived(meta));
    assert_eq!(follower.in_force(), "1 2 3 +6");
    // Also when the process dies before the log is reset, and after.
    follower.crash();
    assert_eq!(follower.in_force(), "1 2 3 +6");
    follower.persist_all();
    follower.crash();
    assert_eq!(follower.in_force(), "1 2 3 +6");
}

/// etcd PR 13760: a snapshot in the middle of a change carries the members at its index, and not the latest.
#[test]
fn a_snapshot_amid_a_change_carries_the_configuration_at_its_index() {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let mut disk = Disk::with_log(configuration("1 2 3"), &[1; 5], 1, 5);
    disk.entries[1] = change_entry(1, 2, "1 2 3 +4");
    disk.entries[3] = change_entry(1, 4, "1 2 3 4 <1 <2 <3");
    let mut replica = Replica::start(options, disk);
    replica.read_all();
    let metas = [(1, "1 2 3"), (3, "1 2 3 +4"), (4, "1 2 3 4 <1 <2 <3")];
    for (at, expected) in metas {
        let meta = SnapshotMeta::new(id(1, at), configuration(expected));
        replica.disk.snapshot = Some(meta.clone());
        replica.step(Input::SnapshotTaken(meta));
        replica.persist_all();
        assert_eq!(members(&replica.disk.start.configuration), expected, "compacted to {at}");
        assert_eq!(replica.in_force(), "1 2 3 4 <1 <2 <3");
        replica.crash();
        replica.read_all();
        assert_eq!(replica.in_force(), "1 2 3 4 <1 <2 <3", "restarted from {at}");
    }
}

/// Who joined later knows of no configuration before the first change. Its snapshot from then must not make voters forget
/// that they are.
#[test]
fn a_snapshot_from_before_the_first_change_leaves_the_first_configuration_in_force() {
    let mut follower = Replica::first_of(3);
    let meta = SnapshotMeta::new(id(1, 5), Configuration::default());
    follower.disk.snapshot = Some(meta.clone());
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.step(Input::SnapshotReceived(meta));
    assert_eq!(follower.in_force(), "1 2 3");
    let before_the_reset = Node::new(follower.options.clone(), follower.disk.restored()).unwrap();
    assert_eq!(members(before_the_reset.configuration()), "1 2 3");
    follower.persist_all();
    follower.crash();
    assert_eq!(follower.in_force(), "1 2 3");
}

/// etcd #12704, of a change: the leader that is leaving holds a lease by the promise of the one that stays.
#[test]
fn who_becomes_the_only_voter_waits_for_the_lease_of_the_leader_that_makes_it_so() {
    let mut options = Options::new(NodeId(2));
    options.lease = Some(raft_core::Lease { clock_drift_ppm: 0 });
    let mut disk = Disk::with_log(configuration("1 2"), &[1; 3], 1, 2);
    disk.entries[1] = change_entry(1, 2, "2 <1 <2");
    disk.entries[2] = change_entry(1, 3, "2");
    let mut stays = Replica::start(options.clone(), disk.clone());
    assert_eq!(stays.node.role(), Role::Follower, "node 1 may lead");
    stays.receive_in(1, 1, heartbeat(2, 1));
    stays.tick(499);
    assert_eq!((stays.node.role(), stays.node.term().0), (Role::Follower, 1));
    stays.time_out();
    stays.persist_all();
    assert_eq!(stays.node.role(), Role::Leader);
    // When it is known to be committed, there is nobody else.
    disk.hard_state.commit = index(3);
    let mut alone = Replica::start(options, disk);
    alone.read_all();
    alone.persist_all();
    assert_eq!(alone.node.role(), Role::Leader);
}

/// Else a vote of any incarnation would count for it where a log ends there, also that of a disk which was wiped since.
#[test]
fn a_voter_that_joins_has_a_name_in_every_configuration_in_which_it_votes() {
    let mut cluster = Cluster::new((1..=2).map(|id| Replica::first_in(id, "1 2")));
    let disk = Disk { incarnation: Incarnation(5), ..Disk::empty(Configuration::default()) };
    cluster.replicas.insert(3, Replica::start(Options::new(NodeId(3)), disk));
    cluster.elect(1);
    let target = cluster.at(1).node.configuration().with_voter(Member::new(NodeId(3), ""));
    cluster.at(1).change_to(&target).expect("begun");
    cluster.run(1000);
    assert_eq!(members(cluster.at(1).node.configuration()), "1 2 3");
    let all = configurations(&cluster.at(1).disk.entries);
    let voters = all.iter().flat_map(|(_, configuration)| configuration.voters());
    let named: Vec<_> = voters.filter(|v| v.id == NodeId(3)).map(|v| v.incarnation).collect();
    assert!(named.len() >= 2 && named.iter().all(|name| *name == Some(Incarnation(5))), "{all:?}");
}

/// It could never vote, and nobody would say why.
#[test]
fn a_node_that_never_ran_is_not_started_under_another_incarnation_than_it_is_named_by() {
    let named = Configuration::new([1, 2, 3].map(NodeId), []);
    let start = |configuration: &Configuration| {
        let restored = Restored::first_start(configuration.clone());
        let restored = Restored { incarnation: Incarnation(5), ..restored };
        Node::new(Options::new(NodeId(1)), restored)
    };
    let error = start(&named).unwrap_err();
    let own = RestoreError::OtherIncarnation { id: NodeId(1), incarnation: Incarnation(5) };
    assert_eq!(error, own);
    for other in [named.unnamed(), named.without_member(NodeId(1)), Configuration::default()] {
        assert!(start(&other).is_ok(), "{other:?}");
    }
}
