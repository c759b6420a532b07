//! Disks that fail, are slow or full, rot, lie or lose their power in the course of a change.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use super::super::{DiskCounters, Lie, Operation, Speed};
use super::*;

#[test]
fn the_power_fails_in_the_course_of_a_change_and_stays_off() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let (disk, fs, file) = disk_with(seed, b"---");
        disk.cut_within_work(2, Crash::PowerLost);
        file.write_at(b"a", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(file.len_bytes().unwrap(), 3);
        assert!(disk.was_cut().is_none());
        assert_eq!(kind(file.write_at(b"b", 1)), Some(ErrorKind::Other));
        assert_eq!(disk.was_cut(), Some(Crash::PowerLost));
        assert_eq!(kind(file.write_at(b"c", 2)), Some(ErrorKind::Other));
        assert_eq!(kind(file.len_bytes()), Some(ErrorKind::Other));
        assert_eq!(kind(fs.list(path("/"))), Some(ErrorKind::Other));
        // However the process ends: the power was off.
        disk.end_life(Crash::Killed);
        assert!(disk.was_cut().is_none());
        left.insert(contents(&disk, "/a").unwrap());
        disk.mount().open(path("/a")).unwrap().write_at(b"d", 0).unwrap();
    }
    assert_eq!(left, BTreeSet::from([b"a--".to_vec(), b"ab-".to_vec()]));
}

#[test]
fn a_power_that_fails_in_the_course_of_any_change_leaves_it_done_or_not() {
    type Change = fn(&dyn FileSystem, &dyn File) -> io::Result<()>;
    let changes: [(Change, usize); 7] = [
        (|fs, _| fs.create(path("/b")).map(drop), 2),
        (|fs, _| fs.rename(path("/a"), path("/b")), 2),
        (|fs, _| fs.remove(path("/a")), 2),
        (|fs, _| fs.create_dir(path("/d")), 2),
        (|_, file| file.set_len(1), 2),
        (|_, file| file.sync(), 1),
        (|fs, _| fs.sync_dir(path("/")), 1),
    ];
    for (change, outcomes) in changes {
        let mut left = BTreeSet::new();
        for seed in 0..50 {
            let (disk, fs, file) = disk_with(seed, b"abc");
            disk.cut_within_work(0, Crash::PowerLost);
            assert_eq!(kind(change(fs.as_ref(), file.as_ref())), Some(ErrorKind::Other));
            assert_eq!(disk.was_cut(), Some(Crash::PowerLost));
            disk.end_life(Crash::PowerLost);
            let fs = disk.mount();
            left.insert((fs.list(path("/")).unwrap(), contents(&disk, "/a")));
        }
        assert_eq!(left.len(), outcomes, "{left:?}");
    }
}

#[test]
fn a_process_that_is_killed_within_its_work_leaves_what_it_wrote_shown_but_not_durable() {
    let (mut shown, mut after_power_loss) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..100 {
        let (disk, fs, file) = disk_with(seed, b"---");
        disk.cut_within_work(1, Crash::Killed);
        file.write_at(b"a", 0).unwrap();
        assert_eq!(kind(file.write_at(b"bc", 1)), Some(ErrorKind::Other));
        assert_eq!(disk.was_cut(), Some(Crash::Killed));
        assert_eq!(kind(file.sync()), Some(ErrorKind::Other));
        assert_eq!(kind(fs.list(path("/"))), Some(ErrorKind::Other));
        disk.end_life(Crash::Killed);
        assert_eq!(disk.was_cut(), None);
        shown.insert(contents(&disk, "/a").unwrap());
        let _fs = disk.mount();
        disk.end_life(Crash::PowerLost);
        after_power_loss.insert(contents(&disk, "/a").unwrap());
    }
    assert_eq!(shown, BTreeSet::from([b"a--".to_vec(), b"ab-".to_vec(), b"abc".to_vec()]));
    assert!(after_power_loss.contains(b"---".as_slice()), "{after_power_loss:?}");
}

#[test]
fn a_sync_that_the_power_interrupts_may_have_done_its_work() {
    let (mut whole, mut less) = (0, 0);
    for seed in 0..100 {
        let (disk, _, file) = disk_with(seed, &[0; 4]);
        file.write_at(&[1; 4], 0).unwrap();
        disk.cut_within_work(0, Crash::PowerLost);
        file.sync().unwrap_err();
        disk.end_life(Crash::PowerLost);
        match contents(&disk, "/a").unwrap() == [1; 4] {
            true => whole += 1,
            false => less += 1,
        }
    }
    assert!(whole > 50 && less > 10, "{whole} {less}");
}

#[test]
fn each_operation_fails_as_often_as_was_ordered_and_changes_nothing() {
    let (disk, fs, file) = disk_with(1, b"abc");
    type Attempt<'a> = Box<dyn Fn() -> Option<ErrorKind> + 'a>;
    let attempts: [(Operation, Attempt<'_>); 12] = [
        (Operation::Create, Box::new(|| kind(fs.create(path("/b"))))),
        (Operation::Open, Box::new(|| kind(fs.open(path("/a"))))),
        (Operation::Rename, Box::new(|| kind(fs.rename(path("/b"), path("/c"))))),
        (Operation::Remove, Box::new(|| kind(fs.remove(path("/c"))))),
        (Operation::List, Box::new(|| kind(fs.list(path("/"))))),
        (Operation::CreateDirectory, Box::new(|| kind(fs.create_dir(path("/d"))))),
        (Operation::SyncDirectory, Box::new(|| kind(fs.sync_dir(path("/"))))),
        (Operation::Lock, Box::new(|| kind(fs.lock(path("/l"))))),
        (Operation::Read, Box::new(|| kind(file.read_at(&mut [0], 0)))),
        (Operation::Write, Box::new(|| kind(file.write_at(b"abc", 0)))),
        (Operation::Sync, Box::new(|| kind(file.sync()))),
        (Operation::SetLength, Box::new(|| kind(file.set_len(2)))),
    ];
    for (operation, attempt) in attempts {
        disk.fail_next(operation, 2, ErrorKind::PermissionDenied);
        let before = (disk.files(), contents(&disk, "/a"));
        for _ in 0..2 {
            assert_eq!(attempt(), Some(ErrorKind::PermissionDenied), "{operation:?}");
        }
        assert_eq!((disk.files(), contents(&disk, "/a")), before, "{operation:?}");
        assert_eq!(attempt(), None, "{operation:?}");
        disk.fail_next(operation, 1, ErrorKind::PermissionDenied);
        disk.fail_next(operation, 0, ErrorKind::PermissionDenied);
        assert_ne!(attempt(), Some(ErrorKind::PermissionDenied), "{operation:?}");
    }
    let DiskCounters { failed_writes, failed_syncs, failed_others, .. } = disk.counters();
    assert_eq!((failed_writes, failed_syncs, failed_others), (2, 4, 18));
}

#[test]
fn a_write_that_fails_may_be_done_in_part() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let (disk, _, file) = disk_with(seed, b"--");
        disk.fail_next(Operation::Write, 1, ErrorKind::Other);
        assert_eq!(kind(file.write_at(b"ab", 0)), Some(ErrorKind::Other));
        left.insert(contents(&disk, "/a").unwrap());
    }
    assert_eq!(left, [b"--", b"a-", b"ab"].map(|left| left.to_vec()).into());
}

#[test]
fn after_a_failed_sync_of_a_directory_the_next_one_makes_all_durable() {
    for seed in 0..50 {
        let (disk, fs, _) = disk_with(seed, b"abc");
        fs.rename(path("/a"), path("/b")).unwrap();
        fs.rename(path("/b"), path("/c")).unwrap();
        disk.fail_next(Operation::SyncDirectory, 1, ErrorKind::Other);
        assert_eq!(kind(fs.sync_dir(path("/"))), Some(ErrorKind::Other));
        if seed % 2 == 0 {
            fs.sync_dir(path("/")).unwrap();
        }
        let names = names_after_power_loss(&disk);
        assert_eq!(names.len(), 1);
        assert!(seed % 2 == 1 || names == ["/c"], "{names:?}");
    }
}

#[test]
fn a_full_disk_takes_what_does_not_grow_it_until_there_is_room_again() {
    let (disk, fs, file) = disk_with(1, b"abc");
    disk.set_full(true);
    let full = Some(ErrorKind::StorageFull);
    file.write_at(b"def", 0).unwrap();
    file.set_len(3).unwrap();
    assert_eq!(kind(file.write_at(b"xy", 2)), full);
    assert_eq!(contents(&disk, "/a").unwrap(), b"dex");
    assert_eq!(kind(file.set_len(4)), full);
    assert_eq!(kind(fs.create(path("/b"))), full);
    assert_eq!(kind(fs.create_dir(path("/b"))), full);
    assert_eq!(disk.counters().full, 4);
    file.set_len(1).unwrap();
    file.write_at(b"gh", 1).unwrap();
    disk.set_full(false);
    file.write_at(b"0123456789", 0).unwrap();
    disk.set_capacity_bytes(Some(12));
    assert_eq!(kind(file.write_at(b"abc", 10)), full);
    assert_eq!(contents(&disk, "/a").unwrap(), b"0123456789ab");
}

#[test]
fn work_on_the_disk_takes_its_latency_and_waits_while_it_is_stuck() {
    let (disk, second) = (disk(1), Duration::from_secs(1));
    let normal = Speed::default().latency;
    for name in ["write", "load", "read", "open storage", "snapshot", "receive snapshot"] {
        assert!(normal.contains(&disk.work_time(second, name)), "{name}");
    }
    assert_eq!(disk.work_time(second, "apply"), Duration::ZERO);
    disk.set_speed(Speed { latency: second..second, factor: 3 });
    assert_eq!(disk.work_time(second, "write"), 3 * second);
    disk.set_stuck_until(Some(10 * second));
    assert_eq!(disk.work_time(4 * second, "write"), 9 * second);
    assert_eq!(disk.work_time(11 * second, "write"), 3 * second);
    assert_eq!(disk.work_time(4 * second, "apply"), Duration::ZERO);
    assert_eq!(disk.counters().stuck_works, 1);
    disk.heal();
    assert_eq!(disk.work_time(4 * second, "write"), second);
}

#[test]
fn healing_takes_back_what_has_not_happened_yet() {
    let (disk, _, file) = disk_with(1, b"abc");
    disk.cut_within_work(0, Crash::PowerLost);
    disk.fail_next(Operation::Write, 5, ErrorKind::Other);
    disk.set_full(true);
    disk.heal();
    file.write_at(b"defgh", 0).unwrap();
    file.sync().unwrap();
    assert!(disk.was_cut().is_none());
}

#[test]
fn a_rotten_bit_is_one_of_a_file_at_rest_and_stays() {
    assert_eq!(disk(1).rot(), None);
    let (disk, fs, file) = disk_with(1, &[0xff; 100]);
    fs.create(path("/empty")).unwrap();
    file.write_at(b"x", 0).unwrap();
    assert_eq!(disk.rot(), None, "nothing is durable as it is shown");
    file.write_at(&[0xff], 0).unwrap();
    file.sync().unwrap();
    let place = disk.rot().unwrap();
    assert!(place.ends_with(" of /a"), "{place}");
    for _ in 0..2 {
        let zeroes: u32 =
            contents(&disk, "/a").unwrap().iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(zeroes, 1);
        disk.end_life(Crash::PowerLost);
    }
    assert_eq!(disk.counters().rotten_bits, 1);
}

#[test]
fn a_wiped_disk_is_empty_and_its_process_is_dead() {
    let (disk, fs, file) = disk_with(1, b"abc");
    disk.wipe();
    assert_eq!(kind(file.len_bytes()), Some(ErrorKind::Other));
    assert_eq!(kind(fs.list(path("/"))), Some(ErrorKind::Other));
    assert_eq!(disk.mount().list(path("/")).unwrap(), [""; 0]);
    assert_eq!((disk.used_bytes(), disk.files().len(), disk.counters().wipes), (0, 0, 1));
    assert!(names_after_power_loss(&disk).is_empty());
}

#[test]
fn a_disk_that_acknowledges_before_it_is_durable_loses_the_last_of_what_it_acknowledged() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let (disk, _, file) = disk_with(seed, b"---");
        disk.lie(Some(Lie::AcknowledgesBeforeDurable));
        for (offset, data) in [b"a", b"b", b"c"].into_iter().enumerate() {
            file.write_at(data, offset as u64).unwrap();
            file.sync().unwrap();
        }
        disk.end_life(Crash::PowerLost);
        let found = contents(&disk, "/a").unwrap();
        let lost = found.iter().filter(|byte| **byte == b'-').count();
        assert_eq!(disk.counters().forgotten, lost as u64);
        left.insert(found);
    }
    assert_eq!(left, [b"---", b"a--", b"ab-", b"abc"].map(|left| left.to_vec()).into());
}

#[test]
fn a_disk_that_forgets_loses_the_last_syncs_of_each_file_unless_it_became_honest() {
    for (honest, expected) in [(false, b"a--"), (true, b"abc")] {
        let (disk, _, file) = disk_with(1, b"---");
        disk.lie(Some(Lie::ForgetsSynced { syncs: 2 }));
        for (offset, data) in [b"a", b"b", b"c"].into_iter().enumerate() {
            file.write_at(data, offset as u64).unwrap();
            file.sync().unwrap();
        }
        if honest {
            disk.lie(None);
        }
        disk.end_life(Crash::PowerLost);
        assert_eq!(contents(&disk, "/a").unwrap(), expected);
        assert_eq!(disk.counters().forgotten, if honest { 0 } else { 2 });
    }
}

#[test]
fn a_disk_that_falls_back_shows_all_files_as_they_were_some_syncs_ago() {
    for crash in [Crash::Killed, Crash::PowerLost] {
        let (disk, fs, file) = disk_with(1, b"-");
        disk.lie(Some(Lie::FallsBack { syncs: 3 }));
        for data in [b"a", b"b", b"c", b"d", b"e"] {
            file.write_at(data, 0).unwrap();
            file.sync().unwrap();
        }
        fs.create_dir(path("/d")).unwrap();
        fs.rename(path("/a"), path("/b")).unwrap();
        fs.sync_dir(path("/")).unwrap();
        disk.end_life(crash);
        assert_eq!(contents(&disk, "/a").unwrap(), b"c");
        assert_eq!(disk.mount().list(path("/")).unwrap(), ["a"]);
        assert_eq!(disk.counters().fallbacks, 1);
    }
}
