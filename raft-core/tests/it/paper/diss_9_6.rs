//! diss. §9.6 Preventing disruptions when a server rejoins the cluster: PreVote.

use raft_core::{Message, NodeId, Options, Role, Term};

use crate::harness::*;

/// "A candidate would only increment its term if it first learned from a majority of the cluster that they would be
/// willing to grant the candidate their votes."
#[test]
fn a_candidate_only_increments_its_term_if_a_majority_would_be_willing_to_grant_their_votes() {
    let mut replica = Replica::first_of(5);
    replica.time_out();
    let campaign = Term(1);
    assert_eq!((replica.node.role(), replica.node.term()), (Role::PreCandidate, Term(0)));
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    replica.receive(2, Message::PreVoteResponse { campaign, granted: true });
    replica.receive(3, Message::PreVoteResponse { campaign, granted: false });
    assert_eq!((replica.node.role(), replica.node.term()), (Role::PreCandidate, Term(0)));
    replica.receive(4, Message::PreVoteResponse { campaign, granted: true });
    assert_eq!((replica.node.role(), replica.node.term()), (Role::Candidate, Term(1)));
}

/// "If the candidate's log is sufficiently up-to-date."
#[test]
fn a_pre_vote_is_granted_if_the_candidates_log_is_sufficiently_up_to_date() {
    for (last, granted) in
        [(id(1, 9), false), (id(2, 2), false), (id(2, 3), true), (id(3, 1), true)]
    {
        let mut replica = Replica::with_log(&[1, 2, 2], 2, 0);
        let campaign = Term(3);
        replica.receive(2, Message::PreVote { campaign, last });
        assert_eq!(replica.sent_to(2), [Message::PreVoteResponse { campaign, granted }], "{last}");
        assert_eq!((replica.node.term(), replica.write.clone()), (Term(2), None));
    }
}

/// A candidate that raised its term to one that has begun could win nothing in it.
#[test]
fn a_pre_vote_for_a_term_that_has_begun_is_denied() {
    for (campaign, granted) in [(1, false), (2, false), (3, true), (9, true)] {
        let mut replica = Replica::with_log(&[1], 2, 0);
        let campaign = Term(campaign);
        replica.receive_in(1, 2, Message::PreVote { campaign, last: id(1, 1) });
        let answer = Message::PreVoteResponse { campaign, granted };
        assert_eq!(replica.sent_to(2), [answer], "{campaign}");
    }
}

/// "And the voters have not received heartbeats from a valid leader for at least a baseline election timeout."
#[test]
fn a_pre_vote_is_denied_while_a_leader_is_heard() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, heartbeat(0, 1));
    let campaign = Term(2);
    let ask = Message::PreVote { campaign, last: id(0, 0) };
    replica.tick(499);
    replica.sent.clear();
    replica.receive(3, ask.clone());
    replica.tick(1);
    replica.receive(3, ask);
    let answer = |granted| Message::PreVoteResponse { campaign, granted };
    assert_eq!(replica.sent_to(3), [answer(false), answer(true)]);

    let mut leader = Replica::leader_of(3);
    leader.receive(3, Message::PreVote { campaign, last: id(9, 9) });
    assert_eq!(leader.sent_to(3), [answer(false)], "a leader hears itself");
}

/// Many nodes may be told yes: a pre-vote is no vote.
#[test]
fn a_pre_vote_may_be_granted_to_many() {
    let mut replica = Replica::first_of(3);
    let campaign = Term(1);
    for peer in [2, 3] {
        replica.receive(peer, Message::PreVote { campaign, last: id(0, 0) });
        assert_eq!(replica.sent_to(peer), [Message::PreVoteResponse { campaign, granted: true }]);
    }
    assert_eq!(replica.node.status().vote, None);
}

/// "While a server is partitioned, it will not be able to increment its term, since it cannot receive permission from
/// a majority of the cluster. Then, when it rejoins the cluster, it will still not be able to increment its term,
/// since the other servers will have been receiving regular heartbeats from the leader."
#[test]
fn a_server_that_was_partitioned_disrupts_nothing_when_it_rejoins_the_cluster() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.at(1).node.term();
    cluster.partition(&[3]);
    cluster.run(60_000);
    assert_eq!(cluster.at(3).node.term(), term);
    cluster.heal();
    cluster.run(5000);
    assert_eq!((cluster.leaders(), cluster.at(1).node.term()), (vec![1], term));
    assert_eq!(cluster.at(3).node.leader(), Some(NodeId(1)));
}

/// "Once the server receives a heartbeat from the leader itself, it will return to the follower state (in the same
/// term)."
#[test]
fn once_the_server_receives_a_heartbeat_it_will_return_to_the_follower_state_in_the_same_term() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, heartbeat(0, 1));
    replica.time_out();
    assert_eq!(replica.node.role(), Role::PreCandidate);
    replica.receive(2, heartbeat(0, 2));
    assert_eq!((replica.node.role(), replica.node.term()), (Role::Follower, Term(1)));
}

/// An answer to another question is none to this one.
#[test]
fn an_answer_about_another_term_does_not_count() {
    let mut replica = Replica::with_log(&[], 4, 0);
    replica.time_out();
    for campaign in [Term(0), Term(4), Term(6), Term(u64::MAX)] {
        for peer in [2, 3] {
            replica.receive(peer, Message::PreVoteResponse { campaign, granted: true });
        }
        assert_eq!(replica.node.role(), Role::PreCandidate);
    }
}

/// The extension is an option.
#[test]
fn without_pre_vote_a_follower_campaigns_at_once() {
    let options = Options { pre_vote: false, ..Options::new(NodeId(1)) };
    let mut replica = Replica::start(options, Disk::empty(voters(3)));
    replica.time_out();
    assert_eq!((replica.node.role(), replica.node.term()), (Role::Candidate, Term(1)));
}
