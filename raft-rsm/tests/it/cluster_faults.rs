//! Crashes, partitions, failing disks, slow machines: who waits is answered, and rightly.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use raft_rsm::raft_core::Role;
use raft_rsm::{ProposeError, Raft, Runtime, SnapshotError, StopReason, Uncertain};

use crate::cluster::{Cluster, Command, Counter, on_both_runtimes};

on_both_runtimes! {
    rsm_leader_failure_the_others_go_on_and_all_agree_after_healing
    rsm_leader_partition_commands_in_the_minority_never_succeed_and_all_are_answered
    a_caller_whose_place_in_the_log_a_snapshot_has_passed_is_told_maybe_at_once
    rsm_restart_replay_a_restarted_cluster_goes_on_where_it_was
    rsm_shutdown_every_pending_caller_is_answered
    a_caller_waits_no_longer_than_the_request_timeout
    a_caller_whose_command_is_being_applied_waits_no_longer_either
    a_slow_machine_delays_neither_commitment_nor_heartbeats
    a_failing_disk_stops_the_replica_and_answers_its_callers
    a_log_that_has_lost_committed_entries_stops_the_replica_and_answers_its_callers
    a_task_that_the_runtime_drops_stops_the_replica_and_answers_its_callers
    a_machine_that_panics_stops_the_replica_and_answers_its_callers
    a_stopped_replica_refuses_and_its_reason_stays
    a_leader_whose_end_takes_long_shows_none_meanwhile
    a_restarted_replica_keeps_what_was_acknowledged_before_a_crash
}

type On = Arc<dyn Runtime>;

/// Proposes from a task of its own; the answer comes through the channel.
fn propose_in_background(
    cluster: &Cluster,
    raft: &Raft<Counter>,
    command: Command,
) -> futures::channel::oneshot::Receiver<Result<u64, ProposeError>> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let raft = raft.clone();
    let task = async move {
        let _ = sender.send(raft.propose(command).await);
    };
    cluster.runtime.spawn("caller", Box::pin(task));
    receiver
}

fn rsm_leader_failure_the_others_go_on_and_all_agree_after_healing(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.network.isolate(old);
    let new = cluster.leader_of(&cluster.others(old));
    assert_ne!(new, old);
    assert_eq!(cluster.block_on(cluster.raft(new).propose(Command::Inc)), Ok(2));
    cluster.network.heal();
    cluster.all_show(2);
}

/// TiDB 2.1.7: "failed" for what may yet take effect. Here "definitely not" is said once it is true.
fn rsm_leader_partition_commands_in_the_minority_never_succeed_and_all_are_answered(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.network.isolate(old);
    let callers: Vec<_> = (0..100)
        .map(|_| propose_in_background(&cluster, cluster.raft(old), Command::Dec))
        .collect();
    let new = cluster.leader_of(&cluster.others(old));
    assert_eq!(cluster.block_on(cluster.raft(new).propose(Command::Inc)), Ok(2));
    cluster.network.heal();
    let mut superseded = 0;
    for answer in cluster.block_on(join_all(callers)) {
        let error = answer.expect("answered").expect_err("a Dec took effect");
        superseded += usize::from(error == ProposeError::Superseded);
        assert!(!error.may_take_effect(), "the new leader's entries decide, but: {error}");
    }
    assert!(superseded > 0, "the old leader had taken up some of them");
    cluster.all_show(2);
    assert!(cluster.replicas.keys().all(|id| cluster.seen(*id).decs == 0));
}

/// openraft #1761: an installed snapshot that strands those who wait for what it replaces.
fn a_caller_whose_place_in_the_log_a_snapshot_has_passed_is_told_maybe_at_once(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.core.limits.kept_entries_max = 0;
        // Beyond what the test waits for.
        options.request_timeout = Duration::from_secs(60);
    });
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.network.isolate(old);
    let before = cluster.status(old).last;
    let caller = propose_in_background(&cluster, cluster.raft(old), Command::Dec);
    cluster.eventually("its entry", || cluster.status(old).last > before);
    let others = cluster.others(old);
    let new = cluster.leader_of(&others);
    assert_eq!(cluster.block_on(cluster.raft(new).propose(Command::Inc)), Ok(2));
    for id in others {
        cluster.eventually("the value", || cluster.seen(id).value == 2);
        cluster.block_on(cluster.raft(id).snapshot()).expect("taken");
        cluster.eventually("compaction", || cluster.status(id).log_bytes == 0);
    }
    cluster.network.heal();
    let answer = cluster.block_on(caller).expect("answered");
    assert_eq!(answer, Err(ProposeError::Maybe(Uncertain::SnapshotPassed)));
    cluster.all_show(2);
}

fn rsm_restart_replay_a_restarted_cluster_goes_on_where_it_was(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let client = cluster.client();
    for n in 1..=100 {
        assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(n));
    }
    cluster.crash_and_restart_all();
    assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(101));
    cluster.all_show(101);
}

/// Callers who wait for ever: at shutdown.
fn rsm_shutdown_every_pending_caller_is_answered(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    cluster.network.isolate(leader);
    let callers: Vec<_> = (0..100)
        .map(|_| propose_in_background(&cluster, cluster.raft(leader), Command::Inc))
        .collect();
    for replica in cluster.replicas.values() {
        cluster.as_time_flies(replica.raft.shutdown());
    }
    for answer in cluster.block_on(join_all(callers)) {
        let error = answer.expect("answered").expect_err("nothing can be committed");
        assert!(
            matches!(
                error,
                ProposeError::Maybe(Uncertain::Stopped)
                    | ProposeError::Stopped
                    | ProposeError::NotLeader { .. }
            ),
            "{error}"
        );
    }
}

/// Callers who wait for ever: for what nobody decides. And TiDB 2.1.7: that is a maybe.
fn a_caller_waits_no_longer_than_the_request_timeout(runtime: On) {
    let cluster = Cluster::with(2, runtime, |options| {
        options.request_timeout = Duration::from_millis(100);
        // The leader stays, so that nothing but the time ends the wait.
        options.core.check_quorum = false;
        options.core.election_timeout = Duration::from_secs(2);
    });
    let leader = cluster.leader();
    cluster.network.isolate(leader);
    let error = cluster.block_on(cluster.raft(leader).propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::Maybe(Uncertain::TimedOut));
    assert!(error.may_take_effect());
    // And it did take effect.
    cluster.network.heal();
    cluster.all_show(1);
}

fn a_caller_whose_command_is_being_applied_waits_no_longer_either(runtime: On) {
    let cluster =
        Cluster::with(1, runtime, |options| options.request_timeout = Duration::from_millis(100));
    let leader = cluster.leader();
    cluster.replicas[&leader].probe.hold();
    let error = cluster.block_on(cluster.raft(leader).propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::Maybe(Uncertain::TimedOut));
    cluster.replicas[&leader].probe.release();
    cluster.all_show(1);
}

fn a_slow_machine_delays_neither_commitment_nor_heartbeats(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.core.heartbeat_interval = Duration::from_millis(20);
    });
    let leader = cluster.leader();
    let term = cluster.status(leader).term;
    for replica in cluster.replicas.values() {
        replica.probe.hold();
    }
    let first = propose_in_background(&cluster, cluster.raft(leader), Command::Inc);
    let before = cluster.network.counters(leader).packets_out;
    for n in 0..5 {
        let commit = cluster.status(leader).commit;
        if n == 0 {
            // The first one is in the log before the others are proposed.
            cluster.eventually("commitment", || cluster.status(leader).commit.0 >= 2);
            continue;
        }
        drop(propose_in_background(&cluster, cluster.raft(leader), Command::Inc));
        cluster.eventually("commitment", || cluster.status(leader).commit > commit);
    }
    // Heartbeats go on, long after the last command has gone out.
    cluster.eventually("heartbeats", || cluster.network.counters(leader).packets_out > before + 40);
    assert_eq!(cluster.seen(leader).value, 0);
    assert_eq!(cluster.status(leader).term, term);
    for replica in cluster.replicas.values() {
        replica.probe.release();
    }
    assert_eq!(cluster.block_on(first), Ok(Ok(1)));
    cluster.all_show(5);
}

/// Rebello et al., ATC '20: one failure of a sync stops the node, and nothing more is acknowledged.
fn a_failing_disk_stops_the_replica_and_answers_its_callers(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.replicas[&old].storage.fails.store(true, Ordering::SeqCst);
    let error = cluster.block_on(cluster.raft(old).propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::Maybe(Uncertain::Stopped));
    let reason = cluster.block_on(cluster.raft(old).stopped());
    assert_eq!(
        reason.to_string(),
        "storage failed: cannot sync wal/7: the disk is gone",
        "{reason:?}"
    );
    let status = cluster.status(old);
    assert!(!status.running && status.leader.is_none());
    // The others go on without it.
    let new = cluster.leader_of(&cluster.others(old));
    cluster.block_on(cluster.raft(new).propose(Command::Inc)).expect("applied");
}

fn a_log_that_has_lost_committed_entries_stops_the_replica_and_answers_its_callers(runtime: On) {
    // No entry stays in memory: each is read again to be applied.
    let cluster = Cluster::with(1, runtime, |options| options.core.limits.tail_bytes_max = 0);
    let leader = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(1));
    cluster.replicas[&leader].storage.forgets.store(true, Ordering::SeqCst);
    let error = cluster.block_on(cluster.raft(leader).propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::Maybe(Uncertain::Stopped));
    let reason = cluster.block_on(cluster.raft(leader).stopped());
    assert!(matches!(reason, StopReason::Storage { .. }), "{reason:?}");
}

/// A runtime that cannot run the tasks that write snapshots.
struct WithoutSnapshots(On);

impl Runtime for WithoutSnapshots {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        if name != "snapshot" {
            self.0.spawn(name, task);
        }
    }

    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        self.0.spawn_blocking(name, work);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

fn a_task_that_the_runtime_drops_stops_the_replica_and_answers_its_callers(runtime: On) {
    let cluster = Cluster::new(1, Arc::new(WithoutSnapshots(runtime)));
    let raft = cluster.raft(cluster.leader());
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
    assert_eq!(cluster.block_on(raft.snapshot()), Err(SnapshotError::Stopped));
    assert_eq!(cluster.block_on(raft.stopped()), StopReason::Dropped);
}

fn a_machine_that_panics_stops_the_replica_and_answers_its_callers(runtime: On) {
    let cluster = Cluster::new(1, runtime);
    let leader = cluster.leader();
    let error = cluster.block_on(cluster.raft(leader).propose(Command::Panic)).unwrap_err();
    assert_eq!(error, ProposeError::Maybe(Uncertain::Stopped));
    let reason = cluster.block_on(cluster.raft(leader).stopped());
    assert!(matches!(reason, StopReason::Machine { .. }), "{reason:?}");
}

fn a_stopped_replica_refuses_and_its_reason_stays(runtime: On) {
    let cluster = Cluster::new(1, runtime);
    let raft = cluster.raft(cluster.leader());
    cluster.block_on(raft.shutdown());
    cluster.block_on(raft.shutdown());
    assert_eq!(cluster.block_on(raft.stopped()), StopReason::Shutdown);
    let error = cluster.block_on(raft.propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::Stopped);
    assert!(!error.may_take_effect());
    assert!(cluster.block_on(raft.query(())).is_err());
    assert!(cluster.block_on(raft.snapshot()).is_err());
}

/// openraft #1467: a status that shows a dead leader. What is on its way to the disk may take long to end.
fn a_leader_whose_end_takes_long_shows_none_meanwhile(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        // Beyond what the test waits for.
        options.shutdown_timeout = Duration::from_secs(3600);
    });
    let leader = cluster.leader();
    let raft = cluster.raft(leader).clone();
    let disk = &cluster.replicas[&leader].storage;
    disk.writes.hold();
    let caller = propose_in_background(&cluster, &raft, Command::Inc);
    cluster.eventually("a write on its way", || disk.writes.waiting() > 0);
    let mut ended = cluster.in_background({
        let raft = raft.clone();
        async move { raft.shutdown().await }
    });
    cluster.block_on(caller).expect("answered").expect_err("it is not durable");
    let status = raft.status();
    assert_eq!((status.running, status.role, status.leader), (false, Role::Follower, None));
    assert_eq!(ended.try_recv(), Ok(None), "nobody may open the disk yet");
    disk.writes.release();
    cluster.block_on(ended).expect("it ends");
}

fn a_restarted_replica_keeps_what_was_acknowledged_before_a_crash(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let client = cluster.client();
    let mut value = 0;
    for round in 0..6 {
        for _ in 0..10 {
            value = cluster.block_on(client.propose(&Command::Inc)).expect("applied");
        }
        let leader = cluster.leader();
        let victim = if round % 3 == 0 { leader } else { cluster.others(leader)[0] };
        let disk = cluster.crash(victim);
        value += 1;
        let answered =
            cluster.block_on(client.propose_until_answered(&Command::Inc)).expect("applied");
        assert!(answered.response >= value, "{answered:?} after {value}");
        value = answered.response;
        cluster.restart(victim, disk);
        cluster.all_show(value);
    }
}
