//! The contracts of [`Transport`] and [`Connector`], a check for each sentence. Each check panics when the transport
//! breaks its sentence; [`transport_conformance!`](crate::transport_conformance) makes a test of each.

#![allow(clippy::expect_used, reason = "a check fails by a panic")]

mod stand;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::{join_all, select};
use raft_core::{
    AppendOutcome, Configuration, Entry, EntryId, Envelope, Incarnation, LogIndex, Member, Message,
    NodeId, Payload, ReadOutcome, SnapshotMeta, Term,
};

use self::stand::{Answering, Stand, wait_until};
use crate::Runtime;
use crate::transport::{
    CallError, Checksum, Connector, Packet, SnapshotChunk, SnapshotResponse, SnapshotStatus,
    Transport,
};
use crate::wire::encode_packet;

/// A transport under test: a network of the nodes 1, 2 and 3.
pub trait Network {
    /// The runtime that everything runs on.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// The transport of a node, not started. Called again for the same node, after the earlier one has shut down, it
    /// is the node restarted: with the same address.
    fn transport(&self, id: NodeId) -> Arc<dyn Transport>;

    /// The nodes of which there is a transport, as [`Transport::set_peers`] takes it. A transport that has no use for
    /// addresses may leave them empty, and one that does not tell incarnations apart names none.
    fn peers(&self) -> Vec<Member>;

    /// A client that can reach all three.
    fn connector(&self) -> Arc<dyn Connector>;
}

/// Makes a test of each check of [`crate::testing::transport`]. The argument is an expression that makes the
/// [`Network`]; it is evaluated once a test.
#[macro_export]
macro_rules! transport_conformance {
    ($network:expr) => {
        $crate::transport_conformance!(@tests $network;
            a_packet_of_each_kind_arrives_unchanged
            a_large_packet_arrives_unchanged
            the_longest_packet_that_is_carried_arrives_unchanged
            packets_for_several_nodes_arrive_at_each
            sending_never_waits_however_full_the_queue_is
            a_node_that_restarts_is_reached_again
            peers_that_are_named_are_reached
            naming_the_same_peers_again_disturbs_nothing
            a_peer_is_the_incarnation_that_is_named
            a_peer_that_goes_away_is_reported
            a_request_is_answered
            a_large_request_has_a_large_answer
            requests_in_flight_are_answered_in_any_order
            a_request_without_an_answer_fails_at_once_and_may_have_taken_effect
            a_request_fails_at_its_deadline_and_may_have_taken_effect
            a_request_under_way_fails_when_the_node_goes_away_and_may_have_taken_effect
            a_request_to_a_node_that_is_not_there_was_not_sent
            a_node_that_restarts_is_called_again
            a_request_arrives_although_its_caller_has_gone_away
            a_client_knows_the_nodes
            after_a_shutdown_nothing_is_delivered
        );
    };
    (@tests $network:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::testing::transport::$check(&$network);
            }
        )*
    };
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Longer than any answer takes: a guard against hanging.
const LONG: Duration = Duration::from_secs(30);

/// `send`: what arrives is what was sent.
pub fn a_packet_of_each_kind_arrives_unchanged(network: &dyn Network) {
    let stand = Stand::new(network);
    for packet in packets() {
        assert_eq!(stand.send_until_it_arrives(&packet), packet);
    }
    stand.shutdown();
}

/// `send`: as large as messages and chunks are.
pub fn a_large_packet_arrives_unchanged(network: &dyn Network) {
    let stand = Stand::new(network);
    let entry = |index: u32| {
        let id = EntryId::new(Term(1), LogIndex(index.into()));
        Entry::command(id, index.to_le_bytes().repeat(64))
    };
    let entries = (1..=4_096).map(entry).collect();
    let append = Message::AppendEntries { previous: EntryId::ZERO, entries, commit: LogIndex(1) };
    for packet in [
        raft(append),
        chunk(512 << 10),
        raft(Message::VoteResponse { candidate: Incarnation(0), granted: true }),
    ] {
        let arrived = stand.send_until_it_arrives(&packet);
        // Not by assert_eq: a megabyte of text helps nobody.
        assert!(arrived == packet, "a packet has changed on its way");
    }
    stand.shutdown();
}

/// `packet_bytes_max`: so long a packet is carried.
pub fn the_longest_packet_that_is_carried_arrives_unchanged(network: &dyn Network) {
    let stand = Stand::new(network);
    let others_bytes = encode_packet(&chunk(0)).len();
    if let Some(bytes) = stand.transport(ONE).packet_bytes_max() {
        let packet = chunk(bytes.checked_sub(others_bytes).expect("a chunk is carried"));
        let arrived = stand.send_until_it_arrives(&packet);
        assert!(arrived == packet, "a packet has changed on its way");
    }
    stand.shutdown();
}

/// `send`: each packet arrives where it was meant to, and nowhere else.
pub fn packets_for_several_nodes_arrive_at_each(network: &dyn Network) {
    let stand = Stand::new(network);
    for (from, to) in [(ONE, TWO), (ONE, THREE), (TWO, THREE), (THREE, ONE), (TWO, ONE)] {
        let packet = Packet::Raft(Envelope {
            from,
            incarnation: Incarnation(from.0),
            is_meant: from == TWO,
            to,
            term: Term(from.0 * 10 + to.0),
            message: Message::VoteResponse { candidate: Incarnation(0), granted: false },
        });
        assert_eq!(stand.send_until_it_arrives(&packet), packet);
    }
    for id in [ONE, TWO, THREE] {
        assert!(stand.packets(id).iter().all(|packet| packet.to() == id));
    }
    stand.shutdown();
}

/// `send`: returns at once; a queue that is full drops. (openraft #1810, #833: one hung peer stops the loop for all.)
pub fn sending_never_waits_however_full_the_queue_is(network: &dyn Network) {
    let stand = Stand::new(network);
    block_on(stand.transport(TWO).shutdown());
    // Some gigabytes, were they kept: each shares its memory with the others.
    let packet = chunk(256 << 10);
    for _ in 0..20_000 {
        stand.transport(ONE).send(packet.clone());
    }
    let packet = raft_between(
        ONE,
        THREE,
        Message::VoteResponse { candidate: Incarnation(0), granted: true },
    );
    assert_eq!(stand.send_until_it_arrives(&packet), packet, "others are reached all the same");
    stand.shutdown();
}

/// A peer that restarts, at the same address, is found again.
pub fn a_node_that_restarts_is_reached_again(network: &dyn Network) {
    let mut stand = Stand::new(network);
    let packet = raft(Message::VoteResponse { candidate: Incarnation(0), granted: true });
    for _ in 0..3 {
        stand.send_until_it_arrives(&packet);
        stand.restart(network, TWO);
        assert!(stand.packets(TWO).is_empty());
    }
    stand.send_until_it_arrives(&packet);
    let back =
        raft_between(TWO, ONE, Message::VoteResponse { candidate: Incarnation(0), granted: true });
    stand.send_until_it_arrives(&back);
    stand.shutdown();
}

/// `set_peers`: those that are named are reached, also those that were not named a moment ago.
pub fn peers_that_are_named_are_reached(network: &dyn Network) {
    let stand = Stand::new(network);
    let (one, peers) = (stand.transport(ONE), network.peers());
    let packets = [TWO, THREE].map(|to| {
        raft_between(ONE, to, Message::VoteResponse { candidate: Incarnation(0), granted: true })
    });
    for _ in 0..3 {
        let without_two: Vec<_> = peers.iter().filter(|peer| peer.id != TWO).cloned().collect();
        one.set_peers(&without_two);
        stand.send_until_it_arrives(&packets[1]);
        one.set_peers(&peers);
        packets.iter().for_each(|packet| drop(stand.send_until_it_arrives(packet)));
        // One that says nothing of where.
        let ids: Vec<_> = peers.iter().map(|peer| Member::new(peer.id, "")).collect();
        one.set_peers(&ids);
        packets.iter().for_each(|packet| drop(stand.send_until_it_arrives(packet)));
    }
    stand.shutdown();
    one.set_peers(&peers);
}

/// `set_peers`: costs nothing when nothing changes.
pub fn naming_the_same_peers_again_disturbs_nothing(network: &dyn Network) {
    const PACKETS: usize = 1_000;
    let stand = Stand::new(network);
    let (one, peers) = (stand.transport(ONE), network.peers());
    one.set_peers(&peers);
    let packet = raft(Message::VoteResponse { candidate: Incarnation(0), granted: true });
    stand.send_until_it_arrives(&packet);
    stand.send_until_it_arrives(&raft_between(
        TWO,
        ONE,
        Message::RequestVote { last: EntryId::ZERO, transfer: false },
    ));
    for _ in 0..PACKETS {
        one.set_peers(&peers);
        one.send(packet.clone());
    }
    wait_until(|| stand.packets(TWO).len() >= PACKETS);
    assert!(stand.disconnected(ONE).is_empty() && stand.disconnected(TWO).is_empty());
    stand.shutdown();
}

/// `set_peers`: a peer whose incarnation is named is that one alone; when it is named again, it is there again.
pub fn a_peer_is_the_incarnation_that_is_named(network: &dyn Network) {
    const LATE: Term = Term(1_000);
    let stand = Stand::new(network);
    let (one, peers) = (stand.transport(ONE), network.peers());
    let replaced = |peer: Member| match peer.incarnation {
        Some(Incarnation(own)) if peer.id == TWO => {
            Member { incarnation: Some(Incarnation(own + 1)), ..peer }
        }
        Some(_) | None => peer,
    };
    let others: Vec<_> = peers.iter().cloned().map(replaced).collect();
    let vote = |from, to, term| {
        let (incarnation, message) =
            (Incarnation(5), Message::VoteResponse { candidate: Incarnation(0), granted: true });
        Packet::Raft(Envelope { from, incarnation, is_meant: true, to, term, message })
    };
    let ways = [(ONE, TWO), (TWO, ONE)];
    for _ in 0..3 {
        one.set_peers(&peers);
        for (from, to) in ways {
            stand.send_until_it_arrives(&vote(from, to, Term(7)));
        }
        if others == peers {
            continue;
        }
        let before = stand.disconnected(TWO).len();
        one.set_peers(&others);
        wait_until(|| stand.disconnected(TWO).len() > before);
        for (from, to) in ways {
            stand.transport(from).send(vote(from, to, LATE));
        }
        // Others are reached meanwhile, and that takes as long.
        for from in [ONE, TWO] {
            stand.send_until_it_arrives(&vote(from, THREE, Term(7)));
        }
        for (from, to) in ways {
            let is_there = stand.packets(to).contains(&vote(from, to, LATE));
            assert!(!is_there, "from {from} to {to}, and node 2 is another incarnation");
        }
    }
    stand.shutdown();
}

/// `disconnected`: when a connection closes, its other end is told.
pub fn a_peer_that_goes_away_is_reported(network: &dyn Network) {
    let stand = Stand::new(network);
    stand.send_until_it_arrives(&raft(Message::VoteResponse {
        candidate: Incarnation(0),
        granted: true,
    }));
    block_on(stand.transport(TWO).shutdown());
    wait_until(|| stand.disconnected(ONE).contains(&TWO));
    stand.shutdown();
}

/// `call`: the service sees the request, the caller its answer.
pub fn a_request_is_answered(network: &dyn Network) {
    let stand = Stand::new(network);
    for id in [ONE, TWO, THREE, ONE] {
        let answer = stand.call(id, "hello");
        assert_eq!(answer, Ok(Bytes::from(format!("{id}: hello"))));
    }
    assert_eq!(stand.call(ONE, ""), Ok(Bytes::from("1: ")));
    stand.shutdown();
}

/// `call`: as long as values are.
pub fn a_large_request_has_a_large_answer(network: &dyn Network) {
    let stand = Stand::new(network);
    let request = "0123456789abcdef".repeat(64 << 10);
    let answer = stand.call(ONE, &request).expect("an answer");
    assert!(answer == format!("1: {request}"), "the answer to a large request is wrong");
    stand.shutdown();
}

/// `call`: any number in flight, and a slow one holds up no other.
pub fn requests_in_flight_are_answered_in_any_order(network: &dyn Network) {
    const CALLS: usize = 100;
    let stand = Stand::new(network);
    stand.answer(ONE, Answering::HoldBack(CALLS));
    let calls = (0..CALLS).map(|i| {
        let connector = stand.connector();
        async move { connector.call(ONE, Bytes::from(format!("{i}")), LONG).await }
    });
    // The service answers the last first, once all are there.
    let answers = block_on(join_all(calls));
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Ok(Bytes::from(format!("1: {i}"))));
    }
    stand.shutdown();
}

/// [`crate::transport::Reply`]: dropped without an answer, the client is told at once.
pub fn a_request_without_an_answer_fails_at_once_and_may_have_taken_effect(network: &dyn Network) {
    let stand = Stand::new(network);
    stand.answer(ONE, Answering::Drop);
    let error = stand.call(ONE, "hello").expect_err("there is no answer");
    assert!(matches!(error, CallError::MaybeSent { to: ONE, .. }), "{error}");
    stand.answer(ONE, Answering::Echo);
    assert_eq!(stand.call(ONE, "again"), Ok(Bytes::from("1: again")));
    stand.shutdown();
}

/// `call`: waits for at most its deadline.
pub fn a_request_fails_at_its_deadline_and_may_have_taken_effect(network: &dyn Network) {
    let stand = Stand::new(network);
    assert!(stand.call(ONE, "to be connected").is_ok());
    stand.answer(ONE, Answering::HoldBack(usize::MAX));
    let deadline = Duration::from_millis(50);
    let connector = stand.connector();
    let call = connector.call(ONE, Bytes::from("hello"), deadline);
    let error = block_on(call).expect_err("there is no answer");
    // A machine under load may not even have sent it.
    if let CallError::NotSent { .. } = error {
        assert!(!stand.requests(ONE).contains(&Bytes::from("hello")), "{error}");
    }
    stand.answer(ONE, Answering::Echo);
    assert_eq!(stand.call(ONE, "again"), Ok(Bytes::from("1: again")));
    stand.shutdown();
}

/// `call`: fails when the connection closes, not at the deadline.
pub fn a_request_under_way_fails_when_the_node_goes_away_and_may_have_taken_effect(
    network: &dyn Network,
) {
    let stand = Stand::new(network);
    stand.answer(ONE, Answering::HoldBack(usize::MAX));
    let connector = stand.connector();
    let call = connector.call(ONE, Bytes::from("hello"), LONG);
    let (sender, result) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(block_on(call)));
        wait_until(|| !stand.requests(ONE).is_empty());
        block_on(stand.transport(ONE).shutdown());
        let error = result.recv_timeout(LONG / 2).expect("an end").expect_err("no answer");
        assert!(matches!(error, CallError::MaybeSent { to: ONE, .. }), "{error}");
    });
    stand.shutdown();
}

/// `call`: says that the request did not leave, when it did not.
pub fn a_request_to_a_node_that_is_not_there_was_not_sent(network: &dyn Network) {
    let stand = Stand::new(network);
    block_on(stand.transport(ONE).shutdown());
    for _ in 0..3 {
        let error = stand.call(ONE, "hello").expect_err("nobody is there");
        assert!(matches!(error, CallError::NotSent { to: ONE, .. }), "{error}");
    }
    let error = stand.call(NodeId(9), "hello").expect_err("there is no such node");
    assert!(matches!(error, CallError::NotSent { to: NodeId(9), .. }), "{error}");
    stand.shutdown();
}

/// A client finds a node that restarted.
pub fn a_node_that_restarts_is_called_again(network: &dyn Network) {
    let mut stand = Stand::new(network);
    for _ in 0..3 {
        assert_eq!(stand.call(TWO, "hello"), Ok(Bytes::from("2: hello")));
        stand.restart(network, TWO);
        // The client may notice that its connection is closed only as it uses it.
        wait_until(|| stand.call(TWO, "again").is_ok());
    }
    stand.shutdown();
}

/// `call`: dropping the future drops the answer, not the request, and disturbs no other.
pub fn a_request_arrives_although_its_caller_has_gone_away(network: &dyn Network) {
    let stand = Stand::new(network);
    assert!(stand.call(ONE, "to be connected").is_ok());
    let connector = stand.connector();
    let runtime = network.runtime();
    block_on(async {
        let call = connector.call(ONE, Bytes::from("left alone"), LONG);
        // Polled once, and dropped.
        select(call, futures::future::ready(())).await;
        runtime.sleep(Duration::ZERO).await;
    });
    wait_until(|| stand.requests(ONE).contains(&Bytes::from("left alone")));
    assert!(stand.call(ONE, "next").is_ok());
    stand.shutdown();
}

/// `nodes`: those that can be called, sorted. `learn`: what it was created with stays.
pub fn a_client_knows_the_nodes(network: &dyn Network) {
    let stand = Stand::new(network);
    assert_eq!(stand.connector().nodes(), [ONE, TWO, THREE]);
    let listening = network.peers().into_iter().skip(1);
    stand.connector().learn(&listening.map(|peer| (peer.id, peer.address)).collect::<Vec<_>>());
    assert_eq!(stand.connector().nodes(), [ONE, TWO, THREE]);
    assert_eq!(stand.call(ONE, "hello"), Ok(Bytes::from("1: hello")));
    assert_eq!(stand.call(TWO, "hello"), Ok(Bytes::from("2: hello")));
    stand.shutdown();
}

/// `shutdown`: once it returned, nothing is delivered. It may be called again.
pub fn after_a_shutdown_nothing_is_delivered(network: &dyn Network) {
    let stand = Stand::new(network);
    let packet = raft(Message::VoteResponse { candidate: Incarnation(0), granted: true });
    stand.send_until_it_arrives(&packet);
    for _ in 0..1_000 {
        stand.transport(ONE).send(packet.clone());
    }
    block_on(stand.transport(TWO).shutdown());
    let delivered = stand.packets(TWO).len();
    for _ in 0..1_000 {
        stand.transport(ONE).send(packet.clone());
    }
    let to_one =
        raft_between(TWO, ONE, Message::VoteResponse { candidate: Incarnation(0), granted: true });
    stand.transport(TWO).send(to_one);
    stand.send_until_it_arrives(&raft_between(
        ONE,
        THREE,
        Message::VoteResponse { candidate: Incarnation(0), granted: true },
    ));
    assert!(stand.call(TWO, "hello").is_err());
    block_on(stand.transport(TWO).shutdown());
    assert_eq!(stand.packets(TWO).len(), delivered);
    assert!(stand.packets(ONE).is_empty());
    stand.shutdown();
}

fn raft(message: Message) -> Packet {
    raft_between(ONE, TWO, message)
}

fn raft_between(from: NodeId, to: NodeId, message: Message) -> Packet {
    Packet::Raft(Envelope {
        from,
        incarnation: Incarnation(5),
        is_meant: true,
        to,
        term: Term(7),
        message,
    })
}

fn chunk(bytes: usize) -> Packet {
    let configuration = Configuration::joint([ONE, TWO], [TWO, THREE], [NodeId(4)]);
    let last = EntryId::new(Term(3), LogIndex(1_000));
    let chunk = SnapshotChunk {
        from: ONE,
        to: TWO,
        transfer: 99,
        meta: SnapshotMeta { last, configuration },
        image_bytes: 1 << 40,
        offset: 12_345,
        checksum: 0,
        data: Bytes::from(vec![0x5a; bytes]),
    };
    Packet::SnapshotChunk(chunk.sealed())
}

/// One of each kind.
fn packets() -> Vec<Packet> {
    let id = EntryId::new(Term(5), LogIndex(6));
    let members = [Member::new(ONE, "host:1"), Member::of_incarnation(TWO, Incarnation(7), "")];
    let configuration = Configuration::of_members(members.clone(), members, []);
    let entries = vec![
        Entry::command(id, "command"),
        Entry::command(id, ""),
        Entry { id, payload: Payload::Configuration(configuration) },
    ];
    let response = |status| {
        Packet::SnapshotResponse(SnapshotResponse { from: ONE, to: TWO, transfer: 99, status })
    };
    let messages = [
        Message::PreVote { campaign: Term(8), last: id },
        Message::PreVoteResponse { campaign: Term(8), granted: true },
        Message::RequestVote { last: id, transfer: true },
        Message::TimeoutNow,
        Message::ReadIndex { context: 9 },
        Message::ReadIndexResponse { context: 9, outcome: ReadOutcome::Confirmed(LogIndex(3)) },
        Message::ReadIndexResponse { context: 9, outcome: ReadOutcome::LostLeader },
        Message::ReadIndexResponse { context: 9, outcome: ReadOutcome::Busy },
        Message::VoteResponse { candidate: Incarnation(0), granted: false },
        Message::AppendEntries { previous: id, entries: entries.into(), commit: LogIndex(4) },
        Message::AppendResponse(AppendOutcome::Accepted { matched: LogIndex(4) }),
        Message::AppendResponse(AppendOutcome::Rejected { previous: LogIndex(4), hint: id }),
        Message::Heartbeat { commit: LogIndex(4), round: Some(3) },
        Message::Heartbeat { commit: LogIndex(4), round: None },
        Message::HeartbeatResponse { round: 3, received: LogIndex(4) },
    ];
    let mut packets: Vec<Packet> = messages.into_iter().map(raft).collect();
    packets.extend([
        chunk(0),
        chunk(1_000),
        response(SnapshotStatus::Continue {
            reception: 7,
            offset: 12_345,
            held: vec![13_345, 1 << 40],
        }),
        response(SnapshotStatus::Done),
        response(SnapshotStatus::Refused),
        response(SnapshotStatus::TooLong { image_bytes_max: 1 << 40 }),
        Packet::Checksum(Checksum {
            from: ONE,
            to: TWO,
            index: LogIndex(6),
            checksum: 0x1234_5678,
        }),
    ]);
    packets
}
