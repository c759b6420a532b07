//! Changes of membership, by way of a joint configuration (§6, diss. §4.3), and the incarnations of members.
//!
//! From one configuration to any other in up to three entries, each of which waits until the one before is committed: the
//! voters that join become learners and catch up; the joint configuration; the new one. Whoever leads enters and leaves
//! a joint configuration by itself: a leader that dies half-way is finished by the next.

use alloc::vec::Vec;
use core::time::Duration;

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
    /// It has just begun, and all the time is left.
    #[cfg(feature = "model")]
    pub(crate) fn canonicalize(&mut self, now: Duration) {
        if let Phase::CatchingUp(rounds, deadline) = &mut self.phase {
            *deadline = Duration::MAX;
            for round in rounds {
                round.began_at = now;
            }
        }
    }
}

impl Node {
    /// Changes the members from those in force to `target`, which is not joint: any voters and learners. Where `target`
    /// does not name the incarnation or the address of a member in force, that stays as it is.
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
        let known = self.named_configuration(Some(target));
        let target = known.complete(target);
        // What was taken over from the configuration in force must be right as well.
        check_target(&target)?;
        let own = target.member(self.options.id).and_then(|member| member.incarnation);
        if own.is_some_and(|own| own != self.incarnation) {
            return Err(ChangeError::Invalid("this node is of another incarnation, and it leads"));
        }
        if !known.stays_a_quorum_in(&target) {
            let problem = "most voters would be new incarnations, and nobody could decide that";
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
        if !self.own_term_is_committed() || !self.configuration_is_committed() {
            return;
        }
        if self.configuration().is_joint() {
            let next = self.configuration().after_joint();
            self.append_configuration(next);
            return;
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.change.is_none() {
            if !self.configuration().names_all_incarnations() {
                self.name_incarnations();
            }
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
        }
        if let Some(leader) = self.leader_state() {
            leader.change = Some(change);
        }
    }

    /// What follows upon a committed configuration that is not joint.
    fn next_phase(&self, change: &mut Change) -> Step {
        let configuration = self.configuration();
        let now = self.now();
        match &mut change.phase {
            Phase::Appended => Step::End(Ok(configuration.clone())),
            Phase::Waiting => {
                let named = self.named_configuration(Some(&change.target));
                if named != *configuration {
                    // Else a member that the target names would pass for a new incarnation of one without a name.
                    return Step::Append(named);
                }
                change.target = configuration.complete(&change.target);
                let joining = joining(configuration, &change.target);
                if joining.is_empty() {
                    return self.enter(change);
                }
                let staged = with_learners(configuration, &joining);
                let is_staged = staged == *configuration;
                let deadline = now.saturating_add(self.options.catch_up_max);
                let last = self.log.last().index;
                // Who does not know that it is a member grants no vote.
                let until = if is_staged { last } else { last.next() };
                let rounds = joining.iter().map(|member| {
                    let id = member.id;
                    CatchUp { id, round: 1, until, began_at: now, is_done: false }
                });
                let rounds = rounds.collect();
                change.phase = Phase::CatchingUp(rounds, deadline);
                if is_staged { Step::Stay } else { Step::Append(staged) }
            }
            Phase::CatchingUp(rounds, deadline) => {
                let named = self.named_configuration(None);
                if named != *configuration {
                    // A new voter has a name, and knows it: else it might pass for one whose disk was wiped.
                    let until = self.log.last().index.next();
                    for round in rounds {
                        (round.until, round.is_done) = (until, false);
                    }
                    change.target = named.complete(&change.target);
                    return Step::Append(named);
                }
                for round in rounds.iter_mut().filter(|round| !round.is_done) {
                    if !self.catches_up(round) || now >= *deadline {
                        let (id, configuration) = (round.id, configuration.clone());
                        return Step::End(Err(ChangeFailed::NotCaughtUp { id, configuration }));
                    }
                }
                if !rounds.iter().all(|round| round.is_done) {
                    return Step::Stay;
                }
                self.enter(change)
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

    /// Names the incarnations of members that none was named for, as they are heard: from then on no other counts.
    fn name_incarnations(&mut self) {
        let configuration = self.configuration();
        let mut members = configuration.voters().iter().chain(configuration.learners());
        if members.any(|m| m.incarnation.is_none() && self.heard_incarnation(m.id).is_some()) {
            let named = self.named_configuration(None);
            self.append_configuration(named);
        }
    }

    /// The configuration in force, with the incarnations that this leader has heard, or `target` names, where it names
    /// none. That needs no joint configuration: every quorum of it is a quorum of the one in force.
    fn named_configuration(&self, target: Option<&Configuration>) -> Configuration {
        let configuration = self.configuration();
        if configuration.names_all_incarnations() {
            return configuration.clone();
        }
        let named = |id| target.and_then(|t| t.member(id)).and_then(|member| member.incarnation);
        configuration.with_incarnations(|id| self.heard_incarnation(id).or_else(|| named(id)))
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
    let learns_and_votes = |m: &Member| target.voters().iter().any(|voter| voter.id == m.id);
    let problem = if target.is_joint() {
        "a joint configuration is entered and left by itself: name the one that is to come of it"
    } else if target.voters().is_empty() {
        "there would be no voters"
    } else if target.learners().iter().any(learns_and_votes) {
        "a node cannot be a voter and a learner; one whose return under a new incarnation was not \
         completed has to be added again, or removed, first"
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

/// The same voters, and all of `joining` as learners.
fn with_learners(configuration: &Configuration, joining: &[&Member]) -> Configuration {
    let others = configuration
        .learners()
        .iter()
        .filter(|learner| joining.iter().all(|member| member.id != learner.id));
    let learners = joining.iter().copied().chain(others).cloned().collect::<Vec<_>>();
    Configuration::of_members(configuration.voters().iter().cloned(), [], learners)
}
