//! Replicas whose messages wait until they are delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft_core::{Envelope, Input, NodeId, Options, Role, SendSnapshot, SnapshotOutcome};

use super::{Disk, Replica, voters};

/// Replicas and the wire between them. Nothing moves by itself.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) replicas: BTreeMap<u64, Replica>,
    /// Messages on their way, in the order in which they left.
    pub(crate) wire: VecDeque<Envelope>,
    /// From, to: nothing gets through.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    pub(crate) dead: BTreeSet<u64>,
}

impl Cluster {
    pub(crate) fn new(replicas: impl IntoIterator<Item = Replica>) -> Cluster {
        let replicas = replicas.into_iter().map(|replica| (replica.node.id().0, replica));
        let mut cluster = Cluster {
            replicas: replicas.collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            dead: BTreeSet::new(),
        };
        cluster.collect();
        cluster
    }

    pub(crate) fn of(count: u64) -> Cluster {
        let start = |id| Replica::start(Options::new(NodeId(id)), Disk::empty(voters(count)));
        Cluster::new((1..=count).map(start))
    }

    /// Of nodes whose disks hold logs of these terms; node 1 has the first.
    pub(crate) fn with_logs(logs: &[&[u64]], term: u64, commit: u64) -> Cluster {
        let count = logs.len() as u64;
        Cluster::new((1..).zip(logs).map(|(id, log)| {
            let disk = Disk::with_log(voters(count), log, term, commit);
            Replica::start(Options::new(NodeId(id)), disk)
        }))
    }

    pub(crate) fn at(&mut self, id: u64) -> &mut Replica {
        self.replicas.get_mut(&id).expect("a member")
    }

    /// Puts what the replicas have sent on the wire.
    pub(crate) fn collect(&mut self) {
        for (id, replica) in &mut self.replicas {
            let sent = replica.take_sent();
            if !self.dead.contains(id) {
                self.wire.extend(sent);
            }
        }
    }

    /// Delivers what is on the wire at this moment. How much there was.
    pub(crate) fn deliver(&mut self) -> usize {
        self.collect();
        let wire = core::mem::take(&mut self.wire);
        let count = wire.len();
        for envelope in wire {
            let (from, to) = (envelope.from.0, envelope.to.0);
            if self.cut.contains(&(from, to)) || self.dead.contains(&to) {
                continue;
            }
            self.at(to).step(Input::Receive(envelope));
        }
        self.collect();
        count
    }

    pub(crate) fn is_alive(&self, id: u64) -> bool {
        !self.dead.contains(&id)
    }

    /// Disks, reads, snapshots and messages do their work until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = self.deliver() > 0;
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                if !self.is_alive(id) {
                    continue;
                }
                busy |= self.at(id).persist();
                busy |= !self.at(id).fetches.is_empty();
                self.at(id).read_all();
                busy |= self.send_snapshots(id);
            }
            self.collect();
            if !busy {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }

    /// Carries out the snapshot transfers that `id` wants. Whether there were any.
    pub(crate) fn send_snapshots(&mut self, id: u64) -> bool {
        let wanted = core::mem::take(&mut self.at(id).snapshots);
        for SendSnapshot { to } in &wanted {
            let meta = self.at(id).disk.snapshot.clone().expect("a leader that compacted");
            let through = !self.cut.contains(&(id, to.0)) && self.is_alive(to.0);
            if through {
                self.at(to.0).receive_snapshot(meta.last);
            }
            let outcome = match through {
                true => SnapshotOutcome::Delivered(meta.last),
                false => SnapshotOutcome::Failed,
            };
            self.at(id).step(Input::SnapshotSent { to: *to, outcome });
        }
        !wanted.is_empty()
    }

    /// Time passes for everybody, and everything settles.
    pub(crate) fn run(&mut self, milliseconds: u64) {
        const STEP_MS: u64 = 50;
        for _ in 0..milliseconds.div_ceil(STEP_MS) {
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                if self.is_alive(id) {
                    self.at(id).tick(STEP_MS);
                }
            }
            self.settle();
        }
    }

    /// `id` times out and wins.
    pub(crate) fn elect(&mut self, id: u64) {
        self.at(id).time_out();
        self.settle();
        assert_eq!(self.at(id).node.role(), Role::Leader, "{id} was to win");
    }

    /// Nothing gets through between these and the others.
    pub(crate) fn partition(&mut self, side: &[u64]) {
        let ids: Vec<u64> = self.replicas.keys().copied().collect();
        for a in &ids {
            for b in &ids {
                if side.contains(a) != side.contains(b) {
                    self.cut.insert((*a, *b));
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// What is in the mail of a process that dies is lost with it.
    pub(crate) fn kill(&mut self, id: u64) {
        self.collect();
        self.dead.insert(id);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        self.dead.remove(&id);
        self.at(id).crash();
    }

    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leading = self
            .replicas
            .iter()
            .filter(|(id, replica)| self.is_alive(**id) && replica.node.role() == Role::Leader);
        leading.map(|(id, _)| *id).collect()
    }

    /// The terms of the log of `id`, as its disk holds it.
    pub(crate) fn terms(&self, id: u64) -> Vec<u64> {
        self.replicas[&id].disk.entries.iter().map(|entry| entry.id.term.0).collect()
    }
}
