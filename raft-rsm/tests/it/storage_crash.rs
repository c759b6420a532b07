//! Random writes on a disk that crashes at random points: after each restart the storage holds what was
//! acknowledged, and of the write that was interrupted all or nothing.

use std::io::{Read as _, Write as _};

use futures::executor::block_on;
use raft_rsm::Storage;
use raft_rsm::raft_core::{
    Configuration, Entry, EntryId, HardState, Incarnation, LogIndex, NodeId, Payload, Restored,
    SnapshotMeta, Term, TermRuns, Vote, Write, WriteId,
};
use raft_rsm::storage::{FileStorage, MemoryStorage, StorageError};

use crate::storage_disk::TestDisk;
use crate::storage_stand::{create, mix, open, options};

/// What a storage should hold, by the plainest means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    start: SnapshotMeta,
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
}

impl Model {
    fn new(configuration: Configuration) -> Model {
        let Restored { hard_state, start, snapshot, .. } = Restored::first_start(configuration);
        Model { hard_state, start, entries: Vec::new(), snapshot }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.last, |entry| entry.id)
    }

    fn take_snapshot(&mut self, meta: &SnapshotMeta) {
        if self.snapshot.as_ref().is_none_or(|old| old.last.index <= meta.last.index) {
            self.snapshot = Some(meta.clone());
        }
    }

    fn summary(&self) -> String {
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.last);
        let (start, last) = (self.start.last, self.last());
        format!("{start} to {last}, {:?}, snapshot {snapshot:?}", self.hard_state)
    }

    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.reset {
            self.start = snapshot.clone();
            self.entries.clear();
        }
        if let Some(snapshot) = &write.compact {
            self.start = snapshot.clone();
            self.entries.retain(|entry| entry.id.index > snapshot.last.index);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }

    fn of(storage: &dyn Storage) -> Result<Model, StorageError> {
        let Restored { incarnation: _, hard_state, start, terms, configurations, snapshot } =
            block_on(storage.load())?;
        let mut entries = Vec::new();
        let mut next = start.last.index.next();
        while next <= terms.last().index {
            let piece = block_on(storage.read(next, terms.last().index, 700))?;
            let piece = piece.unwrap_or_else(|| panic!("entry {next} of {terms:?} is missing"));
            next = LogIndex(next.0 + piece.len() as u64);
            entries.extend(piece);
        }
        let mut found = TermRuns::new(start.last);
        entries.iter().for_each(|entry| assert!(found.push(entry.id.term)));
        assert_eq!(found, terms);
        let carried = entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((entry.id.index, configuration.clone())),
            Payload::Empty | Payload::Command(_) => None,
        });
        assert_eq!(carried.collect::<Vec<_>>(), configurations);
        Ok(Model { hard_state, start, entries, snapshot })
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }

    fn configuration(&mut self) -> Configuration {
        Configuration::new((1..=1 + self.below(5)).map(NodeId), [])
    }

    fn entries(&mut self, mut id: EntryId) -> Vec<Entry> {
        let mut entries = Vec::new();
        for _ in 0..1 + self.below(6) {
            id = EntryId::new(Term(id.term.0 + self.below(4) / 3), id.index.next());
            let payload = match self.below(5) {
                0 => Payload::Empty,
                1 => Payload::Command(vec![7; usize::try_from(self.below(3000)).unwrap()].into()),
                _ => Payload::Command(format!("{id} {}", self.below(99)).into()),
            };
            entries.push(Entry { id, payload });
        }
        entries
    }

    /// A write as a node makes them. Where it resets or compacts, a snapshot comes first.
    fn write(&mut self, model: &Model) -> Write {
        let mut write = Write {
            id: WriteId(0),
            reset: None,
            compact: None,
            entries: Vec::new().into(),
            hard_state: None,
        };
        let mut last = model.last();
        let mut start = model.start.last;
        match self.below(12) {
            0 => {
                let index = LogIndex(last.index.0 + 1 + self.below(20));
                last = EntryId::new(last.term, index);
                start = last;
                write.reset = Some(SnapshotMeta { last, configuration: self.configuration() });
            }
            1 | 2 if !model.entries.is_empty() => {
                let at = self.below(model.entries.len() as u64);
                start = model.entries[usize::try_from(at).unwrap()].id;
                write.compact =
                    Some(SnapshotMeta { last: start, configuration: self.configuration() });
            }
            _ => {}
        }
        if self.below(4) > 0 {
            let mut previous = last;
            if self.below(4) == 0 && last.index > start.index {
                // Replaces a part of the log, in a new term.
                let back = self.below(last.index.0 - start.index.0).min(8);
                let index = last.index.0 - back - 1;
                previous = EntryId::new(last.term.next(), LogIndex(index));
            }
            write.entries = self.entries(previous).into();
            last = write.entries.last().unwrap().id;
        }
        if self.below(2) == 0 {
            let vote = (self.below(2) == 0).then(|| Vote {
                candidate: NodeId(self.below(3)),
                incarnation: Incarnation(self.below(3)),
            });
            let commit = LogIndex(start.index.0 + self.below(last.index.0 - start.index.0 + 1));
            write.hard_state = Some(HardState { term: last.term, vote, commit });
        }
        write
    }
}

fn image(meta: &SnapshotMeta) -> Vec<u8> {
    meta.last.to_string().repeat(50).into_bytes()
}

fn take_snapshot(storage: &dyn Storage, meta: &SnapshotMeta) -> Result<(), StorageError> {
    let mut writer = storage.create_snapshot(meta.clone())?;
    // What fails here, fails in `finish`.
    let _ = writer.write_all(&image(meta));
    writer.finish()
}

fn check_snapshot(storage: &dyn Storage, model: &Model) {
    let reader = storage.open_snapshot().unwrap();
    assert_eq!(reader.as_ref().map(|reader| reader.meta()), model.snapshot.as_ref());
    if let Some(mut reader) = reader {
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        assert_eq!(contents, image(reader.meta()));
    }
}

/// Takes a snapshot where it is due and writes. Returns what the storage may hold if it fails.
fn step(storage: &dyn Storage, model: &mut Model, write: &Write) -> Result<(), Vec<Model>> {
    if let Some(meta) = write.reset.as_ref().or(write.compact.as_ref()) {
        let before = model.clone();
        model.take_snapshot(meta);
        if take_snapshot(storage, meta).is_err() {
            return Err(vec![before, model.clone()]);
        }
    }
    let before = model.clone();
    model.write(write);
    block_on(storage.write(write.clone())).map_err(|_| vec![before, model.clone()])
}

/// One life after the other on one disk, each ended at a random point.
fn run(seed: u64) {
    let mut chance = Chance(seed);
    let disk = TestDisk::new(seed);
    let mut options = options();
    options.segment_bytes = 200 + chance.below(5000);
    options.preallocate_bytes = chance.below(3) * 500;
    let first = chance.configuration();
    let mut model = Model::new(first.clone());
    let mut storage: FileStorage = create(&disk, &options, first).unwrap();
    for _ in 0..8 {
        if chance.below(4) > 0 {
            disk.die_after(usize::try_from(1 + chance.below(60)).unwrap());
        }
        let mut allowed = None;
        for _ in 0..chance.below(40) {
            let write = chance.write(&model);
            if let Err(either) = step(&storage, &mut model, &write) {
                allowed = Some(either);
                break;
            }
        }
        let mut allowed = allowed.unwrap_or_else(|| vec![model.clone()]);
        // Some restarts die, too.
        for dies in [chance.below(3) == 0, false] {
            drop(storage);
            if chance.below(3) == 0 {
                disk.kill()
            } else {
                disk.crash()
            }
            if dies {
                disk.die_after(usize::try_from(1 + chance.below(6)).unwrap());
                if let Ok(storage) = open(&disk, &options) {
                    drop(storage);
                }
                disk.crash();
            }
            storage = open(&disk, &options)
                .unwrap_or_else(|error| panic!("seed {seed} {disk:?}: {error}"));
            model = Model::of(&storage).unwrap();
            assert!(
                allowed.contains(&model),
                "seed {seed}: {} is none of {:?}",
                model.summary(),
                allowed.iter().map(Model::summary).collect::<Vec<_>>(),
            );
            allowed = vec![model.clone()];
            check_snapshot(&storage, &model);
            let names = disk.state_of_dir(&options.dir.join("log"));
            assert!(names.iter().all(|name| !name.ends_with(".tmp")), "seed {seed}: {names:?}");
        }
    }
}

/// Pillai et al., OSDI '14: among others, new and renamed files whose directory was not synced.
#[test]
fn after_every_crash_the_storage_holds_what_was_acknowledged() {
    for seed in 0..400 {
        run(seed);
    }
}

#[test]
fn memory_and_disk_hold_the_same() {
    for seed in 0..50 {
        let mut chance = Chance(seed);
        let disk = TestDisk::new(seed);
        let mut options = options();
        options.segment_bytes = 1000;
        let first = chance.configuration();
        let on_disk = create(&disk, &options, first.clone()).unwrap();
        let in_memory = MemoryStorage::new(first.clone());
        let mut model = Model::new(first);
        for _ in 0..40 {
            let write = chance.write(&model);
            for storage in [&on_disk as &dyn Storage, &in_memory] {
                let mut model = model.clone();
                step(storage, &mut model, &write).unwrap();
                assert_eq!(Model::of(storage).unwrap(), model, "seed {seed}");
            }
            model.write(&write);
            if let Some(meta) = write.reset.or(write.compact) {
                model.take_snapshot(&meta);
            }
        }
    }
}

#[test]
fn a_creation_that_crashes_anywhere_begins_anew_or_is_complete() {
    for seed in 0..20 {
        for dies_after in 1..40 {
            let disk = TestDisk::new(seed);
            let first = Configuration::new([NodeId(1)], []);
            disk.die_after(dies_after);
            let created = create(&disk, &options(), first.clone()).is_ok();
            disk.crash();
            let storage = match create(&disk, &options(), first.clone()) {
                Ok(storage) => {
                    assert!(!created, "a storage that was created is not created again");
                    storage
                }
                Err(StorageError::Refused { problem, .. }) => {
                    assert!(problem.contains("already"), "{problem}");
                    open(&disk, &options()).unwrap()
                }
                Err(error) => panic!("seed {seed}, {dies_after}: {error}"),
            };
            assert_eq!(Model::of(&storage).unwrap(), Model::new(first));
        }
    }
}

#[test]
fn what_begins_anew_after_a_creation_that_was_killed_is_there_after_a_crash() {
    for seed in 0..20 {
        for dies_after in 1..40 {
            let disk = TestDisk::new(seed);
            let first = Configuration::new([NodeId(1)], []);
            disk.die_after(dies_after);
            drop(create(&disk, &options(), first.clone()));
            // What it did is in the memory of the system only.
            disk.kill();
            let storage = match create(&disk, &options(), first.clone()) {
                Ok(storage) => storage,
                Err(_) => open(&disk, &options()).unwrap(),
            };
            drop(storage);
            disk.crash();
            let storage = open(&disk, &options())
                .unwrap_or_else(|error| panic!("seed {seed}, {dies_after}: {error}"));
            assert_eq!(Model::of(&storage).unwrap(), Model::new(first));
        }
    }
}
