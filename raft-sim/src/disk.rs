//! The disk of a node: it outlives the node's processes, and shows each of them what a crash left of it.
//!
//! A file's contents and a directory's names are kept as the system shows them, with a way back to what is
//! durable. A sync forgets the way back; a power loss goes it, and then draws from the seed which of the changes
//! since then are there all the same.

mod counters;
mod directory;
mod faults;
mod inode;
mod lie;
mod life;
mod power_loss;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_rsm::storage::fs::FileSystem;

pub use self::counters::DiskCounters;
use self::directory::{Directory, Node};
use self::faults::Faults;
pub use self::faults::{Operation, Speed};
use self::inode::Inode;
pub use self::lie::Lie;
use self::lie::Telling;
use self::life::Mount;
use crate::event::Crash;
use crate::random::Random;

/// Blocking work of a node that takes the time of its disk, by the name that the node gives it. All else takes none.
const DISK_WORK: [&str; 8] = [
    "load",
    "open snapshot",
    "open storage",
    "read",
    "read snapshot",
    "receive snapshot",
    "snapshot",
    "write",
];

/// The disk of a node. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

/// What is on a disk, and what is wrong with it.
struct State {
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    /// By their whole path.
    directories: BTreeMap<PathBuf, Directory>,
    locks: BTreeSet<PathBuf>,
    /// What was opened in an earlier life is dead.
    life: u64,
    is_mounted: bool,
    faults: Faults,
    telling: Option<Telling>,
    counters: DiskCounters,
    /// What faults do. How long work takes, and how far a read gets, has a luck of its own.
    random: Random,
    time_random: Random,
    read_random: Random,
}

impl Disk {
    /// An empty disk: it has the directory `/`.
    #[must_use]
    pub fn new(random: Random) -> Disk {
        let state = State {
            inodes: BTreeMap::new(),
            last_inode: 0,
            directories: BTreeMap::from([(PathBuf::from("/"), Directory::default())]),
            locks: BTreeSet::new(),
            life: 0,
            is_mounted: false,
            faults: Faults::default(),
            telling: None,
            counters: DiskCounters::default(),
            time_random: random.fork("time"),
            read_random: random.fork("read"),
            random,
        };
        Disk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a process sees it that starts now. If an earlier one was not ended, it is killed.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn FileSystem> {
        let mut state = self.lock();
        if state.is_mounted {
            state.end_life(Crash::Killed);
        }
        state.is_mounted = true;
        Arc::new(Mount::new(self.clone(), state.life))
    }

    /// Ends the process that uses this disk: whatever it has mounted, opened or locked fails from here on.
    ///
    /// If it was killed, all that it wrote is there, and what was not synced is still not durable. If power was
    /// lost, each change that was not synced is drawn: it is there, or not, or (a write) in a part; what is there
    /// is durable. A power that was cut before is a loss of power, however the process ends.
    pub fn end_life(&self, crash: Crash) {
        self.lock().end_life(crash);
    }

    /// The process is killed, or the power fails, in the course of a change (see [`Operation::is_change`]) after
    /// `changes` further ones. From there on each operation fails until the life is ended.
    pub fn cut_within_work(&self, changes: u32, crash: Crash) {
        self.lock().faults.cut_after = Some((changes, crash));
    }

    /// How this life was cut off within its work, if it was.
    #[must_use]
    pub fn was_cut(&self) -> Option<Crash> {
        self.lock().faults.cut
    }

    /// The next `times` operations of this sort fail; 0 takes it back. It holds for later lives, too.
    ///
    /// A write that fails may have been done in part. A file's sync that fails makes some of what was not durable
    /// durable, and the rest never will be, though it is shown: the system takes it for clean. A directory's
    /// sync that fails makes the first of the changes durable, and the rest waits for the next sync. Any other
    /// operation that fails changes nothing.
    pub fn fail_next(&self, what: Operation, times: u32, kind: io::ErrorKind) {
        self.lock().faults.fail_next(what, times, kind);
    }

    /// Nothing fits in any more, or as much as one likes.
    pub fn set_full(&self, full: bool) {
        let mut state = self.lock();
        state.faults.capacity_bytes = full.then(|| state.used_bytes());
    }

    /// From here on, what would make the files longer in total than this many bytes fails with
    /// [`io::ErrorKind::StorageFull`]. `None`: there is no limit.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.lock().faults.capacity_bytes = capacity;
    }

    /// How fast it is from here on.
    pub fn set_speed(&self, speed: Speed) {
        self.lock().faults.speed = speed;
    }

    /// Work that begins before this true time comes to its end only after it.
    pub fn set_stuck_until(&self, time: Option<Duration>) {
        self.lock().faults.stuck_until = time;
    }

    /// Takes back all faults that have not happened yet; nothing is slow, stuck or full any more. A lie goes on.
    pub fn heal(&self) {
        self.lock().faults.heal();
    }

    /// How long blocking work of this name takes that begins now, in true time. Work for which no disk is needed
    /// takes none.
    #[must_use]
    pub fn work_time(&self, now: Duration, name: &str) -> Duration {
        if !DISK_WORK.contains(&name) {
            return Duration::ZERO;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let time = state.time_random.duration(&state.faults.speed.latency);
        let stuck = state.faults.stuck_until.map_or(Duration::ZERO, |end| end.saturating_sub(now));
        state.counters.stuck_works += u64::from(!stuck.is_zero());
        time.saturating_mul(state.faults.speed.factor).saturating_add(stuck)
    }

    /// Flips a bit of a file at rest, and says where. `None`: no file is, or all of them are empty.
    pub fn rot(&self) -> Option<String> {
        self.lock().rot()
    }

    /// Everything is gone, and the process that used it is killed.
    pub fn wipe(&self) {
        let mut state = self.lock();
        state.end_life(Crash::Killed);
        state.inodes.clear();
        state.directories = BTreeMap::from([(PathBuf::from("/"), Directory::default())]);
        if let Some(telling) = &mut state.telling {
            telling.image = None;
        }
        state.counters.wipes += 1;
    }

    /// Begins to lie about what is durable, for tests of those who should notice. `None`: it is honest again.
    pub fn lie(&self, lie: Option<Lie>) {
        self.lock().telling = lie.map(Telling::new);
    }

    /// What all files that have a name or are open hold, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// The contents of a file as the system shows them, if it is there.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.file(path).ok()?;
        Some(state.inodes.get(&inode)?.bytes().to_vec())
    }

    /// The paths of all files as the system shows them, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().named_files().into_keys().collect()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> DiskCounters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_life(&mut self, crash: Crash) {
        self.life += 1;
        self.is_mounted = false;
        self.locks.clear();
        self.inodes.values_mut().for_each(|inode| inode.handles = 0);
        self.faults.cut_after = None;
        let cut = self.faults.cut.take();
        if cut == Some(Crash::PowerLost) || crash == Crash::PowerLost {
            self.lose_power();
        }
        if let Some(image) = self.telling.as_ref().and_then(|telling| telling.image.clone()) {
            image.restore(self);
        }
        self.drop_unreachable();
    }

    fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.bytes().len() as u64).sum()
    }

    /// How many bytes can be added.
    fn free_bytes(&self) -> u64 {
        let capacity = self.faults.capacity_bytes;
        capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn add_inode(&mut self) -> u64 {
        self.last_inode += 1;
        self.inodes.insert(self.last_inode, Inode::default());
        self.last_inode
    }

    /// Drops the files that have no name any more, and can get none back, and are not open.
    fn drop_unreachable(&mut self) {
        let mut named = BTreeSet::new();
        self.directories.values().for_each(|directory| directory.name_inodes(&mut named));
        self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
    }

    /// The file that goes by this path.
    fn file(&self, path: &Path) -> io::Result<u64> {
        let (parent, name) = split(path)?;
        match self.directory(parent)?.names().get(name) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<&Directory> {
        self.directories.get(path).ok_or_else(|| self.no_directory(path))
    }

    fn directory_mut(&mut self, path: &Path) -> io::Result<&mut Directory> {
        if self.directories.contains_key(path) {
            return self.directories.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        Err(self.no_directory(path))
    }

    /// Why there is no directory with this path.
    fn no_directory(&self, path: &Path) -> io::Error {
        let is_file = path.parent().is_some() && self.file(path).is_ok();
        if is_file { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound }.into()
    }

    /// All files, by their paths.
    fn named_files(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        for (path, directory) in &self.directories {
            for (name, node) in directory.names() {
                if let Node::File(inode) = node {
                    files.insert(path.join(name), *inode);
                }
            }
        }
        files
    }

    fn rot(&mut self) -> Option<String> {
        let at_rest: Vec<(PathBuf, u64)> = self
            .named_files()
            .into_iter()
            .filter(|(_, id)| {
                self.inodes
                    .get(id)
                    .is_some_and(|inode| inode.is_at_rest() && !inode.bytes().is_empty())
            })
            .collect();
        let (path, id) = at_rest.get(self.random.index(at_rest.len()))?;
        let inode = self.inodes.get_mut(id)?;
        // What is written ahead is nothing but zeroes, and more than all the rest: few rot there.
        let end = match inode.bytes().iter().rposition(|byte| *byte != 0) {
            Some(last) if self.random.chance(0.9) => last + 1,
            _ => inode.bytes().len(),
        };
        let (byte, bit) = (self.random.index(end), self.random.index(8));
        inode.flip(byte, bit);
        self.counters.rotten_bits += 1;
        Some(format!("bit {bit} of byte {byte} of {}", path.display()))
    }
}

/// A path without its last name, and that name.
fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let parent = path.parent();
    let name = path.file_name().and_then(|name| name.to_str());
    parent.zip(name).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Disk")
            .field("life", &state.life)
            .field("counters", &state.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
