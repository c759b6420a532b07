//! The running checksum, by which replicas notice that they are no longer alike.

use crc32fast::Hasher;
use postcard::ser_flavors::Flavor;
use raft_core::LogIndex;
use serde::Serialize;

use crate::Context;

/// The checksum begins anew at each multiple of this, for two reasons: a replica that does not know it joins in again
/// there, and what has changed for good without harm (how a response is serialized, in a new version) is over
/// there. A constant, so that replicas which make marks at different distances begin at the same places.
pub(crate) const ANEW_EACH_ENTRIES: u64 = 1 << 16;

/// So many bytes are summed up together: a CRC of few bytes costs several times as much for each.
const PENDING_BYTES: usize = 4 * 1024;

/// A buffer that one long response has made longer than this, in bytes, is given back.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// Stands for the length of a response that cannot be serialized: on one replica it cannot be on any.
const UNSERIALIZABLE: u64 = u64::MAX;

/// The running checksum at an index that all replicas stop to look at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: LogIndex,
    pub(crate) checksum: u32,
}

/// A checksum over all that the machine was told and has answered since it began. A CRC32 that goes on with the same
/// data never becomes equal again, so a divergence is seen at every later mark until it begins anew.
#[derive(Debug)]
pub(crate) struct RunningChecksum {
    /// A mark is made at each multiple of it; 0 for none.
    mark_each_entries: u64,
    /// `None` where it is not known until it begins anew: a snapshot was restored that has none.
    sum: Option<Hasher>,
    /// What is not summed up yet. Used again and again, so that nothing is allocated for an entry.
    pending: Vec<u8>,
}

impl RunningChecksum {
    /// That of a machine to which nothing was told; without marks, nothing is computed.
    pub(crate) fn new(mark_each_entries: u64) -> RunningChecksum {
        let mut checksum = RunningChecksum { mark_each_entries, sum: None, pending: Vec::new() };
        checksum.restored(Some(0));
        checksum
    }

    /// What a snapshot keeps of it.
    pub(crate) fn value(&self) -> Option<u32> {
        let mut sum = self.sum.clone()?;
        sum.update(&self.pending);
        Some(sum.finalize())
    }

    /// Goes on from what a snapshot has kept.
    pub(crate) fn restored(&mut self, value: Option<u32>) {
        let value = value.filter(|_| self.mark_each_entries > 0);
        self.sum = value.map(Hasher::new_with_initial);
        self.pending.clear();
    }

    /// The machine was told `command`, as it stands in the log, and has answered.
    pub(crate) fn applied<R: Serialize>(&mut self, told: &Context, command: &[u8], response: &R) {
        let Some(sum) = &mut self.sum else { return };
        let pending = &mut self.pending;
        let nanoseconds = u64::try_from(told.time.as_nanos()).unwrap_or(u64::MAX);
        for field in [told.index.0, told.term.0, nanoseconds, command.len() as u64] {
            pending.extend_from_slice(&field.to_le_bytes());
        }
        let start = pending.len();
        let response_bytes = match postcard::serialize_with_flavor(response, Append(pending)) {
            Ok(()) => (pending.len() - start) as u64,
            Err(_) => {
                pending.truncate(start);
                UNSERIALIZABLE
            }
        };
        pending.extend_from_slice(&response_bytes.to_le_bytes());
        if pending.len() + command.len() < PENDING_BYTES {
            pending.extend_from_slice(command);
        } else {
            sum.update(pending);
            sum.update(command);
            pending.clear();
            pending.shrink_to(PENDING_BYTES_MAX);
        }
    }

    /// Everything up to `index` is in the state: the mark there, if there is one.
    pub(crate) fn passed(&mut self, index: LogIndex) -> Option<Mark> {
        let begins_anew = index.0.is_multiple_of(ANEW_EACH_ENTRIES);
        if !begins_anew && !index.0.is_multiple_of(self.mark_each_entries) {
            return None;
        }
        let mark = self.value().map(|checksum| Mark { index, checksum });
        if begins_anew {
            self.restored(Some(0));
        }
        mark
    }
}

/// Serializes to the end of a buffer.
struct Append<'b>(&'b mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
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
    fn long_commands_and_responses_count_as_short_ones_do() {
        let long = [vec![1u8; 10_000], vec![2u8; 10_000]];
        let sums = [0, 1, 0].map(|command| after(&TOLD, &long[command], &9u8));
        assert!(sums[0] == sums[2] && sums[0] != sums[1], "{sums:?}");
        let sums = [0, 1, 0].map(|response| after(&TOLD, b"add", &long[response]));
        assert!(sums[0] == sums[2] && sums[0] != sums[1], "{sums:?}");
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
    fn it_begins_anew_at_the_same_index_for_all_after_a_last_mark() {
        let mut known = RunningChecksum::new(1000);
        let mut unknown = RunningChecksum::new(1 << 20);
        unknown.restored(None);
        let mut off = RunningChecksum::new(0);
        let all = |checksums: [&mut RunningChecksum; 3], index: u64| {
            checksums.map(|checksum| {
                checksum.applied(&TOLD, b"add", &1u8);
                checksum.passed(LogIndex(index))
            })
        };
        let marks = all([&mut known, &mut unknown, &mut off], ANEW_EACH_ENTRIES);
        assert!(matches!(marks, [Some(_), None, None]), "{marks:?}");
        let marks = all([&mut known, &mut unknown, &mut off], 2 * ANEW_EACH_ENTRIES);
        assert!(matches!(marks, [Some(one), Some(other), None] if one == other), "{marks:?}");
    }

    #[test]
    fn the_buffer_is_used_again_and_a_long_response_leaves_no_long_one() {
        let mut checksum = RunningChecksum::new(1);
        let tell = |checksum: &mut RunningChecksum, response_bytes| {
            checksum.applied(&TOLD, b"add", &vec![1u8; response_bytes]);
            (checksum.pending.as_ptr(), checksum.pending.capacity())
        };
        let place = tell(&mut checksum, PENDING_BYTES);
        for len in (0..PENDING_BYTES).step_by(100) {
            assert_eq!(tell(&mut checksum, len), place);
        }
        let (_, capacity) = tell(&mut checksum, 4 * PENDING_BYTES_MAX);
        assert!(capacity <= PENDING_BYTES_MAX, "{capacity}");
    }
}
