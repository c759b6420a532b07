//! Where nodes listen: lists that change, what nodes say themselves, and what clients ask and learn.

use super::stand::HungPeer;
use super::*;

const THREE: NodeId = NodeId(3);

on_both_shells! {
    a_peer_that_is_removed_is_no_longer_sent_to
    a_list_without_addresses_leaves_those_that_are_known
    a_node_that_knows_nobody_answers_whoever_dials_it
    a_list_that_does_not_have_a_peer_that_calls_leaves_the_way_back
    a_peer_that_no_list_has_is_forgotten_some_time_after_it_has_gone
    two_nodes_that_remove_each_other_forget_each_other
    a_node_that_moved_is_reached_where_it_says
    a_later_list_with_another_address_replaces_what_the_peer_said
    an_address_that_leads_nowhere_is_not_the_only_one_that_is_tried
    a_node_that_listens_everywhere_is_called_back_where_it_was_told_to_say
    peers_that_no_list_has_are_bounded
    a_client_asks_who_listens_at_an_address
    a_client_that_asks_a_silent_stranger_has_its_answer_by_the_deadline
    a_client_reaches_nodes_that_it_learned_of
    a_client_falls_back_on_the_addresses_that_it_was_given
    a_client_that_was_told_no_cluster_stays_with_the_one_that_has_helped
}

fn a_peer_that_is_removed_is_no_longer_sent_to(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let (two, three) = (Node::start(shell, TWO, limits()), Node::start(shell, THREE, limits()));
    node.set_peers(&[(TWO, &two), (THREE, &three)]);
    // Also once they have called back.
    wait_until(|| node.counters().connects == 2 && node.counters().accepted == 2);
    node.set_peers(&[(THREE, &three)]);
    wait_until(|| two.disconnected() == [ONE]);
    node.send(packet_to(TWO, 1));
    assert_eq!(node.counters().dropped_unknown, 1);
    node.send(packet_to(THREE, 2));
    wait_until(|| three.terms() == [2]);
    assert!(two.terms().is_empty() && three.disconnected().is_empty());
}

fn a_list_without_addresses_leaves_those_that_are_known(shell: &Shell) {
    let (first, later) = (HungPeer::listen(TWO), Node::start(shell, TWO, limits()));
    let first_peers = cluster_of(&[(TWO, first.address())]);
    let node = Node::start_with(shell, ONE, limits(), |options| options.peers = first_peers);
    let without = [(TWO, String::new()), (THREE, String::new())];
    wait_until(|| node.counters().connects == 1);
    node.set_peer_addresses(&[]);
    node.set_peer_addresses(&without);
    wait_until(|| node.counters().connects == 2);
    node.set_peers(&[(TWO, &later)]);
    wait_until(|| node.counters().connects == 3);
    node.set_peer_addresses(&without);
    node.send(packet_to(TWO, 1));
    wait_until(|| later.terms() == [1]);
    assert_eq!(node.counters().connects, 3);
}

fn a_node_that_knows_nobody_answers_whoever_dials_it(shell: &Shell) {
    let leader = Node::start(shell, ONE, limits());
    let joiner = Node::start(shell, TWO, limits());
    joiner.send(packet(TWO, 1));
    assert_eq!(joiner.counters().dropped_unknown, 1);
    leader.set_peers(&[(TWO, &joiner)]);
    wait_until(|| joiner.counters().connects == 1);
    joiner.send(packet(TWO, 2));
    wait_until(|| leader.terms() == [2]);
}

fn a_list_that_does_not_have_a_peer_that_calls_leaves_the_way_back(shell: &Shell) {
    let leader = Node::start(shell, ONE, limits());
    let joiner = Node::start(shell, TWO, limits());
    let three = Node::start(shell, THREE, limits());
    leader.set_peers(&[(TWO, &joiner)]);
    wait_until(|| joiner.counters().connects == 1);
    // Never named, and then named and no longer so.
    joiner.set_peers(&[(THREE, &three)]);
    joiner.send(packet(TWO, 1));
    wait_until(|| leader.terms() == [1]);
    joiner.set_peers(&[(ONE, &leader)]);
    joiner.set_peers(&[]);
    wait_until(|| {
        joiner.send(packet(TWO, 2));
        leader.terms().contains(&2)
    });
    assert_eq!(joiner.counters().dropped_unknown, 0);
}

fn a_peer_that_no_list_has_is_forgotten_some_time_after_it_has_gone(shell: &Shell) {
    let leader = Node::start(shell, ONE, limits());
    let joiner = Node::start(shell, TWO, quick_to_forget());
    leader.set_peers(&[(TWO, &joiner)]);
    wait_until(|| joiner.counters().connects == 1);
    leader.set_peers(&[]);
    wait_until(|| {
        joiner.send(packet(TWO, 1));
        joiner.counters().dropped_unknown > 0
    });
    wait_until(|| leader.disconnected().contains(&TWO));
    // And known again when it calls again.
    leader.set_peers(&[(TWO, &joiner)]);
    wait_until(|| {
        joiner.send(packet(TWO, 2));
        leader.terms().contains(&2)
    });
}

fn two_nodes_that_remove_each_other_forget_each_other(shell: &Shell) {
    let one = Node::start(shell, ONE, quick_to_forget());
    let two = Node::start(shell, TWO, quick_to_forget());
    one.set_peers(&[(TWO, &two)]);
    two.set_peers(&[(ONE, &one)]);
    wait_until(|| {
        one.send(packet_to(TWO, 1));
        two.send(packet(TWO, 1));
        one.terms().contains(&1) && two.terms().contains(&1)
    });
    one.set_peers(&[]);
    two.set_peers(&[]);
    wait_until(|| {
        one.send(packet_to(TWO, 2));
        two.send(packet(TWO, 2));
        one.counters().dropped_unknown > 0 && two.counters().dropped_unknown > 0
    });
}

fn a_node_that_moved_is_reached_where_it_says(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let before = Node::start(shell, TWO, limits());
    let list = [(TWO, before.address())];
    node.set_peer_addresses(&list);
    wait_until(|| node.counters().connects == 1);
    before.shutdown();
    let after = Node::start(shell, TWO, limits());
    after.set_peers(&[(ONE, &node)]);
    wait_until(|| {
        // The list is still the old one.
        node.set_peer_addresses(&list);
        node.send(packet_to(TWO, 1));
        after.terms().contains(&1)
    });
}

fn a_later_list_with_another_address_replaces_what_the_peer_said(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let said = HungPeer::listen(TWO);
    let _peer = Raw::accepted(&node, peer_at(TWO, &said.address()));
    wait_until(|| node.counters().connects == 1);
    let listed = Node::start(shell, TWO, limits());
    node.set_peers(&[(TWO, &listed)]);
    wait_until(|| {
        node.send(packet_to(TWO, 1));
        listed.terms().contains(&1)
    });
}

fn an_address_that_leads_nowhere_is_not_the_only_one_that_is_tried(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let two = Node::start(shell, TWO, limits());
    let _peer = Raw::accepted(&node, peer_at(TWO, NOWHERE));
    wait_until(|| node.counters().failed_dials > 0);
    node.set_peers(&[(TWO, &two)]);
    wait_until(|| node.counters().connects == 1);
    let _peer = Raw::accepted(&node, peer_at(TWO, NOWHERE));
    wait_until(|| node.counters().connects == 2);
    node.send(packet_to(TWO, 1));
    wait_until(|| two.terms() == [1]);
}

fn a_node_that_listens_everywhere_is_called_back_where_it_was_told_to_say(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let silent = Node::start_at(shell, TWO, "0.0.0.0:0", limits());
    silent.set_peers(&[(ONE, &node)]);
    silent.send(packet(TWO, 1));
    wait_until(|| node.terms() == [1]);
    node.send(packet_to(TWO, 1));
    assert_eq!(node.counters().dropped_unknown, 1);
    let seen_there = HungPeer::listen(THREE);
    let three = Node::start_with(shell, THREE, limits(), |options| {
        options.listen = "0.0.0.0:0".to_owned();
        options.advertise = Some(seen_there.address());
    });
    three.set_peers(&[(ONE, &node)]);
    wait_until(|| node.counters().connects == 1);
}

fn peers_that_no_list_has_are_bounded(shell: &Shell) {
    let node = Node::start(shell, ONE, TcpLimits { connections_max: 2, ..limits() });
    let peer = |id: u64| Raw::accepted(&node, peer_at(NodeId(id), NOWHERE));
    let is_known = |id: u64| {
        let before = node.counters().dropped_unknown;
        node.send(packet_to(NodeId(id), 1));
        node.counters().dropped_unknown == before
    };
    let (two, _three) = (peer(2), peer(3));
    wait_until(|| is_known(2) && is_known(3));
    drop(two);
    let mut four = Raw::new(&node);
    wait_until(|| {
        let is_accepted = four.shake_hands(peer_at(NodeId(4), NOWHERE)).verdict.is_ok();
        if !is_accepted {
            four = Raw::new(&node);
        }
        is_accepted
    });
    wait_until(|| is_known(4));
    assert!(!is_known(2) && is_known(3));
}

fn a_client_asks_who_listens_at_an_address(shell: &Shell) {
    let node = Node::start(shell, TWO, limits());
    // It knows nobody that is there, and means another cluster.
    let nodes = cluster_of(&[(ONE, NOWHERE.to_owned())]);
    let connector = shell.connector(nodes, Some(ClusterId(8)), limits());
    for _ in 0..3 {
        assert_eq!(block_on(connector.identify(&node.address(), LONG)), Ok(identity(TWO)));
    }
    for address in [NOWHERE, "nonsense"] {
        let error = block_on(connector.identify(address, LONG)).unwrap_err();
        assert!(error.to_string().contains(address), "{error}");
    }
}

fn a_client_that_asks_a_silent_stranger_has_its_answer_by_the_deadline(shell: &Shell) {
    // The system accepts, and nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connector = shell.connector(cluster_of(&[(ONE, NOWHERE.to_owned())]), None, limits());
    let started = std::time::Instant::now();
    let error = block_on(connector.identify(&address, Duration::from_millis(20))).unwrap_err();
    assert!(error.to_string().contains("deadline"), "{error}");
    assert!(started.elapsed() < LONG, "it took {:?}", started.elapsed());
}

fn a_client_reaches_nodes_that_it_learned_of(shell: &Shell) {
    let (one, two) = (Node::start(shell, ONE, limits()), Node::start(shell, TWO, limits()));
    let connector = shell.connector(cluster_of(&[(ONE, NOWHERE.to_owned())]), None, limits());
    let call = |to| block_on(connector.call(to, Bytes::from("x"), LONG));
    assert!(call(ONE).is_err() && call(TWO).is_err());
    connector.learn(&[(ONE, one.address()), (TWO, two.address())]);
    assert_eq!(connector.nodes(), [ONE, TWO]);
    assert_eq!(call(ONE), Ok(Bytes::from("x")));
    assert_eq!(call(TWO), Ok(Bytes::from("x")));
    // It has moved.
    one.shutdown();
    let moved = Node::start(shell, ONE, limits());
    connector.learn(&[(ONE, moved.address())]);
    assert_eq!(call(ONE), Ok(Bytes::from("x")));
}

fn a_client_falls_back_on_the_addresses_that_it_was_given(shell: &Shell) {
    let (one, two) = (Node::start(shell, ONE, limits()), Node::start(shell, TWO, limits()));
    let connector = shell.connector(cluster_of(&[(ONE, one.address())]), None, limits());
    for stale in [NOWHERE.to_owned(), two.address()] {
        connector.learn(&[(ONE, stale)]);
        let answer = block_on(connector.call(ONE, Bytes::from("x"), LONG));
        assert_eq!(answer, Ok(Bytes::from("x")));
    }
    assert_eq!(one.counters().requests, 2);
}

/// Nobody listens there: the port is for a service that nobody has any more.
const NOWHERE: &str = "127.0.0.1:1";

fn peer_at(node: NodeId, address: &str) -> Hello {
    let (incarnation, address) = (Incarnation(node.0 * 100), Some(address.to_owned()));
    Hello { dialler: Dialler::Peer { node, incarnation, address }, ..PEER }
}

fn quick_to_forget() -> TcpLimits {
    let (keep_alive, forget_after) = (Duration::from_millis(5), Duration::from_millis(20));
    TcpLimits { keep_alive, forget_after, ..limits() }
}

/// A cluster was recovered from one survivor, and a node of the old one is back.
fn a_client_that_was_told_no_cluster_stays_with_the_one_that_has_helped(shell: &Shell) {
    let (one, two) = (Node::start(shell, ONE, limits()), Node::start(shell, TWO, limits()));
    let left_behind = Node::start_with(shell, THREE, limits(), |options| {
        options.identity.cluster = ClusterId(CLUSTER.0 + 1);
    });
    let nodes = [(ONE, one.address()), (TWO, two.address()), (THREE, left_behind.address())];
    let connector = shell.connector(cluster_of(&nodes), None, limits());
    let call = |to| block_on(connector.call(to, Bytes::from("hello"), Duration::from_secs(30)));
    let is_refused = |call: Result<Bytes, CallError>| matches!(&call, Err(CallError::NotSent { reason, .. }) if reason.contains("this is cluster"));
    assert!(call(THREE).is_ok() && call(ONE).is_ok(), "nobody has helped yet");
    connector.stay_with(Some(ONE));
    assert!(is_refused(call(THREE)), "also where it was connected");
    assert!(call(ONE).is_ok() && call(TWO).is_ok());
    connector.stay_with(None);
    assert!(call(THREE).is_ok());
    connector.stay_with(Some(THREE));
    assert!(is_refused(call(TWO)));
}
