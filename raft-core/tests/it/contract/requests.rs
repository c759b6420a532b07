//! Facts, requests, and the outcome of a proposal.

use raft_core::{
    EntryId, Envelope, FetchId, Fetched, HardState, Incarnation, Input, LogIndex, Message, NodeId,
    Options, ProposeError, Role, SnapshotOutcome, Term, WriteId,
};

use crate::harness::*;

/// That `propose` was refused, and that nothing happened nor will.
fn refused(replica: &mut Replica, command: &str) -> ProposeError {
    let before = replica.node.status();
    let (sent, write) = (replica.sent.clone(), replica.write.clone());
    let error = replica.node.propose(command.to_owned().into()).expect_err("it was to be refused");
    assert_eq!(replica.node.status(), before);
    replica.drain();
    assert_eq!((replica.sent.clone(), replica.write.clone()), (sent, write));
    error
}

#[test]
fn a_proposal_that_is_refused_for_want_of_leadership_does_nothing() {
    let mut replica = Replica::first_of(3);
    assert_eq!(refused(&mut replica, "x"), ProposeError::NotLeader { leader: None });
    replica.receive_in(1, 2, heartbeat(0, 1));
    let leader = Some(NodeId(2));
    assert_eq!(refused(&mut replica, "x"), ProposeError::NotLeader { leader });
    replica.time_out();
    assert_eq!(replica.node.role(), Role::PreCandidate);
    assert_eq!(refused(&mut replica, "x"), ProposeError::NotLeader { leader: None });
}

#[test]
fn a_proposal_that_is_too_large_does_nothing() {
    let mut options = Options::new(NodeId(1));
    options.limits.command_bytes_max = 3;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.propose("abc");
    assert_eq!(refused(&mut leader, "abcd"), ProposeError::TooLarge { len: 4, max: 3 });
}

#[test]
fn a_proposal_that_finds_the_node_busy_does_nothing() {
    let mut options = Options::new(NodeId(1));
    options.limits.uncommitted_entries_max = 1;
    let mut leader = Replica::leader(options, Disk::empty(voters(3)));
    leader.propose("a");
    assert_eq!(refused(&mut leader, "b"), ProposeError::Busy);
}

#[test]
fn a_proposal_that_was_taken_comes_back_in_applies_under_its_id() {
    let mut leader = Replica::leader_of(3);
    let a = leader.propose("a");
    let b = leader.propose("b");
    assert_eq!((a, b), (id(1, 2), id(1, 3)));
    leader.persist_all();
    leader.receive(2, accepted(3));
    assert_eq!(leader.applied_ids(), [id(1, 1), a, b]);
    assert_eq!(text(&leader.applied), "- a b");
}

#[test]
fn another_entry_that_is_committed_at_its_index_says_that_a_proposal_failed() {
    let mut replica = Replica::leader_of(3);
    let a = replica.propose("a");
    replica.persist_all();
    replica.receive_in(2, 3, append(id(1, 1), entries(1, &[2]), 2));
    replica.persist_all();
    assert_eq!(replica.applied_ids(), [id(1, 1), id(2, 2)]);
    assert_ne!(a, id(2, 2));
}

/// TiDB 2.1.7: "failed" for what may yet take effect.
#[test]
fn truncation_decides_nothing() {
    let mut replica = Replica::leader_of(3);
    let a = replica.propose("a");
    replica.persist_all();
    // Leader 3 of term 2 does not have it ...
    replica.receive_in(2, 3, append(id(1, 1), entries(1, &[2]), 1));
    replica.persist_all();
    assert_eq!(replica.node.last(), id(2, 2));
    // ... but leader 2 of term 3 does, and commits it.
    replica.receive_in(3, 2, append(id(1, 1), vec![entry(1, 2), entry(3, 3)], 3));
    replica.persist_all();
    assert_eq!(replica.applied_ids(), [id(1, 1), a, id(3, 3)]);
}

#[test]
fn a_snapshot_that_passes_the_index_of_a_proposal_shows_as_a_restore() {
    let mut replica = Replica::leader_of(3);
    let a = replica.propose("a");
    replica.persist_all();
    replica.receive_in(2, 3, heartbeat(0, 1));
    replica.receive_snapshot(id(2, 9));
    replica.persist_all();
    assert!(replica.restores[0].last.index >= a.index);
    assert_eq!(replica.applied_ids(), [id(1, 1)]);
}

#[test]
fn the_same_inputs_in_the_same_order_give_the_same_effects() {
    let story = |seed: u64| {
        let options = Options { seed, ..Options::new(NodeId(1)) };
        let mut replica = Replica::leader(options, Disk::empty(voters(3)));
        let mut told = Vec::new();
        for i in 0..20 {
            if replica.node.role() == Role::Leader {
                replica.propose(&i.to_string());
            }
            replica.tick(70);
            replica.persist();
            told.push(format!("{:?} {:?}", replica.take_sent(), replica.node.status()));
        }
        told.push(format!("{:?}", replica.node.next_tick()));
        told
    };
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8), "the seed is where chance comes from");
}

/// Everything that can be said with absurd numbers, in `term`.
fn absurd(term: u64) -> Vec<Envelope> {
    let numbers = [0, 1, 2, 3, 7, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let mut messages = vec![GRANTED, DENIED];
    for a in numbers {
        messages.push(accepted(a));
        messages.push(Message::Heartbeat { commit: LogIndex(a), round: None });
        for b in numbers {
            let (last, campaign) = (id(a, b), Term(a));
            messages.push(Message::RequestVote { last, transfer: false });
            messages.push(Message::PreVote { campaign, last });
            messages.push(Message::PreVoteResponse { campaign, granted: b > 1 });
            messages.push(heartbeat(a, b));
            messages.push(Message::HeartbeatResponse { round: a, received: LogIndex(b) });
            messages.push(append(last, vec![], a));
            messages.push(append(last, vec![entry(a, b.wrapping_add(1))], b));
            messages.push(append(last, vec![entry(a, b), entry(b, a)], b));
            messages.push(append(id(1, a), vec![entry(1, a.wrapping_add(1))], b));
            for c in numbers {
                messages.push(rejected(a, id(b, c)));
            }
        }
    }
    let envelopes = messages.into_iter().flat_map(|message| {
        [1, 2, 3, 99].map(|from| Envelope {
            from: NodeId(from),
            incarnation: Incarnation(0),
            is_meant: true,
            to: NodeId(1),
            term: Term(term),
            message: message.clone(),
        })
    });
    envelopes.collect()
}

#[derive(Copy, Clone, Debug)]
enum State {
    New,
    Following,
    Replicating,
    Asking,
    Campaigning,
    Leading,
}

/// Every state, with a log that is empty, whole and compacted.
fn states() -> Vec<(State, usize)> {
    use State::*;
    let states = [New, Following, Replicating, Asking, Campaigning, Leading];
    states.into_iter().flat_map(|state| (0..3).map(move |disk| (state, disk))).collect()
}

fn in_state((state, disk): (State, usize)) -> Replica {
    let start = snapshot(id(2, 3), &voters(3));
    let disk = match disk {
        0 => Disk::empty(voters(3)),
        1 => Disk::with_log(voters(3), &[1, 1, 2, 2, 3], 3, 2),
        _ => Disk {
            incarnation: Incarnation(0),
            start: start.clone(),
            snapshot: Some(start),
            entries: entries(3, &[2, 3]),
            hard_state: HardState { term: Term(3), vote: None, commit: LogIndex(3) },
        },
    };
    let mut replica = Replica::start(Options::new(NodeId(1)), disk);
    match state {
        State::New => {}
        State::Following => replica.receive(2, heartbeat(0, 1)),
        State::Replicating => {
            let (last, term) = (replica.node.last(), replica.node.term().0 + 1);
            replica.receive_in(term, 2, append(last, entries(last.index.0, &[term; 5]), 0));
            replica.persist_all();
        }
        State::Asking => replica.time_out(),
        State::Campaigning => {
            replica.time_out();
            let campaign = replica.node.term().next();
            replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
        }
        State::Leading => {
            replica.elect();
            replica.propose("a");
        }
    }
    replica
}

/// The replica goes on after it was told something absurd: nothing that a peer says now makes it panic.
fn goes_on(replica: &mut Replica) {
    replica.read_all();
    replica.persist_all();
    for message in [heartbeat(u64::MAX, 1), append(EntryId::ZERO, vec![], u64::MAX), accepted(3)] {
        replica.receive(2, message);
        replica.persist_all();
    }
    replica.tick(10);
}

#[test]
fn whatever_a_peer_sends_never_panics() {
    for state in states() {
        let term = in_state(state).node.term().0;
        for term in [term, term + 1] {
            for envelope in absurd(term).into_iter().filter(|envelope| envelope.from.0 == 2) {
                let told = std::panic::catch_unwind(|| {
                    let mut replica = in_state(state);
                    replica.step(Input::Receive(envelope.clone()));
                    goes_on(&mut replica);
                });
                assert!(told.is_ok(), "{state:?} fell over {envelope:?}");
            }
        }
    }
}

#[test]
fn one_absurdity_after_the_other_never_panics() {
    for state in states() {
        let term = in_state(state).node.term().0;
        for term in [0, term.saturating_sub(1), term, term + 1, u64::MAX - 1, u64::MAX] {
            let mut replica = in_state(state);
            for envelope in absurd(term) {
                replica.step(Input::Receive(envelope));
                replica.read_all();
                replica.persist();
            }
            goes_on(&mut replica);
        }
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_never_panics() {
    let numbers = [0, 1, 2, 3, 4, 5, 6, 100, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for state in states() {
        for (term, index) in numbers.iter().flat_map(|a| numbers.map(|b| (*a, b))) {
            let told = std::panic::catch_unwind(|| {
                let mut replica = in_state(state);
                let last = id(term, index);
                replica.step(Input::SnapshotReceived(snapshot(last, &voters(3))));
                replica.step(Input::SnapshotTaken(snapshot(last, &voters(3))));
                let outcome = SnapshotOutcome::Delivered(last);
                replica.step(Input::SnapshotSent { to: NodeId(2), outcome });
                goes_on(&mut replica);
            });
            assert!(told.is_ok(), "{state:?} fell over a snapshot of {term} up to {index}");
        }
    }
}

#[test]
fn facts_about_things_unknown_are_ignored() {
    for state in states() {
        let mut replica = in_state(state);
        let before = replica.node.status();
        replica.step(Input::Persisted(WriteId(77)));
        replica.step(Input::Disconnected(NodeId(77)));
        let (to, outcome) = (NodeId(77), SnapshotOutcome::Failed);
        replica.step(Input::SnapshotSent { to, outcome });
        let result = Fetched::Entries(entries(7, &[9]));
        replica.step(Input::Fetched { id: FetchId(77), result });
        assert_eq!(replica.node.status(), before);
    }
}
