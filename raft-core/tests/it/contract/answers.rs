//! What a follower answers, what a leader makes of it, and that neither sends more than it has to.

use raft_core::{Input, LogIndex, Message, NodeId, Options, Replication, SnapshotOutcome};

use crate::harness::*;

/// Leads term 3. Its log starts after entry 4 of term 2 and holds 5 of term 2 and 6, its own first. Nothing is known of
/// the others.
fn leader_after_a_compaction() -> Replica {
    let mut disk = Disk::with_log(voters(3), &[1, 1, 1, 2, 2], 2, 4);
    disk.start = snapshot(id(2, 4), &voters(3));
    disk.snapshot = Some(disk.start.clone());
    disk.entries.drain(..4);
    let mut leader = Replica::start(Options::new(NodeId(1)), disk);
    leader.elect();
    leader.persist_all();
    leader.sent.clear();
    leader
}

/// §5.3, §7: a rejection whose hint is the compaction point itself.
#[test]
fn a_follower_that_has_the_compaction_point_is_sent_what_follows_and_no_snapshot() {
    let mut leader = leader_after_a_compaction();
    leader.receive(2, rejected(5, id(2, 4)));
    assert_eq!((leader.peer(2).next, leader.snapshots.len()), (LogIndex(5), 0));
    let fetch = leader.fetches.pop().expect("entry 5 is on the disk");
    assert_eq!((fetch.first, fetch.last), (LogIndex(5), LogIndex(5)));
}

/// The other way round: who has another entry there needs the snapshot, and it is not asked once more.
#[test]
fn a_follower_that_contradicts_the_compaction_point_gets_the_snapshot_at_once() {
    for hint in [id(1, 4), id(0, 0), id(1, 3)] {
        let mut leader = leader_after_a_compaction();
        leader.receive(2, rejected(5, hint));
        assert_eq!(leader.snapshots.len(), 1, "hint {hint}");
        assert_eq!(leader.sent_to(2), [], "hint {hint}");
    }
}

#[test]
fn an_answer_that_says_nothing_new_ends_no_probing() {
    let mut leader = Replica::with_log(&[1; 5], 1, 0);
    leader.elect();
    leader.persist_all();
    assert_eq!(leader.peer(2).replication, Replication::Probe);
    leader.receive(2, accepted(0));
    assert_eq!(leader.peer(2).replication, Replication::Probe);
    // Some of what was sent is durable there: the logs do not part before.
    leader.receive(2, accepted(3));
    assert_eq!(leader.peer(2).replication, Replication::Replicate);
}

#[test]
fn the_end_of_a_transfer_that_nobody_waits_for_changes_nothing() {
    let mut leader = Replica::leader_of(3);
    for outcome in [SnapshotOutcome::Failed, SnapshotOutcome::Delivered(id(1, 1))] {
        leader.step(Input::SnapshotSent { to: NodeId(2), outcome });
        assert_eq!(leader.peer(2).replication, Replication::Replicate);
        assert_eq!(leader.sent, []);
    }
}

/// A message between two others was lost: its successor is refused, and the peer is asked where the logs part.
#[test]
fn a_rejection_of_what_is_on_its_way_makes_the_leader_probe_at_once() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.propose("b");
    leader.sent.clear();
    leader.receive(2, rejected(2, id(1, 1)));
    assert_eq!(leader.peer(2).replication, Replication::Probe);
    assert_eq!(leader.appends_to(2), [[2, 3]]);
    // The same one again says nothing new.
    leader.sent.clear();
    leader.receive(2, rejected(2, id(1, 1)));
    assert_eq!(leader.sent_to(2), []);
    // Nor does a late one of what has been acknowledged since.
    leader.receive(2, accepted(3));
    leader.receive(2, rejected(3, id(1, 1)));
    assert_eq!(leader.peer(2).replication, Replication::Replicate);
}

#[test]
fn a_peer_that_has_everything_is_not_asked_when_its_connection_is_lost() {
    let mut leader = Replica::leader_of(3);
    leader.step(Input::Disconnected(NodeId(2)));
    assert_eq!(leader.sent_to(2), []);
}

/// Node 3 has acknowledged nothing since the first entry; what it needs is compacted, and a snapshot is wanted for it.
fn leader_that_sends_a_snapshot_to_3() -> Replica {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    for command in ["a", "b", "c"] {
        leader.propose(command);
    }
    leader.persist_all();
    leader.receive(2, accepted(4));
    leader.take_snapshot(3);
    leader.persist_all();
    leader.step(Input::Disconnected(NodeId(3)));
    assert_eq!(leader.snapshots.drain(..).count(), 1);
    leader.sent.clear();
    leader
}

#[test]
fn a_late_acknowledgement_before_the_compaction_point_does_not_end_the_wait_for_a_snapshot() {
    let mut leader = leader_that_sends_a_snapshot_to_3();
    leader.receive(3, accepted(2));
    assert_eq!(leader.peer(3).replication, Replication::Snapshot);
    assert_eq!((leader.snapshots.len(), leader.appends_to(3).len()), (0, 0));
    leader.receive(3, accepted(3));
    assert_eq!(leader.peer(3).replication, Replication::Replicate);
    assert_eq!(leader.appends_to(3), [[4]]);
}

#[test]
fn a_peer_that_answers_after_a_transfer_failed_is_sent_entries_again() {
    let mut leader = leader_that_sends_a_snapshot_to_3();
    let (to, outcome) = (NodeId(3), SnapshotOutcome::Failed);
    leader.step(Input::SnapshotSent { to, outcome });
    assert_eq!((leader.snapshots.len(), leader.sent_to(3)), (0, vec![]));
    // Its answer to what left before.
    leader.receive(3, accepted(4));
    leader.propose("d");
    assert_eq!(leader.appends_to(3), [[5]]);
}

/// What is committed is in every later leader's log (§5.4.3), so a follower need not be asked for it.
#[test]
fn a_follower_of_a_new_leader_has_received_what_is_committed_and_acknowledges_it_when_asked() {
    let mut follower = Replica::with_log(&[1, 1, 1, 1], 1, 3);
    follower.receive_in(2, 2, heartbeat(0, 7));
    let received = LogIndex(3);
    assert_eq!(follower.sent_to(2), [Message::HeartbeatResponse { round: 7, received }]);
    follower.persist_all();
    assert_eq!(follower.sent_to(2).len(), 1, "nobody asked");
    follower.receive(2, append(id(1, 3), vec![], 3));
    assert!(follower.has_acknowledged(2, 3));
}

/// A message from before a compaction: what it repeats of the compacted entries is the leader's.
#[test]
fn a_repeated_message_that_begins_before_the_compaction_point_is_acknowledged() {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let disk = Disk::with_log(voters(3), &[1; 6], 1, 5);
    let mut follower = Replica::start(options, disk);
    follower.read_all();
    follower.take_snapshot(5);
    follower.persist_all();
    assert_eq!(follower.node.status().start, id(1, 5));
    follower.receive(2, append(id(1, 2), entries(2, &[1; 5]), 5));
    follower.persist_all();
    assert!(follower.has_acknowledged(2, 7), "{:?}", follower.sent);
    assert_eq!(follower.node.counters().conflicts_with_committed, 0);
}
