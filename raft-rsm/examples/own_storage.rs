//! A `Storage` of one's own, whole, and the tests that say whether it can be trusted.
//!
//! It is the simplest thing that keeps the contract: all of hard state and log is one small file, written anew with each
//! write (temporary file, sync, rename, sync of the directory). So a write is atomic by construction, and slow. Replace the
//! file by your database, and let the conformance suite at the end tell you what you forgot:
//!
//! ```text
//! cargo run  -p raft-rsm --example own_storage     # a replica on it
//! cargo test -p raft-rsm --example own_storage     # each sentence of the contract
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use raft_rsm::raft_core::{
    Configuration, Entry, EntryId, HardState, Incarnation, LogIndex, Member, NodeId, Payload,
    Restored, SnapshotMeta, TermRuns, Write,
};
use raft_rsm::runtime::{ThreadRuntime, blocking};
use raft_rsm::storage::{SnapshotReader, SnapshotWriter, Storage, StorageError};
use raft_rsm::transport::memory::{MemoryNetwork, MemoryOptions};
use raft_rsm::{
    Context, Options, ProposeError, Raft, Runtime, SnapshotView, StateMachine, block_on,
};
use serde::{Deserialize, Serialize};

/// Everything but the snapshots: what the file `state` holds.
#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// Names this directory. It is drawn when the directory is created and never again, so that a node which lost its disk
    /// is not taken for the one that voted.
    incarnation: Incarnation,
    hard_state: HardState,
    /// The log starts after this.
    start: SnapshotMeta,
    entries: Vec<Entry>,
}

/// One directory: `state`, and `snapshot`, which begins with what it says about itself.
pub struct OwnStorage {
    dir: PathBuf,
    runtime: Arc<dyn Runtime>,
    /// `None` once a write has failed: nobody knows then what the disk holds, so nothing is tried again.
    state: Arc<Mutex<Option<State>>>,
}

impl OwnStorage {
    /// For the very first start of a node.
    pub fn create(
        dir: &Path,
        configuration: Configuration,
        runtime: Arc<dyn Runtime>,
    ) -> io::Result<OwnStorage> {
        let start = SnapshotMeta::new(EntryId::ZERO, configuration);
        let state = State {
            incarnation: Incarnation(runtime.random()),
            hard_state: HardState::default(),
            start,
            entries: Vec::new(),
        };
        replace(dir, "state", &encode(&state)?)?;
        OwnStorage::open(dir, runtime)
    }

    /// For every later one.
    pub fn open(dir: &Path, runtime: Arc<dyn Runtime>) -> io::Result<OwnStorage> {
        let state: State = decode(&fs::read(dir.join("state"))?)?;
        // What a crash left half-written has a name that nobody looks for.
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        let state = Arc::new(Mutex::new(Some(state)));
        Ok(OwnStorage { dir: dir.to_owned(), runtime, state })
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> StorageError {
        let path = self.dir.clone();
        move |source| StorageError::Io { action, path, source }
    }
}

#[async_trait]
impl Storage for OwnStorage {
    async fn load(&self) -> Result<Restored, StorageError> {
        let state = lock(&self.state).clone().ok_or(StorageError::Stopped)?;
        let mut terms = TermRuns::new(state.start.last);
        let mut configurations = Vec::new();
        for Entry { id, payload } in &state.entries {
            terms.push(id.term);
            if let Payload::Configuration(configuration) = payload {
                configurations.push((id.index, configuration.clone()));
            }
        }
        let snapshot = match open_snapshot(&self.dir).map_err(self.error("open"))? {
            Some(snapshot) => Some(snapshot.meta),
            None => None,
        };
        let State { incarnation, hard_state, start, .. } = state;
        Ok(Restored { incarnation, hard_state, start, terms, configurations, snapshot })
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let (dir, shared) = (self.dir.clone(), Arc::clone(&self.state));
        let work = move || {
            let mut guard = lock(&shared);
            // Taken away, and put back only when all went well.
            let mut state = guard.take().ok_or(StorageError::Stopped)?;
            state.apply(write).map_err(|problem| StorageError::Inconsistent { problem })?;
            let written = encode(&state).and_then(|bytes| replace(&dir, "state", &bytes));
            written.map_err(|source| StorageError::Io { action: "write", path: dir, source })?;
            *guard = Some(state);
            Ok(())
        };
        // A sync takes its time: it must not hold up the node's loop.
        blocking(&*self.runtime, "write", work).await.map_err(|_| StorageError::Stopped)?
    }

    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        let guard = lock(&self.state);
        let state = guard.as_ref().ok_or(StorageError::Stopped)?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in state.entries.iter().filter(|entry| (first..=last).contains(&entry.id.index)) {
            bytes += entry.cost_bytes();
            if found.is_empty() && entry.id.index != first || !found.is_empty() && bytes > bytes_max
            {
                break;
            }
            found.push(entry.clone());
        }
        Ok((!found.is_empty()).then_some(found))
    }

    fn log_bytes(&self) -> u64 {
        let guard = lock(&self.state);
        guard.iter().flat_map(|state| &state.entries).map(|e| e.cost_bytes() as u64).sum()
    }

    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let name = format!("{:016x}.tmp", self.runtime.random());
        let temporary = self.dir.join(name);
        let begin = || {
            let mut file = File::create(&temporary)?;
            let head = encode(&meta)?;
            file.write_all(&(head.len() as u64).to_le_bytes())?;
            file.write_all(&head)?;
            Ok(file)
        };
        let file = begin().map_err(self.error("create"))?;
        let (dir, turn) = (self.dir.clone(), Arc::clone(&self.state));
        Ok(Box::new(OwnSnapshotWriter { dir, temporary, file, meta, turn }))
    }

    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        let opened = open_snapshot(&self.dir).map_err(self.error("open"))?;
        Ok(opened.map(|reader| Box::new(reader) as _))
    }
}

impl State {
    /// What a [`Write`] means, in the order of its fields.
    fn apply(&mut self, write: Write) -> Result<(), String> {
        let Write { id: _, reset, compact, entries, hard_state } = write;
        if let Some(snapshot) = reset {
            self.start = snapshot;
            self.entries.clear();
        }
        if let Some(snapshot) = compact {
            let held = |entry: &Entry| entry.id == snapshot.last;
            if snapshot.last != self.start.last && !self.entries.iter().any(held) {
                return Err(format!("there is no entry {} to compact up to", snapshot.last));
            }
            self.entries.retain(|entry| entry.id.index > snapshot.last.index);
            self.start = snapshot;
        }
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
        }
        for entry in &entries {
            let last = self.last();
            if entry.id.index != last.index.next() || entry.id.term < last.term {
                return Err(format!("entry {} does not follow upon {last}", entry.id));
            }
            self.entries.push(entry.clone());
        }
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if self.hard_state.commit > self.last().index {
            return Err(format!("the log ends before {}", self.hard_state.commit));
        }
        Ok(())
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.last, |entry| entry.id)
    }
}

struct OwnSnapshotWriter {
    dir: PathBuf,
    temporary: PathBuf,
    file: File,
    meta: SnapshotMeta,
    /// One is finished at a time.
    turn: Arc<Mutex<Option<State>>>,
}

impl io::Write for OwnSnapshotWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SnapshotWriter for OwnSnapshotWriter {
    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let turn = Arc::clone(&self.turn);
        let _turn = lock(&turn);
        let finish = || {
            self.file.sync_all()?;
            let newest = open_snapshot(&self.dir)?;
            if newest.is_none_or(|newest| newest.meta.last.index <= self.meta.last.index) {
                fs::rename(&self.temporary, self.dir.join("snapshot"))?;
            }
            File::open(&self.dir)?.sync_all()
        };
        let path = self.temporary.clone();
        finish().map_err(|source| StorageError::Io { action: "finish", path, source })
    }
}

impl Drop for OwnSnapshotWriter {
    /// One that was not finished leaves nothing behind; one that was has another name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

struct OwnSnapshotReader {
    file: File,
    meta: SnapshotMeta,
    /// Where the image begins, and how long it is, in bytes.
    head_bytes: u64,
    image_bytes: u64,
}

fn open_snapshot(dir: &Path) -> io::Result<Option<OwnSnapshotReader>> {
    let mut file = match File::open(dir.join("snapshot")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut len = [0; 8];
    file.read_exact(&mut len)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(u64::from_le_bytes(len)).read_to_end(&mut head)?;
    let head_bytes = 8 + head.len() as u64;
    let image_bytes = file.metadata()?.len() - head_bytes;
    Ok(Some(OwnSnapshotReader { file, meta: decode(&head)?, head_bytes, image_bytes }))
}

impl Read for OwnSnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for OwnSnapshotReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.file.stream_position()? - self.head_bytes;
        let to = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.image_bytes.checked_add_signed(by),
            SeekFrom::Current(by) => position.checked_add_signed(by),
        };
        let to = to.ok_or_else(|| io::Error::other("a position before the start of the image"))?;
        self.file.seek(SeekFrom::Start(self.head_bytes.saturating_add(to)))?;
        Ok(to)
    }
}

impl SnapshotReader for OwnSnapshotReader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn len_bytes(&self) -> u64 {
        self.image_bytes
    }
}

/// Replaces a file, so that a crash leaves the old one or the new one, whole.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(io::Error::other)
}

fn lock(state: &Mutex<Option<State>>) -> MutexGuard<'_, Option<State>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replica that is started three times on the same directory.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("own-storage-{}", std::process::id()));
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    // No incarnation is named yet: the first leader names those that it hears.
    let alone = Configuration::of_members([Member::new(NodeId(1), "")], [], []);
    for life in 1..=3 {
        let storage = match life {
            1 => OwnStorage::create(&dir, alone.clone(), Arc::clone(&runtime))?,
            _ => OwnStorage::open(&dir, Arc::clone(&runtime))?,
        };
        let network = MemoryNetwork::new(Arc::clone(&runtime), MemoryOptions::default());
        let (storage, transport) = (Arc::new(storage), network.transport(NodeId(1)));
        let (options, machine) = (Options::new(NodeId(1)), Counter(0));
        let raft = Raft::start(options, machine, storage, transport, Arc::clone(&runtime));
        let raft = block_on(raft)?;
        // It leads as soon as its own vote is durable.
        let count = loop {
            match block_on(raft.propose(1)) {
                Err(ProposeError::NotLeader { .. }) => {
                    block_on(runtime.sleep(Duration::from_millis(10)));
                }
                answered => break answered?,
            }
        };
        println!("life {life}: the counter is {count} now");
        block_on(raft.shutdown());
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let image = self.0.to_le_bytes();
        Box::new(move |to: &mut dyn io::Write| to.write_all(&image))
    }

    fn restore(&mut self, image: &mut dyn Read) -> io::Result<()> {
        let mut value = [0; 8];
        image.read_exact(&mut value)?;
        self.0 = u64::from_le_bytes(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_rsm::testing::storage::StorageUnderTest;

    use super::*;

    /// A directory, and a process that crashes: what was written and not synced stays with the system here. To lose that,
    /// too, run your storage on the disk of `raft-sim`.
    struct Directory(tempfile::TempDir);

    impl StorageUnderTest for Directory {
        fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
            let runtime = Arc::new(ThreadRuntime::new());
            Arc::new(OwnStorage::create(self.0.path(), configuration, runtime).unwrap())
        }

        fn crash(&mut self) -> Arc<dyn Storage> {
            let runtime = Arc::new(ThreadRuntime::new());
            Arc::new(OwnStorage::open(self.0.path(), runtime).unwrap())
        }
    }

    raft_rsm::storage_conformance!(Directory(tempfile::tempdir().unwrap()));

    #[test]
    fn the_example_runs() {
        main().unwrap();
    }
}
