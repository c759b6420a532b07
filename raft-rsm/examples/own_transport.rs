//! A `Transport` of one's own, whole, and the tests that say whether it can be trusted.
//!
//! Its nodes share a process and reach each other through the bounded channels of the standard library, one thread a
//! node. Replace the channels by your sockets, your bus, your shared memory; what must stay true is in the comments, and in
//! the conformance suite at the end. The binary form of packets is `raft_rsm::wire`, if you need one.
//!
//! ```text
//! cargo run  -p raft-rsm --example own_transport     # three replicas on it
//! cargo test -p raft-rsm --example own_transport     # each sentence of the contract
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Shared, select};
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::storage::MemoryStorage;
use raft_rsm::transport::{CallError, Connector, Inbox, Packet, Reply, Service, Transport};
use raft_rsm::{
    Client, ClientOptions, Context, Options, Raft, Runtime, SnapshotView, StateMachine, block_on,
};

/// What may wait for one node: beyond it, packets are dropped and requests are refused.
const WAITING_MAX: usize = 1024;

/// What travels to a node.
enum Item {
    Packet(Box<Packet>),
    Request(Bytes, Reply),
    /// This peer is gone.
    Disconnected(NodeId),
    Stop,
}

/// A node that is there.
#[derive(Clone)]
struct Node {
    to: SyncSender<Item>,
    /// Completes when it is gone: nobody waits for its answers any longer.
    gone: Shared<oneshot::Receiver<()>>,
}

/// All nodes that are there. It takes the place of sockets.
pub struct Hub {
    ids: Vec<NodeId>,
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    runtime: Arc<dyn Runtime>,
}

impl Hub {
    /// A hub for these nodes.
    pub fn new(ids: &[NodeId], runtime: Arc<dyn Runtime>) -> Arc<Hub> {
        Arc::new(Hub { ids: ids.to_vec(), nodes: Mutex::default(), runtime })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transport of one node.
pub struct OwnTransport {
    id: NodeId,
    hub: Arc<Hub>,
    /// Dropped when it stops: see [`Node::gone`]. And when its thread has ended.
    running: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl OwnTransport {
    /// The transport of `id`, not started.
    pub fn new(id: NodeId, hub: Arc<Hub>) -> Arc<OwnTransport> {
        Arc::new(OwnTransport { id, hub, running: Mutex::default() })
    }
}

#[async_trait]
impl Transport for OwnTransport {
    fn start(&self, inbox: Arc<dyn Inbox>, service: Arc<dyn Service>) {
        let (to, items) = mpsc::sync_channel(WAITING_MAX);
        let (stops, gone) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let node = Node { to, gone: gone.shared() };
        self.hub.nodes().insert(self.id, node);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((stops, ended));
        // Threads are the runtime's to start, so that a simulator can own them.
        let deliver = move || {
            while let Ok(item) = items.recv() {
                match item {
                    // Neither of the three blocks.
                    Item::Packet(packet) => inbox.deliver(*packet),
                    Item::Request(request, reply) => service.call(request, reply),
                    Item::Disconnected(peer) => inbox.disconnected(peer),
                    Item::Stop => break,
                }
            }
            let _ = ends.send(());
        };
        self.hub.runtime.spawn_blocking("own transport", Box::new(deliver));
    }

    /// Nodes are found by their id here.
    fn set_peers(&self, _: &[Member]) {}

    /// Never waits: the driver of a node must not be held up by a peer that hangs. What does not fit is lost, and the
    /// protocol sends it again.
    fn send(&self, packet: Packet) {
        let nodes = self.hub.nodes();
        // Who has stopped says nothing any more.
        if let (true, Some(node)) = (nodes.contains_key(&self.id), nodes.get(&packet.to())) {
            let _ = node.to.try_send(Item::Packet(Box::new(packet)));
        }
    }

    async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stops, ended)) = running else { return };
        let own = self.hub.nodes().remove(&self.id);
        drop(stops);
        // Peers that hear of it at once need not wait for a timeout: a follower asks for an election.
        let others: Vec<Node> = self.hub.nodes().values().cloned().collect();
        for other in others {
            let _ = other.to.try_send(Item::Disconnected(self.id));
        }
        // Whatever waits is dropped with the channel, and the clients are told that there is no answer. A full channel needs
        // no word: its other end ends when the last sender is gone.
        if let Some(own) = own {
            let _ = own.to.try_send(Item::Stop);
        }
        let _ = ended.await;
    }
}

/// A client's way to the nodes.
pub struct OwnConnector {
    hub: Arc<Hub>,
}

impl OwnConnector {
    /// A client that can call all nodes of `hub`.
    pub fn new(hub: Arc<Hub>) -> Arc<OwnConnector> {
        Arc::new(OwnConnector { hub })
    }
}

#[async_trait]
impl Connector for OwnConnector {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        // "Not sent" says that the request has no effect, ever; all that comes after it left is "maybe sent".
        let not_sent = |reason: &str| CallError::NotSent { to, reason: reason.to_owned() };
        let maybe_sent = |reason: &str| CallError::MaybeSent { to, reason: reason.to_owned() };
        let node = self.hub.nodes().get(&to).cloned();
        let Some(Node { to: queue, gone }) = node else { return Err(not_sent("it is not there")) };
        let (sender, answer) = oneshot::channel();
        let reply = Reply::new(move |answer| {
            let _ = sender.send(answer);
        });
        queue
            .try_send(Item::Request(request, reply))
            .map_err(|_| not_sent("it is gone, or too much waits for it"))?;
        drop(queue);
        // It ends with the answer, with the node, or with its deadline, whichever comes first.
        let end = select(gone, self.hub.runtime.sleep(deadline));
        match select(answer, end).await {
            Either::Left((Ok(Some(answer)), _)) => Ok(answer),
            Either::Left((Ok(None) | Err(_), _)) => Err(maybe_sent("it gave no answer")),
            Either::Right((Either::Left(_), _)) => Err(maybe_sent("it is gone")),
            Either::Right((Either::Right(_), _)) => Err(maybe_sent("no answer came in time")),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.hub.ids.clone()
    }
}

/// Three replicas of a counter, of which the leader is stopped.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let ids = [1, 2, 3].map(NodeId);
    let hub = Hub::new(&ids, Arc::clone(&runtime));
    let mut replicas = Vec::new();
    for id in ids {
        let storage = Arc::new(MemoryStorage::new(Configuration::new(ids, [])));
        let transport = OwnTransport::new(id, Arc::clone(&hub));
        let (options, runtime) = (Options::new(id), Arc::clone(&runtime));
        replicas.push(block_on(Raft::start(options, Counter(0), storage, transport, runtime))?);
    }
    let connector = OwnConnector::new(Arc::clone(&hub));
    let client: Client<Counter> =
        Client::new(connector, Arc::clone(&runtime), ClientOptions::default());
    println!("the counter is {} now", block_on(client.propose(&1))?);
    if let Some(leader) = replicas.iter().find(|replica| {
        let status = replica.status();
        status.leader == Some(status.id)
    }) {
        println!("node {} led, and is stopped", leader.status().id);
        block_on(leader.shutdown());
    }
    println!("the counter is {} now", block_on(client.propose(&1))?);
    for replica in &replicas {
        block_on(replica.shutdown());
    }
    Ok(())
}

struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let image = self.0.to_le_bytes();
        Box::new(move |to: &mut dyn io::Write| to.write_all(&image))
    }

    fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
        let mut value = [0; 8];
        image.read_exact(&mut value)?;
        self.0 = u64::from_le_bytes(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_rsm::testing::transport::Network;

    use super::*;

    struct OwnNetwork(Arc<Hub>);

    impl OwnNetwork {
        fn new() -> OwnNetwork {
            OwnNetwork(Hub::new(&[1, 2, 3].map(NodeId), Arc::new(ThreadRuntime::new())))
        }
    }

    impl Network for OwnNetwork {
        fn runtime(&self) -> Arc<dyn Runtime> {
            Arc::clone(&self.0.runtime)
        }

        fn transport(&self, id: NodeId) -> Arc<dyn Transport> {
            OwnTransport::new(id, Arc::clone(&self.0))
        }

        fn peers(&self) -> Vec<Member> {
            self.0.ids.iter().map(|id| Member::new(*id, "")).collect()
        }

        fn connector(&self) -> Arc<dyn Connector> {
            OwnConnector::new(Arc::clone(&self.0))
        }
    }

    raft_rsm::transport_conformance!(OwnNetwork::new());

    #[test]
    fn the_example_runs() {
        main().unwrap();
    }
}
