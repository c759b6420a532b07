//! What is slow or hangs slows those who ask for it, up to a limit and a deadline, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::{
    Consistency, MembershipChange, MembershipError, ProposeError, QueryError, Remembered, Runtime,
    SnapshotError,
};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    a_leader_whose_disk_hangs_hands_the_lead_over_and_answers_its_callers
    a_follower_whose_disk_hangs_slows_nobody
    more_queries_than_the_limit_are_answered_by_busy_and_proposals_go_on
    more_bytes_of_operations_than_the_limit_are_answered_by_busy
    whoever_asks_for_a_snapshot_waits_no_longer_than_the_timeout
    more_entries_than_may_be_uncommitted_are_answered_by_busy
    leaders_that_come_and_go_while_a_disk_hangs_pile_up_no_reads
    a_full_table_of_sessions_refuses_more_of_them_without_an_entry_and_names_go_on
    a_session_that_ends_by_itself_makes_room_although_nobody_else_writes
}

type On = Arc<dyn Runtime>;

/// hashicorp/raft #503 and #666: a stalled disk under a leader whose heartbeats go on.
fn a_leader_whose_disk_hangs_hands_the_lead_over_and_answers_its_callers(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.request_timeout = Duration::from_secs(3);
        // It is not that which makes it step down.
        options.core.write_stall_max = Duration::from_secs(60);
    });
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.replicas[&old].storage.writes.hold();
    let began = cluster.runtime.now();
    let raft = cluster.raft(old).clone();
    let pending = cluster
        .in_background(async move { join_all((0..10).map(|_| raft.propose(Command::Inc))).await });
    let others = cluster.others(old);
    cluster.eventually("another leader", || {
        others.iter().any(|id| cluster.status(*id).leader.is_some_and(|leader| leader != old))
    });
    let took = cluster.runtime.now().saturating_sub(began);
    // An election timeout is 300 milliseconds.
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    let new = cluster.leader_of(&others);
    cluster.block_on(cluster.raft(new).propose(Command::Inc)).expect("applied");
    // Nothing is durable there, so nothing is applied and nobody is told more than that.
    for answer in cluster.as_time_flies(pending).expect("answered") {
        assert!(answer.is_err());
    }
    cluster.replicas[&old].storage.writes.release();
    let value = cluster.seen(new).value;
    cluster.all_show(value);
}

fn a_follower_whose_disk_hangs_slows_nobody(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let slow = cluster.others(leader)[0];
    cluster.replicas[&slow].storage.writes.hold();
    for n in 1..=50 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
    }
    assert_eq!(cluster.block_on(cluster.raft(leader).query(())), Ok(50));
    assert_eq!(cluster.leader(), leader);
    cluster.replicas[&slow].storage.writes.release();
    cluster.all_show(50);
}

fn more_queries_than_the_limit_are_answered_by_busy_and_proposals_go_on(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| options.queries_pending_max = 4);
    let leader = cluster.leader();
    let probe = &cluster.replicas[&leader].probe;
    probe.hold_queries();
    let raft = cluster.raft(leader);
    let consistencies = [Consistency::Linearizable, Consistency::Lease, Consistency::Stale];
    let mut asked =
        FuturesUnordered::from_iter((0..20).map(|n| raft.query_with((), consistencies[n % 3])));
    for _ in 0..16 {
        let refused = cluster.block_on(asked.next()).expect("there are more");
        assert_eq!(refused, Err(QueryError::Busy));
    }
    // The machine is busy with a query, and the log goes on.
    let proposed = {
        let raft = raft.clone();
        cluster.in_background(async move { raft.propose(Command::Inc).await })
    };
    let commit = cluster.status(leader).commit;
    cluster.eventually("commitment", || {
        cluster.status(leader).last.index == cluster.status(leader).commit
            && cluster.status(leader).commit >= commit
    });
    probe.release();
    let rest: Vec<_> = cluster.block_on(asked.collect());
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    assert_eq!(cluster.block_on(proposed).expect("answered"), Ok(1));
    cluster.eventually("count", || cluster.status(leader).refused.requests == 16);
    cluster.eventually("room again", || cluster.block_on(raft.query(())).is_ok());
}

fn more_bytes_of_operations_than_the_limit_are_answered_by_busy(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| options.requests_pending_bytes_max = 1000);
    let leader = cluster.leader();
    let members = (1..=30).map(|id| Member::new(NodeId(id), "x".repeat(100)));
    let large = Configuration::of_members(members, [], []);
    // Both arrive before the driver takes one up, or not: then the other one is refused by the first that is under way.
    let asked = (0..20)
        .map(|_| cluster.raft(leader).change_membership(MembershipChange::To(large.clone())));
    let mut asked = FuturesUnordered::from_iter(asked.map(Box::pin));
    for _ in 0..19 {
        let refused = cluster.block_on(asked.next()).expect("there are more");
        assert!(matches!(refused, Err(MembershipError::Busy | MembershipError::InProgress { .. })));
    }
}

fn whoever_asks_for_a_snapshot_waits_no_longer_than_the_timeout(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        options.snapshot_timeout = Duration::from_millis(200);
    });
    let leader = cluster.leader();
    let raft = cluster.raft(leader).clone();
    let probe = &cluster.replicas[&leader].probe;
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
    probe.hold();
    let last = cluster.status(leader).last;
    let held = {
        let raft = raft.clone();
        cluster.in_background(async move { raft.propose(Command::Inc).await })
    };
    cluster.eventually("a command", || cluster.status(leader).commit > last.index);
    for answer in cluster.block_on(join_all((0..3).map(|_| raft.snapshot()))) {
        assert_eq!(answer, Err(SnapshotError::TimedOut));
    }
    probe.release();
    assert_eq!(cluster.block_on(held).expect("answered"), Ok(2));
    cluster.block_on(raft.snapshot()).expect("taken");
}

fn more_entries_than_may_be_uncommitted_are_answered_by_busy(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.core.limits.uncommitted_entries_max = 5;
        options.request_timeout = Duration::from_secs(60);
    });
    let leader = cluster.leader();
    for replica in cluster.replicas.values() {
        replica.storage.writes.hold();
    }
    let raft = cluster.raft(leader);
    let mut proposed = FuturesUnordered::from_iter((0..20).map(|_| raft.propose(Command::Inc)));
    for _ in 0..15 {
        let refused = cluster.block_on(proposed.next()).expect("there are more");
        assert_eq!(refused, Err(ProposeError::Busy));
    }
    for replica in cluster.replicas.values() {
        replica.storage.writes.release();
    }
    let rest: Vec<_> = cluster.block_on(proposed.collect());
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    assert!(cluster.block_on(raft.propose(Command::Inc)).is_ok(), "there is room again");
}

/// A peer for which old entries are read comes and goes, and so do the leaders that read for it, while the reads hang.
fn leaders_that_come_and_go_while_a_disk_hangs_pile_up_no_reads(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, |options| {
        // Nothing stays in memory, so that all that a follower lacks has to be read.
        options.core.limits.tail_bytes_max = 0;
        options.reads_at_once_max = 2;
        options.request_timeout = Duration::from_millis(500);
    });
    let first = cluster.leader();
    let lags = cluster.others(first)[0];
    let disk = cluster.crash(lags);
    for n in 1..=5 {
        assert_eq!(cluster.block_on(cluster.raft(first).propose(Command::Inc)), Ok(n));
    }
    for replica in cluster.replicas.values() {
        replica.storage.reads.hold();
    }
    cluster.restart(lags, disk);
    cluster.eventually("reads that hang", || {
        cluster.replicas.values().any(|replica| replica.storage.reads.waiting() > 0)
    });
    for _ in 0..6 {
        let ids: Vec<NodeId> = cluster.others(lags);
        let leader = cluster.leader_of(&ids);
        let next = ids.into_iter().find(|id| *id != leader);
        // Whether it succeeds or not: the lead moves, and the reads of the old one hang on.
        let _ = cluster.block_on(cluster.raft(leader).transfer_leadership(next));
        for replica in cluster.replicas.values() {
            assert!(replica.storage.reads.waiting() <= 2, "more than two reads at once");
        }
    }
    for replica in cluster.replicas.values() {
        replica.storage.reads.release();
    }
    cluster.all_show(5);
}

/// Whoever waits for room asks again and again: were each of those an entry, a full table would fill the log.
fn a_full_table_of_sessions_refuses_more_of_them_without_an_entry_and_names_go_on(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        options.sessions_max = 2;
        options.names_max = 2;
        options.name_bytes_max = 1000;
    });
    let leader = cluster.leader();
    let raft = cluster.raft(leader);
    let open = || cluster.block_on(raft.open_session());
    let named = |name: &str| cluster.block_on(raft.propose_once(name.as_bytes(), Command::Inc));
    let (first, _) = (open().expect("there is room"), open().expect("there is room"));
    cluster.eventually("a full table", || cluster.status(leader).remembered.sessions.count == 2);
    let before = cluster.status(leader).last;
    for _ in 0..10 {
        assert_eq!(open(), Err(ProposeError::SessionsFull));
    }
    assert_eq!(cluster.status(leader).last, before);

    assert_eq!((named("one"), named("two")), (Ok(1), Ok(2)));
    // However full it is, a repetition has its answer.
    assert_eq!((named("three"), named("one")), (Err(ProposeError::SessionsFull), Ok(1)));
    cluster.eventually("full tables", || {
        let Remembered { sessions, names, .. } = cluster.status(leader).remembered;
        (sessions.count, sessions.count_max, sessions.bytes) == (2, 2, 0)
            && (names.count, names.count_max, names.bytes_max) == (2, 2, 1000)
            && names.bytes > 0
    });
    cluster.block_on(raft.close_session(first)).expect("closed");
    cluster.eventually("room", || open().is_ok());
}

/// It is entries that let the log's time go on: a leader that lets none through would wait for ever.
fn a_session_that_ends_by_itself_makes_room_although_nobody_else_writes(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        options.sessions_max = 1;
        options.session_idle_max = Duration::from_millis(300);
    });
    let leader = cluster.leader();
    let raft = cluster.raft(leader);
    let first = cluster.block_on(raft.open_session()).expect("there is room");
    cluster.eventually("a full table", || cluster.status(leader).remembered.sessions.count == 1);
    cluster.eventually("another session", || {
        cluster.block_on(raft.open_session()).is_ok_and(|second| second != first)
    });
}
