//! Elections.

use raft_rsm::raft_core::Term;

use super::ledger::raft;
use super::stand::{MS, SECOND};

#[test]
fn initial_election_makes_one_leader_who_stays() {
    raft(3, 0..20, |stand| async move {
        let leader = stand.one_leader().await;
        stand.sleep(MS * 50).await;
        let term = stand.one_term();
        assert!(term >= Term(1));
        stand.sleep(2 * SECOND).await;
        assert_eq!(stand.one_term(), term, "the term changes although nothing fails");
        assert_eq!(stand.one_leader().await, leader);
    });
}

#[test]
fn re_election_needs_a_majority_and_survives_the_return_of_old_leaders() {
    raft(3, 0..20, |stand| async move {
        let first = stand.one_leader().await;
        stand.cut(first);
        let second = stand.one_leader().await;
        stand.connect(first);
        assert_eq!(stand.one_leader().await, second, "whoever comes back disturbs nobody");

        let another = stand.after(second, 1);
        stand.cut_all(&[second, another]);
        stand.sleep(2 * SECOND).await;
        stand.assert_no_leader();
        stand.connect(another);
        stand.one_leader().await;
        stand.connect(second);
        stand.one_leader().await;
    });
}

#[test]
fn many_elections_with_three_of_seven_cut_off() {
    raft(7, 0..10, |stand| async move {
        stand.one_leader().await;
        for _ in 0..9 {
            let mut ids = stand.ids();
            stand.draw(|random| random.shuffle(&mut ids));
            stand.cut_all(&ids[..3]);
            stand.one_leader().await;
            stand.connect_all();
        }
        stand.one_leader().await;
    });
}
