//! The running checksum, by which replicas notice that they are no longer alike.

use std::mem;

use crc32fast::Hasher;
use raft_core::LogIndex;
use serde::Serialize;

use crate::Context;

/// A buffer that one long response has made longer than this, in bytes, is given back.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Stands for the length of a response that cannot be serialized: on one replica it cannot be on any.
const UNSERIALIZABLE: u64 = u64::MAX;

/// The running checksum at an index that all replicas stop to look at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: LogIndex,
    pub(crate) checksum: u32,
}

/// A checksum over all that the machine was told and has answered since the log began. A CRC32 that goes on with the
/// same data never becomes equal again, so a divergence is seen at every later mark.
#[derive(Debug)]
pub(crate) struct RunningChecksum {
    /// A mark is made at each multiple of it; 0 for none.
    mark_each_entries: u64,
    /// `None` where it is not known, and then for good: a snapshot was restored that has none.
    sum: Option<Hasher>,
    /// For responses, so that none is allocated for each.
    buffer: Vec<u8>,
}

impl RunningChecksum {
    /// That of a machine to which nothing was told; without marks, nothing is computed.
    pub(crate) fn new(mark_each_entries: u64) -> RunningChecksum {
        let mut checksum = RunningChecksum { mark_each_entries, sum: None, buffer: Vec::new() };
        checksum.restored(Some(0));
        checksum
    }

    /// What a snapshot keeps of it.
    pub(crate) fn value(&self) -> Option<u32> {
        self.sum.as_ref().map(|sum| sum.clone().finalize())
    }

    /// Goes on from what a snapshot has kept.
    pub(crate) fn restored(&mut self, value: Option<u32>) {
        let value = value.filter(|_| self.mark_each_entries > 0);
        self.sum = value.map(Hasher::new_with_initial);
    }

    /// The machine was told `command`, as it stands in the log, and has answered.
    pub(crate) fn applied<R: Serialize>(&mut self, told: &Context, command: &[u8], response: &R) {
        let Some(sum) = &mut self.sum else { return };
        self.buffer.clear();
        let response_bytes = match postcard::to_extend(response, mem::take(&mut self.buffer)) {
            Ok(buffer) => {
                self.buffer = buffer;
                self.buffer.len() as u64
            }
            Err(_) => UNSERIALIZABLE,
        };
        let nanoseconds = u64::try_from(told.time.as_nanos()).unwrap_or(u64::MAX);
        let head = [told.index.0, told.term.0, nanoseconds, command.len() as u64, response_bytes];
        let mut head_bytes = [0; 5 * size_of::<u64>()];
        for (place, field) in head_bytes.chunks_exact_mut(size_of::<u64>()).zip(head) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        sum.update(&head_bytes);
        sum.update(command);
        sum.update(&self.buffer);
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
    }

    /// Everything up to `index` is in the state: the mark there, if there is one.
    pub(crate) fn passed(&self, index: LogIndex) -> Option<Mark> {
        if self.mark_each_entries == 0 || index.0 % self.mark_each_entries != 0 {
            return None;
        }
        self.value().map(|checksum| Mark { index, checksum })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft_core::Term;
    use serde::Serializer;

    use super::*;

    const TOLD: Context =
        Context { index: LogIndex(7), term: Term(3), time: Duration::from_millis(5) };

    fn after(told: &Context, command: &[u8], response: &impl Serialize) -> u32 {
        let mut checksum = RunningChecksum::new(1);
        checksum.applied(told, command, response);
        checksum.value().expect("it is on")
    }

    struct Refuses;

    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }

    #[test]
    fn whatever_a_machine_is_told_or_answers_counts() {
        let same = after(&TOLD, b"add", &9u32);
        assert_eq!(same, after(&TOLD, b"add", &9u32));
        let others = [
            after(&Context { index: LogIndex(8), ..TOLD }, b"add", &9u32),
            after(&Context { term: Term(4), ..TOLD }, b"add", &9u32),
            after(&Context { time: Duration::ZERO, ..TOLD }, b"add", &9u32),
            after(&TOLD, b"sub", &9u32),
            after(&TOLD, b"add", &8u32),
            after(&TOLD, b"add\x09", &()),
            after(&TOLD, b"add", &Refuses),
        ];
        assert!(!others.contains(&same), "{same} among {others:?}");
        assert_ne!(after(&TOLD, b"add", &Refuses), after(&TOLD, b"add", &()));
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let mut one = RunningChecksum::new(2);
        one.applied(&TOLD, b"add", &1u8);
        let mut other = RunningChecksum::new(3);
        other.restored(one.value());
        for checksum in [&mut one, &mut other] {
            checksum.applied(&TOLD, b"sub", &2u8);
        }
        assert!(one.value().is_some());
        assert_eq!(one.value(), other.value());
        let (one, other) = (one.passed(LogIndex(6)), other.passed(LogIndex(6)));
        assert!(one.is_some());
        assert_eq!(one, other, "how often a mark is made changes no mark");
    }

    #[test]
    fn what_differs_once_differs_at_every_later_mark() {
        let mut pair = [RunningChecksum::new(1), RunningChecksum::new(1)];
        for (checksum, response) in pair.iter_mut().zip(0u8..) {
            checksum.applied(&TOLD, b"add", &response);
        }
        for _ in 0..10_000 {
            pair.iter_mut().for_each(|checksum| checksum.applied(&TOLD, b"add", &9u8));
            assert_ne!(pair[0].value(), pair[1].value());
        }
    }

    #[test]
    fn without_marks_or_from_a_snapshot_without_it_nothing_is_known() {
        let mut off = RunningChecksum::new(0);
        off.restored(Some(5));
        off.applied(&TOLD, b"add", &1u8);
        assert_eq!((off.value(), off.passed(LogIndex(0))), (None, None));
        let mut unknown = RunningChecksum::new(1);
        unknown.restored(None);
        unknown.applied(&TOLD, b"add", &1u8);
        assert_eq!((unknown.value(), unknown.passed(LogIndex(9))), (None, None));
    }

    #[test]
    fn the_buffer_is_used_again_and_a_long_response_leaves_no_long_one() {
        let mut checksum = RunningChecksum::new(1);
        checksum.applied(&TOLD, b"add", &vec![1u8; 1000]);
        let (place, capacity) = (checksum.buffer.as_ptr(), checksum.buffer.capacity());
        for len in [0usize, 10, 1000] {
            checksum.applied(&TOLD, b"add", &vec![1u8; len]);
            assert_eq!((checksum.buffer.as_ptr(), checksum.buffer.capacity()), (place, capacity));
        }
        checksum.applied(&TOLD, b"add", &vec![1u8; 4 * BUFFER_BYTES_MAX]);
        checksum.applied(&TOLD, b"add", &());
        assert!(checksum.buffer.capacity() <= BUFFER_BYTES_MAX);
    }
}
