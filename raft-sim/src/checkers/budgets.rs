//! Bounds: how long packets and logs may be, on disk and in memory, and how many heartbeats may be sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use raft_rsm::raft_core::{Message, NodeId, Term};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::Event;

const SECOND: Duration = Duration::from_secs(1);

/// What a run may use.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// The longest packet, in bytes.
    pub packet_bytes_max: usize,
    /// The longest log of a node on its disk, in bytes.
    pub log_bytes_max: u64,
    /// The most that a node holds of its log in memory, in bytes.
    pub tail_bytes_max: u64,
    /// Heartbeats of a leader to one peer within a second, not counting those that tell a new commit index.
    pub heartbeats_a_second_max: usize,
}

impl Budgets {
    /// No bounds.
    #[must_use]
    pub fn none() -> Budgets {
        Budgets {
            packet_bytes_max: usize::MAX,
            log_bytes_max: u64::MAX,
            tail_bytes_max: u64::MAX,
            heartbeats_a_second_max: usize::MAX,
        }
    }
}

/// Watches over the bounds.
#[derive(Debug)]
pub struct BudgetsChecker {
    budgets: Budgets,
    /// The heartbeats of the last second, by sender, receiver and term.
    heartbeats: BTreeMap<(NodeId, NodeId), (Term, VecDeque<Duration>)>,
}

impl BudgetsChecker {
    /// Watches over these bounds.
    #[must_use]
    pub fn new(budgets: Budgets) -> BudgetsChecker {
        BudgetsChecker { budgets, heartbeats: BTreeMap::new() }
    }

    fn log(&self, node: NodeId, log_bytes: u64, tail_bytes: u64) -> Result<(), String> {
        let Budgets { log_bytes_max, tail_bytes_max, .. } = self.budgets;
        if log_bytes > log_bytes_max {
            return Err(format!(
                "the log of node {node} has {log_bytes} bytes, the bound is {log_bytes_max}"
            ));
        }
        if tail_bytes > tail_bytes_max {
            return Err(format!(
                "node {node} holds {tail_bytes} bytes of its log in memory, the bound is \
                 {tail_bytes_max}"
            ));
        }
        Ok(())
    }

    fn heartbeat(
        &mut self,
        now: Duration,
        from: NodeId,
        to: NodeId,
        term: Term,
    ) -> Result<(), String> {
        let (of, times) = self.heartbeats.entry((from, to)).or_default();
        if *of != term {
            (*of, *times) = (term, VecDeque::new());
        }
        while times.front().is_some_and(|time| now.saturating_sub(*time) >= SECOND) {
            times.pop_front();
        }
        times.push_back(now);
        if times.len() > self.budgets.heartbeats_a_second_max {
            return Err(format!(
                "node {from} sent node {to} {} heartbeats within a second",
                times.len()
            ));
        }
        Ok(())
    }
}

impl Checker for BudgetsChecker {
    fn name(&self) -> &'static str {
        "budgets"
    }

    fn observe(&mut self, now: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Sent { packet, bytes, .. } => {
                if *bytes > self.budgets.packet_bytes_max {
                    return Err(format!(
                        "node {} sent a packet of {bytes} bytes, the bound is {}",
                        packet.from(),
                        self.budgets.packet_bytes_max
                    ));
                }
                let Packet::Raft(envelope) = &**packet else { return Ok(()) };
                // One without a round tells a commit index: there are as many as there are commits.
                if let Message::Heartbeat { round: Some(_), .. } = envelope.message {
                    return self.heartbeat(now, envelope.from, envelope.to, envelope.term);
                }
                Ok(())
            }
            Event::Progress { node, log_bytes, tail_bytes, .. } => {
                self.log(*node, *log_bytes, *tail_bytes)
            }
            _ => Ok(()),
        }
    }
}
