//! Storage on a disk.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use raft_core::{Configuration, Entry, LogIndex, NodeId, Restored, SnapshotMeta, Write};

use super::data_dir::{self, DataDir};
use super::fs::FileSystem;
use super::log_state::LogState;
use super::snapshots::Snapshots;
use super::wal::{Wal, WalOptions};
use super::{SnapshotReader, SnapshotWriter, Storage, StorageError};
use crate::identity::{ClusterId, Identity, Incarnation};
use crate::runtime::{Runtime, blocking};

/// Where a node keeps its data, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStorageOptions {
    /// The node's own directory.
    pub dir: PathBuf,
    /// The cluster that the node belongs to. `None`, which only does for a directory that is there: the one that the
    /// directory says.
    pub cluster: Option<ClusterId>,
    /// The node.
    pub node: NodeId,
    /// A file of the log that is longer than this, in bytes, is followed by a new one. What is compacted
    /// is removed file by file, so the disk holds up to two of them beyond what the log needs.
    pub segment_bytes: u64,
    /// The log's file is extended in steps of this many bytes: a write that extends it takes longer to
    /// become durable. 0 extends it with each write.
    pub preallocate_bytes: u64,
}

impl FileStorageOptions {
    /// The defaults: files of 16 MiB, which is about what is written between two snapshots
    /// ([`crate::Options::snapshot_log_bytes`]), extended by 256 KiB.
    #[must_use]
    pub fn new(
        dir: impl Into<PathBuf>,
        cluster: impl Into<Option<ClusterId>>,
        node: NodeId,
    ) -> FileStorageOptions {
        FileStorageOptions {
            dir: dir.into(),
            cluster: cluster.into(),
            node,
            segment_bytes: 16 * 1024 * 1024,
            preallocate_bytes: 256 * 1024,
        }
    }
}

/// Log, hard state and snapshots in one directory, which no other process can use meanwhile.
///
/// Every write is one record with checksums, synced before it is acknowledged. A torn tail is cut when the
/// directory is opened; damage anywhere else is an error that names file and offset. After the first failed
/// write or sync every later write is refused.
pub struct FileStorage {
    inner: Arc<Inner>,
    runtime: Arc<dyn Runtime>,
}

struct Inner {
    wal: Wal,
    snapshots: Arc<Snapshots>,
    /// Dropped last: the lock is given back when nothing works on the files any more.
    dir: Arc<DataDir>,
}

impl FileStorage {
    /// Creates the data directory of a node that never ran, in a directory that is empty or absent, for a
    /// cluster that starts with the members of `configuration`. The incarnation is drawn at random.
    ///
    /// # Errors
    /// There may be a directory that only this function takes, which then begins anew; nothing that was
    /// there before is touched. [`StorageError::Refused`] where the directory holds anything, or no cluster is given.
    pub async fn create(
        options: FileStorageOptions,
        configuration: Configuration,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<FileStorage, StorageError> {
        FileStorage::start(options, fs, runtime, move |options, fs, runtime| {
            let Some(cluster) = options.cluster else {
                let problem = "a data directory is created for a cluster, and none is given";
                return Err(StorageError::refused(&options.dir, problem.to_owned()));
            };
            let identity = Identity {
                cluster,
                node: options.node,
                incarnation: Incarnation(runtime.random()),
            };
            DataDir::create(fs, &options.dir, identity, |dir| {
                let state = LogState::first_start(configuration);
                Wal::create(fs, runtime, &dir.join(data_dir::LOG), &identity, &state)
            })
        })
        .await
    }

    /// Whether [`FileStorage::create`] would take the directory, as it is now.
    pub(crate) async fn check_new(
        options: &FileStorageOptions,
        fs: &Arc<dyn FileSystem>,
        runtime: &dyn Runtime,
    ) -> Result<(), StorageError> {
        let (dir, fs) = (options.dir.clone(), Arc::clone(fs));
        let work = move || match data_dir::refuse_foreign(&*fs, &dir) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            checked => checked,
        };
        blocking(runtime, "check new storage", work).await.map_err(|_| StorageError::Stopped)?
    }

    /// Opens the data directory of a node that ran before: reads the log, cuts a torn tail, removes what a
    /// crash left unfinished.
    ///
    /// # Errors
    /// [`StorageError::InUse`]; [`StorageError::Refused`] where the directory is absent, empty, of a newer format, or of
    /// another node or cluster; [`StorageError::Damaged`] where a file does not hold what was written.
    /// Nothing is changed then.
    pub async fn open(
        options: FileStorageOptions,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<FileStorage, StorageError> {
        FileStorage::start(options, fs, runtime, |options, fs, _| {
            DataDir::open(fs, &options.dir, options.cluster, options.node)
        })
        .await
    }

    async fn start(
        options: FileStorageOptions,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
        dir: impl FnOnce(
            &FileStorageOptions,
            &dyn FileSystem,
            &dyn Runtime,
        ) -> Result<DataDir, StorageError>
        + Send
        + 'static,
    ) -> Result<FileStorage, StorageError> {
        let beside = runtime.clone();
        let work = move || {
            let dir = Arc::new(dir(&options, fs.as_ref(), beside.as_ref())?);
            let wal_options = WalOptions {
                segment_bytes: options.segment_bytes,
                preallocate_bytes: options.preallocate_bytes,
            };
            let log = dir.path.join(data_dir::LOG);
            let wal = Wal::open(fs.clone(), beside, log, dir.owner.clone(), wal_options)?;
            let snapshots = Snapshots::open(fs, dir.clone())?;
            Ok(Arc::new(Inner { wal, snapshots: Arc::new(snapshots), dir }))
        };
        let inner = blocking(runtime.as_ref(), "open storage", work)
            .await
            .map_err(|_| StorageError::Stopped)??;
        Ok(FileStorage { inner, runtime })
    }

    /// Whose data this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.dir.owner.identity
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Inner) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = self.inner.clone();
        blocking(self.runtime.as_ref(), name, move || work(&inner))
            .await
            .map_err(|_| StorageError::Stopped)?
    }
}

impl fmt::Debug for FileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStorage").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for FileStorage {
    async fn load(&self) -> Result<Restored, StorageError> {
        self.blocking("load", |inner| {
            let snapshot = inner.snapshots.newest();
            Ok(inner.wal.state()?.restored(inner.dir.owner.identity.incarnation, snapshot))
        })
        .await
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        self.blocking("write", move |inner| inner.wal.write(&write)).await
    }

    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        self.blocking("read", move |inner| inner.wal.read(first, last, bytes_max)).await
    }

    fn log_bytes(&self) -> u64 {
        self.inner.wal.live_bytes()
    }

    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        self.inner.snapshots.create(meta)
    }

    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        self.inner.snapshots.open_newest()
    }
}
