//! diss. §3.10 Leadership transfer extension.

use raft_core::{
    ChangeError, Configuration, Entry, Envelope, Incarnation, Input, Member, Message, NodeId,
    Options, Payload, ProposeError, Role, Term, TransferError,
};

use crate::harness::*;

fn transfer(leader: &mut Replica, to: Option<u64>) -> Result<NodeId, TransferError> {
    let begun = leader.node.transfer_leadership(to.map(NodeId));
    leader.drain();
    begun
}

/// How often `to` was told to campaign since the mail was taken last.
fn told(leader: &Replica, to: u64) -> usize {
    leader.sent_to(to).iter().filter(|message| **message == Message::TimeoutNow).count()
}

/// A leader of three with a second entry, which 2 has and 3 has not.
fn leader_ahead_of_3() -> Replica {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.sent.clear();
    leader
}

/// A follower of node 2, which leads term 1, with one entry.
fn follower(options: Options, members: Configuration) -> Replica {
    let mut follower = Replica::start(options, Disk::empty(members));
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1]), 1));
    follower.persist_all();
    follower.sent.clear();
    follower
}

/// "The leader sends a TimeoutNow request to the target server."
#[test]
fn a_target_that_has_everything_is_told_to_campaign_at_once_and_once() {
    let mut leader = leader_ahead_of_3();
    assert_eq!(transfer(&mut leader, Some(2)), Ok(NodeId(2)));
    assert_eq!(leader.node.transferring(), Some(NodeId(2)));
    assert_eq!((told(&leader, 2), told(&leader, 3)), (1, 0));
    leader.tick(100);
    leader.receive(2, accepted(2));
    assert_eq!((told(&leader, 2), told(&leader, 3)), (1, 0));
    assert_eq!(leader.node.role(), Role::Leader, "it leads until another one does");
}

/// "The prior leader fully updates the target server's log to match its own log."
#[test]
fn a_target_is_told_to_campaign_only_once_it_has_the_whole_log() {
    let mut leader = leader_ahead_of_3();
    assert_eq!(transfer(&mut leader, Some(3)), Ok(NodeId(3)));
    assert_eq!((told(&leader, 2), told(&leader, 3)), (0, 0));
    leader.receive(3, accepted(1));
    assert_eq!(told(&leader, 3), 0);
    leader.receive(3, accepted(2));
    assert_eq!((told(&leader, 2), told(&leader, 3)), (0, 1));
}

/// What is not committed yet, nor durable at the leader itself, belongs to it as well.
#[test]
fn the_whole_log_is_more_than_what_is_committed() {
    let mut leader = leader_ahead_of_3();
    leader.propose("b");
    transfer(&mut leader, Some(2)).unwrap();
    assert_eq!(told(&leader, 2), 0);
    leader.receive(2, accepted(3));
    assert_eq!(told(&leader, 2), 1);
}

/// Whoever has the longest log needs the least time.
#[test]
fn without_a_name_the_lead_goes_to_the_voter_with_the_longest_log() {
    let mut leader = leader_ahead_of_3();
    assert_eq!(transfer(&mut leader, None), Ok(NodeId(2)));
    let mut leader = leader_ahead_of_3();
    leader.propose("b");
    leader.persist_all();
    leader.receive(3, accepted(3));
    assert_eq!(transfer(&mut leader, None), Ok(NodeId(3)));
}

/// Nor to one that is not heard, however long its log is.
#[test]
fn the_lead_goes_to_nobody_who_was_not_heard_within_an_election_timeout() {
    for (silent, best) in [(500, 2), (501, 3)] {
        let mut leader = leader_ahead_of_3();
        for _ in 0..4 {
            leader.tick(100);
            leader.receive(3, accepted(1));
        }
        leader.tick(silent - 400);
        leader.receive(3, accepted(1));
        if best == 3 {
            assert_eq!(transfer(&mut leader, Some(2)), Err(TransferError::NoCandidate));
        }
        assert_eq!(transfer(&mut leader, None), Ok(NodeId(best)), "after {silent} ms");
    }
}

/// "The prior leader stops accepting new client requests." Reads change nothing and go on.
#[test]
fn proposals_and_changes_are_refused_meanwhile_and_reads_are_not() {
    let mut leader = leader_ahead_of_3();
    transfer(&mut leader, Some(3)).unwrap();
    let to = NodeId(3);
    assert_eq!(leader.node.propose("b".into()), Err(ProposeError::Transferring { to }));
    let change = leader.node.change_membership(&voters(2));
    assert_eq!(change, Err(ChangeError::Transferring { to }));
    assert!(leader.node.read_index().is_ok());
    assert_eq!(leader.node.last(), id(1, 2));
    leader.receive(3, accepted(2));
    let refused = leader.node.propose("b".into());
    assert_eq!(refused, Err(ProposeError::Transferring { to }), "once it was told, too");
}

/// "If leadership transfer does not complete after about an election timeout, the prior leader aborts the transfer and
/// resumes accepting client requests."
#[test]
fn a_transfer_that_does_not_complete_within_an_election_timeout_is_given_up() {
    for is_told in [false, true] {
        let mut leader = leader_ahead_of_3();
        leader.tick(30);
        transfer(&mut leader, Some(3)).unwrap();
        if is_told {
            leader.receive(3, accepted(2));
        }
        for _ in 0..4 {
            leader.tick(110);
            leader.receive(2, accepted(2));
        }
        leader.tick(59);
        assert!(leader.node.propose("b".into()).is_err());
        assert_eq!(leader.node.next_tick(), leader.now + ms(1), "it wants to be woken");
        leader.tick(1);
        assert_eq!((leader.node.transferring(), leader.node.role()), (None, Role::Leader));
        leader.propose("b");
        leader.sent.clear();
        leader.receive(3, accepted(3));
        assert_eq!(told(&leader, 3), 0, "that transfer is over");
        assert_eq!(transfer(&mut leader, Some(3)), Ok(NodeId(3)), "another one may begin");
        assert_eq!(told(&leader, 3), 1);
    }
}

#[test]
fn every_refusal_says_why_and_changes_nothing() {
    let mut follower = follower(Options::new(NodeId(1)), voters(3));
    let leader = Some(NodeId(2));
    assert_eq!(transfer(&mut follower, None), Err(TransferError::NotLeader { leader }));
    assert_eq!(transfer(&mut follower, Some(2)), Err(TransferError::NotLeader { leader }));

    let mut leader = Replica::leader_of(3);
    assert_eq!(transfer(&mut leader, Some(1)), Err(TransferError::LeadsAlready));
    assert_eq!(transfer(&mut leader, Some(9)), Err(TransferError::NoCandidate), "a stranger");
    assert_eq!(leader.node.transferring(), None);
    leader.propose("it goes on");
    transfer(&mut leader, Some(3)).unwrap();
    let to = NodeId(3);
    for again in [None, Some(1), Some(2), Some(3)] {
        assert_eq!(transfer(&mut leader, again), Err(TransferError::InProgress { to }));
    }
    assert_eq!(leader.node.transferring(), Some(to));

    let mut alone = Replica::leader_of(1);
    assert_eq!(transfer(&mut alone, None), Err(TransferError::NoCandidate));
    assert_eq!(transfer(&mut alone, Some(1)), Err(TransferError::LeadsAlready));
    alone.propose("it goes on");
}

#[test]
fn the_lead_goes_to_no_learner_and_to_no_forgotten_incarnation() {
    let wiped = Member::of_incarnation(NodeId(3), Incarnation(7), "");
    let members = Configuration::new([1, 2].map(NodeId), [NodeId(4)]).with_voter(wiped);
    let mut leader = Replica::start(Options::new(NodeId(1)), Disk::empty(members));
    leader.elect();
    leader.persist_all();
    leader.receive(4, accepted(1));
    leader.receive(3, accepted(1));
    assert_eq!(transfer(&mut leader, Some(4)), Err(TransferError::NoCandidate));
    leader.receive(2, accepted(1));
    assert_eq!(transfer(&mut leader, None), Ok(NodeId(2)));

    // A voter whose disk was wiped is a learner under its new incarnation, until it has caught up.
    let mut leader = Replica::leader_of(3);
    let wiped = Member::of_incarnation(NodeId(3), Incarnation(7), "");
    leader.node.change_membership(&voters(2).with_voter(wiped)).unwrap();
    leader.drain();
    assert_eq!(crate::harness::members(leader.node.configuration()), "1 2 3 +3");
    assert_eq!(transfer(&mut leader, Some(3)), Err(TransferError::NoCandidate));
}

/// openraft #1805: a target that has not yet got the entry that made it a voter.
#[test]
fn a_target_has_the_entry_that_made_it_a_voter_before_it_is_told() {
    let members = Configuration::new([1, 2].map(NodeId), [NodeId(3)]);
    let mut leader = Replica::leader(Options::new(NodeId(1)), Disk::empty(members));
    leader.node.change_membership(&voters(3)).unwrap();
    leader.drain();
    leader.receive(3, accepted(1));
    leader.persist_all();
    assert!(leader.node.configuration().is_joint() && leader.node.last() == id(1, 2));
    assert_eq!(transfer(&mut leader, Some(3)), Ok(NodeId(3)));
    leader.receive(3, accepted(1));
    assert_eq!(told(&leader, 3), 0);
    leader.receive(3, accepted(2));
    assert_eq!(told(&leader, 3), 1);
    // Whoever leads next leaves the joint configuration.
    leader.receive(2, accepted(2));
    assert_eq!((leader.node.last(), told(&leader, 3)), (id(1, 3), 1));
}

/// "The target server starts a new election (by incrementing its term and becoming a candidate)", and its requests say
/// that the leader has asked for them.
#[test]
fn a_target_campaigns_at_once_and_without_a_pre_vote() {
    for pre_vote in [false, true] {
        let options = Options { pre_vote, ..Options::new(NodeId(1)) };
        let mut target = follower(options, voters(3));
        target.receive(2, Message::TimeoutNow);
        assert_eq!((target.node.role(), target.node.term()), (Role::Candidate, Term(2)));
        assert_eq!(target.sent, [], "not before its own vote is durable");
        target.persist();
        let request = Message::RequestVote { last: id(1, 1), transfer: true };
        assert_eq!((target.sent_to(2), target.sent_to(3)), (vec![request.clone()], vec![request]));
        target.receive(3, GRANTED);
        assert_eq!(target.node.role(), Role::Leader);
    }
}

/// Once: the next time it campaigns of its own accord.
#[test]
fn a_campaign_that_was_asked_for_and_lost_is_followed_by_ordinary_ones() {
    let options = Options { pre_vote: false, ..Options::new(NodeId(1)) };
    let mut target = follower(options, voters(3));
    target.receive(2, Message::TimeoutNow);
    target.persist();
    target.sent.clear();
    target.time_out();
    target.persist();
    assert_eq!(target.node.term(), Term(3));
    assert_eq!(target.sent_to(2), [Message::RequestVote { last: id(1, 1), transfer: false }]);
}

#[test]
fn whoever_hears_the_leader_grants_the_vote_that_the_leader_has_asked_for() {
    let mut voter = follower(Options::new(NodeId(1)), voters(3));
    let last = id(1, 1);
    voter.receive_in(2, 3, Message::RequestVote { last, transfer: false });
    assert_eq!((voter.node.term(), voter.sent.len()), (Term(1), 0), "not without that word");
    voter.receive_in(2, 3, Message::RequestVote { last, transfer: true });
    voter.persist_all();
    assert_eq!(voter.sent_to(3), [GRANTED]);
    // It is a vote like any other for the rest: a shorter log gets none.
    let mut voter = follower(Options::new(NodeId(1)), voters(3));
    voter.receive_in(2, 3, Message::RequestVote { last: id(0, 0), transfer: true });
    voter.persist_all();
    assert_eq!(voter.sent_to(3), [DENIED]);
}

/// "In all cases, the cluster is left in a safe state", and mostly with the leader that was wanted: no timer has run.
#[test]
fn the_target_leads_without_any_time_passing_and_the_former_leader_follows() {
    for (count, to) in [(2, 2), (3, 3), (5, 4)] {
        let mut cluster = Cluster::of(count);
        cluster.elect(1);
        cluster.run(300);
        cluster.at(1).propose("a");
        transfer(cluster.at(1), Some(to)).unwrap();
        cluster.settle();
        assert_eq!(cluster.leaders(), [to], "of {count}");
        assert_eq!(cluster.at(1).node.leader(), Some(NodeId(to)));
        assert_eq!(cluster.at(1).node.transferring(), None);
        cluster.at(to).propose("b");
        cluster.run(200);
        for node in 1..=count {
            assert_eq!(text(&cluster.at(node).applied), "- a - b", "at {node}");
        }
    }
}

/// Whoever does not lead tells nobody to campaign, and whoever must not lead is told in vain.
#[test]
fn a_timeout_now_does_nothing_where_it_does_not_come_from_the_leader_of_the_term() {
    let mut target = follower(Options::new(NodeId(1)), voters(3));
    target.receive(3, Message::TimeoutNow);
    target.receive(9, Message::TimeoutNow);
    assert_eq!(target.node.counters().second_leader, 2);
    target.receive_in(0, 2, Message::TimeoutNow);
    assert_eq!((target.node.role(), target.node.term()), (Role::Follower, Term(1)));
    assert_eq!((target.sent.len(), target.node.leader()), (0, Some(NodeId(2))));

    let mut leader = Replica::leader_of(3);
    leader.receive(2, Message::TimeoutNow);
    leader.receive_in(0, 2, Message::TimeoutNow);
    assert_eq!((leader.node.role(), leader.node.term()), (Role::Leader, Term(1)));
    assert_eq!(leader.sent.len(), 0);

    let members = Configuration::new([2, 3].map(NodeId), [NodeId(1)]);
    let mut learner = follower(Options::new(NodeId(1)), members);
    learner.receive(2, Message::TimeoutNow);
    assert_eq!((learner.node.role(), learner.node.term()), (Role::Follower, Term(1)));
    assert_eq!((learner.sent.len(), learner.node.leader()), (0, Some(NodeId(2))));

    let known = Member::of_incarnation(NodeId(1), Incarnation(7), "");
    let members = Configuration::new([2, 3].map(NodeId), []);
    let mut wiped = follower(Options::new(NodeId(1)), members.clone());
    let entry = Entry { id: id(1, 2), payload: Payload::Configuration(members.with_voter(known)) };
    wiped.receive(2, append(id(1, 1), vec![entry], 1));
    wiped.receive(2, Message::TimeoutNow);
    assert_eq!((wiped.node.role(), wiped.node.term()), (Role::Follower, Term(1)));
}

/// A message that was on its way while a new leader was elected.
#[test]
fn a_timeout_now_of_a_leader_that_was_superseded_does_nothing() {
    let mut target = follower(Options::new(NodeId(1)), voters(3));
    target.receive_in(2, 3, heartbeat(1, 1));
    target.persist_all();
    target.sent.clear();
    let late = envelope(NodeId(2), NodeId(1), Term(1), Message::TimeoutNow);
    target.step(Input::Receive(Envelope { ..late }));
    assert_eq!((target.node.role(), target.node.term()), (Role::Follower, Term(2)));
    assert_eq!(target.sent.len(), 0);
}

/// §6: a leader that is removed leads until that is committed. diss. §4.2.2: "the leader may transfer", so that nobody
/// waits for a timeout.
#[test]
fn a_leader_that_was_removed_hands_over_to_the_best_of_those_that_stay() {
    let mut leader = Replica::leader_of(4);
    leader.node.change_membership(&Configuration::new([2, 3, 4].map(NodeId), [])).unwrap();
    leader.drain();
    leader.persist_all();
    (2..=4).for_each(|peer| leader.receive(peer, accepted(2)));
    leader.persist_all();
    leader.sent.clear();
    leader.receive(4, accepted(3));
    assert_eq!(leader.node.role(), Role::Leader);
    leader.receive(3, accepted(3));
    assert_eq!(leader.node.role(), Role::Follower);
    let told_to: Vec<u64> = (2..=4).filter(|to| told(&leader, *to) > 0).collect();
    assert!(told_to == [3] || told_to == [4], "{told_to:?} were told, 2 has not everything");
}
