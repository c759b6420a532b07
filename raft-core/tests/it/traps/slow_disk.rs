//! Disks that are slower than the clock, or stall.

use raft_core::{LogIndex, Message, NodeId, Options, Role, Term};

use crate::harness::*;

fn no_pre_vote() -> Options {
    Options { pre_vote: false, ..Options::new(NodeId(1)) }
}

/// A cluster of one whose clock ticks faster than its disk syncs.
#[test]
fn the_only_voter_leads_however_slow_its_disk_is() {
    for options in [Options::new(NodeId(1)), no_pre_vote()] {
        let mut replica = Replica::start(options, Disk::empty(voters(1)));
        for _ in 0..100 {
            replica.tick(10);
        }
        assert_eq!(replica.node.term(), Term(1));
        assert!(replica.node.next_tick() > replica.now, "nothing is to be done at once");
        replica.persist_all();
        assert_eq!(replica.node.role(), Role::Leader);
    }
}

/// Terms that a disk cannot follow: no vote of any of them would ever count.
#[test]
fn a_candidate_whose_vote_is_still_being_written_raises_its_term_no_further() {
    let mut replica = Replica::start(no_pre_vote(), Disk::empty(voters(3)));
    replica.time_out();
    assert_eq!(replica.node.term(), Term(1));
    for _ in 0..10 {
        replica.time_out();
    }
    assert_eq!(replica.node.term(), Term(1));
    replica.persist();
    assert_eq!(replica.sent_to(2), [Message::RequestVote { last: id(0, 0), transfer: false }]);
    replica.receive(2, GRANTED);
    assert_eq!(replica.node.role(), Role::Leader);
}

/// Time passes for all three, and messages arrive. The disks of `stalled` take nothing in.
fn run_with_stalled_disks(cluster: &mut Cluster, milliseconds: u64, stalled: &[u64]) {
    for _ in 0..milliseconds / 50 {
        for node in 1..=3 {
            cluster.at(node).tick(50);
        }
        for _ in 0..4 {
            cluster.deliver();
            for node in (1..=3).filter(|node| !stalled.contains(node)) {
                cluster.at(node).persist_all();
            }
        }
    }
}

/// hashicorp/raft #503 and #666: a disk that stalls under a leader whose heartbeats go on. It answers nobody, and nobody
/// takes its place.
#[test]
fn a_leader_whose_disk_stalls_makes_room_for_another() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(500);
    cluster.at(1).propose("a");
    run_with_stalled_disks(&mut cluster, 450, &[1]);
    assert_eq!(cluster.leaders(), [1], "a disk may be slow");
    assert_eq!(text(&cluster.at(1).applied), "-", "but what it does not hold, it does not apply");
    // The others hold what it does not, so theirs do better: it hands over, long before it would have to step down.
    run_with_stalled_disks(&mut cluster, 250, &[1]);
    let leaders = cluster.leaders();
    assert!(leaders.len() == 1 && leaders != [1], "{leaders:?} lead");
    assert_eq!(cluster.at(leaders[0]).node.term(), Term(2), "at the first attempt");
    let id = cluster.at(leaders[0]).propose("b");
    run_with_stalled_disks(&mut cluster, 500, &[1]);
    assert!(cluster.at(leaders[0]).node.commit() >= id.index);
    assert_eq!(cluster.at(1).node.leader(), Some(NodeId(leaders[0])), "it follows meanwhile");
    // The disk goes on where it was.
    cluster.run(1000);
    assert_eq!(cluster.leaders(), leaders);
    for node in 1..=3 {
        assert_eq!(text(&cluster.at(node).applied), "- a - b", "at {node}");
    }
}

/// The same where there is nobody to hand over to: all disks hang, perhaps on one and the same machine below.
#[test]
fn where_no_disk_does_better_a_leader_stays_until_write_stall_max_and_then_steps_down() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(500);
    cluster.at(1).propose("a");
    run_with_stalled_disks(&mut cluster, 4950, &[1, 2, 3]);
    assert_eq!((cluster.leaders(), cluster.at(1).node.transferring()), (vec![1], None));
    run_with_stalled_disks(&mut cluster, 200, &[1, 2, 3]);
    assert!(cluster.leaders().is_empty());
    run_with_stalled_disks(&mut cluster, 5000, &[1, 2, 3]);
    assert!(cluster.leaders().is_empty(), "no vote of anybody is durable");
    cluster.run(4000);
    assert_eq!(cluster.leaders().len(), 1);
    let leader = cluster.leaders()[0];
    cluster.at(leader).propose("b");
    cluster.run(300);
    for node in 1..=3 {
        let applied = text(&cluster.at(node).applied).replace(" -", "");
        assert_eq!(applied, "- a b", "at {node}");
    }
}

/// What it says may be lost, and whom it tells may be unable to win.
#[test]
fn a_leader_whose_disk_stalls_hands_over_again_and_again_and_steps_down_at_last() {
    let mut leader = Replica::leader_of(3);
    leader.propose("a");
    let mut told_ms = Vec::new();
    for passed in (100..=5000).step_by(100) {
        leader.sent.clear();
        leader.tick(100);
        let round = leader.last_round(2).unwrap_or(0);
        let (matched, received) = if passed < 2000 { (1, 1) } else { (2, 2) };
        leader.receive(2, Message::HeartbeatResponse { round, received: LogIndex(received) });
        leader.receive(2, accepted(matched));
        if leader.sent_to(2).contains(&Message::TimeoutNow) {
            told_ms.push(passed);
        }
        assert_eq!(leader.node.role() == Role::Leader, passed < 5000, "after {passed} ms");
    }
    assert_eq!(told_ms.first(), Some(&2100), "once the peer's disk does better");
    assert!(told_ms.len() >= 4, "{told_ms:?}");
    assert!(told_ms.windows(2).all(|pair| pair[1] - pair[0] >= 500), "{told_ms:?}");
}

/// The same, the other way round: slow is not stalled.
#[test]
fn a_leader_whose_disk_is_slow_stays_and_so_does_the_only_voter_whatever_its_disk_does() {
    let mut leader = Replica::leader_of(3);
    for second in 0..60 {
        leader.propose("a");
        for _ in 0..10 {
            leader.sent.clear();
            leader.tick(100);
            let (round, received) = (leader.last_round(2).unwrap(), LogIndex(1));
            leader.receive(2, Message::HeartbeatResponse { round, received });
        }
        if second % 4 == 3 {
            leader.persist();
        }
    }
    assert_eq!(leader.node.role(), Role::Leader, "each write took four seconds");
    let mut alone = Replica::leader_of(1);
    alone.propose("a");
    alone.tick(600_000);
    assert_eq!(alone.node.role(), Role::Leader);
}
