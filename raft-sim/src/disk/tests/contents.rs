//! What files hold, and what of it a crash leaves.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::super::inode::{Inode, Undone};
use super::*;

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut data = vec![0xee; 1000];
    let mut length = 0;
    loop {
        match file.read_at(&mut data[length..], length as u64).unwrap() {
            0 => break,
            read => length += read,
        }
    }
    data.truncate(length);
    data
}

#[test]
fn a_read_gets_as_much_as_it_likes_and_nothing_only_at_the_end() {
    let (_, _, file) = disk_with(1, b"abcdefgh");
    let mut lengths = BTreeSet::new();
    for _ in 0..1000 {
        let mut data = [0; 5];
        let read = file.read_at(&mut data, 2).unwrap();
        assert_eq!(data[..read], b"cdefg"[..read]);
        lengths.insert(read);
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for offset in [8, 9, u64::MAX] {
        assert_eq!(file.read_at(&mut [0; 5], offset).unwrap(), 0);
    }
}

#[test]
fn a_write_behind_the_end_and_an_extension_fill_with_zeroes() {
    let (_, _, file) = disk_with(1, b"abc");
    file.write_at(b"x", 5).unwrap();
    assert_eq!(read_all(file.as_ref()), b"abc\0\0x");
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(read_all(file.as_ref()), b"ab\0\0");
    assert_eq!(file.len_bytes().unwrap(), 4);
    file.write_at(b"", 100).unwrap();
    assert_eq!(file.len_bytes().unwrap(), 4);
    assert_eq!(kind(file.write_at(b"x", u64::MAX)), Some(ErrorKind::FileTooLarge));
    assert_eq!(kind(file.set_len(u64::MAX)), Some(ErrorKind::FileTooLarge));
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_leaves_it_unsynced() {
    let mut left = BTreeSet::new();
    for seed in 0..20 {
        let (disk, _, file) = disk_with(seed, b"old");
        file.write_at(b"new", 0).unwrap();
        disk.end_life(Crash::Killed);
        assert_eq!(contents(&disk, "/a").unwrap(), b"new");
        disk.mount().open(path("/a")).unwrap();
        disk.end_life(Crash::PowerLost);
        left.insert(contents(&disk, "/a").unwrap());
    }
    assert!(left.contains(b"new".as_slice()) && left.contains(b"old".as_slice()), "{left:?}");
}

#[test]
fn a_power_loss_keeps_loses_or_tears_each_write_that_was_not_synced() {
    let mut left = BTreeSet::new();
    for seed in 0..2000 {
        let (disk, _, file) = disk_with(seed, b"------");
        file.write_at(b"ab", 0).unwrap();
        file.write_at(b"cd", 4).unwrap();
        disk.end_life(Crash::PowerLost);
        let counters = disk.counters();
        let changes = counters.unsynced_kept + counters.unsynced_lost + counters.unsynced_torn;
        assert_eq!(changes, 2);
        left.insert(String::from_utf8(contents(&disk, "/a").unwrap()).unwrap());
    }
    let parts = ["--", "a-", "ab"].map(|a| ["--", "c-", "cd"].map(|c| format!("{a}--{c}")));
    let all: BTreeSet<String> = parts.into_iter().flatten().collect();
    assert_eq!(left, all);
}

#[test]
fn a_power_loss_keeps_any_sectors_of_a_write() {
    let mut left = BTreeSet::new();
    for seed in 0..300 {
        let (disk, _, file) = disk_with(seed, &[0; 1500]);
        file.write_at(&[1; 1000], 400).unwrap();
        disk.end_life(Crash::PowerLost);
        let found = contents(&disk, "/a").unwrap();
        let sectors = [&found[400..512], &found[512..1024], &found[1024..1400]];
        if sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])) {
            left.insert(sectors.map(|sector| sector[0]));
        }
    }
    assert_eq!(left.len(), 8);
}

#[test]
fn a_power_loss_keeps_or_undoes_a_new_length_that_was_not_synced() {
    for length in [1, 5] {
        let mut left = BTreeSet::new();
        for seed in 0..50 {
            let (disk, _, file) = disk_with(seed, b"abc");
            file.set_len(length).unwrap();
            disk.end_life(Crash::PowerLost);
            left.insert(contents(&disk, "/a").unwrap());
        }
        let mut new = b"abc".to_vec();
        new.resize(usize::try_from(length).unwrap(), 0);
        assert_eq!(left, BTreeSet::from([b"abc".to_vec(), new]));
    }
}

#[test]
fn what_was_synced_survives_every_power_loss_and_so_does_what_one_has_left() {
    for seed in 0..100 {
        let (disk, _, file) = disk_with(seed, b"abc");
        file.write_at(b"defg", 2).unwrap();
        file.sync().unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.end_life(Crash::PowerLost);
        let left = contents(&disk, "/a").unwrap();
        assert_eq!(&left[1..], b"bdefg");
        for _ in 0..10 {
            disk.end_life(Crash::PowerLost);
            assert_eq!(contents(&disk, "/a").unwrap(), left);
        }
    }
}

#[test]
fn the_way_back_leads_to_what_was_synced_and_the_way_forth_to_what_was_written() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (mut inode, mut shown, mut durable) = (Inode::default(), vec![], vec![]);
        for byte in 0..random.within(1..60) {
            let offset = random.index(40);
            match random.index(6) {
                0 => {
                    inode.sync();
                    durable.clone_from(&shown);
                }
                1 => {
                    inode.set_length(offset);
                    shown.resize(offset, 0);
                }
                _ => {
                    let data = vec![u8::try_from(byte + 1).unwrap(); 1 + random.index(20)];
                    inode.write(offset, &data);
                    let end = offset + data.len();
                    shown.resize(shown.len().max(end), 0);
                    shown[offset..end].copy_from_slice(&data);
                }
            }
            assert_eq!(inode.bytes(), shown);
            assert_eq!(inode.durable(), durable);
        }
        let Undone { changes, .. } = inode.take_back();
        assert_eq!(inode.bytes(), durable);
        changes.iter().for_each(|change| inode.apply_durably(change));
        assert_eq!(inode.bytes(), shown);
    }
}

#[test]
fn after_a_failed_sync_only_what_is_written_again_becomes_durable() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let (disk, _, file) = disk_with(seed, b"------");
        file.write_at(b"ab", 0).unwrap();
        file.write_at(b"cd", 2).unwrap();
        disk.fail_next(super::super::Operation::Sync, 1, ErrorKind::Other);
        assert_eq!(kind(file.sync()), Some(ErrorKind::Other));
        assert_eq!(read_all(file.as_ref()), b"abcd--");
        file.write_at(b"d", 3).unwrap();
        file.write_at(b"ef", 4).unwrap();
        file.sync().unwrap();
        assert_eq!(read_all(file.as_ref()), b"abcdef");
        disk.end_life(Crash::PowerLost);
        left.insert(String::from_utf8(contents(&disk, "/a").unwrap()).unwrap());
        assert_eq!(disk.counters().failed_syncs, 1);
    }
    let all = ["abcdef", "ab-def", "--cdef", "---def"].map(str::to_owned);
    assert_eq!(left, BTreeSet::from(all));
}
