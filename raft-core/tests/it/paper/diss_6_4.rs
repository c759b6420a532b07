//! diss. §6.4 Processing read-only queries more efficiently: ReadIndex, at leaders and at followers.

use raft_core::{
    AppendOutcome, Configuration, Envelope, Fetched, Incarnation, Input, Limits, LogIndex, Member,
    Message, NodeId, Options, Read, ReadError, ReadId, ReadOutcome, ReadRefused, Role, Term,
};

use crate::harness::*;

/// Asks for a read.
pub(super) fn read(replica: &mut Replica) -> ReadId {
    let id = replica.node.read_index().expect("it is taken up");
    replica.drain();
    id
}

pub(super) fn confirmed(id: ReadId, index: u64) -> Read {
    Read { id, index: Ok(LogIndex(index)) }
}

pub(super) fn refused(id: ReadId, why: ReadRefused) -> Read {
    Read { id, index: Err(why) }
}

/// What has come out since this was asked last.
pub(super) fn reads(replica: &mut Replica) -> Vec<Read> {
    core::mem::take(&mut replica.reads)
}

/// The round of heartbeats that left last.
pub(super) fn round(leader: &Replica) -> u64 {
    let to = leader.peers()[0];
    leader.last_round(to).expect("a round has left")
}

/// `from` has received all of the log and answers this round.
pub(super) fn answer(leader: &mut Replica, from: u64, round: u64) {
    let received = leader.node.last().index;
    leader.receive(from, Message::HeartbeatResponse { round, received });
}

pub(super) fn answered(context: u64, index: u64) -> Message {
    Message::ReadIndexResponse { context, outcome: ReadOutcome::Confirmed(LogIndex(index)) }
}

pub(super) fn denied(context: u64) -> Message {
    Message::ReadIndexResponse { context, outcome: ReadOutcome::LostLeader }
}

/// "The leader needs to make sure it has not been superseded by a newer leader of which it is unaware. It issues a new
/// round of heartbeats and waits for their acknowledgments from a majority of the cluster."
#[test]
fn a_read_starts_a_round_of_heartbeats_and_waits_for_a_majority_of_the_cluster() {
    for (count, answers) in [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)] {
        let mut leader = Replica::leader_of(count);
        let id = read(&mut leader);
        for peer in leader.peers() {
            assert_eq!(leader.sent_to(peer), [heartbeat(1, round(&leader))], "at once, to all");
        }
        for peer in 2..2 + answers {
            assert_eq!(reads(&mut leader), [], "of {count}, before {peer} has answered");
            for _ in 0..2 {
                let round = round(&leader);
                answer(&mut leader, peer, round);
            }
        }
        assert_eq!(reads(&mut leader), [confirmed(id, 1)], "of {count}");
    }
}

/// The round under way started before the read arrived: it says nothing of a leader that was elected in between.
#[test]
fn a_read_shares_the_next_round_that_starts_after_it_arrived_and_never_one_that_is_under_way() {
    let mut leader = Replica::leader_of(3);
    leader.tick(100);
    let under_way = round(&leader);
    let id = read(&mut leader);
    let own = round(&leader);
    assert!(own > under_way, "a round of the clock does not hold it up");
    answer(&mut leader, 2, under_way);
    answer(&mut leader, 3, under_way);
    assert_eq!(reads(&mut leader), []);
    answer(&mut leader, 3, own);
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// A thousand reads cost one round.
#[test]
fn reads_that_arrive_while_a_round_of_others_is_under_way_wait_together_for_the_next() {
    let mut leader = Replica::leader_of(3);
    let first = read(&mut leader);
    let under_way = round(&leader);
    let later: Vec<ReadId> = (0..1000).map(|_| read(&mut leader)).collect();
    assert_eq!(round(&leader), under_way, "no other round starts for them");
    assert_eq!(leader.sent_to(2).len(), 1);
    answer(&mut leader, 2, under_way);
    assert_eq!(reads(&mut leader), [confirmed(first, 1)], "only the one that it started for");
    assert_eq!(round(&leader), under_way + 1, "now theirs starts");
    assert_eq!(leader.sent_to(2).len(), 2);
    // The other follower answers the old round, late.
    answer(&mut leader, 3, under_way);
    assert_eq!(reads(&mut leader), []);
    answer(&mut leader, 3, under_way + 1);
    assert_eq!(
        reads(&mut leader),
        later.into_iter().map(|id| confirmed(id, 1)).collect::<Vec<_>>()
    );
    assert_eq!(leader.sent_to(2).len(), 2, "and no further one, for nobody");
}

/// Whatever starts a round, those that wait take part in it.
#[test]
fn the_next_heartbeat_of_the_clock_takes_waiting_reads_along_and_stands_in_for_a_lost_round() {
    let mut leader = Replica::leader_of(3);
    let first = read(&mut leader);
    let lost = round(&leader);
    let second = read(&mut leader);
    leader.tick(100);
    assert_eq!(round(&leader), lost + 1);
    let third = read(&mut leader);
    assert_eq!(round(&leader), lost + 1);
    answer(&mut leader, 2, lost + 1);
    assert_eq!(reads(&mut leader), [confirmed(first, 1), confirmed(second, 1)]);
    assert_eq!(round(&leader), lost + 2);
    answer(&mut leader, 3, lost + 2);
    assert_eq!(reads(&mut leader), [confirmed(third, 1)]);
}

/// Each of two majorities can have elected another leader (§6).
#[test]
fn in_a_joint_configuration_a_read_is_confirmed_by_a_majority_of_both_sets() {
    for (answers, enough) in [
        (&[2, 3][..], false),
        (&[4, 5], false),
        (&[2, 4], true),
        (&[3, 5], true),
        (&[2, 3, 4], true),
    ] {
        let mut leader = Replica::leader_of(3);
        let target = Configuration::new([1, 4, 5].map(NodeId), []);
        leader.node.change_membership(&target).unwrap();
        leader.drain();
        leader.persist_all();
        for peer in 2..=5 {
            leader.receive(peer, accepted(2));
        }
        assert!(leader.node.configuration().is_joint(), "until its entry is committed");
        leader.persist_all();
        leader.sent.clear();
        let id = read(&mut leader);
        let round = round(&leader);
        for peer in answers {
            answer(&mut leader, *peer, round);
        }
        let expected = if enough { vec![confirmed(id, 2)] } else { vec![] };
        assert_eq!(reads(&mut leader), expected, "{answers:?}");
    }
}

#[test]
fn learners_confirm_nothing() {
    let members = Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId));
    let mut leader = Replica::leader(Options::new(NodeId(1)), Disk::empty(members));
    let id = read(&mut leader);
    let round = round(&leader);
    answer(&mut leader, 4, round);
    answer(&mut leader, 5, round);
    assert_eq!(reads(&mut leader), []);
    answer(&mut leader, 3, round);
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// A wiped disk has forgotten which later leader it voted for.
#[test]
fn an_answer_of_an_incarnation_that_the_configuration_does_not_name_confirms_nothing() {
    let mut leader = Replica::leader_of(3);
    let id = read(&mut leader);
    let (round, received) = (round(&leader), LogIndex(1));
    let message = Message::HeartbeatResponse { round, received };
    let honest = envelope(NodeId(2), NodeId(1), Term(1), message);
    let wiped = Envelope { incarnation: Incarnation(7), ..honest.clone() };
    leader.step(Input::Receive(wiped));
    assert_eq!(reads(&mut leader), []);
    assert_eq!(leader.node.counters().forgotten_incarnations, 1);
    leader.step(Input::Receive(honest));
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// "The leader saves its current commit index in a local variable readIndex." What is committed later need not be seen,
/// and what was committed between the request and the round must be.
#[test]
fn the_index_is_the_commit_index_at_the_start_of_the_round() {
    let mut leader = Replica::leader_of(3);
    let first = read(&mut leader);
    let (own, second) = (round(&leader), read(&mut leader));
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    assert_eq!(leader.node.commit(), LogIndex(2));
    answer(&mut leader, 2, own);
    assert_eq!(reads(&mut leader), [confirmed(first, 1)]);
    leader.propose("b");
    leader.persist_all();
    leader.receive(2, accepted(3));
    answer(&mut leader, 2, own + 1);
    assert_eq!(reads(&mut leader), [confirmed(second, 2)]);
}

/// "If the leader has not yet marked an entry from its current term committed, it waits until it has done so."
#[test]
fn a_read_waits_until_an_entry_of_the_leaders_own_term_is_committed() {
    let mut leader = Replica::with_log(&[1, 1], 1, 1);
    leader.elect();
    leader.persist_all();
    assert_eq!(leader.node.commit(), LogIndex(1), "more may be committed, and it does not know");
    let id = read(&mut leader);
    for _ in 0..3 {
        leader.tick(100);
        let round = round(&leader);
        answer(&mut leader, 2, round);
        answer(&mut leader, 3, round);
        assert_eq!(reads(&mut leader), []);
    }
    leader.receive(2, accepted(2));
    assert_eq!((leader.node.commit(), reads(&mut leader)), (LogIndex(1), vec![]));
    let before = round(&leader);
    leader.receive(2, accepted(3));
    assert_eq!(leader.node.commit(), LogIndex(3));
    assert_eq!(reads(&mut leader), [], "the rounds before do not count");
    let round = round(&leader);
    assert_eq!(round, before + 1, "one starts at once");
    answer(&mut leader, 3, round);
    assert_eq!(reads(&mut leader), [confirmed(id, 3)]);
}

/// A round is of its term alone.
#[test]
fn an_answer_of_an_earlier_term_confirms_nothing() {
    let mut leader = Replica::with_log(&[1], 4, 1);
    leader.elect();
    leader.persist_all();
    leader.receive(2, accepted(2));
    assert_eq!(leader.node.commit(), LogIndex(2));
    let id = read(&mut leader);
    let (round, received) = (round(&leader), LogIndex(2));
    for term in 0..5 {
        leader.receive_in(term, 2, Message::HeartbeatResponse { round, received });
        leader.receive_in(term, 3, Message::HeartbeatResponse { round, received });
    }
    assert_eq!(reads(&mut leader), []);
    answer(&mut leader, 3, round);
    assert_eq!(reads(&mut leader), [confirmed(id, 2)]);
}

/// Its own word is a majority.
#[test]
fn the_only_voter_needs_no_round() {
    let members = Configuration::new([NodeId(1)], [NodeId(2)]);
    let mut leader = Replica::start(Options::new(NodeId(1)), Disk::empty(members));
    leader.persist();
    assert_eq!(leader.node.role(), Role::Leader);
    let early = read(&mut leader);
    assert_eq!(reads(&mut leader), [], "the entry of its own term is not committed yet");
    leader.persist_all();
    assert_eq!(reads(&mut leader), [confirmed(early, 1)]);
    let id = read(&mut leader);
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// How a leader ceases to lead, or to do anything.
pub(super) type End = fn(&mut Replica);

const ENDS: [(&str, End); 5] = [
    ("a later term", |leader| leader.receive_in(7, 2, heartbeat(0, 1))),
    ("a vote in a later term", |leader| {
        leader.receive_in(7, 2, Message::RequestVote { last: id(9, 9), transfer: true });
    }),
    ("an answer from a later term", |leader| leader.receive_in(7, 3, accepted(0))),
    ("no quorum", |leader| leader.tick(600)),
    ("a log that cannot be read", |leader| {
        let id = raft_core::FetchId(9);
        leader.step(Input::Fetched { id, result: Fetched::Failed });
    }),
];

/// Nobody who asked waits for ever.
#[test]
fn whoever_waits_at_a_leader_is_refused_when_the_lead_is_lost() {
    for (end, happens) in ENDS {
        let mut leader = Replica::leader_of(3);
        let confirming = read(&mut leader);
        leader.receive(3, Message::ReadIndex { context: 70 });
        let waiting = read(&mut leader);
        leader.receive(3, Message::ReadIndex { context: 71 });
        leader.sent.clear();
        happens(&mut leader);
        let lost = |id| refused(id, ReadRefused::LostLeader);
        assert_eq!(reads(&mut leader), [confirming, waiting].map(lost), "{end}");
        if !leader.node.is_stopped() {
            let told = leader.sent_to(3);
            assert!(told.contains(&denied(70)) && told.contains(&denied(71)), "{end}: {told:?}");
        }
    }
}

/// A leader that is removed goes in the midst of a drain: those who asked it hear of it in the same.
#[test]
fn whoever_waits_at_a_leader_that_retires_is_refused_at_once() {
    let mut leader = Replica::leader_of(3);
    leader.node.change_membership(&Configuration::new([2, 3].map(NodeId), [])).unwrap();
    leader.drain();
    leader.persist_all();
    for index in 2..4 {
        let id = read(&mut leader);
        leader.receive(3, Message::ReadIndex { context: 70 + index });
        leader.sent.clear();
        leader.receive(2, accepted(index));
        leader.receive(3, accepted(index));
        leader.persist_all();
        if leader.node.role() == Role::Follower {
            assert_eq!(reads(&mut leader).last(), Some(&refused(id, ReadRefused::LostLeader)));
            assert!(leader.sent_to(3).contains(&denied(70 + index)), "{:?}", leader.sent_to(3));
        }
    }
    assert_eq!(leader.node.role(), Role::Follower, "it has retired");
}

/// The whole way, for voters and learners: a read asked for after a command was acknowledged includes that command.
#[test]
fn a_read_at_any_node_includes_what_was_acknowledged_before_it() {
    let members = Configuration::new([1, 2, 3].map(NodeId), [NodeId(4)]);
    let start = |id| Replica::start(Options::new(NodeId(id)), Disk::empty(members.clone()));
    let mut cluster = Cluster::new((1..=4).map(start));
    cluster.elect(1);
    cluster.run(100);
    for i in 0..10 {
        let proposed = cluster.at(1).propose(&i.to_string()).index;
        while cluster.at(1).node.commit() < proposed {
            cluster.deliver();
            (1..=4).for_each(|node| cluster.at(node).persist_all());
        }
        let asked: Vec<ReadId> = (1..=4).map(|node| read(cluster.at(node))).collect();
        cluster.settle();
        for (node, id) in (1..).zip(asked) {
            assert_eq!(reads(cluster.at(node)), [confirmed(id, proposed.0)], "at {node}");
        }
    }
}

/// Beyond the limit a read is refused, and one that is done makes room.
#[test]
fn no_more_reads_are_pending_at_a_leader_than_the_limit_says_those_of_others_included() {
    let limits = Limits { reads_pending_max: 3, ..Limits::default() };
    let options = Options { limits, ..Options::new(NodeId(1)) };
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    read(&mut leader);
    leader.receive(2, Message::ReadIndex { context: 70 });
    read(&mut leader);
    let under_way = round(&leader);
    leader.sent.clear();
    assert_eq!(leader.node.read_index(), Err(ReadError::Busy));
    leader.receive(2, Message::ReadIndex { context: 71 });
    let busy = Message::ReadIndexResponse { context: 71, outcome: ReadOutcome::Busy };
    assert_eq!(leader.sent_to(2), [busy]);
    answer(&mut leader, 3, under_way);
    assert_eq!(reads(&mut leader).len(), 1, "the first one");
    read(&mut leader);
    assert_eq!(leader.node.read_index(), Err(ReadError::Busy));
}

/// On the way to a configuration in which node 5 is a learner with a new disk, it has no vote in the old one either.
#[test]
fn the_new_incarnation_of_a_voter_confirms_nothing_for_the_old_one() {
    let mut leader = Replica::leader_of(5);
    let wiped = Member::of_incarnation(NodeId(5), Incarnation(7), "");
    let target = Configuration::new([1, 2].map(NodeId), []).with_learner(wiped);
    leader.node.change_membership(&target).unwrap();
    leader.drain();
    assert!(leader.node.configuration().is_joint());
    let id = read(&mut leader);
    let (round, received) = (round(&leader), LogIndex(2));
    let message = Message::HeartbeatResponse { round, received };
    let incarnation = Incarnation(7);
    let from_5 = envelope(NodeId(5), NodeId(1), Term(1), message);
    leader.step(Input::Receive(Envelope { incarnation, ..from_5 }));
    answer(&mut leader, 2, round);
    assert_eq!(leader.node.counters().forgotten_incarnations, 0, "it is heard");
    assert_eq!(reads(&mut leader), [], "two of the five that count");
    answer(&mut leader, 3, round);
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// An acknowledgement is no answer to a round of heartbeats: it may have left before the round did.
#[test]
fn an_acknowledgement_of_entries_confirms_no_read() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    let id = read(&mut leader);
    let matched = LogIndex(2);
    for peer in [2, 3] {
        leader.receive(peer, Message::AppendResponse(AppendOutcome::Accepted { matched }));
    }
    assert_eq!(reads(&mut leader), []);
    let round = round(&leader);
    answer(&mut leader, 2, round);
    assert_eq!(reads(&mut leader), [confirmed(id, 1)]);
}

/// Who does not lead any more is told by the first answer, and the read of its client is refused, not confirmed.
#[test]
fn a_leader_that_was_superseded_confirms_no_read() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(100);
    cluster.partition(&[1]);
    cluster.at(2).time_out();
    cluster.at(3).time_out();
    cluster.settle();
    let leader = *cluster.leaders().iter().find(|leader| **leader != 1).expect("another one");
    cluster.at(leader).propose("new");
    cluster.settle();
    let id = read(cluster.at(1));
    cluster.settle();
    assert_eq!(reads(cluster.at(1)), [], "it still thinks that it leads");
    cluster.heal();
    cluster.at(1).tick(100);
    cluster.settle();
    assert_eq!(reads(cluster.at(1)), [refused(id, ReadRefused::LostLeader)]);
}
