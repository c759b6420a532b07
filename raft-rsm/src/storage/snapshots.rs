//! The snapshots of one node: one file each, complete or not there.
//!
//! A snapshot is written to a temporary file, synced, and renamed to what it is; then the directory is synced,
//! and older ones are removed.

mod image;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_core::{EntryId, LogIndex, SnapshotMeta, Term};

use self::image::{ImageReader, ImageWriter};
use super::data_dir::{DataDir, SNAPSHOTS};
use super::fs::FileSystem;
use super::{SnapshotReader, SnapshotWriter, StorageError};

const SUFFIX: &str = ".snapshot";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// The directory of the snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// Writers hold it, too: one that outlives the node does not meet the next one's files.
    _data_dir: Arc<DataDir>,
    /// The newest complete one. Held while it is replaced or opened.
    newest: Mutex<Option<SnapshotMeta>>,
    /// Numbers the temporary files.
    temporaries: AtomicU64,
}

impl Snapshots {
    /// Finds the newest complete snapshot and removes everything else that a crash left.
    pub(super) fn open(
        fs: Arc<dyn FileSystem>,
        data_dir: Arc<DataDir>,
    ) -> Result<Snapshots, StorageError> {
        let dir = data_dir.path.join(SNAPSHOTS);
        let newest = Mutex::new(None);
        let temporaries = AtomicU64::new(0);
        let snapshots = Snapshots { fs, dir, _data_dir: data_dir, newest, temporaries };
        let names = snapshots.list()?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
            let path = snapshots.dir.join(name);
            snapshots.fs.remove(&path).map_err(StorageError::io("remove", &path))?;
        }
        // A crash may have come before the name of a snapshot was durable; and the names of temporary
        // files are used again.
        let dir = &snapshots.dir;
        snapshots.fs.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
        let newest = names.iter().filter_map(|name| id(name)).max_by_key(|id| id.index);
        if let Some(newest) = newest {
            let meta = snapshots.read(newest)?.meta().clone();
            *snapshots.lock() = Some(meta);
            snapshots.remove_before(newest)?;
        }
        Ok(snapshots)
    }

    /// The newest complete snapshot.
    pub(super) fn newest(&self) -> Option<SnapshotMeta> {
        self.lock().clone()
    }

    /// See [`super::Storage::create_snapshot`].
    pub(super) fn create(
        self: &Arc<Self>,
        meta: SnapshotMeta,
    ) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{number}{TEMPORARY_SUFFIX}"));
        let file = self.fs.create(&temporary).map_err(StorageError::io("create", &temporary))?;
        let image = ImageWriter::new(file, temporary.clone(), &meta);
        let unfinished = Unfinished { snapshots: self.clone(), temporary, renamed: false };
        Ok(Box::new(Writer { image, meta, unfinished }))
    }

    /// See [`super::Storage::open_snapshot`].
    pub(super) fn open_newest(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        let newest = self.lock();
        match newest.as_ref() {
            Some(meta) => Ok(Some(Box::new(self.read(meta.last)?))),
            None => Ok(None),
        }
    }

    fn read(&self, last: EntryId) -> Result<ImageReader, StorageError> {
        let path = self.path(last);
        let file = self.fs.open(&path).map_err(StorageError::io("open", &path))?;
        ImageReader::open(file, path, last)
    }

    /// Removes the snapshots that end before `newest`.
    fn remove_before(&self, newest: EntryId) -> Result<(), StorageError> {
        for name in self.list()? {
            if id(&name).is_some_and(|id| id != newest && id.index <= newest.index) {
                let path = self.dir.join(name);
                self.fs.remove(&path).map_err(StorageError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.fs.list(&self.dir).map_err(StorageError::io("list", &self.dir))
    }

    fn path(&self, last: EntryId) -> PathBuf {
        self.dir.join(name(last))
    }

    /// What is locked is changed in one move.
    fn lock(&self) -> MutexGuard<'_, Option<SnapshotMeta>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the file of the snapshot that ends with this entry.
fn name(last: EntryId) -> String {
    format!("{:020}-{:020}{SUFFIX}", last.index.0, last.term.0)
}

/// The last entry of the snapshot in the file with this name, if it is one.
fn id(of: &str) -> Option<EntryId> {
    let (index, term) = of.strip_suffix(SUFFIX)?.split_once('-')?;
    let id = EntryId::new(Term(term.parse().ok()?), LogIndex(index.parse().ok()?));
    (name(id) == of).then_some(id)
}

struct Writer {
    image: ImageWriter,
    meta: SnapshotMeta,
    unfinished: Unfinished,
}

impl io::Write for Writer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.image.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotWriter for Writer {
    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let Writer { image, meta, mut unfinished } = *self;
        image.finish()?;
        let snapshots = unfinished.snapshots.clone();
        let mut newest = snapshots.lock();
        if newest.as_ref().is_some_and(|old| old.last.index > meta.last.index) {
            return Ok(());
        }
        let (from, to) = (&unfinished.temporary, snapshots.path(meta.last));
        snapshots.fs.rename(from, &to).map_err(StorageError::io("rename", from))?;
        unfinished.renamed = true;
        let dir = &snapshots.dir;
        snapshots.fs.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
        let last = meta.last;
        *newest = Some(meta);
        snapshots.remove_before(last)
    }
}

/// Removes the temporary file of a writer that is dropped.
struct Unfinished {
    snapshots: Arc<Snapshots>,
    temporary: PathBuf,
    renamed: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = self.snapshots.fs.remove(&self.temporary)
        {
            // It is removed at the next start.
            let path = self.temporary.display();
            tracing::warn!(%path, %error, "cannot remove an unfinished snapshot");
        }
    }
}
