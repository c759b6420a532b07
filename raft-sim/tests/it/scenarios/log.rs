//! Replication and commit.

use std::time::Duration;

use raft_rsm::raft_core::NodeId;

use super::ledger::{Ledger, Retry, raft};
use super::stand::{MS, SECOND, Stand};

#[test]
fn basic_agree_has_three_commands_at_places_1_2_and_3_and_nothing_before_them() {
    raft(3, 0..20, |stand| async move {
        stand.one_leader().await;
        for place in 1..=3 {
            for id in stand.ids() {
                assert!(stand.numbers(id).len() < place, "applied before it was proposed");
            }
            assert_eq!(stand.commit_at_once(3).await, place);
        }
    });
}

#[test]
fn rpc_bytes_sends_each_command_to_each_node_once() {
    raft(3, 0..10, |stand| async move {
        stand.commit_at_once(3).await;
        let before = stand.cluster.network().totals();
        for _ in 0..10 {
            let command = (stand.fresh(), vec![7; 5000]);
            stand.commit_command(command, 3, Retry::No).await;
        }
        let bytes = stand.cluster.network().totals().bytes_out - before.bytes_out;
        assert!(bytes <= 3 * 50_000 + 50_000, "{bytes} bytes");
        // There are two followers, so this is the least.
        assert!(bytes >= 2 * 50_000, "{bytes} bytes: the commands did not cross the network");
    });
}

#[test]
fn follower_failure_leaves_two_who_commit_and_one_who_does_not() {
    raft(3, 0..10, |stand| async move {
        stand.commit_at_once(3).await;
        let leader = stand.one_leader().await;
        stand.cut(stand.after(leader, 1));
        stand.commit_at_once(2).await;
        stand.sleep(SECOND).await;
        stand.commit_at_once(2).await;

        let leader = stand.one_leader().await;
        stand.cut_all(&stand.others(&[leader]));
        let proposed = stand.propose_many(leader, 1).await;
        stand.assert_uncommitted(&proposed).await;
    });
}

#[test]
fn leader_failure_leaves_two_who_commit_and_one_who_does_not() {
    raft(3, 0..10, |stand| async move {
        stand.commit_at_once(3).await;
        stand.cut(stand.one_leader().await);
        stand.commit_at_once(2).await;
        stand.sleep(SECOND).await;
        stand.commit_at_once(2).await;

        stand.cut(stand.one_leader().await);
        let proposed: Vec<_> = stand.ids().into_iter().map(|id| stand.propose_new(id)).collect();
        stand.assert_uncommitted(&proposed).await;
    });
}

#[test]
fn fail_agree_goes_on_with_all_once_a_follower_is_back() {
    raft(3, 0..10, |stand| async move {
        stand.commit_at_once(3).await;
        let follower = stand.after(stand.one_leader().await, 1);
        stand.cut(follower);
        for pause in [Duration::ZERO, SECOND, Duration::ZERO, Duration::ZERO] {
            stand.commit_at_once(2).await;
            stand.sleep(pause).await;
        }
        stand.connect(follower);
        stand.commit(3).await;
        stand.sleep(SECOND).await;
        stand.commit(3).await;
    });
}

#[test]
fn fail_no_agree_commits_nothing_without_a_majority() {
    raft(5, 0..10, |stand| async move {
        let first = stand.commit_at_once(5).await;
        let leader = stand.one_leader().await;
        let cut: Vec<NodeId> = (1..=3).map(|steps| stand.after(leader, steps)).collect();
        stand.cut_all(&cut);
        let proposed = stand.propose_many(leader, 1).await;
        stand.assert_uncommitted(&proposed).await;

        stand.connect_all();
        stand.one_leader().await;
        // The proposal before it has the next place, or was replaced by a new leader's.
        let place = stand.commit(5).await;
        assert!((first + 1..=first + 2).contains(&place), "{place} after {first}");
        stand.commit(5).await;
    });
}

#[test]
fn concurrent_starts_all_commit() {
    raft(3, 0..20, |stand| async move {
        let leader = stand.one_leader().await;
        let term = stand.one_term();
        let proposed = stand.propose_many(leader, 5).await;
        stand.sleep(SECOND).await;
        assert_eq!(stand.one_term(), term);
        let mut places: Vec<_> = proposed
            .iter()
            .map(|(number, _)| stand.committed(*number, 3).expect("it is committed on all"))
            .collect();
        places.sort_unstable();
        assert_eq!(places, [1, 2, 3, 4, 5]);
        assert!(proposed.iter().all(|(_, proposal)| proposal.is_done()));
    });
}

#[test]
fn rejoin_of_an_old_leader_with_entries_that_nobody_else_has() {
    raft(3, 0..20, |stand| async move {
        stand.commit(3).await;
        let first = stand.one_leader().await;
        stand.cut(first);
        let lost = stand.propose_many(first, 3).await;
        stand.commit(2).await;

        let second = stand.one_leader().await;
        stand.cut(second);
        stand.connect(first);
        stand.commit(2).await;
        stand.connect(second);
        stand.commit(3).await;
        for (number, proposal) in lost {
            assert_eq!(stand.copies(number), 0, "{number} had no majority");
            assert!(!proposal.is_done());
        }
    });
}

#[test]
fn backup_over_fifty_entries_takes_a_few_messages() {
    raft(5, 0..10, |stand| async move {
        stand.commit(5).await;
        let first = stand.one_leader().await;
        let [follower, a, b, c] = [1, 2, 3, 4].map(|steps| stand.after(first, steps));
        stand.cut_all(&[a, b, c]);
        stand.propose_many(first, 50).await;
        stand.sleep(SECOND / 2).await;
        stand.cut_all(&[first, follower]);

        [a, b, c].into_iter().for_each(|id| stand.connect(id));
        for _ in 0..50 {
            stand.commit(3).await;
        }
        let second = stand.one_leader().await;
        let other = if second == a { b } else { a };
        stand.cut(other);
        stand.propose_many(second, 50).await;
        stand.sleep(SECOND / 2).await;

        stand.cut_all(&stand.ids());
        [first, follower, other].into_iter().for_each(|id| stand.connect(id));
        few_messages_bring_back(&stand, follower).await;
        for _ in 0..50 {
            stand.commit(3).await;
        }
        stand.connect_all();
        few_messages_bring_back(&stand, second).await;
        stand.commit(5).await;
    });
}

/// Counts the packets that a node gets from the moment at which there is a leader of a later term until its log ends
/// like the leader's.
async fn few_messages_bring_back(stand: &Stand<Ledger>, behind: NodeId) {
    const PACKETS_MAX: u64 = 8;
    let ended = || stand.cluster.status(behind).unwrap().last;
    let old = ended();
    let until = stand.now() + 5 * SECOND;
    let leader = loop {
        assert!(stand.now() < until, "no leader");
        match stand.leaders().first() {
            Some((term, leader)) if *term > old.term && *leader != behind => break *leader,
            _ => stand.sleep(MS / 20).await,
        }
    };
    let packets = || stand.cluster.network().counters(behind).packets_in;
    let before = packets();
    while ended() != stand.cluster.status(leader).unwrap().last {
        assert!(stand.now() < until, "node {behind} does not follow");
        stand.sleep(MS / 20).await;
    }
    let packets = packets() - before;
    assert!(packets <= PACKETS_MAX, "{packets} packets for 50 entries");
}

#[test]
fn count_of_messages_is_small() {
    raft(3, 0..20, |stand| async move {
        let packets = || stand.cluster.network().totals().packets_out;
        // Requests and answers, until all have heard of the leader.
        while stand.connected().iter().filter(|status| status.leader.is_some()).count() < 3 {
            stand.sleep(MS).await;
        }
        let elected = packets();
        let leader = stand.one_leader().await;
        assert!((1..=30).contains(&elected), "{elected} messages to elect");

        let before = packets();
        let mut proposed = stand.propose_many(leader, 1).await;
        proposed.extend(stand.propose_many(leader, 11).await);
        while !proposed.iter().all(|(number, _)| stand.copies(*number) == 3) {
            stand.sleep(MS).await;
        }
        let agreed = packets() - before;
        assert!(agreed <= (10 + 1 + 3) * 3, "{agreed} messages for 12 commands");

        let before = packets();
        stand.sleep(SECOND).await;
        let idle = packets() - before;
        assert!((1..=60).contains(&idle), "{idle} messages in a second without commands");
    });
}
