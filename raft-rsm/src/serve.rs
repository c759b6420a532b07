//! The shortest way to a replicated service: the plain-thread runtime, TCP, files, the default options.
//!
//! Everything here is a few lines upon the public parts; write your own when you want other options, tokio, or
//! another disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use raft_core::{Configuration, NodeId};

use crate::join::known_already;
use crate::runtime::ThreadRuntime;
use crate::storage::fs::{FileSystem, StdFileSystem};
use crate::storage::{FileStorage, FileStorageOptions, StorageError};
use crate::transport::{BindError, Connector, TcpConnector, TcpLimits, TcpOptions, TcpTransport};
use crate::{
    Client, ClientOptions, Cluster, Incarnation, JoinError, Options, Raft, Runtime, StartError,
    StateMachine, cluster_to_join,
};

/// The others of a cluster that is to be joined have so long to say which one it is.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// The others of a cluster that begins have so long to say that they know a node: most of them are not there yet.
const LOOKED_FOR: Duration = Duration::from_secs(1);

/// Whether a replica has ever run. A node cannot know it by itself: one whose disk was lost must not begin anew
/// under its old name, since it may have voted (diss. §11.7.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// For the first time: its data directory is empty or absent, and is created. Those of the others that can be asked are
    /// asked whether they know the node already; whether it has never run is the caller's to say all the same.
    Anew,
    /// Again: its data directory is there, and says of which cluster it is.
    Again,
    /// For the first time, or anew after its disk was lost, in a cluster that runs: its data directory is empty or
    /// absent, and is created, with a new incarnation. It knows nobody and waits until a leader does: until then it
    /// takes part in nothing. A change of membership that names this incarnation lets it in.
    Join,
}

impl Begin {
    /// The disk of the node `options.node`: its directory is opened, or created for a cluster that begins with the members
    /// that the text `cluster` names, or for one that runs. Which one that is, `options.cluster` says, or else the others
    /// are asked through `connector`, within five seconds.
    ///
    /// # Errors
    /// Where it was to begin [anew](Begin::Anew) or to [join](Begin::Join), there may be a directory that only the same call
    /// takes, which then begins once more; nothing that was there before is touched.
    pub async fn storage(
        self,
        cluster: &Cluster,
        options: FileStorageOptions,
        connector: &dyn Connector,
        fs: Arc<dyn FileSystem>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<FileStorage, ServeError> {
        let (members, id) = match (self, options.cluster) {
            (Begin::Again, _) => return Ok(FileStorage::open(options, fs, runtime).await?),
            (Begin::Anew, told) => {
                FileStorage::check_new(&options, &fs, &*runtime).await?;
                let (id, own) = (told.unwrap_or(cluster.default_id()), options.node);
                let known = known_already(connector, cluster, id, own, LOOKED_FOR).await;
                if let Some((by, incarnation)) = known {
                    return Err(ServeError::RanBefore { id: own, incarnation, by });
                }
                (cluster.configuration(), id)
            }
            (Begin::Join, Some(told)) => (Configuration::default(), told),
            (Begin::Join, None) => {
                let joined = cluster_to_join(connector, cluster, options.node, ASKED_FOR).await?;
                (Configuration::default(), joined)
            }
        };
        let options = FileStorageOptions { cluster: Some(id), ..options };
        Ok(FileStorage::create(options, members, fs, runtime).await?)
    }
}

/// Why a replica is not served. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The cluster has no such node, so there is no address to listen on.
    #[error("node {id} is not in the cluster {cluster}")]
    NotAMember {
        /// The node.
        id: NodeId,
        /// The cluster.
        cluster: Cluster,
    },
    /// It was to begin anew, and a node of the same cluster knows it: it has run before, and has lost its disk, or is about
    /// to be started with the wrong one. [`Begin::Join`] is for a node that has lost its disk. Nothing was created.
    #[error(
        "node {id} has run before: node {by} knows it as incarnation {incarnation}, and what it promised is not here"
    )]
    RanBefore {
        /// The node.
        id: NodeId,
        /// Under which incarnation it is known.
        incarnation: Incarnation,
        /// Who knows it.
        by: NodeId,
    },
    /// It is not known which cluster to join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node's address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The replica cannot be started from what the data directory holds.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Starts the replica `id` of `machine` with its data in `dir`: on threads of its own, listening where `cluster` says.
/// For the first time, all members of `cluster` are voters. Later on `cluster` may be another text, with other addresses and
/// members: it says where this replica listens, and where others may be found; who is a member, its log says. A replica
/// that [joins](Begin::Join) asks the others in it which cluster that is.
///
/// # Errors
/// Nothing runs. Where it was to [begin anew](Begin::Anew) or to [join](Begin::Join), the data directory may have been
/// created.
pub async fn serve<M: StateMachine>(
    cluster: &Cluster,
    id: NodeId,
    dir: impl Into<PathBuf>,
    begin: Begin,
    machine: M,
) -> Result<Raft<M>, ServeError> {
    let not_a_member = || ServeError::NotAMember { id, cluster: cluster.clone() };
    if cluster.address(id).is_none() {
        return Err(not_a_member());
    }
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let limits = TcpLimits::default();
    let others = TcpConnector::new(cluster.clone(), None, limits, Arc::clone(&runtime));
    let options = FileStorageOptions::new(dir, None, id);
    let fs = Arc::new(StdFileSystem);
    let storage = begin.storage(cluster, options, &*others, fs, Arc::clone(&runtime)).await?;
    let listen = TcpOptions::of_cluster(storage.identity(), cluster.clone());
    let transport = TcpTransport::bind(listen.ok_or_else(not_a_member)?, Arc::clone(&runtime))?;
    let options = Options::new(id);
    Ok(Raft::start(options, machine, Arc::new(storage), transport, runtime).await?)
}

/// A client of the replicas of `cluster`, on threads of its own. Nothing is dialled before the first call. `cluster` need not
/// be all of its members; the cluster of the first node that helps is the one that is meant.
#[must_use]
pub fn connect<M: StateMachine>(cluster: &Cluster) -> Client<M> {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let limits = TcpLimits::default();
    let connector = TcpConnector::new(cluster.clone(), None, limits, Arc::clone(&runtime));
    Client::new(connector, runtime, ClientOptions::default())
}
