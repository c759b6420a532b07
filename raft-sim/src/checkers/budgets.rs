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

#[cfg(test)]
mod tests {
    use raft_rsm::raft_core::LogIndex;

    use super::super::told::{assert_caught, commits, sent, sent_bytes, tell, tell_at};
    use super::*;

    const BUDGETS: Budgets = Budgets {
        packet_bytes_max: 1000,
        log_bytes_max: 5000,
        tail_bytes_max: 600,
        heartbeats_a_second_max: 10,
    };

    fn heartbeat(round: Option<u64>) -> Message {
        Message::Heartbeat { commit: LogIndex(0), round }
    }

    #[test]
    fn a_packet_that_is_too_long_is_caught() {
        let check = |bytes| {
            let packet = sent_bytes(1, 2, 1, heartbeat(None), bytes);
            tell(BudgetsChecker::new(BUDGETS), &[packet])
        };
        assert_eq!(check(1000), Ok(()));
        assert_caught(check(1001), "a packet of 1001 bytes");
    }

    #[test]
    fn a_log_that_is_too_long_is_caught() {
        let check = |log, tail| {
            let mut progress = commits(1, 0, raft_rsm::raft_core::EntryId::ZERO);
            if let Event::Progress { log_bytes, tail_bytes, .. } = &mut progress {
                (*log_bytes, *tail_bytes) = (log, tail);
            }
            tell(BudgetsChecker::new(BUDGETS), &[progress])
        };
        assert_eq!(check(5000, 600), Ok(()));
        assert_caught(check(5001, 0), "the log of node 1 has 5001 bytes");
        assert_caught(check(0, 601), "node 1 holds 601 bytes of its log in memory");
    }

    #[test]
    fn too_many_heartbeats_within_a_second_are_caught() {
        let check = |each: u32, count: u32, event: fn(u64) -> Event| {
            let times = (0..count).map(|number| Duration::from_millis(1) * each * number);
            let story = times.zip((0..).map(event));
            tell_at(&mut BudgetsChecker::new(BUDGETS), story)
        };
        let one_peer = |round| sent(1, 2, 1, heartbeat(Some(round)));
        assert_eq!(check(100, 50, one_peer), Ok(()));
        assert_eq!(check(10, 10, one_peer), Ok(()));
        assert_caught(check(90, 50, one_peer), "11 heartbeats within a second");
        // Several peers, several terms, and commit indexes do not add up.
        assert_eq!(
            check(10, 50, |round| sent(1, 2 + round % 5, 1, heartbeat(Some(round)))),
            Ok(())
        );
        assert_eq!(check(10, 50, |round| sent(1, 2, round / 10, heartbeat(Some(round)))), Ok(()));
        assert_eq!(check(10, 50, |_| sent(1, 2, 1, heartbeat(None))), Ok(()));
    }
}
