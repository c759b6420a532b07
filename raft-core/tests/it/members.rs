//! Members by hand: configurations as text, and what it takes to change them.

use raft_core::{
    ChangeError, Configuration, Entry, Envelope, Incarnation, Input, LogIndex, Member, Message,
    NodeId, Options, Payload, Role, Term,
};

use crate::harness::*;

/// The configuration that [`members`] prints as this: voters, outgoing voters after `<`, learners after `+`; all of
/// incarnation 0.
pub(crate) fn configuration(text: &str) -> Configuration {
    let mut sets: [Vec<NodeId>; 3] = Default::default();
    for word in text.split_whitespace() {
        let (set, id) = match word.split_at(1) {
            ("<", id) => (1, id),
            ("+", id) => (2, id),
            _ => (0, word),
        };
        sets[set].push(NodeId(id.parse().expect("an id")));
    }
    let [voters, outgoing, learners] = sets;
    Configuration::joint(voters, outgoing, learners)
}

/// An entry with a configuration.
pub(crate) fn change_entry(term: u64, index: u64, text: &str) -> Entry {
    Entry { id: id(term, index), payload: Payload::Configuration(configuration(text)) }
}

/// The member `id` with a disk of that incarnation.
pub(crate) fn incarnated(id: u64, incarnation: u64) -> Member {
    Member::of_incarnation(NodeId(id), Incarnation(incarnation), "")
}

/// Members of a first configuration, whose incarnations are not known yet.
pub(crate) fn unnamed(ids: &[u64]) -> Configuration {
    Configuration::of_members(ids.iter().map(|id| Member::new(NodeId(*id), "")), [], [])
}

impl Replica {
    /// Replica 1, leading term 1 in this configuration; its first entry, at index 1, is committed.
    pub(crate) fn leader_in(text: &str) -> Replica {
        Replica::leader(Options::new(NodeId(1)), Disk::empty(configuration(text)))
    }

    /// Replica `id` with nothing but this configuration.
    pub(crate) fn first_in(id: u64, text: &str) -> Replica {
        Replica::start(Options::new(NodeId(id)), Disk::empty(configuration(text)))
    }

    /// Replica 1, a candidate of term 1 in this configuration; its own vote is durable.
    pub(crate) fn candidate_in(text: &str) -> Replica {
        let options = Options { pre_vote: false, ..Options::new(NodeId(1)) };
        let mut replica = Replica::start(options, Disk::empty(configuration(text)));
        replica.time_out();
        replica.persist_all();
        replica
    }

    pub(crate) fn change(&mut self, target: &str) -> Result<(), ChangeError> {
        self.change_to(&configuration(target))
    }

    pub(crate) fn change_to(&mut self, target: &Configuration) -> Result<(), ChangeError> {
        let begun = self.node.change_membership(target);
        self.drain();
        begun
    }

    /// The configuration in force.
    pub(crate) fn in_force(&self) -> String {
        members(self.node.configuration())
    }

    /// These have everything that the leader has, and its own disk, too.
    pub(crate) fn acknowledge(&mut self, peers: &[u64]) {
        self.persist_all();
        let last = self.node.last().index.0;
        for peer in peers {
            self.receive(*peer, accepted(last));
        }
    }

    /// A message of another incarnation than 0, in the replica's term.
    pub(crate) fn receive_as(&mut self, from: u64, incarnation: u64, message: Message) {
        self.receive_from(from, incarnation, true, message);
    }

    /// A message of a disk that knows of no configuration which was given to it, in the replica's term.
    pub(crate) fn receive_from_new(&mut self, from: u64, incarnation: u64, message: Message) {
        self.receive_from(from, incarnation, false, message);
    }

    fn receive_from(&mut self, from: u64, incarnation: u64, is_meant: bool, message: Message) {
        let (from, to, term) = (NodeId(from), self.node.id(), self.node.term());
        let incarnation = Incarnation(incarnation);
        self.step(Input::Receive(Envelope { from, incarnation, is_meant, to, term, message }));
    }

    pub(crate) fn commit(&self) -> u64 {
        self.node.commit().0
    }

    /// The outcomes of changes since this was asked last: the configuration, or why not.
    pub(crate) fn outcomes(&mut self) -> Vec<Result<String, String>> {
        let outcomes = core::mem::take(&mut self.changes).into_iter();
        outcomes.map(|o| o.map(|c| members(&c)).map_err(|error| error.to_string())).collect()
    }
}

impl Cluster {
    /// Members of this configuration, and nodes that know of none.
    pub(crate) fn in_configuration(text: &str, spares: &[u64]) -> Cluster {
        let ids: Vec<u64> = configuration(text).members().iter().map(|m| m.id.0).collect();
        let members = ids.into_iter().map(|id| Replica::first_in(id, text));
        Cluster::new(members.chain(spares.iter().map(|id| Replica::first_in(*id, ""))))
    }

    /// `id` changes the members, and everything settles.
    pub(crate) fn change(&mut self, id: u64, target: &str) {
        self.at(id).change(target).expect("a leader that may");
        self.settle();
    }

    /// The process is gone, and its disk: it starts again with an empty one of another incarnation.
    pub(crate) fn wipe(&mut self, id: u64) {
        self.kill(id);
        let incarnation = Incarnation(self.at(id).disk.incarnation.0 + 1);
        self.at(id).disk = Disk { incarnation, ..Disk::empty(Configuration::default()) };
        self.restart(id);
    }

    /// Who leads in the highest term.
    pub(crate) fn newest_leader(&self) -> u64 {
        let leaders = self.leaders().into_iter();
        leaders.max_by_key(|id| self.replicas[id].node.term()).expect("a leader")
    }

    pub(crate) fn role(&self, id: u64) -> Role {
        self.replicas[&id].node.role()
    }

    pub(crate) fn term(&self, id: u64) -> Term {
        self.replicas[&id].node.term()
    }

    pub(crate) fn in_force(&self, id: u64) -> String {
        self.replicas[&id].in_force()
    }
}

/// Up to which index an entry has to be there.
pub(crate) fn index(index: u64) -> LogIndex {
    LogIndex(index)
}
