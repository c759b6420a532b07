//! What a node keeps in memory of sessions, in bytes that are really allocated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

#[path = "stand/mod.rs"]
mod stand;

use futures::executor::block_on;
use futures::future::join_all;
use kv_example::clerk::Clerk;
use kv_example::limits::Limits;
use kv_example::store::{Store, Version};

use self::stand::{Stand, allocated};

/// As many as are allowed by default.
const SESSIONS: u64 = 100_000;

/// So many of them at a time.
const AT_A_TIME: u64 = 1_000;

const BYTES_A_SESSION_MAX: i64 = 200;

/// Each session writes once, and is not closed. All of them write the same keys, so that what comes on top of these is for
/// the sessions alone.
#[test]
fn kv_memory_of_sessions() {
    let dir = tempfile::tempdir().unwrap();
    // What is remembered for those who watch would count, up to its own limit.
    let limits = Limits { history_bytes_max: 0, ..Limits::default() };
    let stand = Stand::start(dir.path(), Store::new(limits));
    let wave = |wave: u64| {
        let puts = (0..AT_A_TIME).map(|number| {
            let clerk = Clerk::in_session(stand.client());
            async move { clerk.put(&format!("key-{number}"), "v".into(), Version(wave)).await }
        });
        for put in block_on(join_all(puts)) {
            assert_eq!(put.unwrap(), Version(wave + 1));
        }
    };
    wave(0);
    stand.compact();
    let before = allocated();
    for number in 1..SESSIONS / AT_A_TIME {
        wave(number);
    }
    stand.compact();
    let sessions = i64::try_from(SESSIONS - AT_A_TIME).unwrap();
    let each = (allocated() - before) / sessions;
    println!("{each} bytes a session with one put");
    assert!(each <= BYTES_A_SESSION_MAX, "{each} bytes a session with one put");
    block_on(stand.raft.shutdown());
}
