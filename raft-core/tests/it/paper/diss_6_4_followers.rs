//! diss. §6.4 Processing read-only queries more efficiently: ReadIndex, for those who do not lead.

use raft_core::{
    Fetched, Input, Limits, LogIndex, Message, NodeId, ReadError, ReadId, ReadOutcome, ReadRefused,
    Role, Term,
};

use crate::harness::*;
use crate::paper::diss_6_4::{
    End, answer, answered, confirmed, denied, read, reads, refused, round,
};

/// A follower of node 2 in term 1, with one entry that is committed.
fn follower() -> Replica {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1]), 1));
    follower.persist_all();
    follower.sent.clear();
    follower
}

/// The context of the read that was asked of `leader` last.
fn asked(follower: &Replica, leader: u64) -> u64 {
    let found = follower.sent_to(leader).into_iter().rev().find_map(|message| match message {
        Message::ReadIndex { context } => Some(context),
        Message::PreVote { .. }
        | Message::PreVoteResponse { .. }
        | Message::RequestVote { .. }
        | Message::VoteResponse { .. }
        | Message::AppendEntries { .. }
        | Message::AppendResponse(_)
        | Message::Heartbeat { .. }
        | Message::HeartbeatResponse { .. }
        | Message::TimeoutNow
        | Message::ReadIndexResponse { .. } => None,
    });
    found.expect("a read was asked for")
}

/// "Followers could also help offload the processing of read-only queries": the follower asks the leader for a current
/// readIndex, by which the leader does the same as for its own.
#[test]
fn a_follower_asks_its_leader_for_an_index_and_is_told_once_a_majority_has_confirmed_it() {
    let mut leader = Replica::leader_of(3);
    leader.receive(3, Message::ReadIndex { context: 77 });
    let round = round(&leader);
    assert_eq!(leader.sent_to(3), [heartbeat(1, round)]);
    answer(&mut leader, 2, round);
    assert_eq!(leader.sent_to(3)[1..], [answered(77, 1)]);
    assert_eq!(reads(&mut leader), [], "it is nobody's here");

    let mut follower = follower();
    let id = read(&mut follower);
    let context = asked(&follower, 2);
    assert_eq!(
        follower.sent,
        [envelope(NodeId(1), NodeId(2), Term(1), Message::ReadIndex { context })]
    );
    follower.tick(100);
    follower.receive(2, Message::Heartbeat { commit: LogIndex(1), round: None });
    assert_eq!(follower.sent.len(), 1, "once");
    follower.receive(2, answered(context, 9));
    assert_eq!(reads(&mut follower), [confirmed(id, 9)], "more than it holds itself");
    follower.receive(2, answered(context, 10));
    assert_eq!(reads(&mut follower), [], "an answer counts once");
}

#[test]
fn whoever_knows_no_leader_is_refused_on_the_spot() {
    let mut replica = Replica::first_of(3);
    assert_eq!(replica.node.read_index(), Err(ReadError::NoLeader));
    replica.time_out();
    assert_eq!(replica.node.role(), Role::PreCandidate);
    assert_eq!(replica.node.read_index(), Err(ReadError::NoLeader));
    let campaign = Term(1);
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    assert_eq!(replica.node.role(), Role::Candidate);
    assert_eq!(replica.node.read_index(), Err(ReadError::NoLeader));
    replica.drain();
    assert_eq!(replica.reads, []);
}

#[test]
fn a_followers_read_is_refused_when_it_loses_its_leader_or_the_term() {
    let ends: [(&str, End); 6] = [
        ("a later term", |follower| follower.receive_in(2, 3, heartbeat(0, 1))),
        ("a vote in a later term", |follower| {
            follower.receive_in(2, 3, Message::RequestVote { last: id(9, 9), transfer: true });
        }),
        ("the connection is closed", |follower| {
            follower.step(Input::Disconnected(NodeId(2)));
        }),
        ("told to campaign", |follower| follower.receive(2, Message::TimeoutNow)),
        ("an answer from a later term", |follower| {
            follower.receive_in(2, 2, denied(0));
        }),
        ("a log that cannot be read", |follower| {
            let id = raft_core::FetchId(9);
            follower.step(Input::Fetched { id, result: Fetched::Failed });
        }),
    ];
    for (end, happens) in ends {
        let mut follower = follower();
        let asked: [ReadId; 3] = core::array::from_fn(|_| read(&mut follower));
        happens(&mut follower);
        let lost = asked.map(|id| refused(id, ReadRefused::LostLeader));
        assert_eq!(reads(&mut follower), lost, "{end}");
    }
}

#[test]
fn a_read_that_the_leader_refuses_is_refused() {
    let mut follower = follower();
    let id = read(&mut follower);
    let context = asked(&follower, 2);
    follower.receive(2, denied(context));
    assert_eq!(reads(&mut follower), [refused(id, ReadRefused::LostLeader)]);
}

/// The question, or its answer, may be lost.
#[test]
fn a_followers_read_is_refused_after_an_election_timeout() {
    let mut follower = follower();
    let first = read(&mut follower);
    follower.tick(200);
    let second = read(&mut follower);
    // The leader is heard all the time.
    for _ in 0..299 {
        follower.tick(1);
        follower.receive(2, heartbeat(1, 1));
        assert_eq!(reads(&mut follower), []);
    }
    assert_eq!(follower.node.next_tick(), follower.now + ms(1), "it wants to be woken");
    follower.tick(1);
    assert_eq!(reads(&mut follower), [refused(first, ReadRefused::TimedOut)]);
    follower.receive(2, heartbeat(1, 2));
    follower.tick(200);
    assert_eq!(reads(&mut follower), [refused(second, ReadRefused::TimedOut)]);
    assert_eq!(follower.node.role(), Role::Follower);
}

#[test]
fn no_more_reads_are_pending_at_a_follower_than_the_limit_says() {
    let mut follower = follower();
    let limits = Limits { reads_pending_max: 3, ..Limits::default() };
    follower.options.limits = limits;
    follower.crash();
    follower.receive(2, heartbeat(1, 1));
    let asked: [ReadId; 3] = core::array::from_fn(|_| read(&mut follower));
    assert_eq!(follower.node.read_index(), Err(ReadError::Busy));
    follower.receive(2, answered(asked[1].0, 1));
    read(&mut follower);
    assert_eq!(follower.node.read_index(), Err(ReadError::Busy));
}

/// To ask another node would ask the same leader again.
#[test]
fn a_follower_says_whether_its_leader_is_busy_or_has_lost_the_lead() {
    let outcomes = [
        (ReadOutcome::Busy, ReadRefused::Busy),
        (ReadOutcome::LostLeader, ReadRefused::LostLeader),
    ];
    for (outcome, expected) in outcomes {
        let mut follower = follower();
        let id = read(&mut follower);
        let context = asked(&follower, 2);
        follower.receive(2, Message::ReadIndexResponse { context, outcome });
        assert_eq!(reads(&mut follower), [refused(id, expected)]);
    }
}

/// Whoever was asked earlier, or in another term, may lead no more.
#[test]
fn an_answer_confirms_a_read_only_if_it_comes_from_the_leader_that_was_asked_in_the_same_term() {
    let mut follower = follower();
    let id = read(&mut follower);
    let context = asked(&follower, 2);
    follower.receive(3, answered(context, 1));
    follower.receive_in(0, 2, answered(context, 1));
    follower.receive(2, answered(context + 1, 1));
    follower.receive(2, answered(context.wrapping_sub(1), 1));
    assert_eq!(reads(&mut follower), []);
    follower.receive(2, answered(context, 1));
    assert_eq!(reads(&mut follower), [confirmed(id, 1)]);
}

/// The same leader, elected again before this node has looked: what it was asked before is over.
#[test]
fn an_answer_in_the_next_term_confirms_no_read_of_the_term_before() {
    let mut follower = follower();
    let id = read(&mut follower);
    let context = asked(&follower, 2);
    for message in [heartbeat(1, 1), answered(context, 1)] {
        follower.node.step(Input::Receive(envelope(NodeId(2), NodeId(1), Term(2), message)));
    }
    follower.drain();
    assert_eq!(reads(&mut follower), [refused(id, ReadRefused::LostLeader)]);
}

/// A remote read gets an answer, whatever the one who is asked does.
#[test]
fn whoever_does_not_lead_refuses_the_reads_of_others() {
    let ask = Message::ReadIndex { context: 7 };
    let mut replica = follower();
    replica.receive(3, ask.clone());
    assert_eq!(replica.sent_to(3), [denied(7)], "a follower");
    replica.receive_in(0, 3, ask.clone());
    assert_eq!(replica.sent_to(3), [denied(7), denied(7)], "asked from an old term");
    replica.receive_in(2, 3, ask.clone());
    assert_eq!(replica.sent_to(3), [denied(7), denied(7), denied(7)], "asked from a later term");

    let mut replica = Replica::first_of(3);
    replica.time_out();
    replica.sent.clear();
    replica.receive(3, ask.clone());
    assert_eq!((replica.node.role(), replica.sent_to(3)), (Role::PreCandidate, vec![denied(7)]));
    replica.receive(2, Message::PreVoteResponse { campaign: Term(1), granted: true });
    replica.sent.clear();
    replica.receive(3, ask.clone());
    assert_eq!((replica.node.role(), replica.sent_to(3)), (Role::Candidate, vec![denied(7)]));

    let mut leader = Replica::leader_of(3);
    leader.receive_in(0, 3, ask.clone());
    assert_eq!(leader.sent_to(3), [denied(7)], "the leader, asked from an old term");
    leader.receive_in(9, 3, ask);
    assert_eq!(leader.node.role(), Role::Follower);
    assert_eq!(leader.sent_to(3)[1..], [denied(7)], "the leader, asked from a later term");
}
