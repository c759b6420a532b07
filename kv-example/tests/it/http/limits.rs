//! Connections that take what others need.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::client::{connect, get, put, read};
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
    let [mut silent, mut head, mut body] = std::array::from_fn(|_| connect(node));
    head.write_all(b"GET /v1/kv/k HTTP/1.1\r\nhost: x\r\nx: ").unwrap();
    body.write_all(b"PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
    put(node, "/v1/kv/other", b"v").is(201);
    // A byte now and then does not keep a head open.
    while head.write_all(b"y").is_ok() && begun.elapsed() < PATIENCE {
        let mut answer = [0; 1];
        head.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        match head.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
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
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
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
