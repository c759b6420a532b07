//! Commands and queries on a healthy cluster.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use raft_rsm::raft_core::Role;
use raft_rsm::{ProposeError, Runtime};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    rsm_basic_ten_commands_have_their_responses_and_reach_every_replica
    rsm_concurrent_fifty_commands_at_once_all_take_effect_once
    a_cluster_of_one_replica_serves_commands
    a_follower_refuses_commands_and_names_the_leader_and_answers_queries
    a_query_sees_every_command_that_was_answered_before_it
    a_command_longer_than_the_limit_is_definitely_refused
    a_command_that_cannot_be_read_once_it_is_serialized_is_definitely_refused
    a_message_longer_than_all_packets_that_may_wait_gets_through
    more_requests_than_the_limit_are_answered_by_busy
    the_status_follows_the_commands
    status_changes_tell_of_the_leader_and_end_with_the_replica
    the_logs_time_is_the_same_everywhere_and_goes_on_after_a_change_of_leader
}

type On = Arc<dyn Runtime>;

fn rsm_basic_ten_commands_have_their_responses_and_reach_every_replica(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.raft(cluster.leader());
    for n in 1..=10 {
        assert_eq!(cluster.block_on(leader.propose(Command::Inc)), Ok(n));
    }
    cluster.all_show(10);
}

fn rsm_concurrent_fifty_commands_at_once_all_take_effect_once(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.raft(cluster.leader());
    let all = join_all((0..50).map(|_| leader.propose(Command::Inc)));
    let mut responses: Vec<u64> =
        cluster.block_on(all).into_iter().map(|response| response.expect("applied")).collect();
    responses.sort_unstable();
    assert_eq!(responses, (1..=50).collect::<Vec<u64>>());
    cluster.all_show(50);
}

fn a_cluster_of_one_replica_serves_commands(runtime: On) {
    let cluster = Cluster::new(1, runtime);
    let raft = cluster.raft(cluster.leader());
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
    assert_eq!(cluster.block_on(raft.query(())), Ok(1));
}

fn a_follower_refuses_commands_and_names_the_leader_and_answers_queries(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let follower = cluster.raft(cluster.others(leader)[0]);
    let error = cluster.block_on(follower.propose(Command::Inc)).unwrap_err();
    assert_eq!(error, ProposeError::NotLeader { leader: Some(leader) });
    assert!(!error.may_take_effect());
    for n in 1..=20 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
        assert_eq!(cluster.block_on(follower.query(())), Ok(n), "what was answered before is seen");
    }
}

/// tikv #7971: reads that share a mark which is older than one of them.
fn a_query_sees_every_command_that_was_answered_before_it(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.raft(cluster.leader());
    for n in 1..=20 {
        assert_eq!(cluster.block_on(leader.propose(Command::Inc)), Ok(n));
        let answers = cluster.block_on(join_all((0..3).map(|_| leader.query(()))));
        assert_eq!(answers, [Ok(n), Ok(n), Ok(n)]);
    }
}

fn a_command_longer_than_the_limit_is_definitely_refused(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        options.core.limits.command_bytes_max = 1000;
        // What can never be taken must not be told to come later.
        options.requests_pending_bytes_max = 1000;
    });
    let raft = cluster.raft(cluster.leader());
    let error = cluster.block_on(raft.propose(Command::Pad(vec![0; 2000]))).unwrap_err();
    // One byte for the variant, two for the length.
    assert_eq!(error, ProposeError::TooLarge { len: 2003, max: 991 });
    assert!(!error.may_take_effect());
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
}

fn a_command_that_cannot_be_read_once_it_is_serialized_is_definitely_refused(runtime: On) {
    // Committed, it would stop every replica, and again after each restart.
    let cluster = Cluster::new(1, runtime);
    let raft = cluster.raft(cluster.leader());
    let unreadable = Command::Unreadable { left_out: None };
    let error = cluster.block_on(raft.propose(unreadable)).unwrap_err();
    assert!(matches!(error, ProposeError::Serialize { .. }), "{error}");
    assert!(!error.may_take_effect());
    assert_eq!(cluster.block_on(raft.propose(Command::Inc)), Ok(1));
}

fn a_message_longer_than_all_packets_that_may_wait_gets_through(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| options.packets_pending_bytes_max = 1000);
    let raft = cluster.raft(cluster.leader());
    cluster.block_on(raft.propose(Command::Pad(vec![7; 2000]))).expect("applied");
}

fn more_requests_than_the_limit_are_answered_by_busy(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| options.requests_pending_max = 4);
    let leader = cluster.leader();
    let probe = &cluster.replicas[&leader].probe;
    probe.hold();
    let mut requests = futures::stream::FuturesUnordered::from_iter((0..20).map(|_| {
        let raft = cluster.raft(leader).clone();
        async move { raft.propose(Command::Inc).await }
    }));
    for _ in 0..16 {
        let refused = cluster.block_on(requests.next()).expect("there are more");
        assert_eq!(refused, Err(ProposeError::Busy));
    }
    probe.release();
    let rest: Vec<_> = cluster.block_on(requests.collect());
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    cluster.eventually("count", || cluster.status(leader).refused.requests == 16);
}

fn the_status_follows_the_commands(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    cluster.block_on(cluster.raft(leader).propose(Command::Inc)).expect("applied");
    cluster.eventually("applied entry", || {
        let status = cluster.status(leader);
        status.applied == status.commit && status.applied == status.last.index
    });
    let status = cluster.status(leader);
    assert_eq!((status.id, status.role, status.leader), (leader, Role::Leader, Some(leader)));
    assert!(status.running && status.term.0 > 0 && status.log_bytes > 0);
    assert_eq!(status.configuration.voters().len(), 3);
    assert_eq!(status.counters, Default::default());
}

/// openraft #1467: a status that shows a leader which is dead.
fn status_changes_tell_of_the_leader_and_end_with_the_replica(runtime: On) {
    let cluster = Cluster::new(1, runtime);
    let leader = cluster.leader();
    let mut changes = cluster.raft(leader).status_changes();
    let first = cluster.block_on(changes.next()).expect("the present status");
    assert_eq!(first.role, Role::Leader);
    cluster.block_on(cluster.raft(leader).shutdown());
    let last = cluster.block_on(changes.next()).expect("the stop");
    assert!(!last.running);
    assert_eq!((last.role, last.leader), (Role::Follower, None));
    assert!(cluster.block_on(changes.next()).is_none());
    // A stopped replica shows no leader, however often it is asked.
    assert_eq!(cluster.status(leader).leader, None);
}

fn the_logs_time_is_the_same_everywhere_and_goes_on_after_a_change_of_leader(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let raft = cluster.raft(leader).clone();
    cluster.block_on(raft.propose(Command::Inc)).expect("applied");
    cluster.pause(Duration::from_millis(50));
    cluster.block_on(raft.propose(Command::Inc)).expect("applied");
    let (_, before) = *cluster.seen(leader).contexts.last().expect("two commands");
    assert!(before >= Duration::from_millis(50), "the leader's clock runs: {before:?}");
    assert!(before < Duration::from_secs(60), "and it is not a date: {before:?}");

    let disk = cluster.crash(leader);
    let next = cluster.leader();
    let raft = cluster.raft(next).clone();
    cluster.block_on(raft.propose(Command::Inc)).expect("applied");
    cluster.restart(leader, disk);
    cluster.all_show(3);
    let contexts = cluster.seen(next).contexts;
    assert!(contexts.is_sorted_by_key(|(_, time)| *time), "{contexts:?}");
    assert!(contexts.last().expect("three commands").1 >= before);
    for id in cluster.others(next) {
        assert_eq!(cluster.seen(id).contexts, contexts);
    }
}
