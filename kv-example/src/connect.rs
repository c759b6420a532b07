//! How a client reaches the cluster, and how fresh its answers are to be.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::transport::{TcpLimits, TokioConnector};
use raft_rsm::{Client, ClientOptions, Cluster};
use serde::Deserialize;

use crate::failure::Failure;
use crate::store::Store;

/// A client of the cluster, on the tokio runtime of the caller. Nothing is sent before the first request.
///
/// # Errors
/// The caller is on no tokio runtime.
pub fn connect(cluster: &Cluster, options: ClientOptions) -> Result<Client<Store>, Failure> {
    let runtime = TokioRuntime::current().map_err(Failure::environment)?;
    let runtime = Arc::new(runtime);
    // Whoever helps first says which cluster is meant.
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

/// How fresh an answer has to be, as people write it: on the command line and in a URL.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Consistency {
    #[default]
    Linearizable,
    Lease,
    Stale,
}

impl From<Consistency> for raft_rsm::Consistency {
    fn from(consistency: Consistency) -> raft_rsm::Consistency {
        match consistency {
            Consistency::Linearizable => raft_rsm::Consistency::Linearizable,
            Consistency::Lease => raft_rsm::Consistency::Lease,
            Consistency::Stale => raft_rsm::Consistency::Stale,
        }
    }
}

/// A cluster of nodes 1 to `nodes` on the loopback interface, at ports that were free a moment ago: for demonstrations.
///
/// # Errors
/// The loopback interface cannot be listened on.
pub fn free_ports(nodes: u64) -> Result<Cluster, Failure> {
    let cannot = |error: io::Error| {
        Failure::environment(format!("cannot listen on the loopback interface: {error}"))
    };
    // All at once, so that they differ.
    let listeners = (0..nodes)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot)?;
    let mut members = Vec::new();
    for (id, listener) in (1..).zip(&listeners) {
        members.push(format!("{id}={}", listener.local_addr().map_err(cannot)?));
    }
    members.join(",").parse().map_err(Failure::environment)
}
