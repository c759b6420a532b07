//! Where the entries of the log are on the disk.

use std::collections::VecDeque;

use raft_core::LogIndex;

/// Reading one entry reads at most this much, or one longer entry. It bounds the memory that positions take,
/// too: two neighbours cover more than this together, unless a truncation or the end of a segment is between, or
/// the log was short.
const EXTENT_BYTES: u64 = 64 * 1024;

/// An extent counts until all of it is compacted. So that this does not matter, it begins a new one when it has this
/// share of the log, however short the log is. Of a long log, a hundred or two are short.
const EXTENT_SHARE: u64 = 16;

/// No extent need be shorter than this.
const EXTENT_BYTES_MIN: u64 = 256;

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
        let extent_bytes = (self.bytes / EXTENT_SHARE).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES);
        if let (true, Some(last)) = (self.open, self.extents.back_mut())
            && last.whole_records
            && last.segment == segment
            && last.offset + last.bytes == offset
            && last.bytes + bytes <= extent_bytes
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
    /// later one stay.
    pub(super) fn compact(&mut self, start: LogIndex, last: LogIndex) {
        while let Some(front) = self.extents.front() {
            let end = self.extents.get(1).map_or(last.next(), |next| next.first);
            if end > start.next() {
                break;
            }
            self.bytes -= front.bytes;
            self.extents.pop_front();
        }
        self.open &= !self.extents.is_empty();
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

    /// Records of one entry and 1 KiB each.
    fn small_records(records: u64) -> Positions {
        let mut positions = Positions::new();
        for i in 0..records {
            positions.append(1, i * 1024, 1024, Some(LogIndex(i + 1)), &[40]);
        }
        positions
    }

    #[test]
    fn small_records_share_an_extent() {
        let positions = small_records(10_000);
        assert_eq!(positions.bytes(), 10_000 * 1024);
        let longest = positions.extents.iter().map(|extent| extent.bytes).max();
        assert_eq!(longest, Some(EXTENT_BYTES));
        // Those of a log of that length, and those from the time when it was short.
        let extents = usize::try_from(10_000 * 1024 / EXTENT_BYTES).unwrap();
        assert!((extents..extents + 200).contains(&positions.extents.len()));
        let last_two = &firsts(&positions)[positions.extents.len() - 2..];
        let &[one, other] = last_two else { panic!("there are many") };
        let found: Vec<_> = positions
            .from(LogIndex(other - 1))
            .map(|(extent, end)| (extent.first.0, end))
            .collect();
        assert_eq!(found, [(one, Some(LogIndex(other))), (other, None)]);
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
        let mut positions = small_records(10_000);
        let &[.., before, _, _] = &firsts(&positions)[..] else { panic!("there are many") };
        positions.truncate(LogIndex(before + 10));
        assert_eq!(firsts(&positions).last(), Some(&before));
        positions.append(1, 10_000 * 1024, 1024, Some(LogIndex(before + 10)), &[40]);
        assert!(firsts(&positions).ends_with(&[before, before + 10]));
    }

    #[test]
    fn a_compaction_forgets_whole_extents() {
        let mut positions = small_records(100);
        let second = firsts(&positions)[50];
        positions.compact(LogIndex(second - 2), LogIndex(100));
        assert!(positions.first().is_some_and(|extent| extent.first < LogIndex(second)));
        positions.compact(LogIndex(second - 1), LogIndex(100));
        assert_eq!(positions.first().map(|extent| extent.first), Some(LogIndex(second)));
        positions.compact(LogIndex(100), LogIndex(100));
        assert_eq!((firsts(&positions), positions.bytes()), (vec![], 0));
    }

    #[test]
    fn what_is_compacted_no_longer_counts_however_short_the_log_is() {
        for (record_bytes, kept) in [(60, 20), (60, 500), (1000, 20), (1000, 500)] {
            let mut positions = Positions::new();
            for index in 1..=10 * kept {
                let offset = index * record_bytes;
                positions.append(1, offset, record_bytes, Some(LogIndex(index)), &[40]);
                let Some(start) = index.checked_sub(kept) else { continue };
                positions.compact(LogIndex(start), LogIndex(index));
                let more = positions.bytes() - (index - start) * record_bytes;
                let extent = (kept * record_bytes / 8).max(EXTENT_BYTES_MIN + record_bytes);
                assert!(more <= extent, "{more} bytes more than {kept} times {record_bytes}");
                assert!(positions.extents.len() < 200);
            }
        }
    }
}
