//! Changes of membership, by way of a joint configuration (§6, diss. §4.3), and the incarnations of members.
//!
//! From one configuration to any other in up to three entries, each of which waits until the one before is committed: the
//! voters that join become learners and catch up; the joint configuration; the new one. Whoever leads enters and leaves
//! a joint configuration by itself: a leader that dies half-way is finished by the next.

use alloc::vec::Vec;
use core::time::Duration;

use crate::configuration::Speaker;
use crate::leader::Leader;
use crate::node::RoleState;
use crate::progress::Progress;
use crate::{
    ChangeError, ChangeFailed, Configuration, Entry, Incarnation, LogIndex, Member, Node, NodeId,
    Payload,
};

/// A voter that joins is given up when it has not caught up after so many rounds (diss. §4.2.1).
const ROUNDS_MAX: u32 = 10;

/// A member that was removed is sent what it has not heard yet for so many election timeouts: its own removal, above all.
const LEAVING_TIMEOUTS: u32 = 4;

/// A change that this leader was asked for.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Change {
    target: Configuration,
    phase: Phase,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
enum Phase {
    /// Until an entry of the leader's own term is committed, and the configuration in force (§6, diss. §4.1).
    Waiting,
    /// Until it is clear, by the given time at most, which voters are replaced of those that have no name yet and that the
    /// target names.
    Hearing(Duration),
    /// These learners catch up, until the given time at most.
    CatchingUp(Vec<CatchUp>, Duration),
    /// The new configuration, or the joint one before it, is in the log.
    Appended,
}

/// A learner on its way to becoming a voter, in rounds: each one replicates what was in the log when it began.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
struct CatchUp {
    id: NodeId,
    round: u32,
    /// The last entry of the round.
    until: LogIndex,
    began_at: Duration,
    is_done: bool,
}

impl Change {
    fn is_catching_up(&self) -> bool {
        match &self.phase {
            Phase::CatchingUp(..) => true,
            Phase::Waiting | Phase::Hearing(_) | Phase::Appended => false,
        }
    }

    /// It has just begun, and all the time is left.
    #[cfg(feature = "model")]
    pub(crate) fn canonicalize(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Hearing(deadline) => *deadline = Duration::MAX,
            Phase::CatchingUp(rounds, deadline) => {
                *deadline = Duration::MAX;
                for round in rounds {
                    round.began_at = now;
                }
            }
            Phase::Waiting | Phase::Appended => {}
        }
    }
}

impl Node {
    /// Changes the members from those in force to `target`, which is not joint: any voters and learners. Where `target`
    /// does not name the incarnation or the address of a member in force, that stays as it is. Where it names an
    /// incarnation of a voter, and that in force is not known yet, the node itself says whether it is the same.
    ///
    /// `Ok` means begun: what comes of it is handed out once, in [`crate::Effects::change`]. Voters that join first catch
    /// up as learners, within [`crate::Options::catch_up_max`]. A leader that is not among the voters of `target` steps
    /// down when the change is committed.
    ///
    /// # Errors
    /// Nothing is begun, now or later.
    pub fn change_membership(&mut self, target: &Configuration) -> Result<(), ChangeError> {
        let RoleState::Leader(leader) = &self.role else {
            return Err(ChangeError::NotLeader { leader: self.leader });
        };
        if let Some(to) = leader.transferring() {
            return Err(ChangeError::Transferring { to });
        }
        let configuration = self.configuration();
        if leader.change.is_some() || configuration.is_joint() {
            let configuration = configuration.clone();
            return Err(ChangeError::InProgress { configuration });
        }
        check_target(target)?;
        let known = self.named_configuration().unwrap_or_else(|| self.configuration().clone());
        let target = known.complete(target);
        // What was taken over from the configuration in force must be right as well.
        check_target(&target)?;
        let own = target.member(self.options.id).and_then(|member| member.incarnation);
        if own.is_some_and(|own| own != self.incarnation) {
            return Err(ChangeError::Invalid("this node is of another incarnation, and it leads"));
        }
        if !known.stays_a_quorum_in(&target) {
            let problem = "most voters would be new incarnations, or have not been heard yet: nobody \
                           could decide that";
            return Err(ChangeError::Invalid(problem));
        }
        if let Some(leader) = self.leader_state() {
            leader.change = Some(Change { target, phase: Phase::Waiting });
        }
        self.has_news = true;
        Ok(())
    }

    /// Takes the next step of a change, whoever has begun it, once the last one is committed.
    pub(crate) fn advance_membership(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.change.is_none() && self.configurations.is_settled() {
            return;
        }
        if let Some(next) = self.without_stranded_learners() {
            self.append_configuration(next);
            return;
        }
        if let Some(id) = self.catches_up_too_late() {
            self.give_up_catching_up(id);
            return;
        }
        if !self.own_term_is_committed() || !self.configuration_is_committed() {
            return;
        }
        if self.configuration().is_joint() {
            let next = self.configuration().after_joint();
            self.append_configuration(next);
            return;
        }
        let named = self.named_configuration();
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some(named) = named {
            if let Some(change) = &mut leader.change {
                change.target = named.complete(&change.target);
            }
            self.append_configuration(named);
            return;
        }
        let Some(mut change) = leader.change.take() else { return };
        match self.next_phase(&mut change) {
            Step::Stay => {}
            Step::Append(configuration) => self.append_configuration(configuration),
            Step::End(outcome) => {
                self.change_done = Some(outcome);
                return;
            }
            Step::NotHeard(id) => {
                let configuration = self.configuration().clone();
                self.change_done = Some(Err(ChangeFailed::NotHeard { id, configuration }));
                return;
            }
            Step::NotCaughtUp(id) => {
                self.give_up_catching_up(id);
                return;
            }
        }
        if let Some(leader) = self.leader_state() {
            leader.change = Some(change);
        }
    }

    /// A learner that has had its time to catch up, though it is not even committed that it is one: what would commit it may
    /// be the voter that it was to replace, which is not heard meanwhile.
    fn catches_up_too_late(&self) -> Option<NodeId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        match &leader.change.as_ref()?.phase {
            Phase::CatchingUp(rounds, deadline)
                if self.now() >= *deadline && !self.configuration_is_committed() =>
            {
                let is_open = |round: &&CatchUp| !round.is_done;
                let late = rounds.iter().find(is_open).or(rounds.first())?;
                Some(late.id)
            }
            Phase::Waiting | Phase::Hearing(_) | Phase::CatchingUp(..) | Phase::Appended => None,
        }
    }

    /// The change ends here: `id` stays what it is, or no member at all if it was to replace a voter.
    fn give_up_catching_up(&mut self, id: NodeId) {
        if let Some(leader) = self.leader_state() {
            leader.change = None;
        }
        if let Some(next) = self.without_stranded_learners() {
            self.append_configuration(next);
        }
        let configuration = self.configuration().clone();
        self.change_done = Some(Err(ChangeFailed::NotCaughtUp { id, configuration }));
    }

    /// The configuration in force without the learners that are voters as well, under another incarnation: they were on
    /// their way back, and this leader is not about to take them further. As long as they are members, what the voter says
    /// is not heard ([`Configuration::member`]). The voters stay the same, so this waits for nothing: perhaps nothing can
    /// be committed without that voter.
    fn without_stranded_learners(&self) -> Option<Configuration> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let configuration = self.configuration();
        if configuration.learners().is_empty() || configuration.is_joint() {
            return None;
        }
        if leader.change.as_ref().is_some_and(Change::is_catching_up) {
            return None;
        }
        configuration.without_learning_voters()
    }

    /// What follows upon a committed configuration that is not joint.
    fn next_phase(&self, change: &mut Change) -> Step {
        let configuration = self.configuration();
        let now = self.now();
        match &mut change.phase {
            Phase::Appended => Step::End(Ok(configuration.clone())),
            Phase::Waiting => {
                change.phase = Phase::Hearing(now.saturating_add(self.options.catch_up_max));
                self.next_phase(change)
            }
            Phase::Hearing(deadline) => {
                let deadline = *deadline;
                if let Some(id) = self.not_heard(&change.target) {
                    return if now < deadline { Step::Stay } else { Step::NotHeard(id) };
                }
                let joining = joining(configuration, &change.target);
                if joining.is_empty() {
                    return self.enter(change);
                }
                let staged = with_learners(configuration, &joining);
                let until = self.log.last().index;
                let rounds = joining.iter().map(|member| {
                    let id = member.id;
                    CatchUp { id, round: 1, until, began_at: now, is_done: false }
                });
                change.phase = Phase::CatchingUp(rounds.collect(), deadline);
                if staged == *configuration { Step::Stay } else { Step::Append(staged) }
            }
            Phase::CatchingUp(rounds, deadline) => {
                let is_late = now >= *deadline;
                let mut waits = false;
                for round in rounds {
                    let goes_on = round.is_done || self.catches_up(round);
                    let is_ready = round.is_done && self.holds_configuration(round.id);
                    if !goes_on || (is_late && !is_ready) {
                        return Step::NotCaughtUp(round.id);
                    }
                    waits |= !is_ready;
                }
                if waits { Step::Stay } else { self.enter(change) }
            }
        }
    }

    /// The step from which the voters of the target count.
    fn enter(&self, change: &mut Change) -> Step {
        let configuration = self.configuration();
        let target = &change.target;
        change.phase = Phase::Appended;
        if configuration == target {
            Step::End(Ok(configuration.clone()))
        } else if configuration.has_voters_of(target) {
            Step::Append(target.clone())
        } else {
            Step::Append(configuration.towards(target))
        }
    }

    /// Whether a learner may still become a voter. It is caught up when the last round took less than an election timeout:
    /// then it cannot hold up commitment for longer.
    fn catches_up(&self, round: &mut CatchUp) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let Some(peer) = leader.progress(round.id) else { return false };
        if peer.matched < round.until {
            return true;
        }
        let now = self.now();
        if now.saturating_sub(round.began_at) < self.options.election_timeout {
            round.is_done = true;
            return true;
        }
        (round.round, round.began_at) = (round.round + 1, now);
        round.until = self.log.last().index;
        round.round <= ROUNDS_MAX
    }

    /// A voter without a name of which `target` names an incarnation, and it has not been heard whether that is the one that
    /// is meant. To take it for that would let a wiped disk vote, and to take it for another one would make a disk that is
    /// intact count for nothing.
    fn not_heard(&self, target: &Configuration) -> Option<NodeId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let is_clear = |voter: &Member| {
            let named = target.member(voter.id).and_then(|member| member.incarnation);
            let unmeant = leader.progress(voter.id).and_then(|peer| peer.unmeant);
            voter.incarnation.is_some() || named.is_none() || named == unmeant
        };
        self.configuration().voters().iter().find(|voter| !is_clear(voter)).map(|voter| voter.id)
    }

    /// Whether a voter that joins holds the entry that makes it a member and names it, durably. Else it would grant no vote,
    /// or pass for one whose disk was wiped.
    fn holds_configuration(&self, id: NodeId) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        // Where that entry is compacted, it is not after the start of the log.
        let index = self.configurations.latest_index().max(self.log.start().index);
        leader.progress(id).is_some_and(|peer| peer.matched >= index)
    }

    /// The configuration in force with the incarnations that this leader has heard, where it names none: from then on no
    /// other counts. `None`: there is nothing to name. That needs no joint configuration: every quorum of it is a quorum of
    /// the one in force.
    fn named_configuration(&self) -> Option<Configuration> {
        let configuration = self.configuration();
        if configuration.names_all_incarnations() {
            return None;
        }
        let mut members = configuration.voters().iter().chain(configuration.learners());
        let is_news = members.any(|member| {
            member.incarnation.is_none() && self.heard_incarnation(member.id).is_some()
        });
        is_news.then(|| configuration.with_incarnations(|id| self.heard_incarnation(id)))
    }

    /// Whether `speaker` may be the one that a configuration means that names no incarnation of it. Of a voter only it
    /// knows that itself; whoever answers for a learner is as good as any other.
    pub(crate) fn may_be_meant(&self, speaker: Speaker) -> bool {
        speaker.is_meant || !self.configuration().has_unnamed_voter(speaker.id)
    }

    /// The incarnation of `id` that this leader takes for the one that counts.
    fn heard_incarnation(&self, id: NodeId) -> Option<Incarnation> {
        let RoleState::Leader(leader) = &self.role else { return None };
        match id == self.options.id {
            true => Some(self.incarnation),
            false => leader.progress(id).and_then(|peer| peer.incarnation),
        }
    }

    /// A configuration counts from the moment at which it is appended (§6).
    fn append_configuration(&mut self, configuration: Configuration) {
        let payload = Payload::Configuration(configuration.clone());
        let cost = Entry::OVERHEAD_BYTES + payload.len();
        let index = self.log.push(self.term, payload).index;
        self.configurations.push(index, configuration);
        let until = self
            .now()
            .saturating_add(self.options.election_timeout.saturating_mul(LEAVING_TIMEOUTS));
        let (own, now) = (self.options.id, self.now());
        let members = self.configurations.latest().members();
        if let RoleState::Leader(leader) = &mut self.role {
            leader.uncommitted.push(cost);
            leader.follow_configuration(own, &members, index, now, until);
        }
    }
}

/// What to do next about a change.
enum Step {
    Stay,
    Append(Configuration),
    /// This voter has not said whether it is the one that the target names.
    NotHeard(NodeId),
    /// This node has not caught up.
    NotCaughtUp(NodeId),
    End(crate::ChangeOutcome),
}

impl Leader {
    /// Its peers are the other `members` now, as of the entry at `index`; those who leave are kept for a while.
    fn follow_configuration(
        &mut self,
        own: NodeId,
        members: &[&Member],
        index: LogIndex,
        now: Duration,
        until: Duration,
    ) {
        for peer in &mut self.peers {
            if !members.iter().any(|member| member.id == peer.id) {
                peer.leaving_until.get_or_insert(until);
            }
        }
        for member in members.iter().filter(|member| member.id != own) {
            let known = self.progress_mut(member.id);
            match known {
                Some(peer) if peer.is_still(member) => {
                    peer.leaving_until = None;
                    peer.incarnation = peer.incarnation.or(member.incarnation);
                }
                // Its disk was wiped, or may have been: nothing is known of it any more.
                Some(peer) => *peer = Progress::new(member, index, now),
                None => {
                    let place = self.peers.partition_point(|peer| peer.id < member.id);
                    self.peers.insert(place, Progress::new(member, index, now));
                }
            }
        }
    }
}

fn check_target(target: &Configuration) -> Result<(), ChangeError> {
    let members = target.members();
    let nobody = |m: &&Member| m.incarnation == Some(Incarnation::NOBODY);
    let learns_and_votes = |m: &Member| target.voters().iter().any(|voter| voter.id == m.id);
    let problem = if target.is_joint() {
        "a joint configuration is entered and left by itself: name the one that is to come of it"
    } else if target.voters().is_empty() {
        "there would be no voters"
    } else if target.learners().iter().any(learns_and_votes) {
        "a node cannot be a voter and a learner"
    } else if target.voters().iter().filter(nobody).count() * 2 >= target.voters().len() {
        "of too many voters no incarnation would count"
    } else if members.len() > Configuration::MEMBERS_MAX {
        "there would be more than 128 members"
    } else if members.iter().any(|member| member.address.len() > Member::ADDRESS_BYTES_MAX) {
        "an address is longer than 512 bytes"
    } else {
        return Ok(());
    };
    Err(ChangeError::Invalid(problem))
}

/// The voters of `target` that have no vote yet under the incarnation named there.
fn joining<'t>(configuration: &Configuration, target: &'t Configuration) -> Vec<&'t Member> {
    let votes = |member: &&Member| {
        configuration
            .voters()
            .iter()
            .any(|voter| (voter.id, voter.incarnation) == (member.id, member.incarnation))
    };
    target.voters().iter().filter(|member| !votes(member)).collect()
}

/// The same voters, and all of `joining` as learners. A voter among them whose incarnation is not known counts for nothing
/// from now on: else a learner might pass for the voter that it replaces.
fn with_learners(configuration: &Configuration, joining: &[&Member]) -> Configuration {
    let joins = |other: &Member| joining.iter().any(|member| member.id == other.id);
    let voters = configuration.voters().iter().map(|voter| {
        let is_replaced = voter.incarnation.is_none() && joins(voter);
        let incarnation = if is_replaced { Some(Incarnation::NOBODY) } else { voter.incarnation };
        Member { incarnation, ..voter.clone() }
    });
    let others = configuration.learners().iter().filter(|learner| !joins(learner));
    let learners = joining.iter().copied().chain(others).cloned();
    Configuration::of_members(voters, [], learners)
}
