//! Leader completeness: an entry committed in a term is in the logs of the leaders of all later terms (§5.4).

use std::time::Duration;

use raft_rsm::raft_core::{EntryId, NodeId, Role, Term};

use super::{Checker, View};
use crate::event::Event;

/// Whoever is elected has all that is known to have been committed in earlier terms, and nobody puts another entry in
/// the place of a committed one.
#[derive(Copy, Clone, Debug)]
pub struct LeaderCompleteness;

impl LeaderCompleteness {
    fn elected(view: &View, node: NodeId, term: Term, last: EntryId) -> Result<(), String> {
        let Some(known) = view.node(node) else { return Ok(()) };
        for (index, committed) in view.committed().iter().rev() {
            if committed.known_in >= term {
                continue;
            }
            if *index > last.index {
                return Err(format!(
                    "node {node} leads term {term} with a log up to {last}, and {} was committed \
                     in term {} or before",
                    committed.entry.id, committed.known_in
                ));
            }
            if *index <= known.stored.log.start.index {
                break;
            }
            match known.stored.log.entries.get(index) {
                Some(entry) if *entry != committed.entry => {
                    return Err(format!(
                        "node {node} leads term {term} with {} where {} is committed",
                        entry.id, committed.entry.id
                    ));
                }
                // What is not there is still to be written, and looked at then.
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

impl Checker for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, _: Duration, before: &View, event: &Event) -> Result<(), String> {
        match event {
            Event::Role { node, role: Role::Leader, term, last, changed: true, .. } => {
                LeaderCompleteness::elected(before, *node, *term, *last)
            }
            Event::WriteBegan { node, entries, .. } => {
                let Some(known) = before.node(*node) else { return Ok(()) };
                for entry in entries {
                    let Some(committed) = before.committed().get(&entry.id.index) else { continue };
                    // An entry of an earlier term may still be replaced at a node that has heard nothing.
                    if committed.entry != *entry
                        && (known.role == Role::Leader && known.term > committed.known_in)
                    {
                        return Err(format!(
                            "node {node}, which leads term {}, writes {} where {} is committed",
                            known.term, entry.id, committed.entry.id
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{
        assert_caught, commits, entry, follows, leads, started, summary, tell, writes,
    };
    use super::*;

    /// Node 1 leads term 2, and its first two entries are committed; then this happens.
    fn check(then: &[Event]) -> Result<(), String> {
        let committed = [
            started(1),
            started(2),
            leads(1, 2, EntryId::ZERO),
            writes(1, 1, &[summary(2, 1), summary(2, 2)]),
            commits(1, 2, entry(2, 2)),
        ];
        tell(LeaderCompleteness, &[&committed, then].concat())
    }

    #[test]
    fn a_leader_with_all_that_is_committed_is_fine() {
        let entries = [summary(2, 1), summary(2, 2)];
        assert_eq!(check(&[writes(2, 1, &entries), leads(2, 3, entry(2, 2))]), Ok(()));
        // What is committed later need not be there.
        assert_eq!(check(&[leads(2, 1, EntryId::ZERO)]), Ok(()));
    }

    #[test]
    fn a_leader_whose_log_is_too_short_is_caught() {
        let story = [writes(2, 1, &[summary(2, 1)]), leads(2, 3, entry(2, 1))];
        assert_caught(check(&story), "log up to 1.2, and 2.2 was committed in term 2 or before");
    }

    #[test]
    fn a_leader_with_another_entry_in_the_place_of_a_committed_one_is_caught() {
        let entries = [summary(2, 1), summary(1, 2)];
        let story = [writes(2, 1, &entries), leads(2, 3, entry(1, 2))];
        assert_caught(check(&story), "with 2.1 where 2.2 is committed");
    }

    #[test]
    fn a_leader_that_replaces_a_committed_entry_is_caught() {
        let entries = [summary(2, 1), summary(2, 2)];
        let elected = [writes(2, 1, &entries), leads(2, 3, entry(2, 2))];
        let replaces = writes(2, 2, &[summary(3, 2)]);
        let story = [&elected, &[replaces.clone()][..]].concat();
        assert_caught(check(&story), "leads term 3, writes 2.3 where 2.2 is committed");
        // A follower may still have what an older leader sent.
        assert_eq!(check(&[follows(2, 3, EntryId::ZERO), replaces]), Ok(()));
    }
}
