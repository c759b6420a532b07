//! Mechanisms that cost other consensus libraries their safety, their liveness or their users' trust. Each test
//! names where it happened. "paper" is the extended Raft paper, "diss." Ongaro's dissertation.

use raft_core::{
    Configuration, Fetched, Input, LogIndex, Message, Node, NodeId, Options, Replication,
    RestoreError, Role, SnapshotOutcome, Term,
};

use crate::harness::*;

fn no_pre_vote() -> Options {
    Options { pre_vote: false, ..Options::new(NodeId(1)) }
}

// Elections and terms.

/// paper, Fig. 2: a vote that is sent before it is durable.
#[test]
fn a_crash_before_the_vote_is_durable_leaves_no_vote_behind_that_anybody_knows_of() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0) });
    assert_eq!(replica.sent, []);
    replica.crash();
    replica.receive_in(7, 3, Message::RequestVote { last: id(0, 0) });
    replica.persist();
    assert_eq!((replica.sent_to(2), replica.sent_to(3)), (vec![], vec![GRANTED]));
}

/// paper, Fig. 2: the same after the crash.
#[test]
fn a_crash_after_the_vote_was_durable_does_not_let_the_node_vote_twice() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0) });
    replica.persist();
    replica.crash();
    replica.receive_in(7, 3, Message::RequestVote { last: id(9, 9) });
    replica.persist_all();
    assert_eq!(replica.sent_to(3), [DENIED]);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0) });
    assert_eq!(replica.sent_to(2), [GRANTED], "the same vote may be given again");
}

/// NuRaft #134: a pre-vote that ignores the candidate's log.
#[test]
fn a_laggard_gets_no_pre_vote_and_raises_no_term() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[1, 1], &[1]], 1, 0);
    cluster.dead.insert(1);
    for _ in 0..20 {
        cluster.at(3).time_out();
        cluster.settle();
        assert_ne!(cluster.at(3).node.role(), Role::Leader);
    }
    assert_eq!((cluster.at(2).node.term(), cluster.at(3).node.term()), (Term(1), Term(1)));
    cluster.elect(2);
}

/// hashicorp/raft PR 609: a granted pre-vote that counts as contact with a leader.
#[test]
fn granting_a_pre_vote_puts_off_no_election() {
    let mut replica = Replica::first_of(3);
    let due = replica.node.next_tick();
    replica.tick(100);
    let campaign = replica.node.term().next();
    replica.receive(2, Message::PreVote { campaign, last: id(0, 0) });
    assert_eq!(replica.sent_to(2), [Message::PreVoteResponse { campaign, granted: true }]);
    assert_eq!(replica.node.next_tick(), due);
    assert_eq!(replica.node.leader(), None);
}

/// openraft #1796: a rejected pre-vote that hides a higher term leaves a cluster without a leader for ever.
#[test]
fn a_rejected_pre_vote_tells_the_higher_term() {
    // Node 3 is far ahead in terms and behind in its log; node 1 is dead.
    let logs: [&[u64]; 3] = [&[1, 1], &[1, 1], &[1]];
    let mut cluster = Cluster::with_logs(&logs, 1, 0);
    cluster.at(3).disk.hard_state.term = Term(10);
    cluster.restart(3);
    cluster.dead.insert(1);
    cluster.at(2).time_out();
    cluster.settle();
    assert_eq!(cluster.at(2).node.term(), Term(10));
    cluster.elect(2);
    cluster.run(300);
    assert_eq!(cluster.terms(3), cluster.terms(2));
}

/// etcd #8501, raft-rs #42 and #84: mixed settings of PreVote and CheckQuorum.
#[test]
fn nodes_with_mixed_settings_find_a_leader_again() {
    let settings = [(false, false), (false, true), (true, false), (true, true)];
    for combination in 0..64_u64 {
        let options = |node: u64| {
            let (pre_vote, check_quorum) = settings[(combination >> (2 * (node - 1))) as usize % 4];
            let id = NodeId(node);
            Options { pre_vote, check_quorum, ..Options::new(id) }
        };
        let disk = || Disk::empty(voters(3));
        let mut cluster = Cluster::new((1..=3).map(|id| Replica::start(options(id), disk())));
        cluster.run(5000);
        let first = cluster.leaders();
        assert_eq!(first.len(), 1, "settings {combination}");
        // One that was cut off comes back with whatever term it has reached.
        let other = first[0] % 3 + 1;
        cluster.partition(&[other]);
        cluster.run(10_000);
        cluster.heal();
        cluster.run(10_000);
        assert_eq!(cluster.leaders().len(), 1, "settings {combination}");
        let leader = cluster.leaders()[0];
        let id = cluster.at(leader).propose("x");
        cluster.run(1000);
        for node in 1..=3 {
            assert!(cluster.at(node).node.commit() >= id.index, "settings {combination}");
        }
    }
}

/// etcd #8501: the one with the longest log has the lowest term, and everybody else a higher one.
#[test]
fn the_only_electable_node_is_elected_though_its_term_is_the_lowest() {
    let mut cluster = Cluster::with_logs(&[&[1, 1, 1], &[1], &[1]], 1, 0);
    for (node, term) in [(2, 5), (3, 9)] {
        cluster.at(node).disk.hard_state.term = Term(term);
        cluster.restart(node);
    }
    cluster.dead.insert(2);
    cluster.run(10_000);
    assert_eq!(cluster.leaders(), [1]);
}

/// openraft a48a3282: an equal vote taken for a grant.
#[test]
fn a_vote_for_the_own_self_is_no_grant_for_another_candidate_of_the_term() {
    let mut replica = Replica::start(no_pre_vote(), Disk::empty(voters(3)));
    replica.time_out();
    replica.persist();
    replica.sent.clear();
    replica.receive(2, Message::RequestVote { last: id(0, 0) });
    assert_eq!(replica.sent_to(2), [DENIED]);
    assert_eq!(replica.node.role(), Role::Candidate);
}

/// openraft a48a3282: logs compared by index alone, or by term alone.
#[test]
fn a_longer_log_of_an_older_term_gets_no_vote_and_a_shorter_one_of_a_later_term_does() {
    for (last, granted) in [
        (id(1, 99), false),
        (id(2, 2), false),
        (id(2, 3), true),
        (id(2, 4), true),
        (id(3, 1), true),
    ] {
        let mut replica = Replica::with_log(&[1, 2, 2], 3, 0);
        replica.receive_in(4, 2, Message::RequestVote { last });
        replica.persist_all();
        assert_eq!(replica.sent_to(2), [Message::VoteResponse { granted }], "{last}");
        let campaign = Term(5);
        replica.sent.clear();
        replica.receive_in(4, 3, Message::PreVote { campaign, last });
        assert_eq!(replica.sent_to(3), [Message::PreVoteResponse { campaign, granted }]);
    }
}

/// etcd #10998: a learner that refuses to vote, because it has not heard yet that it is a voter.
#[test]
fn a_node_that_thinks_itself_a_learner_grants_its_vote() {
    let configuration = Configuration::new([NodeId(2), NodeId(3)], [NodeId(1)]);
    let mut learner = Replica::start(Options::new(NodeId(1)), Disk::empty(configuration));
    learner.receive_in(7, 2, Message::RequestVote { last: id(0, 0) });
    learner.persist();
    assert_eq!(learner.sent_to(2), [GRANTED]);
}

/// diss. §4.2.3: a node that was removed, or never was a voter, disrupts.
#[test]
fn a_learner_never_campaigns() {
    let configuration = Configuration::new([NodeId(2), NodeId(3)], [NodeId(1)]);
    let mut learner = Replica::start(Options::new(NodeId(1)), Disk::empty(configuration));
    for _ in 0..100 {
        learner.tick(1000);
    }
    assert_eq!((learner.sent.len(), learner.node.term()), (0, Term(0)));
    assert_eq!(learner.node.role(), Role::Follower);
}

/// diss. §4.2.3: a server that does not get heartbeats any more times out and starts elections.
#[test]
fn a_request_for_a_vote_does_not_depose_a_leader_that_is_heard() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(300);
    let term = cluster.at(1).node.term();
    for node in [1, 2, 3] {
        let replica = cluster.at(node);
        replica.receive_in(term.0 + 5, 99, Message::RequestVote { last: id(9, 99) });
        assert_eq!(replica.node.term(), term);
        assert_eq!(replica.sent_to(99), []);
    }
    cluster.run(1000);
    assert_eq!(cluster.leaders(), [1]);
}

/// openraft 4490c678: a leader that is asked to campaign deposes itself.
#[test]
fn a_leader_with_a_quorum_never_campaigns() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.at(1).node.term();
    cluster.run(20_000);
    assert_eq!((cluster.leaders(), cluster.at(1).node.term()), (vec![1], term));
}

/// openraft #898: a wiped follower makes `commit out of range` panic, on either side.
#[test]
fn a_wiped_follower_panics_nobody_and_is_told_no_commit_index_that_it_does_not_hold() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    for i in 0..10 {
        cluster.at(1).propose(&i.to_string());
    }
    cluster.run(1000);
    assert_eq!(cluster.at(3).node.commit(), LogIndex(11));
    cluster.at(3).disk = Disk::empty(voters(3));
    cluster.restart(3);
    for _ in 0..20 {
        for node in 1..=3 {
            cluster.at(node).tick(50);
        }
        for _ in 0..20 {
            cluster.deliver();
            cluster.at(3).persist_all();
        }
    }
    assert_eq!(cluster.leaders(), [1]);
    let wiped = &cluster.at(3).node;
    assert_eq!((wiped.commit(), wiped.last().index), (LogIndex(0), LogIndex(0)));
}

/// The same: the leader does not talk to it as fast as the network allows.
#[test]
fn a_follower_that_forgot_what_it_acknowledged_is_asked_at_the_pace_of_heartbeats() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.receive(3, accepted(2));
    leader.propose("b");
    leader.tick(100);
    let round = leader.last_round(3).unwrap();
    leader.receive(3, Message::HeartbeatResponse { round, received: LogIndex(0) });
    let mut asked = 0;
    for _ in 0..100 {
        leader.sent.clear();
        leader.receive(3, rejected(2, id(0, 0)));
        asked += leader.appends_to(3).len();
    }
    assert_eq!(leader.peer(3).replication, Replication::Probe);
    assert!(asked <= 1, "{asked} messages without a heartbeat");
    leader.tick(100);
    let round = leader.last_round(3).unwrap();
    leader.sent.clear();
    leader.receive(3, Message::HeartbeatResponse { round, received: LogIndex(0) });
    assert_eq!(leader.appends_to(3), [[3]], "but it is asked");
}

/// TigerBeetle's recovery notes: an empty disk and a first start are told apart by who starts the node, and what it
/// restores says which it is.
#[test]
fn a_disk_without_a_log_but_with_a_commit_index_is_refused() {
    let mut disk = Disk::empty(voters(3));
    disk.hard_state.commit = LogIndex(7);
    let error = Node::new(Options::new(NodeId(1)), disk.restored()).unwrap_err();
    assert_eq!(error, RestoreError::CommitBeyondLog { last: id(0, 0), commit: LogIndex(7) });
}

// Replication and commit.

/// paper, Fig. 8. (`section_5_4_2` tells the whole story.)
#[test]
fn an_entry_of_an_older_term_is_not_committed_by_counting_replicas() {
    let mut leader = Replica::with_log(&[1, 2], 3, 0);
    leader.elect();
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.receive(3, accepted(2));
    assert_eq!(leader.node.commit().0, 0, "it is on all three disks");
    leader.receive(2, accepted(3));
    assert_eq!(leader.node.commit().0, 3);
}

/// A stale or repeated AppendEntries (paper, Fig. 2, "if an existing entry conflicts").
#[test]
fn within_a_term_the_log_never_gets_shorter() {
    let mut replica = Replica::with_log(&[1, 1], 1, 0);
    replica.receive_in(2, 2, append(id(1, 2), entries(2, &[2, 2, 2]), 0));
    for stale in [
        append(id(0, 0), vec![], 0),
        append(id(0, 0), entries(0, &[1]), 0),
        append(id(1, 1), entries(1, &[1, 2]), 0),
        append(id(2, 3), entries(3, &[2]), 0),
    ] {
        replica.receive(2, stale);
        assert_eq!(replica.node.last(), id(2, 5));
    }
    replica.persist_all();
    assert_eq!(replica.disk.last(), id(2, 5));
    assert!(replica.has_acknowledged(2, 5));
}

/// openraft 9540c904, redis-raft #53: an append that conflicts with a committed entry.
#[test]
fn an_append_that_conflicts_with_a_committed_entry_is_refused_and_counted_and_truncates_nothing() {
    for conflict in [
        append(id(1, 1), entries(1, &[3]), 3),
        append(id(0, 0), entries(0, &[2, 2, 2]), 3),
        append(id(2, 2), entries(2, &[3]), 0),
    ] {
        let mut replica = Replica::with_log(&[1, 1, 2], 2, 2);
        replica.read_all();
        replica.receive_in(3, 2, conflict);
        replica.persist_all();
        assert_eq!(replica.node.last(), id(2, 3));
        assert_eq!(replica.node.counters().conflicts_with_committed, 1);
        let claims = replica.sent_to(2).contains(&accepted(3));
        assert!(!claims, "{:?}", replica.sent);
    }
}

/// openraft cecb5de8: an acknowledgement from before a truncation moves the match index.
#[test]
fn an_acknowledgement_of_an_earlier_term_moves_no_match_index() {
    let mut replica = Replica::leader_of(3);
    for command in ["a", "b", "c"] {
        replica.propose(command);
    }
    replica.persist_all();
    // Another leader, and then this one again, with other entries at the same indexes.
    replica.receive_in(2, 3, append(id(1, 1), entries(1, &[2]), 1));
    replica.persist_all();
    replica.elect();
    replica.propose("d");
    replica.persist_all();
    replica.receive_in(1, 2, accepted(4));
    assert_eq!(replica.peer(2).matched, LogIndex(0));
    assert_eq!(replica.node.commit(), LogIndex(1));
    replica.receive(2, accepted(99));
    assert_eq!(replica.peer(2).matched, LogIndex(0), "it was never sent that much");
    assert_eq!(replica.node.counters().acknowledged_unsent, 1);
}

/// The ABA race of etcd/raft's asynchronous writes.
#[test]
fn a_write_that_completes_after_its_entries_were_overwritten_makes_nothing_durable() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1, 1]), 0));
    assert!(replica.write.is_some());
    replica.receive_in(2, 3, append(id(1, 1), entries(1, &[2, 2]), 0));
    assert_eq!(replica.node.last(), id(2, 3));
    replica.persist();
    assert_eq!(replica.node.durable(), LogIndex(1), "entries 2 and 3 of term 1 are durable");
    assert!(!replica.has_acknowledged(3, 1), "of term 2 the disk knows nothing yet");
    replica.persist();
    assert_eq!(replica.node.durable(), LogIndex(3));
    assert!(replica.has_acknowledged(3, 3));
    assert_eq!(replica.disk.last(), id(2, 3));
}

/// The same, back to the first entries: A, B, A.
#[test]
fn entries_that_were_overwritten_and_came_back_are_durable_once_they_are_written_again() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1]), 0));
    replica.receive_in(2, 3, append(id(1, 1), entries(1, &[2]), 0));
    replica.receive_in(3, 2, append(id(1, 1), entries(1, &[1]), 0));
    replica.persist();
    assert!(!replica.has_acknowledged(2, 1));
    replica.persist();
    assert!(replica.has_acknowledged(2, 2));
    assert_eq!((replica.disk.last(), replica.node.durable()), (id(1, 2), LogIndex(2)));
}

/// openraft a9f696a9: the leader's own entry is counted before its own disk has it.
#[test]
fn a_leader_alone_commits_nothing_before_its_disk_has_it() {
    let mut leader = Replica::leader_of(1);
    leader.propose("a");
    assert_eq!(leader.node.commit().0, 1);
    leader.persist();
    assert_eq!(leader.node.commit().0, 2);
}

/// openraft #1960: completions that arrive out of order lose progress.
#[test]
fn acknowledgements_that_arrive_out_of_order_lose_no_progress() {
    let mut leader = Replica::leader_of(3);
    for command in ["a", "b", "c"] {
        leader.propose(command);
    }
    leader.persist_all();
    for matched in [4, 2, 3, 1] {
        leader.receive(2, accepted(matched));
        assert_eq!(leader.peer(2).matched, LogIndex(4));
        assert_eq!(leader.node.commit(), LogIndex(4));
    }
}

/// openraft #1802: the order of the progress list is broken, and something commits without a quorum.
#[test]
fn every_order_of_acknowledgements_commits_what_a_majority_has() {
    let counts = [2, 3, 4, 5, 6];
    for first in 0..625_u32 {
        // Each follower's acknowledgement, in base 5.
        let acks: Vec<u64> =
            (0..4).map(|digit| counts[(first / 5_u32.pow(digit)) as usize % 5]).collect();
        let mut leader = Replica::leader_of(5);
        for command in ["a", "b", "c", "d", "e"] {
            leader.propose(command);
        }
        for (peer, ack) in (2..).zip(&acks) {
            leader.receive(peer, accepted(*ack));
        }
        leader.persist_all();
        let mut held = acks.clone();
        held.push(6);
        held.sort_unstable();
        assert_eq!(leader.node.commit().0, held[2], "{acks:?}");
    }
}

/// etcd/raft PR 31: term 0 as the previous term, after compaction under a throttled follower.
#[test]
fn after_compaction_the_previous_term_is_the_compacted_entrys() {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    options.limits.inflight_messages_max = 1;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.propose("a");
    leader.propose("b");
    leader.persist_all();
    leader.receive(2, accepted(3));
    leader.take_snapshot(2);
    leader.persist_all();
    assert_eq!(leader.node.status().start, id(1, 2));
    // The throttled follower gets its window back: what it needs comes right after the compaction point.
    leader.sent.clear();
    leader.receive(3, accepted(2));
    let sent = leader.sent_to(3);
    let Some(Message::AppendEntries { previous, .. }) = sent.first() else { panic!("{sent:?}") };
    assert_eq!(*previous, id(1, 2));
}

/// raft-rs #555: `next` at or below `match`.
#[test]
fn the_next_index_stays_above_the_match_index() {
    let mut leader = Replica::leader_of(3);
    for command in ["a", "b", "c", "d"] {
        leader.propose(command);
    }
    leader.persist_all();
    let check = |leader: &Replica| {
        let peer = leader.peer(2);
        assert!(peer.next > peer.matched, "{peer:?}");
    };
    leader.node.step(Input::Disconnected(NodeId(2)));
    check(&leader);
    // Acknowledgements of what was sent before arrive one after the other, before the next drain.
    for message in
        [accepted(2), accepted(5), rejected(3, id(1, 2)), accepted(4), rejected(4, id(0, 0))]
    {
        let envelope = raft_core::Envelope {
            from: NodeId(2),
            to: NodeId(1),
            term: leader.node.term(),
            message,
        };
        leader.node.step(Input::Receive(envelope));
        check(&leader);
    }
    leader.sent.clear();
    leader.drain();
    check(&leader);
    assert_eq!(leader.appends_to(2), Vec::<Vec<u64>>::new(), "it has everything");
}

/// openraft #1795: an error reading the log while building a message sends entries with no predecessor.
#[test]
fn when_the_log_cannot_be_read_nothing_is_sent() {
    let mut leader = Replica::with_log(&[1; 5], 1, 0);
    leader.elect();
    leader.receive(2, rejected(5, id(0, 0)));
    let fetch = leader.fetches.pop().unwrap();
    leader.sent.clear();
    leader.step(Input::Fetched { id: fetch.id, result: Fetched::Failed });
    leader.tick(1000);
    assert_eq!(leader.sent, []);
    assert!(leader.node.is_stopped());
}

/// raft-rs #465: a fetch that completes after the term changed is used all the same.
#[test]
fn a_fetch_that_completes_in_a_later_term_is_not_used() {
    let mut leader = Replica::with_log(&[1; 5], 1, 0);
    leader.elect();
    leader.persist_all();
    leader.receive(2, rejected(5, id(0, 0)));
    let fetch = leader.fetches.pop().unwrap();
    let result = leader.disk.read(&fetch);
    // Deposed, overwritten, and elected again.
    leader.receive_in(9, 3, append(id(1, 2), entries(2, &[9]), 0));
    leader.persist_all();
    leader.elect();
    leader.step(Input::Fetched { id: fetch.id, result });
    assert_eq!(leader.appends_to(2), Vec::<Vec<u64>>::new());
    assert!(!leader.node.is_stopped(), "it was right when it was read");
}

/// openraft #1828: a log that is wholly compacted, and a follower of which nothing is known.
#[test]
fn a_follower_of_which_nothing_is_known_gets_the_snapshot_of_a_log_that_is_wholly_compacted() {
    let configuration = voters(3);
    let last = snapshot(id(2, 10), &configuration);
    let mut disk = Disk::with_log(configuration, &[], 2, 0);
    disk.hard_state.commit = LogIndex(10);
    (disk.start, disk.snapshot) = (last.clone(), Some(last));
    let mut cluster = Cluster::new([
        Replica::start(Options::new(NodeId(1)), disk),
        Replica::start(Options::new(NodeId(2)), Disk::empty(voters(3))),
        Replica::start(Options::new(NodeId(3)), Disk::empty(voters(3))),
    ]);
    cluster.elect(1);
    cluster.run(1000);
    for node in [2, 3] {
        assert_eq!(cluster.at(node).restores[0].last, id(2, 10));
        assert_eq!(cluster.at(node).node.commit(), LogIndex(11));
    }
}

/// openraft #1828, with an answer that was lost: what the leader would ask for is compacted by then.
#[test]
fn a_lost_answer_whose_place_is_compacted_leaves_no_follower_behind() {
    for window in [1, 64] {
        let mut options = Options::new(NodeId(1));
        options.limits.kept_entries_max = 0;
        options.limits.inflight_messages_max = window;
        let mut leader = Replica::leader(options, Disk::empty(voters(3)));
        leader.propose("a");
        leader.persist_all();
        // Follower 3 has received entry 2, and its answer is lost. Others commit, and all of it is compacted.
        for command in ["b", "c"] {
            leader.propose(command);
        }
        leader.persist_all();
        leader.receive(2, accepted(2));
        leader.receive(2, accepted(4));
        leader.take_snapshot(4);
        leader.persist_all();
        leader.tick(100);
        let round = leader.last_round(3).unwrap();
        leader.sent.clear();
        let received = LogIndex(2);
        leader.receive(3, Message::HeartbeatResponse { round, received });
        let goes_on = !leader.appends_to(3).is_empty() || !leader.snapshots.is_empty();
        assert!(goes_on, "{:?}", leader.peer(3));
    }
}

/// raft-rs #419, tikv #19593: in-flight buffers and logs that never shrink.
#[test]
fn memory_is_given_back_after_a_burst() {
    let mut options = Options::new(NodeId(1));
    options.limits.tail_bytes_max = 100_000;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    let size = |leader: &Replica| format!("{:?}", leader.node).len();
    let before = size(&leader);
    for _ in 0..50 {
        for _ in 0..500 {
            leader.node.propose("0123456789".into()).unwrap();
        }
        leader.drain();
        leader.persist_all();
        let last = leader.node.last().index.0;
        leader.receive(2, accepted(last));
        leader.receive(3, accepted(last));
        leader.sent.clear();
        leader.take_snapshot(last);
        leader.persist_all();
    }
    leader.tick(100);
    // What the tail may hold, in the text that shows all of it.
    assert!(size(&leader) < before + 100_000 * 4, "{} bytes", size(&leader));
}

/// cockroach #104402: a campaign that loads the unapplied log into memory.
#[test]
fn a_campaign_reads_no_log() {
    let mut replica = Replica::with_log(&[1; 100], 1, 50);
    let to_apply = replica.fetches.pop().unwrap();
    assert_eq!(to_apply.last, LogIndex(50));
    replica.elect();
    assert_eq!(replica.fetches, []);
}

/// openraft #1810 and #833: one slow or hung peer stops the loop for all.
#[test]
fn a_peer_that_never_answers_holds_up_nobody() {
    let mut leader = Replica::leader_of(3);
    for i in 0..1000 {
        leader.propose(&i.to_string());
        leader.persist_all();
        let last = leader.node.last().index.0;
        leader.receive(2, accepted(last));
        assert_eq!(leader.node.commit().0, last);
    }
    let window = leader.options.limits.inflight_messages_max;
    assert!(leader.appends_to(3).len() <= window, "and it is sent no more than its window");
}

/// r-nacos #96: one request in flight a peer starves a follower under load.
#[test]
fn entries_leave_while_earlier_ones_are_on_their_way() {
    let mut leader = Replica::leader_of(3);
    for command in ["a", "b", "c"] {
        leader.propose(command);
    }
    assert_eq!(leader.appends_to(2), [[2], [3], [4]]);
}

/// openraft #54: replication that waits for a heartbeat.
#[test]
fn a_command_is_committed_everywhere_without_a_tick() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.at(1).propose("a");
    cluster.settle();
    for node in 1..=3 {
        assert_eq!(cluster.at(node).node.commit(), LogIndex(2), "at {node}");
        assert_eq!(text(&cluster.at(node).applied), "- a");
    }
}

/// openraft #54, with a loss: where an answer takes longer than a heartbeat, the loss is noticed all the same.
#[test]
fn a_lost_message_is_sent_again_though_every_answer_comes_after_the_next_heartbeat() {
    for lost_probe in [true, false] {
        let mut leader = match lost_probe {
            true => Replica::first_of(3),
            false => Replica::leader_of(3),
        };
        if lost_probe {
            leader.elect();
            leader.persist_all();
        } else {
            leader.propose("a");
            leader.persist_all();
        }
        // Follower 2 never got what left until now, nor do others answer. Its answers are two heartbeats late.
        let received = LogIndex(u64::from(!lost_probe));
        let mut rounds = std::collections::VecDeque::new();
        let mut again = 0;
        for _ in 0..6 {
            leader.sent.clear();
            leader.tick(100);
            rounds.extend(leader.last_round(2));
            if rounds.len() > 2 {
                let round = rounds.pop_front().unwrap();
                leader.receive(2, Message::HeartbeatResponse { round, received });
                leader.receive(3, Message::HeartbeatResponse { round, received });
            }
            again += leader.appends_to(2).len();
        }
        assert!(again > 0, "a lost probe: {lost_probe}");
    }
}

// Snapshots and restarts.

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

/// A transfer that fails is tried again, and one that came through goes on from where it ended.
#[test]
fn a_snapshot_transfer_that_fails_is_tried_again_at_the_pace_of_heartbeats() {
    let mut options = Options::new(NodeId(1));
    options.limits.kept_entries_max = 0;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(2));
    leader.take_snapshot(2);
    leader.step(Input::Disconnected(NodeId(3)));
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

// A disk that is slow.

/// A cluster of one whose clock ticks faster than its disk syncs.
#[test]
fn the_only_voter_leads_however_slow_its_disk_is() {
    for options in [Options::new(NodeId(1)), no_pre_vote()] {
        let mut replica = Replica::start(options, Disk::empty(voters(1)));
        for _ in 0..100 {
            replica.tick(10);
        }
        assert_eq!(replica.node.term(), Term(1));
        assert!(replica.node.next_tick() > replica.now, "nothing is to be done at once");
        replica.persist_all();
        assert_eq!(replica.node.role(), Role::Leader);
    }
}

/// Terms that a disk cannot follow: no vote of any of them would ever count.
#[test]
fn a_candidate_whose_vote_is_still_being_written_raises_its_term_no_further() {
    let mut replica = Replica::start(no_pre_vote(), Disk::empty(voters(3)));
    replica.time_out();
    assert_eq!(replica.node.term(), Term(1));
    for _ in 0..10 {
        replica.time_out();
    }
    assert_eq!(replica.node.term(), Term(1));
    replica.persist();
    assert_eq!(replica.sent_to(2), [Message::RequestVote { last: id(0, 0) }]);
    replica.receive(2, GRANTED);
    assert_eq!(replica.node.role(), Role::Leader);
}
