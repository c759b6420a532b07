//! Many runs as one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::mem;

use bytes::Bytes;

use super::encode::decode;
use super::location::{DataError, Location};
use super::run::{Blocks, Segment};
use crate::job::{Job, Pair};
use crate::task::TaskError;

/// One of the runs that are merged: a partition of it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where the run is.
    pub(crate) location: Location,
    /// The partition in it.
    pub(crate) segment: Segment,
    /// The map task that wrote it, and can write it again; none if the reader did so itself.
    pub(crate) map: Option<u32>,
}

impl Source {
    /// What it means that a run cannot be read.
    pub(crate) fn failed(map: Option<u32>, error: DataError) -> TaskError {
        match (map, error) {
            (Some(map), error @ (DataError::Missing { .. } | DataError::Damaged { .. })) => {
                // What the coordinator is told is only which task is to be done again.
                tracing::warn!(map, %error, "what a map task has written is lost");
                TaskError::LostMap(map)
            }
            (
                _,
                error @ (DataError::Missing { .. }
                | DataError::Damaged { .. }
                | DataError::Failed { .. }),
            ) => error.into(),
        }
    }
}

/// The pairs of all sources, in the order of their keys.
pub(crate) struct Merge<J: Job> {
    open: Vec<Open>,
    heap: BinaryHeap<Head<J::Key>>,
}

/// A source that is being read: it stands at a value, and its key is in the heap.
struct Open {
    blocks: Blocks,
    map: Option<u32>,
    block: Bytes,
    /// Up to where the block is decoded.
    at: usize,
    /// How many pairs have not begun.
    left: u64,
}

struct Head<K> {
    key: K,
    source: usize,
}

impl<J: Job> Merge<J> {
    /// Opens the sources; each holds `read_bytes` or the largest block, whichever is more.
    pub(crate) fn new(sources: &[Source], read_bytes: u64) -> Result<Merge<J>, TaskError> {
        let mut merge = Merge { open: Vec::new(), heap: BinaryHeap::new() };
        for Source { location, segment, map } in sources {
            let blocks = Blocks::new(location.clone(), *segment, read_bytes);
            let left = segment.records;
            let mut open = Open { blocks, map: *map, block: Bytes::new(), at: 0, left };
            if let Some(key) = open.key()? {
                merge.heap.push(Head { key, source: merge.open.len() });
                merge.open.push(open);
            }
        }
        Ok(merge)
    }

    /// The next pair.
    pub(crate) fn next(&mut self) -> Result<Option<Pair<J>>, TaskError> {
        let Some(mut head) = self.heap.peek_mut() else { return Ok(None) };
        let open = &mut self.open[head.source];
        let value = open.decode("value")?;
        let key = match open.key()? {
            Some(key) => mem::replace(&mut head.key, key),
            None => PeekMut::pop(head).key,
        };
        Ok(Some((key, value)))
    }

    /// The next value, if it is one of `key`.
    pub(crate) fn next_of(&mut self, key: &J::Key) -> Result<Option<J::Value>, TaskError> {
        match self.heap.peek() {
            Some(head) if head.key == *key => Ok(self.next()?.map(|(_, value)| value)),
            Some(_) | None => Ok(None),
        }
    }
}

impl Open {
    fn key<K: serde::de::DeserializeOwned>(&mut self) -> Result<Option<K>, TaskError> {
        if self.at == self.block.len() {
            let block = self.blocks.next().map_err(|error| Source::failed(self.map, error))?;
            let Some(block) = block else {
                if self.left > 0 {
                    let error = self.blocks.damaged("some of its pairs are missing");
                    return Err(Source::failed(self.map, error));
                }
                return Ok(None);
            };
            (self.block, self.at) = (block, 0);
        }
        self.left = self.left.saturating_sub(1);
        self.decode("key").map(Some)
    }

    fn decode<T: serde::de::DeserializeOwned>(&mut self, what: &str) -> Result<T, TaskError> {
        let Some((value, bytes)) = decode(&self.block[self.at..]) else {
            let place = self.blocks.location().name();
            return Err(TaskError::Failed(format!("{place}: a {what} does not read as written")));
        };
        self.at += bytes;
        Ok(value)
    }
}

impl<K: Ord> Ord for Head<K> {
    /// The heap has the greatest on top: the least key, and among equals the first source.
    fn cmp(&self, other: &Head<K>) -> Ordering {
        other.key.cmp(&self.key).then_with(|| other.source.cmp(&self.source))
    }
}

impl<K: Ord> PartialOrd for Head<K> {
    fn partial_cmp(&self, other: &Head<K>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> PartialEq for Head<K> {
    fn eq(&self, other: &Head<K>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord> Eq for Head<K> {}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Keeps what is told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<String>>);

    impl Subscriber for Told {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    impl Visit for Told {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            *self.0.lock().unwrap() += &format!("{field}={value:?} ");
        }
    }

    #[test]
    fn what_is_lost_is_told_with_its_place_where_it_is_found_out() {
        let told = Told::default();
        let place = "/out/map-00003-1".to_owned();
        let error = DataError::Damaged { place, reason: "it ends early" };
        let lost =
            tracing::subscriber::with_default(told.clone(), || Source::failed(Some(3), error));
        assert_eq!(lost, TaskError::LostMap(3));
        let told = told.0.lock().unwrap();
        assert!(told.contains("/out/map-00003-1: damaged: it ends early"), "{told}");
    }
}
