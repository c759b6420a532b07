//! The simulated network: it carries packets between nodes and requests of clients to nodes, on virtual time, and
//! loses, delays, repeats and reorders them as its conditions say.
//!
//! | where | what |
//! |---|---|
//! | [`Network`] | lives of nodes, cuts, conditions, counters |
//! | `conditions.rs` | latency, loss, duplicates, bandwidth: what happens to one parcel |
//! | `topology.rs` | who is cut off from whom |
//! | `packets.rs` | the transport of a node |
//! | `calls.rs` | the connector of a client |
//! | `lies.rs` | what no network may do, to test the checkers |
//! | `describe.rs` | packets in words |

mod calls;
mod conditions;
mod counters;
mod describe;
mod lies;
mod packets;
mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raft_rsm::Transport;
use raft_rsm::raft_core::{Incarnation, NodeId};
use raft_rsm::transport::{Connector, Inbox, Service};

use self::calls::{Call, ClientConnector};
pub use self::conditions::{Conditions, Delay, Passage};
use self::conditions::{Direction, Fate};
pub use self::counters::NetworkCounters;
pub use self::describe::describe;
pub use self::lies::Lie;
use self::packets::NodeTransport;
use self::topology::Topology;
use crate::event::{CallId, Crash, Event, Listener, Site};
use crate::executor::{Executor, ProcessId};
use crate::random::Random;

/// Packets, requests and answers on their way: what comes beyond this many is lost.
const IN_FLIGHT_MAX: usize = 64 * 1024;

/// The network of one run. Clones are the same network.
///
/// All that it does to parcels is drawn from the seed alone. It tells its listener of every packet
/// ([`Event::Sent`], [`Event::Delivered`], [`Event::Lost`]) and every call of a client ([`Event::Asked`],
/// [`Event::RequestArrived`], [`Event::CallEnded`]). A packet that arrives twice is told as delivered twice. The request
/// and the answer of a call go by the number of the call, as parcels: `ParcelId(call.0)`.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    executor: Executor,
    listener: Arc<dyn Listener>,
    state: Mutex<State>,
}

struct State {
    conditions: Conditions,
    topology: Topology,
    links: BTreeMap<(Site, Site), Link>,
    nodes: BTreeMap<NodeId, Node>,
    /// Calls that wait for their end.
    calls: BTreeMap<u64, Call>,
    dice: Dice,
    lie: Option<Lie>,
    /// The last answers that arrived, to a command and to a query, for a network that lies.
    last_answers: [Option<Bytes>; 2],
    in_flight: usize,
    last_id: u64,
    last_life: u64,
    /// Nothing is told or carried any more.
    is_cleared: bool,
}

/// Sources of chance, each of its own: calls do not shift the luck of packets.
struct Dice {
    packets: Random,
    calls: Random,
    closings: Random,
    lies: Random,
}

/// One way from a site to another.
#[derive(Default)]
struct Link {
    /// Where they differ from those of all.
    conditions: Option<Box<Conditions>>,
    /// The connection in use: what was sent over an earlier one is lost.
    connection: u64,
    /// When the last of what keeps its order arrives.
    last_arrival: Duration,
    /// When the last byte of what was sent has left.
    busy_until: Duration,
    /// The latest-sent parcel that has arrived.
    last_arrived: u64,
}

/// A node, over all its lives.
struct Node {
    life: Option<Life>,
    /// What callers meet where no life has started.
    absence: Absence,
    counters: NetworkCounters,
    /// As which incarnation it spoke last: a network that lies in its name has to say that, too.
    incarnation: Option<Incarnation>,
}

/// One life of a node. What was sent to another one does not arrive.
struct Life {
    id: u64,
    process: ProcessId,
    /// Where it is delivered to, once it is started.
    gate: Option<Gate>,
}

#[derive(Clone)]
struct Gate {
    process: ProcessId,
    inbox: Arc<dyn Inbox>,
    service: Arc<dyn Service>,
}

/// What becomes of connections to a node without a life.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Absence {
    /// Its machine refuses them.
    Refused,
    /// Nobody answers.
    Silent,
}

/// What is on its way.
struct Departure {
    at: Duration,
    /// A second time.
    again: Option<Duration>,
    connection: u64,
}

/// Why something does not arrive.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Cause {
    Chance,
    Cut,
    Absent,
    Closed,
    Crowded,
    Unreadable,
}

impl Network {
    /// A [reliable](Conditions::reliable) network that nobody has joined yet.
    #[must_use]
    pub fn new(executor: Executor, random: Random, listener: Arc<dyn Listener>) -> Network {
        let dice = Dice {
            packets: random.fork("packets"),
            calls: random.fork("calls"),
            closings: random.fork("closings"),
            lies: random.fork("lies"),
        };
        let state = State {
            conditions: Conditions::reliable(),
            topology: Topology::default(),
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
            calls: BTreeMap::new(),
            dice,
            lie: None,
            last_answers: [None, None],
            in_flight: 0,
            last_id: 0,
            last_life: 0,
            is_cleared: false,
        };
        Network { shared: Arc::new(Shared { executor, listener, state: Mutex::new(state) }) }
    }

    /// The network's side of a new life of a node, which runs as `process`. If an earlier one still lives, it is
    /// killed. Once the process or the life is dead, nothing that it sends gets out.
    #[must_use]
    pub fn transport(&self, node: NodeId, process: ProcessId) -> Arc<dyn Transport> {
        self.end_life(node, Crash::Killed);
        let mut state = self.lock();
        state.last_life += 1;
        let id = state.last_life;
        let entry = state.nodes.entry(node).or_insert_with(Node::new);
        let was_silent = entry.absence == Absence::Silent;
        entry.absence = Absence::Refused;
        entry.life = Some(Life { id, process, gate: None });
        if was_silent {
            // The machine knows nothing of the connections from before it lost power.
            self.tell_peers_closed(&mut state, node);
        }
        drop(state);
        Arc::new(NodeTransport::new(self.clone(), node, id))
    }

    /// Ends the life of a node, if it has one: nothing reaches it and nothing that it sends gets out any more. Call it
    /// before its tasks are dropped.
    ///
    /// A killed node's connections are closed: peers and waiting clients are told after a while, and later calls are
    /// refused. Of one that lost power nobody is told, and calls to it go unanswered. What it sent before arrives.
    pub fn end_life(&self, node: NodeId, crash: Crash) {
        self.end(node, None, crash);
    }

    /// A client's side: it can call every node that a transport was ever made for.
    #[must_use]
    pub fn connector(&self, client: u64) -> Arc<dyn Connector> {
        Arc::new(ClientConnector::new(self.clone(), client, None))
    }

    /// A client's side: it can call these nodes, and those that it learns of.
    #[must_use]
    pub fn connector_to(&self, client: u64, nodes: &[NodeId]) -> Arc<dyn Connector> {
        let nodes = nodes.iter().copied().collect();
        Arc::new(ClientConnector::new(self.clone(), client, Some(nodes)))
    }

    /// How all links behave from now on, except for those that have conditions of their own. A link that gets another
    /// bandwidth has nothing more to send of what was sent before.
    pub fn set_conditions(&self, conditions: Conditions) {
        let now = self.now();
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.conditions, conditions);
        if before.bandwidth_bytes_per_second != state.conditions.bandwidth_bytes_per_second {
            let links = state.links.values_mut().filter(|link| link.conditions.is_none());
            links.for_each(|link| link.busy_until = link.busy_until.min(now));
        }
    }

    /// How the one way behaves from now on; `None`: as all links do. If it gets another bandwidth, it has nothing
    /// more to send of what was sent before.
    pub fn set_link_conditions(&self, from: Site, to: Site, conditions: Option<Conditions>) {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let link = state.links.entry((from, to)).or_default();
        let before = link.conditions.as_deref().unwrap_or(&state.conditions);
        let after = conditions.as_ref().unwrap_or(&state.conditions);
        if before.bandwidth_bytes_per_second != after.bandwidth_bytes_per_second {
            link.busy_until = link.busy_until.min(now);
        }
        link.conditions = conditions.map(Box::new);
    }

    /// How all links behave that have no conditions of their own.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        self.lock().conditions.clone()
    }

    /// Lets nothing through from one site to another; the way back stays as it is.
    pub fn cut(&self, from: Site, to: Site) {
        self.lock().topology.cut(from, to);
    }

    /// Takes back [`Network::cut`].
    pub fn mend(&self, from: Site, to: Site) {
        self.lock().topology.mend(from, to);
    }

    /// Lets sites reach each other only within their group; a site in no group reaches nobody. It takes the
    /// place of an earlier partition. Cuts and isolated sites stay as they are.
    pub fn partition(&self, groups: &[&[Site]]) {
        self.lock().topology.partition(groups);
    }

    /// Lets nothing through between a site and all others, known today or not.
    pub fn isolate(&self, site: Site) {
        self.lock().topology.isolate(site);
    }

    /// Takes back [`Network::isolate`].
    pub fn rejoin(&self, site: Site) {
        self.lock().topology.rejoin(site);
    }

    /// Cuts both ways between each of `left` and each of `right`; whoever is in neither, such as a bridge, still
    /// reaches both.
    pub fn separate(&self, left: &[Site], right: &[Site]) {
        let mut state = self.lock();
        for one in left {
            for other in right {
                state.topology.cut(*one, *other);
                state.topology.cut(*other, *one);
            }
        }
    }

    /// Lifts all cuts, isolations and the partition. Conditions stay.
    pub fn heal(&self) {
        self.lock().topology.heal();
    }

    /// Whether nothing gets through from one site to another.
    #[must_use]
    pub fn is_cut(&self, from: Site, to: Site) -> bool {
        self.lock().topology.is_cut(from, to)
    }

    /// Closes the connection between two sites: what is on its way between them is lost, nodes are told at once, and
    /// the calls that are under way end as "maybe".
    pub fn close_connection(&self, one: Site, other: Site) {
        let mut state = self.lock();
        for way in [(one, other), (other, one)] {
            state.links.entry(way).or_default().connection += 1;
        }
        let closed = |call: &Call| {
            let ends = (Site::Client(call.client), Site::Node(call.to));
            ends == (one, other) || ends == (other, one)
        };
        let calls: Vec<u64> =
            state.calls.iter().filter(|(_, call)| closed(call)).map(|(id, _)| *id).collect();
        let ended: Vec<_> = calls.iter().filter_map(|id| state.calls.remove(id)).collect();
        let told: Vec<_> = match (one, other) {
            (Site::Node(one), Site::Node(other)) => [(one, other), (other, one)]
                .into_iter()
                .filter_map(|(node, peer)| Some((self.gate(&state, node, None)?, peer)))
                .collect(),
            (Site::Client(_), _) | (_, Site::Client(_)) => Vec::new(),
        };
        for (_, peer) in &told {
            // Each is the other's peer.
            state.node(*peer).counters.disconnects += 1;
        }
        drop(state);
        // The callers are told by the drop.
        drop(ended);
        for (gate, peer) in told {
            self.hand(gate.process, move || gate.inbox.disconnected(peer));
        }
    }

    /// Lets the network lie from now on, or no more.
    pub fn lie(&self, lie: Option<Lie>) {
        self.lock().lie = lie;
    }

    /// What went through the network for one node, over all its lives.
    #[must_use]
    pub fn counters(&self, node: NodeId) -> NetworkCounters {
        self.lock().nodes.get(&node).map_or_else(NetworkCounters::default, |node| node.counters)
    }

    /// The sum of the counters of all nodes.
    #[must_use]
    pub fn totals(&self) -> NetworkCounters {
        let mut totals = NetworkCounters::default();
        self.lock().nodes.values().for_each(|node| totals += node.counters);
        totals
    }

    /// Packets, requests and answers on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Drops what the network has of nodes and clients, at the end of a run, so that nothing keeps it alive by
    /// itself. Nothing is carried or told any more.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.is_cleared = true;
        let nodes = std::mem::take(&mut state.nodes);
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        // They may hold the last of what is to be answered.
        drop(nodes);
        drop(calls);
    }

    /// A number for a request that reaches its node without the network.
    pub(crate) fn local_call(&self) -> CallId {
        CallId(self.lock().next_id())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others but the listener runs under the lock, so the state is whole even after a panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.executor.now()
    }

    fn tell(&self, state: &State, now: Duration, event: Event) {
        if !state.is_cleared {
            self.shared.listener.event(now, event);
        }
    }

    /// Where a node's current life, or exactly the life `life`, is delivered to.
    fn gate(&self, state: &State, node: NodeId, life: Option<u64>) -> Option<Gate> {
        let current = state.nodes.get(&node)?.life.as_ref()?;
        if life.is_some_and(|life| life != current.id) || self.is_dead(current) {
            return None;
        }
        current.gate.clone()
    }

    /// Lets a process take what has arrived, in a step of its own: once it goes on, if it is paused; never, if it dies
    /// before. What arrives first is taken first.
    fn hand(&self, process: ProcessId, take: impl FnOnce() + Send + 'static) {
        self.shared.executor.work_after(process, "deliver", Duration::ZERO, Box::new(take));
    }

    /// Whether this life of the node goes on: what it sends gets out.
    fn is_alive(&self, state: &State, node: NodeId, life: u64) -> bool {
        let current = state.nodes.get(&node).and_then(|node| node.life.as_ref());
        current.is_some_and(|current| current.id == life && !self.is_dead(current))
    }

    fn is_dead(&self, life: &Life) -> bool {
        self.shared.executor.is_dead(life.process)
    }

    /// Ends this life of a node, or whichever it has.
    fn end(&self, node: NodeId, life: Option<u64>, crash: Crash) {
        let mut state = self.lock();
        let Some(entry) = state.nodes.get_mut(&node) else { return };
        let is_meant = |current: &mut Life| life.is_none_or(|life| life == current.id);
        let Some(ended) = entry.life.take_if(is_meant) else { return };
        match crash {
            Crash::Killed => {
                entry.absence = Absence::Refused;
                self.tell_peers_closed(&mut state, node);
                self.tell_callers_closed(&mut state, node);
            }
            Crash::PowerLost => entry.absence = Absence::Silent,
        }
        drop(state);
        // It may be the last that holds requests, whose replies come back to here as they are dropped.
        drop(ended);
    }

    /// Tells the other nodes, after a while, that their connection to this one was closed.
    fn tell_peers_closed(&self, state: &mut State, node: NodeId) {
        let now = self.now();
        let peers: Vec<(NodeId, u64)> = state
            .nodes
            .iter()
            .filter(|(peer, _)| **peer != node)
            .filter_map(|(peer, entry)| Some((*peer, entry.life.as_ref()?.id)))
            .collect();
        for (peer, life) in peers {
            let at = state.closing_time(now, Site::Node(node), Site::Node(peer));
            let network = self.clone();
            self.shared.executor.call_at(at, move || network.peer_closed(node, peer, life));
        }
    }

    fn peer_closed(&self, node: NodeId, peer: NodeId, life: u64) {
        let mut state = self.lock();
        if state.topology.is_cut(Site::Node(node), Site::Node(peer)) {
            return;
        }
        let Some(gate) = self.gate(&state, peer, Some(life)) else { return };
        state.node(peer).counters.disconnects += 1;
        drop(state);
        self.hand(gate.process, move || gate.inbox.disconnected(node));
    }
}

impl State {
    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.entry(node).or_insert_with(Node::new)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Draws what happens to the next parcel on this way.
    fn draw(&mut self, from: Site, to: Site, direction: Direction) -> Fate {
        let link = self.links.entry((from, to)).or_default();
        let conditions = link.conditions.as_deref().unwrap_or(&self.conditions);
        match (from, to) {
            (Site::Node(_), Site::Node(_)) => conditions.draw(direction, &mut self.dice.packets),
            // A connection carries a request, and an answer, once.
            (Site::Client(_), _) | (_, Site::Client(_)) => {
                Fate { again: None, ..conditions.draw(direction, &mut self.dice.calls) }
            }
        }
    }

    /// Lets a parcel leave. What leaves is in flight, once more if it goes again, until it lands.
    fn depart(
        &mut self,
        now: Duration,
        (from, to): (Site, Site),
        bytes: usize,
        fate: Fate,
    ) -> Result<Departure, Cause> {
        if self.topology.is_cut(from, to) {
            return Err(Cause::Cut);
        }
        if fate.is_lost {
            return Err(Cause::Chance);
        }
        if self.in_flight >= IN_FLIGHT_MAX {
            return Err(Cause::Crowded);
        }
        let link = self.links.entry((from, to)).or_default();
        let conditions = link.conditions.as_deref().unwrap_or(&self.conditions);
        let sent = link.busy_until.max(now).saturating_add(conditions.transmission_time(bytes));
        link.busy_until = sent;
        let mut at = sent.saturating_add(fate.after);
        if conditions.in_order && !fate.is_held {
            at = at.max(link.last_arrival);
            link.last_arrival = at;
        }
        let again = fate.again.map(|after| sent.saturating_add(after));
        let connection = link.connection;
        self.in_flight += 1 + usize::from(again.is_some());
        Ok(Departure { at, again, connection })
    }

    /// Lets a parcel that left over this connection arrive.
    fn land(&mut self, (from, to): (Site, Site), connection: u64) -> Result<&mut Link, Cause> {
        self.in_flight -= 1;
        if self.topology.is_cut(from, to) {
            return Err(Cause::Cut);
        }
        let link = self.links.entry((from, to)).or_default();
        if link.connection == connection { Ok(link) } else { Err(Cause::Closed) }
    }

    /// When the other side hears that a connection was closed: after what was sent before, where the order is kept.
    fn closing_time(&mut self, now: Duration, from: Site, to: Site) -> Duration {
        let link = self.links.entry((from, to)).or_default();
        let conditions = link.conditions.as_deref().unwrap_or(&self.conditions);
        let at = now.saturating_add(conditions.responses.latency.draw(&mut self.dice.closings));
        if conditions.in_order { at.max(link.last_arrival) } else { at }
    }
}

impl Node {
    fn new() -> Node {
        Node {
            life: None,
            absence: Absence::Refused,
            counters: NetworkCounters::default(),
            incarnation: None,
        }
    }
}

impl Cause {
    fn why(self) -> &'static str {
        match self {
            Cause::Chance => "by chance",
            Cause::Cut => "the way is cut",
            Cause::Absent => "nobody is there",
            Cause::Closed => "its connection was closed",
            Cause::Crowded => "too much is on its way",
            Cause::Unreadable => "it cannot be read",
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Network")
            .field("nodes", &state.nodes.len())
            .field("in_flight", &state.in_flight)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
