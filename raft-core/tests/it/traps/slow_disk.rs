//! Elections on a disk that is slower than the clock.

use raft_core::{Message, NodeId, Options, Role, Term};

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
    assert_eq!(replica.sent_to(2), [Message::RequestVote { last: id(0, 0) }]);
    replica.receive(2, GRANTED);
    assert_eq!(replica.node.role(), Role::Leader);
}
