//! The storage of a node on a simulated disk: its contract, and what is left of it after crashes.

use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::BoxFuture;
use raft_rsm::raft_core::{
    Configuration, Entry, EntryId, HardState, Incarnation, LogIndex, NodeId, Payload, SnapshotMeta,
    Term, Vote, Write, WriteId,
};
use raft_rsm::storage::{FileStorage, FileStorageOptions, Storage, StorageError};
use raft_rsm::testing::storage::StorageUnderTest;
use raft_rsm::{ClusterId, Runtime};

use super::super::{Disk, DiskCounters, Lie, Operation};
use crate::event::Crash;
use crate::random::Random;

/// Does blocking work at once: storage needs no more.
#[derive(Debug)]
struct Inline;

impl Runtime for Inline {
    fn spawn(&self, name: &str, _: BoxFuture<'static, ()>) {
        unreachable!("storage spawns {name}");
    }

    fn spawn_blocking(&self, _: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        unreachable!("storage sleeps for {duration:?}");
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&self) -> u64 {
        0x5eed
    }
}

fn options() -> FileStorageOptions {
    FileStorageOptions::new("/data", ClusterId(7), NodeId(1))
}

fn create(
    disk: &Disk,
    options: &FileStorageOptions,
    configuration: Configuration,
) -> Result<FileStorage, StorageError> {
    let (options, fs) = (options.clone(), disk.mount());
    block_on(FileStorage::create(options, configuration, fs, Arc::new(Inline)))
}

fn open(disk: &Disk, options: &FileStorageOptions) -> Result<FileStorage, StorageError> {
    block_on(FileStorage::open(options.clone(), disk.mount(), Arc::new(Inline)))
}

struct OnDisk(Disk);

impl StorageUnderTest for OnDisk {
    fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
        Arc::new(create(&self.0, &options(), configuration).unwrap())
    }

    fn crash(&mut self) -> Arc<dyn Storage> {
        self.0.end_life(Crash::PowerLost);
        Arc::new(open(&self.0, &options()).unwrap())
    }
}

mod contract {
    raft_rsm::storage_conformance!(super::OnDisk(super::Disk::new(super::Random::new(1))));
}

/// What a storage should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    start: EntryId,
    entries: Vec<Entry>,
}

impl Model {
    fn of(storage: &FileStorage) -> Model {
        let restored = block_on(storage.load()).unwrap();
        let (start, last) = (restored.start.last, restored.terms.last().index);
        let read = block_on(storage.read(start.index.next(), last, usize::MAX)).unwrap();
        Model { hard_state: restored.hard_state, start, entries: read.unwrap_or_default() }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start, |entry| entry.id)
    }

    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.compact {
            self.start = snapshot.last;
            self.entries.retain(|entry| entry.id.index > snapshot.last.index);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(write.entries.iter().cloned());
        }
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }

    /// A write as a node makes them.
    fn draw(&self, random: &mut Random) -> Write {
        let (mut last, mut start) = (self.last(), self.start.index.0);
        let mut compact = None;
        if random.chance(0.1) && !self.entries.is_empty() {
            let last = random.choose(&self.entries).id;
            start = last.index.0;
            compact = Some(SnapshotMeta { last, configuration: configuration() });
        }
        if random.chance(0.1) {
            // It replaces a part of the log, in a new term.
            let index = random.within(start..last.index.0 + 1);
            last = EntryId::new(last.term.next(), LogIndex(index));
        }
        let mut entries = Vec::new();
        for _ in 0..random.within(1..5) {
            last = EntryId::new(Term(last.term.0.max(1)), last.index.next());
            let payload = match random.index(6) {
                0 => Payload::Empty,
                1 => Payload::Command(vec![7; random.index(3000)].into()),
                _ => Payload::Command(format!("{last} {}", random.next()).into()),
            };
            entries.push(Entry { id: last, payload });
        }
        let hard_state = random.chance(0.5).then(|| HardState {
            term: last.term,
            vote: random
                .chance(0.5)
                .then_some(Vote { candidate: NodeId(2), incarnation: Incarnation(3) }),
            commit: LogIndex(start),
        });
        Write { id: WriteId(0), reset: None, compact, entries: entries.into(), hard_state }
    }
}

fn configuration() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId), [])
}

/// Writes to the storage, and before a compaction a snapshot.
fn write(storage: &FileStorage, write: &Write) -> Result<(), StorageError> {
    if let Some(meta) = &write.compact {
        storage.create_snapshot(meta.clone())?.finish()?;
    }
    block_on(storage.write(write.clone()))
}

const BREAKABLE: [Operation; 7] = [
    Operation::Sync,
    Operation::Sync,
    Operation::Write,
    Operation::Create,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDirectory,
];

/// One life after the other on one disk, each ended in its own way; fails when a storage does not hold what it
/// has acknowledged.
fn live(seed: u64, lie: Option<Lie>) -> Result<DiskCounters, String> {
    let mut random = Random::new(seed);
    let disk = Disk::new(random.fork("disk"));
    let mut options = options();
    options.segment_bytes = random.within(200..6000);
    options.preallocate_bytes = random.within(0..3) * 500;
    let mut storage = create(&disk, &options, configuration()).unwrap();
    disk.lie(lie);
    let mut model = Model::of(&storage);
    for _ in 0..6 {
        match random.index(4) {
            0 => {}
            1 => disk.fail_next(*random.choose(&BREAKABLE), 1, std::io::ErrorKind::Other),
            kind => {
                let crash = if kind == 2 { Crash::Killed } else { Crash::PowerLost };
                disk.cut_within_work(u32::try_from(random.within(0..60)).unwrap(), crash);
            }
        }
        let mut allowed = vec![];
        for _ in 0..random.within(0..30) {
            let next = model.draw(&mut random);
            let before = model.clone();
            model.write(&next);
            if write(&storage, &next).is_err() {
                allowed.push(before);
                break;
            }
        }
        allowed.push(model.clone());
        drop(storage);
        disk.heal();
        disk.end_life(*random.choose(&[Crash::Killed, Crash::PowerLost]));
        if random.chance(0.3) {
            let crash = *random.choose(&[Crash::Killed, Crash::PowerLost]);
            disk.cut_within_work(u32::try_from(random.within(0..6)).unwrap(), crash);
            drop(open(&disk, &options));
            disk.heal();
            disk.end_life(Crash::PowerLost);
        }
        storage = open(&disk, &options).map_err(|error| format!("seed {seed}: {error}"))?;
        model = Model::of(&storage);
        if !allowed.contains(&model) {
            return Err(format!("seed {seed}: {model:?} is none of {allowed:?}"));
        }
    }
    Ok(disk.counters())
}

#[test]
fn after_every_crash_the_storage_holds_what_it_acknowledged() {
    let mut counters = DiskCounters::default();
    for seed in 0..300 {
        counters.add(&live(seed, None).unwrap());
    }
    let DiskCounters { unsynced_kept, unsynced_lost, unsynced_torn, .. } = counters;
    assert!(unsynced_kept.min(unsynced_lost).min(unsynced_torn) > 100, "{counters:?}");
    assert!(counters.renames_undone > 10 && counters.failed_syncs > 10, "{counters:?}");
    assert_eq!((counters.forgotten, counters.fallbacks), (0, 0));
}

#[test]
fn every_lie_makes_a_storage_forget_what_it_acknowledged() {
    let lies = [
        Lie::AcknowledgesBeforeDurable,
        Lie::ForgetsSynced { syncs: 1 },
        Lie::ForgetsSynced { syncs: 3 },
        Lie::FallsBack { syncs: 5 },
    ];
    for lie in lies {
        let noticed = (0..20).filter(|seed| live(*seed, Some(lie)).is_err()).count();
        assert!(noticed > 10, "{lie:?}: {noticed} of 20");
    }
}

#[test]
fn the_same_seed_makes_the_same_disk() {
    for seed in 0..20 {
        assert_eq!(live(seed, None), live(seed, None));
    }
}
