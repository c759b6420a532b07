//! The sentences on snapshots.

use std::io::{Read, Seek, SeekFrom, Write as _};
use std::sync::Arc;

use raft_core::{SnapshotMeta, Write};

use super::{StorageUnderTest, append, configuration, empty, entries, load, meta, nothing, write};
use crate::Storage;
use crate::storage::{SnapshotReader, SnapshotWriter};

/// Longer than any buffer is likely to be, and a multiple of none.
const IMAGE_BYTES: usize = 300_001;

fn image(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 256 + seed) % 256).unwrap_or(0)).collect()
}

fn begin(storage: &dyn Storage, meta: &SnapshotMeta, image: &[u8]) -> Box<dyn SnapshotWriter> {
    let mut writer = storage.create_snapshot(meta.clone()).expect("a snapshot can be started");
    for piece in image.chunks(10_007) {
        writer.write_all(piece).expect("a snapshot can be written");
    }
    writer
}

fn take(storage: &dyn Storage, meta: &SnapshotMeta, image: &[u8]) {
    begin(storage, meta, image).finish().expect("a snapshot can be finished");
}

fn open(storage: &dyn Storage) -> Box<dyn SnapshotReader> {
    storage.open_snapshot().expect("the snapshot can be opened").expect("there is one")
}

fn contents(reader: &mut dyn SnapshotReader) -> Vec<u8> {
    let mut contents = Vec::new();
    reader.read_to_end(&mut contents).expect("the snapshot can be read");
    assert_eq!(reader.len_bytes(), contents.len() as u64);
    contents
}

/// Fails unless the newest snapshot is this one, now and after a crash.
fn check(
    under_test: &mut dyn StorageUnderTest,
    storage: Arc<dyn Storage>,
    expected: Option<(&SnapshotMeta, &[u8])>,
) -> Arc<dyn Storage> {
    let check = |storage: &dyn Storage| {
        assert_eq!(load(storage).snapshot.as_ref(), expected.map(|(meta, _)| meta));
        match expected {
            None => assert!(storage.open_snapshot().expect("can be asked for").is_none()),
            Some((meta, image)) => {
                let mut reader = open(storage);
                assert_eq!(reader.meta(), meta);
                assert!(contents(reader.as_mut()) == image, "another image");
            }
        }
    };
    check(storage.as_ref());
    drop(storage);
    let storage = under_test.crash();
    check(storage.as_ref());
    storage
}

/// `open_snapshot`: there is none at first.
pub fn a_first_start_has_no_snapshot(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    check(under_test, storage, None);
}

/// `finish`: makes the snapshot durable. An image may be empty.
pub fn a_finished_snapshot_is_there_after_a_crash(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    for (index, len) in (1..).zip([0, 1, 65_535, 65_536, 65_537, 131_072, IMAGE_BYTES]) {
        let (meta, image) = (meta(1, index), image(len, len));
        take(storage.as_ref(), &meta, &image);
        storage = check(under_test, storage, Some((&meta, &image)));
    }
}

/// [`SnapshotReader`]: reads from any position, and says how long the image is.
pub fn a_snapshot_is_read_from_any_position(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    let image = image(0, IMAGE_BYTES);
    take(storage.as_ref(), &meta(1, 1), &image);
    let mut reader = open(storage.as_ref());
    assert_eq!(reader.len_bytes(), IMAGE_BYTES as u64);
    for position in [200_000, 0, 65_536, 65_535, 131_071, IMAGE_BYTES - 1, 7, 299_999] {
        let found = reader.seek(SeekFrom::Start(position as u64)).expect("a position within");
        assert_eq!(found, position as u64);
        let mut data = vec![0; 70_000.min(IMAGE_BYTES - position)];
        reader.read_exact(&mut data).expect("the image can be read");
        assert!(data == image[position..position + data.len()], "another image at {position}");
    }
    reader.seek(SeekFrom::End(-1)).expect("a position within");
    assert_eq!(reader.stream_position().expect("a position"), IMAGE_BYTES as u64 - 1);
    reader.seek(SeekFrom::Current(1)).expect("the end");
    assert_eq!(reader.read(&mut [0; 10]).expect("the end"), 0);
    assert!(reader.seek(SeekFrom::Current(-1 - IMAGE_BYTES as i64)).is_err(), "before the start");
}

/// [`SnapshotWriter`]: one that is dropped leaves nothing behind.
pub fn an_unfinished_snapshot_leaves_nothing(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    drop(begin(storage.as_ref(), &meta(1, 5), &image(1, IMAGE_BYTES)));
    storage = check(under_test, storage, None);
    let (old, old_image) = (meta(1, 3), image(2, 1000));
    take(storage.as_ref(), &old, &old_image);
    drop(begin(storage.as_ref(), &meta(1, 5), &image(1, IMAGE_BYTES)));
    storage = check(under_test, storage, Some((&old, &old_image)));
    take(storage.as_ref(), &meta(1, 5), b"short");
    check(under_test, storage, Some((&meta(1, 5), b"short")));
}

/// `finish`: the newest one, unless one that ends at a greater index is there.
pub fn the_snapshot_that_ends_last_is_the_newest(under_test: &mut dyn StorageUnderTest) {
    let mut storage = under_test.create(configuration());
    let (late, late_image) = (meta(3, 20), image(1, IMAGE_BYTES));
    take(storage.as_ref(), &meta(2, 10), &image(2, 500));
    take(storage.as_ref(), &late, &late_image);
    storage = check(under_test, storage, Some((&late, &late_image)));
    take(storage.as_ref(), &meta(2, 15), &image(3, 500));
    storage = check(under_test, storage, Some((&late, &late_image)));
    let again = image(4, 700);
    take(storage.as_ref(), &late, &again);
    check(under_test, storage, Some((&late, &again)));
}

/// `create_snapshot`: several may be written at once, even of the same entry.
pub fn several_snapshots_are_written_at_once(under_test: &mut dyn StorageUnderTest) {
    let storage = under_test.create(configuration());
    let (late, late_image) = (meta(1, 9), image(1, IMAGE_BYTES));
    let first = begin(storage.as_ref(), &meta(1, 5), &image(2, 5000));
    let dropped = begin(storage.as_ref(), &late, &image(3, 5000));
    let last = begin(storage.as_ref(), &late, &late_image);
    let same = begin(storage.as_ref(), &late, &late_image);
    last.finish().expect("a snapshot can be finished");
    drop(dropped);
    first.finish().expect("an older one is no error");
    same.finish().expect("the same one again is no error");
    check(under_test, storage, Some((&late, &late_image)));
}

/// `open_snapshot`: what is open stays readable while newer ones replace it.
pub fn a_snapshot_stays_readable_while_a_newer_one_replaces_it(
    under_test: &mut dyn StorageUnderTest,
) {
    let storage = under_test.create(configuration());
    let old = image(1, IMAGE_BYTES);
    take(storage.as_ref(), &meta(1, 1), &old);
    let mut reader = open(storage.as_ref());
    let mut front = vec![0; 1000];
    reader.read_exact(&mut front).expect("the image can be read");
    for index in 2..5 {
        take(storage.as_ref(), &meta(1, index), &image(5, 2000));
    }
    assert_eq!(reader.meta(), &meta(1, 1));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the image can be read");
    assert!([front, rest].concat() == old, "another image");
}

/// `finish` changes the log by nothing: that is the [`Write::reset`] that follows.
pub fn a_crash_between_a_snapshot_and_its_reset_leaves_the_log_as_it_was(
    under_test: &mut dyn StorageUnderTest,
) {
    let storage = under_test.create(configuration());
    let mut expected = empty();
    expected.entries = entries(1, 1, 5);
    write(storage.as_ref(), append(entries(1, 1, 5)));
    take(storage.as_ref(), &meta(2, 40), &image(1, 3000));
    expected.snapshot = Some(meta(2, 40));
    drop(storage);
    let storage = under_test.crash();
    expected.check(storage.as_ref());
    write(storage.as_ref(), Write { reset: Some(meta(2, 40)), ..nothing() });
    expected.start = meta(2, 40);
    expected.entries.clear();
    drop(storage);
    expected.check(under_test.crash().as_ref());
}
