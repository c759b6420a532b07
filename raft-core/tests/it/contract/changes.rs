//! Changes of membership: what is refused, and what comes of those that are begun.

use raft_core::{
    ChangeError, ChangeFailed, Configuration, Effects, Input, Member, Node, NodeId, Options,
    RestoreError, Role,
};

use crate::harness::*;
use crate::members::*;

/// Whether the node would do anything, and how it stands.
fn stands(replica: &mut Replica) -> (bool, raft_core::Status) {
    let mut effects = Effects::default();
    replica.node.drain(&mut effects);
    (effects.is_empty(), replica.node.status())
}

/// "Nothing is begun, now or later."
fn assert_refused(replica: &mut Replica, target: &Configuration) -> ChangeError {
    let before = stands(replica);
    let error = replica.node.change_membership(target).expect_err("it is to be refused");
    assert_eq!(stands(replica), before, "{error}");
    replica.tick(100);
    assert!(replica.changes.is_empty() && replica.write.is_none());
    error
}

#[test]
fn who_does_not_lead_refuses_and_names_the_leader() {
    let mut follower = Replica::first_of(3);
    let target = configuration("1 2");
    let refused = assert_refused(&mut follower, &target);
    assert_eq!(refused, ChangeError::NotLeader { leader: None });
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    let refused = assert_refused(&mut follower, &target);
    assert_eq!(refused, ChangeError::NotLeader { leader: Some(NodeId(2)) });
}

#[test]
fn a_second_change_is_refused_while_one_is_under_way() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    leader.persist_all();
    let configuration_in_force = configuration("1 2 <1 <2 <3");
    let refused = assert_refused(&mut leader, &configuration("1 3"));
    assert_eq!(refused, ChangeError::InProgress { configuration: configuration_in_force });
}

#[test]
fn a_change_is_refused_while_the_lead_is_handed_over() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.node.transfer_leadership(Some(NodeId(2))).unwrap();
    leader.drain();
    let refused = assert_refused(&mut leader, &configuration("1 3"));
    assert_eq!(refused, ChangeError::Transferring { to: NodeId(2) });
}

#[test]
fn targets_that_make_no_sense_are_refused() {
    let voter = |id: u64| Member::of_incarnation(NodeId(id), raft_core::Incarnation(0), "");
    let both = Configuration::of_members([voter(1), voter(2)], [], [incarnated(2, 9)]);
    let far = Member { address: "x".repeat(Member::ADDRESS_BYTES_MAX + 1), ..voter(4) };
    let crowd = Configuration::new((1..=129).map(NodeId), []);
    let crowd_of_learners = Configuration::new([NodeId(1)], (2..=129).map(NodeId));
    let in_force = configuration("1 2 3");
    let absurd = [
        configuration("1 2 <1"),
        configuration(""),
        configuration("+1 +2"),
        both,
        crowd,
        crowd_of_learners,
        in_force.with_learner(far.clone()),
        in_force.with_voter(far),
        in_force.with_voter(incarnated(1, 9)),
        in_force.with_voter(incarnated(2, 9)).with_voter(incarnated(3, 9)),
    ];
    for target in absurd {
        let mut leader = Replica::leader_in("1 2 3");
        let refused = assert_refused(&mut leader, &target);
        assert!(matches!(refused, ChangeError::Invalid(_)), "{refused} of {target:?}");
        assert_eq!(leader.in_force(), "1 2 3");
    }
    // The greatest that makes sense.
    let mut leader = Replica::leader_in("1 2 3");
    let most = Configuration::new([1, 2, 3].map(NodeId), (4..=128).map(NodeId));
    assert_eq!(leader.change_to(&most), Ok(()));
}

#[test]
fn a_change_to_the_configuration_in_force_succeeds_and_appends_nothing() {
    let mut leader = Replica::leader_in("1 2 3 +4");
    leader.change("1 2 3 +4").unwrap();
    assert_eq!(leader.outcomes(), [Ok("1 2 3 +4".to_owned())]);
    assert_eq!(leader.node.last(), id(1, 1));
    let unnamed =
        |ids: &[u64]| ids.iter().map(|id| Member::new(NodeId(*id), "")).collect::<Vec<_>>();
    let same = Configuration::of_members(unnamed(&[1, 2, 3]), [], unnamed(&[4]));
    leader.change_to(&same).unwrap();
    assert_eq!(leader.outcomes(), [Ok("1 2 3 +4".to_owned())]);
    assert_eq!(leader.node.last(), id(1, 1));
}

#[test]
fn the_outcome_comes_out_once() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    for _ in 0..4 {
        leader.acknowledge(&[2]);
    }
    for _ in 0..10 {
        leader.tick(100);
        leader.acknowledge(&[2]);
    }
    assert_eq!(leader.outcomes(), [Ok("1 2".to_owned())]);
}

#[test]
fn a_loss_of_the_lead_is_an_outcome_in_every_phase_and_names_what_is_known() {
    let phases: [(&str, &str, &[u64]); 4] = [
        // It waits for an entry of the own term, catches up, is joint, has left that.
        ("1 2", "1 2 3", &[]),
        ("1 2 4", "1 2 3 +4", &[2]),
        ("1 2", "1 2 <1 <2 <3", &[2]),
        ("1 2", "1 2", &[2, 2]),
    ];
    for (target, known, acknowledged) in phases {
        let mut leader = Replica::candidate_in("1 2 3");
        leader.receive(2, GRANTED);
        leader.change(target).unwrap();
        for peer in acknowledged {
            leader.acknowledge(&[*peer]);
        }
        assert_eq!(leader.in_force(), known);
        leader.receive_in(9, 3, append(id(0, 0), vec![], 0));
        let configuration = configuration(known);
        assert_eq!(leader.changes, [Err(ChangeFailed::LostLead { configuration })]);
        // What becomes of the change is the next leader's word; a change may be asked for there.
        assert_eq!(leader.change("1 2 3"), Err(ChangeError::NotLeader { leader: Some(NodeId(3)) }));
    }
}

/// An input cannot fail, whatever it says.
#[test]
fn a_leader_is_not_shaken_when_its_connection_to_itself_is_said_to_be_closed() {
    let mut leader = Replica::leader_in("1 2 3");
    leader.change("1 2").unwrap();
    leader.step(Input::Disconnected(NodeId(1)));
    assert_eq!((leader.node.role(), leader.node.leader()), (Role::Leader, Some(NodeId(1))));
    leader.acknowledge(&[2]);
    leader.acknowledge(&[2]);
    assert_eq!(leader.outcomes(), [Ok("1 2".to_owned())]);
}

#[test]
fn configurations_that_are_not_in_their_place_in_the_log_are_an_error() {
    let disk = Disk::with_log(voters(3), &[1; 4], 1, 2);
    let started = |places: &[u64]| {
        let mut restored = disk.restored();
        restored.configurations = places.iter().map(|at| (index(*at), voters(2))).collect();
        Node::new(Options::new(NodeId(1)), restored).map(|node| members(node.configuration()))
    };
    assert_eq!(started(&[]), Ok("1 2 3".to_owned()));
    assert_eq!(started(&[1, 4]), Ok("1 2".to_owned()));
    for (places, misplaced) in [(vec![0], 0), (vec![5], 5), (vec![2, 2], 2), (vec![3, 1], 1)] {
        let error =
            RestoreError::MisplacedConfiguration { index: index(misplaced), last: id(1, 4) };
        assert_eq!(started(&places), Err(error), "{places:?}");
    }
}

#[test]
fn a_restart_has_the_configurations_of_its_log_back() {
    let mut follower = Replica::first_of(3);
    let changes = vec![change_entry(1, 1, "1 2 3 +4"), entry(1, 2), change_entry(1, 3, "1 2")];
    follower.receive_in(1, 2, append(id(0, 0), changes, 0));
    follower.persist_all();
    follower.crash();
    assert_eq!((follower.in_force().as_str(), follower.commit()), ("1 2", 0));
    assert!(!follower.node.configuration_is_committed());
    // What is overwritten after the restart is rolled back to what was before it.
    follower.receive_in(2, 3, append(id(1, 1), vec![entry(2, 2)], 1));
    assert_eq!(follower.in_force(), "1 2 3 +4");
    assert!(follower.node.configuration_is_committed());
}

/// "The same inputs in the same order give the same effects": all messages of all nodes of a cluster that changes.
#[test]
fn the_same_changes_give_the_same_messages() {
    let tell = || {
        let mut cluster = Cluster::in_configuration("1 2 3", &[4, 5]);
        let mut told = String::new();
        cluster.elect(1);
        for target in ["1 4 5", "2 3", "1 2 3 4 5"] {
            let leader = cluster.newest_leader();
            cluster.at(leader).change(target).unwrap();
            for _ in 0..40 {
                cluster.collect();
                told += &format!("{:?}\n", cluster.wire);
                cluster.deliver();
                for id in 1..=5 {
                    cluster.at(id).persist();
                    cluster.at(id).tick(20);
                }
            }
        }
        assert_eq!(cluster.in_force(1), "1 2 3 4 5");
        told
    };
    assert!(tell() == tell(), "two runs differ");
}
