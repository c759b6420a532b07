//! What goes to the state machine, and old entries that are read for it.

use alloc::collections::VecDeque;

use crate::{
    Applies, Effects, Entries, Entry, Fetch, FetchId, Fetched, LogIndex, Node, SnapshotMeta,
};

/// What went to the state machine.
#[derive(Debug)]
pub(crate) struct Applying {
    /// The last entry that was handed out, or that a restored snapshot replaces.
    pub(crate) handed_out: LogIndex,
    /// A snapshot that is to be handed out before anything else.
    pub(crate) restore: Option<SnapshotMeta>,
    /// Until then the state machine holds no more than this.
    before_restore: Option<LogIndex>,
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
    Found(Entries),
}

impl Applying {
    /// The state machine is at `index`.
    pub(crate) fn new(index: LogIndex) -> Applying {
        Applying {
            handed_out: index,
            restore: None,
            before_restore: None,
            batches: VecDeque::new(),
            entries: 0,
            bytes: 0,
            fetch: ApplyFetch::None,
        }
    }

    /// The state machine is to be restored from a snapshot that ends at `index`; so far it was handed what is up to
    /// `before`.
    pub(crate) fn to_restore(index: LogIndex, before: LogIndex) -> Applying {
        Applying { before_restore: Some(before), ..Applying::new(index) }
    }

    /// The last entry that the state machine was handed, as an entry or in a snapshot.
    pub(crate) fn machine(&self) -> LogIndex {
        self.before_restore.unwrap_or(self.handed_out)
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
        if effects.restore.is_some() {
            self.applying.before_restore = None;
        }
        let limits = &self.options.limits;
        let first = self.applying.handed_out.next();
        let last = self.commit.min(self.disk.durable());
        let entries_max = limits.applying_entries_max.saturating_sub(self.applying.entries);
        let bytes_max = limits.applying_bytes_max.saturating_sub(self.applying.bytes);
        let idle = self.applying.batches.is_empty();
        if first > last || (!idle && (entries_max == 0 || bytes_max == 0)) {
            return;
        }
        let (entries, bytes) = if first >= self.log.tail_first() {
            self.log.entries(first, last, entries_max, bytes_max)
        } else {
            let Some(entries) = self.fetched_applies(first, last, bytes_max, effects) else {
                return;
            };
            let bytes = entries.cost_bytes();
            (entries, bytes)
        };
        let Some(end) = entries.last().map(|entry| entry.id.index) else { return };
        self.applying.hand_out(end, entries.len(), bytes);
        effects.applies =
            Some(Applies { entries, configuration: self.configurations.at(end).clone() });
    }

    /// The committed entries from `first` on, when they have been read; else asks for them.
    fn fetched_applies(
        &mut self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
        effects: &mut Effects,
    ) -> Option<Entries> {
        match core::mem::replace(&mut self.applying.fetch, ApplyFetch::None) {
            ApplyFetch::Found(entries)
                if entries.first().is_some_and(|entry| entry.id.index == first) =>
            {
                let known = entries.iter().take_while(|entry| entry.id.index <= last).count();
                return Some(entries.slice(0..known));
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
        let for_applies = matches!(self.applying.fetch, ApplyFetch::Asked(asked) if asked == id);
        let first = match for_applies {
            true => Some(self.applying.handed_out.next()),
            false => self.asked_for_peer(id),
        };
        let Some(first) = first else {
            // The world has overtaken the answer. But a log that cannot be read, nobody can use.
            if result == Fetched::Failed {
                self.stop();
            }
            return;
        };
        match result {
            Fetched::Entries(entries) if self.are_of_the_log(first, &entries) => {
                match for_applies {
                    true => self.applying.fetch = ApplyFetch::Found(entries.into()),
                    false => self.fetched_for_peer(id, Some(entries.into())),
                }
            }
            Fetched::Compacted if !for_applies => self.fetched_for_peer(id, None),
            // It is gone, or not what was written; to ask again would give the same answer for ever. What is committed
            // and not applied is never compacted.
            Fetched::Entries(_) | Fetched::Compacted | Fetched::Failed => self.stop(),
        }
    }

    /// Whether these are the log's own from `first` on, without a gap. What is compacted by now was.
    fn are_of_the_log(&self, first: LogIndex, entries: &[Entry]) -> bool {
        let start = self.log.start().index;
        let follows = |pair: &[Entry]| pair[0].id.index.next() == pair[1].id.index;
        let own = |entry: &Entry| entry.id.index < start || self.log.terms().contains(entry.id);
        entries.first().is_some_and(|entry| entry.id.index == first)
            && entries.windows(2).all(follows)
            && entries.iter().all(own)
    }
}
