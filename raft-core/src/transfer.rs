//! Leadership transfer (diss. §3.10): on request, from a leader whose disk is sick, and from one that was removed.

use core::time::Duration;

use crate::leader::Leader;
use crate::node::RoleState;
use crate::{Effects, Message, Node, NodeId, TransferError};

/// A transfer that is under way. Proposals are refused meanwhile, so that its target can catch up.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "model", derive(Hash))]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// When proposals go on, whatever has come of it.
    pub(crate) deadline: Duration,
    /// The target was told to campaign.
    is_told: bool,
}

impl Leader {
    pub(crate) fn transferring(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.to)
    }
}

impl Node {
    /// Hands the lead over to `to`, or to the voter that is best prepared; returns to whom. It counts as begun:
    /// proposals are refused until another leader is heard of, or for an election timeout
    /// ([`Node::transferring`]); then this node leads on.
    ///
    /// # Errors
    /// Nothing is begun: this node leads on, or does not lead.
    pub fn transfer_leadership(&mut self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let (now, timeout) = (self.now(), self.options.election_timeout);
        let RoleState::Leader(leader) = &self.role else {
            return Err(TransferError::NotLeader { leader: self.leader });
        };
        if let Some(to) = leader.transferring() {
            return Err(TransferError::InProgress { to });
        }
        if to == Some(self.options.id) {
            return Err(TransferError::LeadsAlready);
        }
        let to = self.best_successor(leader, to).ok_or(TransferError::NoCandidate)?;
        let transfer = Transfer { to, deadline: now.saturating_add(timeout), is_told: false };
        if let Some(leader) = self.leader_state() {
            leader.transfer = Some(transfer);
        }
        self.has_news = true;
        Ok(to)
    }

    /// To whom the lead is being handed over.
    #[must_use]
    pub fn transferring(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Leader(leader) => leader.transferring(),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// The voter with the longest log among those heard within an election timeout; only `wanted`, where that is given.
    fn best_successor(&self, leader: &Leader, wanted: Option<NodeId>) -> Option<NodeId> {
        let heard_since = self.now().saturating_sub(self.options.election_timeout);
        let voters = self.configuration().voters();
        let candidates = leader.peers.iter().filter(|peer| {
            wanted.is_none_or(|wanted| wanted == peer.id)
                && peer.heard_at >= heard_since
                && voters.iter().any(|voter| peer.speaks_for(voter))
        });
        candidates.max_by_key(|peer| peer.matched).map(|peer| peer.id)
    }

    /// How long the write that is out has been waiting for the disk.
    pub(crate) fn write_waits(&self) -> Duration {
        self.disk.busy_since().map_or(Duration::ZERO, |since| self.now().saturating_sub(since))
    }

    /// A leader whose write takes longer than an election timeout, while a peer's disk does better, had better not lead.
    pub(crate) fn hand_over_if_the_disk_is_sick(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() || self.write_waits() < self.options.election_timeout {
            return;
        }
        let best = self.best_successor(leader, None).and_then(|id| leader.progress(id));
        if best.is_some_and(|peer| peer.matched > self.disk.durable()) {
            // It has just been found fit, so this succeeds.
            let _ = self.transfer_leadership(best.map(|peer| peer.id));
        }
    }

    /// Tells the target to campaign once it has everything: the entry that made it a voter, too.
    pub(crate) fn drain_transfer(&mut self, effects: &mut Effects) {
        let last = self.log.last().index;
        let Some(leader) = self.leader_state() else { return };
        let Some(transfer) = leader.transfer.as_mut().filter(|transfer| !transfer.is_told) else {
            return;
        };
        let to = transfer.to;
        if leader.peers.iter().any(|peer| peer.id == to && peer.matched == last) {
            transfer.is_told = true;
            self.tell_to_campaign(to, effects);
        }
    }

    /// Who was removed, or is a learner, leads until that is committed with an entry of its own (§6); then the best of the
    /// voters follows at once.
    pub(crate) fn retire_if_removed(&mut self, effects: &mut Effects) {
        let RoleState::Leader(leader) = &self.role else { return };
        let is_done = self.configuration_is_committed() && self.own_term_is_committed();
        if !is_done || self.has_vote_in(self.configuration()) {
            return;
        }
        if let Some(successor) = self.best_successor(leader, None) {
            self.tell_to_campaign(successor, effects);
        }
        self.stop_leading();
    }

    /// From now on another node may be elected although this one is heard, so there is no lease for the rest of the term.
    fn tell_to_campaign(&mut self, to: NodeId, effects: &mut Effects) {
        if let Some(leader) = self.leader_state() {
            leader.lease.is_over = true;
        }
        effects.messages.push(self.envelope(to, Message::TimeoutNow));
    }

    /// The leader tells this node to campaign at once.
    pub(crate) fn receive_timeout_now(&mut self, from: NodeId) {
        if self.hear_leader(from) && self.is_electable() {
            self.campaign(true);
        }
    }
}
