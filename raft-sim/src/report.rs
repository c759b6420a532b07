//! What really happened in a run, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::Role;
use serde::Serialize;

use crate::checkers::linearizability::Undecided;
use crate::disk::DiskCounters;
use crate::event::{CallOutcome, Crash, Event};
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
    /// Faults, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What went through the network, for all nodes together.
    pub network: NetworkCounters,
    /// What happened on all disks together.
    pub disks: DiskCounters,
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
            Event::Resumed { .. }
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
        self.network += other.network;
        self.disks.add(&other.disks);
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
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
