//! Leases, and the keys that end with them.

use serde_json::json;

use super::client::{ask, get};
use super::{cluster, leader};
use crate::process::eventually;

#[test]
fn a_lease_is_granted_kept_alive_and_ended_with_its_keys() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let granted = ask(node, "POST", "/v1/leases", &[], br#"{"ttl_seconds": 600}"#).is(201);
    let id = granted.json()["id"].as_u64().unwrap();
    let lease = format!("/v1/leases/{id}");
    assert_eq!(granted.header("location"), lease);
    let tied = format!("/v1/kv/k?lease={id}");
    ask(node, "PUT", &tied, &[], b"v").is(201);
    assert_eq!(get(node, "/v1/kv/k").is(200).header("kv-lease"), id.to_string());
    let info = get(node, &lease).is(200).json();
    assert_eq!((&info["ttl_seconds"], &info["keys"]), (&json!(600.0), &json!(["k"])));
    let kept = ask(node, "POST", &format!("{lease}/keep-alive"), &[], b"").is(200).json();
    assert_eq!(kept["ttl_seconds"], 600.0);

    ask(node, "DELETE", &lease, &[], b"").is(204);
    get(node, "/v1/kv/k").fails(404, "no-key");
    for (method, path) in
        [("DELETE", lease.clone()), ("GET", lease.clone()), ("POST", format!("{lease}/keep-alive"))]
    {
        ask(node, method, &path, &[], b"").fails(404, "no-lease");
    }
    ask(node, "PUT", &tied, &[], b"v").fails(409, "no-lease");
}

#[test]
fn a_lease_that_is_not_kept_alive_ends() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let granted = ask(node, "POST", "/v1/leases", &[], br#"{"ttl_seconds": 0.2}"#).is(201).json();
    let path = format!("/v1/kv/k?lease={}", granted["id"]);
    ask(node, "PUT", &path, &[], b"v");
    eventually("it ends", || (get(node, "/v1/kv/k").status == 404).then_some(()));
}

#[test]
fn a_lease_without_a_sensible_time_is_refused() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    for senseless in [
        "",
        "{}",
        r#"{"ttl_seconds": 0}"#,
        r#"{"ttl_seconds": -1}"#,
        r#"{"ttl_seconds": 1e300}"#,
        r#"{"ttl_seconds": "1"}"#,
        r#"{"ttl_seconds": 1, "x": 1}"#,
    ] {
        ask(node, "POST", "/v1/leases", &[], senseless.as_bytes()).fails(400, "bad-json");
    }
    let long = br#"{"ttl_seconds": 90000}"#;
    ask(node, "POST", "/v1/leases", &[], long).fails(400, "ttl-too-long");
    get(node, "/v1/leases/x").fails(400, "bad-lease");
    get(node, "/v1/leases/1").fails(404, "no-lease");
}
