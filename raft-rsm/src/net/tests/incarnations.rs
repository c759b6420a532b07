//! Two machines with one id, of which the configuration names at most one. (A disk was lost, its node was admitted again
//! elsewhere, and the old machine comes back.)

use raft_core::Member;

use super::*;

on_both_shells! {
    the_incarnation_that_is_named_takes_the_place_of_another
    an_incarnation_that_is_not_named_is_refused_whether_or_not_the_other_is_there
    another_incarnation_than_the_named_one_is_not_sent_to
    what_another_incarnation_says_of_where_it_listens_is_forgotten
    to_name_the_incarnation_that_is_connected_disturbs_nothing
    where_none_is_named_no_incarnation_keeps_the_others_out_for_ever
}

const OLD: Incarnation = Incarnation(200);
const NEW: Incarnation = Incarnation(201);

fn hello_as(incarnation: Incarnation, address: Option<String>) -> Hello {
    Hello { dialler: Dialler::Peer { node: TWO, incarnation, address }, ..PEER }
}

fn two_as(incarnation: Incarnation, address: &str) -> [Member; 1] {
    [Member::of_incarnation(TWO, incarnation, address)]
}

/// A node 2 of this incarnation.
fn start_two(shell: &Shell, incarnation: Incarnation) -> Node {
    Node::start_with(shell, TWO, limits(), |options| options.identity.incarnation = incarnation)
}

fn the_incarnation_that_is_named_takes_the_place_of_another(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let old = Raw::accepted(&node, hello_as(OLD, None));
    assert_eq!(refused(&node, hello_as(NEW, None)), Refusal::DuplicateNode);
    node.set_members(&two_as(NEW, ""));
    assert_closed(old.stream);
    let mut new = Raw::accepted(&node, hello_as(NEW, None));
    new.send_packet(&packet(TWO, 5));
    wait_until(|| node.terms() == [5]);
    assert!(node.disconnected().is_empty(), "of the one that counts nothing was lost");
}

fn an_incarnation_that_is_not_named_is_refused_whether_or_not_the_other_is_there(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    node.set_members(&two_as(NEW, ""));
    assert_eq!(refused(&node, hello_as(OLD, None)), Refusal::OtherIncarnation);
    let mut new = Raw::accepted(&node, hello_as(NEW, None));
    let mut raw = Raw::new(&node);
    let answer = raw.shake_hands(hello_as(OLD, None));
    let reason = answer.verdict.unwrap_err().to_string();
    assert!(reason.contains(&NEW.to_string()) && reason.contains(&OLD.to_string()), "{reason}");
    assert_eq!(node.counters().refused_incarnation, 2);
    new.send_packet(&packet(TWO, 5));
    wait_until(|| node.terms() == [5]);
}

fn another_incarnation_than_the_named_one_is_not_sent_to(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let (old, new) = (start_two(shell, OLD), start_two(shell, NEW));
    node.set_members(&[Member::new(TWO, old.address())]);
    wait_until(|| node.counters().connects == 1);
    // Where it listens is not known yet.
    node.set_members(&two_as(NEW, &old.address()));
    wait_until(|| node.counters().refused_dials > 0);
    node.send(packet_to(TWO, 1));
    node.set_members(&two_as(NEW, &new.address()));
    wait_until(|| {
        node.send(packet_to(TWO, 2));
        new.terms().contains(&2)
    });
    assert!(old.terms().is_empty());
}

fn what_another_incarnation_says_of_where_it_listens_is_forgotten(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let (old, new) = (start_two(shell, OLD), start_two(shell, NEW));
    // Nobody listens at the address of the list.
    node.set_members(&[Member::new(TWO, "127.0.0.1:1")]);
    let _old = Raw::accepted(&node, hello_as(OLD, Some(old.address())));
    wait_until(|| {
        node.send(packet_to(TWO, 1));
        old.terms().contains(&1)
    });
    node.set_members(&two_as(NEW, &new.address()));
    wait_until(|| {
        node.send(packet_to(TWO, 2));
        new.terms().contains(&2)
    });
    assert!(!old.terms().contains(&2));
}

fn to_name_the_incarnation_that_is_connected_disturbs_nothing(shell: &Shell) {
    let node = Node::start(shell, ONE, limits());
    let two = start_two(shell, NEW);
    for _ in 0..10 {
        node.set_members(&[Member::new(TWO, two.address())]);
        wait_until(|| node.counters().connects == 1 && node.counters().accepted == 1);
        node.set_members(&two_as(NEW, &two.address()));
    }
    two.send(packet(TWO, 3));
    wait_until(|| node.terms() == [3]);
    assert!(node.disconnected().is_empty() && two.disconnected().is_empty());
    assert_eq!(node.counters().connects, 1);
}

fn where_none_is_named_no_incarnation_keeps_the_others_out_for_ever(shell: &Shell) {
    let place_held = Duration::from_millis(20);
    let node = Node::start(shell, ONE, TcpLimits { place_held, ..limits() });
    let old = Raw::accepted(&node, hello_as(OLD, None));
    // It stays, and tries again as soon as it is sent away.
    wait_until(|| Raw::new(&node).shake_hands(hello_as(NEW, None)).verdict.is_ok());
    assert_closed(old.stream);
    wait_until(|| Raw::new(&node).shake_hands(hello_as(OLD, None)).verdict.is_ok());
}
