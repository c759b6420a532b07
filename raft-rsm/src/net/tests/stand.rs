//! Nodes on ports of this machine that were free, and the other side as bytes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Buf;
use raft_core::{Configuration, EntryId, Member, SnapshotMeta};

use super::super::batch::WriteBatch;
use super::super::frame::FrameDecoder;
use super::super::message_codec::encode_packet;
use super::*;
use crate::transport::{
    Connector, Inbox, Reply, Service, SnapshotChunk, TcpOptions, Transport, TransportCounters,
};
use crate::{Cluster, Identity};

/// One of the two.
pub(super) enum Shell {
    Std(Arc<dyn crate::Runtime>),
    #[cfg(feature = "tokio")]
    Tokio(Arc<crate::runtime::TokioRuntime>),
}

pub(super) mod shell {
    use super::*;

    pub(in super::super) fn std() -> Shell {
        Shell::Std(Arc::new(crate::runtime::ThreadRuntime::new()))
    }

    #[cfg(feature = "tokio")]
    pub(in super::super) fn tokio() -> Shell {
        use ::tokio::runtime::{Builder, Runtime};
        static RUNTIME: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();
        let build = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let handle = RUNTIME.get_or_init(build).handle().clone();
        Shell::Tokio(Arc::new(crate::runtime::TokioRuntime::new(handle)))
    }
}

enum AnyTransport {
    Std(Arc<crate::transport::TcpTransport>),
    #[cfg(feature = "tokio")]
    Tokio(Arc<crate::transport::TokioTransport>),
}

macro_rules! of_any {
    ($transport:expr, $it:ident => $result:expr) => {
        match $transport {
            AnyTransport::Std($it) => $result,
            #[cfg(feature = "tokio")]
            AnyTransport::Tokio($it) => $result,
        }
    };
}

impl Shell {
    fn bind(&self, options: TcpOptions) -> AnyTransport {
        match self {
            Shell::Std(runtime) => AnyTransport::Std(
                crate::transport::TcpTransport::bind(options, Arc::clone(runtime)).unwrap(),
            ),
            #[cfg(feature = "tokio")]
            Shell::Tokio(runtime) => AnyTransport::Tokio(
                crate::transport::TokioTransport::bind(options, Arc::clone(runtime)).unwrap(),
            ),
        }
    }

    pub(super) fn connector(
        &self,
        nodes: Cluster,
        cluster: Option<ClusterId>,
        limits: TcpLimits,
    ) -> Arc<dyn Connector> {
        match self {
            Shell::Std(runtime) => {
                crate::transport::TcpConnector::new(nodes, cluster, limits, Arc::clone(runtime))
            }
            #[cfg(feature = "tokio")]
            Shell::Tokio(runtime) => {
                crate::transport::TokioConnector::new(nodes, cluster, limits, Arc::clone(runtime))
            }
        }
    }
}

pub(super) fn identity(node: NodeId) -> Identity {
    Identity { cluster: CLUSTER, node, incarnation: Incarnation(node.0 * 100) }
}

pub(super) fn cluster_of(nodes: &[(NodeId, String)]) -> Cluster {
    let parts: Vec<String> = nodes.iter().map(|(id, address)| format!("{id}={address}")).collect();
    parts.join(",").parse().unwrap()
}

/// A node under test.
pub(super) struct Node {
    transport: AnyTransport,
    notes: Arc<Notes>,
    id: NodeId,
}

#[derive(Default)]
pub(super) struct Notes(Mutex<State>);

#[derive(Default)]
struct State {
    terms: Vec<u64>,
    disconnected: Vec<NodeId>,
    answering: Answering,
    held: std::collections::VecDeque<(Bytes, Reply)>,
}

/// What the service does.
#[derive(Copy, Clone, Default)]
pub(super) enum Answering {
    #[default]
    Echo,
    Hold,
    /// Answers with so many bytes.
    Repeat(usize),
}

impl Node {
    pub(super) fn start(shell: &Shell, id: NodeId, limits: TcpLimits) -> Node {
        Node::start_at(shell, id, "127.0.0.1:0", limits)
    }

    pub(super) fn start_at(shell: &Shell, id: NodeId, listen: &str, limits: TcpLimits) -> Node {
        Node::start_with(shell, id, limits, |options| options.listen = listen.to_owned())
    }

    pub(super) fn start_with(
        shell: &Shell,
        id: NodeId,
        limits: TcpLimits,
        change: impl FnOnce(&mut TcpOptions),
    ) -> Node {
        let listen = "127.0.0.1:0".to_owned();
        let peers = cluster_of(&[(id, listen.clone())]);
        let mut options =
            TcpOptions { identity: identity(id), listen, advertise: None, peers, limits };
        change(&mut options);
        let transport = shell.bind(options);
        let notes = Arc::new(Notes::default());
        let (inbox, service) = (Arc::clone(&notes), Arc::clone(&notes));
        of_any!(&transport, it => it.start(inbox, service));
        Node { transport, notes, id }
    }

    pub(super) fn address(&self) -> String {
        of_any!(&self.transport, it => it.local_address()).to_string()
    }

    pub(super) fn counters(&self) -> TransportCounters {
        of_any!(&self.transport, it => it.counters())
    }

    pub(super) fn send(&self, packet: Packet) {
        of_any!(&self.transport, it => it.send(packet));
    }

    pub(super) fn shutdown(&self) {
        of_any!(&self.transport, it => block_on(it.shutdown()));
    }

    pub(super) fn set_peers(&self, peers: &[(NodeId, &Node)]) {
        let peers: Vec<_> = peers.iter().map(|(id, node)| (*id, node.address())).collect();
        self.set_peer_addresses(&peers);
    }

    pub(super) fn set_peer_addresses(&self, peers: &[(NodeId, String)]) {
        let peers: Vec<_> = peers.iter().map(|(id, at)| Member::new(*id, at.clone())).collect();
        self.set_members(&peers);
    }

    pub(super) fn set_members(&self, peers: &[Member]) {
        let me = [Member::new(self.id, self.address())];
        of_any!(&self.transport, it => it.set_peers(&[&me, peers].concat()));
    }

    pub(super) fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    pub(super) fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address()).unwrap()
    }

    pub(super) fn terms(&self) -> Vec<u64> {
        self.state().terms.clone()
    }

    pub(super) fn disconnected(&self) -> Vec<NodeId> {
        self.state().disconnected.clone()
    }

    pub(super) fn answer(&self, answering: Answering) {
        self.state().answering = answering;
    }

    pub(super) fn held(&self) -> usize {
        self.state().held.len()
    }

    pub(super) fn answer_one(&self) {
        let (request, reply) = self.state().held.pop_front().unwrap();
        reply.send(request);
    }

    /// It serves clients and takes packets.
    pub(super) fn assert_alive(&self) {
        let mut client = Raw::accepted(self, CLIENT);
        client.send_request(5, b"alive?");
        assert_eq!(client.read_response(), (5, Some(Bytes::from("alive?"))));
        let mut peer = Raw::accepted(self, PEER);
        peer.send_packet(&packet(TWO, 77));
        wait_until(|| self.terms().contains(&77));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.notes.state()
    }
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Notes {
    fn deliver(&self, packet: Packet) {
        if let Packet::Raft(envelope) = packet {
            self.state().terms.push(envelope.term.0);
        }
    }

    fn disconnected(&self, peer: NodeId) {
        self.state().disconnected.push(peer);
    }
}

impl Service for Notes {
    fn call(&self, request: Bytes, reply: Reply) {
        let mut state = self.state();
        match state.answering {
            Answering::Echo => reply.send(request),
            Answering::Hold => state.held.push_back((request, reply)),
            Answering::Repeat(bytes) => {
                drop(state);
                reply.send(Bytes::from(vec![7; bytes]));
            }
        }
    }
}

/// The other side of a connection, as bytes.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    decoder: FrameDecoder,
}

impl Raw {
    pub(super) fn new(node: &Node) -> Raw {
        let stream = node.dial();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Raw { stream, decoder: FrameDecoder::new(1 << 20) }
    }

    /// With a handshake that is accepted.
    pub(super) fn accepted(node: &Node, hello: Hello) -> Raw {
        let mut raw = Raw::new(node);
        assert_eq!(raw.shake_hands(hello).verdict, Ok(()));
        raw
    }

    pub(super) fn shake_hands(&mut self, hello: Hello) -> HelloAnswer {
        let mut body = BytesMut::new();
        hello.encode(&mut body);
        self.write_frame(FrameKind::Hello, &body);
        self.read_answer()
    }

    pub(super) fn read_answer(&mut self) -> HelloAnswer {
        HelloAnswer::decode(self.read_frame(FrameKind::HelloAnswer)).unwrap()
    }

    pub(super) fn write_frame(&mut self, kind: FrameKind, body: &[u8]) {
        self.try_write_frame(kind, body).unwrap();
    }

    fn try_write_frame(&mut self, kind: FrameKind, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).unwrap();
        self.stream.write_all(&[&header(kind, len, &[body])[..], body].concat())
    }

    /// The header alone of a frame that says to be so long.
    pub(super) fn write_header(&mut self, kind: FrameKind, body_bytes: u32) {
        let header: [u8; HEADER_BYTES] = header(kind, body_bytes, &[]);
        self.stream.write_all(&header).unwrap();
    }

    pub(super) fn send_packet(&mut self, packet: &Packet) {
        self.stream.write_all(&packet_frame(packet)).unwrap();
    }

    pub(super) fn send_request(&mut self, id: u64, request: &[u8]) {
        self.try_send_request(id, request).unwrap();
    }

    pub(super) fn try_send_request(&mut self, id: u64, request: &[u8]) -> io::Result<()> {
        self.try_write_frame(FrameKind::Request, &[&id.to_le_bytes(), request].concat())
    }

    pub(super) fn read_response(&mut self) -> (u64, Option<Bytes>) {
        let mut body = self.read_frame(FrameKind::Response);
        (body.get_u64_le(), (body.get_u8() == 1).then_some(body))
    }

    fn read_frame(&mut self, kind: FrameKind) -> Bytes {
        loop {
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                if frame.kind != FrameKind::KeepAlive {
                    assert_eq!(frame.kind, kind);
                    return frame.body;
                }
            }
            let mut piece = [0; 4096];
            let got = self.stream.read(&mut piece).unwrap();
            assert_ne!(got, 0, "the node has closed the connection");
            self.decoder.buffer().0.extend_from_slice(&piece[..got]);
        }
    }
}

pub(super) fn packet_frame(packet: &Packet) -> Vec<u8> {
    let mut batch = WriteBatch::default();
    batch.frame(FrameKind::Packet, 1 << 20, |out| encode_packet(packet, out)).unwrap();
    let mut bytes = vec![0; batch.remaining()];
    batch.copy_to_slice(&mut bytes);
    bytes
}

pub(super) fn chunk(from: NodeId, to: NodeId, bytes: usize) -> Packet {
    let meta = SnapshotMeta { last: EntryId::ZERO, configuration: Configuration::default() };
    let data = Bytes::from(vec![0; bytes]);
    Packet::SnapshotChunk(SnapshotChunk {
        from,
        to,
        transfer: 1,
        meta,
        image_bytes: 1 << 40,
        offset: 0,
        checksum: 0,
        data,
    })
}

/// A peer that shakes hands and reads nothing more.
pub(super) struct HungPeer(String);

impl HungPeer {
    pub(super) fn listen(id: NodeId) -> HungPeer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut streams = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let answer = HelloAnswer {
                    version: PROTOCOL_VERSION,
                    identity: identity(id),
                    verdict: Ok(()),
                };
                let mut body = BytesMut::new();
                answer.encode(&mut body);
                let len = u32::try_from(body.len()).unwrap();
                let header = header(FrameKind::HelloAnswer, len, &[&body]);
                let _ = stream.write_all(&[&header[..], &body].concat());
                // Held open, with what is in their buffers.
                streams.push(stream);
            }
        });
        HungPeer(address)
    }

    pub(super) fn address(&self) -> String {
        self.0.clone()
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
