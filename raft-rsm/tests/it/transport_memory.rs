//! The network in memory keeps the contract of a transport, and breaks what it is told to break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use raft_rsm::Runtime;
use raft_rsm::raft_core::{Envelope, Incarnation, Member, Message, NodeId, Term};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::testing::transport::Network;
use raft_rsm::transport::memory::{Faults, MemoryNetwork, MemoryOptions};
use raft_rsm::transport::{CallError, Connector, Inbox, Packet, Reply, Service, Transport};

struct Memory {
    runtime: Arc<dyn Runtime>,
    network: MemoryNetwork,
}

impl Memory {
    fn new(codec: bool) -> Memory {
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
        let options = MemoryOptions { codec, ..MemoryOptions::default() };
        let network = MemoryNetwork::new(Arc::clone(&runtime), options);
        Memory { runtime, network }
    }
}

impl Network for Memory {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    fn transport(&self, id: NodeId) -> Arc<dyn Transport> {
        self.network.transport(id)
    }

    fn peers(&self) -> Vec<Member> {
        [1, 2, 3].map(|id| Member::new(NodeId(id), "")).into()
    }

    fn connector(&self) -> Arc<dyn Connector> {
        self.network.connector()
    }
}

mod as_they_are {
    use super::Memory;

    raft_rsm::transport_conformance!(Memory::new(false));
}

mod through_the_codec {
    use super::Memory;

    raft_rsm::transport_conformance!(Memory::new(true));
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// Notes the terms that arrive.
#[derive(Default)]
struct Terms(Mutex<Vec<u64>>);

impl Inbox for Terms {
    fn deliver(&self, packet: Packet) {
        let Packet::Raft(envelope) = packet else { panic!("{packet:?}") };
        self.0.lock().unwrap().push(envelope.term.0);
    }

    fn disconnected(&self, _peer: NodeId) {
        self.0.lock().unwrap().push(u64::MAX);
    }
}

impl Service for Terms {
    fn call(&self, request: Bytes, reply: Reply) {
        reply.send(request);
    }
}

/// Two nodes; sends numbered packets from the first to the second, then heals the network and sends a last one,
/// and returns what arrived before it.
fn arrivals(seed: u64, packets: u64, prepare: impl FnOnce(&MemoryNetwork)) -> Vec<u64> {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let options = MemoryOptions { seed, ..MemoryOptions::default() };
    let network = MemoryNetwork::new(Arc::clone(&runtime), options);
    let inboxes = [Arc::new(Terms::default()), Arc::new(Terms::default())];
    let transports = [network.transport(ONE), network.transport(TWO)];
    for (transport, inbox) in transports.iter().zip(&inboxes) {
        transport.start(Arc::clone(inbox) as _, Arc::clone(inbox) as _);
    }
    let send = |term| {
        let message = Message::VoteResponse { candidate: Incarnation(0), granted: true };
        transports[0].send(Packet::Raft(Envelope {
            from: ONE,
            incarnation: Incarnation(0),
            is_meant: true,
            to: TWO,
            term: Term(term),
            message,
        }));
    };
    prepare(&network);
    (0..packets).for_each(send);
    // What is cut is lost when it would have arrived.
    loop {
        let (out, into) = (network.counters(ONE), network.counters(TWO));
        if out.lost + into.packets_in >= out.packets_out {
            break;
        }
        block_on(runtime.sleep(Duration::from_millis(1)));
    }
    network.heal();
    network.set_faults(Faults::none());
    send(packets);
    loop {
        let mut terms = inboxes[1].0.lock().unwrap().clone();
        if terms.last() == Some(&packets) {
            terms.pop();
            return terms;
        }
        block_on(runtime.sleep(Duration::from_millis(1)));
    }
}

#[test]
fn without_faults_all_arrives_in_order() {
    assert_eq!(arrivals(1, 100, |_| {}), (0..100).collect::<Vec<_>>());
}

#[test]
fn packets_are_lost_by_chance_and_the_same_seed_loses_the_same() {
    let faults = Faults { loss: 0.3, ..Faults::none() };
    let lossy = |seed| arrivals(seed, 1_000, |network| network.set_faults(faults.clone()));
    let arrived = lossy(5);
    assert!((600..800).contains(&arrived.len()), "{} of 1000 arrived", arrived.len());
    assert_eq!(arrived, lossy(5));
    assert_ne!(arrived, lossy(6));
}

#[test]
fn packets_arrive_twice_by_chance() {
    let faults = Faults { duplicate: 0.5, ..Faults::none() };
    let arrived = arrivals(7, 1_000, |network| network.set_faults(faults));
    assert!((1_400..1_600).contains(&arrived.len()), "{} arrived", arrived.len());
}

#[test]
fn delayed_packets_stay_in_order_and_reordered_ones_do_not() {
    let delay = Duration::ZERO..Duration::from_millis(20);
    let delayed = Faults { delay: delay.clone(), ..Faults::none() };
    let arrived = arrivals(8, 200, |network| network.set_faults(delayed));
    assert_eq!(arrived, (0..200).collect::<Vec<_>>());
    let reordered = Faults { reorder: 0.5, reorder_delay: delay, ..Faults::none() };
    let mut arrived = arrivals(8, 200, |network| network.set_faults(reordered));
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..200).collect::<Vec<_>>());
}

#[test]
fn nothing_passes_a_cut_and_the_way_back_stays_open() {
    assert!(arrivals(9, 10, |network| network.cut(ONE, TWO)).is_empty());
    assert_eq!(arrivals(9, 10, |network| network.cut(TWO, ONE)).len(), 10);
    assert!(arrivals(9, 10, |network| network.isolate(TWO)).is_empty());
    assert!(arrivals(9, 10, |network| network.partition(&[&[ONE], &[TWO]])).is_empty());
    assert!(arrivals(9, 10, |network| network.partition(&[&[ONE]])).is_empty());
    assert_eq!(arrivals(9, 10, |network| network.partition(&[&[ONE, TWO]])).len(), 10);
}

#[test]
fn both_ends_of_a_connection_that_is_closed_are_told() {
    let arrived = arrivals(10, 0, |network| network.disconnect(ONE, TWO));
    assert_eq!(arrived, [u64::MAX]);
}

#[test]
fn packets_and_bytes_are_counted_at_both_ends() {
    let mut counters = None;
    let arrived = arrivals(11, 100, |network| counters = Some(network.clone()));
    assert_eq!(arrived.len(), 100);
    let network = counters.unwrap();
    let (one, two) = (network.counters(ONE), network.counters(TWO));
    assert_eq!((one.packets_out, two.packets_in, one.lost), (101, 101, 0));
    assert_eq!(one.bytes_out, two.bytes_in);
    assert!(one.bytes_out > 0);
}

#[test]
fn a_client_in_a_partition_does_not_reach_the_others() {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let network = MemoryNetwork::new(runtime, MemoryOptions::default());
    let transports = [network.transport(ONE), network.transport(TWO)];
    for transport in &transports {
        let node = Arc::new(Terms::default());
        transport.start(Arc::clone(&node) as _, node as _);
    }
    let connector = network.connector();
    connector.set_reach(Some(&[ONE]));
    let call = |to| block_on(connector.call(to, Bytes::from("x"), Duration::from_millis(50)));
    let error = call(TWO).unwrap_err();
    assert!(matches!(error, CallError::MaybeSent { .. }), "{error}");
    connector.set_reach(None);
    let call = |to| block_on(connector.call(to, Bytes::from("x"), Duration::from_secs(30)));
    assert_eq!(call(TWO), Ok(Bytes::from("x")));
}
