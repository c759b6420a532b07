//! Changes of membership over the handle: who joins, who leaves, and what whoever asked is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raft_rsm::raft_core::{Configuration, Incarnation, Member, NodeId};
use raft_rsm::storage::MemoryStorage;
use raft_rsm::{MembershipChange, MembershipError, Options, Runtime, Uncertain};

use crate::cluster::{Cluster, Command, ELECTION_TIMEOUT, on_both_runtimes};

on_both_runtimes! {
    an_empty_node_joins_catches_up_and_votes
    a_node_joins_by_a_snapshot_where_the_log_is_compacted
    a_learner_takes_no_part_in_decisions_and_can_be_promoted
    a_removed_follower_is_told_and_the_others_go_on
    a_leader_that_removes_itself_hands_the_lead_over
    all_three_nodes_are_replaced_under_load
    a_second_change_is_refused_while_one_is_under_way
    a_node_that_is_down_does_not_become_a_voter_and_stays_a_learner
    whoever_waits_for_a_change_hears_that_the_lead_is_lost
    whoever_waits_for_a_change_waits_no_longer_than_its_deadline
    a_joining_node_that_is_restarted_half_way_joins_all_the_same
    a_wiped_node_is_admitted_again_under_its_new_incarnation
    a_wiped_node_that_is_not_admitted_again_counts_for_nothing
    only_a_leader_changes_members_and_senseless_ones_are_refused
}

type On = Arc<dyn Runtime>;

const FOUR: NodeId = NodeId(4);

fn member(id: NodeId, incarnation: u64) -> Member {
    Member::of_incarnation(id, Incarnation(incarnation), "")
}

fn change(cluster: &Cluster, change: MembershipChange) -> Result<Configuration, MembershipError> {
    let leader = cluster.leader();
    cluster.block_on(cluster.raft(leader).change_membership(change))
}

fn ids(members: &[Member]) -> Vec<u64> {
    members.iter().map(|member| member.id.0).collect()
}

fn propose(cluster: &Cluster, count: u64) {
    let client = cluster.client();
    for _ in 0..count {
        cluster.block_on(client.propose(&Command::Inc)).expect("applied");
    }
}

fn an_empty_node_joins_catches_up_and_votes(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    propose(&cluster, 20);
    let leader = cluster.leader();
    cluster.start_empty(FOUR, 4);
    let joins = MembershipChange::AddVoter(member(FOUR, 4));
    let joined = cluster.block_on(cluster.raft(leader).change_membership(joins)).expect("joined");
    assert_eq!(ids(joined.voters()), [1, 2, 3, 4]);
    assert!(joined.learners().is_empty());
    propose(&cluster, 1);
    cluster.all_show(21);
    // Four voters need three: it is one of them.
    let other = cluster.others(cluster.leader()).into_iter().find(|id| *id != FOUR);
    let _disk = cluster.crash(other.expect("a follower"));
    propose(&cluster, 1);
    cluster.all_show(22);
    for id in cluster.replicas.keys() {
        assert_eq!(cluster.status(*id).configuration, joined);
    }
}

fn a_node_joins_by_a_snapshot_where_the_log_is_compacted(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, |options| options.core.limits.kept_entries_max = 0);
    propose(&cluster, 20);
    cluster.all_show(20);
    for replica in cluster.replicas.values() {
        cluster.block_on(replica.raft.snapshot()).expect("taken");
    }
    let leader = cluster.leader();
    cluster.start_empty(FOUR, 4);
    let joins = MembershipChange::AddVoter(member(FOUR, 4));
    let joined = cluster.block_on(cluster.raft(leader).change_membership(joins)).expect("joined");
    assert_eq!(ids(joined.voters()), [1, 2, 3, 4]);
    cluster.all_show(20);
    assert_eq!(cluster.seen(FOUR).restores, 1);
}

fn a_learner_takes_no_part_in_decisions_and_can_be_promoted(runtime: On) {
    let mut cluster = Cluster::with(1, runtime, |options| {
        options.request_timeout = Duration::from_secs(2);
    });
    let leader = cluster.leader();
    cluster.start_empty(FOUR, 4);
    let learns = MembershipChange::AddLearner(member(FOUR, 4));
    let learned = cluster.block_on(cluster.raft(leader).change_membership(learns)).expect("added");
    assert_eq!((ids(learned.voters()), ids(learned.learners())), (vec![1], vec![4]));
    propose(&cluster, 3);
    cluster.all_show(3);
    let disk = cluster.crash(FOUR);
    propose(&cluster, 1);
    cluster.restart(FOUR, disk);
    let promoted = change(&cluster, MembershipChange::AddVoter(Member::new(FOUR, "")));
    let promoted = promoted.expect("promoted");
    assert_eq!((ids(promoted.voters()), ids(promoted.learners())), (vec![1, 4], vec![]));
    cluster.all_show(4);
    // Both are needed now.
    let _disk = cluster.crash(FOUR);
    let error = cluster.as_time_flies(cluster.raft(leader).propose(Command::Inc)).unwrap_err();
    assert!(error.may_take_effect(), "{error}");
}

fn a_removed_follower_is_told_and_the_others_go_on(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let leaves = cluster.others(leader)[0];
    let left = change(&cluster, MembershipChange::Remove(leaves)).expect("removed");
    assert!(!left.contains(leaves));
    cluster.eventually("word of its removal", || cluster.status(leaves).configuration == left);
    let term = cluster.status(leader).term;
    propose(&cluster, 5);
    // It campaigns no more, and deposes nobody (diss. §4.2.3): it would by now.
    cluster.pause(2 * ELECTION_TIMEOUT);
    assert_eq!(cluster.status(leader).term, term);
    let error = cluster.block_on(cluster.raft(leaves).propose(Command::Inc)).unwrap_err();
    assert!(!error.may_take_effect());
}

fn a_leader_that_removes_itself_hands_the_lead_over(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        // Nobody waits so long in this test: whoever leads next was told to.
        options.core.election_timeout = Duration::from_secs(3);
        options.core.seed = 5;
    });
    let old = cluster.leader();
    let asked_at = cluster.runtime.now();
    let left = cluster.block_on(cluster.raft(old).change_membership(MembershipChange::Remove(old)));
    assert!(!left.expect("removed").contains(old));
    let others = cluster.others(old);
    let new = cluster.leader_of(&others);
    assert!(others.contains(&new));
    let took = cluster.runtime.now().saturating_sub(asked_at);
    assert!(took < Duration::from_secs(3), "they waited for an election timeout: {took:?}");
    cluster.block_on(cluster.raft(new).propose(Command::Inc)).expect("applied");
    assert!(cluster.status(old).leader != Some(old));
}

fn all_three_nodes_are_replaced_under_load(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    let load = Load::begin(&cluster);
    for (old, new) in [(1, 4), (2, 5), (3, 6)].map(|(old, new)| (NodeId(old), NodeId(new))) {
        cluster.start_empty(new, new.0);
        // Whoever leads changes in between, so the one that is asked may lose the lead: then it is asked again.
        cluster.eventually("joined node", || {
            change_once(&cluster, MembershipChange::AddVoter(member(new, new.0)))
        });
        load.goes_on(&cluster);
        cluster.eventually("removed node", || change_once(&cluster, MembershipChange::Remove(old)));
        let _disk = cluster.crash(old);
        load.goes_on(&cluster);
    }
    let value = load.end(&cluster);
    cluster.eventually("the value everywhere", || {
        cluster.replicas.keys().all(|id| cluster.seen(*id).value >= value)
    });
    let leader = cluster.leader();
    assert_eq!(ids(cluster.status(leader).configuration.voters()), [4, 5, 6]);
}

/// Clients that propose and query, each one thing after the other, until they are told to end.
struct Load {
    done: Arc<AtomicBool>,
    /// How often one of them has proposed and queried.
    rounds: Arc<AtomicU64>,
    clients: Vec<futures::channel::oneshot::Receiver<u64>>,
}

impl Load {
    fn begin(cluster: &Cluster) -> Load {
        let (done, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..4).map(|_| {
            let (done, rounds) = (Arc::clone(&done), Arc::clone(&rounds));
            let client = cluster.patient_client(Duration::from_secs(1));
            cluster.in_background(async move {
                let mut value = 0;
                while !done.load(Ordering::SeqCst) {
                    // One operation may be tried only at nodes that have left meanwhile; then there is another one.
                    let Ok(answered) = client.propose_until_answered(&Command::Inc).await else {
                        continue;
                    };
                    assert!(answered.response > value, "{answered:?} after {value}");
                    value = answered.response;
                    if let Ok(seen) = client.query(&()).await {
                        assert!(seen >= value, "a query sees {seen} after {value}");
                        rounds.fetch_add(1, Ordering::SeqCst);
                    }
                }
                value
            })
        });
        let clients = clients.collect();
        Load { done, rounds, clients }
    }

    fn goes_on(&self, cluster: &Cluster) {
        let before = self.rounds.load(Ordering::SeqCst);
        cluster.eventually("progress", || self.rounds.load(Ordering::SeqCst) >= before + 20);
    }

    /// Returns the greatest response.
    fn end(self, cluster: &Cluster) -> u64 {
        self.done.store(true, Ordering::SeqCst);
        let values = self.clients.into_iter().map(|client| cluster.block_on(client));
        values.map(|value| value.expect("no client has failed")).max().expect("some")
    }
}

/// Asks whoever leads, once. Whether the members are as wished.
fn change_once(cluster: &Cluster, change: MembershipChange) -> bool {
    let leads = |id: &NodeId| cluster.status(*id).leader == Some(*id);
    let Some(leader) = cluster.replicas.keys().copied().find(leads) else { return false };
    cluster.block_on(cluster.raft(leader).change_membership(change)).is_ok()
}

fn a_second_change_is_refused_while_one_is_under_way(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    // It waits for a node that is not there.
    let raft = cluster.raft(leader).clone();
    let joins = MembershipChange::AddVoter(member(FOUR, 4));
    let first = cluster.in_background(async move { raft.change_membership(joins).await });
    cluster.eventually("its begin", || cluster.status(leader).configuration.contains(FOUR));
    let configuration = cluster.status(leader).configuration;
    let second = change(&cluster, MembershipChange::Remove(cluster.others(leader)[0]));
    assert_eq!(second, Err(MembershipError::InProgress { configuration }));
    drop(first);
}

fn quick_to_give_up(options: &mut Options) {
    options.core.catch_up_max = Duration::from_millis(300);
}

fn a_node_that_is_down_does_not_become_a_voter_and_stays_a_learner(runtime: On) {
    let mut cluster = Cluster::with(3, runtime, quick_to_give_up);
    let joins = || MembershipChange::AddVoter(member(FOUR, 4));
    let Err(MembershipError::NotCaughtUp { id, configuration }) = change(&cluster, joins()) else {
        panic!("it is not there");
    };
    assert_eq!(id, FOUR);
    assert_eq!(
        (ids(configuration.voters()), ids(configuration.learners())),
        (vec![1, 2, 3], vec![4])
    );
    propose(&cluster, 3);
    // Once it is there, it can.
    cluster.start_empty(FOUR, 4);
    cluster.all_show(3);
    assert_eq!(ids(change(&cluster, joins()).expect("joined").voters()), [1, 2, 3, 4]);
}

fn whoever_waits_for_a_change_hears_that_the_lead_is_lost(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let raft = cluster.raft(leader).clone();
    let joins = MembershipChange::AddVoter(member(FOUR, 4));
    let waits = cluster.in_background(async move { raft.change_membership(joins).await });
    cluster.eventually("its begin", || cluster.status(leader).configuration.contains(FOUR));
    cluster.network.isolate(leader);
    let error = cluster.as_time_flies(waits).expect("answered").unwrap_err();
    assert_eq!(error, MembershipError::Maybe(Uncertain::LostLead));
}

fn whoever_waits_for_a_change_waits_no_longer_than_its_deadline(runtime: On) {
    let cluster = Cluster::with(3, runtime, |options| {
        options.core.catch_up_max = Duration::from_millis(100);
        options.request_timeout = Duration::from_millis(100);
        options.core.check_quorum = false;
    });
    let leader = cluster.leader();
    cluster.network.isolate(leader);
    let leaves = MembershipChange::Remove(cluster.others(leader)[0]);
    let raft = cluster.raft(leader).clone();
    let error = cluster.block_on(raft.change_membership(leaves)).unwrap_err();
    assert_eq!(error, MembershipError::Maybe(Uncertain::TimedOut));
    // It is under way all the same, so there is no second one, and a lost caller is no lost change.
    let again = cluster.block_on(raft.change_membership(MembershipChange::Remove(leader)));
    assert!(matches!(again, Err(MembershipError::InProgress { .. })), "{again:?}");
}

fn a_joining_node_that_is_restarted_half_way_joins_all_the_same(runtime: On) {
    let mut cluster = Cluster::new(3, runtime);
    propose(&cluster, 10);
    let leader = cluster.leader();
    cluster.start_empty(FOUR, 4);
    // It is there, and hears nothing yet.
    cluster.network.isolate(FOUR);
    let raft = cluster.raft(leader).clone();
    let joins = MembershipChange::AddVoter(member(FOUR, 4));
    let joined = cluster.in_background(async move { raft.change_membership(joins).await });
    cluster.eventually("its begin", || cluster.status(leader).configuration.contains(FOUR));
    cluster.network.heal();
    cluster.eventually("a first word", || cluster.status(FOUR).last.index.0 > 0);
    let disk = cluster.crash(FOUR);
    cluster.restart(FOUR, disk);
    let joined = cluster.block_on(joined).expect("answered").expect("joined");
    assert_eq!(ids(joined.voters()), [1, 2, 3, 4]);
    cluster.all_show(10);
}

/// The members are named with the incarnation under which they were heard first, so a wiped disk is noticed.
fn of_named_incarnations(runtime: On) -> Cluster {
    let cluster = Cluster::new(3, runtime);
    propose(&cluster, 10);
    cluster.all_show(10);
    cluster
}

fn a_wiped_node_is_admitted_again_under_its_new_incarnation(runtime: On) {
    let mut cluster = of_named_incarnations(runtime);
    let wiped = cluster.others(cluster.leader())[0];
    let _lost = cluster.crash(wiped);
    cluster.start_empty(wiped, 77);
    let others = cluster.others(wiped);
    let leader = cluster.leader_of(&others);
    let back = MembershipChange::AddVoter(member(wiped, 77));
    let back = cluster.block_on(cluster.raft(leader).change_membership(back)).expect("back");
    assert_eq!(ids(back.voters()), [1, 2, 3]);
    let is_named = |member: &Member| member.incarnation == Some(Incarnation(77));
    assert!(back.member(wiped).is_some_and(is_named));
    cluster.all_show(10);
    // It counts again.
    let other = others.into_iter().find(|id| *id != cluster.leader()).expect("a follower");
    let _disk = cluster.crash(other);
    propose(&cluster, 1);
    cluster.all_show(11);
}

/// A vote or an acknowledgement of a node that has forgotten what it said before (diss. §11.7.2).
fn a_wiped_node_that_is_not_admitted_again_counts_for_nothing(runtime: On) {
    let mut cluster = of_named_incarnations(runtime);
    let leader = cluster.leader();
    let [wiped, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let _lost = cluster.crash(wiped);
    let configuration =
        Configuration::of_members([1, 2, 3].map(|id| Member::new(NodeId(id), "")), [], []);
    // It even believes that it is a member.
    cluster.restart(wiped, MemoryStorage::of_incarnation(Incarnation(77), configuration));
    propose(&cluster, 1);
    let disk = cluster.crash(other);
    cluster.loses_its_leader(leader);
    let error = cluster.block_on(cluster.raft(leader).propose(Command::Inc)).unwrap_err();
    assert!(!error.may_take_effect(), "{error}");
    cluster.restart(other, disk);
    cluster.leader_of(&[leader, other]);
    propose(&cluster, 1);
}

fn only_a_leader_changes_members_and_senseless_ones_are_refused(runtime: On) {
    let cluster = Cluster::new(3, runtime);
    let leader = cluster.leader();
    let follower = cluster.others(leader)[0];
    let leaves = || MembershipChange::Remove(follower);
    let error = cluster.block_on(cluster.raft(follower).change_membership(leaves())).unwrap_err();
    assert_eq!(error, MembershipError::NotLeader { leader: Some(leader) });
    let nobody = MembershipChange::To(Configuration::default());
    assert!(matches!(change(&cluster, nobody), Err(MembershipError::Invalid { .. })));
    // What is so already is done at once.
    let configuration = cluster.status(leader).configuration;
    assert_eq!(change(&cluster, MembershipChange::To(configuration.clone())), Ok(configuration));
    let stopped = cluster.raft(follower);
    cluster.block_on(stopped.shutdown());
    let error = cluster.block_on(stopped.change_membership(leaves())).unwrap_err();
    assert_eq!(error, MembershipError::Stopped);
}
