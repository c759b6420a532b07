//! A node's transport over sockets, whatever the sockets: its links to peers, and what was accepted.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use raft_core::{Member, NodeId};

use super::incoming::{Accepted, PeerPlace, accept_connections};
use super::link::Link;
use super::pump::Setup;
use super::socket::{Listener, Network};
use super::tasks::Tasks;
use crate::transport::{Inbox, Packet, Service};
use crate::{Cluster, Identity, Incarnation};

/// How long a warning stands before one of its kind is written again.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// A node's transport over sockets.
pub(crate) struct Endpoint<N: Network> {
    pub(crate) identity: Identity,
    pub(crate) network: N,
    pub(crate) setup: Arc<Setup>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) accepted: Mutex<Accepted>,
    /// Where the peers can reach this node, as it tells them.
    pub(crate) advertised: Option<String>,
    /// Where the peers listen, as long as nobody says anything else.
    first_peers: Cluster,
    links: RwLock<Links>,
    /// When a warning of each kind was last written.
    warned: Mutex<BTreeMap<&'static str, Duration>>,
    /// Gone once it stops: whoever is delivered to may own this transport.
    delivery: RwLock<Option<Arc<Delivery>>>,
}

#[derive(Default)]
struct Links {
    by_peer: BTreeMap<NodeId, Arc<Link>>,
    /// The list of the peers as it was said last.
    named: Vec<Member>,
    are_started: bool,
}

/// Where to deliver.
pub(crate) struct Delivery {
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) service: Arc<dyn Service>,
}

impl<N: Network> Endpoint<N> {
    pub(crate) fn new(
        identity: Identity,
        network: N,
        peers: Cluster,
        advertised: Option<String>,
        setup: Arc<Setup>,
    ) -> Arc<Endpoint<N>> {
        let first = peers.to_members();
        let endpoint = Arc::new(Endpoint {
            identity,
            network,
            setup,
            tasks: Tasks::new(),
            accepted: Mutex::default(),
            advertised,
            first_peers: peers,
            links: RwLock::default(),
            warned: Mutex::default(),
            delivery: RwLock::default(),
        });
        endpoint.set_peers(&first);
        endpoint
    }

    /// Starts to accept and to dial. A second call does nothing.
    pub(crate) fn start<L>(self: &Arc<Self>, listener: Arc<L>, delivery: Delivery)
    where
        L: Listener<Socket = N::Socket>,
    {
        let mut links = self.write_links();
        if links.are_started {
            return tracing::error!(me = %self.identity.node, "the transport is started twice");
        }
        links.are_started = true;
        *self.delivery.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(delivery));
        self.spawn("net-accept", accept_connections(Arc::clone(self), listener));
        links.by_peer.values().for_each(|link| self.start_link(link));
    }

    fn start_link(self: &Arc<Self>, link: &Arc<Link>) {
        self.spawn("net-out", Arc::clone(link).run(Arc::clone(self)));
    }

    /// Where the peers listen from now on, and which incarnation of each counts. Never waits; does nothing when nothing
    /// has changed.
    pub(crate) fn set_peers(self: &Arc<Self>, peers: &[Member]) {
        if self.read_links().named == peers || self.tasks.is_stopped() {
            return;
        }
        let mut links = self.write_links();
        links.named = peers.to_vec();
        let others = peers.iter().filter(|peer| peer.id != self.identity.node);
        let others: BTreeMap<NodeId, &Member> = others.map(|peer| (peer.id, peer)).collect();
        links.by_peer.retain(|id, link| others.contains_key(id) || link.unname());
        for (id, Member { address, incarnation, .. }) in others {
            if let Some(link) = links.by_peer.get(&id) {
                link.name(address, *incarnation);
                continue;
            }
            let known = Some(address.as_str()).filter(|address| !address.is_empty());
            // One that nobody knows where to find is known when it dials this node.
            if let Some(address) = known.or(self.first_peers.address(id)) {
                self.add_link(&mut links, id, |link| link.name(address, *incarnation));
            }
        }
        drop(links);
        self.close_others();
    }

    /// Closes what was accepted from incarnations that do not count. Whoever is admitted from now on was looked up in the
    /// new list.
    fn close_others(&self) {
        let accepted = self.accepted();
        for (peer, connection) in accepted.peers() {
            if !self.counts(peer, connection.incarnation) {
                connection.close();
            }
        }
    }

    /// The incarnation of a peer that the list names.
    pub(crate) fn named(&self, peer: NodeId) -> Option<Incarnation> {
        self.read_links().named.iter().find(|named| named.id == peer)?.incarnation
    }

    /// Whether this incarnation of a peer is, or may be, the one that counts.
    pub(crate) fn counts(&self, peer: NodeId, incarnation: Incarnation) -> bool {
        self.named(peer).is_none_or(|named| named == incarnation)
    }

    fn add_link(self: &Arc<Self>, links: &mut Links, id: NodeId, tell: impl FnOnce(&Link)) {
        let link = Link::new(id, &self.setup.limits);
        tell(&link);
        if links.are_started {
            self.start_link(&link);
        }
        links.by_peer.insert(id, link);
    }

    /// A peer has reached this node on an accepted connection; with an address, it asks for a way back, which it gets
    /// even if no list has it: it may know this node before this node knows anybody.
    pub(crate) fn heard_of(self: &Arc<Self>, caller: &PeerPlace, address: Option<&str>) {
        let now = self.setup.runtime.now();
        let PeerPlace { node: peer, incarnation, serial } = *caller;
        if let Some(link) = self.read_links().by_peer.get(&peer) {
            return link.hear(serial, incarnation, address, now);
        }
        if address.is_none() {
            return;
        }
        let mut links = self.write_links();
        if let Some(link) = links.by_peer.get(&peer) {
            return link.hear(serial, incarnation, address, now);
        }
        if has_room(&mut links, self.setup.limits.connections_max) {
            self.add_link(&mut links, peer, |link| link.hear(serial, incarnation, address, now));
        }
    }

    /// The accepted connection `serial` of a peer has ended.
    pub(crate) fn left(&self, peer: NodeId, serial: u64) {
        if let Some(link) = self.read_links().by_peer.get(&peer) {
            link.left(serial, self.setup.runtime.now());
        }
    }

    /// Removes a link that is no longer wanted. False: by now it is.
    pub(crate) fn forget(&self, link: &Arc<Link>) -> bool {
        let mut links = self.write_links();
        if link.is_wanted(&self.setup) {
            return false;
        }
        if links.by_peer.get(&link.peer()).is_some_and(|known| Arc::ptr_eq(known, link)) {
            links.by_peer.remove(&link.peer());
        }
        link.close();
        true
    }

    pub(crate) fn send(&self, packet: Packet) {
        match self.read_links().by_peer.get(&packet.to()) {
            Some(link) => link.send(packet, &self.setup),
            None => self.setup.counters.dropped_unknown.add(1),
        }
    }

    /// Ends everything, without waiting for it.
    pub(crate) fn stop(&self) {
        self.tasks.stop();
        let delivery = self.delivery.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(delivery);
        self.read_links().by_peer.values().for_each(|link| link.close());
    }

    /// Waits until nothing runs any more, or for as long as a shutdown may take.
    pub(crate) async fn ended(&self) {
        let timeout = self.setup.runtime.sleep(self.setup.limits.shutdown_timeout);
        match select(self.tasks.ended().boxed(), timeout).await {
            Either::Left(_) => {}
            Either::Right(_) => {
                tracing::error!(me = %self.identity.node, "some connections do not end");
            }
        }
    }

    pub(crate) fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let Some(running) = self.tasks.task() else { return };
        let task = async move {
            task.await;
            drop(running);
        };
        self.network.spawn(name, task.boxed());
    }

    /// Where to deliver; `None` before the start and once it stops.
    pub(crate) fn delivery(&self) -> Option<Arc<Delivery>> {
        self.delivery.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the node that a connection to or from this peer was closed.
    pub(crate) fn disconnected(&self, peer: NodeId) {
        if let Some(delivery) = self.delivery() {
            delivery.inbox.disconnected(peer);
        }
    }

    /// Whether to write a warning of this kind: whoever is refused comes again each second, maybe for days.
    pub(crate) fn warns(&self, kind: &'static str) -> bool {
        let now = self.setup.runtime.now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.get(kind).is_none_or(|last| now.saturating_sub(*last) >= WARN_AGAIN);
        if is_due {
            warned.insert(kind, now);
        }
        is_due
    }

    pub(crate) fn accepted(&self) -> MutexGuard<'_, Accepted> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_links(&self) -> RwLockReadGuard<'_, Links> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_links(&self) -> RwLockWriteGuard<'_, Links> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is room for a link to one more peer that is not named; makes some at the cost of those that no longer
/// call. Those that do are bounded like the connections that they call on.
fn has_room(links: &mut Links, unnamed_max: usize) -> bool {
    let unnamed = links.by_peer.values().filter(|link| !link.is_named()).count();
    if unnamed < unnamed_max {
        return true;
    }
    let idle = |link: &&Arc<Link>| !link.is_named() && !link.is_calling();
    let Some(link) = links.by_peer.values().find(idle).cloned() else { return false };
    link.close();
    links.by_peer.remove(&link.peer()).is_some()
}
