//! What has happened lately, for those who watch.
//!
//! It is no part of the replicated state: a node remembers what it has applied since it started, or restored a snapshot,
//! within a limit. What it remembers is the same on every node, event for event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::command::{Change, Changes, Cursor, Event, Revision, Version, Versioned};

/// One answer holds at most this many bytes of events (but always one event): it has to fit into a message.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What an event counts for beside its key and value, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// The last events of all keys, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    events: VecDeque<Remembered>,
    bytes: usize,
    /// What all events together count for, those that are forgotten included.
    bytes_ever: u64,
    /// All events of this moment and later ones are there.
    oldest: Revision,
    /// The last moment that may have brought events.
    last: Revision,
}

/// An event, sharing its key and its value with the store as long as that has them.
#[derive(Clone, Debug)]
struct Remembered {
    revision: Revision,
    /// The log's time.
    time: Duration,
    key: Arc<str>,
    happened: Happened,
    /// What this event and all before it count for.
    bytes_ever: u64,
}

/// When something happens.
#[derive(Copy, Clone, Debug)]
pub(super) struct At {
    pub(super) revision: Revision,
    /// The log's time.
    pub(super) time: Duration,
}

/// What has happened to a key.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    Put(Arc<Versioned>),
    Deleted(Version),
}

impl History {
    /// A node whose state is that of `revision`, and that knows nothing of how it came to be.
    pub(super) fn since(revision: Revision) -> History {
        History { oldest: revision.next(), last: revision, ..History::default() }
    }

    /// Everything up to `revision` has happened.
    pub(super) fn passed(&mut self, revision: Revision) {
        self.last = self.last.max(revision);
    }

    pub(super) fn push(&mut self, at: At, key: Arc<str>, happened: Happened, bytes_max: usize) {
        let At { revision, time } = at;
        self.passed(revision);
        let cost = cost(&key, &happened);
        self.bytes += cost;
        self.bytes_ever += cost as u64;
        let bytes_ever = self.bytes_ever;
        self.events.push_back(Remembered { revision, time, key, happened, bytes_ever });
        // The last moment stays, however large: else nobody could ever keep up with it.
        while self.bytes > bytes_max
            && self.events.front().is_some_and(|oldest| oldest.revision < revision)
            && let Some(forgotten) = self.events.pop_front()
        {
            self.bytes -= forgotten.cost();
            self.oldest = forgotten.revision.next();
        }
        // A moment is there as a whole, or not at all.
        let oldest = self.oldest;
        while let Some(event) = self.events.front()
            && event.revision < oldest
            && let Some(forgotten) = self.events.pop_front()
        {
            self.bytes -= forgotten.cost();
        }
    }

    /// What happened to keys that begin with `prefix`.
    pub(super) fn changes(&self, prefix: &str, from: Cursor) -> Changes {
        if from.revision < self.oldest {
            return Changes::Compacted { oldest: self.oldest };
        }
        let mut next = from;
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in self.after(from) {
            let here = match event.revision == next.revision {
                true => Cursor { skip: next.skip.saturating_add(1), ..next },
                false => Cursor { revision: event.revision, skip: 1 },
            };
            if event.key.starts_with(prefix) {
                bytes += event.cost();
                if bytes > ANSWER_BYTES_MAX && !events.is_empty() {
                    return Changes::Events { events, next };
                }
                events.push(event.to_event());
            }
            next = here;
        }
        // All that has happened up to now is in the answer.
        next = next.max(Cursor::from(self.last.next()));
        Changes::Events { events, next }
    }

    /// Whether there is something to say to who asks for changes, if there was not at `since`.
    ///
    /// That nothing has happened to its keys is worth saying when half of what can be remembered came since: it asks from
    /// here on then, and is not told that the history is forgotten, of which nothing was its.
    pub(super) fn is_ready(
        &self,
        prefix: &str,
        from: Cursor,
        since: Revision,
        bytes_max: usize,
    ) -> bool {
        let new = from.max(Cursor::from(since.next()));
        from.revision < self.oldest
            || self.bytes_since(from.revision) > bytes_max as u64 / 2
            || self.after(new).any(|event| event.key.starts_with(prefix))
    }

    /// What is remembered counts for so many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that happened from the first of these moments to the second is remembered.
    pub(super) fn span(&self) -> (Revision, Revision) {
        (self.oldest, self.last)
    }

    /// The time of the oldest event that is remembered.
    pub(super) fn begins_at(&self) -> Option<Duration> {
        self.events.front().map(|event| event.time)
    }

    /// What the events of `revision` and later ones count for, as far as they are remembered.
    fn bytes_since(&self, revision: Revision) -> u64 {
        let first = self.first(revision);
        let before = first.checked_sub(1).and_then(|last| self.events.get(last));
        before.map_or(self.bytes as u64, |before| self.bytes_ever - before.bytes_ever)
    }

    /// Where the events of `revision` and later ones begin.
    fn first(&self, revision: Revision) -> usize {
        self.events.partition_point(|event| event.revision < revision)
    }

    fn after(&self, from: Cursor) -> impl Iterator<Item = &Remembered> {
        let first = self.first(from.revision);
        let skip = usize::try_from(from.skip).unwrap_or(usize::MAX);
        let here = self.events.range(first..).take(skip);
        let skipped = here.take_while(|event| event.revision == from.revision).count();
        self.events.range(first + skipped..)
    }
}

impl Remembered {
    fn cost(&self) -> usize {
        cost(&self.key, &self.happened)
    }

    fn to_event(&self) -> Event {
        let change = match &self.happened {
            Happened::Put(versioned) => Change::Put((**versioned).clone()),
            Happened::Deleted(version) => Change::Deleted { version: *version },
        };
        Event { revision: self.revision, key: Arc::clone(&self.key), change }
    }
}

fn cost(key: &str, happened: &Happened) -> usize {
    let value = match happened {
        Happened::Put(versioned) => versioned.value.len(),
        Happened::Deleted(_) => 0,
    };
    EVENT_OVERHEAD_BYTES + key.len() + value
}
