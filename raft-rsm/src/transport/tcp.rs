//! TCP over `std::net`, with threads: for whoever has no runtime.

mod socket;

use std::sync::Arc;

use self::socket::{StdListener, StdNetwork};
use super::options::{BindError, TcpLimits, TcpOptions};
use super::shell::{Shell, connector_over_sockets, transport_over_sockets};
use crate::net::caller::Caller;
use crate::net::counters::Counters;
use crate::net::pump::Setup;
use crate::{Cluster, ClusterId, Runtime};

/// A node's TCP transport: one port for peers and clients.
pub struct TcpTransport {
    shell: Shell<StdNetwork, StdListener>,
}

impl TcpTransport {
    /// Listens. Nothing is accepted or dialled before [`crate::Transport::start`].
    ///
    /// # Errors
    /// The address is no address, or its port is in use.
    pub fn bind(
        options: TcpOptions,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<TcpTransport>, BindError> {
        let listener = StdListener::bind(&options.listen)
            .map_err(|source| BindError { address: options.listen.clone(), source })?;
        let network = StdNetwork::new(Arc::clone(&runtime));
        Ok(Arc::new(TcpTransport { shell: Shell::new(options, listener, network, runtime)? }))
    }
}

transport_over_sockets!(TcpTransport);

/// A client's connections by TCP: one a node, dialled when it is needed, for any number of calls at once.
///
/// It can be called from any executor. Dropped, it closes its connections.
pub struct TcpConnector {
    caller: Arc<Caller<StdNetwork>>,
}

impl TcpConnector {
    /// Calls the nodes at these addresses. With a cluster id, a node of another cluster is not called; without one,
    /// whatever node listens there is, until one has helped ([`Connector::stay_with`](super::Connector::stay_with)).
    #[must_use]
    pub fn new(
        nodes: Cluster,
        cluster: Option<ClusterId>,
        limits: TcpLimits,
        runtime: Arc<dyn Runtime>,
    ) -> Arc<TcpConnector> {
        let network = StdNetwork::new(Arc::clone(&runtime));
        let setup = Arc::new(Setup { runtime, limits, counters: Counters::default() });
        Arc::new(TcpConnector { caller: Caller::new(network, nodes, cluster, setup) })
    }
}

connector_over_sockets!(TcpConnector);
