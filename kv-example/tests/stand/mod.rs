//! A node of which every byte that it allocates is counted: for test binaries of their own, since all of the process is counted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use kv_example::clerk::Clerk;
use kv_example::node::SNAPSHOT_LOG_BYTES;
use kv_example::store::{Store, Version};
use peak_alloc::PeakAlloc;
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::runtime::ThreadRuntime;
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions};
use raft_rsm::transport::Connector;
use raft_rsm::transport::memory::{MemoryNetwork, MemoryOptions};
use raft_rsm::{Client, ClientOptions, ClusterId, Options, Raft, Runtime};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const ONE: NodeId = NodeId(1);

/// The node, and the way to it.
pub(crate) struct Stand {
    pub(crate) raft: Raft<Store>,
    runtime: Arc<dyn Runtime>,
    connector: Arc<dyn Connector>,
}

impl Stand {
    /// Starts a node, which leads.
    pub(crate) fn start(dir: &Path, store: Store) -> Stand {
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
        let network = MemoryNetwork::new(Arc::clone(&runtime), MemoryOptions::default());
        let storage = FileStorageOptions::new(dir.join("data"), ClusterId(1), ONE);
        let storage = block_on(FileStorage::create(
            storage,
            Configuration::of_members([Member::new(ONE, "")], [], []),
            Arc::new(StdFileSystem),
            Arc::clone(&runtime),
        ));
        let mut options = Options::new(ONE);
        options.snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
        let raft = block_on(Raft::start(
            options,
            store,
            Arc::new(storage.unwrap()),
            network.transport(ONE),
            Arc::clone(&runtime),
        ))
        .unwrap();
        let stand = Stand { raft, runtime, connector: network.connector() };
        // Threads, buffers, a leader.
        let first = Clerk::new(stand.client());
        block_on(first.put("first", Bytes::new(), Version::ABSENT)).unwrap();
        stand
    }

    pub(crate) fn client(&self) -> Client<Store> {
        let mut options = ClientOptions::default();
        options.call_timeout = Duration::from_secs(10);
        Client::new(Arc::clone(&self.connector), Arc::clone(&self.runtime), options)
    }

    /// Takes a snapshot, and waits until the log has become short: the write that makes it so comes after the snapshot.
    pub(crate) fn compact(&self) {
        const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
        block_on(self.raft.snapshot()).unwrap();
        for _ in 0..1000 {
            if self.raft.status().log_bytes <= LOG_BYTES_MAX {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the log is not compacted: {:?}", self.raft.status());
    }
}

pub(crate) fn allocated() -> i64 {
    i64::try_from(ALLOCATED.current_usage()).unwrap()
}
