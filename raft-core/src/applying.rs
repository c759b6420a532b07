//! What goes to the state machine, and old entries that are read for it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{Applies, Effects, Entry, Fetch, FetchId, Fetched, LogIndex, Node, SnapshotMeta};

/// What went to the state machine.
#[derive(Debug)]
pub(crate) struct Applying {
    /// The last entry that was handed out, or that a restored snapshot replaces.
    pub(crate) handed_out: LogIndex,
    /// A snapshot that is to be handed out before anything else.
    pub(crate) restore: Option<SnapshotMeta>,
    /// Batches that are handed out and not yet applied: last index, entries, cost in bytes.
    batches: VecDeque<(LogIndex, usize, usize)>,
    entries: usize,
    bytes: usize,
    fetch: ApplyFetch,
}

/// Committed entries that have left the memory tail.
#[derive(Debug)]
enum ApplyFetch {
    None,
    Asked(FetchId),
    Found(Vec<Entry>),
}

impl Applying {
    /// The state machine is at `index`.
    pub(crate) fn new(index: LogIndex) -> Applying {
        Applying {
            handed_out: index,
            restore: None,
            batches: VecDeque::new(),
            entries: 0,
            bytes: 0,
            fetch: ApplyFetch::None,
        }
    }

    /// The state machine has applied everything up to `index`.
    pub(crate) fn applied(&mut self, index: LogIndex) {
        while let Some((last, entries, bytes)) = self.batches.front().copied() {
            if last > index {
                break;
            }
            self.batches.pop_front();
            self.entries -= entries;
            self.bytes -= bytes;
        }
    }

    fn hand_out(&mut self, last: LogIndex, entries: usize, bytes: usize) {
        self.handed_out = last;
        self.batches.push_back((last, entries, bytes));
        self.entries += entries;
        self.bytes += bytes;
    }
}

impl Node {
    /// Hands out what is committed *and durable here*, so that no snapshot can be ahead of its own log.
    pub(crate) fn drain_applies(&mut self, effects: &mut Effects) {
        effects.restore = self.applying.restore.take();
        let limits = &self.options.limits;
        let first = self.applying.handed_out.next();
        let last = self.commit.min(self.disk.durable());
        let entries_max = limits.applying_entries_max.saturating_sub(self.applying.entries);
        let bytes_max = limits.applying_bytes_max.saturating_sub(self.applying.bytes);
        let idle = self.applying.batches.is_empty();
        if first > last || (!idle && (entries_max == 0 || bytes_max == 0)) {
            return;
        }
        let mut bytes = 0;
        let entries = if first >= self.log.tail_first() {
            self.log.entries(first, last, entries_max, bytes_max, &mut bytes)
        } else {
            let Some(entries) = self.fetched_applies(first, last, bytes_max, effects) else {
                return;
            };
            bytes = entries.iter().map(Entry::cost_bytes).sum();
            entries
        };
        let Some(end) = entries.last().map(|entry| entry.id.index) else { return };
        self.applying.hand_out(end, entries.len(), bytes);
        effects.applies = Some(Applies { entries, configuration: self.configuration.clone() });
    }

    /// The committed entries from `first` on, when they have been read; else asks for them.
    fn fetched_applies(
        &mut self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
        effects: &mut Effects,
    ) -> Option<Vec<Entry>> {
        match core::mem::replace(&mut self.applying.fetch, ApplyFetch::None) {
            ApplyFetch::Found(entries)
                if entries.first().is_some_and(|entry| entry.id.index == first) =>
            {
                return Some(entries);
            }
            ApplyFetch::Asked(id) => {
                self.applying.fetch = ApplyFetch::Asked(id);
                return None;
            }
            ApplyFetch::Found(_) | ApplyFetch::None => {}
        }
        let id = FetchId(self.next_fetch);
        self.next_fetch += 1;
        self.applying.fetch = ApplyFetch::Asked(id);
        let count = self.options.limits.applying_entries_max as u64;
        let last = last.min(LogIndex(first.0.saturating_add(count.saturating_sub(1))));
        let last = last.min(self.log.tail_first().previous());
        effects.fetches.push(Fetch { id, first, last, bytes_max });
        None
    }

    /// Storage has answered.
    pub(crate) fn fetched(&mut self, id: FetchId, result: Fetched) {
        let found = match result {
            Fetched::Failed => {
                self.stopped = true;
                return;
            }
            Fetched::Compacted => None,
            Fetched::Entries(entries) => Some(entries),
        };
        // An entry that is not the log's own is not used: a truncation has overtaken the answer.
        let found = found.filter(|entries| {
            let follows = |pair: &[Entry]| pair[0].id.index.next() == pair[1].id.index;
            !entries.is_empty()
                && entries.windows(2).all(follows)
                && entries.iter().all(|entry| self.log.terms().contains(entry.id))
        });
        match self.applying.fetch {
            ApplyFetch::Asked(asked) if asked == id => {
                self.applying.fetch = found.map_or(ApplyFetch::None, ApplyFetch::Found);
            }
            ApplyFetch::Asked(_) | ApplyFetch::Found(_) | ApplyFetch::None => {
                self.fetched_for_peer(id, found);
            }
        }
    }
}
