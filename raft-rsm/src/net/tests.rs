//! What comes to the port of a node, on both shells: strangers, wrong nodes, hung peers, slow clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::executor::block_on;
use raft_core::{Envelope, Message, NodeId, Term};

use self::stand::{Answering, Node, Raw, Shell, cluster_of, identity, shell, wait_until};
use super::frame::{FrameKind, HEADER_BYTES, header};
use super::handshake::{Dialler, Hello, HelloAnswer, PROTOCOL_VERSION, Refusal};
use crate::transport::{CallError, Packet, TcpLimits};
use crate::{ClusterId, Incarnation};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const CLUSTER: ClusterId = ClusterId(7);
const LONG: Duration = Duration::from_secs(30);

const PEER: Hello = Hello {
    version: PROTOCOL_VERSION,
    cluster: Some(CLUSTER),
    to: Some(ONE),
    dialler: Dialler::Peer { node: TWO, incarnation: Incarnation(200), address: None },
};
const CLIENT: Hello = Hello { dialler: Dialler::Client, ..PEER };

/// Makes a test on each shell of each function.
macro_rules! on_both_shells {
    ($($name:ident)*) => {
        mod std_net {
            $(#[test] fn $name() { super::$name(&super::shell::std()); })*
        }

        #[cfg(feature = "tokio")]
        mod tokio {
            $(#[test] fn $name() { super::$name(&super::shell::tokio()); })*
        }
    };
}

mod addresses;
mod incarnations;
mod stand;

on_both_shells! {
    random_bytes_close_the_connection_and_are_counted
    a_frame_that_is_too_long_closes_the_connection_and_is_counted
    a_damaged_frame_closes_the_connection_and_delivers_nothing
    a_packet_of_another_sender_closes_the_connection
    another_version_is_refused
    another_cluster_is_refused
    a_dialler_of_another_node_is_refused
    a_dialler_that_says_it_is_this_node_is_refused
    a_second_node_with_one_id_is_refused_while_the_first_is_there
    a_node_that_dials_again_takes_the_place_of_its_old_connection
    a_silent_stranger_is_sent_away
    a_silent_peer_is_given_up
    clients_beyond_the_limit_are_refused_until_there_is_room
    handshakes_beyond_the_limit_are_refused
    requests_beyond_the_limit_are_not_read_until_answers_are_written
    a_client_that_reads_no_answers_is_sent_away
    answers_beyond_the_limit_are_left_out_and_their_client_is_told
    a_peer_that_reads_nothing_holds_up_no_other
    packets_that_cannot_be_sent_are_counted
    a_peer_that_moved_is_found_at_its_new_address
    a_client_of_another_cluster_sends_nothing
    a_client_that_knows_no_cluster_is_served
    a_request_whose_deadline_passes_while_dialling_was_not_sent
    a_node_that_hangs_is_given_up_by_its_clients
    whoever_accepts_and_is_not_the_one_that_was_dialled_gets_nothing
    an_unused_connection_lives_on_signs_of_life
    a_client_that_does_nothing_for_long_closes_its_connection_and_opens_another
    a_transport_that_is_dropped_ends
    a_peer_that_calls_is_called_back_at_once
    a_shutdown_ends_what_waits_for_strangers_peers_and_clients
    what_is_delivered_to_may_own_the_transport
}

fn random_bytes_close_the_connection_and_are_counted(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 100], b"R!", &[0xff; 5_000]] {
        let before = node.counters().failed_handshakes;
        let mut stream = node.dial();
        // The node may have closed before all is written.
        let _ = stream.write_all(bytes);
        assert_closed(stream);
        assert_eq!(node.counters().failed_handshakes, before + 1);
    }
    node.assert_alive();
}

fn a_frame_that_is_too_long_closes_the_connection_and_is_counted(shell: &Shell) {
    let limits = TcpLimits { frame_bytes_max: 1_000, ..limits() };
    let node = Node::start(shell, ONE, limits);
    let mut before = Raw::new(&node);
    before.write_header(FrameKind::Hello, 5_000);
    assert_closed(before.stream);
    assert_eq!(node.counters().failed_handshakes, 1);
    for hello in [PEER, CLIENT] {
        let mut after = Raw::accepted(&node, hello);
        after.write_header(FrameKind::Packet, u32::MAX);
        assert_closed(after.stream);
    }
    wait_until(|| node.counters().bad_frames == 2);
    node.assert_alive();
}

fn a_damaged_frame_closes_the_connection_and_delivers_nothing(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let mut peer = Raw::accepted(&node, PEER);
    peer.send_packet(&packet(TWO, 1));
    wait_until(|| node.terms() == [1]);
    let mut bytes = stand::packet_frame(&packet(TWO, 2));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    peer.stream.write_all(&bytes).unwrap();
    assert_closed(peer.stream);
    wait_until(|| node.counters().bad_frames == 1);
    let mut peer = Raw::accepted(&node, PEER);
    let body = b"no packet at all";
    peer.write_frame(FrameKind::Packet, body);
    assert_closed(peer.stream);
    wait_until(|| node.counters().bad_frames == 2);
    assert_eq!(node.terms(), [1]);
    wait_until(|| node.disconnected() == [TWO, TWO]);
}

fn a_packet_of_another_sender_closes_the_connection(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let mut peer = Raw::accepted(&node, PEER);
    peer.send_packet(&packet(NodeId(3), 1));
    assert_closed(peer.stream);
    wait_until(|| node.counters().bad_frames == 1);
    assert!(node.terms().is_empty());
}

fn another_version_is_refused(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let mut raw = Raw::new(&node);
    let mut body = BytesMut::new();
    body.put_u16_le(0);
    body.put_slice(b"an older handshake");
    raw.write_frame(FrameKind::Hello, &body);
    let answer = raw.read_answer();
    assert_eq!(answer.version, PROTOCOL_VERSION);
    assert_eq!(refusal(&answer), Refusal::WrongVersion);
    assert_closed(raw.stream);
    assert_eq!(node.counters().refused_version, 1);
    node.assert_alive();
}

fn another_cluster_is_refused(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    for hello in [PEER, CLIENT] {
        let hello = Hello { cluster: Some(ClusterId(8)), ..hello };
        assert_eq!(refused(&node, hello), Refusal::WrongCluster);
    }
    assert_eq!(node.counters().refused_cluster, 2);
    node.assert_alive();
}

fn a_dialler_of_another_node_is_refused(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    for hello in [PEER, CLIENT] {
        assert_eq!(refused(&node, Hello { to: Some(NodeId(3)), ..hello }), Refusal::WrongNode);
    }
    assert_eq!(node.counters().refused_node, 2);
    // The other side: a node whose addresses are stale notes that it is refused.
    let stale = Node::start(shell, TWO, limits());
    stale.set_peers(&[(NodeId(3), &node)]);
    wait_until(|| stale.counters().refused_dials > 0);
    assert_eq!(stale.counters().connects, 0);
}

fn a_dialler_that_says_it_is_this_node_is_refused(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    for incarnation in [identity(ONE).incarnation, Incarnation(9)] {
        let dialler = Dialler::Peer { node: ONE, incarnation, address: None };
        assert_eq!(refused(&node, Hello { dialler, ..PEER }), Refusal::SameNode);
    }
    assert_eq!(node.counters().refused_same_node, 2);
}

fn a_second_node_with_one_id_is_refused_while_the_first_is_there(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let first = Raw::accepted(&node, PEER);
    let dialler = Dialler::Peer { node: TWO, incarnation: Incarnation(201), address: None };
    let second = Hello { dialler, ..PEER };
    assert_eq!(refused(&node, second.clone()), Refusal::DuplicateNode);
    assert_eq!(node.counters().refused_duplicate_node, 1);
    drop(first);
    wait_until(|| node.disconnected() == [TWO]);
    let mut second = Raw::accepted(&node, second);
    second.send_packet(&packet(TWO, 5));
    wait_until(|| node.terms() == [5]);
}

fn a_node_that_dials_again_takes_the_place_of_its_old_connection(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let first = Raw::accepted(&node, PEER);
    let mut second = Raw::accepted(&node, PEER);
    assert_closed(first.stream);
    second.send_packet(&packet(TWO, 5));
    wait_until(|| node.terms() == [5]);
    assert_eq!(node.counters().accepted, 2);
}

fn a_silent_stranger_is_sent_away(shell: &Shell) {
    let handshake_timeout = Duration::from_millis(50);
    let node = Node::start(shell, ONE, TcpLimits { handshake_timeout, ..limits() });
    assert_closed(node.dial());
    assert_eq!(node.counters().failed_handshakes, 1);
}

fn a_silent_peer_is_given_up(shell: &Shell) {
    let silence_max = Duration::from_millis(50);
    let node = Node::start(shell, ONE, TcpLimits { silence_max, ..limits() });
    assert_closed(Raw::accepted(&node, PEER).stream);
    wait_until(|| node.disconnected() == [TWO]);
    assert_closed(Raw::accepted(&node, CLIENT).stream);
}

fn clients_beyond_the_limit_are_refused_until_there_is_room(shell: &Shell) {
    let node = Node::start(shell, ONE, TcpLimits { connections_max: 2, ..limits() });
    let (first, _second) = (Raw::accepted(&node, CLIENT), Raw::accepted(&node, CLIENT));
    assert_eq!(refused(&node, CLIENT), Refusal::Busy);
    assert_eq!(node.counters().refused_busy, 1);
    let _peer = Raw::accepted(&node, PEER);
    drop(first);
    wait_until(|| Raw::new(&node).shake_hands(CLIENT).verdict.is_ok());
}

fn handshakes_beyond_the_limit_are_refused(shell: &Shell) {
    let node = Node::start(shell, ONE, TcpLimits { handshakes_max: 2, ..limits() });
    let waiting = [Raw::new(&node), Raw::new(&node)];
    assert_closed(node.dial());
    assert_eq!(node.counters().refused_busy, 1);
    for mut raw in waiting {
        assert_eq!(raw.shake_hands(CLIENT).verdict, Ok(()));
    }
}

fn requests_beyond_the_limit_are_not_read_until_answers_are_written(shell: &Shell) {
    const REQUESTS: u64 = 50;
    let node = Node::start(shell, ONE, TcpLimits { requests_inflight_max: 3, ..limits() });
    node.answer(Answering::Hold);
    let mut client = Raw::accepted(&node, CLIENT);
    for id in 0..REQUESTS {
        client.send_request(id, b"request");
    }
    wait_until(|| node.held() == 3);
    assert_eq!(node.counters().requests, 3);
    for answered in 0..REQUESTS {
        wait_until(|| node.held() > 0);
        assert!(node.held() <= 3);
        node.answer_one();
        assert_eq!(client.read_response(), (answered, Some(Bytes::from("request"))));
    }
    assert_eq!(node.counters().requests, REQUESTS);
}

fn a_client_that_reads_no_answers_is_sent_away(shell: &Shell) {
    let write_timeout = Duration::from_millis(100);
    let limits = TcpLimits { answers_bytes_max: 1 << 20, write_timeout, ..limits() };
    let node = Node::start(shell, ONE, limits);
    node.answer(Answering::Repeat(512 << 10));
    let mut client = Raw::accepted(&node, CLIENT);
    // More than the buffers of the two sockets take.
    for id in 0..100 {
        if client.try_send_request(id, b"request").is_err() {
            break;
        }
    }
    wait_until(|| client.try_send_request(100, b"request").is_err());
    node.answer(Answering::Echo);
    node.assert_alive();
}

fn answers_beyond_the_limit_are_left_out_and_their_client_is_told(shell: &Shell) {
    const REQUESTS: u64 = 100;
    const ANSWER_BYTES: usize = 512 << 10;
    let limits = TcpLimits { answers_bytes_max: 1 << 20, write_timeout: LONG, ..limits() };
    let node = Node::start(shell, ONE, limits);
    node.answer(Answering::Repeat(ANSWER_BYTES));
    let mut client = Raw::accepted(&node, CLIENT);
    // More than the buffers of the two sockets take.
    for id in 0..REQUESTS {
        client.send_request(id, b"request");
    }
    wait_until(|| node.counters().requests == REQUESTS);
    let mut left_out = 0;
    let mut answered: Vec<u64> = (0..REQUESTS)
        .map(|_| {
            let (id, answer) = client.read_response();
            left_out += u64::from(answer.is_none());
            assert!(answer.is_none_or(|answer| answer.len() == ANSWER_BYTES));
            id
        })
        .collect();
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..REQUESTS), "each request ends once");
    wait_until(|| node.counters().dropped_answers == left_out);
    assert!(left_out > 0);
    node.answer(Answering::Echo);
    client.send_request(REQUESTS, b"and on");
    assert_eq!(client.read_response(), (REQUESTS, Some(Bytes::from("and on"))));
}

fn a_peer_that_reads_nothing_holds_up_no_other(shell: &Shell) {
    let write_timeout = Duration::from_millis(100);
    let limits = TcpLimits { write_timeout, queue_bytes_max: 8 << 20, ..limits() };
    let node = Node::start(shell, ONE, limits);
    let other = Node::start(shell, NodeId(3), self::limits());
    let hung = stand::HungPeer::listen(TWO);
    node.set_peer_addresses(&[(TWO, hung.address()), (NodeId(3), other.address())]);
    wait_until(|| node.counters().connects == 2);
    for _ in 0..200 {
        node.send(stand::chunk(ONE, TWO, 256 << 10));
    }
    node.send(packet_to(NodeId(3), 1));
    wait_until(|| other.terms() == [1]);
    assert!(node.counters().dropped_full > 0);
    wait_until(|| node.disconnected().contains(&TWO));
}

fn packets_that_cannot_be_sent_are_counted(shell: &Shell) {
    let limits = TcpLimits { frame_bytes_max: 10_000, queue_packets_max: 10, ..limits() };
    let node = Node::start(shell, ONE, limits);
    node.send(packet_to(NodeId(9), 1));
    assert_eq!(node.counters().dropped_unknown, 1);
    let other = Node::start(shell, TWO, self::limits());
    node.set_peers(&[(TWO, &other)]);
    wait_until(|| node.counters().connects == 1);
    node.send(stand::chunk(ONE, TWO, 20_000));
    wait_until(|| node.counters().dropped_too_long == 1);
    node.send(packet_to(TWO, 1));
    wait_until(|| other.terms() == [1]);
    other.shutdown();
    wait_until(|| {
        node.send(packet_to(TWO, 2));
        node.counters().dropped_unreachable > 0
    });
}

fn a_peer_that_moved_is_found_at_its_new_address(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let before = Node::start(shell, TWO, limits());
    node.set_peers(&[(TWO, &before)]);
    wait_until(|| node.counters().connects == 1);
    before.shutdown();
    let after = Node::start(shell, TWO, limits());
    node.set_peers(&[(TWO, &after)]);
    wait_until(|| {
        node.send(packet_to(TWO, 1));
        after.terms().contains(&1)
    });
    assert!(before.terms().is_empty());
}

fn a_client_of_another_cluster_sends_nothing(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let nodes = cluster_of(&[(ONE, node.address())]);
    let connector = shell.connector(nodes, Some(ClusterId(8)), limits());
    let error = block_on(connector.call(ONE, Bytes::from("x"), LONG)).unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }), "{error}");
    assert!(error.to_string().contains("cluster"), "{error}");
    let nodes = cluster_of(&[(TWO, node.address())]);
    let connector = shell.connector(nodes, Some(CLUSTER), limits());
    let error = block_on(connector.call(TWO, Bytes::from("x"), LONG)).unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }), "{error}");
    assert_eq!(node.counters().requests, 0);
}

fn a_client_that_knows_no_cluster_is_served(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let nodes = cluster_of(&[(ONE, node.address())]);
    let connector = shell.connector(nodes, None, limits());
    assert_eq!(block_on(connector.call(ONE, Bytes::from("x"), LONG)), Ok(Bytes::from("x")));
}

fn a_request_whose_deadline_passes_while_dialling_was_not_sent(shell: &Shell) {
    // The system accepts, and nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = cluster_of(&[(ONE, listener.local_addr().unwrap().to_string())]);
    let connector = shell.connector(nodes, None, limits());
    let call = connector.call(ONE, Bytes::from("x"), Duration::from_millis(20));
    let error = block_on(call).unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }), "{error}");
}

fn a_node_that_hangs_is_given_up_by_its_clients(shell: &Shell) {
    let hung = stand::HungPeer::listen(ONE);
    let limits = TcpLimits { silence_max: Duration::from_millis(100), ..limits() };
    let connector = shell.connector(cluster_of(&[(ONE, hung.address())]), None, limits);
    let error = block_on(connector.call(ONE, Bytes::from("x"), LONG * 2)).unwrap_err();
    assert!(matches!(error, CallError::MaybeSent { .. }), "{error}");
    assert!(!error.to_string().contains("deadline"), "{error}");
}

fn whoever_accepts_and_is_not_the_one_that_was_dialled_gets_nothing(shell: &Shell) {
    // It accepts everybody.
    let two = stand::HungPeer::listen(TWO);
    let at = |id| cluster_of(&[(id, two.address())]);
    for (id, cluster) in [(ONE, None), (ONE, Some(CLUSTER)), (TWO, Some(ClusterId(8)))] {
        let connector = shell.connector(at(id), cluster, limits());
        let error = block_on(connector.call(id, Bytes::from("x"), LONG)).unwrap_err();
        assert!(matches!(error, CallError::NotSent { .. }), "{error}");
        assert!(error.to_string().contains("is node 2 of cluster"), "{error}");
    }
    let three = NodeId(3);
    let node = Node::start(shell, three, limits());
    node.set_peer_addresses(&[(ONE, two.address())]);
    wait_until(|| node.counters().refused_dials > 0);
    assert_eq!(node.counters().connects, 0);
}

fn an_unused_connection_lives_on_signs_of_life(shell: &Shell) {
    let limits = TcpLimits { keep_alive: Duration::from_millis(5), ..limits() };
    let node = Node::start(shell, ONE, limits.clone());
    let other = Node::start(shell, TWO, limits.clone());
    node.set_peers(&[(TWO, &other)]);
    let connector = shell.connector(cluster_of(&[(TWO, other.address())]), None, limits);
    assert!(block_on(connector.call(TWO, Bytes::new(), LONG)).is_ok());
    // From the peer and from the client; the peer's are answered.
    wait_until(|| node.counters().frames_in > 20 && other.counters().frames_in > 40);
    assert_eq!(node.counters().reconnects, 0);
    assert!(node.disconnected().is_empty());
}

fn a_client_that_does_nothing_for_long_closes_its_connection_and_opens_another(shell: &Shell) {
    let node = Node::start(shell, ONE, TcpLimits { connections_max: 1, ..limits() });
    let limits = TcpLimits {
        keep_alive: Duration::from_millis(5),
        idle_max: Duration::from_millis(10),
        ..limits()
    };
    let nodes = cluster_of(&[(ONE, node.address())]);
    let connector = shell.connector(nodes, None, limits);
    assert!(block_on(connector.call(ONE, Bytes::new(), LONG)).is_ok());
    // There is room for one client alone.
    wait_until(|| Raw::new(&node).shake_hands(CLIENT).verdict.is_ok());
    wait_until(|| block_on(connector.call(ONE, Bytes::new(), LONG)).is_ok());
}

fn a_peer_that_calls_is_called_back_at_once(shell: &Shell) {
    let reconnect_min = LONG * 4;
    let slow = TcpLimits { reconnect_min, reconnect_max: reconnect_min, ..limits() };
    let node = Node::start(shell, ONE, slow);
    let other = Node::start(shell, TWO, limits());
    let address = other.address();
    other.shutdown();
    drop(other);
    node.set_peer_addresses(&[(TWO, address.clone())]);
    wait_until(|| node.counters().failed_dials == 1);
    let other = Node::start_at(shell, TWO, &address, limits());
    other.set_peers(&[(ONE, &node)]);
    wait_until(|| node.counters().connects == 1);
}

fn a_shutdown_ends_what_waits_for_strangers_peers_and_clients(shell: &Shell) {
    let node = Node::start(shell, ONE, TcpLimits { requests_inflight_max: 1, ..limits() });
    let hung = stand::HungPeer::listen(TWO);
    node.set_peer_addresses(&[(TWO, hung.address()), (NodeId(3), "127.0.0.1:1".to_owned())]);
    wait_until(|| node.counters().connects == 1 && node.counters().failed_dials > 0);
    for _ in 0..100 {
        node.send(stand::chunk(ONE, TWO, 256 << 10));
    }
    node.answer(Answering::Hold);
    let (stranger, peer) = (Raw::new(&node), Raw::accepted(&node, PEER));
    let mut client = Raw::accepted(&node, CLIENT);
    for id in 0..10 {
        client.send_request(id, b"request");
    }
    wait_until(|| node.held() == 1);
    let started = std::time::Instant::now();
    node.shutdown();
    assert!(started.elapsed() < LONG, "the shutdown took {:?}", started.elapsed());
    [stranger, peer, client].into_iter().for_each(|raw| assert_closed(raw.stream));
}

fn what_is_delivered_to_may_own_the_transport(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let _peer = Raw::accepted(&node, PEER);
    let notes = node.notes();
    node.shutdown();
    // This one, and that of the node itself.
    assert_eq!(Arc::strong_count(&notes), 2);
}

fn a_transport_that_is_dropped_ends(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let (peer, client) = (Raw::accepted(&node, PEER), Raw::accepted(&node, CLIENT));
    let address = node.address();
    drop(node);
    assert_closed(peer.stream);
    assert_closed(client.stream);
    wait_until(|| TcpStream::connect(&address).is_err());
}

/// Raw connections give no sign of life, and a machine under load is slow.
fn limits() -> TcpLimits {
    TcpLimits {
        silence_max: LONG * 2,
        handshake_timeout: LONG,
        shutdown_timeout: LONG * 4,
        place_held: LONG,
        ..TcpLimits::default()
    }
}

fn packet(from: NodeId, term: u64) -> Packet {
    let message = Message::VoteResponse { candidate: Incarnation(0), granted: true };
    Packet::Raft(Envelope {
        from,
        incarnation: Incarnation(1),
        is_meant: true,
        to: ONE,
        term: Term(term),
        message,
    })
}

fn packet_to(to: NodeId, term: u64) -> Packet {
    let message = Message::VoteResponse { candidate: Incarnation(0), granted: true };
    Packet::Raft(Envelope {
        from: ONE,
        incarnation: Incarnation(1),
        is_meant: true,
        to,
        term: Term(term),
        message,
    })
}

fn refusal(answer: &HelloAnswer) -> Refusal {
    answer.verdict.clone().expect_err("refused").refusal
}

fn refused(node: &Node, hello: Hello) -> Refusal {
    let mut raw = Raw::new(node);
    let refusal = refusal(&raw.shake_hands(hello));
    assert_closed(raw.stream);
    refusal
}

/// The node has closed this connection, or does so soon; what it wrote before does not matter.
fn assert_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let kind = error.kind();
                assert_ne!(kind, std::io::ErrorKind::WouldBlock, "the connection stays open");
                return;
            }
        }
    }
}
