//! What goes by which name, and what of it a crash leaves; who may still use what.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

#[test]
fn a_file_is_created_once_and_opened_if_it_is_there() {
    let (_, fs, _) = disk_with(1, b"abc");
    assert_eq!(kind(fs.create(path("/a"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(fs.create(path("/none/a"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.create(path("/a/b"))), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(fs.open(path("/b"))), Some(ErrorKind::NotFound));
    assert_eq!(fs.open(path("/a")).unwrap().len_bytes().unwrap(), 3);
}

#[test]
fn a_directory_is_created_in_one_that_exists_and_lists_its_names_sorted() {
    let fs = disk(1).mount();
    assert_eq!(kind(fs.create_dir(path("/"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(fs.create_dir(path("/d/e"))), Some(ErrorKind::NotFound));
    fs.create_dir(path("/d")).unwrap();
    fs.create_dir(path("/d/e")).unwrap();
    assert_eq!(kind(fs.create_dir(path("/d"))), Some(ErrorKind::AlreadyExists));
    for name in ["/d/z", "/d/b", "/d/y"] {
        fs.create(path(name)).unwrap();
    }
    assert_eq!(fs.list(path("/d")).unwrap(), ["b", "e", "y", "z"]);
    assert_eq!(fs.list(path("/")).unwrap(), ["d"]);
    assert_eq!(kind(fs.list(path("/x"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.list(path("/d/z"))), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(fs.open(path("/d"))), Some(ErrorKind::IsADirectory));
    assert_eq!(kind(fs.remove(path("/d"))), Some(ErrorKind::IsADirectory));
}

#[test]
fn a_rename_takes_the_place_of_the_file_that_has_the_name_or_changes_nothing() {
    let (disk, fs, old) = disk_with(1, b"old");
    put(fs.as_ref(), "/b", b"new");
    fs.create_dir(path("/d")).unwrap();
    assert_eq!(kind(fs.rename(path("/c"), path("/a"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.rename(path("/b"), path("/d"))), Some(ErrorKind::IsADirectory));
    assert_eq!(kind(fs.rename(path("/b"), path("/d/b"))), Some(ErrorKind::InvalidInput));
    assert_eq!(fs.list(path("/")).unwrap(), ["a", "b", "d"]);
    fs.rename(path("/b"), path("/b")).unwrap();
    fs.rename(path("/b"), path("/a")).unwrap();
    assert_eq!(fs.list(path("/")).unwrap(), ["a", "d"]);
    assert_eq!(contents(&disk, "/a").unwrap(), b"new");
    assert_eq!(old.len_bytes().unwrap(), 3);
}

#[test]
fn a_removed_file_stays_readable_for_those_who_have_it_open_and_then_takes_no_room() {
    let (disk, fs, file) = disk_with(1, b"abc");
    fs.remove(path("/a")).unwrap();
    assert_eq!(kind(fs.remove(path("/a"))), Some(ErrorKind::NotFound));
    let again = put(fs.as_ref(), "/a", b"defg");
    fs.sync_dir(path("/")).unwrap();
    assert_eq!((file.len_bytes().unwrap(), again.len_bytes().unwrap()), (3, 4));
    assert_eq!(disk.used_bytes(), 7);
    drop(file);
    assert_eq!(disk.used_bytes(), 4);
    drop(again);
    fs.remove(path("/a")).unwrap();
    assert_eq!(disk.used_bytes(), 4, "it may come back");
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_power_loss_keeps_or_undoes_what_was_created_and_removed() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let (disk, fs, _) = disk_with(seed, b"abc");
        fs.remove(path("/a")).unwrap();
        put(fs.as_ref(), "/b", b"b");
        left.insert(names_after_power_loss(&disk).concat());
        assert_eq!(disk.counters().names_kept + disk.counters().names_undone, 2);
    }
    assert_eq!(left, ["", "/a", "/b", "/a/b"].map(str::to_owned).into());
}

#[test]
fn a_power_loss_leaves_a_renamed_file_under_one_name() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let (disk, fs, _) = disk_with(seed, b"abc");
        put(fs.as_ref(), "/c", b"old");
        fs.sync_dir(path("/")).unwrap();
        fs.rename(path("/a"), path("/b")).unwrap();
        fs.rename(path("/b"), path("/c")).unwrap();
        let names = names_after_power_loss(&disk);
        let found: Vec<_> = names.iter().map(|name| contents(&disk, name).unwrap()).collect();
        assert_eq!(found.iter().filter(|contents| *contents == b"abc").count(), 1);
        assert!(names.contains(&"/c".to_owned()), "it is the old or the new file");
        left.insert(names.concat());
    }
    assert_eq!(left, ["/a/c", "/b/c", "/c"].map(str::to_owned).into());
}

#[test]
fn a_name_that_is_used_again_never_shows_a_file_that_was_not_given_it() {
    for seed in 0..200 {
        let (disk, fs, _) = disk_with(seed, b"first");
        fs.remove(path("/a")).unwrap();
        put(fs.as_ref(), "/a", b"second");
        fs.rename(path("/a"), path("/b")).unwrap();
        names_after_power_loss(&disk);
        assert!(contents(&disk, "/b").is_none_or(|contents| contents == b"second"));
    }
}

#[test]
fn names_are_durable_once_their_directory_and_those_above_it_are_synced() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..100 {
        let disk = disk(seed);
        let fs = disk.mount();
        fs.create_dir(path("/d")).unwrap();
        put(fs.as_ref(), "/d/old", b"abc");
        fs.rename(path("/d/old"), path("/d/new")).unwrap();
        fs.sync_dir(path("/d")).unwrap();
        let above_is_synced = seed % 2 == 0;
        if above_is_synced {
            fs.sync_dir(path("/")).unwrap();
        }
        match names_after_power_loss(&disk).as_slice() {
            [] => {
                assert!(!above_is_synced);
                assert_eq!(kind(disk.mount().list(path("/d"))), Some(ErrorKind::NotFound));
                lost += 1;
            }
            names => {
                assert_eq!(names, ["/d/new"]);
                kept += 1;
            }
        }
    }
    assert!(kept > 60 && lost > 10);
}

#[test]
fn a_lock_is_held_by_one_until_it_is_dropped_or_the_process_ends() {
    let disk = disk(1);
    let fs = disk.mount();
    let lock = fs.lock(path("/lock")).unwrap().unwrap();
    assert!(fs.lock(path("/lock")).unwrap().is_none());
    assert_eq!(fs.list(path("/")).unwrap(), ["lock"]);
    drop(lock);
    let mut held = vec![fs.lock(path("/lock")).unwrap().unwrap()];
    for crash in [Crash::Killed, Crash::PowerLost] {
        disk.end_life(crash);
        let fs = disk.mount();
        held.push(fs.lock(path("/lock")).unwrap().unwrap());
        assert!(fs.lock(path("/lock")).unwrap().is_none());
    }
}

#[test]
fn what_a_process_had_open_is_dead_when_it_has_ended() {
    let (disk, old_fs, file) = disk_with(1, b"abc");
    let old_lock = old_fs.lock(path("/lock")).unwrap();
    // One that was not ended is killed by the next.
    let fs = disk.mount();
    let _lock = fs.lock(path("/lock")).unwrap().unwrap();
    let before = disk.files();
    let errors = [
        kind(old_fs.create(path("/b"))),
        kind(old_fs.open(path("/a"))),
        kind(old_fs.rename(path("/a"), path("/b"))),
        kind(old_fs.remove(path("/a"))),
        kind(old_fs.list(path("/"))),
        kind(old_fs.create_dir(path("/d"))),
        kind(old_fs.sync_dir(path("/"))),
        kind(old_fs.lock(path("/l"))),
        kind(file.read_at(&mut [0; 1], 0)),
        kind(file.write_at(b"x", 0)),
        kind(file.sync()),
        kind(file.set_len(0)),
        kind(file.len_bytes()),
    ];
    assert_eq!(errors, [Some(ErrorKind::Other); 13]);
    drop((file, old_fs, old_lock));
    assert!(fs.lock(path("/lock")).unwrap().is_none(), "a dead lock gives nothing back");
    assert_eq!(disk.files(), before);
    assert_eq!(contents(&disk, "/a").unwrap(), b"abc");
}
