mod contents;
mod faults;
mod names;
mod storage;

use std::io;
use std::path::Path;
use std::sync::Arc;

use raft_rsm::storage::fs::{File, FileSystem};

use super::Disk;
use crate::event::Crash;
use crate::random::Random;

fn disk(seed: u64) -> Disk {
    Disk::new(Random::new(seed))
}

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Creates a file with these contents, durably but for its name.
fn put(fs: &dyn FileSystem, name: &str, contents: &[u8]) -> Arc<dyn File> {
    let file = fs.create(path(name)).unwrap();
    file.write_at(contents, 0).unwrap();
    file.sync().unwrap();
    file
}

/// A disk with a durable file `/a` that holds these contents.
fn disk_with(seed: u64, contents: &[u8]) -> (Disk, Arc<dyn FileSystem>, Arc<dyn File>) {
    let disk = disk(seed);
    let fs = disk.mount();
    let file = put(fs.as_ref(), "/a", contents);
    fs.sync_dir(path("/")).unwrap();
    (disk, fs, file)
}

fn contents(disk: &Disk, name: &str) -> Option<Vec<u8>> {
    disk.read_file(path(name))
}

/// The names of the files as they are after a power loss.
fn names_after_power_loss(disk: &Disk) -> Vec<String> {
    disk.end_life(Crash::PowerLost);
    disk.files().iter().map(|path| path.display().to_string()).collect()
}
