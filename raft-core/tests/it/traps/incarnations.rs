//! Disks that are lost, and disks that pass for lost: which of two incarnations counts, and when.

use raft_core::{
    ChangeError, ChangeFailed, ChangeOutcome, Configuration, Entry, Envelope, HardState,
    Incarnation, Input, Lease, Member, Message, Node, NodeId, Options, Payload, RestoreError,
    Restored, Role, Term,
};

use crate::harness::*;
use crate::members::*;

/// Leads an unnamed first configuration of three, and has heard node 3.
fn leader_that_has_not_heard_2() -> Replica {
    let mut leader = Replica::start(Options::new(NodeId(1)), Disk::empty(unnamed(&[1, 2, 3])));
    leader.elect();
    leader.acknowledge(&[3]);
    leader.acknowledge(&[3]);
    assert_eq!((leader.commit(), named(leader.node.configuration())), (2, vec![1, 3]));
    leader
}

/// Of whom a configuration names the incarnation.
fn named(configuration: &Configuration) -> Vec<u64> {
    let named = configuration.voters().iter().filter(|voter| voter.incarnation.is_some());
    named.map(|voter| voter.id.0).collect()
}

fn configuration_entry(term: u64, index: u64, configuration: Configuration) -> Entry {
    Entry { id: id(term, index), payload: Payload::Configuration(configuration) }
}

/// What becomes of a change while nobody but node 3 answers.
fn wait_for_outcome(leader: &mut Replica) -> ChangeOutcome {
    for _ in 0..1_000 {
        leader.tick(100);
        leader.acknowledge(&[3]);
        if let Some(outcome) = leader.changes.pop() {
            return outcome;
        }
    }
    panic!("nothing came of it");
}

/// Node 2 has a vote under incarnation 0, and is on its way back as a learner under incarnation 1.
fn staged() -> Configuration {
    let voters = [1, 2, 3].map(|id| incarnated(id, 0));
    Configuration::of_members(voters, [], [incarnated(2, 1)])
}

/// It would commit without a quorum, and then be named: the leader of the next term has the disk that is lost in its own
/// quorum.
#[test]
fn a_wiped_disk_does_not_pass_for_a_voter_that_the_leader_has_not_heard() {
    let start = |id| Replica::start(Options::new(NodeId(id)), Disk::empty(unnamed(&[1, 2, 3])));
    let mut cluster = Cluster::new((1..=3).map(start));
    cluster.cut.extend([(1, 2), (2, 1)]);
    cluster.elect(1);
    // The connection to node 3 closes, which asks at once; node 2 has heard no leader.
    cluster.cut.extend([(1, 3), (3, 1)]);
    cluster.at(3).step(Input::Disconnected(NodeId(1)));
    cluster.settle();
    assert_eq!(cluster.role(3), Role::Leader);
    let committed = cluster.at(3).propose("z");
    cluster.settle();
    assert!(cluster.at(3).applied_ids().contains(&committed));
    // The disk is lost, and what is there instead reaches the first leader alone.
    cluster.wipe(2);
    cluster.heal();
    cluster.partition(&[3]);
    let before = cluster.at(1).commit();
    assert_eq!(cluster.role(1), Role::Leader);
    cluster.at(1).propose("x");
    cluster.run(200);
    assert_eq!((cluster.role(1), cluster.at(1).commit()), (Role::Leader, before));
    let in_force = named(cluster.at(1).node.configuration());
    assert_eq!(in_force, [1, 3], "nobody has heard the one that is meant");
    cluster.heal();
    cluster.run(3_000);
    assert!(cluster.at(1).applied_ids().contains(&committed));
}

/// It may have a name in its own log, from a leader that has not heard that it is none any more; and the disk that is lost
/// may have voted in this term, or hold what the candidate lacks.
#[test]
fn the_vote_of_a_wiped_disk_does_not_count_where_no_incarnation_is_named() {
    let options = Options { pre_vote: false, ..Options::new(NodeId(1)) };
    let mut candidate = Replica::start(options, Disk::empty(unnamed(&[1, 2, 3])));
    candidate.time_out();
    candidate.persist_all();
    candidate.receive_from_new(2, 1, GRANTED);
    assert_eq!(candidate.node.role(), Role::Candidate);
    assert_eq!(candidate.node.counters().forgotten_incarnations, 1);
    candidate.receive_as(2, 0, GRANTED);
    assert_eq!(candidate.node.role(), Role::Leader);
}

#[test]
fn only_a_disk_that_began_with_a_configuration_says_that_it_is_meant_by_one_without_a_name() {
    let says = |configuration: Configuration| {
        let disk = Disk { incarnation: Incarnation(7), ..Disk::empty(configuration) };
        let mut node = Replica::start(Options::new(NodeId(3)), disk);
        let entry = configuration_entry(1, 1, unnamed(&[1, 2, 3]));
        node.receive_in(1, 1, append(id(0, 0), vec![entry], 1));
        node.persist_all();
        let answers: Vec<Envelope> = node.take_sent();
        assert!(!answers.is_empty());
        answers.iter().all(|answer| answer.is_meant)
    };
    assert!(says(unnamed(&[1, 2, 3])));
    assert!(!says(Configuration::default()));
}

/// Who answers for a learner is as good as any other: it counts for nothing before it has a name.
#[test]
fn a_learner_without_a_name_is_named_whoever_it_is() {
    let mut leader = Replica::leader_in("1");
    let target = leader.node.configuration().with_learner(Member::new(NodeId(2), ""));
    leader.change_to(&target).unwrap();
    leader.persist_all();
    leader.receive_from_new(2, 5, accepted(2));
    assert_eq!(leader.node.configuration().learners(), [incarnated(2, 5)]);
}

/// The target's word for it is not enough: as long as the voter has no name, what is there instead would pass for it.
#[test]
fn a_voter_that_was_not_heard_and_that_a_target_names_is_replaced() {
    for as_learner in [false, true] {
        let mut leader = leader_that_has_not_heard_2();
        let anew = incarnated(2, 7);
        let known = leader.node.configuration().clone();
        let target = match as_learner {
            true => known.with_learner(anew.clone()),
            false => known.with_voter(anew.clone()),
        };
        leader.change_to(&target).unwrap();
        let mut ways = Vec::new();
        for _ in 0..8 {
            let in_force = leader.node.configuration().clone();
            let counts = in_force
                .voters()
                .iter()
                .chain(in_force.outgoing())
                .any(|voter| voter.id == anew.id && voter.incarnation.is_none());
            assert!(!counts || ways.is_empty(), "it has said what it is: {in_force:?}");
            ways.push(members(&in_force));
            // What is there instead is heard, and does not help to commit before it is a voter by name.
            leader.persist_all();
            let last = leader.node.last().index.0;
            let before = leader.commit();
            leader.receive_from_new(2, 7, accepted(last));
            if !in_force.voters().contains(&anew) || in_force.is_joint() {
                assert_eq!(leader.commit(), before, "{in_force:?}");
            }
            leader.receive(3, accepted(last));
            leader.persist_all();
        }
        ways.dedup();
        let expected: &[&str] = match as_learner {
            true => &["1 2 3", "1 3 <1 <2 <3 +2", "1 3 +2"],
            false => &["1 2 3", "1 2 3 +2", "1 2 3 <1 <2 <3", "1 2 3"],
        };
        assert_eq!(ways, expected);
        assert_eq!(leader.changes, [Ok(target)]);
    }
}

/// To take it for lost would leave node 3 alone with the leader's word. It may be slow only.
#[test]
fn a_voter_that_a_target_names_is_not_replaced_before_it_has_said_that_it_is_another_one() {
    let mut leader = leader_that_has_not_heard_2();
    let target = leader.node.configuration().with_voter(incarnated(2, 7));
    leader.change_to(&target).unwrap();
    leader.acknowledge(&[3]);
    let before = leader.node.last();
    // Neither the one that is meant, nor the one that the target names.
    leader.receive_from_new(2, 5, accepted(1));
    assert_eq!((leader.in_force().as_str(), leader.node.last()), ("1 2 3", before));
    leader.receive_as(2, 7, accepted(1));
    leader.acknowledge(&[3]);
    assert_eq!(leader.changes.pop(), Some(Ok(target.clone())));
    assert_eq!(leader.node.configuration(), &target);
    // And nobody waits for ever.
    let mut leader = leader_that_has_not_heard_2();
    leader.change_to(&target.with_learner(incarnated(2, 7))).unwrap();
    let failed = wait_for_outcome(&mut leader);
    let Err(ChangeFailed::NotHeard { id, configuration: in_force }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!((id, named(&in_force)), (NodeId(2), vec![1, 3]));
}

/// Where nobody counts for a voter, since its replacement did not catch up, whoever speaks for it may come back.
#[test]
fn a_voter_whose_replacement_failed_comes_back_as_whoever_speaks_for_it() {
    let mut leader = leader_that_has_not_heard_2();
    let before = leader.node.configuration().clone();
    leader.change_to(&before.with_voter(incarnated(2, 7))).unwrap();
    leader.receive_from_new(2, 7, accepted(1));
    assert_eq!(leader.in_force(), "1 2 3 +2");
    let failed = wait_for_outcome(&mut leader);
    assert!(matches!(failed, Err(ChangeFailed::NotCaughtUp { .. })), "{failed:?}");
    leader.acknowledge(&[3]);
    assert_eq!(leader.in_force(), "1 2 3");
    let of_2 = |leader: &Replica| leader.node.configuration().voters()[1].incarnation;
    assert_eq!(of_2(&leader), Some(Incarnation::NOBODY));
    // It is as good as removed, so no other voter can be replaced meanwhile, and it cannot be half of the voters.
    for target in [
        leader.node.configuration().with_voter(incarnated(3, 7)),
        leader.node.configuration().without_member(NodeId(3)),
    ] {
        let refused = leader.change_to(&target);
        assert!(matches!(refused, Err(ChangeError::Invalid(_))), "{refused:?}");
    }
    leader.change_to(&before).unwrap();
    for _ in 0..6 {
        leader.persist_all();
        let last = leader.node.last().index.0;
        leader.receive_from_new(2, 9, accepted(last));
        leader.receive(3, accepted(last));
        leader.persist_all();
    }
    assert_eq!((leader.in_force().as_str(), of_2(&leader)), ("1 2 3", Some(Incarnation(9))));
}

/// The former incarnation led term 5 with the vote of node 3, and its disk is lost.
#[test]
fn a_learner_does_not_lead_in_a_term_in_which_its_former_incarnation_has_led() {
    let replica = |node: u64, term, vote, has_staged| {
        let mut disk = Disk::with_log(configuration("1 2 3"), &[4; 9], term, 9);
        if has_staged {
            disk.entries.push(configuration_entry(4, 10, staged()));
        }
        disk.hard_state.vote = vote;
        disk.incarnation = Incarnation(u64::from(node == 2));
        // Whatever the settings of the others.
        Replica::start(Options { pre_vote: node != 2, ..Options::new(NodeId(node)) }, disk)
    };
    let mut cluster = Cluster::new([
        replica(1, 4, Some(voted(1)), true),
        replica(2, 4, None, true),
        replica(3, 5, Some(voted(2)), false),
    ]);
    for _ in 0..200 {
        if cluster.role(2) == Role::Follower {
            cluster.at(2).time_out();
        }
    }
    assert_ne!(cluster.role(2), Role::Follower);
    for _ in 0..20 {
        cluster.settle();
        let has_led = (1..=3).any(|id| cluster.terms(id).contains(&5));
        assert!(!has_led, "two leaders of one term");
        cluster.run(200);
    }
    assert!(!cluster.leaders().is_empty());
}

/// The machine that was given up is back, and knows nothing of what has been agreed since; node 3 has not heard of it
/// either. The machine in its place is a voter of the joint configuration.
#[test]
fn two_incarnations_of_a_node_do_not_both_lead_a_term() {
    let joint = || {
        let voters = |incarnation| [incarnated(1, 0), incarnated(2, incarnation), incarnated(3, 0)];
        Configuration::of_members(voters(1), voters(0), [])
    };
    let replica = |node: u64, incarnation, has_joint| {
        let mut disk = Disk::with_log(configuration("1 2 3"), &[4; 9], 4, 9);
        if has_joint {
            disk.entries.push(configuration_entry(4, 10, staged()));
            disk.entries.push(configuration_entry(4, 11, joint()));
        }
        disk.incarnation = Incarnation(incarnation);
        Replica::start(Options { pre_vote: false, ..Options::new(NodeId(node)) }, disk)
    };
    let (mut one, mut three) = (replica(1, 0, true), replica(3, 0, false));
    let (mut former, mut anew) = (replica(2, 0, false), replica(2, 1, true));
    for candidate in [&mut former, &mut anew] {
        candidate.time_out();
        candidate.persist_all();
    }
    // What is for node 2 may reach either machine.
    let mut asked: Vec<Envelope> = former.take_sent();
    asked.append(&mut anew.take_sent());
    for request in asked {
        let voter = if request.to == NodeId(1) { &mut one } else { &mut three };
        voter.step(Input::Receive(request));
        voter.persist_all();
        for answer in voter.take_sent() {
            former.step(Input::Receive(answer.clone()));
            anew.step(Input::Receive(answer));
        }
    }
    assert_eq!((former.node.term(), anew.node.term()), (Term(5), Term(5)));
    assert_eq!(former.node.role(), Role::Leader, "it has the vote of node 3");
    assert_ne!(anew.node.role(), Role::Leader, "two leaders of one term");
}

#[test]
fn a_vote_is_for_one_incarnation_and_a_restart_does_not_forget_for_which() {
    let ask = |voter: &mut Replica, incarnation| {
        let vote = Message::RequestVote { last: id(0, 0), transfer: false };
        voter.receive_as(2, incarnation, vote);
        voter.persist_all();
        voter.take_sent().into_iter().map(|answer| answer.message).collect::<Vec<_>>()
    };
    let answer =
        |candidate, granted| [Message::VoteResponse { candidate: Incarnation(candidate), granted }];
    let mut voter = Replica::first_in(1, "1 2 3");
    assert_eq!(ask(&mut voter, 7), answer(7, true));
    for _ in 0..2 {
        assert_eq!(ask(&mut voter, 8), answer(8, false));
        assert_eq!(ask(&mut voter, 7), answer(7, true));
        voter = Replica::start(Options::new(NodeId(1)), voter.disk);
    }
}

#[test]
fn a_vote_for_another_incarnation_is_none_for_this_one() {
    let mut candidate = Replica::first_in(1, "1 2 3");
    candidate.time_out();
    for peer in [2, 3] {
        let campaign = candidate.node.term().next();
        candidate.receive(peer, Message::PreVoteResponse { campaign, granted: true });
    }
    candidate.persist_all();
    candidate.receive(2, Message::VoteResponse { candidate: Incarnation(9), granted: true });
    assert_eq!(candidate.node.role(), Role::Candidate);
    assert_eq!(candidate.node.counters().misaddressed, 1);
    candidate.receive(2, GRANTED);
    assert_eq!(candidate.node.role(), Role::Leader);
}

#[test]
fn the_term_of_a_learner_that_is_cut_off_does_not_climb_though_it_holds_the_longest_log() {
    let mut disk = Disk::with_log(configuration("1 2 3"), &[4; 9], 4, 9);
    disk.entries.push(configuration_entry(4, 10, staged()));
    disk.incarnation = Incarnation(1);
    let options = Options { pre_vote: false, ..Options::new(NodeId(2)) };
    let mut learner = Replica::start(options, disk);
    let mut asked = false;
    for _ in 0..200 {
        learner.tick(1_000);
        learner.persist_all();
        asked |= learner.node.role() == Role::PreCandidate;
        assert_eq!(learner.node.term(), Term(4));
    }
    assert!(asked, "it may be needed");
}

/// The new incarnation died while it caught up, and then the leader. What is left is a majority of good disks.
#[test]
fn a_voter_that_was_given_up_too_early_helps_to_elect_and_to_commit() {
    let mut disk = Disk::with_log(configuration("1 2 3"), &[1; 4], 1, 3);
    disk.entries[2] = configuration_entry(1, 3, staged());
    let longer = disk.clone();
    disk.entries.truncate(3);
    let mut cluster = Cluster::new([
        Replica::first_in(1, "1 2 3"),
        Replica::start(Options::new(NodeId(2)), disk),
        Replica::start(Options::new(NodeId(3)), longer),
    ]);
    cluster.kill(1);
    cluster.run(5_000);
    assert_eq!(cluster.leaders(), [3]);
    let id = cluster.at(3).propose("x");
    cluster.settle();
    assert!(cluster.at(2).applied_ids().contains(&id));
    // What had failed is in nobody's way.
    assert_eq!(cluster.in_force(3), "1 2 3");
    cluster.change(3, "2 3");
    assert_eq!(cluster.in_force(2), "2 3");
}

#[test]
fn a_return_that_fails_leaves_the_former_incarnation_a_voter() {
    let mut leader = Replica::leader_in("1 2 3");
    let target = leader.node.configuration().with_voter(incarnated(2, 7));
    leader.change_to(&target).unwrap();
    leader.acknowledge(&[3]);
    assert_eq!(leader.in_force(), "1 2 3 +2");
    let outcome = wait_for_outcome(&mut leader);
    let Err(ChangeFailed::NotCaughtUp { id, configuration: in_force }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((id, members(&in_force).as_str()), (NodeId(2), "1 2 3"));
    assert_eq!(leader.in_force(), "1 2 3");
    leader.persist_all();
    let (before, last) = (leader.commit(), leader.node.last().index.0);
    leader.receive_as(2, 7, accepted(last));
    assert_eq!(leader.commit(), before);
    leader.receive(2, accepted(last));
    assert_eq!(leader.commit(), last);
}

/// As long as its replacement is a learner, what the former incarnation says is not heard, and node 3 is down: so it is not
/// even committed that there is a learner.
#[test]
fn a_return_ends_in_time_where_only_the_former_incarnation_could_commit_it() {
    let options = Options { check_quorum: false, ..Options::new(NodeId(1)) };
    let mut leader = Replica::leader(options, Disk::empty(configuration("1 2 3")));
    leader.acknowledge(&[2]);
    let target = leader.node.configuration().with_voter(incarnated(2, 7));
    leader.change_to(&target).unwrap();
    assert_eq!(leader.in_force(), "1 2 3 +2");
    let mut outcome = None;
    for _ in 0..1_000 {
        leader.tick(100);
        leader.persist_all();
        outcome = outcome.or(leader.changes.pop());
    }
    let Some(Err(ChangeFailed::NotCaughtUp { id, configuration })) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((id, members(&configuration).as_str()), (NodeId(2), "1 2 3"));
    assert_eq!(leader.in_force(), "1 2 3");
    leader.acknowledge(&[2]);
    assert_eq!(leader.commit(), leader.node.last().index.0);
}

/// It was given up, its term has climbed while it was alone, and what is meant for its replacement may reach it.
#[test]
fn what_a_machine_that_was_given_up_answers_in_a_later_term_deposes_nobody() {
    let mut leader = Replica::leader_in("1 2 3");
    let answers = |from: u64, incarnation: u64| {
        let envelope = envelope(NodeId(from), NodeId(1), Term(9), accepted(1));
        Input::Receive(Envelope { incarnation: Incarnation(incarnation), ..envelope })
    };
    leader.step(answers(2, 5));
    assert_eq!((leader.node.role(), leader.node.term()), (Role::Leader, Term(1)));
    assert_eq!(leader.node.counters().misaddressed, 1);
    leader.step(answers(2, 0));
    assert_eq!((leader.node.role(), leader.node.term()), (Role::Follower, Term(9)));
}

#[test]
fn nobody_speaks_for_the_incarnation_that_stands_for_no_node() {
    let restored = Restored::first_start(unnamed(&[1, 2, 3]));
    let restored = Restored { incarnation: Incarnation::NOBODY, ..restored };
    let refused = Node::new(Options::new(NodeId(1)), restored).unwrap_err();
    assert_eq!(refused, RestoreError::Nobody(NodeId(1)));
    let mut leader = Replica::leader_in("1 2 3");
    let before = leader.commit();
    leader.receive_as(2, Incarnation::NOBODY.0, accepted(1));
    assert_eq!((leader.commit(), leader.node.counters().malformed), (before, 1));
}

/// To hear of others must not put off who has caught up; but it holds the names before it votes.
#[test]
fn a_voter_that_is_heard_while_another_one_joins_is_named_and_the_rounds_go_on() {
    let mut leader = leader_that_has_not_heard_2();
    let target = leader.node.configuration().with_voter(incarnated(4, 0));
    leader.change_to(&target).unwrap();
    leader.acknowledge(&[3]);
    assert_eq!(leader.in_force(), "1 2 3 +4");
    let staged = leader.node.last().index.0;
    leader.receive_as(2, 5, accepted(staged));
    assert_eq!(named(leader.node.configuration()), [1, 2, 3]);
    leader.acknowledge(&[3]);
    leader.receive(4, accepted(staged));
    assert_eq!(leader.in_force(), "1 2 3 +4", "it does not know all names yet");
    leader.receive(4, accepted(staged + 1));
    assert_eq!(leader.in_force(), "1 2 3 4 <1 <2 <3");
    assert_eq!(leader.node.configuration().voters()[1], incarnated(2, 5));
}

/// A driver ticks first, and nothing depends on it: from the start a node keeps what it may have promised.
#[test]
fn a_node_that_starts_with_leases_grants_no_vote_before_its_first_tick() {
    let lease = Some(Lease { clock_drift_ppm: 0 });
    let options = Options { lease, ..Options::new(NodeId(1)) };
    let start = |term| {
        let hard_state = HardState { term: Term(term), ..HardState::default() };
        let restored = Restored::first_start(voters(3));
        Node::new(options.clone(), Restored { hard_state, ..restored }).unwrap()
    };
    let ask = |node: &mut Node, message| {
        let mut effects = raft_core::Effects::default();
        let envelope = envelope(NodeId(2), NodeId(1), Term(6), message);
        node.step(Input::Receive(envelope));
        node.drain(&mut effects);
        let mut answers = effects.messages.clone();
        if let Some(write) = effects.write.take() {
            node.step(Input::Persisted(write.id));
            node.drain(&mut effects);
            answers.append(&mut effects.messages);
        }
        answers.into_iter().map(|answer| answer.message).collect::<Vec<_>>()
    };
    let vote = Message::RequestVote { last: id(0, 0), transfer: false };
    let mut restarted = start(5);
    assert_eq!(ask(&mut restarted, vote.clone()), []);
    assert_eq!(restarted.term(), Term(5));
    let campaign = Term(7);
    let denied = Message::PreVoteResponse { campaign, granted: false };
    let asked = Message::PreVote { campaign, last: id(0, 0) };
    assert_eq!(ask(&mut restarted, asked), [denied]);
    // Who never ran has promised nothing.
    assert_eq!(ask(&mut start(0), vote), [GRANTED]);
}
