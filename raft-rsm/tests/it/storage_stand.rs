//! What the tests of storage stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::BoxFuture;
use raft_rsm::raft_core::{Configuration, NodeId};
use raft_rsm::storage::{FileStorage, FileStorageOptions, StorageError};
use raft_rsm::{ClusterId, Runtime};

use crate::storage_disk::TestDisk;

/// Does blocking work on the caller's thread, at once: storage needs no more.
#[derive(Debug, Default)]
pub(crate) struct InlineRuntime {
    drawn: AtomicU64,
}

impl Runtime for InlineRuntime {
    fn spawn(&self, name: &str, _task: BoxFuture<'static, ()>) {
        unreachable!("storage spawns {name}");
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        unreachable!("storage sleeps for {duration:?}");
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&self) -> u64 {
        mix(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

/// The next number of SplitMix64 after `seed`.
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn options() -> FileStorageOptions {
    FileStorageOptions::new("/data/node-1", ClusterId(7), NodeId(1))
}

pub(crate) fn create(
    disk: &TestDisk,
    options: &FileStorageOptions,
    configuration: Configuration,
) -> Result<FileStorage, StorageError> {
    let runtime = Arc::new(InlineRuntime::default());
    block_on(FileStorage::create(options.clone(), configuration, disk.life(), runtime))
}

pub(crate) fn open(
    disk: &TestDisk,
    options: &FileStorageOptions,
) -> Result<FileStorage, StorageError> {
    let runtime = Arc::new(InlineRuntime::default());
    block_on(FileStorage::open(options.clone(), disk.life(), runtime))
}
