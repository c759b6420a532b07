//! Three nodes of the store in this process.

use std::path::Path;

use kv_example::connect::free_ports;
use kv_example::failure::Failure;
use kv_example::node;
use kv_example::store::Store;
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Begin, Cluster, Raft};

const NODES: u64 = 3;

/// Ports that were free a moment ago may be taken: then other ones are tried, so often.
const STARTS_MAX: usize = 5;

/// The nodes that run.
pub(super) struct Nodes {
    cluster: Cluster,
    rafts: Vec<Raft<Store>>,
}

impl Nodes {
    /// Starts nodes with disks below `disks`.
    pub(super) async fn start(disks: &Path) -> Result<Nodes, Failure> {
        let mut starts = 0;
        loop {
            starts += 1;
            // Each try has disks of its own: what a failed one leaves belongs to other addresses.
            match Nodes::start_on(&disks.join(starts.to_string()), free_ports(NODES)?).await {
                Err(failure) if starts == STARTS_MAX => return Err(failure),
                Err(_) => {}
                Ok(nodes) => return Ok(nodes),
            }
        }
    }

    async fn start_on(disks: &Path, cluster: Cluster) -> Result<Nodes, Failure> {
        std::fs::create_dir_all(disks).map_err(Failure::environment)?;
        let mut rafts = Vec::new();
        for id in (1..=NODES).map(NodeId) {
            let data = disks.join(format!("node{id}"));
            let mut options = node::Options::new(id, cluster.clone(), data);
            options.begin = Begin::Anew;
            rafts.push(node::start(&options, Store::new(options.limits)).await?);
        }
        Ok(Nodes { cluster, rafts })
    }

    /// The members, and where they listen.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Stops all of them.
    pub(super) async fn shutdown(self) {
        for raft in &self.rafts {
            raft.shutdown().await;
        }
    }
}
