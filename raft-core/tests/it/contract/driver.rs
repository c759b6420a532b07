//! "A driver cannot break safety": the seven numbered sentences.

use raft_core::{
    Applies, Effects, Fetched, Input, LogIndex, Message, Node, NodeId, Options, Restored, Role,
    Write, WriteId,
};

use crate::harness::*;

/// A follower of leader 2 in term 1, with nothing in its log and nothing left to write.
fn follower() -> Replica {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    follower.sent.clear();
    follower
}

// 1. Votes.

#[test]
fn request_vote_leaves_only_once_the_new_term_and_the_self_vote_are_durable() {
    let mut replica = Replica::first_of(3);
    replica.time_out();
    let campaign = replica.node.term().next();
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    assert_eq!((replica.node.role(), replica.node.term()), (Role::Candidate, campaign));
    replica.sent.clear();
    replica.tick(100);
    assert_eq!(replica.sent, [], "the write is out");

    let state = replica.write.as_ref().unwrap().hard_state.unwrap();
    assert_eq!((state.term, state.vote), (campaign, Some(voted(1))));
    replica.persist();
    assert_eq!(replica.sent_to(2), [Message::RequestVote { last: id(0, 0), transfer: false }]);
    assert_eq!(replica.sent_to(3), [Message::RequestVote { last: id(0, 0), transfer: false }]);
    assert!(replica.sent.iter().all(|envelope| envelope.term == campaign));
}

#[test]
fn the_own_vote_counts_only_once_it_is_durable() {
    let mut replica = Replica::first_of(5);
    replica.time_out();
    let campaign = replica.node.term().next();
    for peer in [2, 3] {
        replica.receive(peer, Message::PreVoteResponse { campaign, granted: true });
    }
    replica.receive(2, GRANTED);
    replica.receive(3, GRANTED);
    assert_eq!(replica.node.role(), Role::Candidate, "two votes of five and one that may be lost");
    replica.persist();
    assert_eq!(replica.node.role(), Role::Leader);
}

#[test]
fn the_votes_of_all_others_make_no_leader_whose_own_vote_is_not_durable() {
    let mut replica = Replica::first_of(3);
    replica.time_out();
    let campaign = replica.node.term().next();
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    replica.receive(2, GRANTED);
    replica.receive(3, GRANTED);
    assert_eq!(replica.node.role(), Role::Candidate);
    replica.persist();
    assert_eq!(replica.node.role(), Role::Leader);
}

#[test]
fn a_granted_vote_leaves_only_once_it_is_durable() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    assert_eq!(replica.sent, []);
    let state = replica.write.as_ref().unwrap().hard_state.unwrap();
    assert_eq!((state.term.0, state.vote), (7, Some(voted(2))));
    replica.persist();
    assert_eq!(replica.sent_to(2), [GRANTED]);
    assert_eq!(replica.sent[0].term.0, 7);
}

#[test]
fn a_vote_that_was_overtaken_by_a_later_term_never_leaves() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    replica.receive_in(8, 3, Message::RequestVote { last: id(0, 0), transfer: false });
    replica.persist();
    assert_eq!(replica.sent, [], "the disk holds a vote of term 7, and term 7 is over");
    replica.persist();
    assert_eq!(replica.sent_to(2), []);
    assert_eq!(replica.sent_to(3), [GRANTED]);
}

#[test]
fn pre_votes_promise_nothing_and_leave_at_once() {
    let mut replica = Replica::first_of(3);
    replica.time_out();
    assert_eq!(replica.write, None, "asking changes no term");
    let campaign = replica.node.term().next();
    assert_eq!(replica.sent_to(2), [Message::PreVote { campaign, last: id(0, 0) }]);

    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    assert!(replica.write.is_some());
    let campaign = replica.node.term().next();
    replica.receive(3, Message::PreVote { campaign, last: id(0, 0) });
    assert!(replica.sent_to(3).contains(&Message::PreVoteResponse { campaign, granted: true }));
}

#[test]
fn heartbeat_answers_promise_nothing_and_leave_at_once() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, append(id(0, 0), entries(0, &[1, 1]), 0));
    assert!(replica.write.is_some());
    replica.receive(2, heartbeat(0, 9));
    let received = LogIndex(2);
    assert_eq!(replica.sent_to(2), [Message::HeartbeatResponse { round: 9, received }]);
}

// 2. What an answer claims.

#[test]
fn a_repeated_append_whose_entries_are_still_being_written_is_not_acknowledged() {
    let mut replica = follower();
    for _ in 0..3 {
        replica.receive(2, append(id(0, 0), entries(0, &[1, 1]), 0));
        assert_eq!(replica.sent, []);
    }
    replica.persist();
    assert_eq!(replica.sent_to(2), [accepted(2)]);
}

#[test]
fn a_repeated_request_vote_is_not_answered_before_the_vote_is_durable() {
    let mut replica = Replica::first_of(3);
    for _ in 0..3 {
        replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
        assert_eq!(replica.sent, []);
    }
    replica.persist();
    assert_eq!(replica.sent_to(2), [GRANTED]);
}

#[test]
fn an_answer_claims_only_what_is_durable_at_that_moment() {
    let mut replica = follower();
    replica.receive(2, append(id(0, 0), entries(0, &[1, 1]), 0));
    replica.receive(2, append(id(1, 2), entries(2, &[1]), 0));
    replica.persist();
    assert_eq!(replica.sent_to(2), [accepted(2)], "entry 3 is in the next write");
    // Whatever caused it: also appends that only ask.
    replica.sent.clear();
    replica.receive(2, append(id(1, 1), vec![], 0));
    replica.receive(2, append(id(1, 2), vec![], 0));
    assert!(replica.sent_to(2).iter().all(|answer| *answer == accepted(2)));
    replica.receive(2, append(id(1, 3), vec![], 0));
    assert!(!replica.has_acknowledged(2, 3));
    replica.persist();
    assert!(replica.has_acknowledged(2, 3));
}

#[test]
fn an_append_is_not_acknowledged_before_its_term_is_durable() {
    let mut replica = Replica::with_log(&[1, 1], 1, 0);
    // The entries are there already, but of the term the disk knows nothing.
    replica.receive_in(4, 2, append(id(1, 2), vec![], 0));
    assert_eq!(replica.sent, []);
    replica.persist();
    assert_eq!(replica.sent_to(2), [accepted(2)]);
}

#[test]
fn the_leaders_own_match_index_moves_by_persisted_alone() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.receive(2, accepted(2));
    assert_eq!(leader.node.commit().0, 1, "one disk of three");
    leader.persist();
    assert_eq!(leader.node.commit().0, 2);
}

#[test]
fn a_leader_replicates_in_parallel_with_its_own_disk() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    assert!(leader.write.is_some());
    assert_eq!(leader.appends_to(2), [[2]]);
    assert_eq!(leader.appends_to(3), [[2]]);
    leader.propose("b");
    assert_eq!(leader.appends_to(2), [[2], [3]], "with the first write still out");
    // Two other disks are a quorum without its own.
    leader.receive(2, accepted(3));
    leader.receive(3, accepted(3));
    assert_eq!(leader.node.commit().0, 3);
    assert_eq!(leader.applied_ids(), [id(1, 1)], "but nothing is applied that is not durable here");
    leader.persist();
    assert_eq!(leader.applied_ids(), [id(1, 1), id(1, 2)]);
    leader.persist();
    assert_eq!(leader.applied_ids(), [id(1, 1), id(1, 2), id(1, 3)]);
}

// 3. Writes.

#[test]
fn at_most_one_write_is_out() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    let first = leader.write.clone().unwrap();
    for _ in 0..10 {
        // The harness fails when a second write comes.
        leader.propose("b");
        leader.tick(100);
        leader.receive(2, accepted(1));
    }
    leader.receive_in(9, 3, DENIED);
    assert_eq!(leader.write, Some(first));
}

#[test]
fn the_core_makes_the_next_write_after_persisted() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    leader.propose("b");
    let first = leader.write.clone().unwrap();
    leader.step(Input::Persisted(WriteId(first.id.0 + 1)));
    leader.step(Input::Persisted(WriteId(u64::MAX)));
    assert_eq!(leader.write, Some(first), "an answer to another write is none to this one");
    leader.persist();
    assert_eq!(text(&leader.write.clone().unwrap().entries), "b");
}

#[test]
fn a_write_that_was_answered_twice_counts_once() {
    let mut leader = Replica::leader_of(1);
    leader.propose("a");
    let first = leader.write.clone().unwrap().id;
    leader.persist();
    leader.propose("b");
    leader.step(Input::Persisted(first));
    assert_eq!(leader.node.durable().0, 2);
}

#[test]
fn what_arrives_meanwhile_is_merged_into_one_write() {
    let mut leader = Replica::leader_of(3);
    leader.propose("first");
    for i in 0..100 {
        leader.propose(&i.to_string());
    }
    leader.receive_in(5, 3, Message::RequestVote { last: id(9, 9), transfer: false });
    leader.tick(10_000);
    leader.receive_in(6, 3, Message::RequestVote { last: id(9, 9), transfer: false });
    leader.persist();
    let Write { entries, hard_state, .. } = leader.write.clone().unwrap();
    assert_eq!(entries.len(), 100);
    let state = hard_state.unwrap();
    assert_eq!((state.term.0, state.vote), (6, Some(voted(3))));
}

#[test]
fn a_thousand_proposals_between_two_drains_cost_one_write_and_one_message_a_follower() {
    let mut leader = Replica::leader_of(3);
    for i in 0..1000 {
        leader.node.propose(i.to_string().into()).unwrap();
    }
    leader.drain();
    assert_eq!(leader.write.as_ref().unwrap().entries.len(), 1000);
    for peer in [2, 3] {
        let appends = leader.appends_to(peer);
        assert_eq!(appends.iter().map(Vec::len).collect::<Vec<_>>(), [1000]);
    }
    assert_eq!(leader.sent.len(), 2);
}

// 4. Applies.

#[test]
fn an_entry_leaves_in_applies_only_when_it_is_committed() {
    let mut replica = follower();
    replica.receive(2, append(id(0, 0), entries(0, &[1, 1, 1]), 0));
    replica.persist_all();
    assert_eq!(replica.applied, []);
    replica.receive(2, heartbeat(2, 2));
    assert_eq!(replica.applied_ids(), [id(1, 1), id(1, 2)]);
}

#[test]
fn an_entry_leaves_in_applies_only_when_it_is_durable_here() {
    let mut replica = follower();
    replica.receive(2, append(id(0, 0), entries(0, &[1, 1]), 0));
    replica.receive(2, append(id(1, 2), entries(2, &[1]), 3));
    assert_eq!(replica.node.commit().0, 3);
    assert_eq!(replica.applied, []);
    replica.persist();
    assert_eq!(replica.applied_ids(), [id(1, 1), id(1, 2)]);
    replica.persist();
    assert_eq!(replica.applied_ids(), [id(1, 1), id(1, 2), id(1, 3)]);
}

#[test]
fn each_batch_of_applies_carries_the_configuration_in_force_at_its_end() {
    let configuration = voters(1);
    let restored = Restored::first_start(configuration.clone());
    let mut node = Node::new(Options::new(NodeId(1)), restored).unwrap();
    let mut effects = Effects::default();
    node.step(Input::Tick(ms(0)));
    let mut batches: Vec<Applies> = Vec::new();
    for _ in 0..3 {
        node.drain(&mut effects);
        batches.extend(effects.applies.take());
        let Some(write) = effects.write.take() else { break };
        node.step(Input::Persisted(write.id));
    }
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].configuration, configuration);
}

// 5. Snapshots.

#[test]
fn a_received_snapshot_is_acknowledged_and_handed_out_only_once_the_log_is_reset_durably() {
    let mut replica = follower();
    replica.receive_snapshot(id(1, 20));
    assert_eq!(replica.sent, []);
    assert_eq!(replica.restores, []);
    let write = replica.write.clone().unwrap();
    assert_eq!(write.reset.as_ref().map(|meta| meta.last), Some(id(1, 20)));
    // Nothing that a peer says in between changes that.
    replica.receive(2, append(id(1, 20), vec![], 20));
    replica.receive(2, append(id(1, 15), entries(15, &[1, 1]), 20));
    assert_eq!(replica.sent, []);
    replica.persist();
    assert_eq!(replica.sent_to(2), [accepted(20)]);
    assert_eq!(replica.restores, [snapshot(id(1, 20), &voters(3))]);
}

#[test]
fn a_snapshot_comes_back_from_a_crash_before_the_log_was_reset() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 1);
    replica.receive_snapshot(id(1, 20));
    assert!(replica.write.is_some());
    replica.crash();
    assert_eq!(replica.node.last(), id(1, 20));
    assert_eq!(replica.restores, [], "the log on the disk is still the old one");
    replica.persist();
    assert_eq!(replica.disk.start.last, id(1, 20));
    assert_eq!(replica.restores, [snapshot(id(1, 20), &voters(3))]);
}

#[test]
fn restore_comes_before_later_applies() {
    let mut replica = follower();
    replica.receive_snapshot(id(1, 20));
    replica.receive(2, append(id(1, 20), entries(20, &[1, 1]), 22));
    assert_eq!((replica.restores.len(), replica.applied.len()), (0, 0));
    replica.persist();
    assert_eq!((replica.restores.len(), replica.applied.len()), (1, 0));
    replica.persist();
    assert_eq!(replica.applied_ids(), [id(1, 21), id(1, 22)]);
}

#[test]
fn a_restart_from_a_snapshot_restores_it_before_it_applies_what_follows() {
    let mut replica = Replica::leader_of(3);
    for command in ["a", "b", "c"] {
        replica.propose(command);
    }
    replica.persist_all();
    replica.receive(2, accepted(4));
    replica.take_snapshot(3);
    replica.propose("d");
    replica.persist_all();
    replica.crash();
    assert_eq!(replica.restores, [snapshot(id(1, 3), &voters(3))]);
    replica.read_all();
    assert_eq!(replica.applied_ids(), [id(1, 4)], "committed and durable, and after the snapshot");
}

// 6. The tail. (`limits` has what happens when it is full.)

#[test]
fn only_durable_entries_leave_the_memory_tail() {
    let mut options = Options::new(NodeId(1));
    options.limits.tail_bytes_max = 300;
    options.limits.inflight_messages_max = 1;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    for command in ["a", "b", "c", "d"] {
        leader.propose(command);
    }
    // A window of one: the answer lets the rest go, from memory, since none of it is durable.
    leader.receive(2, accepted(2));
    assert_eq!(leader.appends_to(2), [vec![2], vec![3, 4, 5]]);
    assert_eq!(leader.fetches, []);
    leader.persist_all();
    for command in ["e", "f", "g", "h"] {
        leader.propose(command);
    }
    assert_eq!(
        leader.fetches,
        [],
        "follower 3 has not answered for entry 2, and its window is one"
    );
    leader.receive(3, accepted(2));
    let fetch = leader.fetches.pop().expect("what is durable made room for new entries");
    assert_eq!((fetch.first.0, leader.fetches.len()), (3, 0));
}

// 7. Fetches.

/// A leader of term 2 with seven entries of term 1 and none of them in memory, of which follower 2 needs those
/// from 3 on; and the fetch that it asks for.
fn leader_that_fetches() -> (Replica, raft_core::Fetch) {
    let disk = Disk::with_log(voters(3), &[1; 7], 1, 0);
    let mut leader = Replica::start(Options::new(NodeId(1)), disk);
    leader.elect();
    leader.receive(2, rejected(7, id(1, 2)));
    assert_eq!(leader.fetches.len(), 1);
    let fetch = leader.fetches.pop().unwrap();
    assert_eq!((fetch.first.0, fetch.last.0), (3, 7));
    leader.sent.clear();
    (leader, fetch)
}

#[test]
fn fetched_entries_are_sent() {
    let (mut leader, fetch) = leader_that_fetches();
    let result = leader.disk.read(&fetch);
    leader.step(Input::Fetched { id: fetch.id, result });
    let sent = append(id(1, 2), entries(2, &[1; 5]), 0);
    assert_eq!(leader.sent_to(2), [sent]);
}

#[test]
fn fetched_entries_whose_terms_do_not_match_are_not_sent() {
    for wrong in [entries(2, &[1, 1, 2, 2, 2]), entries(3, &[1; 4]), entries(2, &[1; 9]), vec![]] {
        let (mut leader, fetch) = leader_that_fetches();
        let result = Fetched::Entries(wrong);
        leader.step(Input::Fetched { id: fetch.id, result });
        assert_eq!(leader.appends_to(2), Vec::<Vec<u64>>::new());
    }
}

#[test]
fn when_what_was_asked_for_is_compacted_a_snapshot_is_sent() {
    let (mut leader, fetch) = leader_that_fetches();
    leader.step(Input::Fetched { id: fetch.id, result: Fetched::Compacted });
    let wanted: Vec<u64> = leader.snapshots.iter().map(|send| send.to.0).collect();
    assert_eq!(wanted, [2]);
    assert_eq!(leader.fetches, []);
}

#[test]
fn a_node_that_cannot_read_its_log_stops() {
    let (mut leader, fetch) = leader_that_fetches();
    leader.step(Input::Fetched { id: fetch.id, result: Fetched::Failed });
    assert!(leader.node.is_stopped());
    assert_ne!(leader.node.role(), Role::Leader, "status shows no dead leader");
    leader.tick(10_000);
    leader.receive_in(9, 2, Message::RequestVote { last: id(9, 9), transfer: false });
    assert_eq!(leader.sent, []);
    assert!(leader.node.propose("x".into()).is_err());
    assert_eq!(leader.node.next_tick(), std::time::Duration::MAX, "it waits for nothing");
}

#[test]
fn an_answer_that_the_world_has_overtaken_is_ignored() {
    let (mut leader, fetch) = leader_that_fetches();
    let result = leader.disk.read(&fetch);
    leader.receive_in(9, 3, heartbeat(0, 1));
    leader.sent.clear();
    leader.step(Input::Fetched { id: fetch.id, result });
    assert_eq!(leader.sent, []);
    assert!(!leader.node.is_stopped());
}

/// Else an answer that was overtaken would pass for that of a later fetch.
#[test]
fn no_two_fetches_have_the_same_name() {
    let mut options = Options::new(NodeId(1));
    options.limits.applying_entries_max = 2;
    options.limits.message_entries_max = 2;
    let mut leader = Replica::start(options, Disk::with_log(voters(3), &[1; 20], 1, 10));
    let mut names = Vec::new();
    for round in 0..20 {
        if round == 2 {
            leader.elect();
            leader.persist_all();
            leader.receive(2, rejected(20, id(1, 2)));
            leader.receive(3, rejected(20, id(1, 2)));
        }
        let fetches = core::mem::take(&mut leader.fetches);
        names.extend(fetches.iter().map(|fetch| fetch.id));
        for fetch in fetches {
            let result = leader.disk.read(&fetch);
            leader.step(Input::Fetched { id: fetch.id, result });
        }
    }
    assert!(names.len() > 6, "{names:?}");
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn entries_that_were_compacted_while_they_were_read_stop_nobody() {
    let (mut leader, fetch) = leader_that_fetches();
    let result = leader.disk.read(&fetch);
    leader.receive(3, accepted(leader.node.last().index.0));
    leader.persist_all();
    leader.read_all();
    // Both are there when the driver looks.
    let meta = snapshot(id(1, 5), &voters(3));
    leader.node.step(Input::SnapshotTaken(meta));
    assert_eq!(leader.node.status().start, id(1, 5), "the fetch was for 3 to 7");
    leader.node.step(Input::Fetched { id: fetch.id, result });
    assert!(!leader.node.is_stopped());
    leader.drain();
    assert_eq!(leader.snapshots.len(), 1, "the peer needs what is gone");
}

#[test]
fn an_answer_for_a_place_that_is_no_longer_the_next_is_ignored() {
    let (mut leader, fetch) = leader_that_fetches();
    let result = leader.disk.read(&fetch);
    // Meanwhile the follower says that it has more than was known.
    leader.receive(2, accepted(5));
    leader.sent.clear();
    leader.step(Input::Fetched { id: fetch.id, result });
    assert_eq!(leader.sent_to(2), []);
}

#[test]
fn an_answer_that_contradicts_the_log_stops_the_node_instead_of_being_asked_for_again() {
    for wrong in [entries(0, &[9]), entries(1, &[1]), entries(7, &[1]), vec![]] {
        let mut replica = Replica::with_log(&[1, 1, 1], 1, 2);
        let fetch = replica.fetches.pop().unwrap();
        replica.step(Input::Fetched { id: fetch.id, result: Fetched::Entries(wrong) });
        assert!(replica.fetches.is_empty() && replica.applied.is_empty());
        assert!(replica.node.is_stopped());
    }
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 2);
    let fetch = replica.fetches.pop().unwrap();
    replica.step(Input::Fetched { id: fetch.id, result: Fetched::Compacted });
    assert!(replica.node.is_stopped(), "what is not applied yet is never compacted");
}

#[test]
fn an_answer_with_more_than_was_asked_for_hands_out_no_entry_that_is_not_committed() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 2);
    let fetch = replica.fetches.pop().unwrap();
    let result = Fetched::Entries(entries(0, &[1, 1, 1]));
    replica.step(Input::Fetched { id: fetch.id, result });
    assert_eq!(replica.applied_ids(), [id(1, 1), id(1, 2)]);
}

/// A follower that restarts knows of what it holds only that a part is committed: with nothing new to send, the
/// leader must still let it know that the rest is its own log, or it would apply it only after the next proposal.
#[test]
fn a_restarted_follower_that_holds_everything_is_asked_anew() {
    let mut leader = Replica::leader_of(3);
    let last = leader.propose("a");
    leader.persist_all();
    leader.receive(2, accepted(last.index.0));
    assert_eq!(leader.node.commit(), last.index);
    leader.take_sent();
    leader.tick(100);
    let round = leader.last_round(2).expect("a heartbeat");
    leader.take_sent();
    let received = last.index.previous();
    leader.receive(2, Message::HeartbeatResponse { round, received });
    assert_eq!(leader.sent_to(2), [append(last, Vec::new(), last.index.0)]);
}
