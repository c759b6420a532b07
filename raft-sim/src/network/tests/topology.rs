use super::*;

/// The pairs of the three nodes that reach each other, as `12` for from 1 to 2.
fn reached(stand: &Stand) -> Vec<u64> {
    let nodes = [ONE, TWO, THREE];
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
    let pairs: Vec<_> = pairs.filter(|(from, to)| from != to).collect();
    for node in nodes {
        stand.notes(node).packets.clear();
    }
    for (from, to) in &pairs {
        stand.send(*from, *to, from.0 * 10 + to.0);
    }
    stand.run();
    let mut reached: Vec<u64> = nodes.iter().flat_map(|node| stand.numbers(*node)).collect();
    reached.sort_unstable();
    let open =
        |(from, to): &&(NodeId, NodeId)| !stand.network.is_cut(Site::Node(*from), Site::Node(*to));
    let said: Vec<u64> = pairs.iter().filter(open).map(|(from, to)| from.0 * 10 + to.0).collect();
    assert_eq!(reached, said);
    reached
}

#[test]
fn a_cut_closes_one_way_alone() {
    let stand = Stand::new(1);
    stand.network.cut(A, B);
    assert_eq!(reached(&stand), [13, 21, 23, 31, 32]);
    assert_eq!(stand.losses(), ["the way is cut"]);
    stand.network.mend(A, B);
    assert_eq!(reached(&stand), [12, 13, 21, 23, 31, 32]);
}

#[test]
fn a_partition_lets_sites_reach_only_their_group() {
    let stand = Stand::new(1);
    stand.network.partition(&[&[A, B], &[C, CLIENT]]);
    assert_eq!(reached(&stand), [12, 21]);
    assert!(stand.network.is_cut(CLIENT, A) && !stand.network.is_cut(CLIENT, C));
    // Who is in no group reaches nobody.
    stand.network.partition(&[&[B, C]]);
    assert_eq!(reached(&stand), [23, 32]);
    assert!(stand.network.is_cut(CLIENT, A) && stand.network.is_cut(B, CLIENT));
    stand.network.heal();
    assert_eq!(reached(&stand).len(), 6);
}

#[test]
fn an_isolated_site_reaches_nobody_until_it_rejoins() {
    let stand = Stand::new(1);
    stand.network.isolate(B);
    assert_eq!(reached(&stand), [13, 31]);
    assert!(stand.network.is_cut(CLIENT, B) && stand.network.is_cut(B, Site::Client(99)));
    stand.network.isolate(A);
    assert_eq!(reached(&stand), [0; 0]);
    stand.network.rejoin(B);
    assert_eq!(reached(&stand), [23, 32]);
}

#[test]
fn a_bridge_reaches_both_sides_that_do_not_reach_each_other() {
    let stand = Stand::new(1);
    stand.network.separate(&[A], &[C]);
    assert_eq!(reached(&stand), [12, 21, 23, 32]);
    stand.network.heal();
    assert_eq!(reached(&stand).len(), 6);
}

#[test]
fn cuts_partitions_and_isolations_do_not_undo_each_other() {
    let stand = Stand::new(1);
    stand.network.cut(A, B);
    stand.network.isolate(C);
    stand.network.partition(&[&[A, B, C]]);
    assert_eq!(reached(&stand), [21]);
    stand.network.rejoin(C);
    assert_eq!(reached(&stand), [13, 21, 23, 31, 32]);
}

#[test]
fn the_way_has_to_be_open_both_when_a_packet_leaves_and_when_it_arrives() {
    let stand = Stand::new(1);
    stand.send(ONE, TWO, 1);
    stand.network.isolate(B);
    stand.run();
    stand.send(ONE, TWO, 2);
    stand.network.heal();
    stand.run();
    assert!(stand.numbers(TWO).is_empty());
    assert_eq!(stand.losses(), ["the way is cut"; 2]);
}
