//! The contract of [`Storage`], a check for each sentence. Each check panics when the storage breaks its
//! sentence; [`storage_conformance!`](crate::storage_conformance) makes a test of each.

#![allow(clippy::expect_used, reason = "a check fails by a panic")]

mod log;
mod snapshots;

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use raft_core::{
    Configuration, Entry, EntryId, HardState, Incarnation, LogIndex, Member, NodeId, Payload,
    Restored, SnapshotMeta, Term, TermRuns, Vote, Write, WriteId,
};

use crate::Storage;
pub use log::*;
pub use snapshots::*;

/// Makes the storages that the checks work on, one after the other.
pub trait StorageUnderTest {
    /// A storage of a node that never ran, in a cluster of these members. Called once.
    fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage>;

    /// Crashes the node: what was not durable is lost, as far as the test can make it, and nothing is
    /// tidied up. Returns what a restarted node opens. The checks use what was returned before no more,
    /// and have dropped it.
    fn crash(&mut self) -> Arc<dyn Storage>;
}

/// Makes a test of each check of [`crate::testing::storage`]. The argument is an expression that makes a
/// [`StorageUnderTest`]; it is evaluated once a test.
///
/// ```
/// use std::sync::Arc;
/// use raft_rsm::raft_core::Configuration;
/// use raft_rsm::storage::{MemoryStorage, Storage};
/// use raft_rsm::testing::storage::StorageUnderTest;
///
/// #[derive(Default)]
/// struct Memory(Option<Arc<MemoryStorage>>);
///
/// impl StorageUnderTest for Memory {
///     fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
///         self.0.insert(Arc::new(MemoryStorage::new(configuration))).clone()
///     }
///     fn crash(&mut self) -> Arc<dyn Storage> {
///         let reopened = self.0.take().expect("created").reopen();
///         self.0.insert(Arc::new(reopened)).clone()
///     }
/// }
///
/// raft_rsm::storage_conformance!(Memory::default());
/// ```
#[macro_export]
macro_rules! storage_conformance {
    ($under_test:expr) => {
        $crate::storage_conformance!(@tests $under_test;
            a_first_start_has_an_empty_log_and_the_first_configuration
            what_was_written_is_there_after_a_crash
            entries_replace_those_at_their_index_and_all_after
            a_compaction_drops_what_is_before_and_keeps_what_is_after
            a_compaction_of_everything_leaves_an_empty_log_that_goes_on
            a_reset_replaces_the_whole_log
            a_write_takes_effect_in_the_order_of_its_fields
            a_write_without_a_hard_state_keeps_the_last_one
            a_write_that_does_not_fit_is_an_error_and_the_last
            every_range_is_read_without_a_gap
            a_read_stops_before_the_bytes_exceed_the_limit_but_not_before_the_first_entry
            what_the_log_does_not_hold_is_read_as_none
            entries_come_back_byte_for_byte_whatever_their_length
            a_read_runs_beside_writes
            the_size_of_the_log_grows_with_entries_and_shrinks_with_a_compaction
            a_first_start_has_no_snapshot
            a_finished_snapshot_is_there_after_a_crash
            a_snapshot_is_read_from_any_position
            an_unfinished_snapshot_leaves_nothing
            the_snapshot_that_ends_last_is_the_newest
            several_snapshots_are_written_at_once
            a_snapshot_stays_readable_while_a_newer_one_replaces_it
            a_crash_between_a_snapshot_and_its_reset_leaves_the_log_as_it_was
        );
    };
    (@tests $under_test:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::testing::storage::$check(&mut $under_test);
            }
        )*
    };
}

/// What the log of a storage under test should hold.
#[derive(Clone, Debug)]
struct Expected {
    hard_state: HardState,
    start: SnapshotMeta,
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
}

impl Expected {
    fn terms(&self) -> TermRuns {
        let mut terms = TermRuns::new(self.start.last);
        for entry in &self.entries {
            assert!(terms.push(entry.id.term), "the check itself is right");
        }
        terms
    }

    /// The incarnation is the storage's own.
    fn restored(&self, incarnation: Incarnation) -> Restored {
        let configurations = self.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((entry.id.index, configuration.clone())),
            Payload::Empty | Payload::Command(_) => None,
        });
        Restored {
            incarnation,
            configurations: configurations.collect(),
            hard_state: self.hard_state,
            start: self.start.clone(),
            terms: self.terms(),
            snapshot: self.snapshot.clone(),
        }
    }

    /// Fails unless `storage` holds this, and all entries can be read.
    fn check(&self, storage: &dyn Storage) {
        let loaded = load(storage);
        assert_eq!(loaded, self.restored(loaded.incarnation));
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else { return };
        assert_eq!(read_all(storage, first.id.index.0, last.id.index.0), self.entries);
    }
}

fn configuration() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId), [])
}

fn empty() -> Expected {
    Expected {
        hard_state: HardState::default(),
        start: SnapshotMeta { last: EntryId::ZERO, configuration: configuration() },
        entries: Vec::new(),
        snapshot: None,
    }
}

/// A snapshot that ends with the entry of `term` at `index`, with a configuration of its own.
fn meta(term: u64, index: u64) -> SnapshotMeta {
    let configuration = Configuration::joint(
        [1, 2, 100 + index].map(NodeId),
        [1, 2, 3].map(NodeId),
        [NodeId(1000)],
    );
    SnapshotMeta { last: EntryId::new(Term(term), LogIndex(index)), configuration }
}

fn hard_state(term: u64, vote: Option<u64>, commit: u64) -> HardState {
    let vote =
        vote.map(|id| Vote { candidate: NodeId(id), incarnation: Incarnation(u64::MAX - id) });
    HardState { term: Term(term), vote, commit: LogIndex(commit) }
}

/// Entries of `term` from `first` up to `last`, whose payloads say what they are. Each fourth carries a configuration.
fn entries(term: u64, first: u64, last: u64) -> Vec<Entry> {
    let entry = |index: u64| {
        let id = EntryId::new(Term(term), LogIndex(index));
        if !index.is_multiple_of(4) {
            return Entry::command(id, Bytes::from(format!("entry {id}")));
        }
        let members = [Member::new(NodeId(index), format!("address of {id}"))];
        Entry { id, payload: Payload::Configuration(Configuration::of_members(members, [], [])) }
    };
    (first..=last).map(entry).collect()
}

/// A write that changes nothing yet.
fn nothing() -> Write {
    Write {
        id: WriteId(0),
        reset: None,
        compact: None,
        entries: Vec::new().into(),
        hard_state: None,
    }
}

fn append(entries: Vec<Entry>) -> Write {
    Write { entries: entries.into(), ..nothing() }
}

fn write(storage: &dyn Storage, write: Write) {
    block_on(storage.write(write)).expect("the write is durable");
}

fn load(storage: &dyn Storage) -> Restored {
    block_on(storage.load()).expect("the storage can be loaded")
}

fn read(storage: &dyn Storage, first: u64, last: u64, bytes_max: usize) -> Option<Vec<Entry>> {
    block_on(storage.read(LogIndex(first), LogIndex(last), bytes_max)).expect("the log can be read")
}

/// Reads in as many pieces as the storage likes.
fn read_all(storage: &dyn Storage, first: u64, last: u64) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut next = first;
    while next <= last {
        let piece = read(storage, next, last, usize::MAX).expect("the entry is in the log");
        assert!(!piece.is_empty(), "a read returns at least one entry");
        next += piece.len() as u64;
        all.extend(piece);
    }
    all
}
