//! TCP on tokio (feature `tokio`).

mod socket;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use raft_core::NodeId;

use self::socket::{TokioListener, TokioNetwork};
use super::options::{BindError, TcpLimits, TcpOptions};
use super::{CallError, Connector, Inbox, Packet, Service, Transport, TransportCounters};
use crate::net::caller::Caller;
use crate::net::counters::Counters;
use crate::net::endpoint::{Delivery, Endpoint};
use crate::net::pump::Setup;
use crate::net::socket::Listener;
use crate::runtime::TokioRuntime;
use crate::{Cluster, ClusterId};

/// A node's TCP transport on tokio: one port for peers and clients.
pub struct TokioTransport {
    endpoint: Arc<Endpoint<TokioNetwork>>,
    listener: Mutex<Option<Arc<TokioListener>>>,
    local_address: SocketAddr,
}

impl TokioTransport {
    /// Listens. Nothing is accepted or dialled before [`Transport::start`].
    ///
    /// # Errors
    /// The address is no address, or its port is in use.
    pub fn bind(
        options: TcpOptions,
        runtime: Arc<TokioRuntime>,
    ) -> Result<Arc<TokioTransport>, BindError> {
        let TcpOptions { identity, listen, peers, limits } = options;
        let bind_error = |source| BindError { address: listen.clone(), source };
        let listener = TokioListener::bind(&listen, &runtime).map_err(bind_error)?;
        let local_address = listener.local_address().map_err(bind_error)?;
        let network = TokioNetwork::new(Arc::clone(&runtime));
        let setup = Setup { runtime, limits, counters: Counters::default() };
        Ok(Arc::new(TokioTransport {
            endpoint: Endpoint::new(identity, network, &peers, Arc::new(setup)),
            listener: Mutex::new(Some(Arc::new(listener))),
            local_address,
        }))
    }

    /// Where it listens: the actual port, also when any free one was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Where the peers listen from now on. Peers that are new are dialled, those that are gone are left.
    pub fn set_peers(&self, peers: &Cluster) {
        self.endpoint.set_peers(peers);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> TransportCounters {
        self.endpoint.setup.counters.read()
    }

    /// Ends everything, without waiting for it.
    fn stop(&self) {
        self.endpoint.stop();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.stop();
        }
    }
}

#[async_trait]
impl Transport for TokioTransport {
    fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            self.endpoint.start(listener, Delivery { inbox, service });
        }
    }

    fn send(&self, packet: Packet) {
        self.endpoint.send(packet);
    }

    fn packet_bytes_max(&self) -> Option<usize> {
        Some(self.endpoint.setup.limits.frame_bytes_max)
    }

    async fn shutdown(&self) {
        self.stop();
        self.endpoint.ended().await;
    }
}

impl Drop for TokioTransport {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for TokioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioTransport")
            .field("identity", &self.endpoint.identity)
            .field("local_address", &self.local_address)
            .finish_non_exhaustive()
    }
}

/// A client's connections by TCP on tokio: one a node, dialled when it is needed, for any number of calls at once.
///
/// It can be called from any executor. Dropped, it closes its connections.
pub struct TokioConnector {
    caller: Arc<Caller<TokioNetwork>>,
}

impl TokioConnector {
    /// Calls the nodes at these addresses. With a cluster id, a node of another cluster is not called; without one,
    /// whatever node listens there is.
    #[must_use]
    pub fn new(
        nodes: Cluster,
        cluster: Option<ClusterId>,
        limits: TcpLimits,
        runtime: Arc<TokioRuntime>,
    ) -> Arc<TokioConnector> {
        let network = TokioNetwork::new(Arc::clone(&runtime));
        let setup = Arc::new(Setup { runtime, limits, counters: Counters::default() });
        Arc::new(TokioConnector { caller: Caller::new(network, nodes, cluster, setup) })
    }

    /// Where the nodes listen from now on.
    pub fn set_nodes(&self, nodes: Cluster) {
        self.caller.set_nodes(nodes);
    }
}

#[async_trait]
impl Connector for TokioConnector {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        self.caller.call(to, request, deadline).await
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.caller.nodes()
    }
}

impl Drop for TokioConnector {
    fn drop(&mut self) {
        self.caller.stop();
    }
}

impl fmt::Debug for TokioConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioConnector").field("nodes", &self.nodes()).finish_non_exhaustive()
    }
}
