//! §7 Log compaction.

use raft_core::{Input, LogIndex, Message, NodeId, Options, Replication};

use crate::harness::*;

/// A leader of three whose log is compacted up to index 5 of 6, with follower 2 up to date and follower 3 unheard.
fn leader_that_compacted() -> Replica {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    for command in ["a", "b", "c", "d", "e"] {
        leader.propose(command);
    }
    leader.persist_all();
    leader.receive(2, accepted(6));
    leader.take_snapshot(5);
    leader.persist_all();
    leader
}

/// "Each server takes snapshots independently, covering just the committed entries in its log."
#[test]
fn each_server_takes_snapshots_independently_covering_just_the_committed_entries_in_its_log() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1, 1]), 2));
    follower.persist_all();
    let before = follower.node.status();
    follower.step(Input::SnapshotTaken(snapshot(id(1, 3), &voters(3))));
    assert_eq!(follower.node.counters().snapshots_refused, 1, "entry 3 is not committed");
    assert_eq!(follower.node.status().start, before.start);
    follower.options.limits.kept_entries_max = 0;
    follower.take_snapshot(2);
    assert_eq!(follower.node.status().snapshot, id(1, 2));
}

/// "The last included index [...] and the last included term [...] are preserved to support the AppendEntries
/// consistency check for the first log entry following the snapshot."
#[test]
fn the_last_included_index_and_term_support_the_consistency_check_for_the_first_entry_that_follows()
{
    let follower = || {
        let start = snapshot(id(1, 5), &voters(3));
        let mut disk = Disk::with_log(voters(3), &[], 1, 0);
        (disk.start, disk.snapshot, disk.hard_state.commit) =
            (start.clone(), Some(start), LogIndex(5));
        Replica::start(Options::new(NodeId(1)), disk)
    };
    let mut right = follower();
    right.receive_in(2, 2, append(id(1, 5), entries(5, &[2]), 5));
    right.persist_all();
    assert!(right.has_acknowledged(2, 6));
    let mut wrong = follower();
    wrong.receive_in(2, 2, append(id(2, 5), entries(5, &[2]), 5));
    wrong.persist_all();
    assert_eq!((wrong.node.last(), wrong.sent.len()), (id(1, 5), 0));
    assert_eq!(wrong.node.counters().conflicts_with_committed, 1);
}

/// "[...] the snapshot also includes the latest configuration in the log as of last included index."
#[test]
fn the_log_keeps_the_configuration_as_of_where_it_starts() {
    let mut leader = leader_that_compacted();
    assert_eq!(leader.disk.start, snapshot(id(1, 5), &voters(3)));
    leader.crash();
    assert_eq!(*leader.node.configuration(), voters(3));
}

/// "Once a server completes writing a snapshot, it may delete all log entries up through the last included index."
#[test]
fn once_a_server_completes_writing_a_snapshot_it_may_delete_all_log_entries_up_through_it() {
    let leader = leader_that_compacted();
    assert_eq!(leader.disk.start.last, id(1, 5));
    assert_eq!(text(&leader.disk.entries), "e");
}

/// "The leader must occasionally send snapshots to followers that lag behind. This happens when the leader has already
/// discarded the next log entry that it needs to send to a follower."
#[test]
fn the_leader_sends_a_snapshot_when_it_has_already_discarded_the_next_entry_for_a_follower() {
    let mut leader = leader_that_compacted();
    leader.step(Input::Disconnected(NodeId(3)));
    let wanted: Vec<u64> = leader.snapshots.iter().map(|send| send.to.0).collect();
    assert_eq!(wanted, [3]);
    assert_eq!(leader.peer(3).replication, Replication::Snapshot);
}

/// "Usually the snapshot will contain new information not already in the recipient's log. In this case, the follower
/// discards its entire log; it is all superseded by the snapshot."
#[test]
fn if_the_snapshot_contains_new_information_the_follower_discards_its_entire_log() {
    for log in [&[1, 1][..], &[1, 1, 1, 1, 1, 1][..]] {
        let mut follower = Replica::with_log(log, 1, 0);
        follower.receive_in(2, 2, heartbeat(0, 1));
        follower.receive_snapshot(id(2, 4));
        follower.persist_all();
        assert_eq!((follower.disk.start.last, follower.disk.entries.len()), (id(2, 4), 0));
        assert_eq!(follower.restores.len(), 1);
        assert_eq!(follower.node.commit(), LogIndex(4));
    }
}

/// "If instead the follower receives a snapshot that describes a prefix of its log [...], then [...] entries following
/// the snapshot are still valid and must be retained."
#[test]
fn if_the_snapshot_describes_a_prefix_of_its_log_the_entries_that_follow_it_must_be_retained() {
    let mut follower = Replica::with_log(&[1, 1, 2, 2], 2, 0);
    follower.receive_in(2, 2, heartbeat(0, 1));
    follower.receive_snapshot(id(1, 2));
    follower.persist_all();
    assert_eq!(follower.node.last(), id(2, 4));
    assert_eq!(follower.restores, [], "the state machine gets there by the log");
    follower.read_all();
    assert_eq!(follower.applied_ids(), [id(1, 1), id(1, 2)]);
    follower.crash();
    assert_eq!(follower.node.last(), id(2, 4));
}

/// The transfer goes on with the log where the snapshot ends.
#[test]
fn after_the_snapshot_the_follower_gets_the_entries_that_follow_it() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.at(1).options.limits.kept_entries_max = 0;
    cluster.kill(3);
    for i in 0..10 {
        cluster.at(1).propose(&i.to_string());
    }
    cluster.run(300);
    // The option counts from the next start on.
    cluster.restart(1);
    cluster.run(3000);
    let leader = cluster.leaders()[0];
    cluster.at(leader).options.limits.kept_entries_max = 0;
    cluster.at(1).take_snapshot(8);
    if leader != 1 {
        cluster.kill(leader);
        cluster.restart(3);
    }
    cluster.restart(3);
    cluster.run(10_000);
    let last = cluster.at(1).node.last();
    assert_eq!(cluster.at(3).node.last(), last);
    assert_eq!(cluster.at(3).node.commit(), last.index);
}

/// A snapshot may go through while the follower learns the same from the log.
#[test]
fn a_follower_that_no_longer_needs_the_snapshot_is_sent_entries_at_once() {
    let mut leader = leader_that_compacted();
    leader.step(Input::Disconnected(NodeId(3)));
    assert_eq!(leader.peer(3).replication, Replication::Snapshot);
    leader.sent.clear();
    leader.receive(3, accepted(5));
    assert_eq!(leader.appends_to(3), [[6]]);
    assert_eq!(leader.peer(3).replication, Replication::Replicate);
}

/// Heartbeats go on while a snapshot is on its way: sending it causes no election.
#[test]
fn a_follower_that_receives_a_snapshot_still_hears_its_leader() {
    let mut leader = leader_that_compacted();
    leader.step(Input::Disconnected(NodeId(3)));
    leader.sent.clear();
    leader.tick(100);
    assert!(leader.sent_to(3).iter().any(|message| matches!(message, Message::Heartbeat { .. })));
}
