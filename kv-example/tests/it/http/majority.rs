//! Nodes that do not lead, and nodes that nobody leads.

use serde_json::json;

use super::client::{ask, get, put};
use super::{cluster, leader};
use crate::process::eventually;

#[test]
fn a_node_that_does_not_lead_answers_reads_and_names_the_leader_for_writes() {
    let cluster = cluster(3, &[]);
    let leader = leader(&cluster).to_owned();
    put(&leader, "/v1/kv/k", b"v").is(201);
    for id in 1..=3 {
        let node = cluster.http(id);
        if node == leader {
            continue;
        }
        for consistency in ["", "?consistency=linearizable"] {
            assert_eq!(get(node, &format!("/v1/kv/k{consistency}")).is(200).text(), "v");
        }
        for (method, path, body) in [
            ("PUT", "/v1/kv/k", "w"),
            ("DELETE", "/v1/kv/k", ""),
            ("POST", "/v1/transactions", r#"{"writes": [{"delete": {"key": "k"}}]}"#),
            ("POST", "/v1/leases", r#"{"ttl_seconds": 1}"#),
        ] {
            let refused = ask(node, method, path, &[], body.as_bytes());
            assert_eq!(refused.header("retry-after"), "1", "{refused:?}");
            let error = refused.fails(503, "not-leader");
            assert_eq!(error["may_take_effect"], false);
            assert_eq!(error["leader"]["http"], json!(leader));
            let id = error["leader"]["id"].as_u64().unwrap();
            let address = error["leader"]["address"].as_str().unwrap();
            assert!(cluster.members.contains(&format!("{id}={address}")), "{error}");
            assert_eq!(cluster.http(usize::try_from(id).unwrap()), leader);
        }
    }
    assert_eq!(get(&leader, "/v1/kv/k").is(200).text(), "v");
}

#[test]
fn a_node_without_a_majority_lives_is_not_ready_and_says_of_no_write_that_it_was_made() {
    let mut cluster = cluster(3, &[]);
    put(leader(&cluster), "/v1/kv/k", b"v").is(201);
    let survivor = cluster.leader();
    for id in (1..=3).filter(|id| *id != survivor) {
        cluster.kill(id);
    }
    let node = cluster.http(survivor);
    // As long as it takes itself for the leader, it may be one: then nobody can say what comes of the write.
    let refused = eventually("it knows no leader", || {
        let answer = put(node, "/v1/kv/k", b"w");
        match answer.status {
            504 => assert_eq!(answer.fails(504, "maybe")["may_take_effect"], true),
            _ => return Some(answer),
        }
        None
    });
    let error = refused.fails(503, "no-leader");
    assert_eq!((&error["may_take_effect"], &error["leader"]), (&json!(false), &json!(null)));
    get(node, "/readyz").fails(503, "no-leader");
    get(node, "/healthz").is(200);
    assert_eq!(get(node, "/v1/status").is(200).json()["leader"], json!(null));
    assert_eq!(get(node, "/v1/kv/k?consistency=stale").is(200).text(), "v");
    let read = get(node, "/v1/kv/k");
    assert!([503, 504].contains(&read.status), "{read:?}");
}
