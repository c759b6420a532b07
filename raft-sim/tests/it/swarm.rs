//! Seeds of the default swarm: everything is drawn, everything goes wrong, and nothing is violated. What went wrong is
//! counted, so that nobody takes a swarm for one in which nothing happened.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use raft_sim::plan::Bounds;
use raft_sim::registers::{self, ReadsAndWrites};
use raft_sim::{Subject, cli};

/// The kinds of faults, as they are counted.
const KINDS: [&str; 20] = [
    "bad network",
    "bridge",
    "closed connection",
    "failing disk",
    "flapping link",
    "full disk",
    "isolated node",
    "kill",
    "kill of all",
    "membership change",
    "one-way link",
    "pause",
    "power loss",
    "power loss of all",
    "rolling restart",
    "slow disk",
    "split",
    "stuck disk",
    "transfer",
    "wiped disk",
];

pub(crate) fn subject() -> Subject<ReadsAndWrites> {
    Subject { machine: registers::factory(), workload: Arc::new(ReadsAndWrites::default) }
}

fn swarm(seeds: Range<u64>) {
    let count = seeds.end - seeds.start;
    let bounds = Bounds { duration: Duration::from_secs(15), ..Bounds::default() };
    let summary = subject().run_all(seeds, &bounds, 1, 3, &|_, _| ()).unwrap();
    for bad in &summary.violations {
        let replay = cli::replay("cargo run --release -p raft-sim --", bad.seed, &bounds);
        println!("{}: {}\nreplay: {replay} --trace", bad.violation.checker, bad.violation.problem);
    }
    assert!(summary.violations.is_empty());

    assert_eq!(summary.seeds, count);
    let sizes: Vec<usize> = summary.cluster_sizes.keys().copied().collect();
    assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7]);
    let counts = &summary.counts;
    for kind in KINDS {
        let happened = counts.faults.get(kind).copied().unwrap_or(0);
        assert!(happened >= 5, "{kind}: {happened}");
    }
    assert_eq!(counts.faults.len(), KINDS.len(), "{:?}", counts.faults);
    // Each of them happens often.
    for (name, happened) in [
        ("elections won", counts.elections_won),
        ("candidacies", counts.candidacies),
        ("starts", counts.starts),
        ("kills", counts.kills),
        ("power losses", counts.power_losses),
        ("pauses", counts.pauses),
        ("applied commands", counts.applied),
        ("snapshots stored", counts.snapshots_stored),
        ("restores", counts.restores),
        ("packets", counts.network.packets_in),
        ("lost packets", counts.network.lost),
        ("closed connections", counts.network.disconnects),
        ("operations", counts.operations),
        ("answers", counts.calls_answered),
        ("maybes", counts.calls_maybe),
        ("refusals", counts.calls_refused),
    ] {
        assert!(happened >= count / 4, "{name}: {happened}");
    }
    assert!(counts.membership.refused > 0, "{:?}", counts.membership);
    let reads = |kind: &str| counts.reads.get(kind).copied().unwrap_or(0);
    for kind in [
        "linearizable by a leader",
        "linearizable by another node",
        "lease by a leader",
        "stale by a leader",
        "stale by another node",
    ] {
        assert!(reads(kind) >= count, "{kind}: {}", reads(kind));
    }
    // Who knows a leader sends a client there. What is left has lost the lead while it answered.
    let [leader, other] = ["lease by a leader", "lease by another node"].map(reads);
    assert!(other * 10 < leader, "lease by another node: {other}, by a leader: {leader}");
    for (name, happened) in [
        ("stops", counts.stops),
        ("failed writes", counts.writes_failed),
        ("snapshots installed", counts.snapshots_installed),
        ("duplicated packets", counts.network.duplicated),
        ("overtaken packets", counts.network.reordered),
        ("writes torn by a loss of power", counts.disks.unsynced_torn),
        ("writes lost by a loss of power", counts.disks.unsynced_lost),
        ("failed syncs", counts.disks.failed_syncs),
        ("works on stuck disks", counts.disks.stuck_works),
        ("works on full disks", counts.disks.full),
        ("shutdowns", counts.shutdowns),
        ("changes of membership", counts.membership.done),
        ("joint configurations entered", counts.membership.joint_entered),
        ("joint configurations left", counts.membership.joint_left),
        ("wiped disks", counts.membership.wiped),
        ("nodes readmitted", counts.membership.readmitted),
        ("transfers", counts.transfers.done),
        ("hand-overs by sick disks", counts.transfers.by_sick_disks),
    ] {
        assert!(happened >= 5, "{name}: {happened}");
    }
}

#[test]
fn nothing_is_violated_in_the_first_seeds() {
    swarm(0..80);
}

#[test]
fn nothing_is_violated_in_the_second_seeds() {
    swarm(80..160);
}

#[test]
fn nothing_is_violated_in_the_third_seeds() {
    swarm(160..240);
}

#[test]
fn nothing_is_violated_in_the_fourth_seeds() {
    swarm(240..320);
}
