//! Changes of membership, transfers of leadership, reads, and disks that are wiped.

use raft_core::{
    ChangeFailed, ChangeOutcome, Configuration, Envelope, Incarnation, Member, Message, Node,
    NodeId,
};

use crate::cluster::checker::is_named;
use crate::cluster::disk::Disk;
use crate::cluster::{Cluster, Happened, Server};
use crate::harness::configurations;

impl Cluster {
    /// The member `id` as an operator names it: whoever lost its disk needs its incarnation, others may do without.
    pub(crate) fn member(&self, id: NodeId, named: bool) -> Member {
        let incarnation = self.servers[&id].disk.incarnation;
        match named || incarnation != Incarnation(0) {
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
    /// the others would then be no quorum: they could do nothing any more, not even make it a member again.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        if !self.can_do_without(id) {
            return;
        }
        self.crash(id);
        let server = self.servers.get_mut(&id).unwrap();
        let incarnation = server.disk.incarnation;
        let anew = Disk::new(Incarnation(incarnation.0 + 1), Configuration::default());
        let wiped = core::mem::replace(&mut server.disk, anew);
        server.configuration = Configuration::default();
        self.checker.wiped.insert((id, incarnation), wiped);
        self.happened.wiped += 1;
    }

    /// Whether all configurations that may count some day have their quorums without `id`.
    fn can_do_without(&self, id: NodeId) -> bool {
        if self.servers.values().any(|server| server.change.is_some()) {
            return false;
        }
        self.configurations().iter().all(|configuration| {
            let stays = |voter: &&Member| {
                voter.id != id && voter.is(voter.id, self.servers[&voter.id].disk.incarnation)
            };
            let has_quorum = |voters: &[Member]| {
                voters.is_empty() || voters.iter().filter(stays).count() > voters.len() / 2
            };
            has_quorum(configuration.voters())
                && has_quorum(configuration.outgoing())
                // As long as its incarnation is not named, every one counts.
                && is_named(configuration, id)
        })
    }

    /// The last configuration that was applied anywhere, and all later ones, wherever they are.
    fn configurations(&self) -> Vec<Configuration> {
        let applied = self.checker.last_configuration();
        let since = applied.as_ref().map_or_else(Default::default, |(index, _)| *index);
        let on_disks = self.servers.values().flat_map(|s| s.disk.configurations_since(since));
        let nodes = self.servers.values().filter_map(|server| server.node.as_ref());
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
            assert!(configuration.learners().iter().any(|member| member.id == *id));
            assert!(node.configuration_is_committed());
        }
        Err(ChangeFailed::LostLead { .. }) => happened.lost_lead += 1,
        Err(other) => panic!("{other}"),
    }
}

fn ids(members: &[Member]) -> Vec<NodeId> {
    members.iter().map(|member| member.id).collect()
}

pub(super) fn is_told_to_campaign(envelope: &Envelope) -> bool {
    matches!(envelope.message, Message::RequestVote { transfer: true, .. })
}
