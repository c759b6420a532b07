//! A node's transport over sockets, whatever the sockets: its links to peers, and what was accepted.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

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

/// A node's transport over sockets.
pub(crate) struct Endpoint<N: Network> {
    pub(crate) identity: Identity,
    pub(crate) network: N,
    pub(crate) setup: Arc<Setup>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) accepted: Mutex<Accepted>,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    delivery: OnceLock<Delivery>,
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
            delivery: OnceLock::new(),
        });
        endpoint.set_peers(peers);
        endpoint
    }

    /// Starts to accept and to dial. A second call does nothing.
    pub(crate) fn start<L>(self: &Arc<Self>, listener: Arc<L>, delivery: Delivery)
    where
        L: Listener<Socket = N::Socket>,
    {
        if self.delivery.set(delivery).is_err() {
            return tracing::error!(me = %self.identity.node, "the transport is started twice");
        }
        self.spawn("net-accept", accept_connections(Arc::clone(self), listener));
        let links: Vec<Arc<Link>> = self.read_links().values().cloned().collect();
        links.into_iter().for_each(|link| self.spawn("net-out", link.run(Arc::clone(self))));
    }

    /// Where the peers listen from now on.
    pub(crate) fn set_peers(self: &Arc<Self>, peers: &Cluster) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.retain(|id, link| {
            let is_kept = peers.address(*id).is_some();
            if !is_kept {
                link.close();
            }
            is_kept
        });
        for (id, address) in peers.addresses().filter(|(id, _)| *id != self.identity.node) {
            if let Some(link) = links.get(&id) {
                link.set_address(address);
                continue;
            }
            let link = Link::new(id, address.to_owned(), &self.setup.limits);
            links.insert(id, Arc::clone(&link));
            if self.delivery.get().is_some() {
                self.spawn("net-out", link.run(Arc::clone(self)));
            }
        }
    }

    pub(crate) fn send(&self, packet: Packet) {
        match self.read_links().get(&packet.to()) {
            Some(link) => link.send(packet, &self.setup),
            None => self.setup.counters.dropped_unknown.add(1),
        }
    }

    /// Ends everything, without waiting for it.
    pub(crate) fn stop(&self) {
        self.tasks.stop();
        self.read_links().values().for_each(|link| link.close());
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

    /// Where to deliver; `None` once there is nobody any more, or not yet.
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        self.delivery.get().filter(|_| !self.tasks.is_stopped())
    }

    /// Tells the node that a connection to or from this peer was closed.
    pub(crate) fn disconnected(&self, peer: NodeId) {
        if let Some(delivery) = self.delivery() {
            delivery.inbox.disconnected(peer);
        }
    }

    pub(crate) fn accepted(&self) -> MutexGuard<'_, Accepted> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_links(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }
}
