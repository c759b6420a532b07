//! A replicated machine as its callers see it.

use std::time::Duration;

use raft_rsm::raft_core::NodeId;
use raft_sim::disk::Speed;

use super::counter::Command::{Dec, Inc, Null};
use super::counter::{Counter, Submitted, rsm, rsm_with};
use super::stand::{MS, SECOND, Stand};

/// Every caller has an answer after this, whatever happens.
const ANSWER_WITHIN: Duration = Duration::from_secs(11);

const NOTHING: [u64; 0] = [];

#[test]
fn rsm_basic_counts_up_to_ten_everywhere() {
    rsm(0..20, |stand| async move {
        for count in 1..=10 {
            assert_eq!(stand.submit(Inc).await, count);
            stand.check_counters(count, 3).await;
        }
        assert_eq!(stand.submit(Null).await, 10);
    });
}

#[test]
fn rsm_concurrent_carries_out_each_of_fifty_once() {
    rsm(0..20, |stand| async move {
        let leader = stand.one_leader().await;
        let submitted = stand.submit_many(leader, Inc, 50);
        stand.check_counters(50, 3).await;
        stand.sleep(MS).await;
        assert_eq!(submitted.counts(), (1..=50).collect::<Vec<u64>>());
    });
}

#[test]
fn rsm_leader_failure_moves_to_another_and_all_agree_in_the_end() {
    rsm(0..20, |stand| async move {
        let count = stand.submit(Inc).await;
        stand.check_counters(count, 3).await;
        let leader = stand.one_leader().await;
        stand.cut(leader);
        let count = stand.submit(Inc).await;
        assert_eq!(count, 2);
        stand.check_counters(count, 2).await;
        stand.connect(leader);
        stand.check_counters(count, 3).await;
    });
}

#[test]
fn rsm_leader_partition_never_carries_out_what_the_minority_was_told() {
    rsm(0..20, |stand| async move {
        let count = stand.submit(Inc).await;
        stand.check_counters(count, 3).await;
        let leader = stand.one_leader().await;
        stand.cut(leader);
        let submitted = stand.submit_many(leader, Dec, 100);
        stand.sleep(MS * 10).await;

        let count = stand.submit(Inc).await;
        stand.check_counters(count, 2).await;
        stand.sleep(SECOND).await;
        assert!(submitted.answered() < 100, "the minority decided alone");
        assert_eq!(submitted.counts(), NOTHING);

        stand.connect(leader);
        stand.sleep(SECOND).await;
        assert_eq!(submitted.answered(), 100);
        assert_eq!(submitted.counts(), NOTHING);
        assert_eq!(submitted.maybes(), 0, "each of them was replaced");
        assert_eq!(stand.submit(Inc).await, count + 1);
        stand.check_counters(count + 1, 3).await;
    });
}

/// Ends all nodes: as an operator does, or by a crash.
async fn stop_all(stand: &Stand<Counter>) {
    if stand.draw(|random| random.chance(0.5)) {
        stand.crash_all(&stand.ids());
        return;
    }
    futures::future::join_all(stand.ids().into_iter().map(|id| stand.cluster.stop(id))).await;
    stand.sleep(MS).await;
    assert_eq!(stand.cluster.running(), []);
}

async fn stop_and_start_all(stand: &Stand<Counter>) {
    stop_all(stand).await;
    stand.sleep(SECOND).await;
    stand.cluster.start_all();
}

/// Submits a hundred times at the leader, on disks that are slow enough that some are not decided by then, stops all nodes 20 ms later, and waits for the answers.
async fn submit_and_stop(stand: &Stand<Counter>) -> Submitted {
    let leader: NodeId = stand.one_leader().await;
    let slow = Speed { latency: MS * 5..MS * 25, factor: 1 };
    stand.ids().into_iter().for_each(|id| stand.cluster.disk(id).set_speed(slow.clone()));
    let mut submitted = Submitted(Vec::new());
    for _ in 0..10 {
        submitted.0.extend(stand.submit_many(leader, Inc, 10).0);
        stand.sleep(MS * 2).await;
    }
    stop_all(stand).await;
    stand.ids().into_iter().for_each(|id| stand.cluster.disk(id).set_speed(Speed::default()));
    let until = stand.now() + ANSWER_WITHIN;
    while submitted.answered() < 100 {
        assert!(stand.now() < until, "only {} of 100 are answered", submitted.answered());
        stand.sleep(MS * 10).await;
    }
    submitted
}

/// Starts all nodes again: whatever was acknowledged is there, and nothing that was refused.
async fn check_count_after(stand: &Stand<Counter>, before: u64, submitted: &Submitted) {
    let (done, maybes) = (submitted.counts().len() as u64, submitted.maybes() as u64);
    assert!(done < 100, "all were decided before the end");
    stand.cluster.start_all();
    let count = stand.submit(Inc).await;
    let before = before + done + 1;
    assert!((before..=before + maybes).contains(&count), "{count} after {done} and {maybes}");
    stand.check_counters(count, 3).await;
}

#[test]
fn rsm_restart_replay_goes_on_where_it_was() {
    rsm(0..10, |stand| async move {
        stand.count_up(100).await;
        stop_and_start_all(&stand).await;
        assert_eq!(stand.submit(Inc).await, 101);
        stand.check_counters(101, 3).await;
    });
}

#[test]
fn rsm_shutdown_answers_every_caller() {
    rsm(0..20, |stand| async move {
        check_count_after(&stand, 0, &submit_and_stop(&stand).await).await;
    });
}

#[test]
fn rsm_restart_submit_answers_every_caller_after_a_restart() {
    rsm(0..10, |stand| async move {
        stand.count_up(100).await;
        stop_and_start_all(&stand).await;
        assert_eq!(stand.submit(Inc).await, 101);
        stand.check_counters(101, 3).await;
        check_count_after(&stand, 101, &submit_and_stop(&stand).await).await;
    });
}

#[test]
fn rsm_snapshot_keeps_the_log_short_and_a_restart_begins_with_it() {
    let reports = rsm_with(
        0..10,
        |_, setup| {
            setup.options.snapshot_log_bytes = 1000;
            setup.options.core.limits.kept_bytes_max = 0;
            setup.segment_bytes = 512;
        },
        |stand| async move {
            for _ in 0..100 {
                stand.submit(Inc).await;
                for id in stand.ids() {
                    let bytes = stand.cluster.status(id).unwrap().log_bytes;
                    assert!(bytes <= 2000, "the log of node {id} has {bytes} bytes");
                }
            }
            stand.check_counters(100, 3).await;
            stop_and_start_all(&stand).await;
            assert_eq!(stand.submit(Inc).await, 101);
            stand.check_counters(101, 3).await;
        },
    );
    for report in reports {
        assert!(report.counts.snapshots_stored >= 3, "no snapshots were taken");
        assert!(report.counts.restores >= 3, "no snapshot was read");
    }
}
