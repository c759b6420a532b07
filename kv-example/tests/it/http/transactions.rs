//! Several keys at one moment.

use serde_json::{Value, json};

use super::client::{Response, ask, get, put};
use super::{cluster, leader};

fn transact(node: &str, transaction: &Value) -> Response {
    ask(node, "POST", "/v1/transactions", &[], transaction.to_string().as_bytes())
}

#[test]
fn a_transaction_makes_all_of_its_writes_or_none() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    put(node, "/v1/kv/a", b"1").is(201);
    let transaction = json!({
        "conditions": [{ "key": "a", "version": 1 }, { "key": "b", "version": 0 }],
        "writes": [
            { "put": { "key": "b", "value": "text" } },
            { "put": { "key": "c", "value_base64": "/w==" } },
            { "delete": { "key": "a" } },
        ],
    });
    let revision = transact(node, &transaction).is(200).json()["revision"].as_u64().unwrap();
    get(node, "/v1/kv/a").fails(404, "no-key");
    assert_eq!(get(node, "/v1/kv/b").is(200).text(), "text");
    let c = get(node, "/v1/kv/c").is(200);
    assert_eq!((&*c.body, c.header("kv-created-revision")), (&b"\xff"[..], &*revision.to_string()));

    let error = transact(node, &transaction).fails(412, "condition-failed");
    assert_eq!((&error["key"], &error["current_version"]), (&json!("a"), &json!(0)));
    assert_eq!(error["may_take_effect"], false);
}

#[test]
fn a_transaction_that_makes_no_sense_is_refused() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let put = |value: Value| json!({ "writes": [{ "put": value }] });
    for senseless in [
        json!([]),
        json!({}),
        json!({ "writes": [], "condition": [] }),
        json!({ "writes": [{ "post": { "key": "k" } }] }),
        json!({ "writes": [], "conditions": [{ "key": "k", "version": -1 }] }),
        json!({ "writes": [], "conditions": [{ "key": "k", "version": "1" }] }),
        put(json!({ "key": "k" })),
        put(json!({ "key": "k", "value": "v", "value_base64": "dg==" })),
        put(json!({ "key": "k", "value_base64": "?" })),
        put(json!({ "key": "k", "value": 1 })),
    ] {
        transact(node, &senseless).fails(400, "bad-json");
    }
    let parts: Vec<_> = (0..129).map(|n| json!({ "delete": { "key": n.to_string() } })).collect();
    transact(node, &json!({ "writes": parts })).fails(413, "transaction-too-large");
    let unknown = put(json!({ "key": "k", "value": "v", "lease": 99 }));
    transact(node, &unknown).fails(409, "no-lease");
}
