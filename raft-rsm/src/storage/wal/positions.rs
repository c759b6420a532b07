//! Where the entries of the log are on the disk.

use std::collections::VecDeque;

use raft_core::LogIndex;

/// Reading one entry reads at most this much, or one longer entry. It bounds the memory that positions take,
/// too: two neighbours cover more than this together, unless a truncation, a compaction or the end of a segment is between.
const EXTENT_BYTES: u64 = 64 * 1024;

/// A stretch of a segment with entries in a row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first entry. The last one is before the first one of the next extent.
    pub(super) first: LogIndex,
    /// Which segment.
    pub(super) segment: u64,
    /// Where in it, in bytes.
    pub(super) offset: u64,
    /// How long it is, in bytes.
    pub(super) bytes: u64,
    /// Whether it consists of whole records; else of entries within one.
    pub(super) whole_records: bool,
}

/// The extents of all entries of the log, in the order of their indices.
#[derive(Debug)]
pub(super) struct Positions {
    extents: VecDeque<Extent>,
    bytes: u64,
    /// Whether the last extent may grow: everything in it is still in the log.
    open: bool,
}

impl Positions {
    pub(super) fn new() -> Positions {
        Positions { extents: VecDeque::new(), bytes: 0, open: false }
    }

    /// The sum of all extents, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The extent of the first entry.
    pub(super) fn first(&self) -> Option<&Extent> {
        self.extents.front()
    }

    /// The extents from the one that holds `index` on, each with the index of the entry after its last,
    /// where that is known.
    pub(super) fn from(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = (Extent, Option<LogIndex>)> + '_ {
        let after = self.extents.partition_point(|extent| extent.first <= index);
        let range = match after.checked_sub(1) {
            Some(position) => self.extents.range(position..),
            None => self.extents.range(self.extents.len()..),
        };
        let ends = range.clone().skip(1).map(|next| Some(next.first)).chain([None]);
        range.copied().zip(ends)
    }

    /// Adds a record with entries from `first` on, at these offsets from its start.
    pub(super) fn append(
        &mut self,
        segment: u64,
        offset: u64,
        bytes: u64,
        first: Option<LogIndex>,
        entry_offsets: &[u32],
    ) {
        if let (true, Some(last)) = (self.open, self.extents.back_mut())
            && last.whole_records
            && last.segment == segment
            && last.offset + last.bytes == offset
            && last.bytes + bytes <= EXTENT_BYTES
        {
            last.bytes += bytes;
            self.bytes += bytes;
            return;
        }
        let Some(first) = first else { return };
        if bytes <= EXTENT_BYTES {
            self.push(Extent { first, segment, offset, bytes, whole_records: true });
            return;
        }
        let ends = entry_offsets.iter().skip(1).map(|end| u64::from(*end)).chain([bytes]);
        let mut index = first;
        let mut piece: Option<Extent> = None;
        for (start, end) in entry_offsets.iter().map(|start| u64::from(*start)).zip(ends) {
            match &mut piece {
                Some(piece) if piece.bytes + (end - start) <= EXTENT_BYTES => {
                    piece.bytes += end - start;
                }
                _ => {
                    let next = Extent {
                        first: index,
                        segment,
                        offset: offset + start,
                        bytes: end - start,
                        whole_records: false,
                    };
                    if let Some(full) = piece.replace(next) {
                        self.push(full);
                    }
                }
            }
            index = index.next();
        }
        if let Some(last) = piece {
            self.push(last);
        }
    }

    fn push(&mut self, extent: Extent) {
        self.bytes += extent.bytes;
        self.extents.push_back(extent);
        self.open = true;
    }

    /// Forgets the entry at `first` and all after it.
    pub(super) fn truncate(&mut self, first: LogIndex) {
        while let Some(last) = self.extents.back().filter(|extent| extent.first >= first) {
            self.bytes -= last.bytes;
            self.extents.pop_back();
        }
        self.open = false;
    }

    /// Forgets the entries up to `start`, in a log that ends at `last`. Those that share an extent with a
    /// later one stay until the next compaction: what comes now begins an extent of its own, so that no more stays
    /// than was there between two compactions, however short they make the log.
    pub(super) fn compact(&mut self, start: LogIndex, last: LogIndex) {
        while let Some(front) = self.extents.front() {
            let end = self.extents.get(1).map_or(last.next(), |next| next.first);
            if end > start.next() {
                break;
            }
            self.bytes -= front.bytes;
            self.extents.pop_front();
        }
        self.open = false;
        // Short-lived peaks give their memory back.
        if self.extents.capacity() > 64 && self.extents.len() < self.extents.capacity() / 4 {
            self.extents.shrink_to(self.extents.len() * 2);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Positions::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(positions: &Positions) -> Vec<u64> {
        positions.extents.iter().map(|extent| extent.first.0).collect()
    }

    /// 100 records of one entry and 1 KiB each.
    fn small_records() -> Positions {
        let mut positions = Positions::new();
        for i in 0..100 {
            positions.append(1, i * 1024, 1024, Some(LogIndex(i + 1)), &[40]);
        }
        positions
    }

    #[test]
    fn small_records_share_an_extent() {
        let positions = small_records();
        assert_eq!(firsts(&positions), [1, 65]);
        assert_eq!(positions.bytes(), 100 * 1024);
        let found: Vec<_> =
            positions.from(LogIndex(64)).map(|(extent, end)| (extent.first.0, end)).collect();
        assert_eq!(found, [(1, Some(LogIndex(65))), (65, None)]);
        assert_eq!(positions.from(LogIndex(0)).count(), 0);
    }

    #[test]
    fn a_long_record_has_several_extents() {
        let mut positions = Positions::new();
        let offsets: Vec<u32> = (0..100).map(|i| 40 + i * 1024).collect();
        positions.append(1, 64, 40 + 100 * 1024, Some(LogIndex(1)), &offsets);
        assert_eq!(firsts(&positions), [1, 65]);
        assert_eq!(positions.bytes(), 100 * 1024);
    }

    #[test]
    fn what_was_truncated_and_what_replaces_it_share_no_extent() {
        let mut positions = small_records();
        positions.truncate(LogIndex(10));
        assert_eq!(firsts(&positions), [1]);
        positions.append(1, 100 * 1024, 1024, Some(LogIndex(10)), &[40]);
        assert_eq!(firsts(&positions), [1, 10]);
    }

    #[test]
    fn a_compaction_forgets_whole_extents() {
        let mut positions = small_records();
        positions.compact(LogIndex(63), LogIndex(100));
        assert_eq!(firsts(&positions), [1, 65]);
        positions.compact(LogIndex(64), LogIndex(100));
        assert_eq!(firsts(&positions), [65]);
        positions.compact(LogIndex(100), LogIndex(100));
        assert_eq!((firsts(&positions), positions.bytes()), (vec![], 0));
    }

    #[test]
    fn a_log_that_is_compacted_often_stays_far_below_an_extent() {
        const RECORD_BYTES: u64 = 100;
        const EACH: u64 = 10;
        const KEPT: u64 = 3;
        let mut positions = Positions::new();
        for index in 1..=1000 {
            let offset = index * RECORD_BYTES;
            positions.append(1, offset, RECORD_BYTES, Some(LogIndex(index)), &[40]);
            if index % EACH == 0 {
                positions.compact(LogIndex(index - KEPT), LogIndex(index));
            }
            let bytes = positions.bytes();
            assert!(bytes <= (2 * EACH + KEPT) * RECORD_BYTES, "{bytes} bytes at {index}");
        }
    }
}
