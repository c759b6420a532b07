//! The way to one peer: packets go out on a connection that is dialled from here.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use raft_core::NodeId;

use super::backoff::Backoff;
use super::batch::WriteBatch;
use super::dial::{DialError, Dialled, dial, hello_of_peer};
use super::endpoint::Endpoint;
use super::frame::FrameKind;
use super::message_codec::{encode_packet, packet_bytes};
use super::pump::{FrameReader, Outgoing, Setup, write_frames};
use super::queue::{BatchQueue, PushError};
use super::socket::{Network, Socket};
use super::target::{Dial, Target};
use crate::Incarnation;
use crate::transport::{Packet, TcpLimits};

/// A connection that lived for so long was good.
const GOOD: Duration = Duration::from_secs(1);

/// The way to one peer.
pub(crate) struct Link {
    peer: NodeId,
    queue: BatchQueue<Packet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    target: Target,
    /// Closes the connection that there is.
    close: Option<Box<dyn Fn() + Send>>,
    /// Which incarnation is at its other end.
    reached: Option<Incarnation>,
    /// There is a reason not to wait before dialling.
    dial_now: bool,
}

impl Link {
    /// A way to nowhere, until it is told where the peer listens.
    pub(crate) fn new(peer: NodeId, limits: &TcpLimits) -> Arc<Link> {
        let queue = BatchQueue::new(limits.queue_packets_max, limits.queue_bytes_max);
        Arc::new(Link { peer, queue, state: Mutex::default() })
    }

    /// Queues a packet; drops it when the queue is full.
    pub(crate) fn send(&self, packet: Packet, setup: &Setup) {
        let bytes = packet_bytes(&packet);
        match self.queue.push(packet, bytes) {
            Ok(()) => {}
            Err(PushError::Full) => setup.counters.dropped_full.add(1),
            Err(PushError::Closed) => setup.counters.dropped_unknown.add(1),
        }
    }

    pub(crate) fn peer(&self) -> NodeId {
        self.peer
    }

    /// The list of the peers has this one, at this address, as this incarnation.
    pub(crate) fn name(&self, address: &str, incarnation: Option<Incarnation>) {
        let mut state = self.state();
        let is_news = state.target.name(address, incarnation);
        let is_at_other = state.reached.is_some_and(|reached| !state.target.counts(reached));
        if is_news || is_at_other {
            self.dial_anew(state);
        }
    }

    /// The list of the peers does not have this one. False: the link is closed.
    pub(crate) fn unname(&self) -> bool {
        let mut state = self.state();
        match state.target.unname() {
            Some(true) => self.dial_anew(state),
            Some(false) => {}
            None => {
                drop(state);
                self.close();
                return false;
            }
        }
        true
    }

    /// The peer has just reached this node, so it can be reached, too: dials it at once.
    pub(crate) fn hear(
        &self,
        serial: u64,
        from: Incarnation,
        address: Option<&str>,
        now: Duration,
    ) {
        let mut state = self.state();
        if state.target.hear(serial, from, address, now) {
            self.dial_anew(state);
        } else if state.close.is_none() {
            state.dial_now = true;
            drop(state);
            self.queue.wake();
        }
    }

    /// The peer's accepted connection `serial` has ended.
    pub(crate) fn left(&self, serial: u64, now: Duration) {
        self.state().target.left(serial, now);
    }

    /// Leaves the connection that there is.
    fn dial_anew(&self, mut state: MutexGuard<'_, State>) {
        state.dial_now = true;
        if let Some(close) = state.close.take() {
            close();
        }
        drop(state);
        self.queue.wake();
    }

    pub(crate) fn is_named(&self) -> bool {
        self.state().target.is_named()
    }

    /// The peer asks to be reached, on a connection that is still there.
    pub(crate) fn is_calling(&self) -> bool {
        self.state().target.is_calling()
    }

    /// Whether the peer is named, or asks to be reached, or did so lately.
    pub(crate) fn is_wanted(&self, setup: &Setup) -> bool {
        self.state().target.is_wanted(setup.runtime.now(), setup.limits.forget_after)
    }

    fn counts(&self, incarnation: Incarnation) -> bool {
        self.state().target.counts(incarnation)
    }

    /// Ends the link. Its connection is closed by its writer.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of others that may panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_dial(&self) -> Option<Dial> {
        let mut state = self.state();
        state.dial_now = false;
        state.target.dial()
    }

    /// Notes how to close the connection. False: what was dialled is no longer what is to be.
    fn connected(
        &self,
        version: u64,
        reached: Incarnation,
        close: impl Fn() + Send + 'static,
    ) -> bool {
        let mut state = self.state();
        state.close = Some(Box::new(close));
        state.reached = Some(reached);
        state.target.connected(version) && state.target.counts(reached)
    }

    fn unconnected(&self) {
        let mut state = self.state();
        (state.close, state.reached) = (None, None);
    }

    /// What was dialled, if that is the incarnation that counts.
    fn check<S: Socket>(
        &self,
        dialled: Dialled<S>,
        address: &str,
    ) -> Result<Dialled<S>, DialError> {
        let identity = dialled.identity;
        match self.state().target.incarnation() {
            Some(named) if named != identity.incarnation => {
                dialled.socket.close();
                let (address, identity) = (address.to_owned(), Box::new(identity));
                Err(DialError::OtherIncarnation { address, identity, named })
            }
            Some(_) | None => Ok(dialled),
        }
    }

    /// Dials, writes, and dials again, until the link is closed.
    pub(crate) async fn run<N: Network>(self: Arc<Self>, endpoint: Arc<Endpoint<N>>) {
        let setup = &endpoint.setup;
        let mut backoff = Backoff::new(setup.limits.reconnect_min, setup.limits.reconnect_max);
        let mut last_error = String::new();
        let mut is_first = true;
        while !self.queue.is_closed() && (self.is_wanted(setup) || !endpoint.forget(&self)) {
            let Some(Dial { address, asks_back, version }) = self.next_dial() else { return };
            let advertised = endpoint.advertised.clone().filter(|_| asks_back);
            let hello = hello_of_peer(&endpoint.identity, self.peer, advertised);
            let dialled = dial(&endpoint.network, setup, &endpoint.tasks, address.clone(), hello);
            match dialled.await.and_then(|dialled| self.check(dialled, &address)) {
                Ok(dialled) => {
                    let peer = self.peer;
                    tracing::info!(me = %endpoint.identity.node, %peer, address, "connected");
                    setup.counters.connects.add(1);
                    setup.counters.reconnects.add(u64::from(!is_first));
                    is_first = false;
                    last_error.clear();
                    let since = setup.runtime.now();
                    let reached = dialled.identity.incarnation;
                    self.use_connection(&endpoint, dialled, &address, version).await;
                    if setup.runtime.now().saturating_sub(since) >= GOOD {
                        backoff.reset();
                    }
                    setup.counters.dropped_unreachable.add_len(self.queue.clear());
                    // Nothing of the one that counts is lost with a connection to another.
                    if self.counts(reached) {
                        endpoint.disconnected(peer);
                    }
                }
                Err(error) => self.could_not_dial(&endpoint, &error, &mut last_error),
            }
            let wait = backoff.next(setup.runtime.random());
            self.wait(setup, wait).await;
        }
    }

    async fn use_connection<N: Network>(
        &self,
        endpoint: &Arc<Endpoint<N>>,
        dialled: Dialled<N::Socket>,
        address: &str,
        version: u64,
    ) {
        let Dialled { socket, reader, open, identity } = dialled;
        let closing = socket.clone();
        if !self.connected(version, identity.incarnation, move || closing.close()) {
            socket.close();
        }
        let (reading, reader_ended) = oneshot::channel();
        endpoint.spawn("net-watch", watch(reader, reading, endpoint.setup.limits.silence_max));
        let packets = Packets { link: self, setup: &endpoint.setup };
        write_frames(socket, &self.queue, packets, reader_ended, &endpoint.setup).await;
        self.unconnected();
        drop(open);
        tracing::info!(me = %endpoint.identity.node, peer = %self.peer, address, "disconnected");
    }

    fn could_not_dial<N: Network>(
        &self,
        endpoint: &Endpoint<N>,
        error: &DialError,
        last_error: &mut String,
    ) {
        let counters = &endpoint.setup.counters;
        let is_refused = match error {
            DialError::Refused { .. }
            | DialError::Misdirected { .. }
            | DialError::OtherIncarnation { .. } => true,
            DialError::Unreachable { .. }
            | DialError::Handshake { .. }
            | DialError::NoHandshake { .. }
            | DialError::Stopped => false,
        };
        if is_refused {
            counters.refused_dials.add(1);
        } else {
            counters.failed_dials.add(1);
        }
        // The same reason once: it is tried again each second, maybe for days.
        let error = error.to_string();
        if error != *last_error {
            let me = endpoint.identity.node;
            tracing::warn!(%me, peer = %self.peer, error, "cannot connect; trying again");
            *last_error = error;
        }
        self.state().target.failed();
        // What waited is stale by the next try.
        let dropped = self.queue.clear();
        counters.dropped_unreachable.add_len(dropped);
        if dropped > 0 {
            endpoint.disconnected(self.peer);
        }
    }

    /// Waits before dialling again, as long as there is no reason to hurry and the link is not closed.
    async fn wait(&self, setup: &Setup, duration: Duration) {
        let mut sleep = setup.runtime.sleep(duration);
        poll_fn(|context| {
            if self.queue.poll_closed(context).is_ready() || self.state().dial_now {
                return Poll::Ready(());
            }
            sleep.poll_unpin(context)
        })
        .await;
    }
}

/// Reads the signs of life that the peer returns, until the connection ends; the drop of `reading` tells the writer.
async fn watch<S: Socket>(
    mut reader: FrameReader<S>,
    reading: oneshot::Sender<()>,
    silence_max: Duration,
) {
    while reader.next(silence_max).await.is_ok() {}
    drop(reading);
}

/// Packets as they go out.
struct Packets<'s> {
    link: &'s Link,
    setup: &'s Setup,
}

impl Outgoing for Packets<'_> {
    type Item = Packet;

    fn encode(&mut self, packet: Packet, batch: &mut WriteBatch) {
        let body_bytes_max = self.setup.limits.frame_bytes_max;
        let encode = |out: &mut bytes::BytesMut| encode_packet(&packet, out);
        if let Err(error) = batch.frame(FrameKind::Packet, body_bytes_max, encode) {
            self.setup.counters.dropped_too_long.add(1);
            tracing::warn!(to = %packet.to(), %error, "a packet is too long to be sent");
        }
    }

    fn is_wanted(&mut self) -> bool {
        self.link.is_wanted(self.setup)
    }
}
