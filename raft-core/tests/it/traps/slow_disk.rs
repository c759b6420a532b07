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

/// Time passes for all three, and messages arrive. The disk of `stalled` takes nothing in.
fn run_with_a_stalled_disk(cluster: &mut Cluster, milliseconds: u64, stalled: u64) {
    for _ in 0..milliseconds / 50 {
        for node in 1..=3 {
            cluster.at(node).tick(50);
        }
        for _ in 0..4 {
            cluster.deliver();
            for node in (1..=3).filter(|node| *node != stalled) {
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
    run_with_a_stalled_disk(&mut cluster, 4500, 1);
    assert_eq!(cluster.leaders(), [1], "a disk may be slow");
    assert_eq!(text(&cluster.at(1).applied), "-", "but what it does not hold, it does not apply");
    run_with_a_stalled_disk(&mut cluster, 4000, 1);
    let leaders = cluster.leaders();
    assert!(leaders.len() == 1 && leaders != [1], "{leaders:?} lead");
    let id = cluster.at(leaders[0]).propose("b");
    run_with_a_stalled_disk(&mut cluster, 500, 1);
    assert!(cluster.at(leaders[0]).node.commit() >= id.index);
    assert_eq!(cluster.at(1).node.leader(), Some(NodeId(leaders[0])), "it follows meanwhile");
    // The disk goes on where it was.
    cluster.run(1000);
    assert_eq!(cluster.leaders(), leaders);
    for node in 1..=3 {
        assert_eq!(text(&cluster.at(node).applied), "- a - b", "at {node}");
    }
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
