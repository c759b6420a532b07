//! The directory in which a node keeps everything, and what it says about itself.
//!
//! ```text
//! identity     makes it a data directory; written last, and again by nothing but a recovery
//! identity.tmp there while the identity is being written
//! lock         held by the process that uses it
//! log/         the write-ahead log
//! snapshots/
//! ```

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use raft_core::NodeId;

use super::StorageError;
use super::fs::{FileSystem, Lock};
use crate::identity::{ClusterId, Identity, Incarnation};

pub(super) const LOG: &str = "log";
pub(super) const SNAPSHOTS: &str = "snapshots";

const IDENTITY: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.tmp";
const LOCK: &str = "lock";
const FORMER: &str = "before";
const UNFINISHED: &str = "recovery unfinished";
/// Of a directory that was never recovered, so that older programs read it ...
const FORMAT_VERSION_PLAIN: u32 = 1;
/// ... and of one that was.
const FORMAT_VERSION: u32 = 2;
/// What each recovery adds has to fit into `IDENTITY_BYTES_MAX`.
const FORMER_MAX: usize = 32;
/// Longer than any identity that was ever written.
const IDENTITY_BYTES_MAX: usize = 4096;

/// A data directory that this process has to itself.
#[derive(Debug)]
pub(super) struct DataDir {
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
    _lock: Box<dyn Lock>,
}

/// Whose a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) identity: Identity,
    /// Whose it was before it was recovered: older files of the log say so.
    former: Vec<Identity>,
    /// A recovery has begun, and the log does not say so yet.
    is_unfinished: bool,
}

impl Owner {
    fn of(identity: Identity) -> Owner {
        Owner { identity, former: Vec::new(), is_unfinished: false }
    }

    /// Whether the directory is or was that of `identity`.
    pub(super) fn was(&self, identity: &Identity) -> bool {
        self.identity == *identity || self.former.contains(identity)
    }
}

impl DataDir {
    /// Creates a data directory, which `fill` fills after the directories for log and snapshots are there.
    /// A crash leaves a whole data directory, or one that this function takes for none and begins anew.
    pub(super) fn create(
        fs: &dyn FileSystem,
        path: &Path,
        identity: Identity,
        fill: impl FnOnce(&Path) -> Result<(), StorageError>,
    ) -> Result<DataDir, StorageError> {
        create_dirs(fs, path)?;
        refuse_foreign(fs, path)?;
        let lock = take_lock(fs, path)?;
        // Once more, under the lock: another process may have been at work.
        refuse_foreign(fs, path)?;
        // First of all it says that it is being created, so that a directory that lost its identity
        // later is never taken for one.
        write_temporary(fs, path, &Owner::of(identity))?;
        fs.sync_dir(path).map_err(StorageError::io("sync", path))?;
        for name in [LOG, SNAPSHOTS] {
            empty_dir(fs, &path.join(name))?;
        }
        fs.sync_dir(path).map_err(StorageError::io("sync", path))?;
        fill(path)?;
        name_temporary(fs, path)?;
        Ok(DataDir { path: path.to_owned(), owner: Owner::of(identity), _lock: lock })
    }

    /// Opens the data directory of this node in this cluster, or in whichever it says.
    pub(super) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        cluster: Option<ClusterId>,
        node: NodeId,
    ) -> Result<DataDir, StorageError> {
        let dir = DataDir::open_any(fs, path)?;
        let identity = dir.owner.identity;
        if let Some(cluster) = cluster
            && identity.cluster != cluster
        {
            let problem = format!(
                "it belongs to cluster {}, not to {cluster}; check the path and the members' addresses",
                identity.cluster
            );
            return Err(StorageError::refused(path, problem));
        }
        if identity.node != node {
            let problem = format!(
                "it belongs to node {}, not to node {node}; check the path and the id",
                identity.node
            );
            return Err(StorageError::refused(path, problem));
        }
        if dir.owner.is_unfinished {
            let problem = "its recovery was interrupted; run the recovery once more".to_owned();
            return Err(StorageError::refused(path, problem));
        }
        Ok(dir)
    }

    /// Opens the data directory of whichever node, also one whose recovery was interrupted.
    pub(super) fn open_any(fs: &dyn FileSystem, path: &Path) -> Result<DataDir, StorageError> {
        let names = match fs.list(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("open", path)(error)),
        };
        let has = |wanted| names.iter().any(|name| name == wanted);
        if !has(IDENTITY) {
            let problem = if has(IDENTITY_TEMPORARY) {
                "its creation was interrupted; create it once more, as for the first start"
            } else if names.iter().all(|name| name == LOCK) {
                "there is no data of a node here; create it if this is the node's first start. \
                 A node that ran before has lost its votes with its data and must not start \
                 again under the same identity"
            } else {
                "this is not a data directory, there is no file 'identity' in it; check the path"
            };
            return Err(StorageError::refused(path, problem.to_owned()));
        }
        let lock = take_lock(fs, path)?;
        let owner = read_identity(fs, &path.join(IDENTITY))?;
        // Whoever wrote it may have been killed before the name of the identity was durable.
        fs.sync_dir(path).map_err(StorageError::io("sync", path))?;
        Ok(DataDir { path: path.to_owned(), owner, _lock: lock })
    }

    /// Gives the directory to `identity`. Until [`DataDir::finish_recovery`] it cannot be opened but for a recovery.
    pub(super) fn begin_recovery(
        &mut self,
        fs: &dyn FileSystem,
        identity: Identity,
    ) -> Result<(), StorageError> {
        let mut former = self.owner.former.clone();
        former.push(self.owner.identity);
        if former.len() > FORMER_MAX {
            let problem = format!("it was recovered {FORMER_MAX} times, and cannot be once more");
            return Err(StorageError::refused(&self.path, problem));
        }
        self.give_to(fs, Owner { identity, former, is_unfinished: true })
    }

    /// The log says everything that a recovery has to say.
    pub(super) fn finish_recovery(&mut self, fs: &dyn FileSystem) -> Result<(), StorageError> {
        self.give_to(fs, Owner { is_unfinished: false, ..self.owner.clone() })
    }

    /// A crash leaves the one identity or the other.
    fn give_to(&mut self, fs: &dyn FileSystem, owner: Owner) -> Result<(), StorageError> {
        write_temporary(fs, &self.path, &owner)?;
        name_temporary(fs, &self.path)?;
        self.owner = owner;
        Ok(())
    }
}

/// Refuses a directory with anything in it that an interrupted creation does not leave.
pub(super) fn refuse_foreign(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    let names = fs.list(path).map_err(StorageError::io("list", path))?;
    let has = |wanted| names.iter().any(|name| name == wanted);
    if has(IDENTITY) {
        let problem = "it is a data directory already; start the node without creating it, or choose another path";
        return Err(StorageError::refused(path, problem.to_owned()));
    }
    let ours = |name: &String| {
        name == LOCK
            || (has(IDENTITY_TEMPORARY)
                && [IDENTITY_TEMPORARY, LOG, SNAPSHOTS].contains(&name.as_str()))
    };
    if let Some(foreign) = names.iter().find(|name| !ours(name)) {
        let problem = format!(
            "it holds {foreign:?}; a data directory is created in an empty directory or a new one"
        );
        return Err(StorageError::refused(path, problem));
    }
    Ok(())
}

fn take_lock(fs: &dyn FileSystem, path: &Path) -> Result<Box<dyn Lock>, StorageError> {
    let file = path.join(LOCK);
    let lock = fs.lock(&file).map_err(StorageError::io("lock", &file))?;
    lock.ok_or_else(|| StorageError::InUse { path: path.to_owned() })
}

/// Creates a directory, and those above it that are missing, durably.
fn create_dirs(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match fs.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // It may have been created a moment ago, by a process that was killed before it was durable.
        Ok(_) => {
            return match fs.sync_dir(parent) {
                // Whoever may not look into the parent has not created anything in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced.map_err(StorageError::io("sync", parent)),
            };
        }
        Err(error) => return Err(StorageError::io("create", path)(error)),
    }
    create_dirs(fs, parent)?;
    match fs.create_dir(path) {
        Ok(()) => {}
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StorageError::io("create", path)(error)),
    }
    fs.sync_dir(parent).map_err(StorageError::io("sync", parent))
}

/// Creates a directory, or empties the one that an interrupted creation left.
fn empty_dir(fs: &dyn FileSystem, dir: &Path) -> Result<(), StorageError> {
    match fs.create_dir(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StorageError::io("create", dir)(error)),
    }
    for name in fs.list(dir).map_err(StorageError::io("list", dir))? {
        let path = dir.join(name);
        fs.remove(&path).map_err(StorageError::io("remove", &path))?;
    }
    fs.sync_dir(dir).map_err(StorageError::io("sync", dir))
}

/// Writes an identity that is none yet.
fn write_temporary(fs: &dyn FileSystem, dir: &Path, owner: &Owner) -> Result<(), StorageError> {
    let path = dir.join(IDENTITY_TEMPORARY);
    let names = fs.list(dir).map_err(StorageError::io("list", dir))?;
    let file = if names.iter().any(|name| name == IDENTITY_TEMPORARY) {
        fs.open(&path).map_err(StorageError::io("open", &path))?
    } else {
        fs.create(&path).map_err(StorageError::io("create", &path))?
    };
    let write = || {
        file.set_len(0)?;
        file.write_at(render(owner).as_bytes(), 0)?;
        file.sync()
    };
    write().map_err(StorageError::io("write", &path))
}

/// Makes it the identity, durably.
fn name_temporary(fs: &dyn FileSystem, dir: &Path) -> Result<(), StorageError> {
    let temporary = dir.join(IDENTITY_TEMPORARY);
    let renamed = fs.rename(&temporary, &dir.join(IDENTITY));
    renamed.map_err(StorageError::io("rename", &temporary))?;
    fs.sync_dir(dir).map_err(StorageError::io("sync", dir))
}

/// A text, so that a person who looks into the directory knows whose it is.
fn render(owner: &Owner) -> String {
    let Owner { identity, former, is_unfinished } = owner;
    let Identity { cluster, node, incarnation } = identity;
    let version = match former.is_empty() {
        true => FORMAT_VERSION_PLAIN,
        false => FORMAT_VERSION,
    };
    let mut text = format!(
        "data directory of a raft-rsm node\nformat {version}\ncluster {cluster}\n\
         node {node}\nincarnation {incarnation}\n"
    );
    // Writing into a text does not fail.
    for Identity { cluster, node: _, incarnation } in former {
        let _ = writeln!(text, "{FORMER} {cluster} {incarnation}");
    }
    if *is_unfinished {
        let _ = writeln!(text, "{UNFINISHED}");
    }
    let checksum = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "checksum {checksum:08x}");
    text
}

fn read_identity(fs: &dyn FileSystem, path: &Path) -> Result<Owner, StorageError> {
    let file = fs.open(path).map_err(StorageError::io("open", path))?;
    let mut bytes = vec![0; IDENTITY_BYTES_MAX];
    let read = super::wal::read_up_to(file.as_ref(), &mut bytes, 0)
        .map_err(StorageError::io("read", path))?;
    bytes.truncate(read);
    let damaged = || StorageError::damaged(path, 0, "it is not an identity as it was written");
    let text = String::from_utf8(bytes).map_err(|_| damaged())?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or_else(damaged)
    };
    let version: u32 = field("format")?.parse().map_err(|_| damaged())?;
    if version > FORMAT_VERSION {
        return Err(StorageError::other_format(path, version, FORMAT_VERSION));
    }
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).map_err(|_| damaged());
    let node = NodeId(field("node")?.parse().map_err(|_| damaged())?);
    let identity = |cluster: &str, incarnation: &str| {
        let cluster = ClusterId(hexadecimal(cluster)?);
        Ok(Identity { cluster, node, incarnation: Incarnation(hexadecimal(incarnation)?) })
    };
    let former = text.lines().filter_map(|line| line.strip_prefix(FORMER)?.strip_prefix(' '));
    let former = former.map(|line| {
        let (cluster, incarnation) = line.split_once(' ').ok_or_else(damaged)?;
        identity(cluster, incarnation)
    });
    let owner = Owner {
        identity: identity(field("cluster")?, field("incarnation")?)?,
        former: former.collect::<Result<_, StorageError>>()?,
        is_unfinished: text.lines().any(|line| line == UNFINISHED),
    };
    if render(&owner) == text { Ok(owner) } else { Err(damaged()) }
}
