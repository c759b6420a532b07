//! §5.1 Raft basics.

use raft_core::{LogIndex, Message, NodeId, Options, Role, Term};

use crate::harness::*;

/// "At any given time each server is in one of three states [...] Followers are passive: they issue no requests on
/// their own but simply respond to requests from leaders and candidates."
#[test]
fn followers_are_passive_they_issue_no_requests_on_their_own() {
    let mut follower = Replica::with_log(&[1, 1], 1, 0);
    follower.receive(2, heartbeat(0, 1));
    follower.sent.clear();
    for _ in 0..10 {
        follower.tick(40);
        follower.persist_all();
    }
    assert_eq!((follower.node.role(), follower.sent.len()), (Role::Follower, 0));
}

/// "In normal operation there is exactly one leader and all of the other servers are followers."
#[test]
fn in_normal_operation_there_is_exactly_one_leader_and_all_of_the_other_servers_are_followers() {
    let mut cluster = Cluster::of(5);
    cluster.run(5000);
    assert_eq!(cluster.leaders().len(), 1);
    let leader = cluster.leaders()[0];
    for id in (1..=5).filter(|id| *id != leader) {
        assert_eq!(cluster.at(id).node.role(), Role::Follower);
        assert_eq!(cluster.at(id).node.leader(), Some(NodeId(leader)));
    }
}

/// "Raft divides time into terms [...] numbered with consecutive integers. Each term begins with an election."
#[test]
fn terms_are_numbered_with_consecutive_integers_and_each_term_begins_with_an_election() {
    let mut replica = Replica::first_of(3);
    assert_eq!(replica.node.term(), Term(0));
    for term in 1..=5 {
        replica.elect();
        assert_eq!(replica.node.term(), Term(term));
        replica.persist_all();
        // Nobody answers: its term is over.
        replica.tick(2000);
        assert_eq!((replica.node.role(), replica.node.term()), (Role::Follower, Term(term)));
    }
}

/// "Raft ensures that there is at most one leader in a given term."
#[test]
fn there_is_at_most_one_leader_in_a_given_term() {
    // Both campaign in the same term, and each of three others has one vote to give.
    let mut cluster = Cluster::of(5);
    for id in [1, 2] {
        let campaign = Term(1);
        cluster.at(id).time_out();
        for peer in [3, 4, 5] {
            cluster.at(id).receive(peer, Message::PreVoteResponse { campaign, granted: true });
        }
        cluster.at(id).persist();
        assert_eq!(
            (cluster.at(id).node.role(), cluster.at(id).node.term()),
            (Role::Candidate, campaign)
        );
    }
    cluster.settle();
    assert!(cluster.leaders().len() <= 1, "{:?}", cluster.leaders());
}

/// "Each server stores a current term number, which increases monotonically over time."
#[test]
fn the_current_term_number_increases_monotonically_over_time() {
    let mut replica = Replica::first_of(3);
    for (term, now) in [(3, 3), (2, 3), (7, 7), (0, 7), (7, 7), (6, 7)] {
        replica.receive_in(term, 2, heartbeat(0, 1));
        assert_eq!(replica.node.term(), Term(now));
    }
    replica.persist_all();
    replica.crash();
    assert_eq!(replica.node.term(), Term(7), "over a crash, too");
}

/// "Current terms are exchanged whenever servers communicate; if one server's current term is smaller than the
/// other's, then it updates its current term to the larger value."
#[test]
fn if_one_servers_current_term_is_smaller_it_updates_its_current_term_to_the_larger_value() {
    let (campaign, received, round) = (Term(4), LogIndex(0), 1);
    for message in [
        append(id(0, 0), vec![], 0),
        heartbeat(0, 1),
        Message::RequestVote { last: id(0, 0), transfer: false },
        accepted(0),
        rejected(1, id(0, 0)),
        GRANTED,
        DENIED,
        Message::HeartbeatResponse { round, received },
        Message::PreVoteResponse { campaign, granted: false },
    ] {
        let mut replica = Replica::first_of(3);
        replica.receive_in(7, 2, message.clone());
        assert_eq!(replica.node.term(), Term(7), "{message:?}");
    }
}

/// "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower state."
#[test]
fn a_candidate_or_leader_whose_term_is_out_of_date_immediately_reverts_to_follower_state() {
    let mut leader = Replica::leader_of(3);
    leader.receive_in(9, 2, rejected(1, id(0, 0)));
    assert_eq!((leader.node.role(), leader.node.term()), (Role::Follower, Term(9)));
    assert_eq!(leader.node.leader(), None);

    let mut candidate = Replica::start(
        Options { pre_vote: false, ..Options::new(NodeId(1)) },
        Disk::empty(voters(3)),
    );
    candidate.time_out();
    assert_eq!(candidate.node.role(), Role::Candidate);
    candidate.receive_in(9, 2, DENIED);
    assert_eq!((candidate.node.role(), candidate.node.term()), (Role::Follower, Term(9)));
}

/// "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn if_a_server_receives_a_request_with_a_stale_term_number_it_rejects_the_request() {
    let mut replica = Replica::with_log(&[1], 5, 0);
    for (request, answer) in [
        (Message::RequestVote { last: id(9, 9), transfer: false }, DENIED),
        (append(id(1, 1), entries(1, &[2]), 1), rejected(1, id(0, 0))),
    ] {
        replica.sent.clear();
        replica.receive_in(4, 2, request);
        assert_eq!(replica.sent_to(2), [answer]);
        assert_eq!(replica.sent[0].term, Term(5), "with the term by which the sender learns of it");
    }
    let status = replica.node.status();
    assert_eq!((status.vote, status.last, status.commit), (None, id(1, 1), LogIndex(0)));
    assert_eq!(replica.node.leader(), None);
}
