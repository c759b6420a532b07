//! Random inputs: loss, duplication, reordering, crashes that keep only what is durable, slow disks, tiny limits. After
//! each step [`crate::cluster`] checks Figure 3; at the end everything heals, and the cluster must go on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use raft_core::{
    AppendOutcome, Configuration, Effects, Entry, EntryId, Envelope, Incarnation, Input, Lease,
    LogIndex, Member, Message, Node, NodeId, Options, Payload, ReadOutcome, Restored, Role, Term,
};

use crate::cluster::{Cluster, Happened};

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
    /// A change of membership to these sets, as bits by node, is asked for; `named`: under their incarnations.
    Change {
        node: u8,
        voters: u8,
        learners: u8,
        named: u8,
    },
    /// Voters whose disks were wiped become members anew.
    Readmit {
        as_learner: bool,
    },
    /// A disk is lost, or a machine given up that runs on.
    Wipe {
        node: u8,
        runs_on: bool,
    },
    /// A disk that passed for lost is there again, or the machine.
    BringBack {
        at: u8,
        as_it_was: bool,
    },
    TransferLeadership {
        node: u8,
        to: Option<u8>,
    },
    Read {
        node: u8,
    },
    /// For this long messages arrive in order and disks write, but where links are cut or nodes are down.
    Calm {
        ms: u8,
    },
}

impl Arbitrary for Event {
    fn arbitrary(g: &mut Gen) -> Event {
        let byte = u8::arbitrary;
        match u16::arbitrary(g) % 115 {
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
            99 => Event::Heal,
            100..103 => {
                Event::Change { node: byte(g), voters: byte(g), learners: byte(g), named: byte(g) }
            }
            103 => Event::Readmit { as_learner: bool::arbitrary(g) },
            104 => Event::Wipe { node: byte(g), runs_on: bool::arbitrary(g) },
            105 => Event::BringBack { at: byte(g), as_it_was: bool::arbitrary(g) },
            106..109 => Event::TransferLeadership { node: byte(g), to: Option::arbitrary(g) },
            _ => Event::Read { node: byte(g) },
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
    // A lease needs CheckQuorum at all nodes.
    options.lease = (on(2) && on(8)).then_some(Lease { clock_drift_ppm: 0 });
    options.catch_up_max = Duration::from_millis(if on(9) { 200 } else { 3_000 });
    options
}

/// Whether a node that was removed and does not know it disturbs nobody: all ask first, or all who hear a leader refuse.
fn removed_nodes_disturb_nobody(settings: u16) -> bool {
    settings & 0b101 != 0
}

/// Where a cluster begins: whose incarnations may not be known yet.
fn beginning(configuration: &Configuration, settings: u16) -> Configuration {
    if settings & (1 << 10) == 0 {
        return configuration.clone();
    }
    let unnamed = |member: &Member| Member::new(member.id, "");
    let voters = configuration.voters().iter().map(unnamed);
    let learners = configuration.learners().iter().map(unnamed);
    Configuration::of_members(voters, [], learners)
}

/// The voters and learners whose bits are set; the first node where there would be no voters.
fn target(cluster: &Cluster, voters: u8, learners: u8, named: u8) -> Configuration {
    let (mut voting, mut learning) = (Vec::new(), Vec::new());
    for (at, id) in cluster.ids().into_iter().enumerate() {
        let on = |bits: u8| bits & (1 << (at % 8)) != 0;
        let member = cluster.member(id, on(named));
        if on(voters) {
            voting.push(member);
        } else if on(learners) {
            learning.push(member);
        }
    }
    if voting.is_empty() {
        let first = cluster.ids()[0];
        voting.push(cluster.member(first, false));
        learning.retain(|member| member.id != first);
    }
    Configuration::of_members(voting, [], learning)
}

fn tell(story: &Story, configuration: &Configuration, spares: u64) -> Happened {
    let configuration = beginning(configuration, story.settings);
    let mut cluster = Cluster::new(configuration, spares, |id| options(id, story.settings));
    let ids = cluster.ids();
    let node = |n: &u8| ids[usize::from(*n) % ids.len()];
    // Requests mostly go to whom they are for.
    let asked = |cluster: &Cluster, n: &u8| match n % 4 {
        0 => node(&(n / 4)),
        _ => cluster.leader().unwrap_or(node(&(n / 4))),
    };
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
            Event::Change { node: n, voters, learners, named } => {
                let target = target(&cluster, *voters, *learners, *named);
                cluster.change(asked(&cluster, n), &target);
            }
            Event::Readmit { as_learner } => {
                if let Some(leader) = cluster.leader() {
                    cluster.readmit(leader, *as_learner);
                }
            }
            Event::Wipe { node: n, runs_on } => cluster.wipe(node(n), *runs_on),
            Event::BringBack { at, as_it_was } => cluster.bring_back((*at).into(), *as_it_was),
            Event::TransferLeadership { node: n, to } => {
                cluster.transfer_leadership(asked(&cluster, n), to.as_ref().map(node));
            }
            Event::Read { node: n } => cluster.read(node(n)),
            Event::Calm { ms } => cluster.run(Duration::from_millis(u64::from(*ms) * 4)),
        }
    }
    heal_and_go_on(&mut cluster, story.settings);
    cluster.happened
}

/// Everything works again: within 10 s of virtual time there is a leader, it leads everybody into one configuration, and
/// a new command is applied everywhere.
fn heal_and_go_on(cluster: &mut Cluster, settings: u16) {
    cluster.cut.clear();
    for id in cluster.ids() {
        cluster.start(id);
        cluster.drain(id);
    }
    quieten(cluster, settings);
    // Where not all ask first, votes may be split again and again.
    let tries = if settings & 1 == 0 { 6 } else { 1 };
    let elected = (0..tries).any(|_| {
        cluster.run(Duration::from_secs(10));
        cluster.leader().is_some()
    });
    assert!(elected, "a leader within 10 s of healing");
    cluster.check_that_no_read_waits();
    let leader = change_everybody(cluster, settings);
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

/// Where removed nodes would disturb those who are left, somebody has to end them.
fn quieten(cluster: &mut Cluster, settings: u16) {
    let quiet = removed_nodes_disturb_nobody(settings)
        || (0..60).any(|_| {
            cluster.run(Duration::from_millis(500));
            cluster.stop_who_was_removed()
        });
    assert!(quiet, "a leader within 30 s");
}

/// Makes the first three nodes voters and all others learners, and returns who leads them.
fn change_everybody(cluster: &mut Cluster, settings: u16) -> NodeId {
    for _ in 0..6 {
        quieten(cluster, settings);
        let Some(leader) = cluster.leader() else { continue };
        let target = target(cluster, 0b111, 0xff, 0xff);
        if cluster.change(leader, &target) {
            for id in cluster.ids() {
                cluster.start(id);
            }
        }
        cluster.run(Duration::from_secs(5));
        let Some(leader) = cluster.leader() else { continue };
        let node = cluster.servers[&leader].node.as_ref().unwrap();
        if *node.configuration() == target && node.configuration_is_committed() {
            return leader;
        }
    }
    let nodes = cluster.servers.values().map(|server| server.node.as_ref().map(Node::status));
    panic!("no change succeeds though all is well: {:#?}", nodes.collect::<Vec<_>>());
}

/// Tells random stories, and what happened in all of them.
fn check(configuration: Configuration, spares: u64, stories: u64) -> Happened {
    let all = Arc::new(Mutex::new(Happened::default()));
    let happened = Arc::clone(&all);
    let property = move |story: Story| {
        let told = tell(&story, &configuration, spares);
        happened.lock().unwrap().add(&told);
    };
    let stories = std::env::var("STORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(stories);
    QuickCheck::new().tests(stories).max_tests(stories).quickcheck(Fixed(property));
    let all = *all.lock().unwrap();
    if std::env::var_os("SHOW").is_some() {
        println!("{all:#?}");
    }
    all
}

/// A property that panics where it does not hold.
struct Fixed<F>(F);

/// The story says more than all that the nodes know at its end.
const WHY_CHARS: usize = 300;

impl<F: Fn(Story) + 'static> quickcheck::Testable for Fixed<F> {
    fn result(&self, g: &mut Gen) -> quickcheck::TestResult {
        let story = Story::arbitrary(g);
        let told = |story: &Story| {
            let story = story.clone();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.0)(story)))
        };
        let holds = |story: &Story| told(story).is_ok();
        if holds(&story) {
            return quickcheck::TestResult::passed();
        }
        // Shorter stories are easier to read. Pieces of all sizes are left out first: that is quick.
        let mut shortest = story;
        let mut piece = shortest.events.len() / 2;
        while piece > 0 {
            let mut at = 0;
            while at + piece <= shortest.events.len() {
                let mut shorter = shortest.clone();
                shorter.events.drain(at..at + piece);
                match holds(&shorter) {
                    true => at += piece,
                    false => shortest = shorter,
                }
            }
            piece /= 2;
        }
        while let Some(shorter) = shortest.shrink().find(|shorter| !holds(shorter)) {
            shortest = shorter;
        }
        let why = told(&shortest).err().map_or_else(String::new, |panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or(panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            text.chars().take(WHY_CHARS).collect()
        });
        quickcheck::TestResult::error(format!("{shortest:?}\nbecause {why}"))
    }
}

fn voters(n: u64) -> Configuration {
    Configuration::new((1..=n).map(NodeId), [])
}

/// Stories in which nothing happened would show nothing.
fn assert_that_all_kinds_happened(happened: &Happened) {
    for (kind, count) in happened.kinds() {
        assert!(count > 0, "{kind} never happened: {happened:#?}");
    }
}

#[test]
fn three_nodes_and_two_spares_keep_the_properties_of_figure_3() {
    assert_that_all_kinds_happened(&check(voters(3), 2, 250));
}

#[test]
fn five_nodes_and_a_spare_keep_the_properties_of_figure_3() {
    check(voters(5), 1, 100);
}

#[test]
fn one_node_and_three_spares_keep_the_properties_of_figure_3() {
    check(voters(1), 3, 60);
}

#[test]
fn learners_keep_the_properties_of_figure_3() {
    check(Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId)), 0, 60);
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
            3 => Message::VoteResponse {
                candidate: Incarnation(number(g)),
                granted: bool::arbitrary(g),
            },
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
                outcome: match number(g) % 3 {
                    0 => ReadOutcome::Confirmed(LogIndex(number(g))),
                    1 => ReadOutcome::LostLeader,
                    _ => ReadOutcome::Busy,
                },
            },
        };
        let from = NodeId(u64::arbitrary(g) % 4);
        let to = NodeId(if u8::arbitrary(g) % 8 == 0 { 2 } else { 1 });
        let incarnation = Incarnation(u64::arbitrary(g) % 2);
        let (term, is_meant) = (Term(number(g)), bool::arbitrary(g));
        Absurd(Envelope { from, incarnation, is_meant, to, term, message })
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
    let mut cluster = Cluster::new(voters(3), 0, Options::new);
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
    tell(&Story { settings: 8358 & 0xff, lazy: 98, events }, &voters(3), 0);
}

#[test]
fn a_disk_slower_than_elections_does_not_keep_the_only_voter_from_leading() {
    let mut cluster = Cluster::new(voters(1), 0, Options::new);
    // Every write takes three seconds: several election timeouts.
    for _ in 0..2 {
        for _ in 0..300 {
            cluster.tick(Duration::from_millis(10), true);
        }
        cluster.persist(NodeId(1), true);
    }
    assert_eq!(cluster.leader(), Some(NodeId(1)));
}

/// A random story that was found: a voter and a former incarnation, which has no vote, asked each other for pre-votes at
/// each refusal, as fast as the network carries them.
#[test]
fn two_that_refuse_each_other_their_pre_votes_come_to_rest() {
    let story = Story {
        settings: 60169,
        lazy: 238,
        events: vec![
            Event::Wipe { node: 13, runs_on: false },
            Event::Tick { ms: 54 },
            Event::Wipe { node: 117, runs_on: false },
            Event::Tick { ms: 35 },
            Event::Tick { ms: 60 },
            Event::Tick { ms: 9 },
            Event::Tick { ms: 29 },
            Event::BringBack { at: 72, as_it_was: false },
            Event::Tick { ms: 63 },
            Event::BringBack { at: 92, as_it_was: false },
            Event::Tick { ms: 43 },
            Event::BringBack { at: 19, as_it_was: false },
            Event::Wipe { node: 214, runs_on: false },
            Event::Tick { ms: 24 },
            Event::BringBack { at: 234, as_it_was: false },
            Event::Tick { ms: 39 },
            Event::Tick { ms: 24 },
            Event::Wipe { node: 36, runs_on: false },
            Event::Tick { ms: 55 },
            Event::BringBack { at: 172, as_it_was: false },
            Event::Tick { ms: 16 },
            Event::Start { node: 39 },
            Event::Tick { ms: 27 },
            Event::Tick { ms: 56 },
            Event::Tick { ms: 12 },
            Event::Tick { ms: 11 },
            Event::Tick { ms: 55 },
            Event::Tick { ms: 11 },
            Event::Tick { ms: 187 },
            Event::Calm { ms: 23 },
            Event::Tick { ms: 62 },
            Event::Deliver { at: 159 },
            Event::Deliver { at: 15 },
            Event::Start { node: 72 },
            Event::Lose { at: 252 },
            Event::Tick { ms: 29 },
            Event::Tick { ms: 19 },
            Event::Deliver { at: 54 },
            Event::Deliver { at: 0 },
            Event::Deliver { at: 28 },
            Event::Deliver { at: 46 },
            Event::Deliver { at: 169 },
            Event::Persist { node: 255 },
            Event::Deliver { at: 255 },
            Event::Deliver { at: 250 },
            Event::Persist { node: 140 },
            Event::Deliver { at: 221 },
            Event::Deliver { at: 118 },
            Event::Deliver { at: 148 },
            Event::Persist { node: 138 },
            Event::Deliver { at: 120 },
            Event::Deliver { at: 214 },
            Event::Tick { ms: 11 },
            Event::Tick { ms: 21 },
            Event::Tick { ms: 53 },
            Event::Tick { ms: 18 },
            Event::Tick { ms: 43 },
            Event::Tick { ms: 62 },
            Event::BringBack { at: 0, as_it_was: false },
            Event::Tick { ms: 26 },
            Event::Tick { ms: 38 },
            Event::Tick { ms: 55 },
            Event::Tick { ms: 49 },
            Event::Tick { ms: 52 },
            Event::Readmit { as_learner: true },
            Event::Tick { ms: 43 },
            Event::BringBack { at: 0, as_it_was: false },
            Event::Start { node: 204 },
            Event::Calm { ms: 255 },
        ],
    };
    let _ = tell(&story, &voters(5), 1);
}
