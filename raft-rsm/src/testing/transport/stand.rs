//! Three nodes that note what they are given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use raft_core::NodeId;

use super::{LONG, Network, ONE, THREE, TWO};
use crate::transport::{CallError, Connector, Inbox, Packet, Reply, Service, Transport};

/// Three nodes and a client.
pub(super) struct Stand {
    nodes: BTreeMap<NodeId, Node>,
    connector: Arc<dyn Connector>,
}

struct Node {
    transport: Arc<dyn Transport>,
    notes: Arc<Notes>,
}

/// What one node was given.
#[derive(Default)]
struct Notes {
    id: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packets: Vec<Packet>,
    disconnected: Vec<NodeId>,
    requests: Vec<Bytes>,
    answering: Answering,
    held: Vec<(Bytes, Reply)>,
}

/// What the service does with requests.
#[derive(Copy, Clone, Default)]
pub(super) enum Answering {
    /// Answers with the node and the request.
    #[default]
    Echo,
    /// Drops the reply.
    Drop,
    /// Answers once there are so many, the last first.
    HoldBack(usize),
}

impl Stand {
    pub(super) fn new(network: &dyn Network) -> Stand {
        let transports = [ONE, TWO, THREE].map(|id| (id, network.transport(id)));
        let nodes = transports.map(|(id, transport)| (id, Node::start(id, transport)));
        Stand { nodes: nodes.into(), connector: network.connector() }
    }

    pub(super) fn restart(&mut self, network: &dyn Network, id: NodeId) {
        block_on(self.transport(id).shutdown());
        self.nodes.insert(id, Node::start(id, network.transport(id)));
    }

    pub(super) fn shutdown(&self) {
        let started = Instant::now();
        self.nodes.values().for_each(|node| block_on(node.transport.shutdown()));
        assert!(started.elapsed() < LONG, "the shutdown took {:?}", started.elapsed());
    }

    pub(super) fn transport(&self, id: NodeId) -> &dyn Transport {
        &*self.nodes[&id].transport
    }

    pub(super) fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector)
    }

    pub(super) fn call(&self, to: NodeId, request: &str) -> Result<Bytes, CallError> {
        block_on(self.connector.call(to, Bytes::from(request.to_owned()), LONG))
    }

    pub(super) fn packets(&self, id: NodeId) -> Vec<Packet> {
        self.state(id).packets.clone()
    }

    pub(super) fn requests(&self, id: NodeId) -> Vec<Bytes> {
        self.state(id).requests.clone()
    }

    pub(super) fn disconnected(&self, id: NodeId) -> Vec<NodeId> {
        self.state(id).disconnected.clone()
    }

    pub(super) fn answer(&self, id: NodeId, answering: Answering) {
        let mut state = self.state(id);
        state.answering = answering;
        let held = std::mem::take(&mut state.held);
        drop(state);
        drop(held);
    }

    /// Sends a packet until one arrives, as the protocol does: the first may be lost while a connection is made.
    /// Returns what arrived, and forgets what did.
    pub(super) fn send_until_it_arrives(&self, packet: &Packet) -> Packet {
        let (from, to) = (packet.from(), packet.to());
        self.state(to).packets.clear();
        let mut tries = 0;
        let mut arrived = None;
        wait_until(|| {
            if tries % 50 == 0 {
                self.transport(from).send(packet.clone());
            }
            tries += 1;
            // What was sent again earlier may come late: the kind tells.
            let packets = std::mem::take(&mut self.state(to).packets);
            arrived = packets.into_iter().find(|arrived| is_like(arrived, packet));
            arrived.is_some()
        });
        arrived.unwrap_or_else(|| packet.clone())
    }

    fn state(&self, id: NodeId) -> MutexGuard<'_, State> {
        self.nodes[&id].notes.state()
    }
}

/// Whether the two are of the same kind and way: then they have to be the same.
fn is_like(one: &Packet, other: &Packet) -> bool {
    let is_same_kind = match (one, other) {
        (Packet::Raft(one), Packet::Raft(other)) => {
            std::mem::discriminant(&one.message) == std::mem::discriminant(&other.message)
        }
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    };
    is_same_kind && one.from() == other.from()
}

impl Node {
    fn start(id: NodeId, transport: Arc<dyn Transport>) -> Node {
        let notes = Arc::new(Notes { id: id.0, state: Mutex::default() });
        transport.start(Arc::clone(&notes) as Arc<dyn Inbox>, Arc::clone(&notes) as _);
        Node { transport, notes }
    }
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn echo(&self, request: &Bytes) -> Bytes {
        let mut answer = format!("{}: ", self.id).into_bytes();
        answer.extend_from_slice(request);
        Bytes::from(answer)
    }
}

impl Inbox for Notes {
    fn deliver(&self, packet: Packet) {
        self.state().packets.push(packet);
    }

    fn disconnected(&self, peer: NodeId) {
        self.state().disconnected.push(peer);
    }
}

impl Service for Notes {
    fn call(&self, request: Bytes, reply: Reply) {
        let mut state = self.state();
        state.requests.push(request.clone());
        match state.answering {
            Answering::Echo => {
                drop(state);
                reply.send(self.echo(&request));
            }
            Answering::Drop => {
                drop(state);
                drop(reply);
            }
            Answering::HoldBack(until) => {
                state.held.push((request, reply));
                if state.held.len() >= until {
                    let held = std::mem::take(&mut state.held);
                    drop(state);
                    for (request, reply) in held.into_iter().rev() {
                        reply.send(self.echo(&request));
                    }
                }
            }
        }
    }
}

/// Waits for what other threads do.
pub(super) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it did not happen in {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
