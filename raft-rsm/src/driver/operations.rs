//! What operators ask of a leader: changes of membership, and the handing over of the lead.

use std::time::Duration;

use raft_core::{ChangeFailed, Configuration, NodeId, Role};

use super::Driver;
use crate::StateMachine;
use crate::error::{MembershipError, StopReason, TransferError, Uncertain};
use crate::membership::MembershipChange;
use crate::server::Responder;
use crate::watch::lock;

pub(crate) type ChangeCaller = Responder<Configuration, MembershipError>;
pub(crate) type TransferCaller = Responder<NodeId, TransferError>;

/// Those who wait for the end of an operation: one of each kind is under way at most.
pub(super) struct Operations {
    change: Option<(ChangeCaller, Duration)>,
    transfer: Option<(TransferCaller, NodeId, Duration)>,
    /// The node was asked to shut down, and hands the lead over before, until then at most.
    leaving_until: Option<Duration>,
}

impl Operations {
    pub(super) fn new() -> Operations {
        Operations { change: None, transfer: None, leaving_until: None }
    }

    /// When there is something to do without an input.
    pub(super) fn next_deadline(&self) -> Duration {
        let change = self.change.as_ref().map(|(_, deadline)| *deadline);
        let transfer = self.transfer.as_ref().map(|(_, _, deadline)| *deadline);
        [change, transfer, self.leaving_until].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// Ends every wait, because the node stops.
    pub(super) fn stop(&mut self) {
        if let Some((caller, _)) = self.change.take() {
            caller.answer(Err(MembershipError::Maybe(Uncertain::Stopped)));
        }
        if let Some((caller, ..)) = self.transfer.take() {
            caller.answer(Err(TransferError::Stopped));
        }
    }
}

impl<M: StateMachine> Driver<M> {
    pub(super) fn change_membership(&mut self, change: MembershipChange, caller: ChangeCaller) {
        let target = change.target(self.node.configuration());
        match self.node.change_membership(&target) {
            Ok(()) => {
                // Voters that join have their own time to catch up.
                let deadline = self.deadline().saturating_add(self.options.core.catch_up_max);
                self.operations.change = Some((caller, deadline));
            }
            Err(error) => caller.answer(Err(error.into())),
        }
    }

    /// The core says what came of the change.
    pub(super) fn membership_changed(&mut self, outcome: Result<Configuration, ChangeFailed>) {
        match &outcome {
            Ok(configuration) => tracing::info!(
                node = %self.node.id(), members = ?configuration, "the membership has changed"
            ),
            Err(error) => {
                tracing::warn!(node = %self.node.id(), %error, "the membership has not changed");
            }
        }
        if let Some((caller, _)) = self.operations.change.take() {
            caller.answer(outcome.map_err(MembershipError::from));
        }
    }

    pub(super) fn transfer_leadership(&mut self, to: Option<NodeId>, caller: TransferCaller) {
        match self.node.transfer_leadership(to) {
            Ok(to) => {
                let deadline = self.deadline();
                let before = self.operations.transfer.replace((caller, to, deadline));
                // The core has given that one up in this very round.
                if let Some((caller, to, _)) = before {
                    caller.answer(Err(TransferError::TimedOut { to }));
                }
            }
            Err(error) => caller.answer(Err(error.into())),
        }
    }

    /// The node is to stop. One that leads hands the lead over first, for at most an election timeout, and answers those
    /// who wait as far as that time allows.
    pub(super) fn shut_down(&mut self) -> Result<(), StopReason> {
        if self.operations.leaving_until.is_some() {
            return Ok(());
        }
        if self.node.transferring().is_none() && self.node.transfer_leadership(None).is_err() {
            return Err(StopReason::Shutdown);
        }
        let until = self.now.saturating_add(self.options.core.election_timeout);
        self.operations.leaving_until = Some(until);
        Ok(())
    }

    /// Answers those whose operation has ended, or who have waited for long enough.
    pub(super) fn settle_operations(&mut self) -> Result<(), StopReason> {
        let now = self.now;
        if let Some((caller, _)) = self.operations.change.take_if(|(_, deadline)| *deadline <= now)
        {
            caller.answer(Err(MembershipError::Maybe(Uncertain::TimedOut)));
        }
        let (leads, leader) = (self.node.role() == Role::Leader, self.node.leader());
        let (id, transferring) = (self.node.id(), self.node.transferring());
        let ended = self.operations.transfer.take_if(|(_, _, deadline)| {
            (leads && transferring.is_none())
                || leader.is_some_and(|leader| leader != id)
                || *deadline <= now
        });
        if let Some((caller, to, _)) = ended {
            let elsewhere = leader.filter(|leader| *leader != id);
            caller.answer(elsewhere.ok_or(TransferError::TimedOut { to }));
        }
        let nobody_waits = self.waiters.len() + lock(&self.handed_out).len() == 0;
        let handed_over = !leads && nobody_waits;
        match self.operations.leaving_until {
            Some(until) if until <= now || handed_over || (leads && transferring.is_none()) => {
                Err(StopReason::Shutdown)
            }
            Some(_) | None => Ok(()),
        }
    }
}
