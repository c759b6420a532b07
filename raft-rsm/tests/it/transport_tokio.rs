//! TCP on tokio keeps the contract of a transport.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use raft_rsm::raft_core::{Member, NodeId};
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::testing::transport::Network;
use raft_rsm::transport::{Connector, TcpLimits, TokioConnector, TokioTransport, Transport};

use crate::transport_tcp::{CLUSTER, cluster, options, peers};
use raft_rsm::Runtime;

fn runtime() -> Arc<TokioRuntime> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    });
    Arc::new(TokioRuntime::new(runtime.handle().clone()))
}

/// Nodes on ports of this machine that were free.
struct Tokio {
    runtime: Arc<TokioRuntime>,
    nodes: Mutex<BTreeMap<NodeId, (String, Arc<TokioTransport>)>>,
}

impl Tokio {
    fn new() -> Tokio {
        Tokio { runtime: runtime(), nodes: Mutex::default() }
    }
}

impl Network for Tokio {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime) as _
    }

    fn transport(&self, id: NodeId) -> Arc<dyn Transport> {
        let mut nodes = self.nodes.lock().unwrap();
        let listen = nodes.remove(&id).map_or("127.0.0.1:0".to_owned(), |(address, _)| address);
        let options = options(id, &listen);
        let transport = TokioTransport::bind(options, Arc::clone(&self.runtime)).unwrap();
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
        TokioConnector::new(nodes, cluster, limits, Arc::clone(&self.runtime))
    }
}

raft_rsm::transport_conformance!(Tokio::new());

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    let runtime = runtime();
    let bind =
        |listen: &str| TokioTransport::bind(options(NodeId(1), listen), Arc::clone(&runtime));
    let first = bind("127.0.0.1:0").unwrap();
    let address = first.local_address().to_string();
    let error = bind(&address).unwrap_err().to_string();
    assert!(error.contains(&address), "{error}");
}
