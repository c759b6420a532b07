//! TCP with threads keeps the contract of a transport.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_rsm::raft_core::{Member, NodeId};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::testing::transport::Network;
use raft_rsm::transport::{
    Connector, TcpConnector, TcpLimits, TcpOptions, TcpTransport, Transport,
};
use raft_rsm::{Cluster, ClusterId, Identity, Incarnation, Runtime};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);

/// Nodes on ports of this machine that were free.
struct Tcp {
    runtime: Arc<dyn Runtime>,
    nodes: Mutex<BTreeMap<NodeId, (String, Arc<TcpTransport>)>>,
}

impl Tcp {
    fn new() -> Tcp {
        Tcp { runtime: Arc::new(ThreadRuntime::new()), nodes: Mutex::default() }
    }
}

pub(crate) fn cluster<'a>(addresses: impl Iterator<Item = (NodeId, &'a str)>) -> Cluster {
    let parts: Vec<String> = addresses.map(|(id, address)| format!("{id}={address}")).collect();
    parts.join(",").parse().unwrap()
}

pub(crate) fn options(id: NodeId, listen: &str) -> TcpOptions {
    let identity = Identity { cluster: CLUSTER, node: id, incarnation: incarnation(id) };
    let peers = cluster([(id, listen)].into_iter());
    // What does not end is to be noticed.
    let limits = TcpLimits { shutdown_timeout: Duration::from_secs(120), ..TcpLimits::default() };
    TcpOptions { identity, listen: listen.to_owned(), advertise: None, peers, limits }
}

pub(crate) fn peers<T>(nodes: &BTreeMap<NodeId, (String, T)>) -> Vec<Member> {
    let peer = |(id, (address, _)): (&NodeId, &(String, T))| {
        Member::of_incarnation(*id, incarnation(*id), address.clone())
    };
    nodes.iter().map(peer).collect()
}

fn incarnation(id: NodeId) -> Incarnation {
    Incarnation(id.0 * 100)
}

impl Network for Tcp {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    fn transport(&self, id: NodeId) -> Arc<dyn Transport> {
        let mut nodes = self.nodes.lock().unwrap();
        let listen = nodes.remove(&id).map_or("127.0.0.1:0".to_owned(), |(address, _)| address);
        let options = options(id, &listen);
        let transport = TcpTransport::bind(options, Arc::clone(&self.runtime)).unwrap();
        let address = transport.local_address().to_string();
        nodes.insert(id, (address, Arc::clone(&transport)));
        let peers = peers(&nodes);
        nodes.values().for_each(|(_, transport)| transport.set_peers(&peers));
        transport
    }

    fn peers(&self) -> Vec<Member> {
        peers(&self.nodes.lock().unwrap())
    }

    fn connector(&self) -> Arc<dyn Connector> {
        let nodes = self.nodes.lock().unwrap();
        let nodes = cluster(nodes.iter().map(|(id, (address, _))| (*id, &**address)));
        let (cluster, limits) = (Some(CLUSTER), TcpLimits::default());
        TcpConnector::new(nodes, cluster, limits, Arc::clone(&self.runtime))
    }
}

raft_rsm::transport_conformance!(Tcp::new());

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let bind = |listen: &str| TcpTransport::bind(options(NodeId(1), listen), Arc::clone(&runtime));
    let first = bind("127.0.0.1:0").unwrap();
    let address = first.local_address().to_string();
    let error = bind(&address).unwrap_err().to_string();
    assert!(error.contains(&address), "{error}");
}
