//! Replication and commitment.

use raft_core::{Fetched, Incarnation, Input, LogIndex, Message, NodeId, Options};

use crate::harness::*;

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
            incarnation: Incarnation(0),
            is_meant: true,
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
