//! A node's transport over sockets, whatever the sockets: its links to peers, and what was accepted.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use raft_core::NodeId;

use super::incoming::{Accepted, accept_connections};
use super::link::Link;
use super::pump::Setup;
use super::socket::{Listener, Network};
use super::tasks::Tasks;
use crate::transport::{Inbox, Packet, Service};
use crate::{Cluster, Identity};

/// How long a warning stands before one of its kind is written again.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// A node's transport over sockets.
pub(crate) struct Endpoint<N: Network> {
    pub(crate) identity: Identity,
    pub(crate) network: N,
    pub(crate) setup: Arc<Setup>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) accepted: Mutex<Accepted>,
    links: RwLock<Links>,
    /// When a warning of each kind was last written.
    warned: Mutex<BTreeMap<&'static str, Duration>>,
    /// Gone once it stops: whoever is delivered to may own this transport.
    delivery: RwLock<Option<Arc<Delivery>>>,
}

#[derive(Default)]
struct Links {
    by_peer: BTreeMap<NodeId, Arc<Link>>,
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
        peers: &Cluster,
        setup: Arc<Setup>,
    ) -> Arc<Endpoint<N>> {
        let endpoint = Arc::new(Endpoint {
            identity,
            network,
            setup,
            tasks: Tasks::new(),
            accepted: Mutex::default(),
            links: RwLock::default(),
            warned: Mutex::default(),
            delivery: RwLock::default(),
        });
        endpoint.set_peers(peers);
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

    /// Where the peers listen from now on.
    pub(crate) fn set_peers(self: &Arc<Self>, peers: &Cluster) {
        let mut links = self.write_links();
        links.by_peer.retain(|id, link| {
            let is_kept = peers.address(*id).is_some();
            if !is_kept {
                link.close();
            }
            is_kept
        });
        for (id, address) in peers.addresses().filter(|(id, _)| *id != self.identity.node) {
            if let Some(link) = links.by_peer.get(&id) {
                link.set_address(address);
                continue;
            }
            let link = Link::new(id, address.to_owned(), &self.setup.limits);
            if links.are_started {
                self.start_link(&link);
            }
            links.by_peer.insert(id, link);
        }
    }

    /// A peer has just reached this node, so it can be reached, too: dials it at once if it waits to.
    pub(crate) fn heard_of(&self, peer: NodeId) {
        if let Some(link) = self.read_links().by_peer.get(&peer) {
            link.dial_now();
        }
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
