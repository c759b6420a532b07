//! Snapshots: taken while commands go on, sent in chunks, restored; and the log stays short.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::storage::MemoryStorage;
use raft_rsm::transport::memory::Faults;
use raft_rsm::{MembershipChange, Options, Runtime, SnapshotError};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    rsm_snapshot_the_log_stays_short_and_a_restart_goes_on
    a_snapshot_on_demand_contains_what_was_answered_before
    a_replica_far_behind_gets_a_snapshot_in_many_chunks
    a_replica_far_behind_gets_a_snapshot_through_a_bad_network
    a_large_state_is_not_written_again_for_each_few_entries
    commands_go_on_while_snapshots_are_taken
    a_node_that_joins_without_a_configuration_is_given_a_snapshot
    a_snapshot_that_is_too_long_is_not_offered_with_each_heartbeat
}

type On = Arc<dyn Runtime>;

fn bad() -> Faults {
    let millis = Duration::from_millis;
    Faults {
        loss: 0.1,
        duplicate: 0.1,
        delay: Duration::ZERO..millis(5),
        reorder: 0.1,
        reorder_delay: Duration::ZERO..millis(30),
    }
}

fn every_thousand_bytes(options: &mut Options) {
    options.snapshot_log_bytes = 1000;
    options.snapshot_chunk_bytes = 1000;
    options.core.limits.kept_entries_max = 0;
}

fn rsm_snapshot_the_log_stays_short_and_a_restart_goes_on(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, every_thousand_bytes);
    let client = cluster.client();
    for n in 1..=100 {
        assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(n));
    }
    cluster.all_show(100);
    for id in cluster.replicas.keys() {
        cluster.eventually("short log", || cluster.status(*id).log_bytes <= 2000);
        assert!(cluster.status(*id).snapshot.is_some());
    }
    cluster.crash_and_restart_all();
    assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(101));
    cluster.all_show(101);
    assert!(cluster.replicas.keys().all(|id| cluster.seen(*id).restores == 1));
}

fn a_snapshot_on_demand_contains_what_was_answered_before(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| options.core.limits.kept_entries_max = 0);
    let leader = cluster.leader();
    let raft = cluster.raft(leader);
    let mut last = Default::default();
    for n in 1..=20 {
        assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(n));
        let (index, _) = *cluster.seen(leader).contexts.last().expect("applied");
        let taken = cluster.block_on(raft.snapshot()).expect("taken");
        assert!(taken.index >= index, "{taken} at {index}");
        last = taken;
    }
    // Where nothing was applied since, the one that is there will do.
    assert_eq!(cluster.block_on(raft.snapshot()).expect("there"), last);
    cluster.eventually("empty log", || cluster.status(leader).log_bytes == 0);
    assert_eq!(cluster.status(leader).snapshot, Some(last));
}

/// It knows no members yet, so it has to believe whom it follows.
fn a_node_that_joins_without_a_configuration_is_given_a_snapshot(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, every_thousand_bytes);
    let client = cluster.client();
    for n in 1..=50 {
        assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(n));
    }
    let leader = cluster.leader();
    cluster.eventually("compacted", || cluster.status(leader).snapshot.is_some());
    let new = NodeId(4);
    cluster.restart(new, MemoryStorage::new(Configuration::default()));
    let change = MembershipChange::AddVoter(Member::new(new, ""));
    let changed = cluster.block_on(cluster.raft(leader).change_membership(change));
    assert!(changed.expect("it catches up").is_voter(new));
    cluster.all_show(50);
    assert_eq!(cluster.seen(new).restores, 1);
}

/// It is refused by its receiver, and nothing changes until somebody does something.
fn a_snapshot_that_is_too_long_is_not_offered_with_each_heartbeat(runtime: On) {
    const REFUSES: NodeId = NodeId(4);
    const HEARTBEATS: u64 = 80;
    let mut cluster = Cluster::with(3, runtime, |options| {
        every_thousand_bytes(options);
        if options.core.id == REFUSES {
            options.snapshot_bytes_max = 5_000;
        }
    });
    let client = cluster.client();
    cluster.block_on(client.propose(&Command::Pad(vec![7; 20_000]))).expect("applied");
    let leader = cluster.leader();
    cluster.block_on(cluster.raft(leader).snapshot()).expect("taken");
    cluster.restart(REFUSES, MemoryStorage::new(Configuration::default()));
    let change = MembershipChange::AddLearner(Member::new(REFUSES, ""));
    cluster.block_on(cluster.raft(leader).change_membership(change)).expect("added");
    let offers = |cluster: &Cluster| cluster.status(REFUSES).refused.snapshots_too_long;
    cluster.eventually("refusal", || offers(&cluster) > 0);
    let packets = || cluster.network.counters(REFUSES).packets_in;
    let before = packets();
    cluster.eventually("heartbeats", || packets() >= before + HEARTBEATS);
    assert!(offers(&cluster) <= 4, "{} offers", offers(&cluster));
    assert!(cluster.status(leader).refused.snapshots_by_peers > 0);
    assert_eq!(cluster.seen(REFUSES).restores, 0);
}

#[test]
fn nothing_applied_is_no_snapshot() {
    let runtime = Arc::new(raft_rsm::runtime::ThreadRuntime::new());
    let cluster = Cluster::new(2, runtime);
    let id = cluster.leader();
    cluster.network.isolate(id);
    for other in cluster.others(id) {
        // An entry of its own may be applied already; then there is something to keep.
        match cluster.block_on(cluster.raft(other).snapshot()) {
            Err(SnapshotError::NothingApplied) | Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A follower misses far more than the leader keeps, and its state is many chunks long.
fn far_behind(runtime: On, faults: Faults) {
    let mut cluster = Cluster::with(3, runtime, every_thousand_bytes);
    let client = cluster.client();
    cluster.block_on(client.propose(&Command::Inc)).expect("applied");
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    let disk = cluster.crash(victim);
    let padding: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    cluster.block_on(client.propose(&Command::Pad(padding))).expect("applied");
    for _ in 0..100 {
        cluster.block_on(client.propose(&Command::Inc)).expect("applied");
    }
    for id in cluster.replicas.keys() {
        cluster.block_on(cluster.raft(*id).snapshot()).expect("taken");
    }
    cluster.set_faults(faults);
    cluster.restart(victim, disk);
    cluster.eventually("restored state", || cluster.seen(victim).value == 101);
    assert!(cluster.seen(victim).restores >= 1);
    cluster.set_faults(Faults::none());
    let value = cluster.block_on(client.propose_until_answered(&Command::Inc)).expect("applied");
    cluster.all_show(value.response);
    // What it was sent is whole: it can be restored from once more.
    cluster.eventually("snapshot", || cluster.status(victim).snapshot.is_some());
    let disk = cluster.crash(victim);
    cluster.restart(victim, disk);
    cluster.all_show(value.response);
}

fn a_replica_far_behind_gets_a_snapshot_in_many_chunks(runtime: On) {
    far_behind(runtime, Faults::none());
}

/// Known from many an implementation: a lost chunk of a snapshot makes the transfer begin anew for ever.
fn a_replica_far_behind_gets_a_snapshot_through_a_bad_network(runtime: On) {
    far_behind(runtime, bad());
}

fn a_large_state_is_not_written_again_for_each_few_entries(runtime: On) {
    let cluster = Cluster::with(1, runtime, every_thousand_bytes);
    let leader = cluster.leader();
    let raft = cluster.raft(leader);
    cluster.block_on(raft.propose(Command::Pad(vec![7; 50_000]))).expect("applied");
    let first = cluster.block_on(raft.snapshot()).expect("taken");
    cluster.eventually("compaction", || cluster.status(leader).log_bytes < 1000);
    for _ in 0..100 {
        cluster.block_on(raft.propose(Command::Inc)).expect("applied");
    }
    let status = cluster.status(leader);
    assert!(status.log_bytes > 1000 && status.log_bytes < 50_000, "{status:?}");
    assert_eq!(status.snapshot, Some(first));
}

fn commands_go_on_while_snapshots_are_taken(runtime: On) {
    let cluster = Cluster::with(3, runtime, every_thousand_bytes);
    let leader = cluster.leader();
    let raft = cluster.raft(leader);
    let mut longest = 0;
    for round in 0..40 {
        let all = join_all((0..25).map(|_| raft.propose(Command::Inc)));
        for response in cluster.block_on(all) {
            response.expect("applied");
        }
        longest = longest.max(cluster.status(leader).log_bytes);
        if round % 10 == 0 {
            cluster.block_on(raft.snapshot()).expect("taken");
        }
    }
    cluster.all_show(1000);
    cluster.eventually("short log", || {
        cluster.replicas.keys().all(|id| cluster.status(*id).log_bytes <= 8000)
    });
}
