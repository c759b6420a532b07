//! Storage on a real disk.

use std::path::PathBuf;
use std::sync::Arc;

use futures::executor::block_on;
use raft_rsm::ClusterId;
use raft_rsm::raft_core::{Configuration, NodeId};
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions, Storage};
use raft_rsm::testing::storage::StorageUnderTest;

use crate::storage_stand::InlineRuntime;

struct Disk {
    _dir: tempfile::TempDir,
    options: FileStorageOptions,
}

fn disk(segment_bytes: u64) -> Disk {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("a").join("node-1");
    let mut options = FileStorageOptions::new(path, ClusterId(7), NodeId(1));
    options.segment_bytes = segment_bytes;
    Disk { _dir: dir, options }
}

impl StorageUnderTest for Disk {
    fn create(&mut self, configuration: Configuration) -> Arc<dyn Storage> {
        let (fs, runtime) = (Arc::new(StdFileSystem), Arc::new(InlineRuntime::default()));
        let create = FileStorage::create(self.options.clone(), configuration, fs, runtime);
        Arc::new(block_on(create).unwrap())
    }

    fn crash(&mut self) -> Arc<dyn Storage> {
        let (fs, runtime) = (Arc::new(StdFileSystem), Arc::new(InlineRuntime::default()));
        Arc::new(block_on(FileStorage::open(self.options.clone(), fs, runtime)).unwrap())
    }
}

mod segments_of_the_usual_size {
    raft_rsm::storage_conformance!(super::disk(64 * 1024 * 1024));
}

mod a_segment_for_each_write {
    raft_rsm::storage_conformance!(super::disk(1));
}
