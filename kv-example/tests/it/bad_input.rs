//! What is wrong is told in one line, and nothing is overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use crate::process::{Cluster, PATIENCE, Ran, free_members, run};

/// Every file below a directory, with its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn node(id: &str, members: &str, data: &Path, init: bool) -> Ran {
    let mut args = vec!["node", "--id", id, "--cluster", members, "--data", data.to_str().unwrap()];
    if init {
        args.push("--init");
    }
    run(&args)
}

/// A node that ran and is stopped: its members and its disk are left.
fn stopped() -> Cluster {
    let mut cluster = Cluster::start(1, &[]);
    for number in 0..20 {
        cluster.run(&["put", &format!("key{number}"), &"value".repeat(100)]).ok();
    }
    cluster.kill(1);
    cluster
}

#[test]
fn a_cluster_that_does_not_parse_is_refused_by_every_command() {
    let many_lines = "1=a:1,\n2=b";
    for members in
        ["", "1", "1=localhost", "x=a:1", "1=a:1,1=b:2", "1=a:70000", "0=a:1", many_lines]
    {
        let expected = "expected ID=HOST:PORT";
        run(&["get", "--cluster", members, "k"]).fails(2, &[expected]);
        run(&["status", "--cluster", members]).fails(2, &[expected]);
        let data = ["--data", "nowhere"];
        run(&["node", "--id", "1", "--cluster", members, data[0], data[1]]).fails(2, &[expected]);
    }
    assert!(!Path::new("nowhere").exists());
}

#[test]
fn an_id_that_is_not_in_the_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    node("9", &free_members(2), &data, true).fails(2, &["node 9", "nodes 1, 2", "--listen"]);
    assert!(!data.exists());
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_created() {
    let (dir, members) = (tempfile::tempdir().unwrap(), free_members(1));
    let data = dir.path().join("data").display().to_string();
    let args = ["node", "--id", "1", "--cluster", &members, "--data", &data, "--init"];
    for option in ["--listen", "--advertise"] {
        for address in ["here", ":7101", "here:port", "he re:7101"] {
            let ran = run(&[&args[..], &[option, address]].concat());
            ran.fails(2, &["expected HOST:PORT"]);
        }
    }
    assert!(!Path::new(&data).exists());
}

#[test]
fn an_address_at_which_nobody_can_be_found_gets_into_no_configuration() {
    let (dir, members) = (tempfile::tempdir().unwrap(), free_members(1));
    let data = dir.path().join("data").display().to_string();
    let node = ["node", "--id", "2", "--cluster", &members, "--data", &data];
    for address in ["0.0.0.0:7101", "[::]:7101", "[::ffff:0.0.0.0]:7101", "0:7101"] {
        let add = ["add", "--cluster", &members, "--id", "2", "--address", address];
        run(&add).fails(2, &["--address", "every address"]);
        let ran = run(&[&node[..], &["--listen", "127.0.0.1:1", "--advertise", address]].concat());
        ran.fails(2, &["--advertise", "every address"]);
        for begin in ["--join", "--rejoin"] {
            let ran = run(&[&node[..], &["--listen", address, begin]].concat());
            ran.fails(2, &[address, "--advertise"]);
        }
    }
    // Where it is said, the node is at the next question: which cluster it is to join.
    let listen = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:7101", "--join"];
    run(&[&node[..], &listen].concat()).fails(2, &["none of the nodes answers"]);
    assert!(!Path::new(&data).exists());
}

#[test]
fn a_port_in_use_is_named_before_anything_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (members, data) = (format!("1={address}"), dir.path().join("data"));
    node("1", &members, &data, true).fails(2, &[&address, "in use"]);
    assert!(!data.exists(), "the same command will do once the port is free");
}

#[test]
fn an_absent_or_empty_directory_needs_init_and_an_existing_one_must_not_have_it() {
    let members = free_members(1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    node("1", &members, &data, false).fails(2, &[data.to_str().unwrap(), "--init"]);
    assert!(!data.exists());
    fs::create_dir(&data).unwrap();
    node("1", &members, &data, false).fails(2, &[data.to_str().unwrap(), "--init"]);
    fs::write(data.join("diary"), "dear diary").unwrap();
    node("1", &members, &data, true).fails(2, &[data.to_str().unwrap(), "diary"]);
    node("1", &members, &data, false).fails(2, &[data.to_str().unwrap()]);
    assert_eq!(fs::read(data.join("diary")).unwrap(), b"dear diary");

    let cluster = stopped();
    let (data, before) = (cluster.data(1), files(&cluster.data(1)));
    node("1", &cluster.members, &data, true).fails(2, &[data.to_str().unwrap(), "already"]);
    assert!(files(&data) == before);
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let cluster = stopped();
    let (data, before) = (cluster.data(1), files(&cluster.data(1)));
    let path = data.to_str().unwrap();
    let other_node = free_members(1).replacen("1=", "2=", 1);
    node("2", &other_node, &data, false).fails(2, &[path]);
    assert!(files(&data) == before);
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let mut cluster = Cluster::start(1, &[]);
    let data = cluster.data(1);
    node("1", &cluster.members, &data, false).fails(2, &[data.to_str().unwrap(), "uses it"]);
    assert!(cluster.node(1).runs());
    cluster.run(&["put", "k", "v"]).ok();
}

#[test]
fn a_directory_of_a_newer_format_is_refused() {
    let cluster = stopped();
    let identity = cluster.data(1).join("identity");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, text.replace("format 1", "format 9")).unwrap();
    let before = files(&cluster.data(1));
    let ran = node("1", &cluster.members, &cluster.data(1), false);
    ran.fails(2, &[identity.to_str().unwrap(), "format"]);
    assert!(files(&cluster.data(1)) == before);
}

#[test]
fn a_damaged_file_is_named_with_the_place_of_the_damage() {
    let cluster = stopped();
    let log = cluster.data(1).join("log");
    let (path, mut content) = files(&log).into_iter().max_by_key(|(_, c)| c.len()).unwrap();
    // The first value: far from the end, where a torn write could be.
    let at = content.windows(10).position(|window| window == b"valuevalue").unwrap();
    content[at] ^= 1;
    fs::write(&path, content).unwrap();
    let before = files(&cluster.data(1));
    let ran = node("1", &cluster.members, &cluster.data(1), false);
    ran.fails(2, &[path.to_str().unwrap(), "damaged at byte"]);
    assert!(files(&cluster.data(1)) == before);
}

#[test]
fn a_node_whose_disk_fails_stops_with_one_line_and_has_lost_nothing_acknowledged() {
    let mut cluster = stopped();
    let args = cluster.command(1, false);
    // The limit on the size of a file stands in for a full disk: the write fails with an error.
    let script = "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_kv-example")]).args(&args).env("RUST_LOG", "off");
    let node = std::thread::spawn(move || Ran::of(&mut shell));
    let value = "x".repeat(50_000);
    let acknowledged = (0..)
        .take_while(|number| {
            let key = format!("large{number}");
            let ran = cluster.run(&["put", &key, &value, "--version", "0", "--timeout", "1"]);
            ran.code == Some(0) || *number == 0 && !node.is_finished()
        })
        .count();
    let ran = node.join().unwrap();
    ran.fails(2, &["has stopped", "storage failed", cluster.data(1).to_str().unwrap()]);
    assert!(acknowledged < 100, "the disk was never full");
    cluster.restart(1);
    for number in 1..acknowledged {
        cluster.run(&["get", &format!("large{number}")]).ok();
    }
    assert_eq!(cluster.run(&["scan", "key"]).ok().text().lines().count(), 20);
}

#[test]
fn random_bytes_on_the_port_close_the_connection_and_the_node_lives() {
    let mut cluster = Cluster::start(1, &[]);
    let address = cluster.members.trim_start_matches("1=").to_owned();
    let huge_frame = [0xff; 64];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 200], &huge_frame] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed while we still write.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        assert!(
            !matches!(&closed, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "the connection stays open"
        );
    }
    assert!(cluster.node(1).runs());
    cluster.run(&["put", "k", "v"]).ok();
}

#[test]
fn impossible_options_and_files_are_refused() {
    let members = free_members(1);
    let missing = run(&["import", "--cluster", &members, "no-such-file"]);
    missing.fails(2, &["no-such-file"]);
    run(&["import", "--cluster", &members, "."]).fails(2, &[]);
    run(&["import", "--cluster", &members, "x", "--window", "0"]).fails(2, &["--window"]);
    run(&["get", "--cluster", &members, "k", "--timeout", "never"]).fails(2, &["--timeout"]);
    let node = ["node", "--id", "1", "--cluster", &members, "--data", "nowhere", "--init"];
    for (option, value) in [
        ("--value-bytes-max", "999999999999"),
        ("--key-bytes-max", "0"),
        ("--history-bytes", "1000"),
        ("--snapshot-log-bytes", "0"),
    ] {
        let args: Vec<_> = node.iter().copied().chain([option, value]).collect();
        assert_eq!(run(&args).code, Some(2), "{option} {value}");
    }
    assert!(!Path::new("nowhere").exists());
}
