//! Leader append-only: a leader never overwrites or deletes entries in its log; it only appends new ones (§5.3).

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::{EntryId, LogIndex, Message, NodeId, Role, Term};
use raft_rsm::transport::Packet;

use super::{Checker, View};
use crate::event::{EntrySummary, Event};

/// While a node leads, its log does not get shorter, no place in it gets a second entry, and entries of its term
/// come after all that it had when it was elected.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly {
    leads: BTreeMap<NodeId, Lead>,
    /// The last campaign of each node, and the last entry that it had then.
    campaigns: BTreeMap<NodeId, (Term, EntryId)>,
}

#[derive(Debug)]
struct Lead {
    term: Term,
    /// The last entry when it was elected.
    elected_with: EntryId,
    last: EntryId,
    written: BTreeMap<LogIndex, EntrySummary>,
}

impl Lead {
    fn grows(&mut self, node: NodeId, last: EntryId) -> Result<(), String> {
        if last.index < self.last.index {
            return Err(format!(
                "the log of node {node} went back from {} to {last} while it led term {}",
                self.last, self.term
            ));
        }
        self.last = last;
        Ok(())
    }

    fn writes(&mut self, node: NodeId, entry: EntrySummary) -> Result<(), String> {
        let first = *self.written.entry(entry.id.index).or_insert(entry);
        if first != entry {
            return Err(format!(
                "node {node} wrote {} and then {} while it led term {}",
                first.id, entry.id, self.term
            ));
        }
        if entry.id.term == self.term && entry.id.index <= self.elected_with.index {
            return Err(format!(
                "node {node} was elected to term {} with a log up to {} and writes {}",
                self.term, self.elected_with, entry.id
            ));
        }
        Ok(())
    }
}

impl Checker for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn observe(&mut self, _: Duration, _: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Role { node, role: Role::Leader, term, last, .. } => {
                let campaign = self.campaigns.get(node).filter(|(of, _)| of == term);
                // A node that is elected by itself alone asks nobody.
                let elected_with = campaign.map_or(EntryId::ZERO, |(_, with)| *with);
                let new = || Lead::new(*term, elected_with);
                let lead = self.leads.entry(*node).or_insert_with(new);
                if lead.term != *term {
                    *lead = new();
                }
                lead.grows(*node, *last)
            }
            Event::Sent { packet, .. } => {
                if let Packet::Raft(envelope) = &**packet
                    && let Message::RequestVote { last, .. } = &envelope.message
                {
                    self.campaigns.insert(envelope.from, (envelope.term, *last));
                }
                Ok(())
            }
            Event::Role { node, .. }
            | Event::Crashed { node, .. }
            | Event::Stopped { node, .. } => {
                self.leads.remove(node);
                Ok(())
            }
            Event::Progress { node, last, .. } => match self.leads.get_mut(node) {
                Some(lead) => lead.grows(*node, *last),
                None => Ok(()),
            },
            Event::WriteBegan { node, entries, reset, .. } => {
                let Some(lead) = self.leads.get_mut(node) else { return Ok(()) };
                if reset.is_some() {
                    return Err(format!("node {node} replaced its log while it led"));
                }
                entries.iter().try_for_each(|entry| lead.writes(*node, *entry))
            }
            _ => Ok(()),
        }
    }
}

impl Lead {
    fn new(term: Term, elected_with: EntryId) -> Lead {
        Lead { term, elected_with, last: elected_with, written: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use raft_rsm::raft_core::WriteId;

    use super::super::told::{
        assert_caught, commits, crashed, entry, follows, leads, node, sent, summary, tell, writes,
        written,
    };
    use super::*;

    fn check(story: &[Event]) -> Result<(), String> {
        tell(LeaderAppendOnly::default(), story)
    }

    #[test]
    fn a_leader_that_appends_is_fine() {
        let story = [
            leads(1, 2, entry(1, 3)),
            writes(1, 1, &[summary(2, 4)]),
            written(1, 1),
            commits(1, 4, entry(2, 5)),
            writes(1, 2, &[summary(2, 5)]),
        ];
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn a_leader_that_puts_another_entry_in_the_place_of_its_own_is_caught() {
        let mut other = summary(2, 4);
        other.payload.0 += 1;
        let [first, second] = [writes(1, 1, &[summary(2, 4)]), writes(1, 2, &[other])];
        let story = [leads(1, 2, entry(1, 3)), first.clone(), second.clone()];
        assert_caught(check(&story), "wrote 4.2 and then 4.2 while it led");
        // In another term, or another life, it is another story.
        let (leads_2, leads_3) = (leads(1, 2, entry(1, 3)), leads(1, 3, entry(1, 3)));
        let follows = follows(1, 3, entry(1, 3));
        assert_eq!(check(&[leads_2.clone(), first.clone(), follows, second.clone()]), Ok(()));
        assert_eq!(check(&[leads_2.clone(), first.clone(), leads_3, second.clone()]), Ok(()));
        assert_eq!(check(&[leads_2.clone(), first, crashed(1), leads_2, second]), Ok(()));
    }

    #[test]
    fn a_leader_that_begins_below_the_end_of_its_log_is_caught() {
        // The empty entry of its term is in its log by the time that it is known to lead.
        let asks = sent(1, 2, 2, Message::RequestVote { last: entry(1, 3), transfer: false });
        let story =
            |first| [asks.clone(), leads(1, 2, first), writes(1, 1, &[summary(2, first.index.0)])];
        assert_eq!(check(&story(entry(2, 4))), Ok(()));
        assert_caught(
            check(&story(entry(2, 3))),
            "elected to term 2 with a log up to 3.1 and writes 3.2",
        );
    }

    #[test]
    fn a_leader_whose_log_gets_shorter_is_caught() {
        let story = [leads(1, 2, entry(2, 4)), commits(1, 2, entry(1, 3))];
        assert_caught(check(&story), "went back from 4.2 to 3.1");
        let follower = [leads(1, 2, entry(2, 4)), follows(1, 3, entry(2, 4))];
        assert_eq!(check(&[&follower[..], &[commits(1, 2, entry(1, 3))]].concat()), Ok(()));
    }

    #[test]
    fn a_leader_that_takes_a_snapshot_of_another_is_caught() {
        let resets = Event::WriteBegan {
            node: node(1),
            id: WriteId(1),
            reset: Some(entry(2, 9)),
            compact: None,
            entries: Vec::new(),
            hard_state: None,
        };
        let story = [leads(1, 2, entry(1, 3)), resets.clone()];
        assert_caught(check(&story), "replaced its log while it led");
        assert_eq!(check(&[follows(1, 2, entry(1, 3)), resets]), Ok(()));
    }
}
