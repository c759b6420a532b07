//! Log matching: if two logs contain an entry with the same index and term, then they are identical up to it (§5.3).

use std::collections::BTreeMap;
use std::time::Duration;

use raft_rsm::raft_core::EntryId;

use super::{Checker, View};
use crate::event::{Digest, EntrySummary, Event};

/// Wherever an entry is written, it says the same and follows the same entry. By induction, so does all before it.
#[derive(Debug, Default)]
pub struct LogMatching {
    entries: BTreeMap<EntryId, Known>,
}

#[derive(Copy, Clone, Debug)]
struct Known {
    payload: Digest,
    previous: EntryId,
}

impl LogMatching {
    fn write(&mut self, previous: EntryId, entry: EntrySummary) -> Result<(), String> {
        let new = Known { payload: entry.payload, previous };
        let known = *self.entries.entry(entry.id).or_insert(new);
        if known.previous != previous {
            return Err(format!(
                "entry {} follows {} in one log and {previous} in another",
                entry.id, known.previous
            ));
        }
        if known.payload != entry.payload {
            return Err(format!("entry {} does not say the same in two logs", entry.id));
        }
        Ok(())
    }
}

impl Checker for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, _: Duration, before: &View, event: &Event) -> Result<(), String> {
        let Event::WriteBegan { node, reset, entries, .. } = event else { return Ok(()) };
        let Some(first) = entries.first() else { return Ok(()) };
        let at = first.id.index.previous();
        let log = before.node(*node).map(|node| &node.stored.log);
        let previous = reset.or_else(|| log?.id(at));
        let Some(mut previous) = previous.filter(|previous| previous.index == at) else {
            return Err(format!("node {node} writes {} and has no entry before it", first.id));
        };
        for entry in entries {
            self.write(previous, *entry)?;
            previous = entry.id;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{assert_caught, started, summary, tell, writes};
    use super::*;

    fn check(story: &[Event]) -> Result<(), String> {
        tell(LogMatching::default(), story)
    }

    #[test]
    fn the_same_entries_in_the_same_order_are_fine_and_so_is_what_replaces_others() {
        let story = [
            started(1),
            started(2),
            writes(1, 1, &[summary(1, 1), summary(1, 2), summary(1, 3)]),
            writes(2, 1, &[summary(1, 1)]),
            writes(2, 2, &[summary(2, 2)]),
            writes(1, 2, &[summary(2, 2)]),
        ];
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn an_entry_that_says_something_else_in_another_log_is_caught() {
        let mut other = summary(1, 1);
        other.payload.0 += 1;
        let logs = [writes(1, 1, &[summary(1, 1)]), writes(2, 1, &[other])];
        let story = [&[started(1), started(2)], &logs[..]].concat();
        assert_caught(check(&story), "1.1 does not say the same");
    }

    #[test]
    fn an_entry_that_follows_another_one_in_another_log_is_caught() {
        let story = [
            started(1),
            started(2),
            writes(1, 1, &[summary(1, 1), summary(3, 2)]),
            writes(2, 1, &[summary(2, 1), summary(3, 2)]),
        ];
        assert_caught(check(&story), "2.3 follows 1.1 in one log and 1.2 in another");
    }

    #[test]
    fn a_log_with_a_gap_is_caught() {
        let story = [started(1), writes(1, 1, &[summary(1, 2)])];
        assert_caught(check(&story), "has no entry before it");
    }
}
