//! What the benchmarks run: clusters of bare cores in one thread, whose messages are handed over by function
//! calls and whose disks are instant.
//!
//! - `cargo bench -p benches`: the time of a batch, by criterion;
//! - `valgrind --tool=callgrind target/release/core_fixed BATCH ENTRIES`: instructions, which repeat where times do
//!   not. Two runs of different length, subtracted and divided, give the instructions of one entry.

use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Configuration, Effects, EntryId, Envelope, Input, Node, NodeId, Options, Payload, RestoreError,
    Restored, Role, SnapshotMeta,
};

/// Three nodes of which the first leads.
#[derive(Debug)]
pub struct CoreCluster {
    servers: Vec<Server>,
    effects: Effects,
    in_flight: Vec<Envelope>,
}

#[derive(Debug)]
struct Server {
    node: Node,
    counter: Counter,
    snapshot: u64,
    /// It has had an input since its last drain.
    has_input: bool,
}

/// A state machine that costs next to nothing, and tells whether all nodes applied the same.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The commands applied.
    pub commands: u64,
    /// A checksum over their first bytes.
    pub check: u64,
}

/// The log is compacted when this many entries have come since the last time.
const COMPACT_ENTRIES: u64 = 16 * 1024;

impl CoreCluster {
    /// Three nodes, after an election.
    ///
    /// # Errors
    /// None in practice: the options are sound.
    pub fn elected() -> Result<CoreCluster, RestoreError> {
        let configuration = Configuration::new((1..=3).map(NodeId), []);
        let server = |id| {
            let mut options = Options::new(NodeId(id));
            options.limits.kept_entries_max = 4096;
            options.limits.kept_bytes_max = usize::MAX;
            let node = Node::new(options, Restored::first_start(configuration.clone()))?;
            Ok(Server { node, counter: Counter::default(), snapshot: 0, has_input: true })
        };
        let servers = (1..=3).map(server).collect::<Result<_, _>>()?;
        let mut cluster =
            CoreCluster { servers, effects: Effects::default(), in_flight: Vec::new() };
        let mut now = Duration::ZERO;
        while cluster.servers[0].node.role() != Role::Leader {
            now += Duration::from_millis(10);
            // Only the first node's clock runs, so it is the one that times out.
            cluster.servers[0].node.step(Input::Tick(now));
            cluster.servers[0].has_input = true;
            cluster.settle();
        }
        Ok(cluster)
    }

    /// Proposes all of `batch`, and returns when all three nodes have applied them.
    ///
    /// # Errors
    /// The leader refuses: the batch is larger than its limits.
    pub fn commit(
        &mut self,
        batch: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), raft_core::ProposeError> {
        for command in batch {
            self.servers[0].node.propose(command)?;
        }
        self.servers[0].has_input = true;
        self.settle();
        Ok(())
    }

    /// What each node has applied.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        self.servers.iter().map(|server| server.counter).collect()
    }

    fn settle(&mut self) {
        loop {
            let mut at_rest = true;
            for server in &mut self.servers {
                if std::mem::take(&mut server.has_input) {
                    server.drain(&mut self.effects);
                    self.in_flight.append(&mut self.effects.messages);
                    at_rest = false;
                }
            }
            if at_rest {
                return;
            }
            for envelope in self.in_flight.drain(..) {
                let to = self.servers.iter_mut().find(|server| server.node.id() == envelope.to);
                if let Some(server) = to {
                    server.node.step(Input::Receive(envelope));
                    server.has_input = true;
                }
            }
        }
    }
}

impl Server {
    /// Carries out at once what the node wants done, but for its messages.
    fn drain(&mut self, effects: &mut Effects) {
        self.node.drain(effects);
        if let Some(write) = effects.write.take() {
            self.node.step(Input::Persisted(write.id));
            self.has_input = true;
        }
        let Some(applies) = effects.applies.take() else { return };
        let mut last = EntryId::ZERO;
        for entry in &applies.entries {
            self.counter.apply(&entry.payload);
            last = entry.id;
        }
        self.node.step(Input::Applied(last.index));
        self.has_input = true;
        if last.index.0 >= self.snapshot + COMPACT_ENTRIES {
            self.snapshot = last.index.0;
            self.node.step(Input::SnapshotTaken(SnapshotMeta::new(last, applies.configuration)));
        }
    }
}

impl Counter {
    fn apply(&mut self, payload: &Payload) {
        match payload {
            Payload::Empty | Payload::Configuration(_) => {}
            Payload::Command(command) => {
                let first = command.first().copied().unwrap_or(0);
                self.commands += 1;
                self.check = self.check.rotate_left(5) ^ u64::from(first);
            }
        }
    }
}

/// Commands of `bytes` bytes, each in a buffer of its own, as they would come from a client.
pub fn commands(count: usize, bytes: usize) -> impl Iterator<Item = Bytes> {
    let template = vec![7; bytes];
    (0..count).map(move |i| {
        let mut command = template.clone();
        if let Some(first) = command.first_mut() {
            *first = i.to_le_bytes()[0];
        }
        Bytes::from(command)
    })
}
