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
