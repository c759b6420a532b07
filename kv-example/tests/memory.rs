//! What a node keeps in memory, in bytes that are really allocated: a test binary of its own, since it counts all of the
//! process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
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

const CLIENTS: u64 = 100_000;

/// So many of them at a time.
const AT_A_TIME: u64 = 1_000;

const VALUE_BYTES: usize = 1_000;

/// Beyond its key and its value.
const BYTES_A_CLIENT_MAX: i64 = 200;

const ONE: NodeId = NodeId(1);

#[test]
fn kv_memory() {
    let dir = tempfile::tempdir().unwrap();
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let network = MemoryNetwork::new(Arc::clone(&runtime), MemoryOptions::default());
    let storage = FileStorageOptions::new(dir.path().join("data"), ClusterId(1), ONE);
    let storage = block_on(FileStorage::create(
        storage,
        Configuration::of_members([Member::new(ONE, "")], [], []),
        Arc::new(StdFileSystem),
        Arc::clone(&runtime),
    ));
    let mut options = Options::new(ONE);
    options.snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
    let tail_bytes_max = i64::try_from(options.core.limits.tail_bytes_max).unwrap();
    let raft = block_on(Raft::start(
        options,
        Store::default(),
        Arc::new(storage.unwrap()),
        network.transport(ONE),
        Arc::clone(&runtime),
    ))
    .unwrap();
    let connector: Arc<dyn Connector> = network.connector();
    let clerk = || {
        let mut options = ClientOptions::default();
        options.call_timeout = Duration::from_secs(10);
        Clerk::new(Client::new(Arc::clone(&connector), Arc::clone(&runtime), options))
    };
    // Threads, buffers, a leader.
    block_on(clerk().put("first", Bytes::new(), Version::ABSENT)).unwrap();

    let before = allocated();
    let mut data = 0;
    for wave in 0..CLIENTS / AT_A_TIME {
        let keys = (0..AT_A_TIME).map(|number| key(wave * AT_A_TIME + number));
        let puts = keys.map(|key| {
            data += i64::try_from(key.len() + VALUE_BYTES).unwrap();
            let clerk = clerk();
            async move { clerk.put(&key, vec![7; VALUE_BYTES].into(), Version::ABSENT).await }
        });
        for put in block_on(join_all(puts)) {
            assert_eq!(put.unwrap(), Version(1));
        }
    }
    let clients = i64::try_from(CLIENTS).unwrap();
    let with_log = allocated() - before - data;
    // The end of the log is in memory a second time, up to a limit, however many clients there are.
    let log = i64::try_from(raft.status().log_bytes).unwrap().min(tail_bytes_max);
    assert!(with_log - log <= BYTES_A_CLIENT_MAX * clients, "{with_log} bytes, {log} for the log");
    // What is there for as long as the keys are.
    block_on(raft.snapshot()).unwrap();
    until_compacted(&raft);
    let beyond = (allocated() - before - data) / clients;
    println!("{beyond} bytes a client, {} with the log", with_log / clients);
    assert!(beyond <= BYTES_A_CLIENT_MAX, "{beyond} bytes a client beyond its data");
    block_on(raft.shutdown());
}

/// Waits until the log has become short: the write that makes it so comes after the snapshot.
fn until_compacted(raft: &Raft<Store>) {
    const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
    for _ in 0..1000 {
        if raft.status().log_bytes <= LOG_BYTES_MAX {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the log is not compacted: {:?}", raft.status());
}

/// In no order.
fn key(number: u64) -> String {
    format!("client-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn allocated() -> i64 {
    i64::try_from(ALLOCATED.current_usage()).unwrap()
}
