//! §5.3 Log replication.

use raft_core::{LogIndex, Message, NodeId, Replication};

use crate::harness::*;

/// "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of
/// the other servers to replicate the entry."
#[test]
fn the_leader_appends_the_command_to_its_log_then_issues_append_entries_to_each_of_the_others() {
    let mut leader = Replica::leader_of(5);
    let last = leader.propose("a");
    assert_eq!((leader.node.last(), last), (id(1, 2), id(1, 2)));
    for peer in 2..=5 {
        assert_eq!(leader.appends_to(peer), [[2]]);
    }
}

/// "When the entry has been safely replicated, the leader applies the entry to its state machine."
#[test]
fn when_the_entry_has_been_safely_replicated_the_leader_applies_the_entry_to_its_state_machine() {
    let mut leader = Replica::leader_of(5);
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    assert_eq!(text(&leader.applied), "-");
    leader.receive(3, accepted(2));
    assert_eq!(text(&leader.applied), "- a");
}

/// "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs
/// indefinitely (even after it has responded to the client) until all followers eventually store all log entries."
#[test]
fn the_leader_retries_indefinitely_until_all_followers_eventually_store_all_log_entries() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.partition(&[3]);
    for i in 0..10 {
        cluster.at(1).propose(&i.to_string());
        cluster.run(1000);
    }
    assert_eq!(cluster.at(1).node.commit(), LogIndex(11));
    cluster.heal();
    cluster.run(3000);
    assert_eq!(text(&cluster.at(3).applied), text(&cluster.at(1).applied));
    assert_eq!(cluster.at(3).applied.len(), cluster.at(1).applied.len());
}

/// "A log entry is committed once the leader that created the entry has replicated it on a majority of the servers."
#[test]
fn a_log_entry_is_committed_once_its_leader_has_replicated_it_on_a_majority_of_the_servers() {
    for (count, others) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut leader = Replica::leader_of(count);
        leader.propose("a");
        leader.persist_all();
        for peer in (2..).take(others) {
            assert_eq!(leader.node.commit(), LogIndex(1), "of {count}, before {peer}");
            leader.receive(peer, accepted(2));
        }
        assert_eq!(leader.node.commit(), LogIndex(2), "of {count}");
    }
}

/// "This also commits all preceding entries in the leader's log, including entries created by previous leaders."
#[test]
fn this_also_commits_all_preceding_entries_including_entries_created_by_previous_leaders() {
    let mut leader = Replica::with_log(&[1, 2, 2], 2, 0);
    leader.elect();
    leader.persist_all();
    leader.receive(2, accepted(4));
    assert_eq!(leader.node.commit(), LogIndex(4));
    leader.read_all();
    assert_eq!(leader.applied_ids(), [id(1, 1), id(2, 2), id(2, 3), id(3, 4)]);
}

/// "The leader keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."
#[test]
fn the_leader_includes_the_commit_index_in_future_messages_including_heartbeats() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.sent.clear();
    leader.propose("b");
    let commit = |message: &Message| {
        let (Message::AppendEntries { commit, .. } | Message::Heartbeat { commit, .. }) = message
        else {
            panic!("{message:?}")
        };
        commit.0
    };
    assert_eq!(leader.sent_to(2).iter().map(commit).max(), Some(2));
    leader.sent.clear();
    leader.tick(100);
    assert_eq!(leader.sent_to(2).iter().map(commit).collect::<Vec<_>>(), [2]);
    // What follower 3 is not known to hold, a heartbeat does not call committed there.
    assert_eq!(leader.sent_to(3).iter().map(commit).collect::<Vec<_>>(), [1]);
}

/// "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in log
/// order)."
#[test]
fn once_a_follower_learns_that_an_entry_is_committed_it_applies_it_in_log_order() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1, 1]), 0));
    follower.persist_all();
    for (commit, applied) in [(1, "1.1"), (3, "1.1 2.1 3.1"), (2, "1.1 2.1 3.1")] {
        follower.receive(2, heartbeat(commit, 1));
        assert_eq!(text(&follower.applied), applied);
    }
}

/// paper, Fig. 2: "set commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn a_follower_commits_no_further_than_the_last_entry_that_it_knows_to_be_the_leaders() {
    let mut follower = Replica::with_log(&[1, 1, 1], 1, 0);
    follower.receive_in(2, 2, append(id(1, 1), entries(1, &[1]), 3));
    assert_eq!(follower.node.commit(), LogIndex(2), "entry 3 may be another than the leader's");
    follower.receive(2, heartbeat(3, 1));
    assert_eq!(follower.node.commit(), LogIndex(2));
    follower.receive(2, append(id(1, 3), vec![], 3));
    assert_eq!(follower.node.commit(), LogIndex(3));
}

/// "When sending an AppendEntries RPC, the leader includes the index and term of the entry in its log that
/// immediately precedes the new entries."
#[test]
fn the_leader_includes_the_index_and_term_of_the_entry_that_immediately_precedes_the_new_entries() {
    let mut leader = Replica::with_log(&[1, 2], 2, 0);
    leader.elect();
    leader.receive(2, rejected(2, id(1, 1)));
    leader.read_all();
    let sent = leader.sent_to(2);
    let Some(Message::AppendEntries { previous, entries, .. }) = sent.last() else {
        panic!("{sent:?}")
    };
    assert_eq!((*previous, entries[0].id), (id(1, 1), id(2, 2)));
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses the new entries."
#[test]
fn if_the_follower_does_not_find_that_entry_in_its_log_it_refuses_the_new_entries() {
    for previous in [id(2, 4), id(3, 9), id(2, 2), id(3, 3)] {
        let mut follower = Replica::with_log(&[1, 1, 2], 2, 0);
        follower.receive_in(3, 2, append(previous, entries(previous.index.0, &[3]), 9));
        follower.persist_all();
        assert_eq!((follower.node.last(), follower.node.commit()), (id(2, 3), LogIndex(0)));
        let sent = follower.sent_to(2);
        let [
            Message::AppendResponse(raft_core::AppendOutcome::Rejected { previous: refused, hint }),
        ] = sent[..]
        else {
            panic!("{previous}: {sent:?}")
        };
        assert_eq!(refused, previous.index);
        assert!(hint.index < previous.index && hint.term <= previous.term);
    }
}

/// "If two entries in different logs have the same index and term, then the logs are identical in all preceding
/// entries" — so a match is all that is checked.
#[test]
fn a_follower_that_finds_the_entry_takes_what_follows_it() {
    let mut follower = Replica::with_log(&[1, 1, 2], 2, 0);
    follower.receive_in(3, 2, append(id(2, 3), entries(3, &[2, 3]), 0));
    follower.persist_all();
    assert_eq!(follower.node.last(), id(3, 5));
    assert!(follower.has_acknowledged(2, 5));
}

/// "Conflicting entries in follower logs will be overwritten with entries from the leader's log."
#[test]
fn conflicting_entries_in_follower_logs_will_be_overwritten_with_entries_from_the_leaders_log() {
    let mut follower = Replica::with_log(&[1, 1, 2, 2, 2], 2, 1);
    follower.receive_in(3, 2, append(id(1, 1), entries(1, &[1, 3]), 0));
    follower.persist_all();
    let terms: Vec<u64> = follower.disk.entries.iter().map(|entry| entry.id.term.0).collect();
    assert_eq!(terms, [1, 1, 3]);
    assert!(follower.has_acknowledged(2, 3) && !follower.has_acknowledged(2, 4));
}

/// "A leader never overwrites or deletes entries in its own log (the Leader Append-Only Property)."
#[test]
fn a_leader_never_overwrites_or_deletes_entries_in_its_own_log() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    for message in [
        append(id(0, 0), entries(0, &[1]), 9),
        append(id(1, 1), vec![entry(1, 2)], 2),
        heartbeat(9, 1),
        rejected(1, id(0, 0)),
        Message::RequestVote { last: id(9, 9), transfer: false },
    ] {
        leader.receive(2, message);
        assert_eq!(leader.node.last(), id(1, 2));
        assert_eq!(leader.node.role(), raft_core::Role::Leader);
    }
    assert_eq!(leader.node.counters().second_leader, 3);
}

/// "When a leader first comes to power, it initializes all nextIndex values to the index just after the last one in
/// its log."
#[test]
fn when_a_leader_first_comes_to_power_it_initializes_all_next_indexes_to_just_after_its_last_entry()
{
    let mut leader = Replica::with_log(&[1, 1, 1], 1, 0);
    leader.elect();
    for peer in [2, 3] {
        let peer = leader.peer(peer);
        assert_eq!((peer.next, peer.matched), (LogIndex(4), LogIndex(0)));
        assert_eq!(peer.replication, Replication::Probe);
    }
}

/// "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC. Eventually nextIndex will
/// reach a point where the leader and follower logs match."
#[test]
fn after_a_rejection_the_leader_retries_from_further_back_until_the_logs_match() {
    let mut cluster = Cluster::with_logs(&[&[1, 1, 4, 4], &[1, 1, 2, 2, 3, 3], &[1]], 4, 0);
    cluster.at(1).elect();
    cluster.at(1).persist_all();
    for _ in 0..20 {
        cluster.at(1).tick(50);
        cluster.settle();
    }
    for node in [1, 2, 3] {
        assert_eq!(cluster.terms(node), [1, 1, 4, 4, 5], "at {node}");
    }
}

/// "With this optimization, one AppendEntries RPC will be required for each term with conflicting entries, rather
/// than one RPC per entry."
#[test]
fn one_message_will_be_required_for_each_term_with_conflicting_entries_rather_than_one_per_entry() {
    let mut theirs = vec![1; 10];
    theirs.extend([2; 100]);
    theirs.extend([3; 100]);
    let mut ours = vec![1; 10];
    ours.extend([4; 150]);
    let mut cluster = Cluster::with_logs(&[&ours, &theirs, &ours], 4, 0);
    cluster.elect(1);
    cluster.at(1).tick(100);
    cluster.collect();
    // Everything has been settled by now: how often was follower 2 asked?
    assert_eq!(cluster.terms(2), cluster.terms(1));
    let mut leader =
        Replica::start(raft_core::Options::new(NodeId(1)), Disk::with_log(voters(3), &ours, 4, 0));
    let mut follower = Replica::start(
        raft_core::Options::new(NodeId(2)),
        Disk::with_log(voters(3), &theirs, 4, 0),
    );
    leader.options = raft_core::Options::new(NodeId(1));
    leader.elect();
    leader.drain();
    let mut appends = 0;
    leader.persist_all();
    leader.step(raft_core::Input::Disconnected(NodeId(2)));
    while follower.node.last() != leader.node.last() {
        for envelope in leader.take_sent() {
            if envelope.to == NodeId(2) {
                appends += 1;
                follower.step(raft_core::Input::Receive(envelope));
            }
        }
        follower.persist_all();
        for envelope in follower.take_sent() {
            leader.step(raft_core::Input::Receive(envelope));
        }
        leader.read_all();
        assert!(
            appends < 10,
            "{appends} messages, and the follower is at {}",
            follower.node.last()
        );
    }
    assert!(appends <= 4, "{appends} messages for two terms that conflict");
}

/// paper, Fig. 7: "When the leader at the top comes to power, it is possible that any of scenarios (a-f) could occur
/// in follower logs" — and all of them become like the leader's.
#[test]
fn figure_7_a_leader_makes_every_followers_log_like_its_own() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let a: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6];
    let b: &[u64] = &[1, 1, 1, 4];
    let c: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6];
    let d: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7];
    let e: &[u64] = &[1, 1, 1, 4, 4, 4, 4];
    let f: &[u64] = &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3];
    let mut cluster = Cluster::with_logs(&[leader, a, b, c, d, e, f], 7, 0);
    // (a), (b), (e) and (f) vote for it: a majority, with its own.
    cluster.elect(1);
    cluster.run(1000);
    let expected = [leader, &[8]].concat();
    for node in 1..=7 {
        assert_eq!(cluster.terms(node), expected, "at {node}");
        assert_eq!(cluster.at(node).node.commit(), LogIndex(11));
    }
}

/// "In the normal case a new entry can be replicated with a single round of RPCs to a majority of the cluster; and a
/// single slow follower will not impact performance."
#[test]
fn a_new_entry_can_be_replicated_with_a_single_round_to_a_majority_of_the_cluster() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.run(300);
    cluster.collect();
    cluster.wire.clear();
    cluster.dead.extend([4, 5]);
    cluster.at(1).propose("a");
    cluster.at(1).persist_all();
    cluster.deliver();
    for node in [2, 3] {
        cluster.at(node).persist_all();
    }
    assert_eq!(cluster.deliver(), 2, "an answer each");
    assert_eq!(cluster.at(1).node.commit(), LogIndex(2));
}
