//! §8 Client interaction: what a leader knows of what is committed.

use raft_core::{LogIndex, Payload};

use crate::harness::*;

/// "At the start of its term, it may not know which those are. To find out, it needs to commit an entry from its term.
/// Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term."
#[test]
fn each_leader_commits_a_blank_no_op_entry_into_the_log_at_the_start_of_its_term() {
    let mut leader = Replica::with_log(&[1, 1], 1, 0);
    leader.elect();
    let write = leader.write.clone().unwrap();
    assert_eq!(write.entries[0].id, id(2, 3));
    assert_eq!(write.entries[0].payload, Payload::Empty);
    leader.persist_all();
    assert_eq!(leader.node.commit(), LogIndex(0));
    leader.receive(2, accepted(3));
    assert_eq!(leader.node.commit(), LogIndex(3));
}

/// "The Leader Completeness Property guarantees that a leader has all committed entries" — so what earlier leaders
/// left is committed without a new command.
#[test]
fn what_earlier_leaders_left_is_committed_without_a_new_command() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut.insert((2, 1));
    cluster.cut.insert((3, 1));
    cluster.at(1).propose("a");
    cluster.settle();
    cluster.kill(1);
    cluster.run(5000);
    let leader = cluster.leaders()[0];
    assert_eq!(text(&cluster.at(leader).applied), "- a -");
}
