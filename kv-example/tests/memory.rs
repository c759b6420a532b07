//! What a node keeps in memory of keys, in bytes that are really allocated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

#[path = "stand/mod.rs"]
mod stand;

use futures::executor::block_on;
use futures::future::join_all;
use kv_example::clerk::Clerk;
use kv_example::store::{Store, Version};
use raft_rsm::Options;
use raft_rsm::raft_core::NodeId;

use self::stand::{Stand, allocated};

const CLIENTS: u64 = 100_000;

/// So many of them at a time.
const AT_A_TIME: u64 = 1_000;

const VALUE_BYTES: usize = 1_000;

/// Beyond its key and its value.
const BYTES_A_CLIENT_MAX: i64 = 200;

#[test]
fn kv_memory() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::start(dir.path(), Store::default());
    let before = allocated();
    let mut data = 0;
    for wave in 0..CLIENTS / AT_A_TIME {
        let keys = (0..AT_A_TIME).map(|number| key(wave * AT_A_TIME + number));
        let puts = keys.map(|key| {
            data += i64::try_from(key.len() + VALUE_BYTES).unwrap();
            let clerk = Clerk::new(stand.client());
            async move { clerk.put(&key, vec![7; VALUE_BYTES].into(), Version::ABSENT).await }
        });
        for put in block_on(join_all(puts)) {
            assert_eq!(put.unwrap(), Version(1));
        }
    }
    let clients = i64::try_from(CLIENTS).unwrap();
    let with_log = allocated() - before - data;
    // The end of the log is in memory a second time, up to a limit, however many clients there are.
    let tail_bytes_max = Options::new(NodeId(1)).core.limits.tail_bytes_max;
    let tail_bytes_max = i64::try_from(tail_bytes_max).unwrap();
    let log = i64::try_from(stand.raft.status().log_bytes).unwrap().min(tail_bytes_max);
    assert!(with_log - log <= BYTES_A_CLIENT_MAX * clients, "{with_log} bytes, {log} for the log");
    // What is there for as long as the keys are.
    stand.compact();
    let beyond = (allocated() - before - data) / clients;
    println!("{beyond} bytes a client, {} with the log", with_log / clients);
    assert!(beyond <= BYTES_A_CLIENT_MAX, "{beyond} bytes a client beyond its data");
    block_on(stand.raft.shutdown());
}

/// In no order.
fn key(number: u64) -> String {
    format!("client-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
