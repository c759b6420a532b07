//! How a client reaches the cluster.

use std::sync::Arc;
use std::time::Duration;

use raft_rsm::runtime::TokioRuntime;
use raft_rsm::transport::{TcpLimits, TokioConnector};
use raft_rsm::{Client, ClientOptions, Cluster};

use crate::failure::Failure;
use crate::store::Store;

/// A client of the cluster, on the tokio runtime of the caller. Nothing is sent before the first request.
///
/// # Errors
/// The caller is on no tokio runtime.
pub fn connect(cluster: &Cluster, options: ClientOptions) -> Result<Client<Store>, Failure> {
    let runtime = TokioRuntime::current().map_err(Failure::environment)?;
    let runtime = Arc::new(runtime);
    // The addresses say which cluster is meant: a client need not know all of its members.
    let nodes = cluster.clone();
    let connector = TokioConnector::new(nodes, None, TcpLimits::default(), Arc::clone(&runtime));
    Ok(Client::new(connector, runtime, options))
}

/// The options of a client whose operations end after `deadline`.
#[must_use]
pub fn within(deadline: Duration) -> ClientOptions {
    let mut options = ClientOptions::default();
    options.deadline = deadline;
    options.call_timeout = options.call_timeout.min(deadline);
    options
}
