//! What really happened in a run, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::Consistency;
use raft_rsm::raft_core::{NodeId, Role, Term};
use serde::Serialize;

use crate::checkers::View;
use crate::checkers::linearizability::Undecided;
use crate::disk::DiskCounters;
use crate::event::{
    CallId, CallOutcome, Crash, Event, HandOver, Operation, OperationOutcome, RequestKind,
};
use crate::network::NetworkCounters;

/// What happened in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Times that a node became leader.
    pub elections_won: u64,
    /// Times that a node became candidate.
    pub candidacies: u64,
    /// Starts of nodes, the first ones included.
    pub starts: u64,
    /// Processes killed.
    pub kills: u64,
    /// Machines that lost power.
    pub power_losses: u64,
    /// Nodes that stopped by themselves, because their disk failed.
    pub stops: u64,
    /// Nodes that were shut down.
    pub shutdowns: u64,
    /// Pauses.
    pub pauses: u64,
    /// Writes to disks.
    pub writes: u64,
    /// Writes that failed.
    pub writes_failed: u64,
    /// Commands applied, counted on each node.
    pub applied: u64,
    /// Snapshots taken or received.
    pub snapshots_stored: u64,
    /// Snapshots that a leader sent and a follower put in place of its log.
    pub snapshots_installed: u64,
    /// Restores of a machine, after a start or from a leader's snapshot.
    pub restores: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Transmissions that were answered.
    pub calls_answered: u64,
    /// Transmissions that were definitely without effect.
    pub calls_refused: u64,
    /// Transmissions of which nobody knows.
    pub calls_maybe: u64,
    /// Queries that were answered, by what was asked for and by whom: the leader or another node.
    pub reads: BTreeMap<String, u64>,
    /// What came of changes of membership, and what happened on the way.
    pub membership: MembershipCounts,
    /// How the lead was handed over.
    pub transfers: TransferCounts,
    /// Faults, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What the workload itself has counted.
    pub workload: BTreeMap<String, u64>,
    /// What went through the network, for all nodes together.
    pub network: NetworkCounters,
    /// What happened on all disks together.
    pub disks: DiskCounters,
}

/// What came of changes of membership.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MembershipCounts {
    /// Changes that were asked for and completed.
    pub done: u64,
    /// Those that were not begun.
    pub refused: u64,
    /// Those that were begun and not completed, as far as whoever asked knows.
    pub failed: u64,
    /// Joint configurations that a leader entered.
    pub joint_entered: u64,
    /// Those that a leader left.
    pub joint_left: u64,
    /// Those of them that another leader had entered, or the same one in another term.
    pub joint_left_by_another: u64,
    /// Nodes that lost their disks.
    pub wiped: u64,
    /// Those of them that became again what they were.
    pub readmitted: u64,
}

/// How the lead was handed over.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransferCounts {
    /// Transfers that were asked for and came about.
    pub done: u64,
    /// Those that were not begun.
    pub refused: u64,
    /// Those that did not come about in time.
    pub failed: u64,
    /// Times that a leader began to hand the lead over since its disk was sick.
    pub by_sick_disks: u64,
}

/// What has to be known of a run to count what happens in it.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// The queries that are not answered yet.
    queries: BTreeMap<CallId, (NodeId, Consistency)>,
    /// In which term each leader has entered its joint configuration.
    entered_in: BTreeMap<NodeId, Term>,
}

impl Counting {
    /// Counts what takes more than the event itself. `before` is what is known of everything before it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "it looks at a few of all events")]
    pub(crate) fn count(&mut self, counts: &mut Counts, before: &View, event: &Event) {
        match event {
            Event::Asked { call, to, kind: RequestKind::Query(consistency), .. } => {
                self.queries.insert(*call, (*to, *consistency));
            }
            Event::CallEnded { call, outcome } => {
                let Some((to, consistency)) = self.queries.remove(call) else { return };
                if *outcome == CallOutcome::Answered {
                    let leads = before.node(to).is_some_and(|node| node.role == Role::Leader);
                    let by = if leads { "a leader" } else { "another node" };
                    let kind = format!("{consistency:?} by {by}").to_lowercase();
                    *counts.reads.entry(kind).or_default() += 1;
                }
            }
            Event::Configured { node, configuration, leads: Some(term), .. } => {
                let was_joint =
                    before.node(*node).is_some_and(|node| node.configuration.is_joint());
                let membership = &mut counts.membership;
                match (was_joint, configuration.is_joint()) {
                    (false, true) => {
                        membership.joint_entered += 1;
                        self.entered_in.insert(*node, *term);
                    }
                    (true, false) => {
                        membership.joint_left += 1;
                        let entered = self.entered_in.remove(node);
                        membership.joint_left_by_another += u64::from(entered != Some(*term));
                    }
                    (true, true) | (false, false) => {}
                }
            }
            _ => {}
        }
    }
}

impl Counts {
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Started { .. } => self.starts += 1,
            Event::NotStarted { .. } => self.stops += 1,
            Event::Stopped { was_asked, .. } => {
                self.stops += u64::from(!was_asked);
                self.shutdowns += u64::from(*was_asked);
            }
            Event::Crashed { crash: Crash::Killed, .. } => self.kills += 1,
            Event::Crashed { crash: Crash::PowerLost, .. } => self.power_losses += 1,
            Event::Paused { .. } => self.pauses += 1,
            Event::Role { role: Role::Leader, changed: true, .. } => self.elections_won += 1,
            Event::Role { role: Role::Candidate, changed: true, .. } => self.candidacies += 1,
            Event::WriteBegan { reset, .. } => {
                self.writes += 1;
                self.snapshots_installed += u64::from(reset.is_some());
            }
            Event::WriteEnded { error: Some(_), .. } => self.writes_failed += 1,
            Event::Applied { .. } => self.applied += 1,
            Event::Restored { .. } => self.restores += 1,
            Event::SnapshotStored { .. } => self.snapshots_stored += 1,
            Event::CallEnded { outcome, .. } => match outcome {
                CallOutcome::Answered => self.calls_answered += 1,
                CallOutcome::Refused => self.calls_refused += 1,
                CallOutcome::Maybe => self.calls_maybe += 1,
            },
            Event::OperationBegan { .. } => self.operations += 1,
            Event::Fault { kind, .. } => *self.faults.entry((*kind).to_owned()).or_default() += 1,
            Event::Wiped { .. } => self.membership.wiped += 1,
            Event::Readmitted { .. } => self.membership.readmitted += 1,
            Event::HandingOver { why: HandOver::SickDisk, .. } => self.transfers.by_sick_disks += 1,
            Event::Operated { operation, outcome, .. } => {
                let (membership, transfers) = (&mut self.membership, &mut self.transfers);
                let count = match (operation, outcome) {
                    (Operation::Membership, OperationOutcome::Done) => &mut membership.done,
                    (Operation::Membership, OperationOutcome::Refused) => &mut membership.refused,
                    (Operation::Membership, OperationOutcome::Failed) => &mut membership.failed,
                    (Operation::Transfer, OperationOutcome::Done) => &mut transfers.done,
                    (Operation::Transfer, OperationOutcome::Refused) => &mut transfers.refused,
                    (Operation::Transfer, OperationOutcome::Failed) => &mut transfers.failed,
                };
                *count += 1;
            }
            Event::HandingOver { why: HandOver::Asked, .. }
            | Event::Configured { .. }
            | Event::Resumed { .. }
            | Event::Role { .. }
            | Event::Progress { .. }
            | Event::Sent { .. }
            | Event::Lost { .. }
            | Event::WriteEnded { .. }
            | Event::Delivered { .. }
            | Event::Asked { .. }
            | Event::RequestArrived { .. }
            | Event::OperationEnded { .. }
            | Event::FaultEnded { .. }
            | Event::Healed => {}
        }
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Counts) {
        self.elections_won += other.elections_won;
        self.candidacies += other.candidacies;
        self.starts += other.starts;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.stops += other.stops;
        self.shutdowns += other.shutdowns;
        self.pauses += other.pauses;
        self.writes += other.writes;
        self.writes_failed += other.writes_failed;
        self.applied += other.applied;
        self.snapshots_stored += other.snapshots_stored;
        self.snapshots_installed += other.snapshots_installed;
        self.restores += other.restores;
        self.operations += other.operations;
        self.calls_answered += other.calls_answered;
        self.calls_refused += other.calls_refused;
        self.calls_maybe += other.calls_maybe;
        for (kind, count) in &other.reads {
            *self.reads.entry(kind.clone()).or_default() += count;
        }
        for (kind, count) in &other.workload {
            *self.workload.entry(kind.clone()).or_default() += count;
        }
        self.membership.add(other.membership);
        self.transfers.add(other.transfers);
        self.network += other.network;
        self.disks.add(&other.disks);
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

impl MembershipCounts {
    fn add(&mut self, other: MembershipCounts) {
        self.done += other.done;
        self.refused += other.refused;
        self.failed += other.failed;
        self.joint_entered += other.joint_entered;
        self.joint_left += other.joint_left;
        self.joint_left_by_another += other.joint_left_by_another;
        self.wiped += other.wiped;
        self.readmitted += other.readmitted;
    }
}

impl TransferCounts {
    fn add(&mut self, other: TransferCounts) {
        self.done += other.done;
        self.refused += other.refused;
        self.failed += other.failed;
        self.by_sick_disks += other.by_sick_disks;
    }
}

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Nodes in the cluster.
    pub nodes: usize,
    /// The digest of all events: the same seed gives the same one.
    pub digest: String,
    /// How long the run was, in virtual time.
    pub virtual_time: Duration,
    /// Steps of the executor.
    pub steps: u64,
    /// Events.
    pub events: u64,
    /// What happened.
    pub counts: Counts,
    /// Whether the answers can be explained was not found out in reasonable time. That is no violation; but one may have
    /// been missed.
    pub undecided: Option<Undecided>,
}

impl Report {
    /// Of a run that broke off.
    pub(crate) fn empty(seed: u64, nodes: usize) -> Report {
        Report {
            seed,
            nodes,
            digest: String::new(),
            virtual_time: Duration::ZERO,
            steps: 0,
            events: 0,
            counts: Counts::default(),
            undecided: None,
        }
    }
}
