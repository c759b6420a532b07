//! A data directory knows whose it is: every start that would mix two nodes is refused, in a sentence.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use raft_rsm::raft_core::{Configuration, EntryId, LogIndex, NodeId, SnapshotMeta, Term};
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions, StorageError};
use raft_rsm::{ClusterId, Storage};

use crate::storage_stand::InlineRuntime;

fn options(dir: &Path) -> FileStorageOptions {
    FileStorageOptions::new(dir, ClusterId(7), NodeId(1))
}

fn create(options: FileStorageOptions) -> Result<FileStorage, StorageError> {
    let first = Configuration::new([NodeId(1)], []);
    let (fs, runtime) = (Arc::new(StdFileSystem), Arc::new(InlineRuntime::default()));
    block_on(FileStorage::create(options, first, fs, runtime))
}

fn open(options: FileStorageOptions) -> Result<FileStorage, StorageError> {
    let (fs, runtime) = (Arc::new(StdFileSystem), Arc::new(InlineRuntime::default()));
    block_on(FileStorage::open(options, fs, runtime))
}

/// Another one has the directory at `place`.
fn is_in_use(result: Result<FileStorage, StorageError>, place: &Path) -> bool {
    matches!(result, Err(StorageError::InUse { path }) if path == place)
}

/// The sentence with which it is refused; it names the place.
fn refused(result: Result<FileStorage, StorageError>, place: &Path) -> String {
    let error = result.expect_err("it is refused");
    assert!(matches!(error, StorageError::Refused { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(sentence.contains(place.to_str().unwrap()), "{sentence}");
    sentence
}

/// TigerBeetle's recovery notes: a lost disk looks like a first start, and has forgotten its votes.
#[test]
fn an_absent_and_an_empty_directory_are_no_data_directory_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let sentence = refused(open(options(&absent)), &absent);
    assert!(sentence.contains("no data of a node"), "{sentence}");
    assert!(!absent.exists());
    refused(open(options(dir.path())), dir.path());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_directory_that_holds_anything_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let sentence = refused(create(options(dir.path())), dir.path());
    assert!(sentence.contains("thesis.tex"), "{sentence}");
    let sentence = refused(open(options(dir.path())), dir.path());
    assert!(sentence.contains("not a data directory"), "{sentence}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_data_directory_is_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let identity = create(options(dir.path())).unwrap().identity();
    let sentence = refused(create(options(dir.path())), dir.path());
    assert!(sentence.contains("already"), "{sentence}");
    assert_eq!(open(options(dir.path())).unwrap().identity(), identity);
}

/// The same, where the disk was lost in part.
#[test]
fn a_data_directory_that_lost_its_identity_is_neither_opened_nor_created_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(options(dir.path())).unwrap());
    std::fs::remove_file(dir.path().join("identity")).unwrap();
    refused(open(options(dir.path())), dir.path());
    refused(create(options(dir.path())), dir.path());
    assert!(dir.path().join("log").read_dir().unwrap().count() > 0);
}

#[test]
fn another_node_and_another_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(options(dir.path())).unwrap());
    let other = FileStorageOptions { node: NodeId(2), ..options(dir.path()) };
    let sentence = refused(open(other), dir.path());
    assert!(sentence.contains("belongs to node 1, not to node 2"), "{sentence}");
    let other = FileStorageOptions { cluster: Some(ClusterId(8)), ..options(dir.path()) };
    let sentence = refused(open(other), dir.path());
    assert!(sentence.contains("0000000000000007, not to 0000000000000008"), "{sentence}");
}

#[test]
fn a_directory_says_itself_of_which_cluster_it_is_and_is_created_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let of_whichever = FileStorageOptions { cluster: None, ..options(dir.path()) };
    let sentence = refused(create(of_whichever.clone()), dir.path());
    assert!(sentence.contains("none is given"), "{sentence}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let identity = create(options(dir.path())).unwrap().identity();
    assert_eq!(open(of_whichever.clone()).unwrap().identity(), identity);
    let other = FileStorageOptions { node: NodeId(2), ..of_whichever };
    refused(open(other), dir.path());
}

#[test]
fn a_directory_in_use_is_refused_until_the_other_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = create(options(dir.path())).unwrap();
    assert!(is_in_use(open(options(dir.path())), dir.path()));
    drop(first);
    open(options(dir.path())).unwrap();
}

#[test]
fn a_directory_is_in_use_as_long_as_a_snapshot_is_written_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = create(options(dir.path())).unwrap();
    let last = EntryId::new(Term(1), LogIndex(1));
    let configuration = Configuration::new([NodeId(1)], []);
    let writer = first.create_snapshot(SnapshotMeta { last, configuration }).unwrap();
    drop(first);
    assert!(is_in_use(open(options(dir.path())), dir.path()));
    drop(writer);
    open(options(dir.path())).unwrap();
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(options(dir.path())).unwrap());
    let file = dir.path().join("identity");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("format 1", "format 9")).unwrap();
    let sentence = refused(open(options(dir.path())), &file);
    assert!(sentence.contains("format 9") && sentence.contains("format 2"), "{sentence}");

    std::fs::write(&file, text).unwrap();
    let segment = dir.path().join("log").join("00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] = 9;
    std::fs::write(&segment, bytes).unwrap();
    refused(open(options(dir.path())), &segment);
}

#[test]
fn the_log_of_another_data_directory_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let segment = Path::new("log").join("00000000000000000001.log");
    drop(create(options(one.path())).unwrap());
    let other = FileStorageOptions { cluster: Some(ClusterId(9)), ..options(two.path()) };
    drop(create(other).unwrap());
    std::fs::copy(two.path().join(&segment), one.path().join(&segment)).unwrap();
    let sentence = refused(open(options(one.path())), &one.path().join(&segment));
    assert!(sentence.contains("another data directory"), "{sentence}");
}

#[test]
fn a_changed_identity_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(options(dir.path())).unwrap());
    let file = dir.path().join("identity");
    let good = std::fs::read(&file).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let error = open(options(dir.path())).expect_err("it is damaged");
        assert!(matches!(error, StorageError::Damaged { .. }), "byte {byte}: {error}");
    }
}

#[test]
fn a_place_that_cannot_be_a_directory_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    for result in [create(options(&file)), open(options(&file)), create(options(&file.join("x")))] {
        let error = result.expect_err("a file is in the way");
        assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
