//! One key, and pages of many.

use serde_json::json;

use super::client::{ask, get, put};
use super::{cluster, leader};

#[test]
fn a_key_is_created_replaced_read_and_deleted_with_its_version_as_etag() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    get(node, "/v1/kv/k").fails(404, "no-key");
    let created = put(node, "/v1/kv/k", b"one").is(201);
    assert_eq!((created.header("etag"), created.text()), ("\"1\"", "{\"version\":1}\n"));
    let replaced = put(node, "/v1/kv/k", b"\xff\x00").is(200);
    assert_eq!(replaced.header("etag"), "\"2\"");

    let found = get(node, "/v1/kv/k").is(200);
    assert_eq!((found.header("etag"), &*found.body), ("\"2\"", &b"\xff\x00"[..]));
    let revision = |name| found.header(name).parse::<u64>().unwrap();
    assert!(revision("kv-created-revision") < revision("kv-modified-revision"));
    assert_eq!(ask(node, "HEAD", "/v1/kv/k", &[], b"").is(200).header("etag"), "\"2\"");

    ask(node, "DELETE", "/v1/kv/k", &[], b"").is(204);
    ask(node, "DELETE", "/v1/kv/k", &[], b"").fails(404, "no-key");
    get(node, "/v1/kv/k").fails(404, "no-key");
    // A key that was deleted begins anew.
    put(node, "/v1/kv/k", b"").is(201);
}

#[test]
fn a_write_on_a_version_that_the_key_does_not_have_is_refused_with_the_one_that_it_has() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let write = |method, name, value| ask(node, method, "/v1/kv/k", &[(name, value)], b"v");
    let error = write("PUT", "if-match", "\"1\"").fails(412, "version-mismatch");
    assert_eq!(error["current_version"], 0);
    write("PUT", "if-none-match", "*").is(201);
    write("PUT", "if-match", "\"1\"").is(200);
    for (method, name, value) in [
        ("PUT", "if-none-match", "*"),
        ("PUT", "if-match", "\"1\""),
        ("DELETE", "if-match", "\"3\""),
    ] {
        let refused = write(method, name, value);
        assert_eq!(refused.header("etag"), "\"2\"", "{refused:?}");
        let error = refused.fails(412, "version-mismatch");
        assert_eq!(
            (&error["current_version"], &error["may_take_effect"]),
            (&json!(2), &json!(false))
        );
    }
    write("DELETE", "if-match", "\"2\"").is(204);
}

#[test]
fn a_key_is_any_text_and_the_command_line_sees_the_same() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    for (path, key) in [("a%2Fb", "a/b"), ("a+b%20c", "a+b c"), ("%C3%A4%25", "ä%"), ("%0A", "\n")]
    {
        put(node, &format!("/v1/kv/{path}"), key.as_bytes()).is(201);
        let found = cluster.run(&["get", "--", key]).ok();
        assert_eq!(found.stdout.strip_suffix(b"\n").unwrap(), key.as_bytes());
    }
    put(node, "/v1/kv/", b"empty").is(201);
    assert_eq!(get(node, "/v1/kv/").is(200).text(), "empty");
}

#[test]
fn a_page_has_the_keys_of_a_prefix_in_order_and_says_whether_there_are_more() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    for key in ["b", "a2", "a1", "a3"] {
        put(node, &format!("/v1/kv/{key}"), key.as_bytes()).is(201);
    }
    put(node, "/v1/kv/a2", b"\xff").is(200);
    let page = get(node, "/v1/kv?prefix=a&limit=2").is(200).json();
    let keys = |page: &serde_json::Value| {
        let entries = page["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((keys(&page), &page["more"]), (vec!["a1".into(), "a2".into()], &json!(true)));
    let [text, bytes] = [&page["entries"][0], &page["entries"][1]];
    assert_eq!((&text["value"], &text["value_base64"]), (&json!("a1"), &json!("YTE=")));
    assert_eq!((bytes.get("value"), &bytes["value_base64"]), (None, &json!("/w==")));
    assert_eq!((&bytes["version"], &bytes["modified"]), (&json!(2), &page["revision"]));

    let rest = get(node, "/v1/kv?prefix=a&limit=2&after=a2").is(200).json();
    assert_eq!((keys(&rest), &rest["more"]), (vec!["a3".into()], &json!(false)));
    assert_eq!(keys(&get(node, "/v1/kv").is(200).json()), ["a1", "a2", "a3", "b"]);
    assert!(keys(&get(node, "/v1/kv?prefix=c&consistency=stale").is(200).json()).is_empty());
}
