//! Queries: linearizable at leaders and followers, by a lease, and stale.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use raft_rsm::raft_core::{Lease, NodeId};
use raft_rsm::{Consistency, Options, QueryError, Runtime};

use crate::cluster::{Cluster, Command, on_both_runtimes};

on_both_runtimes! {
    a_linearizable_query_anywhere_sees_every_command_that_was_answered_before_it
    an_isolated_leader_answers_no_linearizable_query
    an_isolated_follower_answers_no_linearizable_query
    queries_that_wait_at_a_lost_leader_are_all_answered
    queries_that_wait_at_a_follower_are_answered_when_the_leader_they_asked_is_gone
    many_queries_share_few_rounds_of_heartbeats
    a_query_appends_nothing_to_the_log
    a_lease_answers_without_a_round_and_not_once_it_has_ended
    without_a_lease_a_query_by_lease_is_a_linearizable_one
    a_stale_query_is_answered_by_an_isolated_node_at_once
    a_machine_that_hangs_delays_no_heartbeat_and_its_queries_time_out
    a_query_that_hangs_in_the_machine_holds_up_nobody_beyond_the_deadline
}

type On = Arc<dyn Runtime>;

const ALL: [Consistency; 3] = [Consistency::Linearizable, Consistency::Lease, Consistency::Stale];

/// tikv #7971: reads that share a mark which is older than one of them.
fn a_linearizable_query_anywhere_sees_every_command_that_was_answered_before_it(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    for n in 1..=20 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
        let everywhere = cluster.replicas.values().map(|replica| replica.raft.query(()));
        for answer in cluster.block_on(join_all(everywhere)) {
            assert_eq!(answer, Ok(n));
        }
    }
}

/// etcd #12704 and many others: what was answered elsewhere must be seen, or nothing is said.
fn an_isolated_leader_answers_no_linearizable_query(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let old = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(old).propose(Command::Inc)), Ok(1));
    cluster.network.isolate(old);
    let raft = cluster.raft(old).clone();
    let early = cluster.in_background(async move { raft.query(()).await });
    let new = cluster.leader_of(&cluster.others(old));
    assert_eq!(cluster.block_on(cluster.raft(new).propose(Command::Inc)), Ok(2));
    let late = cluster.block_on(cluster.raft(old).query(()));
    for answer in [cluster.block_on(early).expect("answered"), late] {
        assert!(matches!(
            answer,
            Err(QueryError::Superseded | QueryError::NotLeader { .. } | QueryError::TimedOut)
        ));
    }
    cluster.network.heal();
    cluster.leader();
    cluster.eventually("the value", || {
        cluster.block_on(cluster.raft(old).query(())).is_ok_and(|value| value == 2)
    });
}

fn an_isolated_follower_answers_no_linearizable_query(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(1));
    let follower = cluster.others(leader)[0];
    cluster.network.isolate(follower);
    // While it still takes the leader for one, and when it does not any more.
    let early = cluster.as_time_flies(cluster.raft(follower).query(()));
    assert!(matches!(early, Err(QueryError::TimedOut | QueryError::Superseded)), "{early:?}");
    cluster.loses_its_leader(follower);
    let late = cluster.block_on(cluster.raft(follower).query(()));
    assert_eq!(late, Err(QueryError::NotLeader { leader: None }));
}

/// raft-rs #167 and #332: reads that are dropped in silence.
fn queries_that_wait_at_a_lost_leader_are_all_answered(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        // Beyond what the test waits for.
        options.request_timeout = Duration::from_secs(60);
    });
    let old = cluster.leader();
    cluster.network.isolate(old);
    let asked = (0..100).map(|n| {
        let consistency = ALL[n % 2];
        cluster.raft(old).query_with((), consistency)
    });
    for answer in cluster.as_time_flies(join_all(asked)) {
        assert_eq!(answer, Err(QueryError::Superseded));
    }
}

fn queries_that_wait_at_a_follower_are_answered_when_the_leader_they_asked_is_gone(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, |options| {
        options.request_timeout = Duration::from_secs(60);
    });
    let leader = cluster.leader();
    let [follower, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.network.cut(follower, leader);
    // Nobody else is elected, who could answer them, whenever they get there.
    cluster.replicas[&other].storage.writes.hold();
    let raft = cluster.raft(follower).clone();
    let asked =
        cluster.in_background(async move { join_all((0..20).map(|_| raft.query(()))).await });
    let _disk = cluster.crash(leader);
    for answer in cluster.block_on(asked).expect("answered") {
        assert!(
            matches!(
                answer,
                Err(QueryError::Superseded | QueryError::TimedOut | QueryError::NotLeader { .. })
            ),
            "{answer:?}"
        );
    }
}

fn many_queries_share_few_rounds_of_heartbeats(runtime: On) {
    const QUERIES: usize = 20_000;
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let before = cluster.network.counters(leader).packets_out;
    let raft = cluster.raft(leader).clone();
    let asked = cluster.in_background(async move {
        // They are asked one after the other, while rounds are under way.
        join_all((0..QUERIES).map(|_| raft.query(()))).await
    });
    let answers = cluster.block_on(asked).expect("answered");
    assert!(answers.iter().all(|answer| *answer == Ok(0)));
    let packets = cluster.network.counters(leader).packets_out - before;
    assert!(packets < QUERIES as u64 / 20, "{packets} packets for {QUERIES} queries");
}

fn a_query_appends_nothing_to_the_log(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(1));
    let last = cluster.status(leader).last;
    for id in cluster.replicas.keys() {
        for consistency in ALL {
            let asked = join_all((0..10).map(|_| cluster.raft(*id).query_with((), consistency)));
            for answer in cluster.block_on(asked) {
                let value = answer.expect("answered");
                assert!(value == 1 || consistency == Consistency::Stale);
            }
        }
    }
    assert_eq!(cluster.status(leader).last, last);
}

fn with_a_lease(options: &mut Options) {
    options.core.lease = Some(Lease { clock_drift_ppm: 1000 });
}

/// A few of the default intervals between heartbeats.
const HEARTBEATS: Duration = Duration::from_millis(300);

fn a_lease_answers_without_a_round_and_not_once_it_has_ended(runtime: On) {
    let cluster = Cluster::with(3, runtime, with_a_lease);
    let mut leader = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(1));
    // A leader that nobody can reach has its lease for a while yet: the round that it would need does not come back. Where
    // this process pauses for so long, the lease is over, and there is another leader to try it with.
    cluster.eventually("answer by lease", || {
        cluster.network.heal();
        leader = cluster.leader();
        // Who has just been elected holds no lease before a round of heartbeats has come back.
        cluster.pause(HEARTBEATS);
        cluster.network.isolate(leader);
        cluster.block_on(cluster.raft(leader).query_with((), Consistency::Lease)) == Ok(1)
    });
    let new = cluster.leader_of(&cluster.others(leader));
    assert_eq!(cluster.block_on(cluster.raft(new).propose(Command::Inc)), Ok(2));
    let late = cluster.block_on(cluster.raft(leader).query_with((), Consistency::Lease));
    assert!(late.is_err(), "{late:?}");
}

fn without_a_lease_a_query_by_lease_is_a_linearizable_one(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    for n in 1..=5 {
        assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(n));
        for id in cluster.replicas.keys() {
            let raft = cluster.raft(*id);
            assert_eq!(cluster.block_on(raft.query_with((), Consistency::Lease)), Ok(n));
        }
    }
    cluster.network.isolate(leader);
    let answer = cluster.as_time_flies(cluster.raft(leader).query_with((), Consistency::Lease));
    assert_eq!(answer, Err(QueryError::Superseded));
}

fn a_stale_query_is_answered_by_an_isolated_node_at_once(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    assert_eq!(cluster.block_on(cluster.raft(leader).propose(Command::Inc)), Ok(1));
    cluster.all_show(1);
    let ids: Vec<NodeId> = cluster.replicas.keys().copied().collect();
    for id in &ids {
        cluster.network.isolate(*id);
    }
    for id in &ids {
        cluster.loses_its_leader(*id);
        let raft = cluster.raft(*id);
        assert_eq!(cluster.block_on(raft.query_with((), Consistency::Stale)), Ok(1));
    }
}

fn a_machine_that_hangs_delays_no_heartbeat_and_its_queries_time_out(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.request_timeout = Duration::from_millis(400);
        options.core.heartbeat_interval = Duration::from_millis(20);
    });
    let leader = cluster.leader();
    let term = cluster.status(leader).term;
    for replica in cluster.replicas.values() {
        replica.probe.hold();
    }
    let hung = cluster.in_background({
        let raft = cluster.raft(leader).clone();
        async move { raft.propose(Command::Inc).await }
    });
    cluster.eventually("commitment", || {
        cluster.replicas.keys().all(|id| cluster.status(*id).commit.0 >= 2)
    });
    let before = cluster.network.counters(leader).packets_out;
    let asked = cluster
        .replicas
        .values()
        .flat_map(|replica| ALL.map(|consistency| replica.raft.query_with((), consistency)));
    for answer in cluster.block_on(join_all(asked)) {
        assert_eq!(answer, Err(QueryError::TimedOut));
    }
    assert!(cluster.block_on(hung).expect("answered").is_err());
    cluster.eventually("heartbeats", || cluster.network.counters(leader).packets_out > before + 40);
    assert_eq!((cluster.status(leader).term, cluster.leader()), (term, leader));
    for replica in cluster.replicas.values() {
        replica.probe.release();
    }
    assert_eq!(cluster.block_on(cluster.raft(leader).query(())), Ok(1));
}

fn a_query_that_hangs_in_the_machine_holds_up_nobody_beyond_the_deadline(runtime: On) {
    let cluster = Cluster::with(1, runtime, |options| {
        options.request_timeout = Duration::from_millis(200);
    });
    let leader = cluster.leader();
    let probe = &cluster.replicas[&leader].probe;
    probe.hold_queries();
    let asked = join_all((0..10).map(|n| cluster.raft(leader).query_with((), ALL[n % 3])));
    for answer in cluster.block_on(asked) {
        assert_eq!(answer, Err(QueryError::TimedOut));
    }
    probe.release();
    assert_eq!(cluster.block_on(cluster.raft(leader).query(())), Ok(0));
}
