use raft_rsm::raft_core::{AppendOutcome, Configuration, Entry, SnapshotMeta};
use raft_rsm::transport::{SnapshotChunk, SnapshotResponse, SnapshotStatus};

use super::*;
use crate::event::{Digest, ParcelId};

/// One of each kind, from node 1 to node 2.
fn packets() -> Vec<Packet> {
    let id = EntryId::new(Term(5), LogIndex(6));
    let entries = vec![Entry::command(id, "command"), Entry::command(id, "")];
    let meta = SnapshotMeta { last: id, configuration: Configuration::default() };
    let response = |status| {
        Packet::SnapshotResponse(SnapshotResponse { from: ONE, to: TWO, transfer: 99, status })
    };
    let messages = [
        Message::PreVote { campaign: Term(8), last: id },
        Message::PreVoteResponse { campaign: Term(8), granted: true },
        Message::RequestVote { last: id, transfer: false },
        Message::VoteResponse { candidate: Incarnation(0), granted: false },
        Message::AppendEntries { previous: id, entries: entries.into(), commit: LogIndex(4) },
        Message::AppendResponse(AppendOutcome::Accepted { matched: LogIndex(4) }),
        Message::AppendResponse(AppendOutcome::Rejected { previous: LogIndex(4), hint: id }),
        Message::Heartbeat { commit: LogIndex(4), round: Some(3) },
        Message::Heartbeat { commit: LogIndex(4), round: None },
        Message::HeartbeatResponse { round: 3, received: LogIndex(4) },
    ];
    let mut packets: Vec<Packet> =
        messages.into_iter().map(|message| raft(ONE, TWO, message)).collect();
    packets.extend([
        Packet::SnapshotChunk(SnapshotChunk {
            from: ONE,
            to: TWO,
            transfer: 99,
            meta,
            image_bytes: 1 << 40,
            offset: 100,
            checksum: 7,
            data: Bytes::from(vec![0x5a; 300]),
        }),
        response(SnapshotStatus::Continue { reception: 7, offset: 12_345, held: vec![] }),
        response(SnapshotStatus::Continue { reception: 7, offset: 100, held: vec![400, 700] }),
        response(SnapshotStatus::Done),
        response(SnapshotStatus::Refused),
    ]);
    packets
}

#[test]
fn a_packet_of_each_kind_arrives_unchanged_and_in_order() {
    let stand = Stand::new(1);
    for packet in packets() {
        stand.lives[&ONE].transport.send(packet);
    }
    stand.run();
    let arrived = std::mem::take(&mut stand.notes(TWO).packets).into_iter();
    assert_eq!(arrived.map(|(_, packet)| packet).collect::<Vec<_>>(), packets());
    let (sender, receiver) = (stand.network.counters(ONE), stand.network.counters(TWO));
    assert_eq!((sender.packets_out, receiver.packets_in), (15, 15));
    assert_eq!(sender.bytes_out, receiver.bytes_in);
    assert!(sender.bytes_out > 15 * 20 + 300);
    assert_eq!((stand.network.in_flight(), receiver.reordered, sender.lost), (0, 0, 0));
}

#[test]
fn every_kind_of_packet_can_be_read_in_a_trace() {
    let lines: Vec<String> = packets().iter().map(describe).collect();
    assert_eq!(
        lines,
        [
            "PreVote t7 for t8 last 6.5",
            "PreVoteResponse t7 for t8 granted",
            "RequestVote t7 last 6.5",
            "VoteResponse t7 denied",
            "AppendEntries t7 after 6.5 +2 commit 4",
            "AppendResponse t7 matched 4",
            "AppendResponse t7 rejected after 4 hint 6.5",
            "Heartbeat t7 commit 4 round 3",
            "Heartbeat t7 commit 4",
            "HeartbeatResponse t7 round 3 received 4",
            "SnapshotChunk up to 6.5 bytes 100..400 of 1099511627776",
            "SnapshotResponse continue at 12345",
            "SnapshotResponse continue at 100, beyond [400, 700]",
            "SnapshotResponse done",
            "SnapshotResponse refused",
        ]
    );
}

#[test]
fn packets_for_several_nodes_arrive_at_each_and_nowhere_else() {
    let stand = Stand::new(1);
    for (from, to) in [(ONE, TWO), (ONE, THREE), (TWO, THREE), (THREE, ONE)] {
        stand.send(from, to, from.0 * 10 + to.0);
    }
    stand.run();
    assert_eq!(stand.numbers(ONE), [31]);
    assert_eq!(stand.numbers(TWO), [12]);
    let mut at_three = stand.numbers(THREE);
    at_three.sort_unstable();
    assert_eq!(at_three, [13, 23]);
}

#[test]
fn each_packet_is_told_as_sent_and_then_as_delivered_or_lost() {
    let stand = Stand::new(1);
    stand.send(ONE, TWO, 5);
    stand.send(ONE, NodeId(9), 6);
    stand.run();
    let told = stand.events(|event| {
        if let Event::Sent { parcel, packet, bytes, digest } = event {
            let encoded = raft_rsm::wire::encode_packet(packet);
            assert_eq!((*bytes, *digest), (encoded.len() + 20, Digest::of(&encoded)));
            return Some(format!("{} sent {}", parcel.0, number(packet)));
        }
        if let Event::Delivered { parcel, to } = event {
            return Some(format!("{} at {to}", parcel.0));
        }
        let Event::Lost { parcel, why } = event else { panic!("{event:?}") };
        Some(format!("{}: {why}", parcel.0))
    });
    assert_eq!(told, ["1 sent 5", "2 sent 6", "2: nobody is there", "1 at 2"]);
    let times: Vec<_> = stand.events.0.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!(times[3], stand.notes(TWO).packets[0].0);
}

#[test]
fn a_parcel_is_told_by_one_number_however_often_it_arrives() {
    let stand = Stand::with(1, Conditions { duplicate: 1.0, ..Conditions::reliable() });
    stand.send(ONE, TWO, 1);
    stand.run();
    let told = stand.events(|event| {
        if let Event::Delivered { parcel, .. } = event { Some(*parcel) } else { None }
    });
    assert_eq!(told, [ParcelId(1); 2]);
    assert_eq!(stand.numbers(TWO), [1, 1]);
}

#[test]
fn what_was_sent_to_an_earlier_life_does_not_reach_the_next_one() {
    let mut stand = Stand::new(1);
    stand.send(ONE, TWO, 1);
    stand.network.end_life(TWO, Crash::Killed);
    stand.send(ONE, TWO, 2);
    stand.start(TWO);
    stand.send(ONE, TWO, 3);
    stand.run();
    assert_eq!(stand.numbers(TWO), [3]);
    assert_eq!(stand.network.counters(ONE).lost, 2);
    assert_eq!(stand.losses(), ["nobody is there"; 2]);
}

#[test]
fn a_life_that_has_ended_sends_nothing_more_and_what_it_had_sent_arrives() {
    for crash in [Crash::Killed, Crash::PowerLost] {
        let mut stand = Stand::new(1);
        stand.send(ONE, TWO, 1);
        let earlier = Arc::clone(&stand.lives[&ONE].transport);
        stand.network.end_life(ONE, crash);
        earlier.send(request(ONE, TWO, 2));
        stand.start(ONE);
        earlier.send(request(ONE, TWO, 3));
        stand.send(ONE, TWO, 4);
        stand.run();
        assert_eq!(stand.numbers(TWO), [1, 4]);
        let sent = stand.events(|event| matches!(event, Event::Sent { .. }).then_some(()));
        assert_eq!(sent.len(), 2);
    }
}

#[test]
fn a_process_that_is_dead_sends_and_gets_nothing_even_before_its_life_is_ended() {
    let stand = Stand::new(1);
    stand.send(TWO, ONE, 1);
    stand.executor.kill(stand.lives[&ONE].process);
    stand.send(ONE, TWO, 2);
    stand.run();
    assert!(stand.numbers(ONE).is_empty() && stand.numbers(TWO).is_empty());
}

#[test]
fn a_transport_that_was_not_started_yet_is_not_reached() {
    let stand = Stand::new(1);
    let process = stand.executor.process();
    let _transport = stand.network.transport(TWO, process);
    stand.send(ONE, TWO, 1);
    let (_, answer) = stand.called(TWO, "x");
    assert!(matches!(answer, Err(CallError::NotSent { .. })), "{answer:?}");
    assert!(stand.numbers(TWO).is_empty());
}

#[test]
fn peers_of_a_killed_node_are_told_after_what_it_had_sent() {
    let stand = Stand::new(1);
    stand.run_for(MS);
    stand.send(ONE, TWO, 1);
    stand.network.end_life(ONE, Crash::Killed);
    stand.run();
    for node in [TWO, THREE] {
        let told = stand.notes(node).disconnected.clone();
        let [(at, ONE)] = told[..] else { panic!("{told:?}") };
        assert!(at > MS && at < MS * 3);
    }
    let noted = stand.notes(TWO);
    assert!(noted.packets[0].0 <= noted.disconnected[0].0);
    assert_eq!(stand.network.totals().disconnects, 2);
}

#[test]
fn nobody_is_told_of_a_loss_of_power_until_the_machine_is_back() {
    let mut stand = Stand::new(1);
    stand.network.end_life(ONE, Crash::PowerLost);
    stand.run();
    assert!(stand.notes(TWO).disconnected.is_empty());
    stand.start(ONE);
    stand.run();
    assert_eq!(stand.notes(TWO).disconnected.len(), 1);
    assert_eq!(stand.notes(THREE).disconnected.len(), 1);
    assert!(stand.notes(ONE).disconnected.is_empty());
}

#[test]
fn a_peer_beyond_a_cut_is_not_told_of_a_closed_connection() {
    let stand = Stand::new(1);
    stand.network.cut(A, B);
    stand.network.end_life(ONE, Crash::Killed);
    stand.run();
    assert!(stand.notes(TWO).disconnected.is_empty());
    assert_eq!(stand.notes(THREE).disconnected.len(), 1);
}

#[test]
fn after_a_shutdown_nothing_is_delivered_and_peers_are_told() {
    let stand = Stand::new(1);
    stand.send(ONE, TWO, 1);
    stand.lives[&TWO].transport.shutdown().now_or_never().expect("it is done at once");
    stand.send(TWO, ONE, 2);
    stand.lives[&TWO].transport.shutdown().now_or_never().expect("it may be called again");
    stand.run();
    assert!(stand.numbers(ONE).is_empty() && stand.numbers(TWO).is_empty());
    assert_eq!(stand.notes(ONE).disconnected.len(), 1);
}

#[test]
fn the_shutdown_of_an_earlier_life_leaves_the_next_one_alone() {
    let mut stand = Stand::new(1);
    let earlier = Arc::clone(&stand.lives[&TWO].transport);
    stand.start(TWO);
    earlier.shutdown().now_or_never().expect("it is done at once");
    stand.send(ONE, TWO, 1);
    stand.run();
    assert_eq!(stand.numbers(TWO), [1]);
}

#[test]
fn a_closed_connection_loses_what_is_on_it_and_both_ends_are_told() {
    let stand = Stand::new(1);
    stand.send(ONE, TWO, 1);
    stand.send(TWO, ONE, 2);
    stand.send(ONE, THREE, 3);
    stand.network.close_connection(A, B);
    stand.send(ONE, TWO, 4);
    stand.run();
    assert!(stand.numbers(ONE).is_empty());
    assert_eq!((stand.numbers(TWO), stand.numbers(THREE)), (vec![4], vec![3]));
    assert_eq!(stand.notes(ONE).disconnected, [(Duration::ZERO, TWO)]);
    assert_eq!(stand.notes(TWO).disconnected, [(Duration::ZERO, ONE)]);
    assert_eq!(stand.losses(), ["its connection was closed"; 2]);
}

#[test]
fn what_is_on_its_way_is_limited() {
    let stand = Stand::new(1);
    for sent in 0..IN_FLIGHT_MAX as u64 + 10 {
        stand.send(ONE, TWO, sent);
    }
    assert_eq!(stand.network.in_flight(), IN_FLIGHT_MAX);
    let call = stand.call(TWO, "x", SECOND);
    stand.run();
    assert!(matches!(ended(&call), (Duration::ZERO, Err(CallError::NotSent { .. }))));
    assert_eq!(stand.numbers(TWO).len(), IN_FLIGHT_MAX);
    assert_eq!(stand.network.counters(ONE).lost, 10);
    assert_eq!(stand.losses(), ["too much is on its way"; 11]);
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn a_network_that_is_cleared_keeps_nothing_and_says_nothing() {
    let stand = Stand::new(1);
    let call = stand.call(TWO, "x", SECOND);
    stand.run_for(Duration::from_micros(50));
    stand.send(ONE, TWO, 1);
    let told = stand.events.0.lock().unwrap().len();
    stand.network.clear();
    let [one, two] = [ONE, TWO].map(|node| Arc::strong_count(&stand.lives[&node].notes));
    assert_eq!((one, two), (1, 1));
    stand.send(ONE, TWO, 2);
    stand.run();
    assert!(ended(&call).1.is_err() && stand.numbers(TWO).is_empty());
    assert_eq!(stand.events.0.lock().unwrap().len(), told);
}

#[test]
fn the_same_seed_lets_the_same_happen() {
    let run = |seed| {
        let conditions = Conditions { duplicate: 0.1, ..Conditions::unreliable() };
        let stand = Stand::with(seed, conditions.with_long_reordering());
        for sent in 0..200 {
            stand.send(ONE, TWO, sent);
            stand.respond(TWO, THREE, sent);
            stand.call(TWO, "x", SECOND);
            stand.run_for(MS);
        }
        stand.network.end_life(TWO, Crash::Killed);
        stand.run();
        format!("{:?}", stand.events.0.lock().unwrap())
    };
    assert!(run(1) == run(1), "the same seed ran differently");
    assert!(run(1) != run(2), "the seed makes no difference");
}

#[test]
fn the_calls_of_clients_do_not_shift_the_luck_of_packets() {
    let run = |calls| {
        let stand = Stand::with(1, Conditions::unreliable());
        for sent in 0..200 {
            stand.send(ONE, TWO, sent);
            (0..calls).for_each(|_| drop(stand.call(TWO, "x", SECOND)));
            stand.run_for(MS);
        }
        stand.run();
        stand.numbers(TWO)
    };
    assert_eq!(run(0), run(3));
}

#[test]
fn a_node_that_was_paused_takes_what_has_arrived_in_its_order() {
    let stand = Stand::new(1);
    let process = stand.lives[&TWO].process;
    stand.executor.pause(process);
    for number in 0..50 {
        stand.send(ONE, TWO, number);
        stand.run_for(MS / 10);
        if number == 40 {
            assert!(stand.numbers(TWO).is_empty());
            stand.executor.resume(process);
        }
    }
    stand.run();
    assert!(stand.numbers(TWO).into_iter().eq(0..50));
}
