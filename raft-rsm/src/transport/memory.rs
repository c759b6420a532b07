//! A network in memory, for tests: it loses, delays, duplicates, reorders and partitions.

mod connector;
mod faults;
mod flight;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use raft_core::NodeId;

pub use self::connector::MemoryConnector;
use self::faults::Dice;
pub use self::faults::Faults;
use self::flight::{Flight, Parcel};
use self::node::Gate;
pub use self::node::MemoryTransport;
use crate::Runtime;

/// How a [`MemoryNetwork`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Seeds all chance of the network: the same seed and the same packets meet the same faults.
    pub seed: u64,
    /// Encode and decode each packet as it would be on a wire.
    pub codec: bool,
    /// Packets, requests and answers on their way: what comes beyond this many is lost.
    pub flight_max: usize,
}

/// A network in memory that connects nodes and clients of one process. Clones are the same network.
#[derive(Clone)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
    /// Ends the task that delivers when the last user of the network is gone.
    _flight: Arc<FlightGuard>,
}

/// What went through the network for one node.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    /// Packets that the node sent.
    pub packets_out: u64,
    /// Their length on a wire, in bytes.
    pub bytes_out: u64,
    /// Packets that reached the node.
    pub packets_in: u64,
    /// Their length on a wire, in bytes.
    pub bytes_in: u64,
    /// Packets that the node sent and that were lost: by chance, by a partition, because nobody was there, or
    /// because too many were on their way.
    pub lost: u64,
    /// Requests of clients that reached the node.
    pub requests: u64,
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    options: MemoryOptions,
    flight: Arc<Flight>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// Every node that a transport was made for.
    known: BTreeSet<NodeId>,
    /// The nodes that are started.
    nodes: BTreeMap<NodeId, Arc<Gate>>,
    /// Who cannot reach whom: (from, to).
    cut: Vec<(NodeId, NodeId)>,
    counters: BTreeMap<NodeId, MemoryCounters>,
    /// When the last thing that keeps the order arrives, from one node at another.
    last_arrival: BTreeMap<(NodeId, NodeId), Duration>,
    /// Calls that wait for an answer; each leaves when its future ends.
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    last_life: u64,
}

struct Call {
    to: NodeId,
    answer: oneshot::Sender<Option<bytes::Bytes>>,
}

struct FlightGuard(Arc<Flight>);

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Default for MemoryOptions {
    fn default() -> MemoryOptions {
        MemoryOptions { seed: 0, codec: false, flight_max: 64 * 1024 }
    }
}

impl MemoryNetwork {
    /// A network without faults. Delays pass on the clock of `runtime`, which also runs the one task of the
    /// network; the task ends when the network and all that belongs to it are dropped.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, options: MemoryOptions) -> MemoryNetwork {
        let flight = Arc::new(Flight::new(options.flight_max));
        let state = State {
            dice: Dice::new(options.seed),
            known: BTreeSet::new(),
            nodes: BTreeMap::new(),
            cut: Vec::new(),
            counters: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            last_life: 0,
        };
        let (task_flight, task_runtime) = (Arc::clone(&flight), Arc::clone(&runtime));
        let task = async move { task_flight.run(&*task_runtime).await };
        runtime.spawn("memory-network", task.boxed());
        let guard = Arc::new(FlightGuard(Arc::clone(&flight)));
        let shared = Arc::new(Shared { runtime, options, flight, state: Mutex::new(state) });
        MemoryNetwork { shared, _flight: guard }
    }

    /// The network's side of one node. A node that restarts takes a new one. What it delivers to is released by its
    /// shutdown.
    #[must_use]
    pub fn transport(&self, id: NodeId) -> Arc<MemoryTransport> {
        self.shared.lock().known.insert(id);
        MemoryTransport::new(self.clone(), id)
    }

    /// A client's side: it can call every node that a transport was made for.
    #[must_use]
    pub fn connector(&self) -> Arc<MemoryConnector> {
        MemoryConnector::new(self.clone())
    }

    /// What happens to packets, requests and answers from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().dice.faults = faults;
    }

    /// Lets nodes reach each other only within their group; a node in no group reaches none. Earlier cuts
    /// are lifted.
    pub fn partition(&self, groups: &[&[NodeId]]) {
        let mut state = self.shared.lock();
        let group_of = |id: &NodeId| groups.iter().position(|group| group.contains(id));
        let mut ids: Vec<NodeId> =
            state.known.iter().chain(groups.iter().copied().flatten()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let pairs = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to)));
        let is_cut = |(from, to): &(NodeId, NodeId)| {
            from != to && (group_of(from).is_none() || group_of(from) != group_of(to))
        };
        state.cut = pairs.filter(is_cut).collect();
    }

    /// Lets nothing through from one node to another; the way back stays as it is.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.shared.lock().cut.push((from, to));
    }

    /// Lets nothing through between a node and the others that a transport was made for.
    pub fn isolate(&self, id: NodeId) {
        let mut state = self.shared.lock();
        let others = state.known.iter().copied().filter(|other| *other != id);
        let pairs: Vec<_> = others.flat_map(|other| [(id, other), (other, id)]).collect();
        state.cut.extend(pairs);
    }

    /// Lets everything through again. Faults by chance stay.
    pub fn heal(&self) {
        self.shared.lock().cut.clear();
    }

    /// Closes the connection between two nodes: both are told so. What is sent afterwards opens a new one.
    pub fn disconnect(&self, one: NodeId, other: NodeId) {
        let state = self.shared.lock();
        let gates =
            [(state.nodes.get(&one).cloned(), other), (state.nodes.get(&other).cloned(), one)];
        drop(state);
        for (gate, peer) in gates {
            gate.into_iter().for_each(|gate| gate.disconnected(peer));
        }
    }

    /// What went through the network for one node, over all its lives.
    #[must_use]
    pub fn counters(&self, id: NodeId) -> MemoryCounters {
        self.shared.lock().counters.get(&id).copied().unwrap_or_default()
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even when a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, id: NodeId, change: impl FnOnce(&mut MemoryCounters)) {
        change(self.lock().counters.entry(id).or_default());
    }

    /// Lets `parcel` arrive after a time, and if wished not before what went the same way earlier. False: it is
    /// lost.
    fn carry(&self, after: Duration, order: Option<(NodeId, NodeId)>, parcel: Parcel) -> bool {
        let mut at = self.runtime.now().saturating_add(after);
        if let Some(way) = order {
            let mut state = self.lock();
            let last = state.last_arrival.entry(way).or_default();
            at = at.max(*last);
            *last = at;
        }
        self.flight.add(at, parcel)
    }
}
