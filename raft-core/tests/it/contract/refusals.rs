//! What makes no sense is refused, and counted: an operator can see it.

use raft_core::{Input, LogIndex, Message, NodeId, Options, Role, Term};

use crate::harness::*;

#[test]
fn answers_of_strangers_are_counted() {
    let mut leader = Replica::leader_of(3);
    leader.receive(9, accepted(1));
    leader.receive(9, Message::HeartbeatResponse { round: 0, received: LogIndex(0) });
    assert_eq!(leader.node.counters().misaddressed, 2);
}

#[test]
fn messages_for_another_node_and_from_the_own_self_are_counted() {
    let mut follower = Replica::first_of(3);
    for (from, to) in [(2, 3), (1, 1)] {
        let (from, to, message) = (NodeId(from), NodeId(to), heartbeat(0, 1));
        follower.step(Input::Receive(envelope(from, to, Term(9), message)));
    }
    assert_eq!(follower.node.counters().misaddressed, 2);
    assert_eq!((follower.node.term(), follower.sent.len()), (Term(0), 0));
}

#[test]
fn messages_that_contradict_themselves_are_counted() {
    let mut leader = Replica::leader_of(3);
    leader.receive(2, rejected(3, id(1, 3)));
    assert_eq!(leader.node.counters().malformed, 1);
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, append(id(0, 0), entries(1, &[1]), 0));
    follower.receive_in(1, 2, append(id(1, 1), entries(1, &[2]), 0));
    assert_eq!(follower.node.counters().malformed, 2);
    assert_eq!(follower.node.last(), id(0, 0));
    // After the last term there is no other.
    follower.receive_in(u64::MAX, 2, heartbeat(0, 1));
    assert_eq!(follower.node.counters().malformed, 3);
    assert_eq!(follower.node.term(), Term(1));
}

/// Nor are such answers a sign that the follower is heard: a leader that gets no others steps down.
#[test]
fn answers_to_what_was_never_sent_are_counted_and_keep_no_leader_in_office() {
    let mut leader = Replica::leader_of(3);
    let mut counted = 0;
    for _ in 0..10 {
        leader.tick(100);
        let round = leader.last_round(2).unwrap_or(0);
        let (ahead, received) = (round + 1, LogIndex(9));
        for answer in [
            Message::HeartbeatResponse { round: ahead, received: LogIndex(1) },
            Message::HeartbeatResponse { round, received },
            accepted(9),
        ] {
            counted += u64::from(leader.node.role() == Role::Leader);
            leader.receive(2, answer);
        }
    }
    assert_eq!(leader.node.role(), Role::Follower);
    assert_eq!(leader.node.counters().acknowledged_unsent, counted);
}

/// §5.2: at most one leader a term. Where that is broken, whoever comes second is not followed.
#[test]
fn a_second_leader_of_a_term_is_not_followed() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(4, 2, append(id(0, 0), entries(0, &[4]), 0));
    follower.receive_in(4, 3, append(id(0, 0), vec![entry(3, 1)], 0));
    follower.receive_in(4, 3, heartbeat(0, 1));
    assert_eq!(follower.node.counters().second_leader, 2);
    assert_eq!((follower.node.leader(), follower.node.last()), (Some(NodeId(2)), id(4, 1)));
    let mut leader = Replica::leader_of(3);
    leader.receive(2, heartbeat(0, 1));
    assert_eq!(leader.node.counters().second_leader, 1);
    assert_eq!(leader.node.role(), Role::Leader);
}

#[test]
fn an_append_that_contradicts_the_compaction_point_is_refused() {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let disk = Disk::with_log(voters(3), &[1; 5], 1, 5);
    let mut follower = Replica::start(options, disk);
    follower.read_all();
    follower.take_snapshot(5);
    follower.persist_all();
    follower.receive_in(2, 2, append(id(1, 4), entries(4, &[2, 2]), 0));
    assert_eq!(follower.node.counters().conflicts_with_committed, 1);
    assert_eq!(follower.node.last(), id(1, 5));
}

#[test]
fn a_received_snapshot_that_no_log_can_have_led_to_is_refused() {
    let absurd = [
        // A term before that of an entry that is committed here, and one that leaves room for no other.
        id(1, 20),
        id(u64::MAX, 20),
        id(2, u64::MAX / 2),
    ];
    for last in absurd {
        let mut replica = Replica::with_log(&[1, 1, 2], 2, 3);
        replica.read_all();
        replica.step(Input::SnapshotReceived(snapshot(last, &voters(3))));
        assert_eq!(replica.node.counters().snapshots_refused, 1, "{last}");
        assert_eq!((replica.node.last(), replica.node.term()), (id(2, 3), Term(2)));
        assert!(replica.write.is_none());
    }
}
