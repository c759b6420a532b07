//! What the shells over std and tokio have in common: all but their sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::options::{BindError, TcpOptions};
use super::{Inbox, Service};
use crate::Runtime;
use crate::net::counters::Counters;
use crate::net::endpoint::{Delivery, Endpoint};
use crate::net::pump::Setup;
use crate::net::socket::{Listener, Network};

/// An endpoint and the port that it listens on.
pub(super) struct Shell<N: Network, L: Listener<Socket = N::Socket>> {
    pub(super) endpoint: Arc<Endpoint<N>>,
    listener: Mutex<Option<Arc<L>>>,
    pub(super) local_address: SocketAddr,
}

impl<N: Network, L: Listener<Socket = N::Socket>> Shell<N, L> {
    pub(super) fn new(
        options: TcpOptions,
        listener: L,
        network: N,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Shell<N, L>, BindError> {
        let bind_error = |source| BindError { address: options.listen.clone(), source };
        let local_address = listener.local_address().map_err(bind_error)?;
        let advertised = options.advertised(local_address).map_err(bind_error)?;
        let TcpOptions { identity, peers, limits, .. } = options;
        let setup = Arc::new(Setup { runtime, limits, counters: Counters::default() });
        Ok(Shell {
            endpoint: Endpoint::new(identity, network, peers, advertised, setup),
            listener: Mutex::new(Some(Arc::new(listener))),
            local_address,
        })
    }

    pub(super) fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            self.endpoint.start(listener, Delivery { inbox, service });
        }
    }

    /// Ends everything, without waiting for it.
    pub(super) fn stop(&self) {
        self.endpoint.stop();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.stop();
        }
    }
}

/// Makes a transport of a type with a field `shell`.
macro_rules! transport_over_sockets {
    ($transport:ident) => {
        impl $transport {
            /// Where it listens: the actual port, also when any free one was asked for.
            #[must_use]
            pub fn local_address(&self) -> std::net::SocketAddr {
                self.shell.local_address
            }

            /// What was counted so far.
            #[must_use]
            pub fn counters(&self) -> $crate::transport::TransportCounters {
                self.shell.endpoint.setup.counters.read()
            }
        }

        #[async_trait::async_trait]
        impl $crate::transport::Transport for $transport {
            fn start(
                &self,
                inbox: std::sync::Arc<dyn $crate::transport::Inbox>,
                service: std::sync::Arc<dyn $crate::transport::Service>,
            ) {
                self.shell.start(inbox, service);
            }

            fn set_peers(&self, peers: &[raft_core::Member]) {
                self.shell.endpoint.set_peers(peers);
            }

            fn send(&self, packet: $crate::transport::Packet) {
                self.shell.endpoint.send(packet);
            }

            fn packet_bytes_max(&self) -> Option<usize> {
                Some(self.shell.endpoint.setup.limits.frame_bytes_max)
            }

            async fn shutdown(&self) {
                self.shell.stop();
                self.shell.endpoint.ended().await;
            }
        }

        impl Drop for $transport {
            fn drop(&mut self) {
                self.shell.stop();
            }
        }

        impl std::fmt::Debug for $transport {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($transport))
                    .field("identity", &self.shell.endpoint.identity)
                    .field("local_address", &self.shell.local_address)
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Makes a connector of a type with a field `caller`.
macro_rules! connector_over_sockets {
    ($connector:ident) => {
        impl $connector {
            /// Where the nodes listen from now on. What was learned stays, but for the cluster that they are of, if that was
            /// not told.
            pub fn set_nodes(&self, nodes: $crate::Cluster) {
                self.caller.set_nodes(nodes);
            }
        }

        #[async_trait::async_trait]
        impl $crate::transport::Connector for $connector {
            async fn call(
                &self,
                to: raft_core::NodeId,
                request: bytes::Bytes,
                deadline: std::time::Duration,
            ) -> Result<bytes::Bytes, $crate::transport::CallError> {
                self.caller.call(to, request, deadline).await
            }

            fn nodes(&self) -> Vec<raft_core::NodeId> {
                self.caller.nodes()
            }

            fn learn(&self, nodes: &[(raft_core::NodeId, String)]) {
                self.caller.learn(nodes);
            }

            fn stay_with(&self, node: Option<raft_core::NodeId>) {
                self.caller.stay_with(node);
            }

            async fn identify(
                &self,
                address: &str,
                deadline: std::time::Duration,
            ) -> Result<$crate::Identity, $crate::transport::IdentifyError> {
                self.caller.identify(address, deadline).await
            }
        }

        impl Drop for $connector {
            fn drop(&mut self) {
                self.caller.stop();
            }
        }

        impl std::fmt::Debug for $connector {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($connector))
                    .field("nodes", &self.caller.nodes())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(super) use {connector_over_sockets, transport_over_sockets};
