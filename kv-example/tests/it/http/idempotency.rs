//! Writes that are sent twice.

use super::client::{ask, get};
use super::{cluster, leader};

const NAME: &str = "idempotency-key";

#[test]
fn a_write_that_is_sent_again_with_its_idempotency_key_is_made_once_and_answered_alike() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let write = |method, value: &[u8], name| ask(node, method, "/v1/kv/k", &[(NAME, name)], value);
    for _ in 0..2 {
        // The second time, too, it created the key.
        assert_eq!(write("PUT", b"one", "first").is(201).header("etag"), "\"1\"");
    }
    assert_eq!(get(node, "/v1/kv/k").header("etag"), "\"1\"");
    assert_eq!(write("PUT", b"two", "second").is(200).header("etag"), "\"2\"");
    // Long after, it is still the answer of that time.
    write("PUT", b"one", "first").is(201);
    assert_eq!(get(node, "/v1/kv/k").text(), "two");
    write("DELETE", b"", "third").is(204);
    write("DELETE", b"", "third").is(204);
    write("DELETE", b"", "fourth").fails(404, "no-key");
}

#[test]
fn an_idempotency_key_belongs_to_one_request() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let write = |path, value: &[u8], name| ask(node, "PUT", path, &[(NAME, name)], value);
    write("/v1/kv/k", b"one", "name").is(201);
    for (path, value) in [("/v1/kv/k", &b"other"[..]), ("/v1/kv/other", b"one")] {
        let error = write(path, value, "name").fails(422, "idempotency-key-taken");
        assert_eq!(error["may_take_effect"], false);
    }
    let [longest, longer] = [255, 256].map(|bytes| "x".repeat(bytes));
    let write = |path, value: &[u8], name| ask(node, "PUT", path, &[(NAME, name)], value);
    write("/v1/kv/k", b"one", &longest).is(200);
    write("/v1/kv/k", b"one", &longer).fails(400, "bad-idempotency-key");
    write("/v1/kv/k", b"one", "").fails(400, "bad-idempotency-key");
    let twice = [(NAME, "a"), (NAME, "b")];
    ask(node, "PUT", "/v1/kv/k", &twice, b"one").fails(400, "bad-header");
}

#[test]
fn another_node_knows_an_idempotency_key_when_the_leader_is_gone() {
    let mut cluster = cluster(3, &[]);
    let write = |node: &str| ask(node, "PUT", "/v1/kv/k", &[(NAME, "name")], b"v").is(201);
    write(leader(&cluster));
    let first = cluster.leader();
    cluster.kill(first);
    let next = crate::process::eventually("another node leads", || {
        let statuses = cluster.status();
        let leads = |status: &&serde_json::Value| status["role"] == "leader";
        statuses.iter().find(leads)?["id"].as_u64()
    });
    assert_eq!(write(cluster.http(usize::try_from(next).unwrap())).header("etag"), "\"1\"");
}
