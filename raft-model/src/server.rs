//! One server: a real node, its disk, and the write that is on its way there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use raft_core::{
    Configuration, Effects, Entry, Envelope, Fetch, Fetched, Input, LogIndex, Node, NodeId,
    Options, Role, Term, Write, WriteId,
};

use crate::bounds::Bounds;
use crate::disk::Disk;

/// A node with what it cannot do without. Always in canonical form, when a state holds it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) disk: Disk,
    /// It leaves the node, and is not durable yet.
    pub(crate) write: Option<Write>,
    /// The terms of the node's log.
    terms: Vec<Term>,
    /// The hash of all of it.
    pub(crate) print: u64,
}

/// What a server has done in one step.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) sent: Vec<Envelope>,
    pub(crate) applied: Vec<Entry>,
    /// How far the node took its log for committed, each time under the configuration of that moment.
    pub(crate) commits: Vec<(LogIndex, Configuration)>,
    /// Whether something was written that contradicts what was written before.
    pub(crate) overwrote: bool,
    /// Whether an entry was applied that is not durable here.
    pub(crate) applied_early: bool,
    /// Whether it has started again, and so applies everything anew.
    pub(crate) restarted: bool,
}

impl Done {
    /// Sees how far the node takes its log for committed now.
    pub(crate) fn see(&mut self, node: &Node) {
        let seen = self.commits.last().map_or(LogIndex::ZERO, |(commit, _)| *commit);
        if node.commit() > seen {
            self.commits.push((node.commit(), node.configuration().clone()));
        }
    }
}

impl Server {
    /// A server that starts with this disk.
    pub(crate) fn start(bounds: &Bounds, id: NodeId, disk: Disk, forgets: bool) -> Option<Server> {
        let mut restored = disk.restored(&bounds.first());
        if forgets {
            restored.configurations.clear();
        }
        let mut node = Node::new(options(bounds, id), restored).ok()?;
        node.step(Input::Tick(Duration::ZERO));
        Some(Server { node, disk, write: None, terms: Vec::new(), print: 0 })
    }

    /// Drains the node and carries out what it wants, until it wants nothing more. What it reads is read at once, and
    /// what it hands out is applied at once. A write waits for its turn, unless disks are fast.
    pub(crate) fn carry_out(&mut self, bounds: &Bounds, done: &mut Done) {
        let mut effects = Effects::default();
        loop {
            self.node.drain(&mut effects);
            if effects.is_empty() {
                return;
            }
            done.sent.append(&mut effects.messages);
            if let Some(applies) = effects.applies.take() {
                for entry in &applies.entries {
                    done.applied_early |= self.disk.entry(entry.id.index) != Some(entry);
                    done.applied.push(entry.clone());
                }
                let last = applies.entries.last().map_or(LogIndex::ZERO, |entry| entry.id.index);
                self.node.step(Input::Applied(last));
            }
            for fetch in &effects.fetches {
                let result = read(&self.disk, fetch);
                self.node.step(Input::Fetched { id: fetch.id, result });
            }
            if let Some(write) = effects.write.take() {
                self.write = Some(write);
                if !bounds.slow_disks {
                    self.persist(done);
                }
            }
        }
    }

    /// The write that is out is durable.
    pub(crate) fn persist(&mut self, done: &mut Done) {
        if let Some(write) = self.write.take() {
            done.overwrote |= !self.disk.write(&write);
            self.node.step(Input::Persisted(write.id));
            done.see(&self.node);
        }
    }

    pub(crate) fn election_timeout(bounds: &Bounds) -> Duration {
        options(bounds, NodeId(1)).election_timeout
    }

    /// Brings the server into canonical form.
    pub(crate) fn canonicalize(&mut self) {
        self.node.canonicalize();
        if let Some(write) = &mut self.write {
            write.id = WriteId(0);
        }
        let (terms, last) = (self.node.terms(), self.node.last().index.0);
        self.terms = (1..=last).filter_map(|index| terms.term(LogIndex(index))).collect();
        let mut hasher = DefaultHasher::new();
        (&self.node, &self.disk, &self.write).hash(&mut hasher);
        self.print = hasher.finish();
    }

    /// The terms of the node's log, durable or not.
    pub(crate) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether the node is a candidate, or leads, in `term`.
    pub(crate) fn campaigns_in(&self, term: Term) -> bool {
        self.node.role() == Role::Candidate && self.node.term() == term
    }

    pub(crate) fn leads_in(&self, term: Term) -> bool {
        self.node.role() == Role::Leader && self.node.term() == term
    }
}

fn options(bounds: &Bounds, id: NodeId) -> Options {
    let mut options = Options::new(id);
    options.pre_vote = bounds.pre_vote;
    options.check_quorum = bounds.check_quorum;
    options.limits.message_entries_max = bounds.message_entries_max;
    options
}

fn read(disk: &Disk, fetch: &Fetch) -> Fetched {
    let wanted = |entry: &&Entry| (fetch.first..=fetch.last).contains(&entry.id.index);
    Fetched::Entries(disk.entries.iter().filter(wanted).cloned().collect())
}
