//! A node's side of the network in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use raft_core::{Member, NodeId};

use super::faults::Fate;
use super::{Call, MemoryNetwork, Shared};
use crate::net::frame::HEADER_BYTES;
use crate::net::message_codec::{decode_packet, encode_packet, packet_bytes};
use crate::transport::{Inbox, Packet, Reply, Service, Transport};

/// One node's side of a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: MemoryNetwork,
    id: NodeId,
    gate: Mutex<Option<Arc<Gate>>>,
}

/// Where one life of a node is delivered to, until it is closed.
pub(super) struct Gate {
    /// Tells this life of the node from others: what was sent to an earlier one does not arrive.
    pub(super) life: u64,
    inbox: Arc<dyn Inbox>,
    service: Arc<dyn Service>,
    /// Held while something is delivered, so that nothing is once the node has shut down.
    open: Mutex<bool>,
}

impl MemoryTransport {
    pub(super) fn new(network: MemoryNetwork, id: NodeId) -> Arc<MemoryTransport> {
        Arc::new(MemoryTransport { network, id, gate: Mutex::new(None) })
    }

    fn gate(&self) -> MutexGuard<'_, Option<Arc<Gate>>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn open(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, packet: Packet) -> bool {
        let open = self.open();
        if *open {
            self.inbox.deliver(packet);
        }
        *open
    }

    pub(super) fn disconnected(&self, peer: NodeId) {
        let open = self.open();
        if *open {
            self.inbox.disconnected(peer);
        }
    }

    /// Hands a request over. Closed, it drops the reply, which tells the caller.
    pub(super) fn call(&self, request: Bytes, reply: Reply) {
        let open = self.open();
        if *open {
            self.service.call(request, reply);
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>) {
        let mut state = self.network.shared.lock();
        state.last_life += 1;
        let gate = Arc::new(Gate { life: state.last_life, inbox, service, open: Mutex::new(true) });
        state.nodes.insert(self.id, Arc::clone(&gate));
        drop(state);
        *self.gate() = Some(gate);
    }

    /// Nodes are found by their id.
    fn set_peers(&self, _peers: &[Member]) {}

    fn send(&self, packet: Packet) {
        if self.gate().is_some() {
            self.network.shared.send(self.id, packet);
        }
    }

    async fn shutdown(&self) {
        let Some(gate) = self.gate().take() else { return };
        *gate.open() = false;
        let mut state = self.network.shared.lock();
        // A newer life of the node may have taken the place.
        if state.nodes.get(&self.id).is_none_or(|current| current.life != gate.life) {
            return;
        }
        state.nodes.remove(&self.id);
        // Their callers are told by the drop.
        let (calls, others) =
            std::mem::take(&mut state.calls).into_iter().partition(|(_, call)| call.to == self.id);
        let calls: BTreeMap<u64, Call> = calls;
        state.calls = others;
        let others: Vec<_> = state.nodes.values().cloned().collect();
        drop(state);
        drop(calls);
        others.iter().for_each(|other| other.disconnected(self.id));
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    fn send(self: &Arc<Self>, from: NodeId, packet: Packet) {
        let to = packet.to();
        let Some((packet, bytes)) = self.on_the_wire(packet) else {
            return self.count(from, |counters| counters.lost += 1);
        };
        let mut state = self.lock();
        let fate = state.dice.throw();
        let counters = state.counters.entry(from).or_default();
        counters.packets_out += 1;
        counters.bytes_out += bytes;
        let life = state.nodes.get(&to).map(|gate| gate.life);
        drop(state);
        match (fate, life) {
            (Fate::Arrives { after, in_order, again }, Some(life)) => {
                if let Some(after) = again {
                    self.send_to(from, life, after, false, packet.clone(), bytes);
                }
                self.send_to(from, life, after, in_order, packet, bytes);
            }
            (Fate::Lost, _) | (Fate::Arrives { .. }, None) => {
                self.count(from, |counters| counters.lost += 1);
            }
        }
    }

    fn send_to(
        self: &Arc<Self>,
        from: NodeId,
        life: u64,
        after: Duration,
        in_order: bool,
        packet: Packet,
        bytes: u64,
    ) {
        let order = in_order.then(|| (from, packet.to()));
        let network = Arc::downgrade(self);
        let arrive = move || {
            if let Some(network) = network.upgrade() {
                network.arrive(from, life, packet, bytes);
            }
        };
        if !self.carry(after, order, Box::new(arrive)) {
            self.count(from, |counters| counters.lost += 1);
        }
    }

    fn arrive(&self, from: NodeId, life: u64, packet: Packet, bytes: u64) {
        let to = packet.to();
        let mut state = self.lock();
        let gate = state.nodes.get(&to).filter(|gate| gate.life == life).cloned();
        let is_cut = state.cut.contains(&(from, to));
        let Some(gate) = gate.filter(|_| !is_cut) else {
            state.counters.entry(from).or_default().lost += 1;
            return;
        };
        let counters = state.counters.entry(to).or_default();
        counters.packets_in += 1;
        counters.bytes_in += bytes;
        drop(state);
        gate.deliver(packet);
    }

    /// The packet as it arrives, and its length on a wire. `None`: it cannot be read at the other end.
    fn on_the_wire(&self, packet: Packet) -> Option<(Packet, u64)> {
        if !self.options.codec {
            let bytes = packet_bytes(&packet) as u64;
            return Some((packet, bytes));
        }
        let mut body = BytesMut::new();
        if let Some(payload) = encode_packet(&packet, &mut body) {
            body.extend_from_slice(payload);
        }
        let bytes = (HEADER_BYTES + body.len()) as u64;
        decode_packet(body.freeze()).ok().map(|packet| (packet, bytes))
    }
}
