//! What a cluster costs that nobody asks for anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use raft_sim::Simulation;
use raft_sim::registers::Registers;

use super::stand::SECOND;

/// By then there is a leader, and it has told everybody so.
const SETTLED_AFTER: f64 = 5.0;

const IDLE_SECONDS: u32 = 1000;

/// Counts what happens when all is settled: packets by their kind, and everything else by what it is.
fn count(line: &str, counts: &mut BTreeMap<String, u64>) {
    let Some((at, what)) = line.trim_start().split_once(' ') else { return };
    if at.parse::<f64>().is_ok_and(|at| at < SETTLED_AFTER) {
        return;
    }
    let kind = match what.split_once(": ") {
        Some((_, what)) => what.split(' ').next().unwrap_or(""),
        None if what.contains(" <- #") => "delivered",
        None => what,
    };
    *counts.entry(kind.to_owned()).or_default() += 1;
}

#[test]
fn a_thousand_idle_seconds_cost_heartbeats_and_no_write() {
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let all = Arc::clone(&counts);
    let trace = Arc::new(move |line: &str| count(line, &mut all.lock().unwrap()));
    let simulation = Simulation::new(11).nodes(3).machine(Registers::default).trace(trace);
    let report = simulation.scenario(
        |_| {},
        |cluster| async move {
            let settled_after = std::time::Duration::from_secs_f64(SETTLED_AFTER);
            cluster.sleep(settled_after + SECOND * IDLE_SECONDS).await;
            assert!(cluster.leader().is_some());
        },
    );
    report.unwrap();
    let counts = std::mem::take(&mut *counts.lock().unwrap());
    // Ten a second to each of two followers.
    let expected = u64::from(IDLE_SECONDS) * 10 * 2;
    let near = |kind: &str, expected: u64| {
        let count = counts.get(kind).copied().unwrap_or(0);
        assert!(count.abs_diff(expected) <= expected / 100, "{kind}: {count} of {expected}");
    };
    near("Heartbeat", expected);
    near("HeartbeatResponse", expected);
    near("delivered", expected * 2);
    assert_eq!(counts.len(), 3, "{counts:?}");
}
