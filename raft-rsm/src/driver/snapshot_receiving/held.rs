//! Chunks that have arrived before one that is missing.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CHUNK_BYTES_MAX, CHUNKS_MAX};

/// The chunks behind a gap, by their offsets. Bounded; where there are too many, the farthest ones go.
#[derive(Debug, Default)]
pub(super) struct Held {
    chunks: BTreeMap<u64, Bytes>,
    bytes: usize,
}

impl Held {
    /// Keeps a chunk. The first one that came for an offset stays.
    pub(super) fn insert(&mut self, offset: u64, data: Bytes) {
        if data.len() > CHUNK_BYTES_MAX || self.chunks.contains_key(&offset) {
            return;
        }
        self.bytes += data.len();
        self.chunks.insert(offset, data);
        while self.chunks.len() > CHUNKS_MAX || self.bytes > CHUNK_BYTES_MAX {
            let Some((_, farthest)) = self.chunks.pop_last() else { return };
            self.bytes -= farthest.len();
        }
    }

    /// Takes out the chunk at `offset`; whatever begins before it is of no use any more.
    pub(super) fn take(&mut self, offset: u64) -> Option<Bytes> {
        while let Some(first) = self.chunks.first_entry()
            && *first.key() <= offset
        {
            let (at, data) = first.remove_entry();
            self.bytes -= data.len();
            if at == offset {
                return Some(data);
            }
        }
        None
    }

    pub(super) fn offsets(&self) -> Vec<u64> {
        self.chunks.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn of_too_many_chunks_the_nearest_stay() {
        let mut held = Held::default();
        for offset in (1..=100).rev() {
            held.insert(offset, data(1));
        }
        assert_eq!(held.offsets(), (1..=CHUNKS_MAX as u64).collect::<Vec<_>>());
        held.insert(50, data(1));
        assert_eq!((held.chunks.len(), held.bytes), (CHUNKS_MAX, CHUNKS_MAX));
    }

    #[test]
    fn of_too_many_bytes_the_nearest_stay() {
        let mut held = Held::default();
        for offset in [30, 10, 20] {
            held.insert(offset, data(CHUNK_BYTES_MAX / 2));
        }
        assert_eq!(held.offsets(), [10, 20]);
        held.insert(5, data(CHUNK_BYTES_MAX + 1));
        held.insert(10, data(1));
        assert_eq!((held.offsets(), held.bytes), (vec![10, 20], CHUNK_BYTES_MAX));
    }

    #[test]
    fn what_begins_before_the_wanted_chunk_is_let_go_of() {
        let mut held = Held::default();
        for offset in [10, 20, 30] {
            held.insert(offset, data(10));
        }
        assert_eq!(held.take(5), None);
        assert_eq!(held.take(20), Some(data(10)));
        assert_eq!((held.offsets(), held.bytes), (vec![30], 10));
        assert_eq!(held.take(35), None);
        assert_eq!((held.offsets(), held.bytes), (vec![], 0));
    }
}
