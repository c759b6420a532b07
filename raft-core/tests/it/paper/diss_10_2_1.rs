//! diss. §10.2.1 Writing to the leader's disk in parallel.

use raft_core::{LogIndex, Role};

use crate::harness::*;

/// "The leader can write to its disk in parallel with replicating to the followers and waiting for them to write to
/// their disks."
#[test]
fn the_leader_can_write_to_its_disk_in_parallel_with_replicating_to_the_followers() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    assert_eq!(leader.write.as_ref().map(|write| write.entries.len()), Some(1));
    assert_eq!((leader.appends_to(2), leader.appends_to(3)), (vec![vec![2]], vec![vec![2]]));
    assert_eq!(leader.node.durable(), LogIndex(1));
}

/// "The leader uses its own match index to indicate the latest entry that has been durably written to its disk."
#[test]
fn the_leader_uses_its_own_match_index_to_indicate_the_latest_entry_durably_written_to_its_disk() {
    let mut leader = Replica::leader_of(5);
    leader.propose("a");
    leader.receive(2, accepted(2));
    leader.receive(3, accepted(2));
    assert_eq!(leader.node.commit(), LogIndex(1), "two of five");
    leader.persist();
    assert_eq!(leader.node.commit(), LogIndex(2), "three of five");
}

/// "The leader may even commit an entry before it has been written to its own disk, if a majority of followers have
/// written it to their disks."
#[test]
fn the_leader_may_even_commit_an_entry_before_it_has_been_written_to_its_own_disk() {
    let mut leader = Replica::leader_of(5);
    leader.propose("a");
    for peer in [2, 3, 4] {
        leader.receive(peer, accepted(2));
    }
    assert_eq!((leader.node.commit(), leader.node.durable()), (LogIndex(2), LogIndex(1)));
    // The followers are told, and apply it before the leader does.
    assert!(
        leader
            .sent_to(2)
            .contains(&raft_core::Message::Heartbeat { commit: LogIndex(2), round: None })
    );
    assert_eq!(text(&leader.applied), "-");
}

/// And if it dies before, the entry is not lost: whoever leads next has it (§5.4.3).
#[test]
fn an_entry_that_only_the_followers_disks_hold_survives_the_leader() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.at(1).propose("a");
    cluster.deliver();
    for node in [2, 3] {
        cluster.at(node).persist_all();
    }
    cluster.deliver();
    assert_eq!(cluster.at(1).node.commit(), LogIndex(2));
    assert!(cluster.at(1).write.is_some());
    cluster.kill(1);
    cluster.restart(1);
    assert_eq!(cluster.at(1).node.last().index, LogIndex(1));
    cluster.run(5000);
    let leader = cluster.leaders()[0];
    assert_eq!(cluster.at(leader).node.role(), Role::Leader);
    for node in [1, 2, 3] {
        assert_eq!(text(&cluster.at(node).applied), "- a -", "at {node}");
    }
}
