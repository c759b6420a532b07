//! The last survivor of a cluster begins a new one with what it has.

use std::sync::Arc;

use futures::executor::block_on;
use raft_rsm::raft_core::{
    Configuration, Entry, EntryId, HardState, LogIndex, Member, NodeId, Payload, Restored,
    SnapshotMeta, Term, Vote, Write, WriteId,
};
use raft_rsm::storage::{FileStorage, FileStorageOptions, Recovered, Recovery, StorageError};
use raft_rsm::{Cluster, Incarnation, Storage};

use crate::storage_disk::TestDisk;
use crate::storage_stand::{InlineRuntime, create, open, options};

fn old_members() -> Configuration {
    Configuration::of_members(
        (1..=3).map(|id| Member::new(NodeId(id), format!("old:{id}"))),
        [],
        [],
    )
}

fn alone() -> Cluster {
    "1=new:1".parse().unwrap()
}

fn command(term: u64, index: u64) -> Entry {
    let payload = Payload::Command(format!("{term} {index}").into());
    Entry { id: EntryId::new(Term(term), LogIndex(index)), payload }
}

/// Ten entries, of which six are known to be committed.
fn written() -> Write {
    let hard_state = HardState {
        term: Term(4),
        vote: Some(Vote { candidate: NodeId(2), incarnation: Incarnation(3) }),
        commit: LogIndex(6),
    };
    Write {
        id: WriteId(1),
        reset: None,
        compact: None,
        entries: (1..=10).map(|index| command(3, index)).collect::<Vec<_>>().into(),
        hard_state: Some(hard_state),
    }
}

/// The disk of a node that was a member of three.
fn survivor(seed: u64) -> TestDisk {
    let disk = TestDisk::new(seed);
    let storage = create(&disk, &options(), old_members()).unwrap();
    block_on(storage.write(written())).unwrap();
    disk
}

fn recovery(disk: &TestDisk) -> Result<Recovery, StorageError> {
    let runtime = Arc::new(InlineRuntime::default());
    block_on(Recovery::open(options().dir, disk.life(), runtime))
}

fn recover(disk: &TestDisk, members: &Cluster) -> Result<Recovered, StorageError> {
    block_on(recovery(disk)?.begin_cluster(members))
}

fn open_whichever(disk: &TestDisk) -> Result<FileStorage, StorageError> {
    open(disk, &FileStorageOptions { cluster: None, ..options() })
}

fn load(storage: &FileStorage) -> Restored {
    block_on(storage.load()).unwrap()
}

fn entries(storage: &FileStorage, last: u64) -> Vec<Entry> {
    block_on(storage.read(LogIndex(1), LogIndex(last), 1 << 20)).unwrap().unwrap()
}

#[test]
fn all_that_the_survivor_has_counts_and_it_alone_decides() {
    let disk = survivor(1);
    let recovered = recover(&disk, &alone()).unwrap();
    assert_eq!(recovered.last, EntryId::new(Term(3), LogIndex(10)));
    assert_eq!(recovered.commit, LogIndex(6));
    let sentence = recovered.to_string();
    assert!(sentence.contains("entries up to 6 are known to have been committed"), "{sentence}");
    assert!(sentence.contains("lost, or replaced by what this log holds up to entry 10 of term 3"));
    assert!(sentence.contains("from 7 to 10"), "{sentence}");

    let storage = open_whichever(&disk).unwrap();
    assert_eq!(storage.identity(), recovered.identity);
    let restored = load(&storage);
    assert_eq!(restored.incarnation, recovered.identity.incarnation);
    let id = EntryId::new(Term(5), LogIndex(11));
    assert_eq!(restored.terms.last(), id);
    assert_eq!(restored.hard_state, HardState { term: id.term, vote: None, commit: id.index });
    let own = Member::of_incarnation(NodeId(1), restored.incarnation, "new:1");
    let configuration = Configuration::of_members([own], [], []);
    assert_eq!(restored.configurations, [(id.index, configuration)]);
    assert_eq!(entries(&storage, 10), written().entries.iter().cloned().collect::<Vec<_>>());
}

/// Node 1 led term 2 and gave entries 51 to 100 to node 2 alone; node 3 was elected in term 3 and had 51 to 90 committed, by
/// node 5 among others. Node 2 has the longer log, and nothing of what was committed (§5.4.1).
#[test]
fn of_two_survivors_the_one_whose_last_entry_has_the_higher_term_is_ahead_whatever_the_indexes() {
    let last = |seed, terms: [(u64, std::ops::RangeInclusive<u64>); 2]| {
        let disk = TestDisk::new(seed);
        let storage = create(&disk, &options(), old_members()).unwrap();
        let entries = terms
            .into_iter()
            .flat_map(|(term, indexes)| indexes.map(move |index| command(term, index)));
        let entries = entries.collect::<Vec<_>>().into();
        block_on(storage.write(Write { entries, ..written() })).unwrap();
        drop(storage);
        let last = recovery(&disk).unwrap().last();
        assert_eq!(recover(&disk, &alone()).unwrap().last, last);
        last
    };
    let second = last(1, [(2, 1..=50), (2, 51..=100)]);
    let fifth = last(2, [(2, 1..=50), (3, 51..=90)]);
    assert!(second.index > fifth.index);
    assert_eq!(second.max(fifth), fifth);
}

#[test]
fn it_belongs_to_the_old_cluster_no_more() {
    let disk = survivor(2);
    let before = recovery(&disk).unwrap().identity();
    let recovered = recover(&disk, &alone()).unwrap();
    assert_ne!(recovered.identity.cluster, before.cluster);
    assert_ne!(recovered.identity.incarnation, before.incarnation);
    assert_eq!(recovered.identity.node, before.node);
    let error = open(&disk, &options()).unwrap_err().to_string();
    assert!(error.contains("belongs to cluster"), "{error}");
}

#[test]
fn the_others_are_learners_whose_incarnation_nobody_knows_yet() {
    let disk = survivor(3);
    recover(&disk, &"1=new:1,5=new:5".parse().unwrap()).unwrap();
    let restored = load(&open_whichever(&disk).unwrap());
    let (_, configuration) = restored.configurations.last().unwrap();
    assert_eq!(configuration.voters().len(), 1);
    assert_eq!(configuration.learners(), [Member::new(NodeId(5), "new:5")]);
}

#[test]
fn a_survivor_that_is_not_to_be_a_member_and_a_directory_in_use_are_refused() {
    let disk = survivor(4);
    let error = recover(&disk, &"2=new:2".parse().unwrap()).unwrap_err();
    assert!(matches!(error, StorageError::Refused { .. }), "{error}");
    let storage = open(&disk, &options()).unwrap();
    assert!(matches!(recovery(&disk), Err(StorageError::InUse { .. })));
    drop(storage);
    recovery(&disk).unwrap();
    open(&disk, &options()).expect("it was only looked at");
}

#[test]
fn a_node_that_was_never_a_member_has_nothing_to_begin_with() {
    let disk = TestDisk::new(5);
    drop(create(&disk, &options(), Configuration::default()).unwrap());
    let error = recovery(&disk).unwrap_err();
    assert!(error.to_string().contains("never been a member"), "{error}");
}

#[test]
fn what_was_received_as_a_snapshot_and_is_not_in_the_log_yet_counts_too() {
    let disk = survivor(6);
    let storage = open(&disk, &options()).unwrap();
    let last = EntryId::new(Term(4), LogIndex(40));
    let meta = SnapshotMeta { last, configuration: old_members() };
    storage.create_snapshot(meta.clone()).unwrap().finish().unwrap();
    drop(storage);
    let recovered = recover(&disk, &alone()).unwrap();
    assert_eq!((recovered.last, recovered.commit), (last, last.index));
    let restored = load(&open_whichever(&disk).unwrap());
    assert_eq!(restored.start, meta);
    assert_eq!(restored.terms.last(), EntryId::new(Term(5), LogIndex(41)));
}

#[test]
fn it_may_be_recovered_again_and_goes_on_with_files_of_all_its_lives() {
    let disk = survivor(7);
    let mut options = FileStorageOptions { cluster: None, ..options() };
    // Every write is followed by a new file.
    options.segment_bytes = 1;
    for life in 0..3 {
        recover(&disk, &alone()).unwrap();
        let storage = open(&disk, &options).unwrap();
        let last = load(&storage).terms.last();
        assert_eq!(last.index, LogIndex(11 + 2 * life));
        let entries = vec![command(last.term.0, last.index.0 + 1)].into();
        let write = Write { entries, hard_state: None, ..written() };
        block_on(storage.write(write)).unwrap();
        assert_eq!(entries_len(&storage), 12 + 2 * life);
    }
}

/// Whether this incarnation of the survivor alone decides.
fn is_sole_voter(configuration: &Configuration, incarnation: Incarnation) -> bool {
    let [voter] = configuration.voters() else { return false };
    !configuration.is_joint() && voter.is(NodeId(1), incarnation)
}

fn entries_len(storage: &FileStorage) -> u64 {
    entries(storage, load(storage).terms.last().index.0).len() as u64
}

/// The old directory, or one that is recovered, or one that says that the recovery is to be done once more.
#[test]
fn a_recovery_that_crashes_anywhere_has_not_begun_or_is_completed_by_the_next() {
    let mut interrupted = 0;
    for seed in 0..20 {
        for dies_after in 1..40 {
            let disk = survivor(seed);
            disk.die_after(dies_after);
            let done = recover(&disk, &alone()).ok();
            if seed % 2 == 0 {
                disk.crash()
            } else {
                disk.kill()
            }
            match open_whichever(&disk) {
                Ok(storage) if load(&storage).terms.last().index == LogIndex(10) => {
                    assert!(done.is_none(), "seed {seed}, {dies_after}: it was done");
                    open(&disk, &options()).expect_err("it is in use");
                }
                Ok(storage) => {
                    let restored = load(&storage);
                    let (_, configuration) = restored.configurations.last().unwrap();
                    assert!(is_sole_voter(configuration, restored.incarnation));
                    continue;
                }
                Err(StorageError::Refused { problem, .. }) => {
                    assert!(problem.contains("once more"), "{problem}");
                    interrupted += 1;
                }
                Err(error) => panic!("seed {seed}, {dies_after}: {error}"),
            }
            recover(&disk, &alone())
                .unwrap_or_else(|error| panic!("seed {seed}, {dies_after}: {error}"));
            disk.crash();
            let storage = open_whichever(&disk).unwrap();
            let restored = load(&storage);
            let (_, configuration) = restored.configurations.last().unwrap();
            assert!(is_sole_voter(configuration, restored.incarnation));
            assert_eq!(entries(&storage, 10).len(), 10);
        }
    }
    assert!(interrupted > 0);
}
