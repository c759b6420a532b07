//! The start of a node, as its process carries it out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use raft_rsm::raft_core::{Configuration, Incarnation, NodeId};
use raft_rsm::storage::{FileStorage, FileStorageOptions, StorageError};
use raft_rsm::{ClusterId, Raft, Runtime, StateMachine, Storage};

use super::{Cluster, NodeSetup, Ready};
use crate::disk::Disk;
use crate::executor::ProcessId;
use crate::observed::{ObservedMachine, ObservedStorage, Observer};

/// The directory of every node, on its own disk.
const DATA: &str = "/data";

const CLUSTER: ClusterId = ClusterId(0x51a1);

/// What a node needs to start.
pub(super) struct Start {
    pub(super) id: NodeId,
    pub(super) setup: NodeSetup,
    pub(super) has_data: bool,
    /// With which a data directory is created.
    pub(super) configuration: Configuration,
    /// Under which it is created; drawn unless it is said.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) disk: Disk,
    pub(super) process: ProcessId,
    pub(super) runtime: Arc<dyn Runtime>,
}

impl Start {
    pub(super) async fn run<M: StateMachine>(
        self,
        cluster: &Cluster<M>,
    ) -> Result<Ready<M>, String> {
        let shared = &cluster.shared;
        let id = self.id;
        let storage = self.storage().await.map_err(|error| error.to_string())?;
        if let Some(node) = cluster.nodes().get_mut(&id) {
            node.has_data = true;
            node.incarnation = Some(storage.identity().incarnation);
        }
        let (process, looking) = (self.process, cluster.clone());
        let look = Arc::new(move || {
            looking.look(id, process);
        });
        let listener = Arc::clone(&shared.listener);
        let observer = {
            let ledger = Arc::clone(&shared.ledger);
            Observer::new(id, shared.executor.clone(), listener, look, ledger)
        };
        let storage: Arc<dyn Storage> =
            Arc::new(ObservedStorage::new(Arc::new(storage), observer.clone()));
        let machine = Arc::new(Mutex::new((shared.machine)()));
        let observed = ObservedMachine::new(Arc::clone(&machine), observer);
        let transport = shared.network.transport(id, self.process);
        let started = Raft::start(self.setup.options, observed, storage, transport, self.runtime);
        let replica = started.await.map_err(|error| error.to_string())?;
        Ok(Ready { replica, machine })
    }

    /// An interrupted first start is begun anew, as an operator would; if it was only not told that it was complete, it goes
    /// on.
    async fn storage(&self) -> Result<FileStorage, StorageError> {
        let mut options = FileStorageOptions::new(DATA, CLUSTER, self.id);
        options.segment_bytes = self.setup.segment_bytes;
        options.preallocate_bytes = self.setup.preallocate_bytes;
        let (fs, runtime) = (self.disk.mount(), Arc::clone(&self.runtime));
        if !self.has_data {
            let runtime: Arc<dyn Runtime> = match self.incarnation {
                Some(incarnation) => Arc::new(Draws { runtime: Arc::clone(&runtime), incarnation }),
                None => Arc::clone(&runtime),
            };
            let configuration = self.configuration.clone();
            let fs = Arc::clone(&fs);
            let created = FileStorage::create(options.clone(), configuration, fs, runtime).await;
            if !matches!(created, Err(StorageError::Refused { .. })) {
                return created;
            }
        }
        FileStorage::open(options, fs, runtime).await
    }
}

/// A runtime that draws a certain incarnation.
struct Draws {
    runtime: Arc<dyn Runtime>,
    incarnation: Incarnation,
}

impl Runtime for Draws {
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(name, task);
    }

    fn spawn_blocking(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        self.runtime.spawn_blocking(name, work);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.runtime.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.runtime.now()
    }

    fn random(&self) -> u64 {
        self.incarnation.0
    }
}
