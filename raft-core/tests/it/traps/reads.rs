//! Reads that are stale, or lost.

use std::collections::BTreeMap;

use raft_core::{
    Input, Lease, LogIndex, Message, NodeId, Options, Read, ReadId, ReadOutcome, ReadRefused, Role,
};

use crate::harness::*;

fn read(replica: &mut Replica) -> ReadId {
    let id = replica.node.read_index().expect("it is taken up");
    replica.drain();
    id
}

fn with_lease(id: u64, clock_drift_ppm: u32) -> Options {
    Options { lease: Some(Lease { clock_drift_ppm }), ..Options::new(NodeId(id)) }
}

fn cluster_with_leases(count: u64, clock_drift_ppm: u32) -> Cluster {
    let start = |id| Replica::start(with_lease(id, clock_drift_ppm), Disk::empty(voters(count)));
    Cluster::new((1..=count).map(start))
}

/// etcd #7331, redis-raft #18 and #19: a new leader knows of less that is committed than its predecessor did.
#[test]
fn a_new_leader_gives_out_no_index_before_it_knows_what_is_committed() {
    let mut cluster = cluster_with_leases(3, 0);
    cluster.elect(1);
    cluster.run(300);
    let id = cluster.at(1).propose("a");
    // Everybody has the entry, and node 1 alone knows that it is committed, and has answered its client.
    cluster.deliver();
    (1..=3).for_each(|node| cluster.at(node).persist_all());
    cluster.deliver();
    assert_eq!(cluster.at(1).node.commit(), id.index);
    cluster.kill(1);
    cluster.wire.clear();
    for _ in 0..100 {
        if cluster.leaders().is_empty() {
            (2..=3).for_each(|node| cluster.at(node).tick(50));
            cluster.deliver();
            (2..=3).for_each(|node| cluster.at(node).persist_all());
        }
    }
    let leader = cluster.leaders()[0];
    assert!(cluster.at(leader).node.commit() < id.index, "it does not know it yet");
    // A follower may ask as soon as it has heard of the leader.
    cluster.at(leader).tick(100);
    cluster.deliver();
    let other = 5 - leader;
    let asked = [leader, other].map(|node| (node, read(cluster.at(node))));
    assert_eq!(cluster.at(leader).node.read_by_lease(), None);
    cluster.settle();
    for (node, asked) in asked {
        let found = cluster.at(node).reads.clone();
        let [Read { id: of, index: Ok(index) }] = found[..] else { panic!("{found:?}") };
        assert!(of == asked && index >= id.index, "{index:?} at {node}");
    }
}

/// etcd #20418: a name that is used again, so that an answer to the one who died confirms a read of the one who lives.
#[test]
fn a_late_answer_to_a_former_life_confirms_no_read() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    let former = read(&mut follower);
    follower.options.seed += 1;
    follower.crash();
    // The same leader in the same term.
    follower.receive_in(1, 2, heartbeat(0, 2));
    let asked: Vec<ReadId> = (0..10).map(|_| read(&mut follower)).collect();
    assert!(!asked.contains(&former));
    let (context, outcome) = (former.0, ReadOutcome::Confirmed(LogIndex(0)));
    follower.receive(2, Message::ReadIndexResponse { context, outcome });
    assert_eq!(follower.reads, []);
}

/// etcd #20418: the same with the rounds of a leader.
#[test]
fn rounds_of_heartbeats_do_not_begin_at_the_same_number_in_each_life() {
    let first_round = |seed| {
        let options = Options { seed, ..Options::new(NodeId(1)) };
        let mut leader = Replica::leader(options, Disk::empty(voters(3)));
        leader.tick(100);
        leader.last_round(2).unwrap()
    };
    let mut rounds: Vec<u64> = (0..100).map(first_round).collect();
    rounds.sort_unstable();
    assert!(rounds.windows(2).all(|pair| pair[1] - pair[0] > 1_000_000), "{rounds:?}");
}

/// openraft d60f1e85: a quorum of one less.
#[test]
fn a_read_needs_a_whole_majority_whatever_the_number_of_voters() {
    for count in 2..=12 {
        let mut leader = Replica::leader_of(count);
        let id = read(&mut leader);
        let round = leader.last_round(2).unwrap();
        for (answers, peer) in (1..).zip(leader.peers()) {
            assert_eq!(leader.reads.is_empty(), answers <= count / 2, "{answers} of {count}");
            leader.receive(peer, Message::HeartbeatResponse { round, received: LogIndex(1) });
        }
        assert_eq!(leader.reads, [Read { id, index: Ok(LogIndex(1)) }]);
    }
}

/// etcd #12704, openraft #1747: a lease that outlives the transfer.
#[test]
fn a_lease_does_not_survive_a_transfer() {
    let mut cluster = cluster_with_leases(3, 0);
    cluster.elect(1);
    cluster.run(300);
    assert!(cluster.at(1).node.read_by_lease().is_some());
    cluster.at(1).node.transfer_leadership(Some(NodeId(2))).unwrap();
    cluster.at(1).drain();
    // Nothing arrives at node 1 any more: it does not hear that another leads, long before a timeout.
    cluster.collect();
    cluster.cut.extend([(2, 1), (3, 1)]);
    cluster.settle();
    assert_eq!(cluster.leaders(), [1, 2]);
    let id = cluster.at(2).propose("new");
    cluster.settle();
    assert!(cluster.at(2).node.commit() >= id.index);
    assert_eq!(cluster.at(1).node.read_by_lease(), None, "it would not contain that");
}

/// Time passes by ten milliseconds a step, on the leader's clock by nine and on the voters' by eleven. The leader is cut
/// off. How many steps its lease overlaps with the lead of another.
fn steps_with_a_lease_and_another_leader(clock_drift_ppm: u32) -> usize {
    let mut cluster = cluster_with_leases(3, clock_drift_ppm);
    cluster.elect(1);
    let step = |cluster: &mut Cluster| {
        for (node, milliseconds) in [(1, 9), (2, 11), (3, 11)] {
            cluster.at(node).tick(milliseconds);
        }
        cluster.settle();
    };
    (0..50).for_each(|_| step(&mut cluster));
    assert!(cluster.at(1).node.read_by_lease().is_some());
    cluster.partition(&[1]);
    for node in [2, 3] {
        cluster.at(node).step(Input::Disconnected(NodeId(1)));
    }
    let mut overlap = 0;
    for _ in 0..100 {
        step(&mut cluster);
        let another = cluster.leaders().iter().any(|leader| *leader > 1);
        overlap += usize::from(another && cluster.at(1).node.read_by_lease().is_some());
    }
    assert!(cluster.leaders().iter().any(|leader| *leader > 1));
    overlap
}

/// tikv #1593: a lease on clocks that drift.
#[test]
fn a_lease_has_ended_before_another_leads_when_the_clocks_drift_as_far_as_is_stated() {
    assert_eq!(steps_with_a_lease_and_another_leader(100_000), 0);
    assert!(steps_with_a_lease_and_another_leader(0) > 0, "else this test would prove nothing");
}

/// Numbers that are good enough for stories.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// A cluster in which all kinds of things happen, and what is asked of it.
struct Story {
    cluster: Cluster,
    count: u64,
    dice: Dice,
    /// The greatest commit index that anybody knows.
    committed: LogIndex,
    /// Reads that have not come out yet: node, name; what was committed when they were asked for, and when.
    asked: BTreeMap<(u64, ReadId), (LogIndex, u64)>,
    confirmed: usize,
    by_lease: usize,
    step: u64,
}

impl Story {
    fn new(seed: u64) -> Story {
        let count = 3 + 2 * (seed % 2);
        let lease = (!seed.is_multiple_of(3)).then_some(Lease { clock_drift_ppm: 0 });
        let start = |id: u64| {
            let seed = 1000 * seed + id;
            let options = Options { lease, seed, ..Options::new(NodeId(id)) };
            Replica::start(options, Disk::empty(voters(count)))
        };
        Story {
            cluster: Cluster::new((1..=count).map(start)),
            count,
            dice: Dice(seed),
            committed: LogIndex(0),
            asked: BTreeMap::new(),
            confirmed: 0,
            by_lease: 0,
            step: 0,
        }
    }

    fn go_on(&mut self) {
        self.step += 1;
        let node = 1 + self.dice.below(self.count);
        let alive = self.cluster.is_alive(node);
        match self.dice.below(100) {
            0 if alive => {
                self.cluster.kill(node);
                self.asked.retain(|(at, _), _| *at != node);
            }
            0..4 if !alive => {
                self.cluster.at(node).options.seed += 1_000_000;
                self.cluster.at(node).reads.clear();
                self.cluster.restart(node);
            }
            4 => self.cluster.partition(&[node]),
            5..8 => self.cluster.heal(),
            8 if alive => {
                let other = 1 + self.dice.below(self.count);
                self.cluster.at(node).step(Input::Disconnected(NodeId(other)));
            }
            9 if alive => {
                let _ = self.cluster.at(node).node.transfer_leadership(None);
                self.cluster.at(node).drain();
            }
            10..40 if alive => {
                if let Ok(id) = self.cluster.at(node).node.read_index() {
                    self.asked.insert((node, id), (self.committed, self.step));
                }
                self.cluster.at(node).drain();
            }
            40..60 if alive => {
                let _ = self.cluster.at(node).node.propose("x".into());
                self.cluster.at(node).drain();
            }
            _ => {}
        }
        self.pass();
        self.check();
    }

    /// Ten milliseconds pass, a part of the messages arrives, in any order, and some writes become durable.
    fn pass(&mut self) {
        for node in 1..=self.count {
            self.cluster.at(node).now += ms(10);
            if self.cluster.is_alive(node) {
                self.cluster.at(node).tick(0);
            }
        }
        self.cluster.collect();
        for _ in 0..self.dice.below(30) {
            let len = self.cluster.wire.len() as u64;
            if len == 0 {
                break;
            }
            // Mostly the oldest, now and then any; some are lost, some arrive twice.
            let place = if self.dice.below(4) == 0 { self.dice.below(len) } else { 0 };
            let place = usize::try_from(place).unwrap();
            let envelope = self.cluster.wire.remove(place).unwrap();
            let (from, to) = (envelope.from.0, envelope.to.0);
            if self.dice.below(50) == 0 {
                self.cluster.wire.push_back(envelope.clone());
            }
            let lost = self.cluster.cut.contains(&(from, to)) || self.dice.below(50) == 0;
            if !lost && self.cluster.is_alive(to) {
                self.cluster.at(to).step(Input::Receive(envelope));
            }
            if self.dice.below(2) == 0 && self.cluster.is_alive(to) {
                self.cluster.at(to).persist();
                self.cluster.at(to).read_all();
            }
            self.cluster.collect();
        }
    }

    fn check(&mut self) {
        for node in 1..=self.count {
            let alive = self.cluster.is_alive(node);
            for Read { id, index } in core::mem::take(&mut self.cluster.at(node).reads) {
                let asked = self.asked.remove(&(node, id));
                let (committed, _) = asked.expect("it was asked for, and comes out once");
                if let Ok(index) = index {
                    assert!(index >= committed, "a stale read: {index} < {committed}");
                    self.confirmed += 1;
                }
            }
            if alive {
                self.committed = self.committed.max(self.cluster.at(node).node.commit());
            }
        }
        for node in (1..=self.count).filter(|node| self.cluster.is_alive(*node)) {
            if let Some(index) = self.cluster.replicas[&node].node.read_by_lease() {
                assert!(index >= self.committed, "a stale read by a lease at {node}");
                self.by_lease += 1;
            }
        }
        // A follower gives up after half a second, a leader that hears nobody, too.
        let oldest = self.asked.values().map(|(_, step)| *step).min();
        assert!(oldest.is_none_or(|step| self.step - step < 1000), "{:?} waits", self.asked);
    }
}

/// raft-rs #167 and #332: reads that vanish; tikv #7971: a batch of reads that shares an index from before some of them.
/// Whatever happens: each comes out once, and none is stale.
#[test]
fn every_read_that_is_taken_up_comes_out_once_and_none_is_stale() {
    let stories = std::env::var("STORIES").map_or(60, |count| count.parse().unwrap());
    let (mut confirmed, mut by_lease) = (0, 0);
    for seed in 0..stories {
        let told = std::panic::catch_unwind(|| {
            let mut story = Story::new(seed);
            (0..3000).for_each(|_| story.go_on());
            (story.confirmed, story.by_lease)
        });
        let told = told.unwrap_or_else(|_| panic!("seed {seed}"));
        confirmed += told.0;
        by_lease += told.1;
    }
    assert!(confirmed > 10_000 && by_lease > 10_000, "{confirmed}, {by_lease}: it proves nothing");
}

/// raft-rs #167: a read that is asked for while nobody leads, or while the lead is handed over.
#[test]
fn a_read_at_a_leader_that_hands_over_is_answered_or_refused() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(300);
    cluster.at(1).node.transfer_leadership(Some(NodeId(2))).unwrap();
    cluster.at(1).drain();
    let asked = [1, 2, 3].map(|node| (node, read(cluster.at(node))));
    cluster.settle();
    assert_eq!(cluster.at(2).node.role(), Role::Leader);
    for (node, id) in asked {
        let found = cluster.at(node).reads.clone();
        let expected = [Ok(LogIndex(1)), Err(ReadRefused::LostLeader)];
        assert!(found.len() == 1 && found[0].id == id, "at {node}: {found:?}");
        assert!(expected.contains(&found[0].index), "at {node}: {found:?}");
    }
}
