//! Connections that take what others need.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::client::{ask, connect, get, put, read};
use super::{cluster, leader};
use crate::process::PATIENCE;

/// Nothing that the node does for connections takes more, in KiB.
const RESIDENT_KIB_MAX: u64 = 300 * 1024;

/// Reads until the other side closes.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "it stays open"),
    }
    all
}

#[test]
fn who_sends_a_head_or_a_body_and_does_not_end_it_is_cut_off_and_others_are_served() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let begun = Instant::now();
    let [mut silent, mut head, mut body, mut slow] = std::array::from_fn(|_| connect(node));
    slow.write_all(b"PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 10000\r\n\r\n").unwrap();
    head.write_all(b"GET /v1/kv/k HTTP/1.1\r\nhost: x\r\nx: ").unwrap();
    body.write_all(b"PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    put(node, "/v1/kv/other", b"v").is(201);
    // A byte now and then does not keep a head open ...
    while head.write_all(b"y").is_ok() && begun.elapsed() < PATIENCE {
        let _ = slow.write_all(b"z");
        let mut answer = [0; 1];
        head.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        match head.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
    // ... nor a body.
    slow.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    while slow.write_all(b"z").is_ok() && begun.elapsed() < PATIENCE {
        match slow.peek(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    read(&mut std::io::BufReader::new(slow)).fails(408, "body-too-slow");
    until_closed(&mut silent);
    read(&mut std::io::BufReader::new(body)).fails(408, "body-too-slow");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    get(node, "/v1/kv/k").fails(404, "no-key");
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_others_are_served() {
    let mut cluster = cluster(1, &[]);
    let node = leader(&cluster).to_owned();
    let mut idle = Vec::new();
    for number in 0..10_000 {
        match TcpStream::connect(&node) {
            Ok(mut stream) => {
                // Every second one has said something.
                if number % 2 == 0 {
                    let _ = stream.write_all(b"GET /v1/");
                }
                idle.push(stream);
            }
            Err(error) => panic!("after {number}: {error}"),
        }
        if number % 1000 == 0 {
            put(&node, "/v1/kv/k", b"v");
        }
    }
    put(&node, "/v1/kv/k", b"v").is(200);
    assert_eq!(get(&node, "/v1/kv/k").is(200).text(), "v");
    let metrics = get(&node, "/metrics").is(200);
    let mut open = metrics.text().lines().filter_map(|l| l.strip_prefix("kv_http_connections "));
    assert!(open.next().unwrap().parse::<u64>().unwrap() <= 1024);
    // Those that made room were closed, and not forgotten.
    let mut first = idle.swap_remove(0);
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    until_closed(&mut first);

    let process = cluster.node(1).id();
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < RESIDENT_KIB_MAX, "{kib} KiB");
    }
    cluster.run(&["get", "k"]).ok();
}

/// More than would fit into memory for bodies if each were what it is said to be.
#[test]
fn bodies_that_are_said_to_be_long_and_do_not_come_keep_nobody_from_writing() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = connect(node);
            let length = match number % 2 {
                0 => "content-length: 1048576\r\n\r\nbegun",
                _ => "transfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n",
            };
            write!(stream, "PUT /v1/kv/slow HTTP/1.1\r\nhost: x\r\n{length}").unwrap();
            stream
        })
        .collect();
    crate::process::eventually("all are under way", || {
        let metrics = get(node, "/metrics").is(200);
        let mut lines = metrics.text().lines();
        let under_way = lines.find_map(|l| l.strip_prefix("kv_http_requests_in_flight "))?;
        (under_way.parse::<usize>().unwrap() > waiting.len()).then_some(())
    });
    put(node, "/v1/kv/k", &vec![b'x'; 1024 * 1024]).is(201);
}

/// They read nothing, and each of them is told of values that are as long as they may be and worst to write as text.
#[test]
fn watchers_that_do_not_read_hold_little_memory_and_others_are_served() {
    let mut cluster = cluster(1, &[]);
    let node = leader(&cluster).to_owned();
    for _ in 0..8 {
        put(&node, "/v1/kv/zeros", &vec![0; 1024 * 1024]);
    }
    let watching: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(&node);
            let request = b"GET /v1/watch?from=1 HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    for stream in &watching[..10] {
        let mut first = [0; 12];
        (&*stream).read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    put(&node, "/v1/kv/k", &vec![b'x'; 1024 * 1024]).is(201);
    get(&node, "/metrics").is(200);
    let process = cluster.node(1).id();
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("{kib} KiB at most");
        assert!(kib < 2 * RESIDENT_KIB_MAX, "{kib} KiB");
    }
}

#[test]
fn what_is_as_large_as_the_limits_allow_is_taken() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let (key, value) = ("k".repeat(4096), vec![b'v'; 1024 * 1024]);
    let name = "n".repeat(255);
    let headers = [("idempotency-key", name.as_str())];
    ask(node, "PUT", &format!("/v1/kv/{key}"), &headers, &value).is(201);
    let writes = (0..128).map(|number| {
        let value = if number == 0 { "v".repeat(1024 * 1024) } else { String::new() };
        json!({ "put": { "key": format!("{number:04096}"), "value": value } })
    });
    let transaction = json!({ "writes": Value::from_iter(writes) }).to_string();
    let headers = [("idempotency-key", &name[1..])];
    ask(node, "POST", "/v1/transactions", &headers, transaction.as_bytes()).is(200);
}

/// The largest limits that a node takes: what they let through must reach the log.
#[test]
fn what_is_as_large_as_any_limits_allow_is_taken() {
    let limits = ["--key-bytes-max", "50000", "--value-bytes-max", "8388608"];
    let cluster = cluster(1, &limits);
    let node = leader(&cluster);
    let writes = (0..128).map(|number| {
        let value = if number == 0 { "v".repeat(8 * 1024 * 1024) } else { String::new() };
        json!({ "put": { "key": format!("{number:050000}"), "value": value } })
    });
    let transaction = json!({ "writes": Value::from_iter(writes) }).to_string();
    ask(node, "POST", "/v1/transactions", &[], transaction.as_bytes()).is(200);
}

#[test]
fn where_all_connections_are_in_use_another_one_is_told_so() {
    let cluster = cluster(1, &["--http-connections-max", "2"]);
    let node = leader(&cluster);
    let watches: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(node);
            stream.write_all(b"GET /v1/watch?from=1 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut stream = std::io::BufReader::new(stream);
            super::client::read_head(&mut stream).is(200);
            stream
        })
        .collect();
    let mut refused = connect(node);
    let answer = String::from_utf8(until_closed(&mut refused)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (&json["error"]["code"], &json["error"]["may_take_effect"]),
        (&"busy".into(), &false.into())
    );
    drop(watches);
    crate::process::eventually("there is room again", || {
        let mut stream = connect(node);
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(request);
        until_closed(&mut stream).starts_with(b"HTTP/1.1 200").then_some(())
    });
}
