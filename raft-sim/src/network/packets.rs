//! The transport of a node: packets on their way from node to node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use raft_rsm::Transport;
use raft_rsm::raft_core::{Incarnation, Member, Message, NodeId};
use raft_rsm::transport::{Inbox, Packet, Service};
use raft_rsm::wire::{decode_packet, encode_packet};

use super::conditions::Direction;
use super::lies::{LIE_CHANCE, Lie, in_the_name_of};
use super::{Cause, Gate, Network, State};
use crate::event::{Crash, Digest, Event, ParcelId, Site};

/// What a frame adds to a packet on a connection, in bytes.
const FRAME_BYTES: usize = 20;

/// One life of a node, as the network sees it.
pub(super) struct NodeTransport {
    network: Network,
    node: NodeId,
    life: u64,
}

/// A packet on its way.
#[derive(Clone)]
struct Flight {
    id: u64,
    from: NodeId,
    to: NodeId,
    /// The life of `to` that it was sent to.
    life: u64,
    connection: u64,
    packet: Bytes,
    /// A network that lies says that it is from this node.
    in_the_name_of: Option<(NodeId, Option<Incarnation>)>,
}

impl NodeTransport {
    pub(super) fn new(network: Network, node: NodeId, life: u64) -> NodeTransport {
        NodeTransport { network, node, life }
    }
}

#[async_trait]
impl Transport for NodeTransport {
    fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>) {
        let mut state = self.network.lock();
        if let Some(life) = &mut state.node(self.node).life
            && life.id == self.life
        {
            life.gate = Some(Gate { process: life.process, inbox, service });
        }
    }

    /// Nodes are found by their id.
    fn set_peers(&self, _peers: &[Member]) {}

    fn send(&self, packet: Packet) {
        self.network.send(self.node, self.life, packet);
    }

    async fn shutdown(&self) {
        self.network.end(self.node, Some(self.life), Crash::Killed);
    }
}

impl fmt::Debug for NodeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTransport").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Network {
    fn send(&self, from: NodeId, life: u64, packet: Packet) {
        let mut state = self.lock();
        if !self.is_alive(&state, from, life) {
            return;
        }
        let (to, direction) = (packet.to(), direction(&packet));
        let encoded = encode_packet(&packet);
        let bytes = encoded.len() + FRAME_BYTES;
        let id = state.next_id();
        let now = self.now();
        let digest = Digest::of(&encoded);
        if let Packet::Raft(envelope) = &packet {
            state.node(from).incarnation = Some(envelope.incarnation);
        }
        let event = Event::Sent { parcel: ParcelId(id), packet: Arc::new(packet), bytes, digest };
        self.tell(&state, now, event);
        let counters = &mut state.node(from).counters;
        counters.packets_out += 1;
        counters.bytes_out += bytes as u64;

        let way = (Site::Node(from), Site::Node(to));
        let fate = state.draw(way.0, way.1, direction);
        let reached = state.nodes.get(&to).and_then(|node| node.life.as_ref());
        let reached = reached.filter(|life| life.gate.is_some()).map(|life| life.id);
        let departed = match reached {
            Some(life) => state.depart(now, way, bytes, fate).map(|departure| (life, departure)),
            None => Err(Cause::Absent),
        };
        match departed {
            Ok((life, departure)) => {
                let connection = departure.connection;
                let flight = Flight {
                    id,
                    from,
                    to,
                    life,
                    connection,
                    packet: encoded,
                    in_the_name_of: None,
                };
                if direction == Direction::Response {
                    self.maybe_forge(&mut state, departure.at, &flight);
                }
                if let Some(again) = departure.again {
                    state.node(from).counters.duplicated += 1;
                    self.carry(again, flight.clone());
                }
                self.carry(departure.at, flight);
            }
            Err(cause) => self.lose(&mut state, from, id, cause),
        }
    }

    fn carry(&self, at: Duration, flight: Flight) {
        let network = self.clone();
        self.shared.executor.call_at(at, move || network.arrive(flight));
    }

    fn lose(&self, state: &mut State, from: NodeId, id: u64, cause: Cause) {
        state.node(from).counters.lost += 1;
        self.tell(state, self.now(), Event::Lost { parcel: ParcelId(id), why: cause.why() });
    }

    fn arrive(&self, flight: Flight) {
        let Flight { id, from, to, life, connection, packet, in_the_name_of: name } = flight;
        let mut state = self.lock();
        let bytes = packet.len() + FRAME_BYTES;
        let way = (Site::Node(from), Site::Node(to));
        let (is_late, gate) = match state.land(way, connection) {
            Err(cause) => return self.lose(&mut state, from, id, cause),
            Ok(link) => {
                let is_late = id < link.last_arrived;
                link.last_arrived = link.last_arrived.max(id);
                (is_late, self.gate(&state, to, Some(life)))
            }
        };
        let Some(gate) = gate else { return self.lose(&mut state, from, id, Cause::Absent) };
        let counters = &mut state.node(to).counters;
        let Ok(packet) = decode_packet(packet) else {
            counters.unreadable += 1;
            return self.lose(&mut state, from, id, Cause::Unreadable);
        };
        counters.packets_in += 1;
        counters.bytes_in += bytes as u64;
        counters.reordered += u64::from(is_late);
        self.tell(&state, self.now(), Event::Delivered { parcel: ParcelId(id), to });
        drop(state);
        let packet = match name {
            Some((name, incarnation)) => in_the_name_of(packet, name, incarnation),
            None => packet,
        };
        self.hand(gate.process, move || gate.inbox.deliver(packet));
    }

    /// A network that lies lets a response arrive once more, right after itself, in the name of a third node.
    fn maybe_forge(&self, state: &mut State, at: Duration, flight: &Flight) {
        if state.lie != Some(Lie::AnswersForAnother) || !state.dice.lies.chance(LIE_CHANCE) {
            return;
        }
        let others = state.nodes.keys().filter(|node| **node != flight.from && **node != flight.to);
        let others: Vec<NodeId> = others.copied().collect();
        if others.is_empty() {
            return;
        }
        let name = *state.dice.lies.choose(&others);
        let name = (name, state.node(name).incarnation);
        state.in_flight += 1;
        self.carry(at, Flight { in_the_name_of: Some(name), ..flight.clone() });
    }
}

fn direction(packet: &Packet) -> Direction {
    match packet {
        Packet::SnapshotChunk(_) | Packet::Checksum(_) => Direction::Request,
        Packet::SnapshotResponse(_) => Direction::Response,
        Packet::Raft(envelope) => match envelope.message {
            Message::PreVote { .. }
            | Message::RequestVote { .. }
            | Message::AppendEntries { .. }
            | Message::Heartbeat { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. } => Direction::Request,
            Message::PreVoteResponse { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndexResponse { .. } => Direction::Response,
        },
    }
}
