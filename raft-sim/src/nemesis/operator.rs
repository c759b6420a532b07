//! Whoever changes the members, hands the lead over, and makes nodes members again that have lost their disks.
//!
//! A disk may be lost only while that can be survived. Nothing that was acknowledged may be on too few disks, and no
//! change of membership may count on the node that has lost it: so one node at a time, of three voters or more, and only
//! while no change is under way or half-way in any log.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use raft_rsm::raft_core::{Configuration, EntryId, LogIndex, Member, NodeId};
use raft_rsm::{MembershipChange, MembershipError, StateMachine, Status, TransferError};

use super::Nemesis;
use crate::cluster::Replica;
use crate::event::{Crash, Event, Operation, OperationOutcome};
use crate::executor::WORLD;
use crate::faults::{Beside, Change, Moment};
use crate::trace;

/// Changes lead to no more voters than this.
const VOTERS_MAX: usize = 7;

/// How often an operator looks whether something can be done.
const LOOKS_EACH: Duration = Duration::from_millis(50);

/// What an operator has begun.
#[derive(Default)]
pub(super) struct Operator {
    /// Changes of membership of which nothing was heard yet.
    changing: usize,
    /// Nodes that have lost their disks and are not yet what they were, each with whether it was a voter.
    wiped: BTreeSet<(NodeId, bool)>,
}

impl<M: StateMachine> Nemesis<M> {
    /// Whether there is somebody to ask, and nobody waits to become what it was.
    pub(super) fn may_change(&self) -> bool {
        self.operator().wiped.is_empty() && self.leading().is_some()
    }

    /// Asks whoever leads to change the members. It goes on when the fault has ended, until it is answered.
    pub(super) async fn change(&self, change: Change, pick: u64, beside: Beside, lasts: Duration) {
        let cluster = &self.cluster;
        let Some((leader, replica)) = self.leading() else { return };
        let configuration = replica.status().configuration;
        let Some(wish) = Wish::new(self, &configuration, pick).change(change) else { return };
        match beside {
            Beside::Nothing => self.ask_to_change(vec![(replica, wish)]),
            Beside::AnotherOne => {
                let other = Wish::new(self, &configuration, pick.rotate_left(17));
                let other = other.change(Change::Any).unwrap_or_else(|| wish.clone());
                self.ask_to_change(vec![(replica.clone(), wish), (replica, other)]);
            }
            Beside::Kill(after) => {
                self.ask_to_change(vec![(replica, wish)]);
                cluster.sleep(after.min(lasts)).await;
                let left = lasts.saturating_sub(after);
                return self.crash(&[leader], Crash::Killed, Moment::Now, left).await;
            }
        }
        cluster.sleep(lasts).await;
    }

    /// Asks for these changes at the same time, and waits for what is said of them; nobody waits for that.
    fn ask_to_change(&self, wishes: Vec<(Replica<M>, MembershipChange)>) {
        self.operator().changing += 1;
        let nemesis = self.clone();
        let task = async move {
            let asked = wishes.into_iter().map(|(replica, wish)| nemesis.ask(replica, wish));
            futures::future::join_all(asked).await;
            nemesis.operator().changing -= 1;
        };
        self.cluster.executor().spawn(WORLD, "operator", task.boxed());
    }

    async fn ask(&self, replica: Replica<M>, wish: MembershipChange) -> bool {
        let patience = self.patience(&replica);
        let what = describe(&wish);
        let result = replica.change_membership(wish).await;
        let outcome = match &result {
            Ok(_) => OperationOutcome::Done,
            Err(
                MembershipError::Maybe(_)
                | MembershipError::NotCaughtUp { .. }
                | MembershipError::NotHeard { .. },
            ) => OperationOutcome::Failed,
            Err(_) => OperationOutcome::Refused,
        };
        let said = match &result {
            Ok(configuration) => trace::members(configuration),
            Err(error) => error.to_string(),
        };
        let is_open = matches!(result, Err(MembershipError::Maybe(_)));
        self.operated(Operation::Membership, outcome, format!("{what}: {said}"));
        if is_open {
            // The leader may go on with it for as long.
            self.cluster.sleep(patience).await;
        }
        result.is_ok()
    }

    /// How long a leader goes on with a change after it has told that it knows nothing more: by then every clock has
    /// passed the time for catching up.
    fn patience(&self, replica: &Replica<M>) -> Duration {
        let mut catch_up_max = Duration::ZERO;
        self.cluster.set_up(replica.status().id, |setup| {
            catch_up_max = setup.options.core.catch_up_max;
        });
        catch_up_max * 2
    }

    /// Asks whoever leads to hand the lead over.
    pub(super) fn transfer(&self, to: Option<NodeId>) {
        let Some((leader, replica)) = self.leading() else { return };
        self.cluster.will_hand_over(leader);
        let nemesis = self.clone();
        let task = async move {
            let result = replica.transfer_leadership(to).await;
            let outcome = match &result {
                Ok(_) => OperationOutcome::Done,
                Err(TransferError::TimedOut { .. } | TransferError::Stopped) => {
                    OperationOutcome::Failed
                }
                Err(_) => OperationOutcome::Refused,
            };
            nemesis.cluster.will_lead_on(leader);
            let to = to.map_or("whoever is best prepared".to_owned(), |to| format!("node {to}"));
            let said = match result {
                Ok(leader) => format!("node {leader} leads"),
                Err(error) => error.to_string(),
            };
            let what = format!("node {leader} hands the lead over to {to}: {said}");
            nemesis.operated(Operation::Transfer, outcome, what);
        };
        self.cluster.executor().spawn(WORLD, "operator", task.boxed());
    }

    /// A node loses its disk as soon as that can be survived, if it can be before the fault ends. It is then made again
    /// what it was, however long that takes.
    pub(super) async fn wipe(&self, id: NodeId, lasts: Duration) {
        let cluster = &self.cluster;
        let end = cluster.now().saturating_add(lasts);
        let is_voter = loop {
            if let Some(is_voter) = self.may_wipe(id) {
                break is_voter;
            }
            if cluster.now() >= end {
                return;
            }
            cluster.sleep(LOOKS_EACH.min(end.saturating_sub(cluster.now()))).await;
        };
        self.operator().wiped.insert((id, is_voter));
        cluster.wipe(id);
        let nemesis = self.clone();
        let task = async move { nemesis.readmit(id, is_voter).await };
        cluster.executor().spawn(WORLD, "operator", task.boxed());
        self.active().down.add(id);
        cluster.sleep(end.saturating_sub(cluster.now()) / 2).await;
        self.active().down.remove(&id);
        self.start(id);
        cluster.sleep(end.saturating_sub(cluster.now())).await;
    }

    /// Whether the node may lose its disk now, and if so, whether it is a voter.
    fn may_wipe(&self, id: NodeId) -> Option<bool> {
        let operator = self.operator();
        if operator.changing > 0 || !operator.wiped.is_empty() {
            return None;
        }
        drop(operator);
        let settled = self.settled()?;
        let status = self.cluster.status(id)?;
        let is_itself = |member: &Member| member.incarnation == Some(status.incarnation);
        match settled.member(id) {
            Some(member) if !is_itself(member) => None,
            Some(_) if settled.is_voter(id) => (settled.voters().len() > 2).then_some(true),
            Some(_) | None => Some(false),
        }
    }

    /// The members, if it is certain that no log holds others that may yet count: all nodes run, all members have these,
    /// and committed, and who is none has a log with which it cannot be elected.
    fn settled(&self) -> Option<Configuration> {
        let cluster = &self.cluster;
        let statuses: Option<Vec<Status>> =
            cluster.ids().into_iter().map(|id| cluster.status(id)).collect();
        let statuses = statuses?;
        let (_, leader) = self.leading()?;
        let leader = leader.status();
        let configuration = leader.configuration;
        if configuration.is_joint() || leader.commit < leader.last.index {
            return None;
        }
        let members = || statuses.iter().filter(|status| configuration.contains(status.id));
        let shortest = members().map(|status| order(status.last)).min()?;
        let is_settled = |status: &Status| {
            status.configuration == configuration
                || (!configuration.contains(status.id) && order(status.last) < shortest)
        };
        let is_of_the_term = members().all(|status| status.last.term == leader.term);
        (is_of_the_term && statuses.iter().all(is_settled)).then_some(configuration)
    }

    /// Makes a node that has lost its disk again what it was, under its new incarnation: a learner first, and then a voter.
    async fn readmit(&self, id: NodeId, as_voter: bool) {
        while !self.try_to_readmit(id, as_voter).await {
            self.cluster.sleep(LOOKS_EACH).await;
        }
        self.operator().wiped.remove(&(id, as_voter));
        self.tell(Event::Readmitted { node: id });
    }

    /// Takes a step, if it can be taken. Whether there is nothing left to do.
    async fn try_to_readmit(&self, id: NodeId, as_voter: bool) -> bool {
        let Some((_, replica)) = self.leading() else { return false };
        let Some(status) = self.cluster.status(id) else { return false };
        let leader = replica.status();
        let configuration = leader.configuration;
        let is_committed = leader.commit == leader.last.index && !configuration.is_joint();
        let Some(member) = configuration.member(id) else { return is_committed };
        let own = status.incarnation;
        let member = Member::of_incarnation(id, own, member.address.clone());
        let change = if configuration.is_voter_as(id, own) {
            return is_committed;
        } else if configuration.learners().iter().any(|learner| learner.is(id, own)) {
            if !as_voter {
                return is_committed;
            }
            MembershipChange::AddVoter(member)
        } else {
            MembershipChange::AddLearner(member)
        };
        self.operator().changing += 1;
        self.ask(replica, change).await;
        self.operator().changing -= 1;
        false
    }

    /// All faults have ended: completes when no node has lost its disk and is not yet what it was, no change is under way
    /// and the members are settled and run; or when it should have.
    pub(crate) async fn recover(&self, within: Duration) {
        let until = self.cluster.now().saturating_add(within);
        while self.cluster.now() < until {
            let is_idle = {
                let operator = self.operator();
                operator.changing == 0 && operator.wiped.is_empty()
            };
            if let Some(configuration) = self.committed().filter(|_| is_idle) {
                // A change that was under way may have made a member of one that had been shut down.
                configuration.members().iter().for_each(|member| self.start(member.id));
                return;
            }
            self.cluster.sleep(LOOKS_EACH).await;
        }
    }

    /// For some time, shuts down those that are no members, and starts them once they are. Without PreVote and CheckQuorum
    /// everywhere, one that has not heard of its removal campaigns for ever (diss. §4.2.3): it is the operator who has to
    /// end it.
    pub(crate) async fn shut_down_others(&self, during: Duration) {
        let cluster = &self.cluster;
        let until = cluster.now().saturating_add(during);
        while cluster.now() < until {
            if let Some(configuration) = self.committed().filter(|_| !self.is_quiet()) {
                let is_other = |id: &NodeId| !configuration.contains(*id);
                let (others, members): (Vec<_>, Vec<_>) =
                    cluster.ids().into_iter().partition(is_other);
                others.into_iter().for_each(|id| cluster.crash(id, Crash::Killed));
                members.into_iter().for_each(|id| self.start(id));
            }
            cluster.sleep(LOOKS_EACH).await;
        }
    }

    /// Whether those that were removed disrupt nobody.
    fn is_quiet(&self) -> bool {
        self.cluster.ids().into_iter().all(|id| {
            let mut is_quiet = false;
            self.cluster.set_up(id, |setup| {
                is_quiet = setup.options.core.pre_vote && setup.options.core.check_quorum;
            });
            is_quiet
        })
    }

    /// The members that whoever leads knows to be committed and not half-way to others.
    pub(crate) fn committed(&self) -> Option<Configuration> {
        let (_, leader) = self.leading()?;
        let leader = leader.status();
        let is_committed = leader.commit == leader.last.index && leader.commit > LogIndex::ZERO;
        (is_committed && !leader.configuration.is_joint()).then_some(leader.configuration)
    }

    fn leading(&self) -> Option<(NodeId, Replica<M>)> {
        let leader = self.cluster.leader()?;
        Some((leader, self.cluster.replica(leader)?))
    }

    fn operated(&self, operation: Operation, outcome: OperationOutcome, what: String) {
        self.tell(Event::Operated { operation, outcome, what });
    }

    fn operator(&self) -> MutexGuard<'_, Operator> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a log more up-to-date than another one (§5.4.1).
fn order(last: EntryId) -> (u64, u64) {
    (last.term.0, last.index.0)
}

fn describe(change: &MembershipChange) -> String {
    match change {
        MembershipChange::To(target) => trace::members(target),
        MembershipChange::AddVoter(member) => format!("node {} a voter", member.id),
        MembershipChange::AddLearner(member) => format!("node {} a learner", member.id),
        MembershipChange::Remove(id) => format!("node {id} out"),
        _ => format!("{change:?}"),
    }
}

/// Draws a change from the members in force.
struct Wish<'c> {
    configuration: &'c Configuration,
    /// The others, as they would join.
    others: Vec<Member>,
    pick: u64,
}

impl<'c> Wish<'c> {
    fn new<M: StateMachine>(
        nemesis: &Nemesis<M>,
        configuration: &'c Configuration,
        pick: u64,
    ) -> Wish<'c> {
        let cluster = &nemesis.cluster;
        let others = cluster.ids().into_iter().filter(|id| !configuration.contains(*id));
        let others = others.map(|id| {
            let incarnation = cluster.status(id).map(|status| status.incarnation);
            Member {
                incarnation: incarnation.filter(|_| pick >> 40 & 1 == 1),
                ..Member::new(id, "")
            }
        });
        Wish { configuration, others: others.collect(), pick }
    }

    /// The change, if it can be made of these members.
    fn change(&self, change: Change) -> Option<MembershipChange> {
        let (voters, learners) = (self.configuration.voters(), self.configuration.learners());
        let can_grow = voters.len() < VOTERS_MAX;
        let leaving = || self.one_of(voters).filter(|_| voters.len() > 1);
        Some(match change {
            Change::AddLearner => MembershipChange::AddLearner(self.one_of(&self.others)?),
            Change::AddVoter => {
                MembershipChange::AddVoter(self.one_of(&self.others).filter(|_| can_grow)?)
            }
            Change::RemoveVoter => MembershipChange::Remove(leaving()?.id),
            Change::RemoveLearner => MembershipChange::Remove(self.one_of(learners)?.id),
            Change::Demote => MembershipChange::AddLearner(leaving()?),
            Change::Promote => {
                MembershipChange::AddVoter(self.one_of(learners).filter(|_| can_grow)?)
            }
            Change::Replace => {
                let without = self.configuration.without_member(self.one_of(voters)?.id);
                MembershipChange::To(without.with_voter(self.one_of(&self.others)?))
            }
            Change::Move => {
                let members: Vec<Member> =
                    self.configuration.members().into_iter().cloned().collect();
                let member = self.one_of(&members)?;
                let address = format!("elsewhere:{}", self.pick % 1000);
                let member = Member { address, ..member };
                match self.configuration.is_voter(member.id) {
                    true => MembershipChange::AddVoter(member),
                    false => MembershipChange::AddLearner(member),
                }
            }
            Change::Any => MembershipChange::To(self.any()?),
        })
    }

    /// Each node is a voter, a learner or nothing.
    fn any(&self) -> Option<Configuration> {
        let members = self.configuration.members().into_iter().chain(&self.others);
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for member in members {
            match self.pick >> (2 * (member.id.0 % 20)) & 3 {
                0 => {}
                1 => learners.push(member.clone()),
                _ => voters.push(member.clone()),
            }
        }
        voters.truncate(VOTERS_MAX);
        let target = Configuration::of_members(voters, [], learners);
        (!target.voters().is_empty()).then_some(target)
    }

    fn one_of(&self, members: &[Member]) -> Option<Member> {
        let place = usize::try_from(self.pick >> 44).unwrap_or(0).checked_rem(members.len())?;
        members.get(place).cloned()
    }
}
