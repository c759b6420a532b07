//! Snapshots and restarts.

use raft_core::{
    Input, LogIndex, Message, Node, NodeId, Options, Replication, RestoreError, SnapshotOutcome,
    Term,
};

use crate::harness::*;

/// A snapshot of the own state machine that comes after an installed one has passed it.
#[test]
fn a_snapshot_up_to_an_index_that_an_installed_one_has_passed_does_nothing() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 3);
    replica.read_all();
    replica.receive_in(2, 2, heartbeat(0, 1));
    replica.persist_all();
    replica.receive_snapshot(id(2, 20));
    replica.persist_all();
    let before = replica.node.status();
    replica.step(Input::SnapshotTaken(snapshot(id(1, 2), &voters(3))));
    assert_eq!(replica.node.status(), before);
    assert_eq!((replica.write.clone(), replica.disk.start.last), (None, id(2, 20)));
}

/// The same, while the reset of the log is still being written.
#[test]
fn a_snapshot_up_to_an_index_that_is_being_replaced_does_nothing() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 3);
    replica.read_all();
    replica.receive_in(2, 2, heartbeat(0, 1));
    replica.receive_snapshot(id(2, 20));
    replica.step(Input::SnapshotTaken(snapshot(id(1, 2), &voters(3))));
    replica.persist_all();
    assert_eq!(replica.disk.start.last, id(2, 20));
    assert_eq!(replica.restores.len(), 1);
}

/// raft-rs #417: a second snapshot before the first is durable.
#[test]
fn a_second_snapshot_may_come_before_the_first_is_durable() {
    let mut replica = Replica::with_log(&[1, 1], 1, 0);
    replica.receive_in(2, 2, heartbeat(0, 1));
    replica.persist_all();
    replica.sent.clear();
    replica.receive_snapshot(id(2, 20));
    assert!(replica.write.is_some());
    replica.receive_snapshot(id(2, 30));
    replica.persist();
    assert_eq!((replica.sent.clone(), replica.restores.clone()), (vec![], vec![]));
    replica.persist();
    assert!(replica.has_acknowledged(2, 30));
    let restored: Vec<u64> = replica.restores.iter().map(|meta| meta.last.index.0).collect();
    assert_eq!(restored, [30]);
}

/// An older snapshot that arrives after a newer one.
#[test]
fn a_received_snapshot_that_is_older_than_the_commit_index_does_nothing() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 3);
    replica.read_all();
    for last in [id(1, 2), id(1, 3), id(0, 1)] {
        let before = replica.node.status();
        replica.step(Input::SnapshotReceived(snapshot(last, &voters(3))));
        assert_eq!(replica.node.status(), before);
    }
    assert_eq!((replica.write.clone(), replica.restores.clone()), (None, vec![]));
}

/// openraft #1808, etcd PR 13760: membership from before the snapshot survives it, or the reverse.
#[test]
fn a_received_snapshot_brings_its_own_configuration() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(2, 2, heartbeat(0, 1));
    let five = voters(5);
    replica.disk.snapshot = Some(snapshot(id(2, 20), &five));
    replica.step(Input::SnapshotReceived(snapshot(id(2, 20), &five)));
    replica.persist_all();
    assert_eq!(*replica.node.configuration(), five);
    assert_eq!(replica.disk.start.configuration, five);
    replica.crash();
    assert_eq!(*replica.node.configuration(), five);
    // The crash before the log was reset says the same.
    let mut disk = Disk::empty(voters(3));
    disk.snapshot = Some(snapshot(id(2, 20), &five));
    let replica = Replica::start(Options::new(NodeId(1)), disk);
    assert_eq!(*replica.node.configuration(), five);
}

/// etcd #22442: a restart hides committed entries.
#[test]
fn a_restart_has_everything_that_was_acknowledged_or_applied() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1, 1]), 2));
    replica.persist_all();
    assert!(replica.has_acknowledged(2, 3));
    replica.receive(2, append(id(1, 3), entries(3, &[1]), 3));
    let applied = replica.applied_ids();
    replica.crash();
    assert_eq!(replica.node.last(), id(1, 3), "and not the entry that was on its way");
    replica.read_all();
    assert_eq!(replica.applied_ids(), applied[..2], "the commit index that was written last");
    replica.receive(2, append(id(1, 3), vec![], 3));
    replica.read_all();
    assert_eq!(replica.applied_ids(), applied);
}

/// etcd #22442: a truncated tail comes back to life, and ghost entries win votes.
#[test]
fn a_restart_does_not_bring_a_truncated_tail_back_to_life() {
    let mut replica = Replica::with_log(&[1, 1, 1, 1], 1, 0);
    replica.receive_in(2, 2, append(id(1, 1), entries(1, &[2]), 0));
    replica.persist_all();
    assert!(replica.has_acknowledged(2, 2));
    replica.crash();
    assert_eq!(replica.node.last(), id(2, 2));
    assert_eq!(replica.disk.entries.len(), 2);
}

/// redis-raft #43: a gap between snapshot and log.
#[test]
fn a_gap_between_snapshot_and_log_is_an_error_that_names_both() {
    let mut disk = Disk::with_log(voters(3), &[], 3, 0);
    disk.start = snapshot(id(2, 10), &voters(3));
    disk.entries = entries(10, &[2, 3]);
    disk.hard_state.commit = LogIndex(11);
    for at in [None, Some(id(1, 7))] {
        disk.snapshot = at.map(|last| snapshot(last, &voters(3)));
        let error = Node::new(Options::new(NodeId(1)), disk.restored()).unwrap_err();
        let snapshot = at.unwrap_or(id(0, 0));
        assert_eq!(error, RestoreError::Gap { start: id(2, 10), snapshot });
        let text = error.to_string();
        assert!(text.contains("10.2") && text.contains(&snapshot.to_string()), "{text}");
    }
    disk.snapshot = Some(snapshot(id(2, 10), &voters(3)));
    assert!(Node::new(Options::new(NodeId(1)), disk.restored()).is_ok());
}

/// redis-raft #43: what contradicts itself otherwise is an error, too, and never a panic.
#[test]
fn a_disk_that_contradicts_itself_is_an_error() {
    let mut disk = Disk::with_log(voters(3), &[1, 1, 2], 2, 4);
    let start = |disk: &Disk| Node::new(Options::new(NodeId(1)), disk.restored());
    let error = start(&disk).unwrap_err();
    assert_eq!(error, RestoreError::CommitBeyondLog { last: id(2, 3), commit: LogIndex(4) });
    disk.hard_state.commit = LogIndex(2);
    disk.snapshot = Some(snapshot(id(2, 2), &voters(3)));
    let error = start(&disk).unwrap_err();
    assert_eq!(error, RestoreError::Conflict { snapshot: id(2, 2), last: id(2, 3) });
    let mut restored = disk.restored();
    restored.start = snapshot(id(1, 1), &voters(3));
    let error = Node::new(Options::new(NodeId(1)), restored).unwrap_err();
    assert!(matches!(error, RestoreError::TermsMismatch { .. }), "{error}");
}

/// Node 3 has lost its connection, and what it misses is compacted.
fn leader_that_sends_a_snapshot_to_3() -> Replica {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.take_snapshot(2);
    leader.step(Input::Disconnected(NodeId(3)));
    leader
}

/// A transfer that fails is tried again, and one that came through goes on from where it ended.
#[test]
fn a_snapshot_transfer_that_fails_is_tried_again_at_the_pace_of_heartbeats() {
    let mut leader = leader_that_sends_a_snapshot_to_3();
    let mut transfers = 0;
    for _ in 0..5 {
        transfers += leader.snapshots.drain(..).count();
        let (to, outcome) = (NodeId(3), SnapshotOutcome::Failed);
        leader.step(Input::SnapshotSent { to, outcome });
        assert_eq!(leader.snapshots, [], "not at once");
        leader.sent.clear();
        leader.tick(100);
        let round = leader.last_round(3).unwrap();
        leader.receive(3, Message::HeartbeatResponse { round, received: LogIndex(0) });
        leader.receive(2, Message::HeartbeatResponse { round, received: LogIndex(2) });
    }
    assert_eq!(transfers, 5);
    let (to, outcome) = (NodeId(3), SnapshotOutcome::Delivered(id(1, 2)));
    leader.step(Input::SnapshotSent { to, outcome });
    leader.receive(3, accepted(2));
    assert_eq!(leader.peer(3).replication, Replication::Replicate);
    assert_eq!(leader.peer(3).next, LogIndex(3));
}

/// A driver that says where the snapshot ended which was delivered, and is wrong, strands no peer.
#[test]
fn a_snapshot_that_was_delivered_beyond_the_log_leaves_no_follower_behind() {
    let mut leader = leader_that_sends_a_snapshot_to_3();
    leader.sent.clear();
    let (to, outcome) = (NodeId(3), SnapshotOutcome::Delivered(id(1, 99)));
    leader.step(Input::SnapshotSent { to, outcome });
    assert_eq!(leader.sent_to(3), [append(id(1, 2), vec![], 2)], "it is asked what it has");
}

/// Known from many an implementation: to send a large snapshot takes longer than an election timeout, and causes elections.
#[test]
fn a_snapshot_that_takes_a_minute_to_send_causes_no_election() {
    let options = |id| {
        let mut options = Options::new(NodeId(id));
        options.limits.kept_entries_max = 0;
        options
    };
    let start = |id| Replica::start(options(id), Disk::empty(voters(3)));
    let mut cluster = Cluster::new((1..=3).map(start));
    cluster.elect(1);
    cluster.kill(3);
    cluster.at(1).propose("a");
    cluster.run(300);
    cluster.at(1).take_snapshot(2);
    cluster.run(300);
    cluster.restart(3);
    let mut wanted = 0;
    for _ in 0..60_000 / 50 {
        for node in 1..=3 {
            cluster.at(node).tick(50);
        }
        for _ in 0..4 {
            cluster.deliver();
            (1..=3).for_each(|node| cluster.at(node).persist_all());
        }
        // It is on its way, and nobody says yet that it has arrived.
        wanted += cluster.at(1).snapshots.drain(..).count();
    }
    assert_eq!(wanted, 1, "nor is it sent again meanwhile");
    assert_eq!((cluster.leaders(), cluster.at(1).node.term()), (vec![1], Term(1)));
    assert_eq!(cluster.at(3).node.leader(), Some(NodeId(1)));
    cluster.at(3).receive_snapshot(id(1, 2));
    let (to, outcome) = (NodeId(3), SnapshotOutcome::Delivered(id(1, 2)));
    cluster.at(1).step(Input::SnapshotSent { to, outcome });
    cluster.run(300);
    assert_eq!(cluster.at(3).node.commit(), LogIndex(2));
}
