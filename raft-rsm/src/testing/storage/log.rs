//! The sentences on log and hard state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};

use bytes::Bytes;
use futures::executor::block_on;
use raft_core::{Entry, EntryId, LogIndex, Payload, Term, Write};

use super::{
    StorageUnderTest, append, configuration, empty, entries, hard_state, load, meta, nothing, read,
    read_all, write,
};
use crate::storage::StorageError;

/// `load`: a node that never ran has an empty log, no vote, and the configuration that it was given.
pub fn a_first_start_has_an_empty_log_and_the_first_configuration(
    under_test: &mut dyn StorageUnderTest,
) {
    let storage = under_test.create(configuration());
    empty().check(storage.as_ref());
    drop(storage);
    empty().check(under_test.crash().as_ref());
}

/// `write`: returns when it is durable. (openraft #418, robustmq PR 2039: users' stores did not sync.)
pub fn what_was_written_is_there_after_a_crash(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    for i in 1..=20 {
        expected.hard_state = hard_state(i, (i % 3 > 0).then_some(i % 3), (i - 1) * 3);
        let new = entries(i, (i - 1) * 3 + 1, i * 3);
        expected.entries.extend(new.clone());
        let hard_state = Some(expected.hard_state);
        write(storage.as_ref(), Write { entries: new.into(), hard_state, ..nothing() });
        if i % 5 == 0 {
            drop(storage);
            storage = under_test.crash();
        }
        expected.check(storage.as_ref());
    }
}

/// `Write::entries`: the first replaces the entry at its index, if there is one, and all after it.
pub fn entries_replace_those_at_their_index_and_all_after(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    write(storage.as_ref(), append(entries(1, 1, 20)));
    expected.entries = entries(1, 1, 20);
    for (term, first, last) in [(2, 15, 16), (3, 16, 30), (4, 1, 5), (5, 6, 6), (6, 6, 40)] {
        let new = entries(term, first, last);
        expected.entries.retain(|entry| entry.id.index.0 < first);
        expected.entries.extend(new.clone());
        write(storage.as_ref(), append(new));
        expected.check(storage.as_ref());
        drop(storage);
        storage = under_test.crash();
        expected.check(storage.as_ref());
        assert_eq!(read(storage.as_ref(), last + 1, 99, usize::MAX), None);
    }
}

/// `Write::compact`: the log starts after the entry, with that configuration; later entries stay.
pub fn a_compaction_drops_what_is_before_and_keeps_what_is_after(
    under_test: &mut dyn StorageUnderTest,
) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    expected.entries = [entries(1, 1, 10), entries(3, 11, 20)].concat();
    write(storage.as_ref(), append(expected.entries.clone()));
    for (term, index) in [(1, 1), (1, 9), (1, 10), (3, 11), (3, 15)] {
        expected.start = meta(term, index);
        expected.entries.retain(|entry| entry.id.index.0 > index);
        write(storage.as_ref(), Write { compact: Some(meta(term, index)), ..nothing() });
        for _ in 0..2 {
            expected.check(storage.as_ref());
            for gone in 1..=index {
                assert_eq!(read(storage.as_ref(), gone, 20, usize::MAX), None, "entry {gone}");
            }
            drop(storage);
            storage = under_test.crash();
        }
    }
}

/// `Write::compact`: up to the last entry, too.
pub fn a_compaction_of_everything_leaves_an_empty_log_that_goes_on(
    under_test: &mut dyn StorageUnderTest,
) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    write(storage.as_ref(), append(entries(1, 1, 10)));
    write(storage.as_ref(), Write { compact: Some(meta(1, 10)), ..nothing() });
    expected.start = meta(1, 10);
    drop(storage);
    storage = under_test.crash();
    expected.check(storage.as_ref());
    expected.entries = entries(1, 11, 12);
    write(storage.as_ref(), append(entries(1, 11, 12)));
    expected.check(storage.as_ref());
    drop(storage);
    expected.check(under_test.crash().as_ref());
}

/// `Write::reset`: the log is replaced by an empty one, ahead of the old one or within it.
pub fn a_reset_replaces_the_whole_log(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    write(storage.as_ref(), append(entries(1, 1, 10)));
    for (term, index) in [(2, 50), (2, 51), (3, 70)] {
        expected.start = meta(term, index);
        expected.entries.clear();
        write(storage.as_ref(), Write { reset: Some(meta(term, index)), ..nothing() });
        expected.check(storage.as_ref());
        drop(storage);
        storage = under_test.crash();
        expected.check(storage.as_ref());
        for gone in [1, 10, index - 1, index, index + 1] {
            assert_eq!(read(storage.as_ref(), gone, 99, usize::MAX), None, "entry {gone}");
        }
        expected.entries = entries(term, index + 1, index + 5);
        write(storage.as_ref(), append(expected.entries.clone()));
        expected.check(storage.as_ref());
    }
}

/// `Write`: it takes effect in the order of its fields, all of it.
pub fn a_write_takes_effect_in_the_order_of_its_fields(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    write(storage.as_ref(), append(entries(1, 1, 10)));
    let all = Write {
        reset: Some(meta(2, 30)),
        compact: Some(meta(2, 30)),
        entries: entries(4, 31, 33).into(),
        hard_state: Some(hard_state(4, Some(2), 33)),
        ..nothing()
    };
    write(storage.as_ref(), all);
    let mut expected = empty();
    expected.hard_state = hard_state(4, Some(2), 33);
    expected.start = meta(2, 30);
    expected.entries = entries(4, 31, 33);
    expected.check(storage.as_ref());
    let all = Write {
        compact: Some(meta(4, 32)),
        entries: entries(5, 33, 34).into(),
        hard_state: Some(hard_state(5, None, 34)),
        ..nothing()
    };
    write(storage.as_ref(), all);
    expected.hard_state = hard_state(5, None, 34);
    expected.start = meta(4, 32);
    expected.entries = entries(5, 33, 34);
    expected.check(storage.as_ref());
    drop(storage);
    expected.check(under_test.crash().as_ref());
}

/// `Write::hard_state`: it is replaced only where there is one.
pub fn a_write_without_a_hard_state_keeps_the_last_one(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    let mut expected = empty();
    expected.hard_state = hard_state(7, Some(3), 0);
    write(storage.as_ref(), Write { hard_state: Some(hard_state(7, Some(3), 0)), ..nothing() });
    expected.entries = entries(7, 1, 3);
    write(storage.as_ref(), append(entries(7, 1, 3)));
    expected.check(storage.as_ref());
    drop(storage);
    expected.check(under_test.crash().as_ref());
}

/// `write`: the first error is the last, and nothing of the write is there.
pub fn a_write_that_does_not_fit_is_an_error_and_the_last(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let mut expected = empty();
    expected.entries = entries(2, 1, 5);
    write(storage.as_ref(), append(entries(2, 1, 5)));
    let wrong = [
        append(entries(2, 7, 8)),
        append(entries(1, 6, 6)),
        append([entries(2, 6, 6), entries(2, 8, 8)].concat()),
        append(entries(2, 0, 3)),
        Write { compact: Some(meta(2, 6)), ..nothing() },
        Write { compact: Some(meta(1, 3)), ..nothing() },
        Write {
            entries: entries(2, 6, 6).into(),
            hard_state: Some(hard_state(2, None, 7)),
            ..nothing()
        },
    ];
    for wrong in wrong {
        let error = block_on(storage.write(wrong.clone())).expect_err("it does not fit");
        assert!(!matches!(error, StorageError::Stopped), "{error} of {wrong:?}");
        let error = block_on(storage.write(append(entries(2, 6, 6)))).expect_err("it has failed");
        assert!(matches!(error, StorageError::Stopped), "{error} after {wrong:?}");
        drop(storage);
        storage = under_test.crash();
        expected.check(storage.as_ref());
    }
}

/// `read`: from the first entry to the last, without a gap; a range that goes beyond the log ends with it.
pub fn every_range_is_read_without_a_gap(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let mut all = Vec::new();
    for (first, last) in [(1, 1), (2, 7), (8, 8), (9, 20)] {
        write(storage.as_ref(), append(entries(1, first, last)));
        all.extend(entries(1, first, last));
    }
    for _ in 0..2 {
        for first in 1..=20 {
            for last in first..=22 {
                let expected: Vec<Entry> = all
                    .iter()
                    .filter(|entry| (first..=last).contains(&entry.id.index.0))
                    .cloned()
                    .collect();
                let found = read(storage.as_ref(), first, last, usize::MAX).expect("in the log");
                assert!(!found.is_empty());
                assert_eq!(found, expected[..found.len()], "{first} to {last}");
                assert_eq!(read_all(storage.as_ref(), first, last.min(20)), expected);
            }
        }
        drop(storage);
        storage = under_test.crash();
    }
}

/// `read`: stops before the sum of the costs exceeds the limit, but never before the first entry.
pub fn a_read_stops_before_the_bytes_exceed_the_limit_but_not_before_the_first_entry(
    under_test: &mut dyn StorageUnderTest,
) {
    let storage = under_test.create(configuration());
    let all: Vec<Entry> = (1..=30_u64)
        .map(|index| {
            let len = usize::try_from(index * 37 % 1000).unwrap_or(0);
            Entry::command(EntryId::new(Term(1), LogIndex(index)), vec![1; len])
        })
        .collect();
    for batch in all.chunks(7) {
        write(storage.as_ref(), append(batch.to_vec()));
    }
    for bytes_max in [0, 1, 64, 500, 5_000, 20_000] {
        for first in 1..=30 {
            let found = read(storage.as_ref(), first, 30, bytes_max).expect("in the log");
            let cost: usize = found.iter().map(Entry::cost_bytes).sum();
            assert!(cost <= bytes_max || found.len() == 1, "{cost} bytes of {bytes_max}");
            assert_eq!(found[0].id.index, LogIndex(first));
        }
    }
}

/// `read`: `None` where the log does not hold the first entry.
pub fn what_the_log_does_not_hold_is_read_as_none(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    assert_eq!(read(storage.as_ref(), 1, 5, 100), None);
    let compact = Write { compact: Some(meta(1, 4)), ..nothing() };
    write(storage.as_ref(), append(entries(1, 1, 10)));
    write(storage.as_ref(), compact);
    write(storage.as_ref(), append(entries(2, 8, 8)));
    for index in [1, 4, 9, 10, 11, u64::MAX] {
        assert_eq!(read(storage.as_ref(), index, u64::MAX, 100), None, "entry {index}");
    }
    assert_eq!(read_all(storage.as_ref(), 8, 8), entries(2, 8, 8));
}

/// Entries are stored as they are: empty ones, empty commands, short and long ones.
pub fn entries_come_back_byte_for_byte_whatever_their_length(
    under_test: &mut dyn StorageUnderTest,
) {
    let storage = under_test.create(configuration());
    let mut expected = empty();
    let lengths = [0, 1, 63, 64, 4096, 65_535, 65_536, 65_537, 300_000, 0, 3_000_000, 1];
    for (index, len) in (1..).zip(lengths) {
        let id = EntryId::new(Term(1), LogIndex(index));
        let byte = |i: usize| u8::try_from((i * 31 + len) % 251).unwrap_or(0);
        let command: Bytes = (0..len).map(byte).collect();
        expected.entries.push(Entry::command(id, command));
    }
    let next = EntryId::new(Term(1), LogIndex(lengths.len() as u64 + 1));
    expected.entries.push(Entry { id: next, payload: Payload::Empty });
    write(storage.as_ref(), append(expected.entries.clone()));
    expected.check(storage.as_ref());
    drop(storage);
    let storage = under_test.crash();
    expected.check(storage.as_ref());
    // One by one, from the log and not from a batch.
    for entry in &expected.entries {
        let index = entry.id.index.0;
        assert_eq!(read(storage.as_ref(), index, index, 1), Some(vec![entry.clone()]));
    }
}

/// `read`: may run beside a write, and sees what was durable before it or after.
pub fn a_read_runs_beside_writes(under_test: &mut dyn StorageUnderTest) {
    const WRITES_MIN: u64 = 40;
    const READS_MIN: u64 = 200;
    let storage = under_test.create(configuration());
    write(storage.as_ref(), append(entries(1, 1, 50)));
    let done = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = || {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    reads.fetch_add(1, Ordering::AcqRel);
                    let first = load(storage.as_ref()).start.last.index.0 + 1;
                    let Some(found) = read(storage.as_ref(), first, u64::MAX, 2000) else {
                        continue;
                    };
                    let mut next = EntryId::new(Term(0), LogIndex(first));
                    for entry in found {
                        assert_eq!(entry.id.index, next.index, "without a gap");
                        assert!(entry.id.term >= next.term, "terms never decrease along a log");
                        let id = entry.id;
                        assert_eq!(entry, entries(id.term.0, id.index.0, id.index.0)[0]);
                        next = EntryId::new(id.term, id.index.next());
                    }
                }
            })
        };
        let readers = [reader(), reader()];
        // Who finds a mistake reads no further.
        let go_on = |reader: &ScopedJoinHandle<'_, ()>| !reader.is_finished();
        let goes_on = |i| {
            i < WRITES_MIN
                || (reads.load(Ordering::Acquire) < READS_MIN && readers.iter().all(go_on))
        };
        let mut i = 0;
        while goes_on(i) {
            i += 1;
            // Replaces the last ten entries, adds ten, and compacts once in a while.
            let last = 50 + i * 10;
            write(storage.as_ref(), append(entries(1 + i, last - 19, last)));
            if i % 5 == 0 {
                let restored = load(storage.as_ref());
                let index = last - 40;
                let term = restored.terms.term(LogIndex(index)).expect("in the log").0;
                write(storage.as_ref(), Write { compact: Some(meta(term, index)), ..nothing() });
            }
        }
        done.store(true, Ordering::Release);
    });
}

/// `log_bytes`: the size of the entries that are not compacted.
pub fn the_size_of_the_log_grows_with_entries_and_shrinks_with_a_compaction(
    under_test: &mut dyn StorageUnderTest,
) {
    let mut storage = under_test.create(configuration());
    let entry = |index| {
        Entry::command(EntryId::new(Term(1), LogIndex(index)), Bytes::from(vec![1; 10_000]))
    };
    for first in (1..=100).step_by(5) {
        write(storage.as_ref(), append((first..first + 5).map(entry).collect()));
    }
    for _ in 0..2 {
        let bytes = storage.log_bytes();
        assert!((1_000_000..2_000_000).contains(&bytes), "{bytes} bytes");
        drop(storage);
        storage = under_test.crash();
    }
    write(storage.as_ref(), Write { compact: Some(meta(1, 90)), ..nothing() });
    for _ in 0..2 {
        let bytes = storage.log_bytes();
        assert!((100_000..300_000).contains(&bytes), "{bytes} bytes");
        drop(storage);
        storage = under_test.crash();
    }
    write(storage.as_ref(), Write { reset: Some(meta(1, 200)), ..nothing() });
    let bytes = storage.log_bytes();
    assert!(bytes < 10_000, "{bytes} bytes");
}
