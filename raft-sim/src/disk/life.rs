//! The disk as one process sees it: what it has mounted, opened and locked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_rsm::storage::fs::{File, FileSystem, Lock};

use super::directory::{NameChange, Node};
use super::faults::{Course, cut_off};
use super::{Directory, Disk, Operation, State, split};
use crate::event::Crash;

/// No file grows longer: whoever writes there has lost its way.
const FILE_BYTES_MAX: usize = 1 << 30;

/// The disk, for one life of a node.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    disk: Disk,
    life: u64,
}

impl Mount {
    pub(super) fn new(disk: Disk, life: u64) -> Mount {
        Mount { disk, life }
    }

    /// Does `work` on the disk, unless that fails by order: then nothing changes.
    fn operate<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.lock();
        match state.begin(self.life, operation)? {
            Course::Free => work(&mut state),
            Course::Fails(kind) => Err(kind.into()),
            Course::IsCut(crash) => {
                // What a loss of power leaves of it is drawn when the life is ended.
                let is_done = crash == Crash::PowerLost || state.random.chance(0.5);
                let done = is_done.then(|| work(&mut state));
                // What was opened or locked takes the lock when it is dropped.
                drop(state);
                drop(done);
                Err(cut_off())
            }
        }
    }

    fn handle(&self, state: &mut State, inode: u64) -> Arc<dyn File> {
        if let Some(file) = state.inodes.get_mut(&inode) {
            file.handles += 1;
        }
        Arc::new(OpenFile { mount: self.clone(), inode })
    }
}

impl State {
    /// Creates a file, and returns its inode.
    fn create_file(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = split(path)?;
        if self.directory(parent)?.names().contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.free_bytes() == 0 {
            return Err(self.full());
        }
        let inode = self.add_inode();
        let change = NameChange::Create(name.to_owned(), Node::File(inode));
        self.directory_mut(parent)?.change(change);
        Ok(inode)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.directory_mut(path)?.sync();
        // What was removed or replaced may be gone for good.
        if self.inodes.values().any(|inode| inode.is_removed && inode.handles == 0) {
            self.drop_unreachable();
        }
        Ok(())
    }

    /// The file is known by its old name no more: another one has it, or none.
    fn removed(&mut self, inode: u64) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.is_removed = true;
        }
    }
}

impl FileSystem for Mount {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.operate(Operation::Create, |state| {
            let inode = state.create_file(path)?;
            Ok(self.handle(state, inode))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.operate(Operation::Open, |state| {
            let inode = state.file(path)?;
            Ok(self.handle(state, inode))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(Operation::Rename, |state| {
            let inode = state.file(from)?;
            let ((parent, _), (new_parent, name)) = (split(from)?, split(to)?);
            if parent != new_parent {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            match state.directory(parent)?.names().get(name) {
                Some(Node::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
                Some(Node::File(replaced)) => state.removed(*replaced),
                None => {}
            }
            let change = NameChange::Rename(inode, name.to_owned());
            state.directory_mut(parent)?.change(change);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(Operation::Remove, |state| {
            let inode = state.file(path)?;
            state.directory_mut(split(path)?.0)?.change(NameChange::Remove(inode));
            state.removed(inode);
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.operate(Operation::List, |state| {
            Ok(state.directory(dir)?.names().keys().cloned().collect())
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.operate(Operation::CreateDirectory, |state| {
            if dir.parent().is_none() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let (parent, name) = split(dir)?;
            if state.directory(parent)?.names().contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if state.free_bytes() == 0 {
                return Err(state.full());
            }
            let change = NameChange::Create(name.to_owned(), Node::Directory);
            state.directory_mut(parent)?.change(change);
            state.directories.insert(dir.to_owned(), Directory::default());
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut guard = self.disk.lock();
        let state = &mut *guard;
        match state.begin(self.life, Operation::SyncDirectory)? {
            Course::Free => state.sync_directory(dir),
            Course::Fails(kind) => {
                if let Some(directory) = state.directories.get_mut(dir) {
                    directory.sync_some(state.random.index(directory.pending() + 1));
                }
                Err(kind.into())
            }
            Course::IsCut(_) => {
                if state.random.chance(0.5) {
                    let _ = state.sync_directory(dir);
                }
                Err(cut_off())
            }
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.operate(Operation::Lock, |state| {
            match state.file(path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    state.create_file(path)?;
                }
                Err(error) => return Err(error),
            }
            if !state.locks.insert(path.to_owned()) {
                return Ok(None);
            }
            let (mount, path) = (self.clone(), path.to_owned());
            Ok(Some(Box::new(HeldLock { mount, path }) as Box<dyn Lock>))
        })
    }
}

/// A lock that a process holds.
#[derive(Debug)]
struct HeldLock {
    mount: Mount,
    path: PathBuf,
}

impl Lock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.mount.disk.lock();
        if state.life == self.mount.life {
            state.locks.remove(&self.path);
        }
    }
}

/// A file that a process has open.
#[derive(Debug)]
struct OpenFile {
    mount: Mount,
    inode: u64,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut state = self.mount.disk.lock();
        if state.life != self.mount.life {
            return;
        }
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.handles -= 1;
            if inode.handles == 0 && inode.is_removed {
                state.drop_unreachable();
            }
        }
    }
}

impl State {
    /// Writes as much of `data` as there is room for.
    fn write(&mut self, inode: u64, data: &[u8], offset: u64) -> io::Result<()> {
        let (offset, end) = range(offset, data.len())?;
        let free = usize::try_from(self.free_bytes()).unwrap_or(usize::MAX);
        let file = self.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
        self.counters.writes += 1;
        let room = file.bytes().len().saturating_add(free);
        let fits = data.len().min(room.saturating_sub(offset));
        file.write(offset, &data[..fits]);
        self.counters.written_bytes += fits as u64;
        if end > room && !data.is_empty() { Err(self.full()) } else { Ok(()) }
    }
}

/// Where `length` bytes at `offset` begin and end, if a file can be so long.
fn range(offset: u64, length: usize) -> io::Result<(usize, usize)> {
    let offset = usize::try_from(offset).ok();
    offset
        .and_then(|offset| Some((offset, offset.checked_add(length)?)))
        .filter(|(_, end)| *end <= FILE_BYTES_MAX)
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

impl File for OpenFile {
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        self.mount.operate(Operation::Read, |state| {
            let file = state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let rest = usize::try_from(offset).ok().and_then(|offset| file.bytes().get(offset..));
            let rest = rest.unwrap_or_default();
            let mut length = rest.len().min(data.len());
            // A read may be short.
            if length > 1 && state.read_random.chance(0.05) {
                length = 1 + state.read_random.index(length);
            }
            data[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut guard = self.mount.disk.lock();
        let state = &mut *guard;
        match state.begin(self.mount.life, Operation::Write)? {
            Course::Free => state.write(self.inode, data, offset),
            Course::Fails(kind) => {
                let written = state.random.index(data.len() + 1);
                let _ = state.write(self.inode, &data[..written], offset);
                Err(kind.into())
            }
            Course::IsCut(crash) => {
                let written = match crash {
                    Crash::Killed => state.random.index(data.len() + 1),
                    // What is left of it is drawn when the life is ended.
                    Crash::PowerLost => data.len(),
                };
                let _ = state.write(self.inode, &data[..written], offset);
                Err(cut_off())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.mount.disk.lock();
        let state = &mut *guard;
        let course = state.begin(self.mount.life, Operation::Sync)?;
        state.counters.syncs += 1;
        match course {
            Course::Free => {
                state.sync(self.inode);
                Ok(())
            }
            Course::Fails(kind) => {
                if let Some(file) = state.inodes.get_mut(&self.inode) {
                    file.sync_some(|| state.random.chance(0.5));
                }
                Err(kind.into())
            }
            Course::IsCut(_) => {
                // Otherwise a loss of power draws for each write.
                if state.random.chance(0.5) {
                    state.sync(self.inode);
                }
                Err(cut_off())
            }
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.mount.operate(Operation::SetLength, |state| {
            let (length, _) = range(bytes, 0)?;
            let free = state.free_bytes();
            let file = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            if bytes.saturating_sub(file.bytes().len() as u64) > free {
                return Err(state.full());
            }
            file.set_length(length);
            Ok(())
        })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.mount.operate(Operation::Read, |state| {
            let file = state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            Ok(file.bytes().len() as u64)
        })
    }
}
