//! The client finds the leader, and says "maybe" exactly where it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use raft_rsm::raft_core::{Configuration, Incarnation, Member, NodeId};
use raft_rsm::transport::{CallError, Connector};
use raft_rsm::{
    Client, ClientError, ClientOptions, Consistency, MembershipChange, MembershipError, Runtime,
    TransferError,
};

use crate::cluster::{Cluster, Command, Counter, on_both_runtimes};

on_both_runtimes! {
    a_client_finds_the_leader_whoever_it_asks_first
    a_client_gets_through_the_death_of_the_leader
    a_client_without_a_leader_gives_up_at_its_deadline_and_nothing_was_done
    a_lost_answer_is_maybe_and_the_command_is_not_sent_again
    a_lost_answer_is_made_up_for_by_sending_again_and_that_is_told
    a_client_sees_the_status_of_each_node
    requests_that_make_no_sense_are_refused_and_the_replica_lives
    a_client_does_not_hammer_while_there_is_no_leader
    a_client_that_asks_by_lease_is_sent_on_to_the_leader
    a_client_changes_members_hands_the_lead_over_and_has_snapshots_taken
    what_a_leader_refuses_an_operator_reaches_the_client
}

type On = Arc<dyn Runtime>;

/// Loses answers, and counts calls.
struct Lossy {
    inner: Arc<dyn Connector>,
    /// This many answers are lost from here on.
    lose: AtomicU64,
    calls: AtomicU64,
}

#[async_trait]
impl Connector for Lossy {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let proposes = request.get(1) == Some(&1);
        let answer = self.inner.call(to, request, deadline).await?;
        let lose = |left: u64| left.checked_sub(1);
        // Only what was done is of interest: a refusal is two bytes of header and a few more. The client may ask for the
        // members, too.
        let done = proposes && answer.get(1) == Some(&1);
        if done && self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(CallError::MaybeSent { to, reason: "the answer was lost".to_owned() });
        }
        Ok(answer)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.inner.nodes()
    }
}

fn lossy(cluster: &Cluster, lose: u64, deadline: Duration) -> (Client<Counter>, Arc<Lossy>) {
    let connector = Arc::new(Lossy {
        inner: cluster.network.connector(),
        lose: AtomicU64::new(lose),
        calls: AtomicU64::new(0),
    });
    let mut options = ClientOptions::default();
    options.deadline = deadline;
    let client = Client::new(Arc::clone(&connector) as _, Arc::clone(&cluster.runtime), options);
    (client, connector)
}

/// openraft #158, #1716: everyone writes leader discovery and retries anew.
fn a_client_finds_the_leader_whoever_it_asks_first(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    // Each round ends with another leader, and the client knows the old one.
    let client = cluster.client();
    let mut value = 0;
    for _ in 0..3 {
        let leader = cluster.leader();
        value += 1;
        assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(value));
        assert_eq!(cluster.block_on(client.query(&())), Ok(value));
        cluster.network.isolate(leader);
        cluster.leader_of(&cluster.others(leader));
        cluster.network.heal();
    }
}

fn a_client_gets_through_the_death_of_the_leader(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let client = cluster.client();
    assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(1));
    let leader = cluster.leader();
    let others: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            async move { client.propose_until_answered(&Command::Inc).await }
        })
        .collect();
    let disk = cluster.crash(leader);
    for answered in cluster.block_on(join_all(others)) {
        answered.expect("applied");
    }
    cluster.restart(leader, disk);
    let value = cluster.block_on(client.query(&())).expect("answered");
    assert!(value >= 21, "{value}");
    cluster.all_show(value);
}

fn a_client_without_a_leader_gives_up_at_its_deadline_and_nothing_was_done(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let disks: Vec<_> =
        cluster.others(leader).into_iter().map(|id| (id, cluster.crash(id))).collect();
    cluster.loses_its_leader(leader);
    let (client, _) = lossy(&cluster, 0, Duration::from_millis(300));
    let error = cluster.as_time_flies(client.propose(&Command::Dec)).unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
    assert!(!error.may_take_effect());
    assert!(cluster.as_time_flies(client.query(&())).is_err());
    for (id, disk) in disks {
        cluster.restart(id, disk);
    }
    cluster.leader();
    assert_eq!(cluster.block_on(cluster.client().query(&())), Ok(0));
}

/// TiDB 2.1.7: a blind repetition of what may have taken effect.
fn a_lost_answer_is_maybe_and_the_command_is_not_sent_again(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let (client, _) = lossy(&cluster, 1, Duration::from_secs(30));
    let error = cluster.block_on(client.propose(&Command::Inc)).unwrap_err();
    assert!(matches!(error, ClientError::Maybe { .. }), "{error}");
    assert!(error.may_take_effect());
    assert_eq!(cluster.block_on(client.query(&())), Ok(1));
}

fn a_lost_answer_is_made_up_for_by_sending_again_and_that_is_told(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let (client, connector) = lossy(&cluster, 2, Duration::from_secs(30));
    let answered =
        cluster.block_on(client.propose_until_answered(&Command::Inc)).expect("answered");
    assert!(answered.resent);
    assert_eq!(answered.response, 3);
    connector.lose.store(0, Ordering::SeqCst);
    let answered =
        cluster.block_on(client.propose_until_answered(&Command::Inc)).expect("answered");
    assert!(!answered.resent);
    assert_eq!(answered.response, 4);
}

fn a_client_sees_the_status_of_each_node(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let client = cluster.client();
    for id in client.nodes() {
        let status = cluster.block_on(client.status(id)).expect("it answers");
        assert_eq!((status.id, status.leader), (id, Some(leader)));
    }
    let victim = cluster.others(leader)[0];
    let _disk = cluster.crash(victim);
    let error = cluster.block_on(client.status(victim)).unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
}

fn requests_that_make_no_sense_are_refused_and_the_replica_lives(runtime: On) {
    let cluster = Cluster::new(1, runtime);
    let leader = cluster.leader();
    let connector = cluster.network.connector();
    let requests: [&[u8]; 15] = [
        &[],
        &[1],
        &[9, 1, 0],
        &[1, 77],
        // A command, and queries: too short, unknown, too long.
        &[1, 1],
        &[1, 1, 200, 1],
        &[1, 1, 0, 0],
        &[1, 2, 0],
        &[1, 4, 0],
        &[1, 5, 0],
        // A change of membership: none, an unknown one, one of a hundred voters that are not there.
        &[1, 6],
        &[1, 6, 77],
        &[1, 6, 0, 100],
        // A transfer: neither to somebody nor to nobody, and to half of somebody.
        &[1, 7, 2],
        &[1, 7, 1, 200],
    ];
    for request in requests {
        let call = connector.call(leader, Bytes::from_static(request), Duration::from_secs(30));
        let answer = cluster.block_on(call).expect("an answer");
        assert_eq!(answer[..2], [1, 2], "a failure, for {request:?}");
    }
    assert_eq!(cluster.block_on(cluster.client().propose(&Command::Inc)), Ok(1));
}

fn a_client_does_not_hammer_while_there_is_no_leader(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    for id in cluster.others(leader) {
        let _disk = cluster.crash(id);
    }
    cluster.loses_its_leader(leader);
    let (client, connector) = lossy(&cluster, 0, Duration::from_secs(1));
    cluster.as_time_flies(client.propose(&Command::Inc)).expect_err("there is no leader");
    let calls = connector.calls.load(Ordering::SeqCst);
    // Ten rounds or so of three nodes in a second.
    assert!(calls <= 60, "{calls} calls in a second");
}

/// Whoever answers by lease is taken for the leader: a follower must not, else commands begin at it.
fn a_client_that_asks_by_lease_is_sent_on_to_the_leader(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    if cluster.leader() == NodeId(1) {
        let to = Some(NodeId(2));
        cluster.block_on(cluster.raft(NodeId(1)).transfer_leadership(to)).expect("it leads");
        cluster.eventually("another leader", || cluster.leader() != NodeId(1));
    }
    // It begins at node 1.
    let (client, connector) = lossy(&cluster, 0, Duration::from_secs(20));
    let calls = || connector.calls.load(Ordering::SeqCst);
    assert_eq!(cluster.block_on(client.query_with(&(), Consistency::Lease)), Ok(0));
    assert_eq!(calls(), 2, "the follower, then the leader");
    assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(1));
    assert_eq!(calls(), 3, "the leader");
    // Who asks a replica in its own process asks no other one.
    assert_eq!(cluster.block_on(cluster.raft(NodeId(1)).query_with((), Consistency::Lease)), Ok(1));
}

fn a_client_changes_members_hands_the_lead_over_and_has_snapshots_taken(runtime: On) {
    let patience = Duration::from_secs(9);
    let mut cluster = Cluster::new(3, runtime);
    let client = cluster.client();
    assert_eq!(cluster.block_on(client.propose(&Command::Inc)), Ok(1));
    let follower = cluster.others(cluster.leader())[0];
    for consistency in [Consistency::Linearizable, Consistency::Lease] {
        assert_eq!(cluster.block_on(client.query_with(&(), consistency)), Ok(1));
    }
    let led = cluster.block_on(client.transfer_leadership(Some(follower)));
    assert_eq!(led, Ok(follower));
    assert_eq!(cluster.leader(), follower);

    cluster.all_show(1);
    let stale = cluster.block_on(client.query_with(&(), Consistency::Stale));
    assert_eq!(stale, Ok(1));
    let at = cluster.others(follower)[0];
    let taken = cluster.block_on(client.snapshot(at, patience)).expect("taken");
    cluster.eventually("the snapshot", || cluster.status(at).snapshot == Some(taken));

    cluster.start_empty(NodeId(4), 4);
    let joins = Member::of_incarnation(NodeId(4), Incarnation(4), "");
    let joins = MembershipChange::AddVoter(joins);
    let joined = cluster.block_on(client.change_membership(&joins, patience)).expect("joined");
    assert!(joined.is_voter(NodeId(4)));
    let leaves = MembershipChange::Remove(NodeId(4));
    let left = cluster.block_on(client.change_membership(&leaves, patience)).expect("left");
    assert!(!left.contains(NodeId(4)));
}

fn what_a_leader_refuses_an_operator_reaches_the_client(runtime: On) {
    let patience = Duration::from_secs(9);
    let mut cluster = Cluster::with(3, runtime, |options| {
        options.core.catch_up_max = Duration::from_millis(200);
    });
    let leader = cluster.leader();
    let client = cluster.client();
    let change = |change: MembershipChange| {
        cluster.block_on(client.change_membership(&change, patience)).unwrap_err()
    };
    let nobody = change(MembershipChange::To(Configuration::default()));
    assert!(matches!(nobody, ClientError::Membership(MembershipError::Invalid { .. })));
    assert!(!nobody.may_take_effect());
    let absent = change(MembershipChange::AddVoter(Member::new(NodeId(4), "")));
    let ClientError::Membership(MembershipError::NotCaughtUp { id, .. }) = absent else {
        panic!("{absent}")
    };
    assert_eq!(id, NodeId(4));
    let transfer = |to| cluster.block_on(client.transfer_leadership(Some(to))).unwrap_err();
    assert_eq!(transfer(leader), ClientError::Transfer(TransferError::LeadsAlready));
    assert_eq!(transfer(NodeId(9)), ClientError::Transfer(TransferError::NoCandidate));
    let follower = cluster.others(leader)[0];
    cluster.network.isolate(follower);
    let gone = TransferError::TimedOut { to: follower };
    assert_eq!(transfer(follower), ClientError::Transfer(gone));
    let _disk = cluster.crash(follower);
    let error = cluster.block_on(cluster.client().snapshot(follower, patience)).unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
}
