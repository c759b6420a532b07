//! When most voters of a cluster are lost for ever, one that is left begins a new cluster with what it has.
//!
//! This is no part of Raft: nobody can know what the others had acknowledged. So it is the operator's decision, taken
//! while the node does not run, and what comes of it is another cluster: it has another id, so the nodes of the old one,
//! should they come back, are strangers to it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use raft_core::{
    Configuration, Entry, EntryId, HardState, LogIndex, Member, Payload, SnapshotMeta, Write,
    WriteId,
};

use super::data_dir::{self, DataDir};
use super::fs::FileSystem;
use super::log_state::LogState;
use super::snapshots::Snapshots;
use super::wal::{Wal, WalOptions};
use super::{FileStorageOptions, StorageError};
use crate::identity::{Cluster, ClusterId, Identity, Incarnation};
use crate::runtime::{Runtime, blocking};

/// The data directory of a survivor, which nobody else can use meanwhile. Dropped, it leaves everything as it was.
pub struct Recovery {
    dir: DataDir,
    state: LogState,
    snapshot: Option<SnapshotMeta>,
    fs: Arc<dyn FileSystem>,
    runtime: Arc<dyn Runtime>,
}

/// What came of a recovery. Its text is a sentence for the operator.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose the directory is now.
    pub identity: Identity,
    /// The last entry that the old cluster has left here. What it had committed is here up to `commit` for certain; beyond,
    /// it may be lost, or other entries may be here in its place, also before `last`.
    pub last: EntryId,
    /// Up to here the survivor knew that the old cluster had committed. What follows, up to `last`, perhaps nobody was
    /// ever told of; it counts from now on.
    pub commit: LogIndex,
}

impl Recovery {
    /// Looks at what is in `dir`, and takes its lock.
    ///
    /// # Errors
    /// [`StorageError::InUse`]: the node runs. [`StorageError::Refused`]: there is nothing to begin a cluster with.
    /// [`StorageError::Damaged`].
    pub async fn open(
        dir: impl Into<PathBuf>,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Recovery, StorageError> {
        let (dir, beside) = (dir.into(), Arc::clone(&runtime));
        let work = move || Recovery::open_blocking(dir, fs, beside);
        blocking(runtime.as_ref(), "look at storage", work)
            .await
            .map_err(|_| StorageError::Stopped)?
    }

    fn open_blocking(
        path: PathBuf,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Recovery, StorageError> {
        let dir = Arc::new(DataDir::open_any(fs.as_ref(), &path)?);
        let state = open_log(&dir, &fs, &runtime)?.state()?;
        let snapshot = Snapshots::open(Arc::clone(&fs), Arc::clone(&dir))?.newest();
        let nobody = || StorageError::Stopped;
        let dir = Arc::into_inner(dir).ok_or_else(nobody)?;
        let recovery = Recovery { dir, state, snapshot, fs, runtime };
        if recovery.configuration().members().is_empty() {
            let problem = "its node has never been a member of a cluster, and holds nothing";
            return Err(StorageError::refused(&path, problem.to_owned()));
        }
        Ok(recovery)
    }

    /// Whose the directory is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.dir.owner.identity
    }

    /// The last entry that is there. Of several survivors the one with the greatest, by the term first and then by the index,
    /// has what a candidate must have to be elected (§5.4.1): it is the one to recover. The index alone says nothing.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.received().map_or(self.state.terms.last(), |snapshot| snapshot.last)
    }

    /// The last entry that was known here to be committed.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        let snapshot = self.snapshot.as_ref().map_or(LogIndex::ZERO, |meta| meta.last.index);
        self.state.hard_state.commit.max(snapshot)
    }

    /// The members as of the last configuration that is there.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        if let Some(snapshot) = self.received().filter(|s| !s.configuration.voters().is_empty()) {
            return &snapshot.configuration;
        }
        let latest = self.state.configurations.last();
        latest.map_or(&self.state.start.configuration, |(_, configuration)| configuration)
    }

    /// A snapshot that was received and that the log does not know yet (§7).
    fn received(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref().filter(|meta| !self.state.terms.contains(meta.last))
    }

    /// Begins a new cluster, of a random id: this node is its only voter, under a new incarnation, and everything that it
    /// has counts as committed. The other `members` are learners of whichever incarnation, to be started with nothing
    /// and made voters later; normally there are none.
    ///
    /// A crash leaves the directory as it was, or as one that cannot be opened but for a recovery: then do the same once
    /// more.
    ///
    /// # Errors
    /// [`StorageError::Refused`]: nothing was changed, the node is not among `members`. After any other one the
    /// recovery is to be done once more.
    pub async fn begin_cluster(self, members: &Cluster) -> Result<Recovered, StorageError> {
        let node = self.identity().node;
        if members.address(node).is_none() {
            let problem = format!(
                "it is the directory of node {node}, which is not among the members {members}"
            );
            return Err(StorageError::refused(&self.dir.path, problem));
        }
        let (members, runtime) = (members.clone(), Arc::clone(&self.runtime));
        blocking(runtime.as_ref(), "recover storage", move || self.begin_blocking(&members))
            .await
            .map_err(|_| StorageError::Stopped)?
    }

    fn begin_blocking(mut self, members: &Cluster) -> Result<Recovered, StorageError> {
        let (last, commit) = (self.last(), self.commit());
        let identity = Identity {
            cluster: ClusterId(self.runtime.random()),
            incarnation: Incarnation(self.runtime.random()),
            ..self.identity()
        };
        let write = self.write(identity, members);
        // Before the log: the old cluster must never meet an entry of which it knows nothing.
        self.dir.begin_recovery(self.fs.as_ref(), identity)?;
        open_log(&self.dir, &self.fs, &self.runtime)?.write(&write)?;
        self.dir.finish_recovery(self.fs.as_ref())?;
        Ok(Recovered { identity, last, commit })
    }

    /// What makes the survivor the only voter.
    fn write(&self, identity: Identity, members: &Cluster) -> Write {
        let last = self.last();
        let term = last.term.max(self.state.hard_state.term).next();
        let id = EntryId::new(term, last.index.next());
        let (voters, learners): (Vec<_>, Vec<_>) = members
            .addresses()
            .map(|(id, address)| match id == identity.node {
                true => Member::of_incarnation(id, identity.incarnation, address),
                false => Member::new(id, address),
            })
            .partition(|member| member.id == identity.node);
        let configuration = Configuration::of_members(voters, [], learners);
        Write {
            id: WriteId(0),
            reset: self.received().cloned(),
            compact: None,
            entries: vec![Entry { id, payload: Payload::Configuration(configuration) }].into(),
            hard_state: Some(HardState { term, vote: None, commit: id.index }),
        }
    }
}

fn open_log(
    dir: &DataDir,
    fs: &Arc<dyn FileSystem>,
    runtime: &Arc<dyn Runtime>,
) -> Result<Wal, StorageError> {
    let defaults = FileStorageOptions::new(&dir.path, None, dir.owner.identity.node);
    let FileStorageOptions { segment_bytes, preallocate_bytes, .. } = defaults;
    let options = WalOptions { segment_bytes, preallocate_bytes };
    let path = dir.path.join(data_dir::LOG);
    Wal::open(Arc::clone(fs), Arc::clone(runtime), path, dir.owner.clone(), options)
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovered { identity: Identity { cluster, node, .. }, last, commit } = self;
        write!(
            f,
            "node {node} is the only voter of the new cluster {cluster}; entries up to {commit} are known to have been \
             committed in the old one, and of those after them, what others acknowledged may be lost, or replaced by what \
             this log holds up to entry {} of term {}",
            last.index, last.term
        )?;
        let first = commit.next();
        if first > last.index {
            return Ok(());
        }
        let entries = match first == last.index {
            true => format!("entry {first} counts"),
            false => format!("the entries from {first} to {} count", last.index),
        };
        write!(f, "; {entries} now, though perhaps nobody was ever told so")
    }
}
