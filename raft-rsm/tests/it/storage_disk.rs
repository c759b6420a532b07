//! A disk in memory that loses, tears and forgets whatever was not synced, and fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use raft_rsm::storage::fs::{File, FileSystem, Lock};

use crate::storage_stand::mix;

const SECTOR_BYTES: usize = 64;

/// Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct TestDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    locks: BTreeSet<PathBuf>,
    next_inode: u64,
    seed: u64,
    /// Raised by a restart: what was opened before is dead.
    life: u64,
    /// What was done, in order: (what, name of the file).
    journal: Vec<(&'static str, String)>,
    /// The process dies in the course of this many further changes.
    dies_after: Option<usize>,
    /// Syncs do nothing, and say that they did.
    forgets_syncs: bool,
    /// This fails, once.
    fails: Option<(&'static str, io::ErrorKind)>,
}

/// What the system shows, what is durable, and what may become so.
#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct Dir {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<NameChange>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, Node),
    Unlink(String),
    Rename(String, String),
}

impl TestDisk {
    pub(crate) fn new(seed: u64) -> TestDisk {
        let state = State {
            inodes: BTreeMap::new(),
            dirs: BTreeMap::from([(PathBuf::from("/"), Dir::default())]),
            locks: BTreeSet::new(),
            next_inode: 0,
            seed,
            life: 0,
            journal: Vec::new(),
            dies_after: None,
            forgets_syncs: false,
            fails: None,
        };
        TestDisk(Arc::new(Mutex::new(state)))
    }

    /// The process dies in the course of this many further changes.
    pub(crate) fn die_after(&self, changes: usize) {
        self.state().dies_after = Some(changes);
    }

    /// The next `what` fails.
    pub(crate) fn fail(&self, what: &'static str, kind: io::ErrorKind) {
        self.state().fails = Some((what, kind));
    }

    /// From now on no sync makes anything durable.
    pub(crate) fn forget_syncs(&self) {
        self.state().forgets_syncs = true;
    }

    /// The process ends; what it wrote stays in the memory of the system.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        state.dies_after = None;
        state.fails = None;
    }

    /// The machine loses power: of what was not synced, anything may be there, in any part.
    pub(crate) fn crash(&self) {
        self.kill();
        self.state().lose();
    }

    /// What was done since this was called last.
    pub(crate) fn journal(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.state().journal)
    }

    /// The contents of a file.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let inode = state.file(path).unwrap();
        state.inodes[&inode].now.clone()
    }

    /// Gives a file other contents, durably.
    pub(crate) fn put(&self, path: &Path, contents: &[u8]) {
        let mut state = self.state();
        let inode = state.file(path).unwrap();
        let inode = state.inodes.get_mut(&inode).unwrap();
        *inode = Inode { now: contents.to_vec(), durable: contents.to_vec(), pending: Vec::new() };
    }

    pub(crate) fn state_of_dir(&self, path: &Path) -> Vec<String> {
        self.state().dirs[path].now.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let start = usize::try_from(*offset).unwrap();
                let end = start + data.len();
                to.resize(to.len().max(end), 0);
                to[start..end].copy_from_slice(data);
            }
            Change::SetLen(bytes) => to.resize(usize::try_from(*bytes).unwrap(), 0),
        }
    }
}

impl Dir {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }
}

impl NameChange {
    fn apply(&self, to: &mut BTreeMap<String, Node>) {
        match self {
            NameChange::Link(name, node) => {
                to.insert(name.clone(), *node);
            }
            NameChange::Unlink(name) => {
                to.remove(name);
            }
            NameChange::Rename(from, name) => {
                if let Some(node) = to.remove(from) {
                    to.insert(name.clone(), node);
                }
            }
        }
    }
}

impl State {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = mix(self.seed);
        self.seed % below
    }

    fn lose(&mut self) {
        let mut inodes = std::mem::take(&mut self.inodes);
        for inode in inodes.values_mut() {
            for change in std::mem::take(&mut inode.pending) {
                match (self.random(4), &change) {
                    (0, _) => {}
                    (1, Change::Write(offset, data)) => {
                        for (i, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                            if self.random(2) == 0 {
                                let offset = offset + (i * SECTOR_BYTES) as u64;
                                Change::Write(offset, sector.to_vec()).apply(&mut inode.durable);
                            }
                        }
                    }
                    (2, Change::Write(offset, data)) => {
                        let len = self.random(data.len() as u64 + 1);
                        let part = data[..usize::try_from(len).unwrap()].to_vec();
                        Change::Write(*offset, part).apply(&mut inode.durable);
                    }
                    _ => change.apply(&mut inode.durable),
                }
            }
            inode.now = inode.durable.clone();
        }
        self.inodes = inodes;
        let mut dirs = std::mem::take(&mut self.dirs);
        for dir in dirs.values_mut() {
            for change in std::mem::take(&mut dir.pending) {
                if self.random(2) == 0 {
                    change.apply(&mut dir.durable);
                }
            }
            dir.now = dir.durable.clone();
        }
        // From the root down: what is in a directory that is gone is gone, too.
        for (path, dir) in dirs {
            let linked = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => self.dirs.get(parent).is_some_and(|parent| {
                    parent.now.get(name.to_str().unwrap()) == Some(&Node::Dir)
                }),
                _ => true,
            };
            if linked {
                self.dirs.insert(path, dir);
            }
        }
    }

    /// Starts one change, and says whether it is the last thing that the process does.
    fn begin(&mut self, life: u64, what: &'static str, path: &Path) -> io::Result<bool> {
        let died = || io::Error::other("the process is dead");
        if life != self.life || self.dies_after == Some(0) {
            return Err(died());
        }
        if let Some((failing, kind)) = self.fails
            && failing == what
        {
            self.fails = None;
            if what == "sync"
                && let Some(inode) = self.file(path).and_then(|i| self.inodes.get_mut(&i))
            {
                // The system takes what it could not write for clean.
                inode.pending.clear();
            }
            return Err(kind.into());
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("/");
        self.journal.push((what, name.to_owned()));
        if let Some(left) = &mut self.dies_after {
            *left -= 1;
            return Ok(*left == 0);
        }
        Ok(false)
    }

    fn file(&self, path: &Path) -> Option<u64> {
        match self.dirs.get(path.parent()?)?.now.get(path.file_name()?.to_str()?)? {
            Node::File(inode) => Some(*inode),
            Node::Dir => None,
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (path.parent().unwrap().to_owned(), name)
}

fn end(died: bool) -> io::Result<()> {
    if died { Err(io::Error::other("the process is dead")) } else { Ok(()) }
}

/// The disk as one life of a process sees it.
#[derive(Debug)]
pub(crate) struct Life {
    disk: TestDisk,
    life: u64,
}

impl TestDisk {
    pub(crate) fn life(&self) -> Arc<Life> {
        let life = self.state().life;
        Arc::new(Life { disk: self.clone(), life })
    }
}

impl Life {
    fn handle(&self, path: &Path, inode: u64) -> Arc<dyn File> {
        let disk = self.disk.clone();
        Arc::new(TestFile { disk, life: self.life, path: path.to_owned(), inode })
    }
}

impl FileSystem for Life {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "create", path)?;
        let inode = state.next_inode;
        state.next_inode += 1;
        let (parent, name) = split(path);
        let dir = state.dir(&parent)?;
        if dir.now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.change(NameChange::Link(name, Node::File(inode)));
        state.inodes.insert(inode, Inode::default());
        end(died)?;
        Ok(self.handle(path, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.disk.state();
        let inode = state.file(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(path, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "rename", to)?;
        state.file(from).ok_or(io::ErrorKind::NotFound)?;
        let ((parent, from), (_, to)) = (split(from), split(to));
        state.dir(&parent)?.change(NameChange::Rename(from, to));
        end(died)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "remove", path)?;
        state.file(path).ok_or(io::ErrorKind::NotFound)?;
        let (parent, name) = split(path);
        state.dir(&parent)?.change(NameChange::Unlink(name));
        end(died)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.disk.state().dir(dir)?.now.keys().cloned().collect())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "create_dir", path)?;
        let (parent, name) = split(path);
        let dir = state.dir(&parent)?;
        if dir.now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.change(NameChange::Link(name, Node::Dir));
        state.dirs.insert(path.to_owned(), Dir::default());
        end(died)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "sync_dir", path)?;
        if state.forgets_syncs {
            return end(died);
        }
        if !(died && state.random(2) == 0) {
            let dir = state.dir(path)?;
            for change in std::mem::take(&mut dir.pending) {
                change.apply(&mut dir.durable);
            }
        }
        end(died)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.disk.state();
        let (parent, name) = split(path);
        state.dir(&parent)?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.dir(&parent)?.change(NameChange::Link(name, Node::File(inode)));
        let (disk, life) = (self.disk.clone(), self.life);
        Ok(Some(Box::new(TestLock { disk, life, path: path.to_owned() })))
    }
}

#[derive(Debug)]
struct TestLock {
    disk: TestDisk,
    life: u64,
    path: PathBuf,
}

impl Lock for TestLock {}

impl Drop for TestLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    life: u64,
    path: PathBuf,
    inode: u64,
}

impl TestFile {
    fn change(&self, what: &'static str, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, what, &self.path)?;
        state.inodes.get_mut(&self.inode).unwrap().change(change);
        end(died)
    }
}

impl File for TestFile {
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let now = &state.inodes[&self.inode].now;
        let rest = usize::try_from(offset).ok().and_then(|offset| now.get(offset..));
        let rest = rest.unwrap_or_default();
        // A read may be short.
        let len = rest.len().min(data.len()).min(5000);
        data[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change("write", Change::Write(offset, data.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let died = state.begin(self.life, "sync", &self.path)?;
        if state.forgets_syncs {
            return end(died);
        }
        if !(died && state.random(2) == 0) {
            let inode = state.inodes.get_mut(&self.inode).unwrap();
            for change in std::mem::take(&mut inode.pending) {
                change.apply(&mut inode.durable);
            }
        }
        end(died)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change("set_len", Change::SetLen(bytes))
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[&self.inode].now.len() as u64)
    }
}
