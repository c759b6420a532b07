//! §5.4.1 Election restriction.

use raft_core::{EntryId, Message, Role};

use crate::harness::*;

/// Whether a node with a log of these terms votes for a candidate whose last entry is `last`.
fn votes(log: &[u64], last: EntryId) -> bool {
    let mut voter = Replica::with_log(log, 9, 0);
    voter.receive_in(10, 2, Message::RequestVote { last, transfer: false });
    voter.persist_all();
    voter.sent_to(2) == [GRANTED]
}

/// "The voter denies its vote if its own log is more up-to-date than that of the candidate."
#[test]
fn the_voter_denies_its_vote_if_its_own_log_is_more_up_to_date_than_that_of_the_candidate() {
    assert!(!votes(&[1, 1], id(1, 1)));
    assert!(!votes(&[1], EntryId::ZERO));
    assert!(votes(&[], EntryId::ZERO));
}

/// "If the logs have last entries with different terms, then the log with the later term is more up-to-date."
#[test]
fn if_the_logs_have_last_entries_with_different_terms_the_log_with_the_later_term_wins() {
    assert!(votes(&[1, 1, 1, 1], id(2, 1)));
    assert!(!votes(&[2], id(1, 100)));
    assert!(!votes(&[1, 1, 3], id(2, 3)));
}

/// "If the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn if_the_logs_end_with_the_same_term_then_whichever_log_is_longer_is_more_up_to_date() {
    assert!(!votes(&[1, 2, 2], id(2, 2)));
    assert!(votes(&[1, 2, 2], id(2, 3)));
    assert!(votes(&[1, 2, 2], id(2, 4)));
}

/// A vote that is denied raises the term all the same (§5.1), and leaves the voter free for another (§5.2).
#[test]
fn a_voter_that_denies_its_vote_is_free_for_a_better_candidate_of_the_term() {
    let mut voter = Replica::with_log(&[1, 1], 1, 0);
    voter.receive_in(5, 2, Message::RequestVote { last: id(1, 1), transfer: false });
    assert_eq!((voter.sent_to(2), voter.node.term().0), (vec![DENIED], 5));
    voter.receive_in(5, 3, Message::RequestVote { last: id(1, 2), transfer: false });
    voter.persist_all();
    assert_eq!(voter.sent_to(3), [GRANTED]);
}

/// "Raft [...] guarantees that all the committed entries from previous terms are present on each new leader from the
/// moment of its election."
#[test]
fn all_the_committed_entries_from_previous_terms_are_present_on_each_new_leader() {
    // Entries 1 to 3 are on a majority: 1, 2 and 3.
    let logs: [&[u64]; 5] = [&[1, 1, 2], &[1, 1, 2], &[1, 1, 2], &[1, 1, 1, 1], &[1]];
    for first in [4, 5] {
        let mut cluster = Cluster::with_logs(&logs, 2, 0);
        for _ in 0..5 {
            cluster.at(first).time_out();
            cluster.settle();
            assert_ne!(cluster.at(first).node.role(), Role::Leader);
        }
        cluster.run(10_000);
        let leader = cluster.leaders()[0];
        assert!([1, 2, 3].contains(&leader), "{leader}");
        for node in 1..=5 {
            assert_eq!(cluster.terms(node)[..3], [1, 1, 2]);
        }
    }
}
