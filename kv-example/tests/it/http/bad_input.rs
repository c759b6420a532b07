//! What makes no sense is told in one shape.

use serde_json::json;

use super::client::{ask, connect, get, put, read, send};
use super::{cluster, leader};
use crate::process::{free_members, run};

#[test]
fn whatever_makes_no_sense_is_an_error_of_the_one_shape() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    for (method, path, status, code) in [
        ("GET", "/", 404, "no-route"),
        ("GET", "/v1", 404, "no-route"),
        ("GET", "/v1/kv/a/b", 400, "bad-key"),
        ("PUT", "/v1/kv/a/b", 400, "bad-key"),
        ("GET", "/v1/kv/%ff", 400, "bad-key"),
        ("DELETE", "/v1/kv/%C3", 400, "bad-key"),
        ("GET", "/v1/kv/%zz", 400, "bad-key"),
        ("POST", "/v1/kv/k", 405, "no-method"),
        ("DELETE", "/v1/kv", 405, "no-method"),
        ("PATCH", "/v1/transactions", 405, "no-method"),
        ("NONSENSE", "/metrics", 405, "no-method"),
        ("GET", "/v1/kv/k?consistency=eventual", 400, "bad-query"),
        ("GET", "/v1/kv/k?consistency=stale&consistency=stale", 400, "bad-query"),
        ("GET", "/v1/kv/k?version=1", 400, "bad-query"),
        ("PUT", "/v1/kv/k?ttl=1", 400, "bad-query"),
        ("PUT", "/v1/kv/k?lease=x", 400, "bad-query"),
        ("DELETE", "/v1/kv/k?x", 400, "bad-query"),
        ("GET", "/v1/kv?limit=0", 400, "bad-query"),
        ("GET", "/v1/kv?limit=1001", 400, "bad-query"),
        ("GET", "/v1/kv?limit=-1", 400, "bad-query"),
        ("GET", "/v1/kv?prefx=a", 400, "bad-query"),
        ("GET", "/v1/watch?from=yesterday", 400, "bad-query"),
        ("GET", "/v1/watch?from=1.2.3", 400, "bad-query"),
        ("GET", "/v1/watch?from=%2B1", 400, "bad-query"),
    ] {
        let error = ask(node, method, path, &[], b"").fails(status, code);
        assert_eq!(error["may_take_effect"], json!(false), "{method} {path}");
    }
    assert_eq!(ask(node, "POST", "/v1/kv/k", &[], b"").header("allow"), "GET,HEAD,PUT,DELETE");
    assert_eq!(get(node, "/v1/kv").is(200).json()["entries"], json!([]));
}

#[test]
fn options_that_make_no_sense_are_refused_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let members = free_members(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let base = ["node", "--id", "1", "--cluster", &members, "--data", data.to_str().unwrap()];
    for options in [
        &["--http", "nowhere"][..],
        &["--http", &taken],
        &["--http", "127.0.0.1:0", "--http-connections-max", "0"],
        &["--http", "127.0.0.1:0", "--http-advertise", "0.0.0.0:80"],
    ] {
        let value = options.last().unwrap();
        run(&[&base[..], &["--init"], options].concat()).fails(2, &[value]);
    }
    for option in [["--http-advertise", "h:1"], ["--http-connections-max", "9"]] {
        assert_eq!(run(&[&base[..], &["--init"], &option].concat()).code, Some(2), "{option:?}");
    }
    assert!(!data.exists());
}

#[test]
fn a_condition_that_is_no_version_is_refused_and_nothing_is_written() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    for method in ["PUT", "DELETE"] {
        for (name, value) in [
            ("if-match", "3"),
            ("if-match", "\"three\""),
            ("if-match", "\"0\""),
            ("if-match", "\"1\", \"2\""),
            ("if-match", "W/\"1\""),
            ("if-match", "*"),
            ("if-match", "\"18446744073709551616\""),
            ("if-none-match", "\"1\""),
        ] {
            ask(node, method, "/v1/kv/k", &[(name, value)], b"v").fails(400, "bad-condition");
        }
        let both = [("if-match", "\"1\""), ("if-none-match", "*")];
        ask(node, method, "/v1/kv/k", &both, b"v").fails(400, "bad-condition");
        let twice = [("if-match", "\"1\""), ("if-match", "\"2\"")];
        ask(node, method, "/v1/kv/k", &twice, b"v").fails(400, "bad-header");
    }
    ask(node, "DELETE", "/v1/kv/k", &[("if-none-match", "*")], b"").fails(400, "bad-condition");
    get(node, "/v1/kv/k").fails(404, "no-key");
}

#[test]
fn what_is_longer_than_the_limits_is_refused_without_being_kept() {
    let cluster = cluster(1, &["--value-bytes-max", "1000", "--key-bytes-max", "10"]);
    let node = leader(&cluster);
    put(node, "/v1/kv/k", &[b'x'; 1000]).is(201);
    put(node, "/v1/kv/k", &[b'x'; 1001]).fails(413, "body-too-large");
    put(node, "/v1/kv/k", &vec![b'x'; 20_000_000]).fails(413, "body-too-large");
    put(node, "/v1/kv/elevenbytes", b"v").fails(413, "key-too-large");
    // Its length is only known when it is there.
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let head = "PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    send(node, format!("{head}{chunk}0\r\n\r\n").as_bytes()).is(200);
    send(node, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).fails(413, "body-too-large");
    // Who asks before it sends is told at once.
    let head = "PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n";
    send(node, head.as_bytes()).fails(413, "body-too-large");
    assert_eq!(get(node, "/v1/kv/k").is(200).header("etag"), "\"2\"");

    let values = "x".repeat(600);
    let puts: Vec<_> =
        ["a", "b"].map(|key| json!({ "put": { "key": key, "value": values } })).into();
    let transaction = json!({ "writes": puts }).to_string();
    ask(node, "POST", "/v1/transactions", &[], transaction.as_bytes())
        .fails(413, "value-too-large");
    ask(node, "POST", "/v1/transactions", &[], &[b' '; 100_000]).fails(413, "body-too-large");
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let long = "x".repeat(40_000);
    ask(node, "GET", "/v1/kv/k", &[("x", &long)], b"").fails(431, "head-too-large");
    get(node, &format!("/v1/kv/{long}")).fails(431, "head-too-large");
    let many = [("x", "y"); 120];
    ask(node, "GET", "/v1/kv/k", &many, b"").fails(431, "head-too-large");
    // Beyond that the parser itself refuses it, before anybody could say more.
    for (name, count, len) in [("x", 1, 1_000_000), ("x", 10_000, 1)] {
        let value = "y".repeat(len);
        ask(node, "GET", "/v1/kv/k", &vec![(name, &*value); count], b"").is(431);
    }
    get(node, "/healthz").is(200);
}

#[test]
fn what_is_no_http_is_answered_and_closed_and_the_node_lives() {
    let mut cluster = cluster(1, &[]);
    let node = leader(&cluster).to_owned();
    for bytes in
        [&b"GET\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/9.9\r\n\r\n"]
    {
        assert!(send(&node, bytes).status >= 400);
    }
    // A body that breaks off is no value.
    let mut stream = connect(&node);
    let head = b"PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    std::io::Write::write_all(&mut stream, head).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    // Several requests on one connection, of which one makes no sense.
    let requests =
        "PUT /v1/kv/a/b HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = connect(&node);
    std::io::Write::write_all(&mut stream, requests.as_bytes()).unwrap();
    let mut stream = std::io::BufReader::new(stream);
    read(&mut stream).fails(400, "bad-key");
    read(&mut stream).is(200);
    get(&node, "/v1/kv/k").fails(404, "no-key");
    assert!(cluster.node(1).runs());
}
