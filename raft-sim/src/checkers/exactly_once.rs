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
    calls: BTreeMap<CallId, Sent>,
    /// The commands of sessions and with names that were sent, each with whether it was answered.
    known: BTreeMap<Digest, bool>,
    applied: LogIndex,
}

/// One transmission.
#[derive(Copy, Clone, Debug)]
enum Sent {
    Plain(Digest),
    /// By what it is known, and the command.
    Known(Digest, Digest),
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
                self.calls.insert(*call, Sent::Plain(*command));
                self.commands.entry(*command).or_default().sent += 1;
                Ok(())
            }
            // However often it is sent, it counts once.
            Event::Asked { call, kind: RequestKind::ProposeKnown { known, command }, .. } => {
                self.calls.insert(*call, Sent::Known(*known, *command));
                if !self.known.contains_key(known) {
                    self.known.insert(*known, false);
                    self.commands.entry(*command).or_default().sent += 1;
                }
                Ok(())
            }
            Event::CallEnded { call, outcome } => {
                let command = match self.calls.remove(call) {
                    None => return Ok(()),
                    Some(Sent::Plain(command)) => command,
                    Some(Sent::Known(known, command)) => {
                        let was_answered = self.known.entry(known).or_default();
                        // A refusal says nothing of the other transmissions.
                        if *outcome != CallOutcome::Answered || *was_answered {
                            return Ok(());
                        }
                        *was_answered = true;
                        command
                    }
                };
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

#[cfg(test)]
mod tests {
    use super::super::told::{assert_caught, entry, node, tell};
    use super::*;

    const COMMAND: Digest = Digest(7);

    fn check(story: &[Event]) -> Result<(), String> {
        tell(ExactlyOnce::default(), story)
    }

    fn asked(call: u64) -> Event {
        let kind = RequestKind::Propose(COMMAND);
        Event::Asked { call: CallId(call), client: 1, to: node(1), kind, bytes: 10 }
    }

    fn ended(call: u64, outcome: CallOutcome) -> Event {
        Event::CallEnded { call: CallId(call), outcome }
    }

    fn applied(id: u64, index: u64) -> Event {
        let (id, response) = ((node(id), entry(1, index)), Digest(0));
        Event::Applied { node: id.0, id: id.1, command: COMMAND, response }
    }

    #[test]
    fn a_command_that_is_applied_on_each_node_and_answered_once_is_fine() {
        let answered = ended(1, CallOutcome::Answered);
        assert_eq!(check(&[asked(1), applied(1, 1), answered, applied(2, 1)]), Ok(()));
    }

    #[test]
    fn a_command_that_is_applied_more_often_than_it_was_sent_is_caught() {
        let twice = [applied(1, 1), applied(1, 2)];
        assert_caught(check(&[&[asked(1)], &twice[..]].concat()), "sent 1 times and applied 2");
        // A "maybe" may be sent again.
        let again = [asked(1), ended(1, CallOutcome::Maybe), asked(2)];
        assert_eq!(check(&[&again, &twice[..]].concat()), Ok(()));
    }

    #[test]
    fn a_command_of_a_session_counts_once_however_often_it_is_sent_and_answered() {
        let sent = |call, known| {
            let kind = RequestKind::ProposeKnown { known: Digest(known), command: COMMAND };
            Event::Asked { call: CallId(call), client: 1, to: node(1), kind, bytes: 10 }
        };
        let answered = |call| ended(call, CallOutcome::Answered);
        let again = [sent(1, 5), ended(1, CallOutcome::Maybe), sent(2, 5), sent(3, 5)];
        let once = [&again[..], &[applied(1, 1), answered(2), answered(3)]].concat();
        assert_eq!(check(&once), Ok(()));
        let twice = [&once[..], &[applied(1, 2)]].concat();
        assert_caught(check(&twice), "sent 1 times and applied 2");
        let other = [&once[..], &[sent(4, 6), applied(1, 2), answered(4)]].concat();
        assert_eq!(check(&other), Ok(()));
        assert_caught(check(&[&again[..], &[answered(2)]].concat()), "applied 0 times");
    }

    #[test]
    fn a_command_that_is_applied_although_it_was_refused_is_caught() {
        let refused = ended(1, CallOutcome::Refused);
        let words = "1 transmissions were said to be without effect";
        assert_caught(check(&[asked(1), refused.clone(), applied(1, 1)]), words);
        assert_caught(check(&[asked(1), applied(1, 1), refused.clone()]), words);
        assert_eq!(check(&[asked(1), refused, asked(2), applied(1, 1)]), Ok(()));
    }

    #[test]
    fn a_command_that_is_answered_and_not_applied_is_caught() {
        let story = [asked(1), ended(1, CallOutcome::Answered)];
        assert_caught(check(&story), "answered 1 times and applied 0 times");
    }
}
