//! What a leader makes of its followers' answers, and sends no more than it has to.

use raft_core::{Input, LogIndex, NodeId, Options, Replication, SnapshotOutcome};

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
    leader.receive(2, accepted(6));
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
