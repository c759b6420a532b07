//! The store over HTTP, on real nodes.

mod bad_input;
pub(crate) mod client;
mod idempotency;
mod keys;
mod leases;
mod limits;
mod majority;
mod manual;
mod probes;
mod small;
mod transactions;
mod watches;

use crate::process::{Cluster, eventually};

/// Nodes that serve HTTP on free ports, of which one leads.
fn cluster(count: usize, options: &[&str]) -> Cluster {
    let mut all = vec!["--http", "127.0.0.1:0"];
    all.extend(options);
    Cluster::start(count, &all)
}

/// Where the leader serves HTTP, once all nodes that run know it.
fn leader(cluster: &Cluster) -> &str {
    cluster.http(eventually("all know the leader", || {
        let statuses = cluster.status();
        let mut running = statuses.iter().filter(|status| status["reachable"] == true);
        let leader = running.next()?["leader"].as_u64()?;
        let is_known = running.all(|status| status["leader"] == leader);
        is_known.then(|| usize::try_from(leader).expect("a small number"))
    }))
}
