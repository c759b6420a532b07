//! Random inputs: loss, duplication, reordering, crashes that keep only what is durable, slow disks, tiny limits. After
//! each step [`crate::cluster`] checks Figure 3; at the end everything heals, and the cluster must go on.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use raft_core::{
    AppendOutcome, Configuration, Effects, Entry, EntryId, Envelope, Incarnation, Input, LogIndex,
    Message, Node, NodeId, Options, Payload, Restored, Role, Term,
};

use crate::cluster::Cluster;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Tick {
        ms: u8,
    },
    Deliver {
        at: u8,
    },
    Duplicate {
        at: u8,
    },
    Lose {
        at: u8,
    },
    Persist {
        node: u8,
    },
    Propose {
        node: u8,
        bytes: u8,
    },
    Applied {
        node: u8,
    },
    Fetched {
        node: u8,
    },
    Snapshot {
        node: u8,
    },
    Transfer {
        succeed: bool,
    },
    Disconnect {
        node: u8,
        peer: u8,
    },
    Crash {
        node: u8,
    },
    Start {
        node: u8,
    },
    Cut {
        from: u8,
        to: u8,
    },
    Heal,
    /// For this long messages arrive in order and disks write, but where links are cut or nodes are down.
    Calm {
        ms: u8,
    },
}

impl Arbitrary for Event {
    fn arbitrary(g: &mut Gen) -> Event {
        let byte = u8::arbitrary;
        match byte(g) % 100 {
            0..7 => Event::Tick { ms: byte(g) % 64 },
            7 => Event::Tick { ms: byte(g) },
            8 => Event::Calm { ms: byte(g) },
            9..52 => Event::Deliver { at: byte(g) },
            52..54 => Event::Duplicate { at: byte(g) },
            54..57 => Event::Lose { at: byte(g) },
            57..75 => Event::Persist { node: byte(g) },
            75..84 => Event::Propose { node: byte(g), bytes: byte(g) },
            84..88 => Event::Applied { node: byte(g) },
            88..90 => Event::Fetched { node: byte(g) },
            90..92 => Event::Snapshot { node: byte(g) },
            92..94 => Event::Transfer { succeed: bool::arbitrary(g) },
            94 => Event::Disconnect { node: byte(g), peer: byte(g) },
            95 => Event::Crash { node: byte(g) },
            96..98 => Event::Start { node: byte(g) },
            98 => Event::Cut { from: byte(g), to: byte(g) },
            _ => Event::Heal,
        }
    }
}

/// A cluster's settings, and what happens to it.
#[derive(Clone, Debug)]
struct Story {
    settings: u16,
    /// Whether a node's effects wait for the next event that touches it, by the event's place.
    lazy: u8,
    events: Vec<Event>,
}

impl Arbitrary for Story {
    fn arbitrary(g: &mut Gen) -> Story {
        let length = 200 + usize::arbitrary(g) % 1_800;
        let events = (0..length).map(|_| Event::arbitrary(g)).collect();
        Story { settings: u16::arbitrary(g), lazy: u8::arbitrary(g), events }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Story>> {
        let Story { settings, lazy, events } = self.clone();
        Box::new(events.shrink().map(move |events| Story { settings, lazy, events }))
    }
}

fn options(id: NodeId, settings: u16) -> Options {
    let on = |bit: u16| settings & (1 << bit) != 0;
    let mut options = Options::new(id);
    // On for all, off for all, and mixed.
    options.pre_vote = on(0) || (on(1) && id.0.is_multiple_of(2));
    options.check_quorum = on(2) || (on(3) && id.0.is_multiple_of(2));
    let limits = &mut options.limits;
    if on(4) {
        limits.tail_bytes_max = 700;
        limits.uncommitted_bytes_max = 500;
    }
    if on(5) {
        limits.message_bytes_max = 200;
        limits.inflight_messages_max = 2;
    }
    if on(6) {
        limits.applying_entries_max = 2;
        limits.write_bytes_max = 200;
    }
    limits.kept_entries_max = if on(7) { 0 } else { 3 };
    options
}

fn tell(story: &Story, configuration: Configuration) {
    let mut cluster = Cluster::new(configuration, |id| options(id, story.settings));
    let ids = cluster.ids();
    let node = |n: &u8| ids[usize::from(*n) % ids.len()];
    for (at, event) in story.events.iter().enumerate() {
        let drain = story.lazy == 0 || at % usize::from(story.lazy) != 0;
        match event {
            Event::Tick { ms } => cluster.tick(Duration::from_millis((*ms).into()), drain),
            Event::Deliver { at } => cluster.deliver((*at).into(), false, drain),
            Event::Duplicate { at } => cluster.deliver((*at).into(), true, drain),
            Event::Lose { at } if !cluster.network.is_empty() => {
                let at = usize::from(*at) % cluster.network.len();
                cluster.network.remove(at);
            }
            Event::Lose { .. } => {}
            Event::Persist { node: n } => cluster.persist(node(n), drain),
            Event::Propose { node: n, bytes } => {
                cluster.propose(node(n), (*bytes).into());
                cluster.drain(node(n));
            }
            Event::Applied { node: n } => cluster.report_applied(node(n), drain),
            Event::Fetched { node: n } => cluster.answer_fetch(node(n), drain),
            Event::Snapshot { node: n } => cluster.take_snapshot(node(n), drain),
            Event::Transfer { succeed } => cluster.finish_transfer(*succeed, drain),
            Event::Disconnect { node: n, peer } => {
                cluster.step(node(n), Input::Disconnected(node(peer)), drain);
            }
            Event::Crash { node: n } => cluster.crash(node(n)),
            Event::Start { node: n } => cluster.start(node(n)),
            Event::Cut { from, to } => cluster.cut.push((node(from), node(to))),
            Event::Heal => cluster.cut.clear(),
            Event::Calm { ms } => cluster.run(Duration::from_millis(u64::from(*ms) * 4)),
        }
    }
    heal_and_go_on(&mut cluster);
    if std::env::var_os("SHOW").is_some() {
        println!("{:?}", cluster.happened);
    }
}

/// Everything works again: within 10 s of virtual time all agree, and a new command is applied everywhere.
fn heal_and_go_on(cluster: &mut Cluster) {
    cluster.cut.clear();
    for id in cluster.ids() {
        cluster.start(id);
        cluster.drain(id);
    }
    cluster.run(Duration::from_secs(10));
    let leader = cluster.leader().expect("a leader within 10 s of healing");
    let id = cluster.propose(leader, 8).expect("a healthy leader takes proposals");
    cluster.drain(leader);
    cluster.run(Duration::from_secs(1));
    let state = cluster.servers[&leader].state;
    assert!(state.applied >= id.index, "a command commits once all is well");
    for (id, server) in &cluster.servers {
        let leader = cluster.servers[&leader].node.as_ref().map(Node::status);
        let status = server.node.as_ref().map(Node::status);
        assert_eq!(server.state, state, "node {id} has not caught up: {status:#?} of {leader:#?}");
    }
}

fn check(configuration: Configuration, stories: u64) {
    let property = move |story: Story| tell(&story, configuration.clone());
    let stories = std::env::var("STORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(stories);
    QuickCheck::new().tests(stories).quickcheck(Fixed(property));
}

/// A property that panics where it does not hold.
struct Fixed<F>(F);

impl<F: Fn(Story) + 'static> quickcheck::Testable for Fixed<F> {
    fn result(&self, g: &mut Gen) -> quickcheck::TestResult {
        let story = Story::arbitrary(g);
        let holds = |story: &Story| {
            let story = story.clone();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.0)(story))).is_ok()
        };
        if holds(&story) {
            return quickcheck::TestResult::passed();
        }
        // Shorter stories are easier to read.
        let mut shortest = story;
        while let Some(shorter) = shortest.shrink().find(|shorter| !holds(shorter)) {
            shortest = shorter;
        }
        quickcheck::TestResult::error(format!("{shortest:?}"))
    }
}

fn voters(n: u64) -> Configuration {
    Configuration::new((1..=n).map(NodeId), [])
}

#[test]
fn three_nodes_keep_the_properties_of_figure_3() {
    check(voters(3), 150);
}

#[test]
fn five_nodes_keep_the_properties_of_figure_3() {
    check(voters(5), 100);
}

#[test]
fn one_node_keeps_the_properties_of_figure_3() {
    check(voters(1), 30);
}

#[test]
fn learners_keep_the_properties_of_figure_3() {
    check(Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId)), 60);
}

/// A message of which any field may be absurd.
#[derive(Clone, Debug)]
struct Absurd(Envelope);

impl Arbitrary for Absurd {
    fn arbitrary(g: &mut Gen) -> Absurd {
        let number = |g: &mut Gen| *g.choose(&[0, 1, 2, 3, 5, 9, u64::MAX - 1, u64::MAX]).unwrap();
        let id = |g: &mut Gen| EntryId::new(Term(number(g)), LogIndex(number(g)));
        let message = match u8::arbitrary(g) % 12 {
            0 => Message::PreVote { campaign: Term(number(g)), last: id(g) },
            1 => {
                Message::PreVoteResponse { campaign: Term(number(g)), granted: bool::arbitrary(g) }
            }
            2 => Message::RequestVote { last: id(g), transfer: bool::arbitrary(g) },
            3 => Message::VoteResponse { granted: bool::arbitrary(g) },
            4 => {
                let previous = id(g);
                let first = previous.index.0.wrapping_add(u64::from(u8::arbitrary(g) % 8 != 0));
                let entry = |i| {
                    let id = EntryId::new(previous.term, LogIndex(first.wrapping_add(i)));
                    let members = (0..i).map(NodeId);
                    match i % 2 {
                        0 => Entry::command(id, vec![0; 8]),
                        _ => Entry {
                            id,
                            payload: Payload::Configuration(Configuration::joint(
                                members.clone().skip(1),
                                members,
                                [NodeId(first % 3)],
                            )),
                        },
                    }
                };
                let entries = (0..u64::arbitrary(g) % 4).map(entry).collect();
                Message::AppendEntries { previous, entries, commit: LogIndex(number(g)) }
            }
            5 => Message::AppendResponse(AppendOutcome::Accepted { matched: LogIndex(number(g)) }),
            6 => Message::AppendResponse(AppendOutcome::Rejected {
                previous: LogIndex(number(g)),
                hint: id(g),
            }),
            7 => Message::Heartbeat {
                commit: LogIndex(number(g)),
                round: bool::arbitrary(g).then(|| number(g)),
            },
            8 => Message::HeartbeatResponse { round: number(g), received: LogIndex(number(g)) },
            9 => Message::TimeoutNow,
            10 => Message::ReadIndex { context: number(g) },
            _ => Message::ReadIndexResponse {
                context: number(g),
                index: bool::arbitrary(g).then(|| LogIndex(number(g))),
            },
        };
        let from = NodeId(u64::arbitrary(g) % 4);
        let to = NodeId(if u8::arbitrary(g) % 8 == 0 { 2 } else { 1 });
        let incarnation = Incarnation(u64::arbitrary(g) % 2);
        Absurd(Envelope { from, incarnation, to, term: Term(number(g)), message })
    }
}

#[test]
fn no_message_however_absurd_makes_a_node_panic() {
    fn survives(messages: Vec<Absurd>, leads: bool) -> bool {
        let configuration = voters(if leads { 1 } else { 3 });
        let restored = Restored::first_start(configuration);
        let mut node = Node::new(Options::new(NodeId(1)), restored).unwrap();
        let mut effects = Effects::default();
        let mut now = Duration::ZERO;
        for Absurd(envelope) in messages {
            now += Duration::from_millis(100);
            node.step(Input::Tick(now));
            node.step(Input::Receive(envelope));
            node.drain(&mut effects);
            if let Some(write) = effects.write.take() {
                node.step(Input::Persisted(write.id));
            }
        }
        true
    }
    QuickCheck::new().tests(2_000).quickcheck(survives as fn(Vec<Absurd>, bool) -> bool);
}

#[test]
fn a_long_undisturbed_run_has_one_leader_and_one_term() {
    let mut cluster = Cluster::new(voters(3), Options::new);
    cluster.run(Duration::from_secs(3));
    let leader = cluster.leader().expect("a leader");
    let term = cluster.servers[&leader].node.as_ref().unwrap().term();
    for _ in 0..100 {
        cluster.propose(leader, 100).expect("room");
        cluster.drain(leader);
        cluster.run(Duration::from_millis(100));
    }
    let node = cluster.servers[&leader].node.as_ref().unwrap();
    assert_eq!((node.role(), node.term()), (Role::Leader, term));
    assert!(cluster.servers.values().all(|server| server.state == cluster.servers[&leader].state));
}

/// Found by the stories above: the leader asked again for an answer that covers an index, while that index
/// was compacted, and neither side moved any more.
#[test]
fn a_lost_acknowledgement_of_what_is_compacted_meanwhile_is_recovered() {
    use Event::{Calm, Cut, Deliver, Persist, Propose, Snapshot, Tick};
    let events = vec![
        Tick { ms: 46 },
        Calm { ms: 113 },
        Tick { ms: 63 },
        Tick { ms: 42 },
        Cut { from: 229, to: 27 },
        Tick { ms: 49 },
        Calm { ms: 142 },
        Propose { node: 126, bytes: 212 },
        Deliver { at: 71 },
        Persist { node: 77 },
        Deliver { at: 118 },
        Persist { node: 213 },
        Snapshot { node: 66 },
    ];
    tell(&Story { settings: 8358, lazy: 98, events }, voters(3));
}

#[test]
fn a_disk_slower_than_elections_does_not_keep_the_only_voter_from_leading() {
    let mut cluster = Cluster::new(voters(1), Options::new);
    // Every write takes three seconds: several election timeouts.
    for _ in 0..2 {
        for _ in 0..300 {
            cluster.tick(Duration::from_millis(10), true);
        }
        cluster.persist(NodeId(1), true);
    }
    assert_eq!(cluster.leader(), Some(NodeId(1)));
}
