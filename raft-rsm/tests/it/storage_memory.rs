//! Storage in memory.

use std::sync::Arc;

use raft_rsm::raft_core::Configuration;
use raft_rsm::storage::{MemoryStorage, Storage};
use raft_rsm::testing::storage::StorageUnderTest;

#[derive(Default)]
struct Memory(Option<Arc<MemoryStorage>>);

impl StorageUnderTest for Memory {
    fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
        self.0.insert(Arc::new(MemoryStorage::new(configuration))).clone()
    }

    fn crash(&mut self) -> Arc<dyn Storage> {
        let reopened = self.0.take().expect("created").reopen();
        self.0.insert(Arc::new(reopened)).clone()
    }
}

raft_rsm::storage_conformance!(Memory::default());
