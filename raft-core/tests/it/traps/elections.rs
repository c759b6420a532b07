//! Elections, terms, and disks that were wiped.

use raft_core::{
    Configuration, Input, Lease, LogIndex, Message, Node, NodeId, Options, Replication,
    RestoreError, Role, Term,
};

use crate::harness::*;

fn no_pre_vote() -> Options {
    Options { pre_vote: false, ..Options::new(NodeId(1)) }
}

/// paper, Fig. 2: a vote that is sent before it is durable.
#[test]
fn a_crash_before_the_vote_is_durable_leaves_no_vote_behind_that_anybody_knows_of() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    assert_eq!(replica.sent, []);
    replica.crash();
    replica.receive_in(7, 3, Message::RequestVote { last: id(0, 0), transfer: false });
    replica.persist();
    assert_eq!((replica.sent_to(2), replica.sent_to(3)), (vec![], vec![GRANTED]));
}

/// paper, Fig. 2: the same after the crash.
#[test]
fn a_crash_after_the_vote_was_durable_does_not_let_the_node_vote_twice() {
    let mut replica = Replica::first_of(3);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
    replica.persist();
    replica.crash();
    replica.receive_in(7, 3, Message::RequestVote { last: id(9, 9), transfer: false });
    replica.persist_all();
    assert_eq!(replica.sent_to(3), [DENIED]);
    replica.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
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
    for combination in 0..64 {
        let options = |node: u64| {
            let mut rest = combination;
            for _ in 1..node {
                rest /= settings.len();
            }
            let (pre_vote, check_quorum) = settings[rest % settings.len()];
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

/// etcd #8501, raft-rs #42 and #84: the same where connections close, of a leader that is dead and of one that is not, and
/// with leases, which all nodes have or none.
#[test]
fn nodes_with_mixed_settings_find_a_leader_again_when_connections_to_it_close() {
    let settings = [(false, false), (false, true), (true, false), (true, true)];
    for combination in 0..128 {
        let lease = (combination >= 64).then_some(Lease { clock_drift_ppm: 1000 });
        let options = |node: u64| {
            let setting = (combination % 64) >> (2 * (node - 1)) & 3;
            let (pre_vote, check_quorum) = settings[setting];
            let check_quorum = check_quorum || lease.is_some();
            Options { pre_vote, check_quorum, lease, ..Options::new(NodeId(node)) }
        };
        let start = |id| Replica::start(options(id), Disk::empty(voters(3)));
        let mut cluster = Cluster::new((1..=3).map(start));
        cluster.run(5000);
        let first = cluster.leaders()[0];
        let (term, others) = (cluster.at(first).node.term(), [first % 3 + 1, (first + 1) % 3 + 1]);
        for other in others {
            cluster.at(other).step(Input::Disconnected(NodeId(first)));
            cluster.run(500);
        }
        let found = (cluster.leaders(), cluster.at(first).node.term());
        assert_eq!(found, (vec![first], term), "settings {combination}: it was alive");
        cluster.kill(first);
        for other in others {
            cluster.at(other).step(Input::Disconnected(NodeId(first)));
        }
        cluster.run(10_000);
        assert_eq!(cluster.leaders().len(), 1, "settings {combination}");
        cluster.restart(first);
        cluster.run(2000);
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
    replica.receive(2, Message::RequestVote { last: id(0, 0), transfer: false });
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
        replica.receive_in(4, 2, Message::RequestVote { last, transfer: false });
        replica.persist_all();
        assert_eq!(replica.sent_to(2), [vote_response(granted)], "{last}");
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
    learner.receive_in(7, 2, Message::RequestVote { last: id(0, 0), transfer: false });
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
        replica.receive_in(
            term.0 + 5,
            99,
            Message::RequestVote { last: id(9, 99), transfer: false },
        );
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

/// openraft #1467: a status that shows a leader which is dead.
#[test]
fn nobody_shows_a_leader_that_is_not_heard_any_more() {
    let learner = Configuration::new([1, 2, 3].map(NodeId), [NodeId(4)]);
    let start = |id| Replica::start(Options::new(NodeId(id)), Disk::empty(learner.clone()));
    let mut cluster = Cluster::new((1..=4).map(start));
    cluster.elect(1);
    cluster.run(300);
    let shown = |cluster: &mut Cluster, ids: &[u64]| -> Vec<Option<NodeId>> {
        ids.iter().map(|id| cluster.at(*id).node.status().leader).collect()
    };
    assert_eq!(shown(&mut cluster, &[1, 2, 3, 4]), [Some(NodeId(1)); 4]);
    // A follower and a learner that hear nobody, and a leader whom nobody answers.
    cluster.partition(&[1]);
    cluster.partition(&[3]);
    cluster.partition(&[4]);
    cluster.run(1500);
    assert_eq!(shown(&mut cluster, &[1, 2, 3, 4]), [None; 4]);
    assert_eq!(cluster.leaders(), Vec::<u64>::new());
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
