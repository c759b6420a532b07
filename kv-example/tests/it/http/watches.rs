//! What happens to keys, as it happens.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::client::{Response, ask, connect, get, put, read_head};
use super::{cluster, leader};
use crate::process::eventually;

/// A stream of events.
pub(super) struct Watch {
    stream: BufReader<TcpStream>,
    head: Response,
}

/// An event: its id, its name, its data.
pub(super) type Event = (String, String, Value);

impl Watch {
    pub(super) fn open(node: &str, query: &str, last: Option<&str>) -> Watch {
        let mut stream = connect(node);
        let last = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let request = format!("GET /v1/watch?{query} HTTP/1.1\r\nhost: x\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream);
        Watch { stream, head }
    }

    /// The next event; `None` where the stream has ended.
    pub(super) fn next(&mut self) -> Option<Event> {
        let (mut id, mut name, mut data) = Default::default();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => id = value.to_owned(),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                // The sizes of chunks, comments, and the empty lines between.
                _ if line == "\n" && !String::is_empty(&name) => return Some((id, name, data)),
                _ => {}
            }
        }
    }

    fn keys(&mut self, count: usize) -> Vec<(String, String)> {
        let events = (0..count).map(|_| self.next().expect("an event"));
        events.map(|(id, _, data)| (id, data["key"].as_str().unwrap().to_owned())).collect()
    }
}

#[test]
fn a_watch_tells_what_happens_to_the_keys_of_a_prefix_as_it_happens() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    put(node, "/v1/kv/a1", b"before").is(201);
    let mut watch = Watch::open(node, "prefix=a", None);
    assert_eq!((watch.head.status, watch.head.header("content-type")), (200, "text/event-stream"));
    put(node, "/v1/kv/b", b"other").is(201);
    put(node, "/v1/kv/a1", b"now").is(200);
    ask(node, "DELETE", "/v1/kv/a1", &[], b"").is(204);
    let (_, name, data) = watch.next().unwrap();
    assert_eq!((&*name, &data["key"], &data["value"]), ("put", &json!("a1"), &json!("now")));
    assert_eq!((&data["version"], &data["value_base64"]), (&json!(2), &json!("bm93")));
    let (id, name, data) = watch.next().unwrap();
    assert_eq!((&*name, &data["key"], &data["version"]), ("delete", &json!("a1"), &json!(2)));
    assert_eq!(id, format!("{}.1", data["revision"]));
}

#[test]
fn a_watch_goes_on_at_another_node_without_a_gap_or_a_duplicate_also_within_a_moment() {
    let mut cluster = cluster(3, &[]);
    let first = leader(&cluster).to_owned();
    for key in ["a1", "b"] {
        put(&first, &format!("/v1/kv/{key}"), b"v").is(201);
    }
    // Of one moment, and of more keys than are watched.
    let writes =
        ["x1", "a2", "x2", "a3", "a4"].map(|key| json!({ "put": { "key": key, "value": "v" } }));
    let writes = json!({ "writes": Vec::from(writes) }).to_string();
    ask(&first, "POST", "/v1/transactions", &[], writes.as_bytes()).is(200);
    put(&first, "/v1/kv/a5", b"v").is(201);
    let all = Watch::open(&first, "prefix=a&from=1", None).keys(5);
    let keys: Vec<_> = all.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys, ["a1", "a2", "a3", "a4", "a5"]);
    let mut ids: Vec<_> = all.iter().map(|(id, _)| id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{all:?}");

    for id in 1..=3 {
        let node = cluster.http(id).to_owned();
        for seen in 0..all.len() {
            let last = &all[seen].0;
            let rest = all.len() - seen - 1;
            let mut from_header = Watch::open(&node, "prefix=a&from=1", Some(last));
            assert_eq!(from_header.keys(rest), all[seen + 1..]);
            let mut from_query = Watch::open(&node, &format!("prefix=a&from={last}"), None);
            assert_eq!(from_query.keys(rest), all[seen + 1..]);
        }
    }

    // The node that tells it is killed; another one goes on.
    let mut watch = Watch::open(&first, "prefix=a&from=1", None);
    let told = watch.keys(3);
    let killed = cluster.leader();
    cluster.kill(killed);
    while watch.next().is_some() {}
    let next = leader(&cluster);
    put(next, "/v1/kv/a6", b"v").is(201);
    let follower = (1..=3).find(|id| *id != killed && cluster.http(*id) != next).unwrap();
    let mut watch = Watch::open(cluster.http(follower), "prefix=a", Some(&told[2].0));
    let keys: Vec<_> = watch.keys(3).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["a4", "a5", "a6"]);
}

#[test]
fn a_history_that_is_forgotten_is_gone() {
    let mut cluster = cluster(1, &[]);
    put(leader(&cluster), "/v1/kv/k", b"v").is(201);
    cluster.run(&["snapshot"]).ok();
    cluster.kill(1);
    cluster.restart(1);
    let node = leader(&cluster);
    let error = get(node, "/v1/watch?from=1").fails(410, "compacted");
    let oldest = error["oldest"].as_u64().unwrap();
    assert_eq!(Watch::open(node, &format!("from={oldest}"), None).head.status, 200);
}

#[test]
fn a_watch_ends_when_its_node_is_cut_off() {
    let mut cluster = cluster(3, &[]);
    put(leader(&cluster), "/v1/kv/k", b"v").is(201);
    let survivor = cluster.leader();
    let mut watch = Watch::open(cluster.http(survivor), "from=1", None);
    assert_eq!(watch.keys(1)[0].1, "k");
    for id in (1..=3).filter(|id| *id != survivor) {
        cluster.kill(id);
    }
    assert_eq!(watch.next(), None);
}

#[test]
fn a_quiet_watch_says_that_it_is_there_and_from_where_to_go_on() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let mut watch = Watch::open(node, "prefix=a", None);
    put(node, "/v1/kv/b", b"v").is(201);
    let revision = get(node, "/v1/kv/b").header("kv-modified-revision").parse::<u64>().unwrap();
    let id = eventually("it says something", || {
        let mut line = String::new();
        watch.stream.read_line(&mut line).unwrap();
        let id: u64 = line.strip_prefix("id: ")?.trim_end().strip_suffix(".0")?.parse().unwrap();
        (id > revision).then_some(id)
    });
    assert_eq!(Watch::open(node, "prefix=a", Some(&format!("{id}.0"))).head.status, 200);
}
