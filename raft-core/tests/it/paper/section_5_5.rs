//! §5.5 Follower and candidate crashes.

use raft_core::{LogIndex, Message, Role, Term};

use crate::harness::*;

/// "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail. Raft
/// handles these failures by retrying indefinitely; if the crashed server restarts, then the RPC will complete
/// successfully."
#[test]
fn if_the_crashed_server_restarts_then_append_entries_will_complete_successfully() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.kill(3);
    cluster.at(1).propose("a");
    cluster.run(20_000);
    cluster.restart(3);
    cluster.run(1000);
    assert_eq!(text(&cluster.at(3).applied), "- a");
    assert_eq!(cluster.leaders(), [1]);
}

#[test]
fn if_the_crashed_server_restarts_then_request_vote_will_complete_successfully() {
    let mut cluster = Cluster::of(3);
    cluster.kill(2);
    cluster.kill(3);
    cluster.run(5000);
    assert_eq!(cluster.leaders(), Vec::<u64>::new());
    cluster.restart(2);
    cluster.run(5000);
    assert_eq!(cluster.leaders().len(), 1);
}

/// "If a server crashes after completing an RPC but before responding, then it will receive the same RPC again after
/// it restarts. Raft RPCs are idempotent, so this causes no harm."
#[test]
fn a_server_that_crashed_before_responding_answers_the_same_message_after_it_restarts() {
    let request = append(id(0, 0), entries(0, &[1, 1]), 1);
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, request.clone());
    follower.persist();
    follower.crash();
    follower.receive_in(1, 2, request);
    assert_eq!(follower.write, None, "there is nothing new in it");
    assert_eq!(follower.sent_to(2), [accepted(2)]);

    let request = Message::RequestVote { last: id(0, 0), transfer: false };
    let mut voter = Replica::first_of(3);
    voter.receive_in(1, 2, request.clone());
    voter.persist();
    voter.crash();
    voter.receive_in(1, 2, request);
    assert_eq!(voter.sent_to(2), [GRANTED]);
}

/// "If a follower receives an AppendEntries request that includes log entries already present in its log, it ignores
/// those entries in the new request."
#[test]
fn if_a_request_includes_log_entries_already_present_in_its_log_it_ignores_those_entries() {
    let mut follower = Replica::with_log(&[1, 1, 1], 1, 0);
    follower.receive_in(2, 2, append(id(1, 1), entries(1, &[1, 1, 2]), 0));
    let write = follower.write.clone().unwrap();
    assert_eq!(write.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id(2, 4)]);
    follower.persist_all();
    for _ in 0..3 {
        follower.sent.clear();
        follower.receive(2, append(id(0, 0), entries(0, &[1, 1, 1, 2]), 0));
        assert_eq!(follower.write, None);
        assert_eq!(follower.sent_to(2), [accepted(4)]);
    }
}

/// paper, Fig. 2: "Persistent state on all servers (updated on stable storage before responding to RPCs)".
#[test]
fn the_term_the_vote_and_the_log_survive_a_crash() {
    let mut replica = Replica::leader_of(3);
    replica.propose("a");
    replica.persist_all();
    replica.receive_in(5, 2, Message::RequestVote { last: id(9, 9), transfer: false });
    replica.tick(2000);
    replica.receive_in(5, 2, Message::RequestVote { last: id(9, 9), transfer: false });
    replica.persist_all();
    let before = replica.node.status();
    replica.crash();
    let after = replica.node.status();
    assert_eq!((after.term, after.vote), (before.term, before.vote));
    assert_eq!((after.last, after.durable), (before.last, before.durable));
    assert_eq!(after.role, Role::Follower);
}

/// The same of a write that did not get through: all of it is there, or none.
#[test]
fn a_write_that_is_out_when_the_process_dies_never_was() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(5, 2, append(id(0, 0), entries(0, &[5]), 0));
    replica.crash();
    assert_eq!((replica.node.term(), replica.node.last()), (Term(0), id(0, 0)));
    assert_eq!(replica.node.commit(), LogIndex(0));
}
