//! The core alone: three nodes in one process, each with a disk that is a few vectors, and a network that is a queue.
//!
//! It teaches what a driver owes to [`Node`], and that is all in `Replica::round`:
//!
//! 1. Take what has arrived, *then* read the clock; step the tick first, so that a node that was paused knows it before it
//!    answers anything.
//! 2. Step every fact. None can fail.
//! 3. Drain once. Everything in [`Effects`] may start at once and in parallel: what must wait for the disk has not left the
//!    node. The one order to keep is that of `restore` and `applies`, from one drain to the next.
//! 4. What is done comes back as a fact: `Persisted`, `Applied`, `Fetched`.
//!
//! Try it: `cargo run -p raft-core --example three_nodes`.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::time::Duration;

use raft_core::{
    Configuration, Effects, Entry, EntryId, Envelope, Fetched, HardState, Incarnation, Input, Node,
    NodeId, Options, Payload, Restored, Role, SnapshotMeta, TermRuns, Write,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut world = World::new()?;
    tell(&mut world, &mut |line| println!("{line}"))
}

/// What happens.
fn tell(world: &mut World, say: &mut dyn FnMut(String)) -> Outcome<()> {
    let leader = world.elect()?;
    say(format!("node {leader} leads {}", world.term(leader)?));

    for command in ["set x 1", "set y 2", "set x 3"] {
        let id = world.replica(leader)?.node.propose(command.into())?;
        say(format!("{command:?} is entry {id} of its log"));
    }
    world.run_until("all have applied it", |world| world.have_applied(3))?;
    say(format!("all three have applied {:?}", world.replica(leader)?.machine));

    // A read costs no entry: the leader makes sure that it still leads, and any node may ask it to.
    let follower = world.others(leader).next().ok_or("nobody follows")?;
    let read = world.replica(follower)?.node.read_index()?;
    world.run_until("an index to read at", |world| world.reads.contains_key(&read.0))?;
    let index = &world.reads[&read.0];
    say(format!("node {follower} may answer a read once it has applied {index}"));

    let disk = world.kill(leader)?;
    say(format!("node {leader} is gone, and its connections are closed"));
    let next = world.elect()?;
    say(format!("node {next} leads {}", world.term(next)?));
    world.replica(next)?.node.propose("set y 4".into())?;
    world.run_until("both have applied it", |world| world.have_applied(4))?;
    say(format!("the other two go on: {:?}", world.replica(next)?.machine));

    world.start(leader, disk)?;
    world.run_until("it has caught up", |world| world.have_applied(4))?;
    say(format!("node {leader} is back, and has {:?}", world.replica(leader)?.machine));
    Ok(())
}

/// What a process keeps when it dies.
#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<Entry>,
}

impl Disk {
    /// A write is atomic: after a crash all of it is there, or none. A real one is durable before it is reported.
    fn write(&mut self, write: &Write) {
        if let Some(first) = write.entries.first() {
            // Entries replace whatever the log has at their place, and all after it.
            self.log.retain(|entry| entry.id.index < first.id.index);
            self.log.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        // `reset` and `compact` come with snapshots, and nobody takes any here.
    }

    /// What a node starts from.
    fn restored(&self) -> Restored {
        let mut terms = TermRuns::new(EntryId::ZERO);
        let mut configurations = Vec::new();
        for entry in &self.log {
            terms.push(entry.id.term);
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((entry.id.index, configuration.clone()));
            }
        }
        Restored {
            incarnation: Incarnation(0),
            hard_state: self.hard_state,
            start: SnapshotMeta::new(EntryId::ZERO, members()),
            terms,
            configurations,
            snapshot: None,
        }
    }
}

fn members() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId), [])
}

/// One process: a node and its driver.
struct Replica {
    node: Node,
    disk: Disk,
    /// The state machine: the commands that it has applied.
    machine: Vec<String>,
    /// Facts that wait for the next round.
    inbox: Vec<Input>,
    effects: Effects,
}

impl Replica {
    /// One round of the driver. Messages go to `network`, indexes to read at to `reads`.
    fn round(
        &mut self,
        now: Duration,
        network: &mut VecDeque<Envelope>,
        reads: &mut BTreeMap<u64, String>,
    ) {
        let inbox = std::mem::take(&mut self.inbox);
        self.node.step(Input::Tick(now));
        for input in inbox {
            self.node.step(input);
        }
        self.node.drain(&mut self.effects);

        // From here on everything could happen in parallel, on threads of its own; the node goes on meanwhile, with
        // one exception that it takes care of itself: at most one write is out.
        if let Some(write) = self.effects.write.take() {
            self.disk.write(&write);
            self.inbox.push(Input::Persisted(write.id));
        }
        // Each may be lost, or arrive twice, or late.
        network.extend(self.effects.messages.drain(..));
        // Committed, and durable here: it is safe to act on it, and no other order is possible.
        if let Some(applies) = self.effects.applies.take() {
            for entry in applies.entries.iter() {
                match &entry.payload {
                    Payload::Command(bytes) => {
                        self.machine.push(String::from_utf8_lossy(bytes).into_owned());
                    }
                    // The core's own: what a new leader begins with, and changes of membership.
                    Payload::Empty | Payload::Configuration(_) => {}
                }
            }
            self.inbox.extend(applies.entries.last().map(|last| Input::Applied(last.id.index)));
        }
        // The core keeps the end of the log in memory. What is older it asks for.
        for fetch in self.effects.fetches.drain(..) {
            let wanted = fetch.first..=fetch.last;
            let found = self.disk.log.iter().filter(|entry| wanted.contains(&entry.id.index));
            let result = Fetched::Entries(found.cloned().collect());
            self.inbox.push(Input::Fetched { id: fetch.id, result });
        }
        for read in self.effects.reads.drain(..) {
            let index =
                read.index.map_or_else(|why| why.to_string(), |index| format!("entry {index}"));
            reads.insert(read.id.0, index);
        }
        // `restore` would come before `applies`, and `snapshots` be sent to peers; there are none without `SnapshotTaken`.
    }
}

/// The processes, the network, and the time.
struct World {
    replicas: BTreeMap<NodeId, Replica>,
    network: VecDeque<Envelope>,
    reads: BTreeMap<u64, String>,
    now: Duration,
    lives: u64,
}

impl World {
    fn new() -> Outcome<World> {
        let (replicas, network, reads) = Default::default();
        let mut world = World { replicas, network, reads, now: Duration::ZERO, lives: 0 };
        for id in [1, 2, 3].map(NodeId) {
            world.start(id, Disk::default())?;
        }
        Ok(world)
    }

    fn start(&mut self, id: NodeId, disk: Disk) -> Outcome<()> {
        self.lives += 1;
        // Another seed for each node and each of its lives.
        let options = Options { seed: self.lives, ..Options::new(id) };
        let node = Node::new(options, disk.restored())?;
        let (machine, inbox, effects) = Default::default();
        self.replicas.insert(id, Replica { node, disk, machine, inbox, effects });
        Ok(())
    }

    /// Only the disk is left of it. The others notice that their connections are closed.
    fn kill(&mut self, id: NodeId) -> Outcome<Disk> {
        let dead = self.replicas.remove(&id).ok_or("no such node")?;
        for replica in self.replicas.values_mut() {
            replica.inbox.push(Input::Disconnected(id));
        }
        Ok(dead.disk)
    }

    /// Ten milliseconds pass, and what was on its way arrives.
    fn pass(&mut self) {
        self.now += Duration::from_millis(10);
        for envelope in self.network.drain(..) {
            if let Some(replica) = self.replicas.get_mut(&envelope.to) {
                replica.inbox.push(Input::Receive(envelope));
            }
        }
        for replica in self.replicas.values_mut() {
            replica.round(self.now, &mut self.network, &mut self.reads);
        }
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) -> Outcome<()> {
        for _ in 0..1000 {
            if is_so(self) {
                return Ok(());
            }
            self.pass();
        }
        Err(format!("ten seconds have passed in vain, waiting until {what}").into())
    }

    fn elect(&mut self) -> Outcome<NodeId> {
        self.run_until("somebody leads", |world| world.leader().is_some())?;
        self.leader().ok_or_else(|| "nobody leads".into())
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |replica: &&Replica| replica.node.role() == Role::Leader;
        self.replicas.values().find(leads).map(|replica| replica.node.id())
    }

    fn have_applied(&self, commands: usize) -> bool {
        self.replicas.values().all(|replica| replica.machine.len() == commands)
    }

    fn others(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        self.replicas.keys().copied().filter(move |other| *other != id)
    }

    fn term(&self, id: NodeId) -> Outcome<String> {
        let replica = self.replicas.get(&id).ok_or("no such node")?;
        Ok(format!("term {} after {} ms", replica.node.term(), self.now.as_millis()))
    }

    fn replica(&mut self, id: NodeId) -> Outcome<&mut Replica> {
        self.replicas.get_mut(&id).ok_or_else(|| "no such node".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_agree_before_and_after_the_loss_of_their_leader() -> Outcome<()> {
        let mut world = World::new()?;
        let mut told = Vec::new();
        tell(&mut world, &mut |line| told.push(line))?;
        for replica in world.replicas.values() {
            assert_eq!(replica.machine, ["set x 1", "set y 2", "set x 3", "set y 4"]);
        }
        assert_eq!(world.replicas.len(), 3);
        assert!(told.iter().any(|line| line.contains("once it has applied entry")), "{told:#?}");
        Ok(())
    }
}
