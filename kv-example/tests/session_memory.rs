//! What a node keeps in memory of sessions and names, in bytes that are really allocated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

#[path = "stand/mod.rs"]
mod stand;

use futures::executor::block_on;
use futures::future::join_all;
use kv_example::clerk::Clerk;
use kv_example::limits::Limits;
use kv_example::store::{Command, Store, Version};

use self::stand::{Stand, allocated};

/// As many as are allowed by default.
const SESSIONS: u64 = 100_000;

/// So many of them at a time.
const AT_A_TIME: u64 = 1_000;

/// Named commands, each of which is refused by the machine: their answers are kept as all others are.
const NAMES: u64 = 50_000;

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
    names_take_no_more_than_they_count_for(&stand);
    block_on(stand.raft.shutdown());
}

/// What names count for is what bounds them.
fn names_take_no_more_than_they_count_for(stand: &Stand) {
    let counted = || i64::try_from(stand.raft.status().remembered.names.bytes).unwrap();
    let client = stand.client();
    let (before, counted_before) = (allocated(), counted());
    for wave in 0..NAMES / AT_A_TIME {
        let puts = (0..AT_A_TIME).map(|number| {
            let name = format!("{:032x}", u128::from(wave * AT_A_TIME + number));
            let (key, value) = (format!("key-{number}"), "v".into());
            let command = Command::Put { key, value, version: Version::ABSENT };
            let client = client.clone();
            async move { client.propose_once(name.as_bytes(), &command).await }
        });
        for put in block_on(join_all(puts)) {
            put.unwrap();
        }
    }
    stand.compact();
    let (taken, counted) = (allocated() - before, counted() - counted_before);
    let names = i64::try_from(NAMES).unwrap();
    println!("{} bytes a name, which counts for {}", taken / names, counted / names);
    assert!(counted >= names * 32, "{counted} bytes are counted");
    assert!(taken <= counted, "{taken} bytes are taken, and {counted} are counted");
}
