//! Nodes with little room, in this process: what they say when it is full.

use std::sync::Arc;

use kv_example::http;
use kv_example::limits::Limits;
use kv_example::store::Store;
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions};
use raft_rsm::transport::memory::{MemoryNetwork, MemoryOptions};
use raft_rsm::{Client, ClientOptions, ClusterId, Options, Raft, Runtime};

use super::client::{ask, get, put};
use super::watches::Watch;
use crate::process::eventually;

const ONE: NodeId = NodeId(1);

/// Runs `test` with the address of a node that leads.
fn with_node(limits: Limits, change: impl FnOnce(&mut Options), test: impl FnOnce(&str)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut options = Options::new(ONE);
    options.core.limits.command_bytes_max = limits.command_bytes_max();
    change(&mut options);
    let (raft, serving, address) = runtime.block_on(async {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
        let network = MemoryNetwork::new(Arc::clone(&runtime), MemoryOptions::default());
        let storage = FileStorage::create(
            FileStorageOptions::new(dir.path().join("data"), ClusterId(1), ONE),
            Configuration::of_members([Member::new(ONE, "")], [], []),
            Arc::new(StdFileSystem),
            Arc::clone(&runtime),
        );
        let storage = Arc::new(storage.await.unwrap());
        let (store, transport) = (Store::new(limits), network.transport(ONE));
        let raft = Raft::start(options, store, storage, transport, Arc::clone(&runtime));
        let raft = raft.await.unwrap();
        let listen = "127.0.0.1:0".to_owned();
        let at = http::Options { listen, advertise: None, connections_max: 100 };
        let listening = http::Listening::bind(&at).await.unwrap();
        let address = listening.address().to_string();
        let others = Client::new(network.connector(), runtime, ClientOptions::default());
        (raft.clone(), listening.serve(raft, limits, others), address)
    });
    eventually("it leads", || (get(&address, "/readyz").status == 200).then_some(()));
    test(&address);
    runtime.block_on(async {
        raft.shutdown().await;
        serving.stop().await;
    });
}

fn put_named(node: &str, key: &str, name: &str) -> super::client::Response {
    ask(node, "PUT", &format!("/v1/kv/{key}"), &[("idempotency-key", name)], b"v")
}

#[test]
fn where_there_is_no_room_for_another_idempotency_key_nothing_is_written() {
    let one_name = |options: &mut Options| options.names_max = 1;
    with_node(Limits::default(), one_name, |node| {
        put_named(node, "a", "first").is(201);
        let refused = put_named(node, "b", "second");
        assert_eq!(refused.header("retry-after"), "1", "{refused:?}");
        assert_eq!(refused.fails(503, "idempotency-full")["may_take_effect"], false);
        get(node, "/v1/kv/b").fails(404, "no-key");
        // Whoever is known is still answered, and so is who has no key.
        put_named(node, "a", "first").is(201);
        put(node, "/v1/kv/b", b"v").is(201);
    });
}

#[test]
fn where_there_is_no_room_for_the_answer_a_second_try_is_told_that_the_first_was_made() {
    // The name, what it counts for beside that, and not a byte for its answer.
    let no_answer = |options: &mut Options| options.name_bytes_max = 200 + 1;
    with_node(Limits::default(), no_answer, |node| {
        put_named(node, "k", "n").is(201);
        let error = put_named(node, "k", "n").fails(409, "carried-out");
        assert_eq!(error["may_take_effect"], true);
        assert_eq!(get(node, "/v1/kv/k").header("etag"), "\"1\"");
    });
}

#[test]
fn who_reads_a_stream_too_slowly_is_told_within_it_that_the_history_is_forgotten() {
    const VALUE_BYTES: usize = 1024 * 1024;
    let limits = Limits { history_bytes_max: 3 * VALUE_BYTES, ..Limits::default() };
    with_node(
        limits,
        |_| (),
        |node| {
            let mut watch = Watch::open(node, "prefix=k", None);
            // More than the sockets and the history hold together.
            for number in 0..40 {
                put(node, &format!("/v1/kv/k{number:02}"), &vec![0; VALUE_BYTES]).is(201);
            }
            let events: Vec<_> = std::iter::from_fn(|| watch.next()).collect();
            let ((_, last, data), told) = events.split_last().unwrap();
            assert_eq!(last, "compacted");
            assert!(told.iter().all(|(_, name, _)| name == "put") && told.len() < 40);
            let from = format!("from={}", data["oldest"]);
            assert_eq!(Watch::open(node, &from, None).next().unwrap().1, "put");
        },
    );
}
