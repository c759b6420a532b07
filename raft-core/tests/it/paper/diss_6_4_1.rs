//! diss. §6.4.1 Using clocks to reduce messaging for read-only queries: leases.

use raft_core::{
    Configuration, Lease, LogIndex, Message, Node, NodeId, Options, ReadRefused, RestoreError,
    Role, Term,
};

use crate::harness::*;

/// Clocks that are right.
const EXACT: Lease = Lease { clock_drift_ppm: 0 };

fn with_lease(id: u64, lease: Lease) -> Options {
    Options { lease: Some(lease), ..Options::new(NodeId(id)) }
}

fn leader_of(count: u64, lease: Lease) -> Replica {
    Replica::leader(with_lease(1, lease), Disk::empty(voters(count)))
}

/// Replica 1 of 3 with leases, whose disk is in term 3.
fn restarted() -> Replica {
    Replica::start(with_lease(1, EXACT), Disk::with_log(voters(3), &[1], 3, 1))
}

/// A round of heartbeats leaves now. Its name.
fn start_round(leader: &mut Replica) -> u64 {
    leader.tick(100);
    leader.last_round(2).expect("a round has left")
}

fn answer(leader: &mut Replica, from: u64, round: u64) {
    let received = leader.node.last().index;
    leader.receive(from, Message::HeartbeatResponse { round, received });
}

fn request_vote(transfer: bool) -> Message {
    Message::RequestVote { last: id(9, 9), transfer }
}

/// For how many milliseconds from now on a read is answered by the lease. Nobody answers meanwhile.
fn lease_ms(leader: &mut Replica) -> u64 {
    let mut milliseconds = 0;
    while leader.node.read_by_lease().is_some() {
        leader.tick(1);
        milliseconds += 1;
    }
    milliseconds
}

/// "Once the leader's heartbeats were acknowledged by a majority of the cluster, it would extend its lease to start +
/// election timeout / clock drift bound, since the followers shouldn't time out before then."
#[test]
fn the_lease_runs_from_the_moment_at_which_the_confirmed_round_left() {
    for answered_after in [0, 1, 70] {
        let mut leader = leader_of(3, EXACT);
        let round = start_round(&mut leader);
        leader.tick(answered_after);
        assert_eq!(leader.node.read_by_lease(), None, "nobody has answered");
        answer(&mut leader, 2, round);
        assert_eq!(leader.node.read_by_lease(), Some(LogIndex(1)));
        assert_eq!(answered_after + lease_ms(&mut leader), 500);
    }
}

/// A leader whose clock is slow, and a voter whose clock is fast: (1 - drift) / (1 + drift) of the election timeout.
#[test]
fn the_lease_is_shorter_by_the_drift_of_both_clocks() {
    for (clock_drift_ppm, milliseconds) in
        [(1000, 500 * 999 / 1001), (100_000, 500 * 900 / 1100), (499_999, 500 * 500 / 1500)]
    {
        let mut leader = leader_of(3, Lease { clock_drift_ppm });
        let round = start_round(&mut leader);
        answer(&mut leader, 2, round);
        let held = lease_ms(&mut leader);
        assert!((milliseconds..=milliseconds + 1).contains(&held), "{held} ms, {clock_drift_ppm}");
        // Never longer than the promise of a voter, as the leader's clock measures it.
        let drift = f64::from(clock_drift_ppm) / 1e6;
        let longest = 500.0 / (1.0 + drift) * (1.0 - drift);
        assert!((held - 1) as f64 <= longest, "{held} ms, at most {longest}");
    }
}

#[test]
fn the_lease_needs_a_majority_and_each_round_that_one_answers_renews_it() {
    let mut leader = leader_of(5, EXACT);
    for _ in 0..20 {
        let round = start_round(&mut leader);
        answer(&mut leader, 2, round);
        let renewed = leader.now;
        answer(&mut leader, 3, round);
        assert_eq!(leader.node.read_by_lease(), Some(LogIndex(1)), "at {renewed:?}");
    }
    // From now on one of five answers, with the leader itself two.
    for passed in [100, 200, 300, 400] {
        let round = start_round(&mut leader);
        answer(&mut leader, 2, round);
        assert_eq!(leader.node.read_by_lease(), Some(LogIndex(1)), "{passed} ms later");
    }
    leader.tick(99);
    assert!(leader.node.read_by_lease().is_some());
    leader.tick(1);
    assert_eq!(leader.node.read_by_lease(), None);
}

/// An old round that is answered late gives no more than is left of it, and takes nothing away.
#[test]
fn a_round_that_is_answered_late_gives_what_is_left_of_it() {
    let mut leader = leader_of(3, EXACT);
    let old = start_round(&mut leader);
    let new = start_round(&mut leader);
    answer(&mut leader, 2, old);
    leader.tick(50);
    answer(&mut leader, 3, new);
    answer(&mut leader, 2, old);
    assert_eq!(lease_ms(&mut leader), 450);
    let mut leader = leader_of(3, EXACT);
    let old = start_round(&mut leader);
    start_round(&mut leader);
    answer(&mut leader, 2, old);
    assert_eq!(lease_ms(&mut leader), 400);
}

/// Reads start rounds, too, and these renew the lease as well.
#[test]
fn a_round_that_a_read_has_started_renews_the_lease() {
    let mut leader = leader_of(3, EXACT);
    leader.tick(10);
    leader.node.read_index().unwrap();
    leader.drain();
    let round = leader.last_round(2).unwrap();
    answer(&mut leader, 3, round);
    assert_eq!(lease_ms(&mut leader), 500);
}

/// It may not know yet what is committed (diss. §6.4).
#[test]
fn there_is_no_lease_before_an_entry_of_the_own_term_is_committed() {
    let mut leader = Replica::start(with_lease(1, EXACT), Disk::with_log(voters(3), &[1], 1, 1));
    leader.tick(500);
    leader.elect();
    leader.persist_all();
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    answer(&mut leader, 3, round);
    assert_eq!(leader.node.read_by_lease(), None);
    leader.receive(2, accepted(2));
    assert_eq!(leader.node.read_by_lease(), Some(LogIndex(2)));
}

#[test]
fn there_is_no_lease_without_the_option_nor_at_a_node_that_does_not_lead() {
    let mut leader = Replica::leader_of(3);
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    assert_eq!(leader.node.read_by_lease(), None);
    let mut leader = leader_of(3, EXACT);
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    leader.receive_in(7, 2, heartbeat(0, 1));
    assert_eq!(leader.node.read_by_lease(), None);
}

#[test]
fn the_only_voter_holds_a_lease_by_its_own_word() {
    let mut leader = leader_of(1, EXACT);
    leader.tick(100);
    assert_eq!(leader.node.read_by_lease(), Some(LogIndex(1)));
}

/// "If a leader initiates a leadership transfer, its lease must end": others may be elected before it would.
#[test]
fn once_a_timeout_now_has_left_there_is_no_lease_for_the_rest_of_the_term() {
    let mut leader = leader_of(3, EXACT);
    leader.propose("a");
    leader.persist_all();
    leader.receive(3, accepted(2));
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    leader.node.transfer_leadership(Some(NodeId(2))).unwrap();
    leader.drain();
    assert_eq!(leader.node.read_by_lease(), Some(LogIndex(2)), "2 has not everything yet");
    leader.receive(2, accepted(2));
    assert!(leader.sent_to(2).contains(&Message::TimeoutNow));
    assert_eq!(leader.node.read_by_lease(), None);
    // Nothing comes of it, and the leader stays; the message may be on its way for ever.
    for _ in 0..50 {
        let round = start_round(&mut leader);
        answer(&mut leader, 2, round);
        answer(&mut leader, 3, round);
        assert_eq!(leader.node.read_by_lease(), None);
    }
    assert_eq!((leader.node.role(), leader.node.transferring()), (Role::Leader, None));
    let asked = leader.node.read_index().unwrap();
    leader.drain();
    let round = leader.last_round(2).unwrap();
    answer(&mut leader, 2, round);
    assert_eq!(leader.reads.pop().map(|read| read.id), Some(asked), "there is another way to read");
}

#[test]
fn a_leader_that_retires_has_no_lease() {
    let mut leader = leader_of(3, EXACT);
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    leader.node.change_membership(&Configuration::new([2, 3].map(NodeId), [])).unwrap();
    leader.drain();
    for index in 2..4 {
        leader.persist_all();
        leader.receive(2, accepted(index));
        leader.receive(3, accepted(index));
    }
    let told = leader.sent.iter().filter(|envelope| envelope.message == Message::TimeoutNow);
    assert_eq!((told.count(), leader.node.role()), (1, Role::Follower));
    assert_eq!(leader.node.read_by_lease(), None);
}

/// In its former life it may have promised a leader to wait.
#[test]
fn a_node_that_starts_grants_no_vote_for_one_longest_lease() {
    let mut replica = restarted();
    let pre_vote = Message::PreVote { campaign: Term(5), last: id(9, 9) };
    replica.tick(499);
    replica.receive(2, pre_vote.clone());
    let answer = |granted| Message::PreVoteResponse { campaign: Term(5), granted };
    assert_eq!(replica.sent_to(2), [answer(false)]);
    replica.receive_in(5, 3, request_vote(false));
    replica.persist_all();
    assert_eq!((replica.sent_to(3), replica.node.term()), (vec![], Term(3)));
    replica.tick(1);
    replica.receive(2, pre_vote);
    assert_eq!(replica.sent_to(2), [answer(false), answer(true)]);
    replica.receive_in(5, 3, request_vote(false));
    replica.persist_all();
    assert_eq!(replica.sent_to(3), [GRANTED]);
}

#[test]
fn a_node_that_starts_does_not_campaign_for_one_longest_lease() {
    for seed in 0..200 {
        for pre_vote in [false, true] {
            let options = Options { seed, pre_vote, ..with_lease(1, EXACT) };
            let mut replica = Replica::start(options, Disk::with_log(voters(3), &[1], 3, 1));
            replica.tick(499);
            assert_eq!((replica.node.role(), replica.sent.len()), (Role::Follower, 0), "{seed}");
        }
    }
}

/// Who promised nothing need not wait; nor need the only voter, whose promise was to itself.
#[test]
fn a_node_that_never_ran_and_the_only_voter_wait_for_no_lease() {
    let mut first = Replica::start(with_lease(1, EXACT), Disk::empty(voters(3)));
    first.receive_in(1, 2, request_vote(false));
    first.persist_all();
    assert_eq!(first.sent_to(2), [GRANTED]);
    let mut alone = Replica::start(with_lease(1, EXACT), Disk::with_log(voters(1), &[1], 3, 1));
    alone.persist_all();
    assert_eq!(alone.node.role(), Role::Leader);
    // Without leases nobody promises anything.
    let mut other = Replica::with_log(&[1], 3, 1);
    other.receive_in(4, 2, request_vote(false));
    other.persist_all();
    assert_eq!(other.sent_to(2), [GRANTED]);
}

/// Whoever answers a round of heartbeats has made a promise, and after a crash must know that it may have made one.
#[test]
fn a_node_answers_no_round_before_its_disk_shows_that_it_ever_ran() {
    let mut replica = Replica::start(with_lease(1, EXACT), Disk::empty(voters(3)));
    replica.receive_in(1, 2, heartbeat(0, 1));
    assert_eq!(replica.sent, [], "a crash now would make it a node that never ran");
    let mut crashed = Replica::start(with_lease(1, EXACT), replica.disk.clone());
    crashed.receive_in(2, 3, request_vote(false));
    crashed.persist_all();
    assert_eq!(crashed.sent_to(3), [GRANTED]);
    replica.persist();
    replica.receive_in(1, 2, heartbeat(0, 2));
    let (round, received) = (2, LogIndex(0));
    assert_eq!(replica.sent_to(2), [Message::HeartbeatResponse { round, received }]);
    replica.crash();
    replica.receive_in(2, 3, request_vote(false));
    replica.persist_all();
    assert_eq!(replica.sent_to(3), []);
    // A later term need not be durable for it; and without leases nothing is promised.
    replica.receive_in(8, 2, heartbeat(0, 3));
    assert_eq!(replica.sent_to(2).len(), 1);
    let mut replica = Replica::first_of(3);
    replica.receive_in(1, 2, heartbeat(0, 1));
    assert_eq!(replica.sent_to(2).len(), 1);
}

/// A term that it entered by another way does not free it from what it promised to the leader of the one before.
#[test]
fn a_node_that_has_entered_a_new_term_still_refuses_votes_while_the_lease_may_run() {
    let later: [fn(&mut Replica); 3] = [
        |replica| replica.receive_in(5, 3, DENIED),
        |replica| {
            replica.receive_in(5, 3, Message::PreVoteResponse { campaign: Term(6), granted: false })
        },
        |replica| replica.receive_in(5, 3, request_vote(true)),
    ];
    for enter in later {
        let mut replica = Replica::start(with_lease(1, EXACT), Disk::empty(voters(5)));
        replica.receive_in(1, 2, heartbeat(0, 1));
        replica.persist_all();
        replica.tick(100);
        enter(&mut replica);
        replica.persist_all();
        assert_eq!(replica.node.term(), Term(5));
        replica.sent.clear();
        replica.tick(399);
        for term in [5, 6] {
            replica.receive_in(term, 4, request_vote(false));
            replica.persist_all();
        }
        assert_eq!((replica.sent_to(4), replica.node.term()), (vec![], Term(5)));
        replica.receive(4, Message::PreVote { campaign: Term(6), last: id(9, 9) });
        let answer = |granted| Message::PreVoteResponse { campaign: Term(6), granted };
        assert_eq!(replica.sent_to(4), [answer(false)]);
        replica.tick(1);
        replica.receive_in(6, 4, request_vote(false));
        replica.persist_all();
        assert_eq!(replica.sent_to(4).last(), Some(&GRANTED));
    }
}

/// The leader itself has ended its lease (diss. §3.10, §4.2.3).
#[test]
fn a_request_for_a_vote_that_the_leader_has_asked_for_is_granted_though_a_lease_may_run() {
    let mut follower = Replica::start(with_lease(1, EXACT), Disk::empty(voters(3)));
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    follower.receive_in(2, 3, request_vote(true));
    follower.persist_all();
    assert_eq!(follower.sent_to(3), [GRANTED]);
    let mut replica = restarted();
    replica.receive_in(4, 3, request_vote(true));
    replica.persist_all();
    assert_eq!(replica.sent_to(3), [GRANTED]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |options: Options| {
        let error = Node::new(options, Disk::empty(voters(3)).restored()).unwrap_err();
        let RestoreError::Options(problem) = error else { panic!("{error}") };
        problem
    };
    let no_check_quorum = Options { check_quorum: false, ..with_lease(1, EXACT) };
    assert!(refused(no_check_quorum).contains("check_quorum"));
    for clock_drift_ppm in [500_000, u32::MAX] {
        let options = with_lease(1, Lease { clock_drift_ppm });
        assert!(refused(options).contains("clock_drift_ppm"));
    }
    let write_stall_max = ms(499);
    assert!(
        refused(Options { write_stall_max, ..with_lease(1, EXACT) }).contains("write_stall_max")
    );
    let longest = with_lease(1, Lease { clock_drift_ppm: 499_999 });
    assert!(Node::new(longest, Disk::empty(voters(3)).restored()).is_ok());
}

/// Without a lease that ends, a cut-off leader would answer what others have overwritten. Whoever is elected after a
/// crash of all voters, or once they do not hear the leader any more, is elected after its lease.
#[test]
fn no_lease_is_held_by_one_leader_while_another_leads() {
    for restarts in [false, true] {
        let start = |id| Replica::start(with_lease(id, EXACT), Disk::empty(voters(3)));
        let mut cluster = Cluster::new((1..=3).map(start));
        cluster.elect(1);
        cluster.run(300);
        assert!(cluster.at(1).node.read_by_lease().is_some());
        cluster.partition(&[1]);
        if restarts {
            cluster.restart(2);
            cluster.restart(3);
        }
        let mut holds = Vec::new();
        while cluster.leaders().iter().all(|leader| *leader == 1) {
            holds.push(cluster.at(1).node.read_by_lease().is_some());
            cluster.run(50);
        }
        assert!(cluster.at(1).node.read_by_lease().is_none(), "{:?} lead", cluster.leaders());
        assert!(holds[0] && holds.len() >= 10, "it was elected after {} ms", 50 * holds.len());
    }
}

/// A read that the lease does not cover any more goes another way.
#[test]
fn a_leader_without_a_quorum_steps_down_after_its_lease_and_its_reads_are_refused() {
    let mut leader = leader_of(3, EXACT);
    let round = start_round(&mut leader);
    answer(&mut leader, 2, round);
    let asked = leader.node.read_index().unwrap();
    leader.drain();
    leader.tick(500);
    leader.tick(100);
    assert_eq!((leader.node.role(), leader.node.read_by_lease()), (Role::Follower, None));
    assert_eq!(leader.reads.len(), 1);
    assert_eq!((leader.reads[0].id, leader.reads[0].index), (asked, Err(ReadRefused::LostLeader)));
}
