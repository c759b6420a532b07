//! "The log": a bounded suffix in memory, the terms of all of it.

use raft_core::{EntryId, LogIndex, Message, NodeId, Options, Restored, TermRuns};

use crate::harness::*;

#[test]
fn the_consistency_check_never_needs_a_disk() {
    let log: Vec<u64> = (0..1000).map(|i| 1 + i / 100).collect();
    let mut replica = Replica::with_log(&log, 10, 0);
    replica.receive_in(11, 2, append(id(9, 850), vec![], 0));
    replica.receive(2, append(id(7, 850), vec![], 0));
    replica.persist_all();
    assert_eq!(replica.fetches, []);
    assert_eq!(replica.sent_to(2), [rejected(850, id(7, 700)), accepted(850)]);
}

#[test]
fn the_terms_are_known_for_every_index_since_the_compaction_point() {
    let log: Vec<u64> = (0..100).map(|i| 1 + i / 10).collect();
    let mut replica = Replica::with_log(&log, 10, 60);
    replica.options.limits.kept_entries_max = 0;
    replica.crash();
    replica.read_all();
    replica.take_snapshot(55);
    replica.persist_all();
    assert_eq!(replica.node.status().start, id(6, 55));
    for index in 55..100 {
        let term = 1 + (index - 1) / 10;
        replica.receive_in(11, 2, append(id(term, index), vec![], 0));
        replica.persist_all();
        assert!(replica.has_acknowledged(2, index), "at {index}: {:?}", replica.sent_to(2));
        replica.sent.clear();
    }
}

#[test]
fn what_the_terms_cost_does_not_depend_on_the_length_of_the_log() {
    let mut terms = TermRuns::new(EntryId::ZERO);
    for _ in 0..100_000 {
        assert!(terms.push(raft_core::Term(3)));
    }
    // `{:?}` shows all that is held.
    assert!(format!("{terms:?}").len() < 300);
    assert_eq!(terms.last(), id(3, 100_000));
}

#[test]
fn older_entries_are_asked_for_and_answered_for_the_state_machine() {
    let mut options = Options::new(NodeId(1));
    options.limits.tail_bytes_max = 200;
    let mut replica = Replica::start(options, Disk::empty(voters(3)));
    for index in 0..20 {
        let previous = id(u64::from(index > 0), index);
        replica.receive_in(1, 2, append(previous, entries(index, &[1]), 0));
        replica.persist_all();
    }
    replica.receive(2, heartbeat(20, 1));
    assert_eq!(replica.applied, []);
    while !replica.fetches.is_empty() {
        replica.read_all();
    }
    let all: Vec<EntryId> = (1..=20).map(|index| id(1, index)).collect();
    assert_eq!(replica.applied_ids(), all);
}

#[test]
fn a_restarted_node_has_nothing_in_memory_and_applies_what_it_fetches() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 2);
    assert_eq!(replica.applied, []);
    assert_eq!(replica.fetches.len(), 1);
    assert_eq!((replica.fetches[0].first, replica.fetches[0].last), (LogIndex(1), LogIndex(2)));
    replica.read_all();
    assert_eq!(replica.applied_ids(), [id(1, 1), id(1, 2)]);
}

#[test]
fn a_payload_is_one_allocation_from_the_caller_to_every_follower_and_to_the_disk() {
    let mut leader = Replica::leader_of(3);
    let command = bytes::Bytes::from(vec![7; 1000]);
    let address = command.as_ptr();
    leader.node.propose(command).unwrap();
    leader.drain();
    let mut payloads = leader.write.as_ref().unwrap().entries.to_vec();
    for envelope in &leader.sent {
        if let Message::AppendEntries { entries, .. } = &envelope.message {
            payloads.extend(entries.iter().cloned());
        }
    }
    leader.persist_all();
    leader.receive(2, accepted(2));
    payloads.extend(leader.applied.iter().skip(1).cloned());
    assert_eq!(payloads.len(), 4);
    for entry in payloads {
        let raft_core::Payload::Command(command) = entry.payload else { panic!("a command") };
        assert_eq!(command.as_ptr(), address);
    }
}

#[test]
fn an_empty_disk_is_what_a_first_start_restores() {
    assert_eq!(Disk::empty(voters(3)).restored(), Restored::first_start(voters(3)));
}
