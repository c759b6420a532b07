//! Fast failover: the connection to a leader that died is closed, and nobody waits for a timeout (diss. §9.6 makes it
//! safe to ask too early).

use std::collections::HashSet;

use raft_core::{EntryId, Envelope, Input, Lease, Message, NodeId, Options, Role, Term};

use crate::harness::*;

/// Something that may happen next.
#[derive(Copy, Clone, Debug)]
enum Event {
    /// This follower's connection to the leader is closed.
    Closes(u64),
    Persists(u64),
    /// The message at this place arrives.
    Arrives(usize),
}

/// The survivors of a leader, node 1. No time passes.
struct Survivors {
    cluster: Cluster,
    /// Their connections to the leader are not closed yet.
    connected: Vec<u64>,
    /// What is on its way, in the order of leaving.
    wire: Vec<Envelope>,
}

impl Survivors {
    /// Of a leader that dies when all but `lag` have its last entry.
    fn of(count: u64, lag: Option<u64>) -> Survivors {
        let mut cluster = Cluster::of(count);
        cluster.elect(1);
        cluster.run(100);
        cluster.cut.extend(lag.map(|lag| (1, lag)));
        cluster.at(1).propose("a");
        cluster.settle();
        cluster.heal();
        cluster.kill(1);
        cluster.wire.clear();
        Survivors { cluster, connected: (2..=count).collect(), wire: Vec::new() }
    }

    fn events(&self) -> Vec<Event> {
        let closes = self.connected.iter().map(|node| Event::Closes(*node));
        let alive = self.cluster.replicas.iter().filter(|(id, _)| self.cluster.is_alive(**id));
        let busy = alive.filter(|(_, replica)| replica.write.is_some());
        let persists = busy.map(|(id, _)| Event::Persists(*id));
        closes.chain(persists).chain((0..self.wire.len()).map(Event::Arrives)).collect()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Closes(node) => {
                self.connected.retain(|other| *other != node);
                self.cluster.at(node).step(Input::Disconnected(NodeId(1)));
            }
            Event::Persists(node) => {
                self.cluster.at(node).persist();
            }
            Event::Arrives(place) => {
                let envelope = self.wire.remove(place);
                self.cluster.at(envelope.to.0).step(Input::Receive(envelope));
            }
        }
        self.cluster.collect();
        let left = self.cluster.wire.drain(..);
        self.wire.extend(left.filter(|envelope| envelope.to != NodeId(1)));
    }

    /// The n-th of the events that are possible, for each n of `choices`.
    fn replay(&mut self, choices: &[usize]) {
        for choice in choices {
            let event = self.events()[*choice];
            self.happen(event);
        }
    }

    /// Equal for states from which the same can follow.
    fn fingerprint(&self) -> String {
        let mut wire: Vec<String> = self.wire.iter().map(|sent| format!("{sent:?}")).collect();
        wire.sort();
        let nodes: Vec<_> = self.cluster.replicas.values().map(|r| (&r.node, &r.write)).collect();
        format!("{nodes:?} {wire:?} {:?}", self.connected)
    }

    /// How many rounds of messages it takes, each of which delivers all, until there is a leader; `closes` says in which
    /// one each follower's connection is closed.
    fn rounds_to_a_leader(&mut self, closes: &[usize]) -> usize {
        for round in 0..20 {
            for (node, _) in (2..).zip(closes).filter(|(_, at)| **at == round) {
                self.happen(Event::Closes(node));
            }
            let persists = |survivors: &mut Survivors| {
                let found =
                    survivors.events().into_iter().find(|e| matches!(e, Event::Persists(_)));
                found.map(|event| survivors.happen(event)).is_some()
            };
            while persists(self) {}
            if !self.cluster.leaders().is_empty() {
                return round;
            }
            for _ in 0..self.wire.len() {
                self.happen(Event::Arrives(0));
            }
        }
        panic!("nobody is elected without a timer when the connections close in rounds {closes:?}");
    }
}

/// Every order in which two connections close, messages arrive and disks work: always somebody is elected before any timer
/// runs out.
#[test]
fn two_survivors_elect_a_leader_in_every_order_of_events() {
    for lag in [None, Some(2), Some(3)] {
        let mut seen = HashSet::new();
        let mut paths = vec![Vec::new()];
        let mut ends = 0;
        while let Some(path) = paths.pop() {
            let mut survivors = Survivors::of(3, lag);
            survivors.replay(&path);
            if !seen.insert(survivors.fingerprint()) {
                continue;
            }
            let events = survivors.events();
            let leaders = survivors.cluster.leaders();
            if leaders.is_empty() {
                assert!(!events.is_empty(), "nobody is elected by {path:?}, {lag:?} lags");
                paths.extend((0..events.len()).map(|choice| [&path[..], &[choice]].concat()));
            } else {
                ends += 1;
                assert!(
                    Some(leaders[0]) != lag
                        && survivors.cluster.at(leaders[0]).node.term() == Term(2)
                );
            }
        }
        assert!(ends > 10, "{ends}");
    }
}

/// Two round trips, one for the pre-vote and one for the vote, where the connections close at the same time. Where the last
/// to hear of it is not the one that wins, what it asks is what tells the winner: half a round trip more.
#[test]
fn a_leader_is_elected_within_two_round_trips_and_the_disks_writes() {
    for (count, survivors) in [(3, 2), (5, 4)] {
        for lag in (2..=count).map(Some).chain([None]) {
            for pattern in 0..4_usize.pow(survivors) {
                let closes: Vec<usize> =
                    (0..survivors).map(|node| pattern / 4_usize.pow(node) % 4).collect();
                let (first, last) = (closes.iter().min().unwrap(), closes.iter().max().unwrap());
                let rounds = Survivors::of(count, lag).rounds_to_a_leader(&closes);
                let max = if first == last { 4 } else { 5 };
                assert!(rounds <= last + max, "{rounds} rounds, {lag:?} lags, {closes:?}");
            }
        }
    }
}

/// Without any order among messages even four may split their votes: then it takes a timer, and no more than that.
#[test]
fn four_survivors_elect_a_leader_in_any_order_of_events_and_seldom_need_a_timer() {
    const RUNS: u64 = 1000;
    let mut needed = 0;
    for seed in 0..RUNS {
        let lag = [None, Some(2), Some(3), Some(4), Some(5)][usize::try_from(seed % 5).unwrap()];
        let mut survivors = Survivors::of(5, lag);
        let mut dice = Dice(seed);
        while survivors.cluster.leaders().is_empty() {
            let events = survivors.events();
            if events.is_empty() {
                needed += 1;
                survivors.cluster.run(4000);
                break;
            }
            survivors.happen(events[dice.below(events.len())]);
        }
        assert_eq!(survivors.cluster.leaders().len(), 1, "seed {seed}");
    }
    assert!(needed < RUNS / 20, "{needed} of {RUNS} runs needed a timer");
}

/// One that stands back for another is not lost when that one dies: it asks again after an election timeout.
#[test]
fn whoever_stands_back_for_one_that_dies_is_elected_later() {
    for dies_as in [Role::PreCandidate, Role::Candidate] {
        let mut survivors = Survivors::of(5, None);
        (2..=5).for_each(|node| survivors.happen(Event::Closes(node)));
        while survivors.cluster.at(5).node.role() != dies_as
            || (2..=4).any(|node| survivors.cluster.at(node).node.role() != Role::Follower)
        {
            survivors.happen(Event::Arrives(0));
        }
        survivors.cluster.kill(5);
        survivors.cluster.run(4000);
        let leaders = survivors.cluster.leaders();
        assert!(leaders.len() == 1 && leaders[0] < 5, "{leaders:?} lead");
        let id = survivors.cluster.at(leaders[0]).propose("b");
        survivors.cluster.run(200);
        assert!(survivors.cluster.at(leaders[0]).node.commit() >= id.index);
    }
}

/// The one with the greatest id reaches too few to win, and is always asked for its opinion: it keeps nobody from winning,
/// not even the only one that can.
#[test]
fn a_node_that_cannot_win_holds_up_nobody_though_others_stand_back_for_it() {
    for seed in 0..50 {
        let logs: [&[u64]; 5] = [&[1, 1], &[1, 1], &[1], &[1], &[1, 1]];
        let start = |id: u64| {
            let options = Options { seed: 100 * seed + id, ..Options::new(NodeId(id)) };
            let log = logs[usize::try_from(id).unwrap() - 1];
            Replica::start(options, Disk::with_log(voters(5), log, 1, 0))
        };
        let mut cluster = Cluster::new((1..=5).map(start));
        cluster.dead.insert(1);
        for (a, b) in [(5, 3), (5, 4)] {
            cluster.cut.extend([(a, b), (b, a)]);
        }
        cluster.run(4000);
        assert!(cluster.leaders().contains(&2), "seed {seed}: {:?} lead", cluster.leaders());
    }
}

/// The one with the least id is the only one that reaches a majority: that others go first is for a moment only.
#[test]
fn the_only_one_that_can_win_is_elected_though_all_others_would_go_first() {
    for seed in 0..50 {
        let start = |id: u64| {
            let options = Options { seed: 100 * seed + id, ..Options::new(NodeId(id)) };
            Replica::start(options, Disk::with_log(voters(4), &[1], 1, 0))
        };
        let mut cluster = Cluster::new((1..=4).map(start));
        cluster.dead.insert(4);
        cluster.cut.extend([(2, 3), (3, 2)]);
        cluster.run(8000);
        assert_eq!(cluster.leaders(), [1], "seed {seed}");
    }
}

/// Two whose timers run out at once, whoever hears first of the other.
#[test]
fn two_who_ask_at_the_same_moment_do_not_split_the_votes() {
    for lag in [None, Some(2), Some(3)] {
        for first in [2, 3] {
            let mut survivors = Survivors::of(3, lag);
            for node in [first, 5 - first] {
                survivors.cluster.at(node).time_out();
            }
            survivors.connected.clear();
            survivors.cluster.settle();
            let leaders = survivors.cluster.leaders();
            assert_eq!(leaders, [if lag == Some(3) { 2 } else { 3 }]);
            assert_eq!(survivors.cluster.at(leaders[0]).node.term(), Term(2));
        }
    }
}

/// Replica 1 of 3, which asks whether it could win; its log is longer than that of node 3, which asks the same.
fn ahead_of_a_rival() -> Replica {
    let mut ahead = Replica::with_log(&[1], 1, 0);
    ahead.time_out();
    ahead.sent.clear();
    ahead
}

const QUESTION: Message = Message::PreVote { campaign: Term(2), last: EntryId::ZERO };

fn pre_vote(granted: bool) -> Message {
    Message::PreVoteResponse { campaign: Term(2), granted }
}

/// What it said before may come after what it says now.
#[test]
fn a_refusal_that_comes_before_the_grant_that_overtakes_it_does_not_count() {
    let mut ahead = ahead_of_a_rival();
    ahead.receive(3, pre_vote(false));
    assert_eq!(ahead.node.role(), Role::PreCandidate);
    ahead.receive(3, pre_vote(true));
    assert_eq!(ahead.node.role(), Role::Candidate);
    let mut ahead = ahead_of_a_rival();
    ahead.receive(3, pre_vote(true));
    ahead.receive(3, pre_vote(false));
    assert_eq!(ahead.node.role(), Role::Candidate);
}

/// Whoever asks hears no leader any more, whatever it said before.
#[test]
fn a_rival_that_has_refused_is_asked_again_when_it_asks() {
    let mut ahead = ahead_of_a_rival();
    ahead.receive(3, pre_vote(false));
    ahead.receive(3, QUESTION);
    let own = Message::PreVote { campaign: Term(2), last: id(1, 1) };
    assert_eq!(ahead.sent_to(3), [pre_vote(false), own]);
}

#[test]
fn of_two_who_ask_the_one_with_the_longer_log_goes_first_then_the_one_with_the_greater_id() {
    for (log, last, stands_back) in
        [(&[1][..], id(0, 0), false), (&[1], id(1, 1), true), (&[], id(1, 1), true)]
    {
        let mut replica = Replica::with_log(log, 1, 0);
        replica.time_out();
        replica.sent.clear();
        replica.receive(3, Message::PreVote { campaign: Term(2), last });
        assert_eq!(replica.sent_to(3)[0], pre_vote(stands_back));
        assert_eq!(replica.node.role() == Role::Follower, stands_back, "{log:?} {last}");
    }
    let options = Options::new(NodeId(3));
    let mut greater = Replica::start(options, Disk::with_log(voters(3), &[1], 1, 0));
    greater.time_out();
    greater.sent.clear();
    greater.receive(1, Message::PreVote { campaign: Term(2), last: id(1, 1) });
    assert_eq!(
        (greater.node.role(), greater.sent_to(1)[0].clone()),
        (Role::PreCandidate, pre_vote(false))
    );
}

/// It may go on for long without being elected, so whoever stands back waits as long as whoever has voted.
#[test]
fn whoever_stands_back_waits_for_another_election_timeout() {
    let mut replica = Replica::with_log(&[1], 1, 0);
    replica.time_out();
    for _ in 0..40 {
        replica.tick(10);
    }
    replica.receive(3, Message::PreVote { campaign: Term(2), last: id(1, 1) });
    assert_eq!(replica.node.role(), Role::Follower);
    assert!(replica.node.next_tick() >= replica.now + ms(500));
}

/// It could not be elected: to stand back for it would help nobody.
#[test]
fn nobody_stands_back_for_a_node_that_is_no_voter() {
    let mut replica = Replica::with_log(&[1], 1, 0);
    replica.time_out();
    replica.sent.clear();
    replica.receive(9, Message::PreVote { campaign: Term(2), last: id(1, 1) });
    assert_eq!(replica.node.role(), Role::PreCandidate);
    assert_eq!(replica.sent_to(9), [pre_vote(true)], "the configuration here may be an old one");
}

/// Whoever asks too early is told that the leader is heard, and follows again.
#[test]
fn a_connection_that_is_closed_while_the_leader_lives_deposes_nobody_and_raises_no_term() {
    for (count, closes) in [(3, &[2][..]), (3, &[3]), (5, &[2, 5]), (5, &[4, 3])] {
        let mut cluster = Cluster::of(count);
        cluster.elect(1);
        for _ in 0..50 {
            cluster.run(150);
            for node in closes {
                cluster.at(*node).step(Input::Disconnected(NodeId(1)));
                assert_eq!(cluster.at(*node).node.role(), Role::PreCandidate);
            }
            cluster.settle();
            assert_eq!(cluster.leaders(), [1]);
        }
        cluster.run(100);
        for node in 1..=count {
            let node = &cluster.at(node).node;
            assert_eq!((node.term(), node.leader()), (Term(1), Some(NodeId(1))));
        }
    }
}

/// It is the leader's connection alone that counts, and only for followers.
#[test]
fn the_connection_to_another_node_closes_and_a_follower_does_nothing() {
    let mut follower = Replica::first_of(3);
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    follower.sent.clear();
    follower.step(Input::Disconnected(NodeId(3)));
    follower.step(Input::Disconnected(NodeId(9)));
    assert_eq!((follower.node.role(), follower.sent.len()), (Role::Follower, 0));
    assert_eq!(follower.node.leader(), Some(NodeId(2)));
    let members = raft_core::Configuration::new([2, 3].map(NodeId), [NodeId(1)]);
    let mut learner = Replica::start(Options::new(NodeId(1)), Disk::empty(members));
    learner.receive_in(1, 2, heartbeat(0, 1));
    learner.sent.clear();
    learner.step(Input::Disconnected(NodeId(2)));
    learner.tick(10_000);
    assert_eq!((learner.node.role(), learner.sent.len()), (Role::Follower, 0));
    assert_eq!(learner.node.leader(), None, "it shows no leader that is gone");
}

/// Absurd, but no reason to give up the lead without a word to those who wait.
#[test]
fn a_leader_that_is_told_of_a_connection_to_itself_leads_on() {
    let mut leader = Replica::leader_of(3);
    leader.node.read_index().unwrap();
    leader.step(Input::Disconnected(NodeId(1)));
    assert_eq!((leader.node.role(), leader.node.leader()), (Role::Leader, Some(NodeId(1))));
    assert_eq!(leader.reads, []);
}

/// The leader may be alive and cut off, and answer reads until its lease ends (diss. §6.4.1).
#[test]
fn a_lease_that_the_leader_may_hold_is_waited_for_and_nothing_else() {
    let lease = Some(Lease { clock_drift_ppm: 0 });
    let start = |id| {
        let options = Options { lease, ..Options::new(NodeId(id)) };
        Replica::start(options, Disk::empty(voters(3)))
    };
    let mut cluster = Cluster::new((1..=3).map(start));
    cluster.elect(1);
    cluster.run(300);
    cluster.kill(1);
    for node in [2, 3] {
        cluster.at(node).step(Input::Disconnected(NodeId(1)));
        assert_eq!(cluster.at(node).node.role(), Role::Follower);
        assert_eq!(cluster.at(node).node.leader(), None);
        assert_eq!(cluster.at(node).node.next_tick(), cluster.at(node).now + ms(500));
    }
    let tick = |cluster: &mut Cluster| {
        (2..=3).for_each(|node| cluster.at(node).tick(1));
        cluster.settle();
    };
    for _ in 0..499 {
        tick(&mut cluster);
        assert!(cluster.leaders().is_empty());
        assert_eq!(cluster.at(2).node.term(), Term(1));
    }
    tick(&mut cluster);
    assert_eq!(cluster.leaders(), [3], "at the moment at which it ends");
}

/// Without a pre-vote to ask, an election would depose a leader that is alive.
#[test]
fn without_pre_vote_nothing_is_hastened() {
    let options = Options { pre_vote: false, ..Options::new(NodeId(1)) };
    let mut follower = Replica::start(options, Disk::empty(voters(3)));
    follower.receive_in(1, 2, heartbeat(0, 1));
    follower.persist_all();
    follower.sent.clear();
    let due = follower.node.next_tick();
    follower.step(Input::Disconnected(NodeId(2)));
    assert_eq!((follower.node.role(), follower.node.next_tick()), (Role::Follower, due));
    assert_eq!((follower.sent.len(), follower.node.leader()), (0, Some(NodeId(2))));
    follower.receive_in(2, 3, Message::RequestVote { last: id(9, 9), transfer: false });
    assert_eq!(follower.node.term(), Term(1), "the leader passes for heard");
}

/// Of a generator that is good enough for orders.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}
