//! No acknowledged command is lost, none is applied more often than it was sent, and none that was refused is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::LogIndex;

use super::{Checker, View};
use crate::event::{CallId, CallOutcome, Digest, Event, RequestKind};

/// Counts transmissions, answers and applications of each command. It sees the more, the fewer commands are alike.
#[derive(Debug, Default)]
pub struct ExactlyOnce {
    commands: BTreeMap<Digest, Count>,
    calls: BTreeMap<CallId, Digest>,
    applied: LogIndex,
}

#[derive(Copy, Clone, Debug, Default)]
struct Count {
    sent: u64,
    refused: u64,
    answered: u64,
    applied: u64,
}

impl Count {
    fn check(&self, command: Digest) -> Result<(), String> {
        let Count { sent, refused, answered, applied } = *self;
        if applied + refused > sent {
            return Err(format!(
                "command {command} was sent {sent} times and applied {applied} times, although \
                 {refused} transmissions were said to be without effect"
            ));
        }
        if answered > applied {
            return Err(format!(
                "command {command} was answered {answered} times and applied {applied} times"
            ));
        }
        Ok(())
    }
}

impl Checker for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Asked { call, kind: RequestKind::Propose(command), .. } => {
                self.calls.insert(*call, *command);
                self.commands.entry(*command).or_default().sent += 1;
                Ok(())
            }
            Event::CallEnded { call, outcome } => {
                let Some(command) = self.calls.remove(call) else { return Ok(()) };
                let count = self.commands.entry(command).or_default();
                match outcome {
                    CallOutcome::Answered => count.answered += 1,
                    CallOutcome::Refused => count.refused += 1,
                    CallOutcome::Maybe => {}
                }
                count.check(command)
            }
            // The first node to apply an entry counts; the others apply the same.
            Event::Applied { id, command, .. } if id.index > self.applied => {
                self.applied = id.index;
                let count = self.commands.entry(*command).or_default();
                count.applied += 1;
                count.check(*command)
            }
            _ => Ok(()),
        }
    }
}
