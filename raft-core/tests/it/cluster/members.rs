//! Changes of membership, transfers of leadership, reads, and disks that are wiped.

use raft_core::{
    ChangeFailed, ChangeOutcome, Configuration, Envelope, Incarnation, Input, Member, Message,
    Node, NodeId, SnapshotOutcome,
};

use crate::cluster::disk::Disk;
use crate::cluster::{Cluster, Happened, Server};
use crate::harness::configurations;

impl Cluster {
    /// The member `id` as an operator names it: whoever ever lost its disk needs its incarnation, others may do without.
    pub(crate) fn member(&self, id: NodeId, named: bool) -> Member {
        let incarnation = self.servers[&id].disk.incarnation;
        let has_others = self.checker.wiped.keys().any(|(of, _)| *of == id);
        match named || has_others {
            true => Member::of_incarnation(id, incarnation, ""),
            false => Member::new(id, ""),
        }
    }

    /// Asks `id` for a change of membership. Whether that is begun.
    pub(crate) fn change(&mut self, id: NodeId, target: &Configuration) -> bool {
        let server = self.servers.get_mut(&id).unwrap();
        let Some(node) = &mut server.node else { return false };
        let begun = node.change_membership(target).is_ok();
        if begun {
            assert!(server.change.is_none(), "one change at a time");
            server.change = Some(target.clone());
        }
        self.drain(id);
        begun
    }

    /// Asks `id` to make those voters of its configuration that have lost their disks members anew.
    pub(crate) fn readmit(&mut self, id: NodeId, as_learner: bool) {
        let Some(node) = &self.servers[&id].node else { return };
        let mut target = node.configuration().clone();
        if target.is_joint() {
            return;
        }
        for member in target.clone().members() {
            let now = self.member(member.id, true);
            if !member.is(member.id, self.servers[&member.id].disk.incarnation) {
                target = match as_learner {
                    true => target.with_learner(now),
                    false => target.with_voter(now),
                };
            }
        }
        self.change(id, &target);
    }

    pub(crate) fn transfer_leadership(&mut self, id: NodeId, to: Option<NodeId>) {
        if let Some(node) = &mut self.servers.get_mut(&id).unwrap().node {
            // Who cannot says so.
            let _ = node.transfer_leadership(to);
            self.drain(id);
        }
    }

    pub(crate) fn read(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        if let Some(Ok(read)) = server.node.as_mut().map(Node::read_index) {
            self.checker.read_asked(id, server.lives, read);
            self.drain(id);
        }
    }

    /// The process dies, and its disk is lost: it is there again with an empty one under a new incarnation. Not where
    /// the others would then be no quorum: they could do nothing any more, not even make it a member again. Or the machine
    /// is only given up, and `runs_on` where nobody reaches it.
    pub(crate) fn wipe(&mut self, id: NodeId, runs_on: bool) {
        if !self.can_do_without(id) {
            return;
        }
        let latest = self.checker.wiped.keys().filter(|(of, _)| *of == id).map(|(_, i)| i.0).max();
        let latest = latest.max(Some(self.servers[&id].disk.incarnation.0));
        let incarnation = Incarnation(latest.unwrap_or(0) + 1);
        let disk = Disk::new(incarnation, Configuration::default());
        match runs_on {
            true => {
                let anew = Server::new(disk, self.servers[&id].lives);
                self.exchange(id, anew);
                self.start(id);
            }
            false => self.replace_disk(id, disk),
        }
        self.happened.wiped += 1;
    }

    /// A disk that passed for lost is there again, in place of the one that its node has now; or the whole machine, where it
    /// runs on.
    pub(crate) fn bring_back(&mut self, at: usize, as_it_was: bool) {
        let count = self.checker.wiped.len();
        let Some(name) = self.checker.wiped.keys().nth(at % count.max(1)).copied() else {
            return;
        };
        if !self.can_do_without(name.0) {
            return;
        }
        let Some(disk) = self.checker.wiped.remove(&name) else { return };
        match self.away.remove(&name).filter(|_| as_it_was) {
            Some(server) => {
                self.exchange(name.0, server);
                self.happened.exchanged += 1;
            }
            None => self.replace_disk(name.0, disk),
        }
        self.happened.came_back += 1;
    }

    /// What is sent to `id` reaches another machine from now on.
    fn exchange(&mut self, id: NodeId, machine: Server) {
        let lives = self.servers[&id].lives + 1;
        let machine = Server { lives, was_away: true, ..machine };
        let gone = self.servers.insert(id, machine).expect("one of them is there");
        self.checker.life_ended(id);
        let name = (id, gone.disk.incarnation);
        self.checker.wiped.insert(name, gone.disk.clone());
        self.away.insert(name, gone);
        self.transfers.retain(|(from, _)| *from != id);
        // Snapshots that it was sending when it left have not arrived.
        for to in self.ids().into_iter().filter(|to| *to != id) {
            self.step(id, Input::SnapshotSent { to, outcome: SnapshotOutcome::Failed }, false);
        }
        self.step(id, Input::Tick(self.now), true);
    }

    fn replace_disk(&mut self, id: NodeId, disk: Disk) {
        self.crash(id);
        let server = self.servers.get_mut(&id).unwrap();
        server.configuration = disk.start.configuration.clone();
        let gone = core::mem::replace(&mut server.disk, disk);
        self.checker.wiped.insert((id, gone.incarnation), gone);
    }

    /// Whether all configurations that may count some day have their quorums without `id`, and those that changes which are
    /// under way lead to. On the way there, who is replaced counts for nothing.
    fn can_do_without(&self, id: NodeId) -> bool {
        let is_there = |voter: &Member| {
            voter.id != id && incarnation(voter) == self.servers[&voter.id].disk.incarnation
        };
        let machines = self.servers.values().chain(self.away.values());
        let targets: Vec<_> = machines.filter_map(|s| s.change.as_ref()).collect();
        let found = self.configurations();
        let is_sure = |configuration: &Configuration| {
            has_quorum(configuration.voters(), is_there)
                && has_quorum(configuration.outgoing(), is_there)
        };
        let can_be_left = |configuration: &Configuration, target: &Configuration| {
            has_quorum(configuration.voters(), |voter| {
                let same =
                    |m: &Member| m.incarnation.is_none() || m.incarnation == voter.incarnation;
                is_there(voter) && target.member(voter.id).is_none_or(same)
            })
        };
        // Whom a target does not name is whoever was heard meanwhile.
        let is_clear = |voter: &Member| {
            voter.incarnation.is_some()
                || !self.checker.wiped.keys().any(|(wiped, _)| *wiped == voter.id)
        };
        let will_be = |target: &Configuration| {
            has_quorum(target.voters(), |voter| is_there(voter) && is_clear(voter))
        };
        found.iter().all(is_sure)
            && targets.iter().all(|target| will_be(target))
            && targets.iter().all(|target| found.iter().all(|from| can_be_left(from, target)))
    }

    /// The last configuration that was applied anywhere, and all later ones, wherever they are.
    fn configurations(&self) -> Vec<Configuration> {
        let applied = self.checker.last_configuration();
        let since = applied.as_ref().map_or_else(Default::default, |(index, _)| *index);
        let machines = || self.servers.values().chain(self.away.values());
        let on_disks = machines().flat_map(|s| s.disk.configurations_since(since));
        let nodes = machines().filter_map(|server| server.node.as_ref());
        let in_logs = nodes.filter(|node| node.last().index >= since);
        let in_logs = in_logs.map(|node| node.configuration().clone());
        let on_the_way = self.network.iter().flat_map(|envelope| {
            let Message::AppendEntries { entries, .. } = &envelope.message else {
                return Vec::new();
            };
            let all = configurations(entries).into_iter();
            all.filter(|(index, _)| *index >= since)
                .map(|(_, configuration)| configuration)
                .collect()
        });
        applied
            .into_iter()
            .map(|(_, c)| c)
            .chain(on_disks)
            .chain(in_logs)
            .chain(on_the_way)
            .collect()
    }

    /// Ends the processes that are no members of what the leader has committed. Whether there is such a leader.
    pub(crate) fn stop_who_was_removed(&mut self) -> bool {
        let leader = self.leader().and_then(|leader| self.servers[&leader].node.as_ref());
        let is_settled =
            |node: &&Node| node.configuration_is_committed() && !node.configuration().is_joint();
        let Some(node) = leader.filter(is_settled) else { return false };
        let configuration = node.configuration().clone();
        for id in self.ids().into_iter().filter(|id| !configuration.contains(*id)) {
            self.crash(id);
        }
        true
    }

    pub(crate) fn check_that_no_read_waits(&self) {
        self.checker.check_that_no_read_waits();
    }
}

/// A change that was asked for comes out once, and as what is true.
pub(super) fn check_outcome(server: &mut Server, outcome: &ChangeOutcome, happened: &mut Happened) {
    let target = server.change.take().expect("a change comes out once");
    let Some(node) = &server.node else { return };
    match outcome {
        Ok(configuration) => {
            happened.changed += 1;
            assert_eq!(ids(configuration.voters()), ids(target.voters()));
            assert_eq!(ids(configuration.learners()), ids(target.learners()));
            assert!(!configuration.is_joint() && node.configuration_is_committed());
            let is_back = |voter: &&Member| voter.incarnation.is_some_and(|i| i.0 > 0);
            happened.readmitted += u64::from(configuration.voters().iter().any(|v| is_back(&v)));
        }
        Err(ChangeFailed::NotCaughtUp { id, configuration }) => {
            happened.not_caught_up += 1;
            assert_eq!(node.configuration(), configuration, "it names the configuration in force");
            // Who was on its way back is a voter still, under its former incarnation.
            let is_back = configuration.voters().iter().any(|voter| voter.id == *id);
            let is_learner = configuration.learners().iter().any(|member| member.id == *id);
            assert!(is_back != is_learner);
        }
        Err(ChangeFailed::NotHeard { id, configuration }) => {
            happened.not_caught_up += 1;
            assert_eq!(node.configuration(), configuration, "it names the configuration in force");
            assert!(configuration.is_voter(*id));
        }
        Err(ChangeFailed::LostLead { .. }) => happened.lost_lead += 1,
        Err(other) => panic!("{other}"),
    }
}

/// The incarnation that counts. Those of a first configuration have the first one.
pub(super) fn incarnation(member: &Member) -> Incarnation {
    member.incarnation.unwrap_or(Incarnation(0))
}

fn has_quorum(voters: &[Member], is_there: impl Fn(&Member) -> bool) -> bool {
    let there = voters.iter().filter(|voter| is_there(voter)).count();
    voters.is_empty() || there > voters.len() / 2
}

fn ids(members: &[Member]) -> Vec<NodeId> {
    members.iter().map(|member| member.id).collect()
}

pub(super) fn is_told_to_campaign(envelope: &Envelope) -> bool {
    matches!(envelope.message, Message::RequestVote { transfer: true, .. })
}
