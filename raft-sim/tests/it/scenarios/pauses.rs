//! Leaders that stand still and wake with old ideas about the time, on clocks that do not agree.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_rsm::raft_core::NodeId;
use raft_sim::NodeSetup;
use raft_sim::runtime::Clock;

use super::ledger::{Ledger, raft_with};
use super::stand::{MS, SECOND, Stand};

/// The clocks differ by up to a tenth, and show different times.
fn set_up(seed: u64, setup: &mut NodeSetup) {
    let drifts_ppm = [0, 50_000, -50_000, 500, -500];
    let id = setup.options.core.id.0;
    let drift_ppm = drifts_ppm[usize::try_from((seed + id) % 5).unwrap()];
    setup.clock = Clock { origin: SECOND * u32::try_from(id * 1000).unwrap(), drift_ppm };
}

/// What was answered, and by whom.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<u64>,
    queries_answered: usize,
}

#[test]
fn a_paused_leader_wakes_and_nothing_acknowledged_is_lost_nor_read_from_before() {
    let reports = raft_with(3, 0..20, set_up, |stand| async move {
        let seen = Arc::new(Mutex::new(Seen::default()));
        stand.commit(3).await;
        for _ in 0..20 {
            let leader = stand.one_leader().await;
            propose(&stand, &seen, leader, 5);
            stand.sleep(stand.draw(|random| random.duration(&(Duration::ZERO..MS * 5)))).await;
            stand.cluster.pause(leader);
            // These reach it while it stands still, and so it may think that it still leads when it takes them up.
            propose(&stand, &seen, leader, 5);
            let long = stand.draw(|random| random.duration(&(MS * 100..MS * 3000)));
            stand.sleep(long).await;
            for id in stand.others(&[leader]) {
                propose(&stand, &seen, id, 3);
            }
            stand.sleep(MS * 50).await;
            stand.ids().into_iter().for_each(|id| query(&stand, &seen, id));
            stand.cluster.resume(leader);
            stand.sleep(stand.draw(|random| random.duration(&(Duration::ZERO..MS * 300)))).await;
            stand.ids().into_iter().for_each(|id| query(&stand, &seen, id));
        }
        let last = stand.commit(3).await;
        // Each of them is in the ledger of each node, once; nothing else was waited for longer than allowed.
        stand.sleep(11 * SECOND).await;
        let seen = seen.lock().unwrap();
        for id in stand.ids() {
            let numbers = stand.numbers(id);
            assert!(numbers.len() >= last);
            for number in &seen.acknowledged {
                let times = numbers.iter().filter(|other| *other == number).count();
                assert_eq!(times, 1, "node {id} has {number} {times} times");
            }
        }
        assert!(seen.acknowledged.len() >= 100, "only {}", seen.acknowledged.len());
        assert!(seen.queries_answered >= 15, "only {} reads", seen.queries_answered);
    });
    let elections: u64 = reports.iter().map(|report| report.counts.elections_won).sum();
    assert!(elections > 2 * reports.len() as u64, "no leader was replaced while it stood still");
}

fn propose(stand: &Stand<Ledger>, seen: &Arc<Mutex<Seen>>, id: NodeId, many: usize) {
    for _ in 0..many {
        let number = stand.fresh();
        let (proposed, seen) = (stand.cluster.propose(id, (number, Vec::new())), Arc::clone(seen));
        stand.spawn(async move {
            if proposed.await.is_ok() {
                seen.lock().unwrap().acknowledged.push(number);
            }
        });
    }
}

/// Reads at a node; the answer must contain all that was acknowledged before.
fn query(stand: &Stand<Ledger>, seen: &Arc<Mutex<Seen>>, id: NodeId) {
    let replica = stand.cluster.replica(id).unwrap();
    let seen = Arc::clone(seen);
    let least = seen.lock().unwrap().acknowledged.len() as u64;
    stand.spawn(async move {
        if let Ok(count) = replica.query(()).await {
            assert!(count >= least, "a stale read: {count} of {least} commands");
            seen.lock().unwrap().queries_answered += 1;
        }
    });
}

/// Nodes whose clocks run at the two ends of what is allowed still agree on leaders.
#[test]
fn clocks_that_drift_apart_cost_no_election() {
    raft_with(3, 0..10, set_up, |stand| async move {
        let leader = stand.one_leader().await;
        let term = stand.one_term();
        stand.sleep(Duration::from_secs(60)).await;
        stand.commit_at_once(3).await;
        assert_eq!((stand.one_leader().await, stand.one_term()), (leader, term));
    });
}
