//! §5.4.2 Committing entries from previous terms, and Figure 8.

use raft_core::{LogIndex, NodeId, Options, Role, Term};

use crate::harness::*;

/// Figure 8 up to (c): S1 leads again, in term 3, and has replicated entry 2 of term 1 on S1, S2 and S3. S5 has another
/// entry at that index, of term 2. S1's own entry of term 3 is on its disk alone.
fn figure_8_c() -> Cluster {
    let one_entry_a_message = |id| {
        let mut options = Options::new(NodeId(id));
        options.limits.message_entries_max = 1;
        Replica::start(options, Disk::empty(voters(5)))
    };
    let mut cluster = Cluster::new((1..=5).map(one_entry_a_message));
    // (a) S1 is leader and partially replicates the log entry at index 2.
    cluster.elect(1);
    cluster.cut.extend([(1, 3), (1, 4), (1, 5)]);
    cluster.at(1).propose("of term 1");
    cluster.settle();
    assert_eq!((cluster.terms(2), cluster.terms(3)), (vec![1, 1], vec![1]));
    // (b) S1 crashes; S5 is elected for the next term with votes from S3, S4 and itself, and accepts a different
    // entry at log index 2.
    cluster.kill(1);
    cluster.cut.extend([(5, 2)]);
    for voter in [3, 4] {
        cluster.at(voter).tick(600);
    }
    cluster.at(5).time_out();
    while cluster.at(5).node.role() != Role::Leader {
        cluster.deliver();
        for id in [3, 4, 5] {
            cluster.at(id).persist_all();
        }
    }
    cluster.at(5).persist_all();
    assert_eq!((cluster.terms(5), cluster.at(5).node.term()), (vec![1, 2], Term(2)));
    // (c) S5 crashes; S1 restarts, is elected leader, and continues replication.
    cluster.kill(5);
    cluster.wire.clear();
    cluster.heal();
    cluster.restart(1);
    for voter in [2, 3, 4] {
        cluster.at(voter).tick(1000);
        cluster.at(voter).take_sent();
    }
    cluster.cut.extend([(1, 4)]);
    for _ in 0..100 {
        let role = cluster.at(1).node.role();
        if role == Role::Follower {
            cluster.at(1).time_out();
        } else if role == Role::Leader {
            // S2 has entry 2, and is not to get entry 3.
            cluster.cut.insert((1, 2));
        }
        cluster.deliver();
        for id in [1, 2, 3] {
            cluster.at(id).persist_all();
        }
        cluster.at(1).read_all();
        if cluster.terms(3) == [1, 1] {
            break;
        }
    }
    assert_eq!(cluster.leaders(), [1]);
    assert_eq!((cluster.terms(1), cluster.at(1).node.term()), (vec![1, 1, 3], Term(3)));
    for id in [2, 3] {
        assert_eq!(cluster.terms(id), [1, 1], "entry 3 is on its way to {id}");
    }
    cluster
}

/// "At this point, the log entry from term 2 has been replicated on a majority of the servers, but it is not
/// committed."
#[test]
fn figure_8_c_an_entry_from_an_earlier_term_on_a_majority_of_the_servers_is_not_committed() {
    let mut cluster = figure_8_c();
    for follower in [2, 3] {
        cluster.at(1).receive(follower, accepted(2));
        assert_eq!(cluster.at(1).peer(follower).matched, LogIndex(2));
    }
    assert_eq!(cluster.at(1).node.commit(), LogIndex(1), "entry 2 is on three disks of five");
}

/// "(d) If S1 crashes [...], S5 could be elected leader (with votes from S2, S3, and S4) and overwrite the entry with
/// its own entry from term 3."
#[test]
fn figure_8_d_it_could_be_overwritten_by_a_leader_with_a_later_last_term() {
    let mut cluster = figure_8_c();
    cluster.kill(1);
    cluster.wire.clear();
    cluster.restart(5);
    for voter in [2, 3, 4] {
        cluster.at(voter).tick(1000);
        cluster.at(voter).take_sent();
    }
    for _ in 0..5 {
        if cluster.at(5).node.role() != Role::Leader {
            cluster.at(5).time_out();
            cluster.settle();
        }
    }
    assert_eq!(cluster.leaders(), [5]);
    cluster.run(1000);
    for node in [2, 3, 4, 5] {
        assert_eq!(cluster.terms(node)[..2], [1, 2], "at {node}");
        assert!(cluster.at(node).node.commit() >= LogIndex(2));
    }
}

/// "(e) However, if S1 replicates an entry from its current term on a majority of the servers before crashing, then
/// this entry is committed (S5 cannot win an election). At this point all preceding entries in the log are committed
/// as well."
#[test]
fn figure_8_e_once_an_entry_of_its_own_term_is_on_a_majority_all_preceding_ones_are_committed_as_well()
 {
    let mut cluster = figure_8_c();
    cluster.heal();
    cluster.cut.insert((1, 4));
    cluster.run(300);
    assert_eq!(cluster.at(1).node.commit(), LogIndex(3));
    cluster.kill(1);
    cluster.restart(5);
    cluster.heal();
    for _ in 0..10 {
        cluster.at(5).time_out();
        cluster.settle();
        assert_ne!(cluster.at(5).node.role(), Role::Leader);
    }
    cluster.run(5000);
    let leader = cluster.leaders()[0];
    assert!([2, 3].contains(&leader), "{leader}");
    assert_eq!(cluster.terms(5), cluster.terms(leader));
    assert_eq!(cluster.terms(5)[..2], [1, 1]);
}

/// "Raft never commits log entries from previous terms by counting replicas. Only log entries from the leader's
/// current term are committed by counting replicas."
#[test]
fn raft_never_commits_log_entries_from_previous_terms_by_counting_replicas() {
    let mut leader = Replica::with_log(&[1, 1, 2, 3], 4, 0);
    leader.elect();
    leader.persist_all();
    for matched in 1..=4 {
        leader.receive(2, accepted(matched));
        leader.receive(3, accepted(matched));
        assert_eq!(leader.node.commit(), LogIndex(0));
    }
    leader.receive(2, accepted(5));
    assert_eq!(leader.node.commit(), LogIndex(5));
}

/// "Log entries retain their original term numbers when a leader replicates entries from previous terms."
#[test]
fn log_entries_retain_their_original_term_numbers() {
    let mut cluster = Cluster::with_logs(&[&[1, 2, 3], &[], &[]], 3, 0);
    cluster.elect(1);
    cluster.run(500);
    for node in [2, 3] {
        assert_eq!(cluster.terms(node), [1, 2, 3, 4]);
    }
}
