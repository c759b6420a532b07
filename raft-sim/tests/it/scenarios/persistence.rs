//! What survives crashes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use raft_rsm::raft_core::NodeId;

use super::ledger::{Ledger, raft, reliable, unreliable};
use super::stand::{MS, SECOND, Stand};

fn start_all(stand: &Stand<Ledger>, ids: &[NodeId]) {
    ids.iter().for_each(|id| stand.start(*id));
}

/// Waits until all nodes have applied so many commands.
async fn applied(stand: &Stand<Ledger>, commands: usize) {
    let until = stand.now() + 10 * SECOND;
    while stand.ids().into_iter().any(|id| stand.numbers(id).len() < commands) {
        assert!(stand.now() < until, "not all nodes apply {commands} commands");
        stand.sleep(MS * 10).await;
    }
}

#[test]
fn persist1_keeps_what_was_committed_whoever_crashes() {
    raft(3, 0..20, |stand| async move {
        stand.commit(3).await;
        stand.crash_all(&stand.ids());
        start_all(&stand, &stand.ids());
        stand.commit(3).await;

        let leader = stand.one_leader().await;
        stand.crash(leader);
        stand.start(leader);
        stand.commit(3).await;

        let leader = stand.one_leader().await;
        stand.crash(leader);
        let place = stand.commit(2).await;
        stand.start(leader);
        applied(&stand, place).await;

        let follower = stand.after(stand.one_leader().await, 1);
        stand.crash(follower);
        stand.commit(2).await;
        stand.start(follower);
        assert_eq!(stand.commit(3).await, 6);
    });
}

#[test]
fn persist2_keeps_what_a_majority_had_whoever_comes_back_first() {
    raft(5, 0..20, |stand| async move {
        for _ in 0..5 {
            stand.commit(5).await;
            let leader = stand.one_leader().await;
            let [one, two, three, four] = [1, 2, 3, 4].map(|steps| stand.after(leader, steps));
            stand.crash_all(&[one, two]);
            stand.commit(3).await;
            stand.crash_all(&[leader, three, four]);

            start_all(&stand, &[one, two]);
            stand.sleep(SECOND).await;
            stand.assert_no_leader();
            stand.start(three);
            stand.commit(3).await;
            start_all(&stand, &[four, leader]);
        }
        // Twice five and three, and this one.
        assert_eq!(stand.commit(5).await, 16);
    });
}

#[test]
fn persist3_brings_back_who_was_cut_off_with_one_who_was_not() {
    raft(3, 0..20, |stand| async move {
        stand.commit(3).await;
        let leader = stand.one_leader().await;
        let [one, two] = [1, 2].map(|steps| stand.after(leader, steps));
        stand.cut(two);
        stand.commit(2).await;
        stand.crash_all(&[leader, one]);
        stand.connect(two);
        stand.start(leader);
        stand.commit(2).await;
        stand.start(one);
        assert_eq!(stand.commit(3).await, 4);
    });
}

#[test]
fn unreliable_agree_commits_five_at_once_49_times() {
    raft(5, 0..5, |stand| async move {
        stand.set_conditions(unreliable());
        for _ in 0..49 {
            let five = (0..5).map(|_| stand.commit(1));
            futures::future::join_all(five).await;
        }
        stand.set_conditions(reliable());
        stand.commit(5).await;
    });
}

#[test]
fn churn_keeps_what_was_seen_committed_on_a_reliable_network() {
    raft(5, 0..5, |stand| async move { churn(stand).await });
}

#[test]
fn churn_keeps_what_was_seen_committed_on_an_unreliable_network() {
    raft(5, 0..5, |stand| async move {
        stand.set_conditions(unreliable());
        churn(stand).await;
    });
}

/// Three clients propose anywhere while nodes are cut off, crashed and brought back.
async fn churn(stand: Stand<Ledger>) {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..3 {
        let (stand, is_over, seen) = (stand.clone(), Arc::clone(&is_over), Arc::clone(&seen));
        stand.clone().spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(number) = propose_anywhere(&stand).await {
                    seen.lock().unwrap().push(number);
                }
                stand.sleep(MS * (79 + 17 * number)).await;
            }
        });
    }
    for _ in 0..20 {
        if stand.draw(|random| random.chance(0.2)) {
            stand.cut(stand.draw_node());
        }
        if stand.draw(|random| random.chance(0.5)) {
            let id = stand.draw_node();
            stand.start(id);
            stand.connect(id);
        }
        if stand.draw(|random| random.chance(0.2)) {
            stand.crash(stand.draw_node());
        }
        stand.sleep(MS * 700).await;
    }
    stand.set_conditions(reliable());
    start_all(&stand, &stand.ids());
    stand.connect_all();
    stand.sleep(SECOND).await;
    is_over.store(true, Ordering::Relaxed);
    stand.sleep(SECOND).await;
    stand.commit(5).await;
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() >= 20, "only {} commands in 14 s", seen.len());
    for id in stand.ids() {
        let numbers = stand.numbers(id);
        for number in &seen {
            assert!(numbers.contains(number), "node {id} lacks {number}");
        }
    }
}

/// Proposes a new command at all nodes, and returns it if it is seen committed soon.
async fn propose_anywhere(stand: &Stand<Ledger>) -> Option<u64> {
    let number = stand.fresh();
    let mut taken = Vec::new();
    for id in stand.ids() {
        taken.extend(stand.accepted(id, (number, Vec::new())).await);
    }
    if taken.is_empty() {
        return None;
    }
    for pause in [10, 20, 50, 100, 200] {
        if taken.iter().any(|proposal| proposal.is_done()) || stand.copies(number) > 0 {
            return Some(number);
        }
        stand.sleep(MS * pause).await;
    }
    None
}
