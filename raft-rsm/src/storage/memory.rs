//! Storage for tests, and for state that may be lost.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use raft_core::{Configuration, Entry, Incarnation, LogIndex, Restored, SnapshotMeta, Write};

use super::log_state::LogState;
use super::{SnapshotReader, SnapshotWriter, Storage, StorageError};
use crate::entry_codec::encoded_entry_len;

/// Keeps everything in memory: it is lost with the process, and there is as much of it as the log and two
/// snapshots need.
#[derive(Debug)]
pub struct MemoryStorage {
    shared: Arc<Mutex<Option<Contents>>>,
}

#[derive(Debug)]
struct Contents {
    incarnation: Incarnation,
    state: LogState,
    /// Those of `state.terms`, in order.
    entries: VecDeque<Entry>,
    log_bytes: u64,
    snapshot: Option<Image>,
    /// Whether a write was refused.
    failed: bool,
}

#[derive(Clone, Debug)]
struct Image {
    meta: SnapshotMeta,
    image: Bytes,
}

impl MemoryStorage {
    /// What a node starts from that never ran, in a cluster of these members. It is of incarnation 0, as the members of
    /// [`Configuration::new`] are.
    #[must_use]
    pub fn new(configuration: Configuration) -> MemoryStorage {
        MemoryStorage::of_incarnation(Incarnation(0), configuration)
    }

    /// The same under another incarnation: the disk of a node that has lost what it held, say.
    #[must_use]
    pub fn of_incarnation(incarnation: Incarnation, configuration: Configuration) -> MemoryStorage {
        MemoryStorage::with(Contents {
            incarnation,
            state: LogState::first_start(configuration),
            entries: VecDeque::new(),
            log_bytes: 0,
            snapshot: None,
            failed: false,
        })
    }

    /// Crashes the node that runs on this storage, as far as storage can tell: returns one that holds
    /// everything that is durable, and from here on this one refuses everything with
    /// [`StorageError::Stopped`], so that what still runs of the node leaves no trace. Reopening a
    /// storage that was reopened already returns one that refuses everything, too.
    #[must_use]
    pub fn reopen(&self) -> MemoryStorage {
        let contents =
            lock(&self.shared).take().map(|contents| Contents { failed: false, ..contents });
        MemoryStorage { shared: Arc::new(Mutex::new(contents)) }
    }

    fn with(contents: Contents) -> MemoryStorage {
        MemoryStorage { shared: Arc::new(Mutex::new(Some(contents))) }
    }
}

/// A thread that panicked under this lock left the contents whole or took them away.
fn lock(shared: &Mutex<Option<Contents>>) -> MutexGuard<'_, Option<Contents>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn load(&self) -> Result<Restored, StorageError> {
        let guard = lock(&self.shared);
        let contents = guard.as_ref().ok_or(StorageError::Stopped)?;
        let snapshot = contents.snapshot.as_ref().map(|snapshot| snapshot.meta.clone());
        Ok(contents.state.clone().restored(contents.incarnation, snapshot))
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let mut guard = lock(&self.shared);
        guard.as_mut().ok_or(StorageError::Stopped)?.write(write)
    }

    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        let guard = lock(&self.shared);
        let contents = guard.as_ref().ok_or(StorageError::Stopped)?;
        Ok(contents.read(first, last, bytes_max))
    }

    fn log_bytes(&self) -> u64 {
        lock(&self.shared).as_ref().map_or(0, |contents| contents.log_bytes)
    }

    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let shared = self.shared.clone();
        Ok(Box::new(MemorySnapshotWriter { shared, meta, image: Vec::new() }))
    }

    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        let guard = lock(&self.shared);
        let contents = guard.as_ref().ok_or(StorageError::Stopped)?;
        let Some(Image { meta, image }) = contents.snapshot.clone() else { return Ok(None) };
        Ok(Some(Box::new(MemorySnapshotReader { meta, image: Cursor::new(image) })))
    }
}

impl Contents {
    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Stopped);
        }
        let mut state = self.state.clone();
        if let Err(problem) = state.apply(&write) {
            self.failed = true;
            return Err(StorageError::Inconsistent { problem });
        }
        self.state = state;
        if write.reset.is_some() {
            self.entries.clear();
            self.log_bytes = 0;
        }
        let start = self.state.start.last.index;
        while self.entries.front().is_some_and(|entry| entry.id.index <= start) {
            let gone = self.entries.pop_front();
            self.forget(gone);
        }
        if let Some(first) = write.entries.first() {
            while self.entries.back().is_some_and(|entry| entry.id.index >= first.id.index) {
                let gone = self.entries.pop_back();
                self.forget(gone);
            }
        }
        self.log_bytes += write.entries.iter().map(entry_bytes).sum::<u64>();
        self.entries.extend(write.entries.iter().cloned());
        Ok(())
    }

    fn forget(&mut self, gone: Option<Entry>) {
        self.log_bytes -= gone.as_ref().map_or(0, entry_bytes);
    }

    fn read(&self, first: LogIndex, last: LogIndex, bytes_max: usize) -> Option<Vec<Entry>> {
        let start = self.state.start.last.index.next();
        let skip = usize::try_from(first.0.checked_sub(start.0)?).ok()?;
        let mut read = Vec::new();
        let mut bytes = 0_usize;
        for entry in self.entries.iter().skip(skip) {
            bytes = bytes.saturating_add(entry.cost_bytes());
            if entry.id.index > last || (bytes > bytes_max && !read.is_empty()) {
                break;
            }
            read.push(entry.clone());
        }
        (!read.is_empty()).then_some(read)
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    encoded_entry_len(entry) as u64
}

struct MemorySnapshotWriter {
    shared: Arc<Mutex<Option<Contents>>>,
    meta: SnapshotMeta,
    image: Vec<u8>,
}

impl io::Write for MemorySnapshotWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.image.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotWriter for MemorySnapshotWriter {
    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let MemorySnapshotWriter { shared, meta, image } = *self;
        let mut guard = lock(&shared);
        let contents = guard.as_mut().ok_or(StorageError::Stopped)?;
        let newer = |old: &Image| old.meta.last.index > meta.last.index;
        if !contents.snapshot.as_ref().is_some_and(newer) {
            contents.snapshot = Some(Image { meta, image: Bytes::from(image) });
        }
        Ok(())
    }
}

struct MemorySnapshotReader {
    meta: SnapshotMeta,
    image: Cursor<Bytes>,
}

impl Read for MemorySnapshotReader {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        self.image.read(data)
    }
}

impl Seek for MemorySnapshotReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.image.seek(position)
    }
}

impl SnapshotReader for MemorySnapshotReader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn len_bytes(&self) -> u64 {
        self.image.get_ref().len() as u64
    }
}
