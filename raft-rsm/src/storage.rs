//! What a node must not forget: log, hard state, snapshots.

mod data_dir;
mod file;
pub mod fs;
mod log_state;
mod memory;
mod recovery;
mod snapshots;
mod wal;

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use raft_core::{Entry, LogIndex, Restored, SnapshotMeta, Write};

pub use file::{FileStorage, FileStorageOptions};
pub use memory::MemoryStorage;
pub use recovery::{Recovered, Recovery};

/// Log, hard state and snapshots of one node. Each sentence of its contract is a test in
/// [`crate::testing::storage`], for users who bring their own.
///
/// The first error of a `write` is the last: the node stops, and nothing is tried again, since after a failed
/// sync nobody knows what the disk holds (traps of ATC '20, "Can applications recover from fsync failures?").
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// What the disk holds. Called once, before everything else.
    async fn load(&self) -> Result<Restored, StorageError>;

    /// Carries out one change, all of it or nothing, and returns when it is durable. It is called with
    /// one write at a time. A write that does not follow from what is stored, such as one that leaves
    /// a gap, is an error ([`StorageError::Inconsistent`]). After an error every later write is refused
    /// ([`StorageError::Stopped`]), and only a restart tells whether the write that failed is there.
    async fn write(&self, write: Write) -> Result<(), StorageError>;

    /// Reads entries from `first` up to `last`, without a gap, at least one; stops before the sum of
    /// [`Entry::cost_bytes`] exceeds `bytes_max`, but never before the first entry. `None`: the log
    /// does not hold the entry at `first`, since it is compacted, or (where a `write` that truncates
    /// was faster) no more. May run beside a `write`, and sees what was durable before it or after.
    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError>;

    /// The size of the entries that are not compacted, in bytes on the disk (or in memory, where there
    /// is no disk). What else the disk holds for a while is bounded by the storage's own options.
    fn log_bytes(&self) -> u64;

    /// Starts a new snapshot. Several may be written at once. Blocking: called within
    /// [`crate::Runtime::spawn_blocking`].
    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// Opens the newest complete snapshot. It stays readable while newer ones replace it.
    /// Blocking: called within [`crate::Runtime::spawn_blocking`].
    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError>;
}

/// A snapshot that is being written. One that is dropped before [`SnapshotWriter::finish`] leaves nothing behind.
pub trait SnapshotWriter: io::Write + Send {
    /// Makes the snapshot durable, and the newest one unless one that ends at a greater index is
    /// there. Older ones are removed. A crash before it returns leaves the older or the new one, whole.
    fn finish(self: Box<Self>) -> Result<(), StorageError>;
}

/// A complete snapshot.
pub trait SnapshotReader: io::Read + io::Seek + Send {
    /// What the snapshot says about itself.
    fn meta(&self) -> &SnapshotMeta;

    /// The length of the image, in bytes.
    fn len_bytes(&self) -> u64;
}

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "sync", "open", ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not hold what was written to it.
    #[error("{} is damaged at byte {offset}: {problem}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The directory is not what the options say.
    #[error("{}: {problem}", path.display())]
    Refused {
        /// Which directory or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Another process, or another node of this one, uses the directory: stop that one first. One that was just killed
    /// lets go of it a moment later.
    #[error("{}: another process, or another node of this one, uses it; stop that one first", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// A write does not follow from what storage holds: its caller is wrong. Nothing of it was written.
    #[error("a write does not fit what is stored: {problem}")]
    Inconsistent {
        /// Why not.
        problem: String,
    },
    /// An earlier write failed: nothing is known of the disk until the node is started again.
    #[error("an earlier write failed; start the node again")]
    Stopped,
}

impl StorageError {
    /// What to make of an error of the operating system.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| StorageError::Io { action, path: path.to_owned(), source }
    }

    fn damaged(path: &Path, offset: u64, problem: &str) -> StorageError {
        StorageError::Damaged { path: path.to_owned(), offset, problem: problem.to_owned() }
    }

    fn refused(path: &Path, problem: String) -> StorageError {
        StorageError::Refused { path: path.to_owned(), problem }
    }

    fn other_format(path: &Path, found: u32, known: u32) -> StorageError {
        let start = if found > known {
            "the version that wrote it, or a newer one"
        } else {
            "the version that wrote it"
        };
        let problem = format!(
            "it is in format {found}, and this program reads format {known}; start {start}"
        );
        StorageError::refused(path, problem)
    }
}
