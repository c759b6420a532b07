//! §5.2 Leader election.

use std::collections::BTreeSet;

use raft_core::{Message, NodeId, Options, Role, Term};

use crate::harness::*;

fn plain(id: u64) -> Options {
    Options { pre_vote: false, ..Options::new(NodeId(id)) }
}

/// A candidate in term 1 whose own vote is durable; the requests have left.
fn candidate_of(count: u64) -> Replica {
    let mut replica = Replica::start(plain(1), Disk::empty(voters(count)));
    replica.time_out();
    replica.persist();
    assert_eq!(replica.node.role(), Role::Candidate);
    replica
}

/// "When servers start up, they begin as followers."
#[test]
fn when_servers_start_up_they_begin_as_followers() {
    let mut leader = Replica::leader_of(3);
    leader.crash();
    assert_eq!(leader.node.role(), Role::Follower);
    assert_eq!(Replica::first_of(3).node.role(), Role::Follower);
    assert_eq!(Replica::first_of(3).node.leader(), None);
}

/// "A server remains in follower state as long as it receives valid RPCs from a leader or candidate."
#[test]
fn a_server_remains_in_follower_state_as_long_as_it_receives_valid_rpcs_from_a_leader() {
    let mut follower = Replica::first_of(3);
    for round in 0..50 {
        follower.receive_in(1, 2, heartbeat(0, round));
        follower.tick(400);
        assert_eq!(follower.node.role(), Role::Follower);
    }
    for index in 0..50 {
        follower.receive(2, append(id(index.min(1), index), entries(index, &[1]), 0));
        follower.tick(400);
        assert_eq!(follower.node.role(), Role::Follower);
    }
}

/// The same, of a candidate that gets the vote.
#[test]
fn granting_a_vote_puts_the_own_election_off() {
    let mut follower = Replica::first_of(3);
    follower.tick(400);
    follower.receive_in(1, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    follower.tick(400);
    assert_eq!(follower.node.role(), Role::Follower);
}

/// A server that knows the winner of a term has no use for another vote in it.
#[test]
fn a_follower_of_the_terms_leader_votes_for_nobody_else_in_that_term() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.receive_in(1, 3, Message::RequestVote { last: id(0, 0), transfer: false });
    follower.persist_all();
    assert_eq!(follower.sent_to(3), [DENIED]);
    assert_eq!(follower.node.leader(), Some(NodeId(2)));
}

/// "Leaders send periodic heartbeats [...] to all followers in order to maintain their authority."
#[test]
fn leaders_send_periodic_heartbeats_to_all_followers_in_order_to_maintain_their_authority() {
    let mut leader = Replica::leader_of(3);
    for _ in 0..4 {
        leader.sent.clear();
        leader.tick(100);
        assert!(leader.last_round(2).is_some() && leader.last_round(3).is_some());
        assert!(leader.sent.iter().all(|envelope| envelope.term == Term(1)));
    }
    // And no more often than that.
    leader.sent.clear();
    for _ in 0..9 {
        leader.tick(10);
    }
    assert_eq!(leader.sent, []);
}

/// "If a follower receives no communication over a period of time called the election timeout, then it assumes there
/// is no viable leader and begins an election to choose a new leader."
#[test]
fn if_a_follower_receives_no_communication_over_the_election_timeout_it_begins_an_election() {
    let mut follower = Replica::start(plain(1), Disk::empty(voters(3)));
    follower.tick(499);
    assert_eq!(follower.node.role(), Role::Follower, "not before once the timeout");
    follower.tick(501);
    assert_eq!(follower.node.role(), Role::Candidate, "and not later than twice that");
}

/// "To begin an election, a follower increments its current term and transitions to candidate state. It then votes
/// for itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster."
#[test]
fn a_candidate_increments_its_term_votes_for_itself_and_issues_request_vote_to_all_others() {
    let mut candidate = Replica::start(plain(1), Disk::with_log(voters(5), &[1, 3], 3, 0));
    candidate.time_out();
    candidate.persist();
    let status = candidate.node.status();
    assert_eq!((status.role, status.term), (Role::Candidate, Term(4)));
    assert_eq!(status.vote, Some(NodeId(1)));
    for peer in 2..=5 {
        assert_eq!(
            candidate.sent_to(peer),
            [Message::RequestVote { last: id(3, 2), transfer: false }]
        );
    }
    assert!(candidate.sent.iter().all(|envelope| envelope.term == Term(4)));
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the
/// same term."
#[test]
fn a_candidate_wins_an_election_if_it_receives_votes_from_a_majority_for_the_same_term() {
    for (count, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)] {
        let mut candidate = match count {
            1 => Replica::start(plain(1), Disk::empty(voters(1))),
            _ => candidate_of(count),
        };
        candidate.persist();
        for peer in (2..).take(needed) {
            assert_eq!(candidate.node.role(), Role::Candidate, "{count} servers, before {peer}");
            // The same vote twice is one vote, and one of an earlier term none.
            candidate.receive_in(0, peer + 1, GRANTED);
            candidate.receive(peer, GRANTED);
            candidate.receive(peer, GRANTED);
        }
        assert_eq!(candidate.node.role(), Role::Leader, "{count} servers");
    }
}

/// A majority of the full cluster: who has no vote gives none.
#[test]
fn the_votes_of_learners_and_strangers_do_not_count() {
    let members = raft_core::Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId));
    let mut candidate = Replica::start(plain(1), Disk::empty(members));
    candidate.time_out();
    candidate.persist();
    assert_eq!(candidate.sent_to(4), [], "they are not even asked");
    for peer in [4, 5, 6, 7] {
        candidate.receive(peer, GRANTED);
    }
    assert_eq!(candidate.node.role(), Role::Candidate);
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
#[test]
fn each_server_will_vote_for_at_most_one_candidate_in_a_given_term_first_come_first_served() {
    let mut voter = Replica::first_of(3);
    voter.receive_in(1, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    voter.receive_in(1, 3, Message::RequestVote { last: id(0, 0), transfer: false });
    voter.persist_all();
    assert_eq!((voter.sent_to(2), voter.sent_to(3)), (vec![GRANTED], vec![DENIED]));
    // In the next term it has a vote again.
    voter.sent.clear();
    voter.receive_in(2, 3, Message::RequestVote { last: id(0, 0), transfer: false });
    voter.persist_all();
    assert_eq!(voter.sent_to(3), [GRANTED]);
}

/// "Once a candidate wins an election, it becomes leader. It then sends [...] messages to all of the other servers to
/// establish its authority and prevent new elections." Here those carry the first entry of its term (§8).
#[test]
fn once_a_candidate_wins_it_sends_messages_to_all_of_the_other_servers_to_establish_its_authority()
{
    let mut candidate = candidate_of(3);
    candidate.sent.clear();
    candidate.receive(2, GRANTED);
    assert_eq!(candidate.appends_to(2), [[1]]);
    assert_eq!(candidate.appends_to(3), [[1]]);
}

/// "While waiting for votes, a candidate may receive an AppendEntries RPC from another server claiming to be leader.
/// If the leader's term is at least as large as the candidate's current term, then the candidate recognizes the
/// leader as legitimate and returns to follower state."
#[test]
fn a_candidate_recognizes_a_leader_of_its_term_as_legitimate_and_returns_to_follower_state() {
    for (term, message) in [
        (1, heartbeat(0, 1)),
        (1, append(id(0, 0), vec![], 0)),
        (2, heartbeat(0, 1)),
        (2, append(id(1, 9), vec![], 0)),
    ] {
        let mut candidate = candidate_of(3);
        candidate.receive_in(term, 2, message);
        assert_eq!(candidate.node.role(), Role::Follower);
        assert_eq!(candidate.node.leader(), Some(NodeId(2)));
        assert_eq!(candidate.node.term(), Term(term));
    }
}

/// "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and
/// continues in candidate state."
#[test]
fn if_the_term_in_the_rpc_is_smaller_the_candidate_rejects_it_and_continues_in_candidate_state() {
    let mut candidate = candidate_of(3);
    candidate.sent.clear();
    candidate.receive_in(0, 2, append(id(0, 0), vec![], 0));
    assert_eq!(candidate.node.role(), Role::Candidate);
    assert_eq!(candidate.sent_to(2), [rejected(0, id(0, 0))]);
}

/// "If many followers become candidates at the same time, votes could be split so that no candidate obtains a
/// majority. When this happens, each candidate will time out and start a new election by incrementing its term."
#[test]
fn when_votes_are_split_each_candidate_will_time_out_and_start_a_new_election() {
    let start = |id| Replica::start(plain(id), Disk::empty(voters(4)));
    let mut cluster = Cluster::new((1..=4).map(start));
    cluster.dead.extend([3, 4]);
    cluster.at(1).time_out();
    cluster.at(2).time_out();
    cluster.settle();
    for id in [1, 2] {
        assert_eq!(cluster.at(id).node.role(), Role::Candidate);
        assert_eq!(cluster.at(id).node.term(), Term(1));
    }
    cluster.at(1).time_out();
    cluster.settle();
    assert_eq!(cluster.at(1).node.term(), Term(2));
    assert_eq!(cluster.at(1).node.role(), Role::Candidate);
}

/// "Raft uses randomized election timeouts to ensure that split votes are rare [...]. Election timeouts are chosen
/// randomly from a fixed interval."
#[test]
fn election_timeouts_are_chosen_randomly_from_a_fixed_interval() {
    let mut timeouts = BTreeSet::new();
    for seed in 0..200 {
        let options = Options { seed, ..plain(1) };
        let replica = Replica::start(options, Disk::empty(voters(3)));
        let timeout = replica.node.next_tick() - replica.now;
        assert!((ms(500)..ms(1000)).contains(&timeout), "{timeout:?}");
        timeouts.insert(timeout.as_millis() / 50);
    }
    assert_eq!(timeouts.len(), 10, "each tenth of the interval is used");
}

/// "Each candidate restarts its randomized election timeout at the start of an election, and it waits for that
/// timeout to elapse before starting the next election."
#[test]
fn each_candidate_restarts_its_randomized_election_timeout_at_the_start_of_an_election() {
    let mut candidate = candidate_of(3);
    let mut lengths = BTreeSet::new();
    for term in 1..20 {
        assert_eq!(candidate.node.term(), Term(term));
        let started = candidate.now;
        while candidate.node.term() == Term(term) {
            candidate.tick(10);
        }
        let length = candidate.now - started;
        assert!((ms(500)..=ms(1010)).contains(&length), "{length:?}");
        lengths.insert(length);
        candidate.persist();
    }
    assert!(lengths.len() > 5, "{lengths:?}");
}

/// §5.2 and §5.5: requests that are lost are repeated.
#[test]
fn a_candidate_asks_again_those_who_have_not_answered() {
    let mut candidate = candidate_of(5);
    candidate.receive(2, DENIED);
    candidate.sent.clear();
    candidate.tick(99);
    assert_eq!(candidate.sent, [], "at the pace of heartbeats");
    candidate.tick(1);
    let asked: Vec<u64> = candidate.sent.iter().map(|envelope| envelope.to.0).collect();
    assert_eq!(asked, [3, 4, 5]);
}

/// The scenario of every write-up: whoever times out first wins, and the others follow.
#[test]
fn one_of_many_that_start_together_is_elected() {
    for count in [2, 3, 5, 7] {
        let start = |id| Replica::start(plain(id), Disk::empty(voters(count)));
        let mut cluster = Cluster::new((1..=count).map(start));
        cluster.run(5000);
        assert_eq!(cluster.leaders().len(), 1, "of {count}");
    }
}
