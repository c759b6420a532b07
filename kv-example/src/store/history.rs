//! What has happened lately, for those who watch.
//!
//! It is no part of the replicated state: a node remembers what it has applied since it started, or restored a snapshot,
//! within a limit. What it remembers is the same on every node, event for event.

use std::collections::VecDeque;
use std::sync::Arc;

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
    /// All events of this moment and later ones are there.
    oldest: Revision,
    /// The last moment that may have brought events.
    last: Revision,
}

/// An event, sharing its key and its value with the store as long as that has them.
#[derive(Clone, Debug)]
struct Remembered {
    revision: Revision,
    key: Arc<str>,
    happened: Happened,
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

    pub(super) fn push(
        &mut self,
        revision: Revision,
        key: Arc<str>,
        happened: Happened,
        bytes_max: usize,
    ) {
        self.passed(revision);
        let event = Remembered { revision, key, happened };
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.bytes > bytes_max
            && let Some(forgotten) = self.events.pop_front()
        {
            self.bytes -= cost(&forgotten);
            self.oldest = forgotten.revision.next();
        }
        // A moment is there as a whole, or not at all.
        let oldest = self.oldest;
        while let Some(event) = self.events.front()
            && event.revision < oldest
            && let Some(forgotten) = self.events.pop_front()
        {
            self.bytes -= cost(&forgotten);
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
                bytes += cost(event);
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
    pub(super) fn is_ready(&self, prefix: &str, from: Cursor, since: Revision) -> bool {
        let new = from.max(Cursor::from(since.next()));
        from.revision < self.oldest || self.after(new).any(|event| event.key.starts_with(prefix))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn after(&self, from: Cursor) -> impl Iterator<Item = &Remembered> {
        let first = self.events.partition_point(|event| event.revision < from.revision);
        let skip = usize::try_from(from.skip).unwrap_or(usize::MAX);
        let here = self.events.range(first..).take(skip);
        let skipped = here.take_while(|event| event.revision == from.revision).count();
        self.events.range(first + skipped..)
    }
}

impl Remembered {
    fn to_event(&self) -> Event {
        let change = match &self.happened {
            Happened::Put(versioned) => Change::Put((**versioned).clone()),
            Happened::Deleted(version) => Change::Deleted { version: *version },
        };
        Event { revision: self.revision, key: Arc::clone(&self.key), change }
    }
}

fn cost(event: &Remembered) -> usize {
    let value = match &event.happened {
        Happened::Put(versioned) => versioned.value.len(),
        Happened::Deleted(_) => 0,
    };
    EVENT_OVERHEAD_BYTES + event.key.len() + value
}
