//! "Limits": each is reached, and refuses or pauses when it is; and what waits goes on once there is room.

use raft_core::{
    Entry, Input, Limits, LogIndex, Message, Node, NodeId, Options, ProposeError, Replication,
    Restored, Role,
};

use crate::harness::*;

/// The cost of an entry whose command has one byte.
const COST: usize = Entry::OVERHEAD_BYTES + 1;

fn options(limit: impl Fn(&mut Limits)) -> Options {
    let mut options = Options::new(NodeId(1));
    limit(&mut options.limits);
    options
}

fn leader_with(limit: impl Fn(&mut Limits)) -> Replica {
    Replica::leader(options(limit), Disk::empty(voters(3)))
}

/// Proposes that many commands of one byte between two drains.
fn propose_at_once(leader: &mut Replica, count: usize) {
    for _ in 0..count {
        leader.node.propose("x".into()).unwrap();
    }
    leader.drain();
}

/// As many proposals of one byte as are taken; the next one is refused.
fn proposals_until_busy(leader: &mut Replica) -> usize {
    for taken in 0..1000 {
        match leader.node.propose("x".into()) {
            Ok(_) => leader.drain(),
            Err(error) => {
                assert_eq!(error, ProposeError::Busy);
                return taken;
            }
        }
    }
    panic!("no limit is reached");
}

#[test]
fn a_message_is_limited_in_entries() {
    let mut leader = leader_with(|limits| limits.message_entries_max = 3);
    propose_at_once(&mut leader, 7);
    assert_eq!(leader.appends_to(2), [vec![2, 3, 4], vec![5, 6, 7], vec![8]]);
}

#[test]
fn a_message_is_limited_in_bytes_but_holds_at_least_one_entry() {
    let mut leader = leader_with(|limits| limits.message_bytes_max = 2 * COST);
    propose_at_once(&mut leader, 5);
    assert_eq!(leader.appends_to(2), [vec![2, 3], vec![4, 5], vec![6]]);
    let mut leader = leader_with(|limits| limits.message_bytes_max = 1);
    propose_at_once(&mut leader, 2);
    assert_eq!(leader.appends_to(2), [[2], [3]]);
}

#[test]
fn the_window_is_limited_in_messages_and_goes_on_with_each_answer() {
    let mut leader = leader_with(|limits| {
        (limits.inflight_messages_max, limits.message_entries_max) = (2, 1);
    });
    propose_at_once(&mut leader, 5);
    assert_eq!(leader.appends_to(2), [[2], [3]]);
    leader.receive(2, accepted(2));
    assert_eq!(leader.appends_to(2), [[2], [3], [4]]);
    leader.receive(2, accepted(4));
    assert_eq!(leader.appends_to(2), [[2], [3], [4], [5], [6]]);
    assert_eq!(leader.appends_to(3), [[2], [3]], "one peer's answers open no other's window");
}

#[test]
fn the_window_is_limited_in_bytes_and_goes_on_with_each_answer() {
    let mut leader = leader_with(|limits| {
        (limits.inflight_bytes_max, limits.message_entries_max) = (2 * COST, 1);
    });
    propose_at_once(&mut leader, 5);
    assert_eq!(leader.appends_to(2), [[2], [3]]);
    leader.receive(2, accepted(3));
    assert_eq!(leader.appends_to(2), [[2], [3], [4], [5]]);
}

#[test]
fn uncommitted_entries_are_limited_in_number() {
    let mut leader = leader_with(|limits| limits.uncommitted_entries_max = 3);
    assert_eq!(proposals_until_busy(&mut leader), 3);
    leader.persist_all();
    leader.receive(2, accepted(3));
    assert_eq!(leader.node.commit().0, 3);
    assert_eq!(proposals_until_busy(&mut leader), 2);
}

#[test]
fn uncommitted_entries_are_limited_in_bytes() {
    let mut leader = leader_with(|limits| limits.uncommitted_bytes_max = 3 * COST);
    assert_eq!(proposals_until_busy(&mut leader), 3);
    leader.persist_all();
    leader.receive(2, accepted(3));
    assert_eq!(proposals_until_busy(&mut leader), 2);
}

#[test]
fn one_proposal_is_always_taken_however_long() {
    let mut leader = leader_with(|limits| limits.uncommitted_bytes_max = 1);
    assert_eq!(proposals_until_busy(&mut leader), 1);
}

#[test]
fn a_leader_refuses_proposals_when_entries_that_are_not_durable_fill_the_tail() {
    let mut leader = leader_with(|limits| limits.tail_bytes_max = 4 * COST);
    assert_eq!(proposals_until_busy(&mut leader), 4);
    // Committed by the others, but not durable here.
    leader.receive(2, accepted(5));
    leader.receive(3, accepted(5));
    assert_eq!(leader.node.commit().0, 5);
    assert_eq!(leader.node.propose("x".into()), Err(ProposeError::Busy));
    leader.persist_all();
    assert_eq!(proposals_until_busy(&mut leader), 4);
}

#[test]
fn a_long_proposal_costs_its_own_length_and_no_more() {
    let long = || vec![7; 100].into();
    let cost = Entry::OVERHEAD_BYTES + 100;
    let mut leader = leader_with(|limits| limits.tail_bytes_max = 3 * cost);
    for _ in 0..3 {
        assert!(leader.node.propose(long()).is_ok());
    }
    assert_eq!(leader.node.propose(long()), Err(ProposeError::Busy));
}

#[test]
fn a_follower_drops_appends_when_entries_that_are_not_durable_fill_the_tail() {
    let mut follower =
        Replica::start(options(|limits| limits.tail_bytes_max = 300), Disk::empty(voters(3)));
    let long = |index| Entry::command(id(1, index), vec![7; 36]);
    follower.receive_in(1, 2, append(id(0, 0), (1..=5).map(long).collect(), 0));
    assert_eq!(follower.node.last(), id(1, 3), "three entries of 100 bytes fill it");
    assert_eq!(follower.node.counters().appends_dropped, 1);
    follower.receive(2, append(id(1, 3), vec![long(4)], 0));
    assert_eq!(follower.node.last(), id(1, 3));
    follower.persist_all();
    assert!(follower.has_acknowledged(2, 3) && !follower.has_acknowledged(2, 4));
    follower.receive(2, append(id(1, 3), vec![long(4), long(5)], 0));
    assert_eq!(follower.node.last(), id(1, 5), "what is durable made room");
    follower.persist_all();
    assert!(follower.has_acknowledged(2, 5));
}

#[test]
fn what_a_follower_dropped_is_sent_again() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.at(2).options.limits.tail_bytes_max = 3 * COST;
    cluster.restart(2);
    cluster.run(500);
    propose_at_once(cluster.at(1), 20);
    cluster.run(2000);
    for id in [1, 2, 3] {
        assert_eq!(cluster.at(id).node.commit().0, 21, "at {id}");
    }
    assert!(cluster.at(2).node.counters().appends_dropped > 0);
}

#[test]
fn one_entry_always_fits_into_the_tail() {
    let mut follower =
        Replica::start(options(|limits| limits.tail_bytes_max = 1), Disk::empty(voters(3)));
    for index in 0..3 {
        let previous = id(u64::from(index > 0), index);
        follower.receive_in(1, 2, append(previous, entries(index, &[1]), 0));
        follower.persist_all();
    }
    assert!(follower.has_acknowledged(2, 3));
}

#[test]
fn one_entry_that_is_not_durable_leaves_no_room_for_a_second_in_a_tail_of_none() {
    let mut follower =
        Replica::start(options(|limits| limits.tail_bytes_max = 0), Disk::empty(voters(3)));
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1]), 0));
    follower.receive(2, append(id(1, 1), entries(1, &[1]), 0));
    assert_eq!(follower.node.last(), id(1, 1));
    assert_eq!(follower.node.counters().appends_dropped, 1);
    follower.persist_all();
    follower.receive(2, append(id(1, 1), entries(1, &[1]), 0));
    assert_eq!(follower.node.last(), id(1, 2));
}

#[test]
fn what_fits_into_the_tail_exactly_is_taken() {
    let cost = entry(1, 1).cost_bytes();
    let limit = |limits: &mut Limits| limits.tail_bytes_max = 2 * cost;
    let mut follower = Replica::start(options(limit), Disk::empty(voters(3)));
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1]), 0));
    follower.receive(2, append(id(1, 1), entries(1, &[1, 1]), 0));
    assert_eq!(follower.node.last(), id(1, 2));
    assert_eq!(follower.node.counters().appends_dropped, 1, "the third");
}

#[test]
fn what_was_truncated_no_longer_counts_for_the_tail() {
    let limit = |limits: &mut Limits| limits.tail_bytes_max = 500;
    let mut follower = Replica::start(options(limit), Disk::empty(voters(3)));
    follower.receive_in(1, 3, append(id(0, 0), entries(0, &[1]), 0));
    follower.receive_in(1, 3, append(id(1, 1), entries(1, &[1]), 0));
    for term in 2..100 {
        let leader = 2 + term % 2;
        follower.receive_in(term, leader, append(id(1, 2), vec![entry(term, 3)], 0));
        follower.receive(leader, append(id(term, 3), vec![entry(term, 4)], 0));
        assert_eq!(follower.node.last(), id(term, 4));
        follower.persist_all();
    }
    assert_eq!(follower.node.counters().appends_dropped, 0);
    // All of it has to leave for this one.
    let large = Entry::command(id(99, 5), vec![0; 450]);
    follower.receive(3, append(id(99, 4), vec![large], 0));
    assert_eq!(follower.node.last(), id(99, 5));
}

#[test]
fn what_is_compacted_leaves_the_memory() {
    let mut leader = leader_with(|limits| limits.kept_entries_max = 0);
    leader.propose("only-here");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.applied.clear();
    leader.sent.clear();
    let shows = |leader: &Replica| format!("{:?}", leader.node).contains("only-here");
    assert!(shows(&leader));
    leader.take_snapshot(2);
    assert!(!shows(&leader));
}

#[test]
fn what_goes_to_the_state_machine_is_limited_in_entries() {
    let mut leader = leader_with(|limits| limits.applying_entries_max = 2);
    leader.applies_at_once = false;
    propose_at_once(&mut leader, 5);
    leader.persist_all();
    leader.receive(2, accepted(6));
    assert_eq!(leader.node.handed_out().0, 3);
    leader.step(Input::Applied(LogIndex(2)));
    assert_eq!(leader.node.handed_out().0, 3, "a batch counts until all of it is applied");
    leader.step(Input::Applied(LogIndex(3)));
    assert_eq!(leader.node.handed_out().0, 5);
    leader.step(Input::Applied(LogIndex(5)));
    assert_eq!(leader.node.handed_out().0, 6);
}

#[test]
fn what_goes_to_the_state_machine_is_limited_in_bytes() {
    for (bytes, handed_out) in [(2 * COST, 3), (1, 2)] {
        let mut leader = leader_with(|limits| limits.applying_bytes_max = bytes);
        leader.applies_at_once = false;
        propose_at_once(&mut leader, 5);
        leader.persist_all();
        leader.receive(2, accepted(6));
        assert_eq!(leader.node.handed_out().0, handed_out);
        leader.step(Input::Applied(LogIndex(handed_out)));
        assert!(leader.node.handed_out().0 > handed_out);
    }
}

#[test]
fn the_state_machine_gets_more_while_it_applies_as_long_as_there_is_room() {
    for (room, handed_out) in [(3 * COST, 4), (2 * COST, 3)] {
        let mut leader = leader_with(|limits| limits.applying_bytes_max = room);
        leader.applies_at_once = false;
        for index in 2..=6 {
            leader.propose("x");
            leader.persist_all();
            leader.receive(2, accepted(index));
        }
        assert_eq!(leader.node.commit().0, 6);
        assert_eq!(leader.node.handed_out().0, handed_out, "nothing of it is applied");
    }
}

#[test]
fn a_slow_state_machine_delays_neither_commitment_nor_heartbeats() {
    let mut leader = leader_with(|limits| limits.applying_entries_max = 1);
    leader.applies_at_once = false;
    propose_at_once(&mut leader, 5);
    leader.persist_all();
    leader.receive(2, accepted(6));
    assert_eq!(leader.node.commit().0, 6);
    leader.sent.clear();
    leader.tick(100);
    assert!(leader.last_round(2).is_some() && leader.last_round(3).is_some());
}

#[test]
fn the_entries_kept_behind_a_snapshot_are_limited_in_number() {
    let mut leader = leader_with(|limits| limits.kept_entries_max = 3);
    propose_at_once(&mut leader, 9);
    leader.persist_all();
    leader.receive(2, accepted(10));
    leader.take_snapshot(10);
    assert_eq!(leader.node.status().start, id(1, 7));
    leader.persist_all();
    assert_eq!(leader.disk.start.last, id(1, 7));
    assert_eq!(leader.disk.entries.len(), 3);
}

#[test]
fn the_entries_kept_behind_a_snapshot_are_limited_in_bytes() {
    let mut leader = leader_with(|limits| limits.kept_bytes_max = 2 * COST);
    propose_at_once(&mut leader, 9);
    leader.persist_all();
    leader.receive(2, accepted(10));
    leader.take_snapshot(10);
    assert_eq!(leader.node.status().start, id(1, 8));
}

#[test]
fn a_write_is_limited_in_bytes_and_the_next_one_goes_on() {
    let mut leader = leader_with(|limits| limits.write_bytes_max = 2 * COST);
    propose_at_once(&mut leader, 5);
    let mut written = Vec::new();
    while let Some(write) = &leader.write {
        written.push(write.entries.len());
        leader.persist();
    }
    assert_eq!(written, [2, 2, 1]);
    assert_eq!(leader.node.durable().0, 6);
}

#[test]
fn a_fetch_is_limited_like_a_message() {
    let limits = |limits: &mut Limits| {
        (limits.message_entries_max, limits.message_bytes_max) = (4, 3 * (COST + 2));
    };
    let disk = Disk::with_log(voters(3), &[1; 10], 1, 0);
    let mut leader = Replica::start(options(limits), disk);
    leader.elect();
    leader.receive(2, rejected(10, id(0, 0)));
    let fetch = leader.fetches[0];
    assert_eq!((fetch.first.0, fetch.last.0, fetch.bytes_max), (1, 4, 3 * (COST + 2)));
    leader.read_all();
    assert_eq!(leader.appends_to(2), [[1, 2, 3]]);
}

#[test]
fn a_fetch_for_the_state_machine_is_limited_like_its_batches() {
    let limits = |limits: &mut Limits| limits.applying_entries_max = 4;
    let disk = Disk::with_log(voters(3), &[1; 10], 1, 10);
    let mut replica = Replica::start(options(limits), disk);
    assert_eq!((replica.fetches[0].first.0, replica.fetches[0].last.0), (1, 4));
    while !replica.fetches.is_empty() {
        replica.read_all();
    }
    assert_eq!(replica.applied.len(), 10);
}

#[test]
fn a_limit_of_nothing_where_nothing_could_move_is_refused() {
    let nothing: [fn(&mut Limits); 2] =
        [|limits| limits.inflight_messages_max = 0, |limits| limits.inflight_bytes_max = 0];
    for limit in nothing {
        let restored = Restored::first_start(voters(3));
        assert!(Node::new(options(limit), restored).is_err());
    }
    let brief = |election_timeout| Options { election_timeout, ..Options::new(NodeId(1)) };
    assert!(Node::new(brief(ms(199)), Restored::first_start(voters(3))).is_err());
    assert!(Node::new(brief(ms(200)), Restored::first_start(voters(3))).is_ok());
    let patience = |write_stall_max| Options { write_stall_max, ..Options::new(NodeId(1)) };
    assert!(Node::new(patience(ms(499)), Restored::first_start(voters(3))).is_err());
    assert!(Node::new(patience(ms(500)), Restored::first_start(voters(3))).is_ok());
}

#[test]
fn with_every_limit_at_its_least_the_cluster_still_works() {
    let least = |limits: &mut Limits| {
        *limits = Limits {
            command_bytes_max: 1,
            message_bytes_max: 0,
            message_entries_max: 0,
            inflight_messages_max: 1,
            inflight_bytes_max: 1,
            uncommitted_bytes_max: 0,
            uncommitted_entries_max: 0,
            tail_bytes_max: 0,
            applying_bytes_max: 0,
            applying_entries_max: 0,
            kept_entries_max: 0,
            kept_bytes_max: 0,
            write_bytes_max: 0,
            reads_pending_max: 0,
        };
    };
    let start = |node| {
        let options = Options { id: NodeId(node), seed: node, ..options(least) };
        Replica::start(options, Disk::empty(voters(3)))
    };
    let mut cluster = Cluster::new((1..=3).map(start));
    cluster.elect(1);
    for _ in 0..5 {
        cluster.run(1000);
        assert_eq!(cluster.at(1).node.role(), Role::Leader);
        cluster.at(1).propose("x");
    }
    cluster.run(1000);
    cluster.at(1).take_snapshot(6);
    cluster.at(1).propose("x");
    cluster.run(1000);
    for id in [1, 2, 3] {
        assert_eq!(cluster.at(id).applied.len(), 7, "at {id}");
    }
}

#[test]
fn answers_of_strangers_are_not_kept() {
    let mut replica = Replica::first_of(3);
    replica.time_out();
    let campaign = replica.node.term().next();
    let size = |replica: &Replica| format!("{:?}", replica.node).len();
    let before = size(&replica);
    for stranger in 10..1000 {
        replica.receive(stranger, Message::PreVoteResponse { campaign, granted: true });
    }
    assert!(size(&replica) < before + 100);
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    for stranger in 10..1000 {
        replica.receive(stranger, GRANTED);
    }
    assert!(size(&replica) < before + 1000);
    assert_eq!(replica.node.role(), Role::Candidate);
}

#[test]
fn a_peer_that_needs_a_snapshot_is_sent_nothing_else() {
    let mut leader = leader_with(|limits| limits.kept_entries_max = 0);
    propose_at_once(&mut leader, 9);
    leader.persist_all();
    leader.receive(2, accepted(10));
    leader.take_snapshot(10);
    leader.sent.clear();
    leader.step(Input::Disconnected(NodeId(3)));
    assert_eq!(leader.peer(3).replication, Replication::Snapshot);
    propose_at_once(&mut leader, 9);
    assert_eq!(leader.appends_to(3), Vec::<Vec<u64>>::new());
    assert_eq!(leader.snapshots.len(), 1);
}
