//! TCP on tokio (feature `tokio`).

mod socket;

use std::sync::Arc;

use self::socket::{TokioListener, TokioNetwork};
use super::options::{BindError, TcpLimits, TcpOptions};
use super::shell::{Shell, connector_over_sockets, transport_over_sockets};
use crate::net::caller::Caller;
use crate::net::counters::Counters;
use crate::net::pump::Setup;
use crate::runtime::TokioRuntime;
use crate::{Cluster, ClusterId};

/// A node's TCP transport on tokio: one port for peers and clients.
pub struct TokioTransport {
    shell: Shell<TokioNetwork, TokioListener>,
}

impl TokioTransport {
    /// Listens. Nothing is accepted or dialled before [`crate::Transport::start`].
    ///
    /// # Errors
    /// The address is no address, or its port is in use.
    pub fn bind(
        options: TcpOptions,
        runtime: Arc<TokioRuntime>,
    ) -> Result<Arc<TokioTransport>, BindError> {
        let listener = TokioListener::bind(&options.listen, &runtime)
            .map_err(|source| BindError { address: options.listen.clone(), source })?;
        let network = TokioNetwork::new(Arc::clone(&runtime));
        Ok(Arc::new(TokioTransport { shell: Shell::new(options, listener, network, runtime)? }))
    }
}

transport_over_sockets!(TokioTransport);

/// A client's connections by TCP on tokio: one a node, dialled when it is needed, for any number of calls at once.
///
/// It can be called from any executor. Dropped, it closes its connections.
pub struct TokioConnector {
    caller: Arc<Caller<TokioNetwork>>,
}

impl TokioConnector {
    /// Calls the nodes at these addresses. With a cluster id, a node of another cluster is not called; without one,
    /// whatever node listens there is, until one has helped ([`Connector::stay_with`](super::Connector::stay_with)).
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
}

connector_over_sockets!(TokioConnector);
