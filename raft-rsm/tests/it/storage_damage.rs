//! What was torn by a crash is cut; what was good once and is not any more is an error that says where.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;

use futures::executor::block_on;
use raft_rsm::Storage;
use raft_rsm::raft_core::{
    Configuration, Entry, EntryId, LogIndex, NodeId, Restored, SnapshotMeta, Term, Write, WriteId,
};
use raft_rsm::storage::{FileStorage, FileStorageOptions, StorageError};

use crate::storage_disk::TestDisk;
use crate::storage_stand::{create, open, options};

fn write(entries: Vec<Entry>) -> Write {
    Write { id: WriteId(0), reset: None, compact: None, entries: entries.into(), hard_state: None }
}

fn entry(index: u64, len: usize) -> Entry {
    Entry::command(EntryId::new(Term(1), LogIndex(index)), vec![0xa5; len])
}

fn meta(index: u64) -> SnapshotMeta {
    let configuration = Configuration::new([NodeId(1)], []);
    SnapshotMeta { last: EntryId::new(Term(1), LogIndex(index)), configuration }
}

fn append(storage: &FileStorage, entry: Entry) -> Result<(), StorageError> {
    block_on(storage.write(write(vec![entry])))
}

fn load(storage: &FileStorage) -> Restored {
    block_on(storage.load()).unwrap()
}

fn last(storage: &FileStorage) -> u64 {
    load(storage).terms.last().index.0
}

fn segment(number: u64) -> PathBuf {
    options().dir.join("log").join(format!("{number:020}.log"))
}

/// A log of `entries` entries of 100 bytes, one a write; and the storage, open.
fn log(options: &FileStorageOptions, entries: u64) -> (TestDisk, FileStorage) {
    let disk = TestDisk::new(1);
    let storage = create(&disk, options, Configuration::new([NodeId(1)], [])).unwrap();
    for index in 1..=entries {
        append(&storage, entry(index, 100)).unwrap();
    }
    (disk, storage)
}

fn without_preallocation() -> FileStorageOptions {
    FileStorageOptions { preallocate_bytes: 0, ..options() }
}

fn reopen(disk: &TestDisk) -> Result<FileStorage, StorageError> {
    disk.kill();
    open(disk, &options())
}

/// Alagappan et al., FAST '18: a torn tail that is taken for corruption. etcd #22442: one that comes back to life.
#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn_and_never_comes_back() {
    let (disk, storage) = log(&without_preallocation(), 3);
    let before = disk.contents(&segment(1));
    append(&storage, entry(4, 100)).unwrap();
    drop(storage);
    let whole = disk.contents(&segment(1));
    for len in before.len()..whole.len() {
        for zeroes in [0, whole.len() - len, 500] {
            let mut torn = whole[..len].to_vec();
            torn.resize(len + zeroes, 0);
            disk.put(&segment(1), &torn);
            let storage = reopen(&disk).unwrap();
            assert_eq!(last(&storage), 3, "torn at {len}");
            // Shorter than what was torn: nothing of it may follow.
            append(&storage, entry(4, 1)).unwrap();
            drop(storage);
            let storage = reopen(&disk).unwrap();
            assert_eq!(last(&storage), 4, "torn at {len}");
            let read = block_on(storage.read(LogIndex(4), LogIndex(9), 9)).unwrap();
            assert_eq!(read, Some(vec![entry(4, 1)]));
        }
    }
}

#[test]
fn a_tail_of_which_only_the_end_reached_the_disk_is_cut() {
    let (disk, storage) = log(&without_preallocation(), 3);
    let before = disk.contents(&segment(1)).len();
    append(&storage, entry(4, 300)).unwrap();
    drop(storage);
    let whole = disk.contents(&segment(1));
    for lost in 1..whole.len() - before {
        let mut torn = whole.clone();
        torn[before..before + lost].fill(0);
        disk.put(&segment(1), &torn);
        let storage = reopen(&disk).unwrap();
        assert_eq!(last(&storage), 3, "without the first {lost} bytes");
    }
}

/// Alagappan et al., FAST '18: corruption in the middle that is taken for a torn tail, and truncated.
#[test]
fn a_flipped_bit_before_the_last_record_is_damage_and_nothing_is_cut() {
    let mut options = options();
    options.segment_bytes = 400;
    let (disk, storage) = log(&options, 8);
    drop(storage);
    let files = [1, 2].map(segment);
    assert!(disk.state_of_dir(&options.dir.join("log")).len() > 2);
    for file in &files {
        let good = disk.contents(file);
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            disk.put(file, &bad);
            match reopen(&disk).map(|storage| last(&storage)) {
                Err(StorageError::Damaged { path, offset, .. }) => {
                    assert_eq!(path, *file);
                    assert!(offset <= byte as u64, "{offset} for byte {byte}");
                }
                // The number of the format is not covered, so that a newer one is known as such.
                Err(StorageError::Refused { .. }) if (8..12).contains(&byte) => {}
                other => panic!("byte {byte} of {}: {other:?}", file.display()),
            }
            assert_eq!(disk.contents(file), bad, "nothing is changed");
        }
        disk.put(file, &good);
    }
    assert_eq!(last(&reopen(&disk).unwrap()), 8);
}

#[test]
fn a_flipped_bit_before_the_last_record_of_the_last_segment_is_damage() {
    let (disk, storage) = log(&options(), 4);
    drop(storage);
    let good = disk.contents(&segment(1));
    let used = good.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let last_record = used - (32 + 1 + 4 + 24 + 100);
    for byte in 0..last_record {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        disk.put(&segment(1), &bad);
        let error = reopen(&disk).map(|storage| last(&storage)).expect_err("damage");
        let expected = matches!(
            &error,
            StorageError::Damaged { offset, .. } if *offset <= byte as u64
        );
        let format = (8..12).contains(&byte) && matches!(error, StorageError::Refused { .. });
        assert!(expected || format, "byte {byte}: {error}");
    }
}

/// The same: one write is out at a time, so a crash tears one record.
#[test]
fn two_damaged_records_at_the_end_are_no_torn_tail() {
    let (disk, storage) = log(&without_preallocation(), 2);
    let two = disk.contents(&segment(1)).len();
    append(&storage, entry(3, 100)).unwrap();
    append(&storage, entry(4, 100)).unwrap();
    drop(storage);
    let mut bad = disk.contents(&segment(1));
    let len = bad.len();
    bad[two + 100] ^= 1;
    bad[len - 1] ^= 1;
    disk.put(&segment(1), &bad);
    let error = reopen(&disk).expect_err("damage");
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

#[test]
fn a_command_that_looks_like_a_record_is_none() {
    let (disk, storage) = log(&without_preallocation(), 3);
    let record = {
        let contents = disk.contents(&segment(1));
        contents[contents.len() - 161..].to_vec()
    };
    let before = disk.contents(&segment(1)).len();
    let id = EntryId::new(Term(1), LogIndex(4));
    let command = [vec![0; 50], record].concat();
    block_on(storage.write(write(vec![Entry::command(id, command)]))).unwrap();
    drop(storage);
    let mut torn = disk.contents(&segment(1));
    torn[before + 40] ^= 1;
    disk.put(&segment(1), &torn);
    assert_eq!(last(&reopen(&disk).unwrap()), 3);
}

#[test]
fn a_missing_file_of_the_log_is_damage() {
    let mut options = options();
    options.segment_bytes = 400;
    for missing in [1, 2] {
        let (disk, storage) = log(&options, 9);
        drop(storage);
        let life = disk.life();
        raft_rsm::storage::fs::FileSystem::remove(life.as_ref(), &segment(missing)).unwrap();
        match reopen(&disk) {
            Err(StorageError::Damaged { problem, .. }) => {
                assert!(problem.contains("missing") || problem.contains("earlier"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn damage_after_the_start_is_found_by_the_read() {
    let (disk, storage) = log(&options(), 50);
    let mut bad = disk.contents(&segment(1));
    let offset = 3000;
    bad[offset] ^= 1;
    disk.put(&segment(1), &bad);
    match block_on(storage.read(LogIndex(1), LogIndex(50), usize::MAX)) {
        Err(StorageError::Damaged { path, offset: found, .. }) => {
            assert_eq!(path, segment(1));
            assert!((offset as u64 - 161..=offset as u64).contains(&found), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

/// Rebello et al., ATC '20: a sync that fails and is tried again succeeds, for the system has marked the pages clean.
#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let (disk, storage) = log(&options(), 3);
    disk.fail("sync", ErrorKind::Other);
    let error = append(&storage, entry(4, 10)).expect_err("the sync failed");
    assert!(matches!(error, StorageError::Io { action: "sync", .. }), "{error}");
    disk.journal();
    for _ in 0..3 {
        let error = append(&storage, entry(4, 10)).expect_err("a sync failed before");
        assert!(matches!(error, StorageError::Stopped), "{error}");
    }
    assert_eq!(disk.journal(), []);
}

/// Rebello et al., ATC '20: the same across a restart.
#[test]
fn what_a_restart_finds_after_a_failed_sync_is_made_durable() {
    for seed in 0..50 {
        let disk = TestDisk::new(seed);
        let storage = create(&disk, &options(), Configuration::new([NodeId(1)], [])).unwrap();
        append(&storage, entry(1, 10)).unwrap();
        disk.fail("sync", ErrorKind::Other);
        append(&storage, entry(2, 10)).expect_err("the sync failed");
        drop(storage);
        // The memory of the system still has what the disk does not, and takes it for clean.
        let found = last(&reopen(&disk).unwrap());
        assert_eq!(found, 2);
        disk.crash();
        assert_eq!(last(&open(&disk, &options()).unwrap()), found);
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_acknowledged() {
    let (disk, storage) = log(&options(), 3);
    disk.fail("write", ErrorKind::StorageFull);
    match append(&storage, entry(4, 10)) {
        Err(StorageError::Io { path, source, .. }) => {
            assert_eq!((path, source.kind()), (segment(1), ErrorKind::StorageFull));
        }
        other => panic!("{other:?}"),
    }
    drop(storage);
    let storage = reopen(&disk).unwrap();
    assert_eq!(last(&storage), 3);
    append(&storage, entry(4, 10)).unwrap();
}

/// Pillai et al., OSDI '14: a new file is not there after a crash unless its directory was synced.
#[test]
fn a_new_segment_and_its_name_are_durable_before_it_is_used() {
    let mut options = options();
    options.segment_bytes = 400;
    let (disk, storage) = log(&options, 1);
    for index in 2..20 {
        disk.journal();
        append(&storage, entry(index, 100)).unwrap();
        let journal = disk.journal();
        let Some(rename) = journal.iter().position(|(what, _)| *what == "rename") else { continue };
        let what: Vec<_> = journal.iter().map(|(what, _)| *what).collect();
        assert_eq!(what[..5], ["create", "write", "sync", "rename", "sync_dir"], "{journal:?}");
        assert_eq!(journal[4].1, "log");
        assert_eq!(rename, 3);
        return;
    }
    panic!("no segment in 20 writes");
}

#[test]
fn a_write_in_a_segment_with_room_is_one_append_and_one_sync() {
    let (disk, storage) = log(&options(), 1);
    disk.journal();
    append(&storage, entry(2, 100)).unwrap();
    let name = segment(1).file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(disk.journal(), [("write", name.clone()), ("sync", name)]);
}

#[test]
fn segments_before_the_compaction_point_are_removed_and_no_others() {
    let mut options = options();
    options.segment_bytes = 1000;
    let (disk, storage) = log(&options, 100);
    let dir = options.dir.join("log");
    let all = disk.state_of_dir(&dir);
    assert!(all.len() > 10, "{all:?}");
    let compact = |index| Write { compact: Some(meta(index)), ..write(Vec::new()) };
    block_on(storage.write(compact(1))).unwrap();
    assert_eq!(disk.state_of_dir(&dir), all);
    block_on(storage.write(compact(50))).unwrap();
    let half = disk.state_of_dir(&dir);
    assert_eq!(half, all[all.len() - half.len()..], "the oldest are gone");
    assert!(half.len() < all.len() * 2 / 3, "{half:?}");
    drop(storage);
    let storage = reopen(&disk).unwrap();
    let mut next = 51;
    while next <= 100 {
        let read = block_on(storage.read(LogIndex(next), LogIndex(100), 1000)).unwrap().unwrap();
        assert_eq!(read[0].id.index, LogIndex(next));
        next += read.len() as u64;
    }
    block_on(storage.write(Write { reset: Some(meta(500)), ..write(Vec::new()) })).unwrap();
    assert_eq!(disk.state_of_dir(&dir).len(), 1);
    drop(storage);
    assert_eq!(load(&reopen(&disk).unwrap()).start, meta(500));
}

/// tikv #19593: a log that never shrinks.
#[test]
fn the_disk_holds_what_the_log_needs_and_two_segments_more() {
    let mut options = options();
    options.segment_bytes = 10_000;
    options.preallocate_bytes = 1000;
    let (disk, storage) = log(&options, 0);
    let dir = options.dir.join("log");
    for index in 1..=2000 {
        append(&storage, entry(index, 100)).unwrap();
        if index % 20 == 0 {
            block_on(storage.write(Write { compact: Some(meta(index - 10)), ..write(Vec::new()) }))
                .unwrap();
            let names = disk.state_of_dir(&dir);
            let bytes: usize = names.iter().map(|name| disk.contents(&dir.join(name)).len()).sum();
            assert!(bytes < 35_000, "{bytes} bytes in {names:?}");
        }
    }
}

fn take_snapshot(storage: &FileStorage, index: u64, image: &[u8]) -> Result<(), StorageError> {
    let mut writer = storage.create_snapshot(meta(index))?;
    let _ = writer.write_all(image);
    writer.finish()
}

fn snapshots(disk: &TestDisk) -> Vec<PathBuf> {
    let dir = options().dir.join("snapshots");
    disk.state_of_dir(&dir).iter().map(|name| dir.join(name)).collect()
}

#[test]
fn damage_in_a_snapshot_is_found_on_reading() {
    let (disk, storage) = log(&options(), 1);
    let image: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    take_snapshot(&storage, 1, &image).unwrap();
    drop(storage);
    let [path] = &snapshots(&disk)[..] else { panic!("{disk:?}") };
    let good = disk.contents(path);
    let places = (0..good.len()).step_by(9973).chain(good.len() - 60..good.len());
    for byte in places {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        disk.put(path, &bad);
        let read = reopen(&disk).map(|storage| {
            let mut reader = storage.open_snapshot().unwrap().unwrap();
            reader.read_to_end(&mut Vec::new())
        });
        match read {
            Ok(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                let text = error.to_string();
                assert!(text.contains("damaged at byte"), "{text}");
            }
            Err(StorageError::Damaged { path: found, .. }) => assert_eq!(found, *path),
            Err(StorageError::Refused { .. }) => {
                assert!((good.len() - 24..good.len() - 20).contains(&byte), "the format");
            }
            other => panic!("byte {byte}: {other:?}"),
        }
    }
    for len in [0, 31, 1000, good.len() - 1] {
        disk.put(path, &good[..len]);
        let error = reopen(&disk).expect_err("damage");
        assert!(matches!(error, StorageError::Damaged { .. }), "{len} bytes: {error}");
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_or_synced_is_none() {
    let (disk, storage) = log(&options(), 5);
    take_snapshot(&storage, 1, b"first").unwrap();
    for what in ["create", "write", "sync", "rename"] {
        disk.fail(what, ErrorKind::StorageFull);
        take_snapshot(&storage, 2, &vec![1; 100_000]).expect_err(what);
        assert_eq!(snapshots(&disk).len(), 1, "{what}: nothing is left behind");
        assert_eq!(load(&storage).snapshot, Some(meta(1)));
    }
    append(&storage, entry(6, 10)).unwrap();
    take_snapshot(&storage, 3, b"third").unwrap();
    assert_eq!(snapshots(&disk).len(), 1);
    drop(storage);
    assert_eq!(load(&reopen(&disk).unwrap()).snapshot, Some(meta(3)));
}

#[test]
fn what_a_crash_left_of_a_snapshot_is_removed_at_the_start() {
    let (disk, storage) = log(&options(), 5);
    take_snapshot(&storage, 1, b"first").unwrap();
    let mut unfinished = storage.create_snapshot(meta(2)).unwrap();
    unfinished.write_all(&vec![1; 100_000]).unwrap();
    std::mem::forget(unfinished);
    assert_eq!(snapshots(&disk).len(), 2);
    disk.kill();
    let storage = open(&disk, &options()).unwrap();
    assert_eq!(snapshots(&disk).len(), 1);
    assert_eq!(load(&storage).snapshot, Some(meta(1)));
}
