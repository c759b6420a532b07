//! What each command prints, and its exit code.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{Cluster, Ran, run};

#[test]
fn keys_are_written_read_listed_and_deleted_at_versions() {
    let cluster = Cluster::start(1, &[]);
    let print = |args: &[&str]| cluster.run(args).ok().text().to_owned();
    assert_eq!(print(&["put", "a", "one"]), "1\n");
    assert_eq!(print(&["put", "a", "two"]), "2\n");
    assert_eq!(print(&["put", "a", "three", "--version", "2"]), "3\n");
    assert_eq!(print(&["put", "b", "tab\tand\nline", "--version", "0"]), "1\n");
    assert_eq!(print(&["put", "--", "c", "-5"]), "1\n");
    assert_eq!(print(&["get", "a"]), "three\n");
    assert_eq!(print(&["get", "c"]), "-5\n");
    let json = |args: &[&str]| serde_json::from_str::<Value>(&print(args)).unwrap();
    let entry = json(&["get", "a", "--json"]);
    assert_eq!((&entry["key"], &entry["version"]), (&json!("a"), &json!(3)));
    assert_eq!((&entry["value"], &entry["value_base64"]), (&json!("three"), &json!("dGhyZWU=")));
    assert!(entry["created"].as_u64() < entry["modified"].as_u64(), "{entry}");
    assert_eq!(print(&["scan"]), "a\t3\tthree\nb\t1\ttab\\tand\\nline\nc\t1\t-5\n");
    assert_eq!(print(&["scan", "--limit", "1"]), "a\t3\tthree\n");
    assert_eq!(json(&["scan", "c", "--json"]), json(&["get", "c", "--json"]));
    assert_eq!(print(&["scan", "x"]), "");
    assert_eq!(print(&["delete", "a", "--version", "3"]), "3\n");
    assert_eq!(print(&["delete", "b"]), "1\n");

    cluster.run(&["put", "c", "x", "--version", "0"]).fails(1, &["\"c\"", "version 1, not 0"]);
    cluster.run(&["put", "a", "x", "--version", "3"]).fails(1, &["no key \"a\""]);
    cluster.run(&["get", "a"]).fails(1, &["no key \"a\""]);
    cluster.run(&["delete", "a"]).fails(1, &["no key \"a\""]);
    cluster.run(&["delete", "c", "--version", "7"]).fails(1, &["\"c\" has version 1"]);
}

#[test]
fn several_keys_are_written_at_one_moment_or_not_at_all() {
    let cluster = Cluster::start(1, &[]);
    let print = |args: &[&str]| cluster.run(args).ok().text().to_owned();
    print(&["put", "old", "a=b"]);
    let made =
        print(&["txn", "--if", "old=1", "--if", "new=0", "--put", "new=a=b", "--delete", "old"]);
    assert!(made.trim_end().parse::<u64>().is_ok(), "{made}");
    assert_eq!(print(&["scan"]), "new\t1\ta=b\n");
    let again = cluster.run(&["txn", "--if", "old=1", "--delete", "new"]);
    again.fails(1, &["no key \"old\"", "nothing was written"]);
    let other = cluster.run(&["txn", "--if", "new=7", "--delete", "new"]);
    other.fails(1, &["\"new\" has version 1", "nothing was written"]);
    cluster.run(&["txn", "--put", "k=1", "--delete", "k"]).fails(2, &["\"k\" is written twice"]);
    cluster.run(&["txn", "--put", "k"]).fails(2, &["KEY=VALUE"]);
    cluster.run(&["txn", "--put", "k=v", "--lease", "7"]).fails(1, &["no such lease"]);
    assert_eq!(print(&["scan"]), "new\t1\ta=b\n");
}

#[test]
fn a_lease_takes_its_keys_with_it_and_whoever_watches_sees_it() {
    let cluster = Cluster::start(1, &[]);
    let print = |args: &[&str]| cluster.run(args).ok().text().to_owned();
    let lease = print(&["lease", "grant", "--ttl", "600"]);
    let lease = lease.trim_end();
    assert_eq!(print(&["put", "worker/1", "alive", "--lease", lease]), "1\n");
    assert_eq!(print(&["lease", "keep-alive", lease]), "600\n");
    let shown = print(&["lease", "show", lease]);
    assert!(shown.contains("ttl   600 s") && shown.contains("key   worker/1"), "{shown}");
    let shown = print(&["lease", "show", lease, "--json"]);
    assert!(shown.contains("\"keys\":[\"worker/1\"]"), "{shown}");
    print(&["lease", "revoke", lease]);
    cluster.run(&["get", "worker/1"]).fails(1, &["no key"]);
    for action in ["show", "keep-alive"] {
        cluster.run(&["lease", action, lease]).fails(1, &[lease, "no such lease"]);
    }
    cluster.run(&["put", "k", "v", "--lease", lease]).fails(1, &["no lease", lease]);
    cluster.run(&["lease", "grant", "--ttl", "0"]).fails(2, &["seconds"]);
    let brief = print(&["lease", "grant", "--ttl", "3"]);
    print(&["put", "worker/2", "dying", "--lease", brief.trim_end()]);
    // Nobody writes any more.
    let watched = print(&["watch", "--prefix", "worker/", "--from", "1", "--count", "4"]);
    let lines: Vec<Vec<&str>> =
        watched.lines().map(|line| line.split('\t').skip(1).collect()).collect();
    let put = |key, value| vec!["put", key, "1", value];
    let deleted = |key| vec!["delete", key, "1"];
    let expected = [
        put("worker/1", "alive"),
        deleted("worker/1"),
        put("worker/2", "dying"),
        deleted("worker/2"),
    ];
    assert_eq!(lines, expected, "{watched}");
    let json = print(&["watch", "--from", "1", "--count", "1", "--json"]);
    assert!(json.contains("\"deleted\":false") && json.contains("\"lease\":"), "{json}");
}

#[test]
fn a_watch_bears_an_outage_that_is_longer_than_its_timeout() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.run(&["put", "a", "before"]).ok();
    let mut watch = std::process::Command::new(env!("CARGO_BIN_EXE_kv-example"))
        .args(["watch", "--cluster", &cluster.members, "--from", "1", "--timeout", "1"])
        .args(["--count", "2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().ends_with("\tput\ta\t1\tbefore"));
    cluster.kill(1);
    // It says that it has waited for as long as that.
    let mut said = BufReader::new(watch.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("note: "));
    cluster.restart(1);
    cluster.run(&["put", "a", "after"]).ok();
    assert!(told.next().unwrap().unwrap().ends_with("\tput\ta\t2\tafter"));
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watch_of_what_is_forgotten_ends_with_exit_code_1() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.run(&["put", "a", "v"]).ok();
    cluster.run(&["snapshot"]).ok();
    cluster.kill(1);
    cluster.restart(1);
    cluster.run(&["watch", "--from", "1"]).fails(1, &["forgotten"]);
}

#[test]
fn a_text_comes_back_byte_for_byte_whatever_was_there_before() {
    let cluster = Cluster::start(1, &[]);
    let file = cluster.dir().join("text");
    let path = file.to_str().unwrap();
    cluster.run(&["export"]).fails(1, &["no text"]);
    let long: Vec<u8> = (0..300).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    let texts: [&[u8]; 9] = [
        b"a\nb\n",
        &long,
        b"a\nb",
        b"",
        b"\n",
        b"\n\n\nx\n\n",
        b"dos\r\n\r\nlines\r\n",
        b"\xff\xfe\x00\n\x80",
        b"a\nb",
    ];
    for text in texts {
        fs::write(&file, text).unwrap();
        cluster.run(&["import", path, "--window", "7"]).ok();
        assert!(cluster.run(&["export"]).ok().stdout == text, "{}", text.escape_ascii());
    }
    let ran = cluster.run(&["import", path]).ok();
    assert!(ran.text().contains("0 written, 2 were there already"), "{ran:?}");
    assert_eq!(cluster.run(&["scan", "0"]).ok().text().lines().count(), 2);
}

#[test]
fn an_export_is_refused_where_lines_are_missing_or_an_import_broke_off() {
    let cluster = Cluster::start(1, &["--value-bytes-max", "100"]);
    let file = cluster.dir().join("text");
    let path = file.to_str().unwrap();
    fs::write(&file, "one\ntwo\nthree\n").unwrap();
    cluster.run(&["import", path]).ok();
    cluster.run(&["delete", "0000000002"]).ok();
    cluster.run(&["export"]).fails(1, &["line 2 of 3", "0000000002"]);
    fs::write(&file, format!("one\n{}\n", "x".repeat(101))).unwrap();
    cluster.run(&["import", path]).fails(1, &[path, "line 2", "101 bytes", "100"]);
    cluster.run(&["export"]).fails(1, &["import of 2 lines", "run it again"]);
    fs::write(&file, format!("one\n{}\n", "x".repeat(100))).unwrap();
    cluster.run(&["import", path]).ok();
    assert_eq!(cluster.run(&["export"]).ok().stdout, fs::read(&file).unwrap());
}

#[test]
fn an_import_does_not_overwrite_what_no_import_wrote() {
    let cluster = Cluster::start(1, &[]);
    let file = cluster.dir().join("text");
    let path = file.to_str().unwrap();
    fs::write(&file, "one\ntwo\n").unwrap();
    cluster.run(&["put", "0000000002", "mine"]).ok();
    cluster.run(&["import", path]).fails(1, &[path, "0000000002", "no import wrote"]);
    assert_eq!(cluster.run(&["get", "0000000002"]).ok().text(), "mine\n");
    cluster.run(&["put", "import", "mine"]).ok();
    cluster.run(&["import", path]).fails(1, &[path, "key import", "no import wrote"]);
}

#[test]
fn limits_are_definite_errors_and_can_be_set() {
    let cluster = Cluster::start(1, &["--key-bytes-max", "4", "--value-bytes-max", "6"]);
    cluster.run(&["put", "four", "sixsix"]).ok();
    cluster.run(&["put", "five5", "v"]).fails(1, &["five5", "key has 5 bytes, the limit is 4"]);
    cluster.run(&["put", "k", "seven77"]).fails(1, &["value has 7 bytes, the limit is 6"]);
    cluster.run(&["get", "k"]).fails(1, &["no key"]);
    cluster.run(&["delete", "five5"]).fails(1, &["key has 5 bytes"]);
}

#[test]
fn the_status_tells_of_each_node_also_of_one_that_is_gone() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let gone = leader % 3 + 1;
    cluster.kill(gone);
    let status = cluster.status();
    assert_eq!(status.len(), 3);
    for (id, node) in (1..).zip(&status) {
        assert_eq!(node["id"], id);
        assert_eq!(node["reachable"], id != gone, "{node}");
        if id != gone {
            assert!(node["term"].as_u64().unwrap() >= 1, "{node}");
            assert!(node["log_bytes"].as_u64().unwrap() > 0, "{node}");
            for part in ["term", "index"] {
                assert!(node["last"][part].as_u64().unwrap() >= 1, "{node}");
            }
            for name in ["role", "leader", "commit", "applied", "snapshot"] {
                assert!(node.get(name).is_some(), "no {name} in {node}");
            }
        }
    }
    let table = cluster.run(&["status"]).ok();
    assert_eq!(table.text().lines().count(), 4, "{table:?}");
    assert!(table.text().lines().next().unwrap().ends_with("refused"), "{table:?}");
    // What tells of two survivors which one has the newer log.
    for command in ["status", "members"] {
        let table = cluster.run(&[command]).ok();
        assert_eq!(table.text().matches(", index ").count(), 2, "{table:?}");
    }
    let member = cluster.member(leader);
    assert!(member["last"]["term"].as_u64() >= Some(1), "{member}");
    for id in 1..=3 {
        cluster.kill(id);
    }
    cluster.run(&["status"]).fails(2, &["no node", &cluster.members]);
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error_of_the_environment() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.kill(id);
    }
    // The last node is no majority.
    cluster.run(&["get", "k", "--timeout", "0.5"]).fails(2, &["\"k\""]);
    cluster.run(&["put", "k", "v", "--version", "0", "--timeout", "0.5"]).fails(2, &["\"k\""]);
    cluster.kill(leader);
    cluster.run(&["get", "k", "--timeout", "0.5"]).fails(2, &["\"k\"", "cannot reach"]);
}

#[test]
fn help_is_for_people_and_no_error() {
    let help = |args: &[&str]| run(args).ok().text().to_owned();
    let text = help(&["--help"]);
    for command in [
        "demo", "node", "put", "get", "delete", "scan", "import", "export", "status", "members",
        "add", "remove", "transfer", "snapshot", "recover",
    ] {
        assert!(text.contains(command), "{text}");
        assert!(help(&[command, "--help"]).contains("Usage: kv-example"), "{command}");
    }
    assert!(help(&["--version"]).starts_with("kv-example "));
    let nothing: Ran = run(&[]);
    assert_eq!(nothing.code, Some(2));
    assert_eq!(run(&["frobnicate"]).code, Some(2));
    assert_eq!(run(&["get", "--cluster", "1=a:1"]).code, Some(2));
}
