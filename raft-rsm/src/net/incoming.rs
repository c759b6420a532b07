//! Connections that others dial: handshake, and packets from peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_core::NodeId;

use super::batch::WriteBatch;
use super::endpoint::Endpoint;
use super::frame::{Frame, FrameKind};
use super::handshake::{
    Dialler, HANDSHAKE_BODY_BYTES_MAX, Hello, HelloAnswer, NoHandshake, PROTOCOL_VERSION, Refusal,
    Refused,
};
use super::message_codec::decode_packet;
use super::pump::{CloseOnDrop, FrameReader, ReadError, add_keep_alive};
use super::session::serve_client;
use super::socket::{Listener, Network, Socket};
use crate::Incarnation;

/// How long to wait after an accept that failed: mostly there are too many open files, which passes.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What was accepted and is still open.
#[derive(Default)]
pub(crate) struct Accepted {
    /// Connections whose handshake is under way.
    handshakes: usize,
    clients: usize,
    peers: BTreeMap<NodeId, PeerConnection>,
    last_serial: u64,
}

/// What was accepted from a peer.
pub(crate) struct PeerConnection {
    pub(crate) incarnation: Incarnation,
    serial: u64,
    since: Duration,
    close: Box<dyn Fn() + Send>,
}

/// Whose an accepted connection is.
#[derive(Copy, Clone)]
pub(crate) struct PeerPlace {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Which of all that were accepted.
    pub(crate) serial: u64,
}

/// The place that an accepted connection takes, until it is dropped.
pub(crate) struct Place<N: Network> {
    endpoint: Arc<Endpoint<N>>,
    kind: PlaceKind,
}

#[derive(Copy, Clone)]
enum PlaceKind {
    Handshake,
    Client,
    Peer(PeerPlace),
}

impl Accepted {
    /// What was accepted from peers and is still open.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NodeId, &PeerConnection)> {
        self.peers.iter().map(|(node, connection)| (*node, connection))
    }
}

impl PeerConnection {
    /// Ends it. Its place is free once nobody reads from it any more.
    pub(crate) fn close(&self) {
        (self.close)();
    }
}

/// Accepts connections until the listener is stopped.
pub(crate) async fn accept_connections<N, L>(endpoint: Arc<Endpoint<N>>, listener: Arc<L>)
where
    N: Network,
    L: Listener<Socket = N::Socket>,
{
    let me = endpoint.identity.node;
    while !endpoint.tasks.is_stopped() {
        match listener.accept().await {
            Ok(socket) => welcome(&endpoint, socket),
            Err(_) if endpoint.tasks.is_stopped() => return,
            Err(error) => {
                tracing::warn!(%me, %error, "cannot accept a connection");
                endpoint.setup.runtime.sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn welcome<N: Network>(endpoint: &Arc<Endpoint<N>>, socket: N::Socket) {
    let socket = CloseOnDrop(socket);
    let mut accepted = endpoint.accepted();
    if accepted.handshakes >= endpoint.setup.limits.handshakes_max {
        drop(accepted);
        return endpoint.setup.counters.refused_busy.add(1);
    }
    accepted.handshakes += 1;
    drop(accepted);
    let place = Place { endpoint: Arc::clone(endpoint), kind: PlaceKind::Handshake };
    endpoint.spawn("net-in", serve(Arc::clone(endpoint), socket, place));
}

/// One accepted connection, to its end.
async fn serve<N: Network>(
    endpoint: Arc<Endpoint<N>>,
    socket: CloseOnDrop<N::Socket>,
    handshake: Place<N>,
) {
    let closing = socket.0.clone();
    let Some(_open) = endpoint.tasks.socket(move || closing.close()) else { return };
    let setup = &endpoint.setup;
    let mut reader =
        FrameReader::new(socket.0.clone(), HANDSHAKE_BODY_BYTES_MAX, Arc::clone(setup));
    let Some((place, address)) = shake_hands(&endpoint, &socket.0, &mut reader).await else {
        return;
    };
    drop(handshake);
    setup.counters.accepted.add(1);
    reader.set_body_bytes_max(setup.limits.frame_bytes_max);
    match place.kind {
        PlaceKind::Peer(peer) => {
            let PeerPlace { node, incarnation, serial } = peer;
            tracing::info!(me = %endpoint.identity.node, peer = %node, ?address, "accepted a peer");
            endpoint.heard_of(&peer, address.as_deref());
            let error = receive_packets(&endpoint, &socket.0, &mut reader, node).await;
            closed(&endpoint, &socket.0, &format!("peer {node}"), &error);
            // Before its place is free: whoever takes that may need the room for a link, too.
            endpoint.left(node, serial);
            drop(place);
            // Nothing of the one that counts is lost with a connection of another.
            if endpoint.counts(node, incarnation) {
                endpoint.disconnected(node);
            }
        }
        PlaceKind::Client | PlaceKind::Handshake => {
            let error = serve_client(&endpoint, socket.0.clone(), &mut reader).await;
            closed(&endpoint, &socket.0, "a client", &error);
            drop(place);
        }
    }
}

/// Notes why an accepted connection has ended.
fn closed<N: Network>(endpoint: &Endpoint<N>, socket: &N::Socket, whose: &str, error: &EndError) {
    let (me, from) = (endpoint.identity.node, socket.peer_address());
    match error {
        EndError::Read(ReadError::Io(error)) => {
            tracing::debug!(%me, ?from, %error, "the connection of {whose} has ended");
        }
        EndError::Read(ReadError::Frame(_)) | EndError::Unexpected(_) => {
            endpoint.setup.counters.bad_frames.add(1);
            if endpoint.warns("bad frame") {
                tracing::warn!(%me, ?from, %error, "closed the connection of {whose}");
            }
        }
    }
}

/// Why an accepted connection has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Unexpected(String),
}

/// Reads the hello and answers it; returns the connection's place, and where a peer says that it listens. `None`: the
/// connection was refused, or nothing sensible came.
async fn shake_hands<N: Network>(
    endpoint: &Arc<Endpoint<N>>,
    socket: &N::Socket,
    reader: &mut FrameReader<N::Socket>,
) -> Option<(Place<N>, Option<String>)> {
    let (setup, me) = (&endpoint.setup, endpoint.identity.node);
    let from = socket.peer_address();
    let hello = match reader.next_within(setup.limits.handshake_timeout).await {
        Ok(Frame { kind: FrameKind::Hello, body }) => {
            Hello::decode(body).map_err(|error| error.to_string())
        }
        Ok(_) => Err(NoHandshake.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => {
            setup.counters.failed_handshakes.add(1);
            if endpoint.warns("no handshake") {
                tracing::warn!(%me, ?from, error, "closed a connection without a handshake");
            }
            return None;
        }
    };
    let verdict =
        hello.judge(&endpoint.identity).and_then(|()| admit(endpoint, socket, &hello.dialler));
    let (verdict, place) = match verdict {
        Ok(place) => (Ok(()), Some(place)),
        Err(refused) => {
            setup.counters.refuse(refused.refusal);
            if endpoint.warns(refused.refusal.name()) {
                let dialler = &hello.dialler;
                tracing::warn!(%me, ?from, ?dialler, reason = %refused, "refused a connection");
            }
            (Err(refused), None)
        }
    };
    let answer = HelloAnswer { version: PROTOCOL_VERSION, identity: endpoint.identity, verdict };
    let mut batch = WriteBatch::default();
    // The reason is cut to a length far below the limit.
    let _ = batch.frame(FrameKind::HelloAnswer, HANDSHAKE_BODY_BYTES_MAX, |out| {
        answer.encode(out);
        None
    });
    socket.write(&mut batch, setup.limits.handshake_timeout).await.ok()?;
    let address = match hello.dialler {
        Dialler::Peer { address, .. } => address,
        Dialler::Client => None,
    };
    place.map(|place| (place, address))
}

/// Gives a dialler whose hello is right its place.
fn admit<N: Network>(
    endpoint: &Arc<Endpoint<N>>,
    socket: &N::Socket,
    dialler: &Dialler,
) -> Result<Place<N>, Refused> {
    let connections_max = endpoint.setup.limits.connections_max;
    let busy = || Refused {
        refusal: Refusal::Busy,
        reason: format!("there are {connections_max} connections already"),
    };
    let mut accepted = endpoint.accepted();
    let (kind, replaced) = match dialler {
        Dialler::Client => {
            if accepted.clients >= connections_max {
                return Err(busy());
            }
            accepted.clients += 1;
            (PlaceKind::Client, None)
        }
        Dialler::Peer { node, incarnation, .. } => {
            let (node, incarnation) = (*node, *incarnation);
            let now = endpoint.setup.runtime.now();
            // Looked up under the lock of what was accepted: a new list closes what is there by then.
            let named = endpoint.named(node);
            let held_for = endpoint.setup.limits.place_held;
            let other = accepted.peers.get(&node).filter(|other| other.incarnation != incarnation);
            let holder = other.filter(|other| now.saturating_sub(other.since) < held_for);
            may_take_place(node, incarnation, named, holder.map(|holder| holder.incarnation))?;
            if let Some(other) = other
                && endpoint.warns("another incarnation takes the place")
            {
                let (me, before) = (endpoint.identity.node, other.incarnation);
                tracing::warn!(%me, peer = %node, %before, now = %incarnation, "two nodes have one id");
            }
            if !accepted.peers.contains_key(&node) && accepted.peers.len() >= connections_max {
                return Err(busy());
            }
            accepted.last_serial += 1;
            let place = PeerPlace { node, incarnation, serial: accepted.last_serial };
            let closing = socket.clone();
            let close = Box::new(move || closing.close());
            let connection =
                PeerConnection { incarnation, serial: place.serial, since: now, close };
            (PlaceKind::Peer(place), accepted.peers.insert(node, connection))
        }
    };
    drop(accepted);
    // The same process has dialled anew, or it was restarted, or it is not the one that counts: its connection is of no
    // use.
    if let Some(replaced) = replaced {
        replaced.close();
    }
    Ok(Place { endpoint: Arc::clone(endpoint), kind })
}

/// Whether an incarnation of `node` may take the place of that node. Where none is named, another one may hold it for a
/// while and no longer: nobody knows which of them is right, so each must be heard at some time.
fn may_take_place(
    node: NodeId,
    incarnation: Incarnation,
    named: Option<Incarnation>,
    holder: Option<Incarnation>,
) -> Result<(), Refused> {
    let (refusal, reason) = match (named, holder) {
        (Some(named), _) if named == incarnation => return Ok(()),
        (Some(named), _) => (
            Refusal::OtherIncarnation,
            format!("node {node} is incarnation {named}, and {incarnation} is another one"),
        ),
        (None, Some(holder)) => (
            Refusal::DuplicateNode,
            format!(
                "two nodes have the id {node}: the one with data directory {holder} is connected"
            ),
        ),
        (None, None) => return Ok(()),
    };
    Err(Refused { refusal, reason })
}

impl<N: Network> Drop for Place<N> {
    fn drop(&mut self) {
        let mut accepted = self.endpoint.accepted();
        match self.kind {
            PlaceKind::Handshake => accepted.handshakes -= 1,
            PlaceKind::Client => accepted.clients -= 1,
            PlaceKind::Peer(PeerPlace { node, serial, .. }) => {
                if accepted.peers.get(&node).is_some_and(|peer| peer.serial == serial) {
                    accepted.peers.remove(&node);
                }
            }
        }
    }
}

/// Delivers what a peer sends, until its connection ends; returns why it did.
async fn receive_packets<N: Network>(
    endpoint: &Endpoint<N>,
    socket: &N::Socket,
    reader: &mut FrameReader<N::Socket>,
    peer: NodeId,
) -> EndError {
    let limits = &endpoint.setup.limits;
    let mut batch = WriteBatch::default();
    let delivery = endpoint.delivery();
    loop {
        let frame = match reader.next(limits.silence_max).await {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        match frame.kind {
            FrameKind::Packet => {
                let packet = match decode_packet(frame.body) {
                    Ok(packet) => packet,
                    Err(error) => return EndError::Unexpected(error.to_string()),
                };
                if packet.from() != peer || packet.to() != endpoint.identity.node {
                    let way = format!("a packet from {} to {}", packet.from(), packet.to());
                    return EndError::Unexpected(way);
                }
                if let Some(delivery) = &delivery
                    && !endpoint.tasks.is_stopped()
                {
                    delivery.inbox.deliver(packet);
                }
            }
            FrameKind::KeepAlive => {
                add_keep_alive(&mut batch);
                if let Err(error) = socket.write(&mut batch, limits.write_timeout).await {
                    return ReadError::Io(error).into();
                }
                endpoint.setup.counters.frames_out.add(1);
                batch.clear();
            }
            FrameKind::Hello
            | FrameKind::HelloAnswer
            | FrameKind::Request
            | FrameKind::Response => {
                return EndError::Unexpected(format!("a frame of the kind {:?}", frame.kind));
            }
        }
    }
}
