//! [`Effects`]: what one drain hands out.

use std::time::Duration;

use raft_core::{
    Applies, Effects, Fetch, FetchId, Fetched, HardState, Input, Node, NodeId, Options, Read,
    ReadId, Restored, SendSnapshot, Term, Write, WriteId,
};

use crate::harness::*;

/// A drain empties what a driver has left in its effects: nothing is carried out twice.
#[test]
fn a_drain_empties_what_the_last_one_has_left() {
    let mut disk = Disk::with_log(voters(1), &[1, 1, 1], 1, 3);
    disk.hard_state = HardState { vote: Some(voted(1)), ..disk.hard_state };
    let mut node = Node::new(Options::new(NodeId(1)), disk.restored()).unwrap();
    let mut effects = Effects::default();
    node.step(Input::Tick(Duration::ZERO));
    node.drain(&mut effects);
    assert!(effects.write.is_some() && effects.fetches.len() == 1);
    node.drain(&mut effects);
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn effects_are_empty_when_there_is_nothing_of_any_kind_to_do() {
    let none = Effects::default;
    assert!(none().is_empty());
    let (entries, to, last) = (entries(0, &[1]).into(), NodeId(2), id(1, 1));
    let write = Write { id: WriteId(1), reset: None, compact: None, entries, hard_state: None };
    let applies = Applies { entries: write.entries.clone(), configuration: voters(3) };
    let message = envelope(NodeId(1), to, Term(1), heartbeat(0, 1));
    let index = last.index;
    let fetch = Fetch { id: FetchId(1), first: index, last: index, bytes_max: 1 };
    for some in [
        Effects { write: Some(write), ..none() },
        Effects { messages: vec![message], ..none() },
        Effects { restore: Some(snapshot(last, &voters(3))), ..none() },
        Effects { applies: Some(applies), ..none() },
        Effects { fetches: vec![fetch], ..none() },
        Effects { snapshots: vec![SendSnapshot { to }], ..none() },
        Effects { reads: vec![Read { id: ReadId(1), index: Ok(index) }], ..none() },
        Effects { change: Some(Ok(voters(3))), ..none() },
    ] {
        assert!(!some.is_empty(), "{some:?}");
    }
}

/// A node that has stopped hands out nothing, not even what it owed before.
#[test]
fn a_node_that_stops_hands_out_nothing_that_it_owed() {
    let mut replica = Replica::with_log(&[1, 1, 1], 1, 3);
    let fetch = replica.fetches.pop().unwrap();
    let (from, to, term) = (NodeId(2), NodeId(1), Term(5));
    let message = heartbeat(0, 1);
    replica.node.step(Input::Receive(envelope(from, to, term, message)));
    replica.node.step(Input::Fetched { id: fetch.id, result: Fetched::Failed });
    let mut effects = Effects::default();
    replica.node.drain(&mut effects);
    assert!(effects.is_empty(), "{effects:?}");
}

/// Who is no voter and hears no leader has nothing to do until somebody writes to it.
#[test]
fn a_learner_that_hears_nobody_waits_for_no_time() {
    let members = raft_core::Configuration::new([NodeId(2)], [NodeId(1)]);
    let mut node = Node::new(Options::new(NodeId(1)), Restored::first_start(members)).unwrap();
    node.step(Input::Tick(Duration::ZERO));
    assert_eq!(node.next_tick(), Duration::MAX);
}
