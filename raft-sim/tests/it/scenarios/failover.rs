//! How long nobody leads, on default settings: an election timeout of 500 ms, heartbeats each 100 ms.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_rsm::raft_core::{NodeId, Role};
use raft_sim::registers::{Registers, Write};

use super::stand::{MS, SECOND, Stand, run};

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);

/// Two packets and a write that is synced, each for the pre-vote, the vote and the first entry.
const ROUND_TRIPS: Duration = Duration::from_millis(15);

fn write(number: u64) -> Write {
    Write { register: 0, version: number, value: Vec::new() }
}

/// How long it takes from now on until one of `ids` carries a command out.
async fn outage(stand: &Stand<Registers>, ids: &[NodeId]) -> Duration {
    let began = stand.now();
    loop {
        for id in ids {
            let leads = stand.cluster.status(*id).is_some_and(|s| s.role == Role::Leader);
            if leads && stand.cluster.propose(*id, write(0)).await.is_ok() {
                return stand.now() - began;
            }
        }
        stand.sleep(MS).await;
    }
}

/// The connections of a machine that stands still stay open and are silent: nothing but time tells. Of two followers the
/// first to lose patience is elected: its timeout, from once to twice the election timeout, runs since the last heartbeat.
#[test]
fn a_leader_that_stands_still_is_followed_within_what_the_timeouts_allow() {
    let outages = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&outages);
    run(
        3,
        0..40,
        Registers::default,
        |_, _| {},
        move |stand: Stand<Registers>| {
            let all = Arc::clone(&all);
            async move {
                let leader = stand.one_leader().await;
                let after = stand.draw(|random| random.duration(&(Duration::ZERO..SECOND)));
                stand.sleep(SECOND + after).await;
                stand.cluster.pause(leader);
                let outage = outage(&stand, &stand.others(&[leader])).await;
                all.lock().unwrap().push(outage);
                stand.cluster.resume(leader);
                stand.sleep(SECOND).await;
            }
        },
    );
    let mut outages = std::mem::take(&mut *outages.lock().unwrap());
    outages.sort_unstable();
    println!("outages: {outages:?}");
    let (shortest, longest) = (outages[0], outages[outages.len() - 1]);
    assert!(shortest >= (ELECTION_TIMEOUT - HEARTBEAT_INTERVAL) * 95 / 100, "{shortest:?}");
    assert!(longest <= (ELECTION_TIMEOUT * 2 + ROUND_TRIPS) * 105 / 100, "{longest:?}");
    // The lesser of two that are drawn evenly has its median at 1 - sqrt(1/2) of the way.
    let median = outages[outages.len() / 2];
    let expected = ELECTION_TIMEOUT.mul_f64(1.293);
    assert!(median >= (expected - HEARTBEAT_INTERVAL) * 95 / 100, "{median:?}");
    assert!(median <= (expected + ROUND_TRIPS) * 105 / 100, "{median:?}");
}

/// It holds the others back while it can answer nobody.
#[test]
fn a_leader_whose_disk_is_sick_is_followed_within_an_election_timeout_and_a_heartbeat() {
    let reports = run(
        3,
        0..40,
        Registers::default,
        |_, _| {},
        |stand: Stand<Registers>| async move {
            let leader = stand.one_leader().await;
            stand.sleep(SECOND).await;
            stand.cluster.disk(leader).set_stuck_until(Some(stand.now() + SECOND * 20));
            // The disk shows what it is only when it is asked for something.
            let _proposal = stand.propose(leader, write(0));
            let outage = outage(&stand, &stand.others(&[leader])).await;
            assert!(outage <= ELECTION_TIMEOUT + HEARTBEAT_INTERVAL + ROUND_TRIPS, "{outage:?}");
            stand.sleep(SECOND * 21).await;
        },
    );
    let begun: u64 = reports.iter().map(|report| report.counts.transfers.by_sick_disks).sum();
    assert_eq!(begun, 40);
}
