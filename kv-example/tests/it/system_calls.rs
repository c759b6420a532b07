//! What leaves a node, against what its disk has confirmed, by the system calls of real processes.
//!
//! One `strace` watches all nodes, so that all of their calls stand in one order: it sees the beginning of a call before
//! the call is carried out, and its end before the caller does. What a node sends because a sync has returned
//! therefore stands behind that return, however slow the machine is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use crate::process::{Cluster, Ran, eventually};

const NODES: usize = 3;
const QUORUM: usize = NODES / 2 + 1;

/// Each replaces the value of the put before it: the n-th leads to version n, and its answer says so.
/// Below 128: a version is one byte of an answer.
const PUTS: u8 = 20;

/// Each sync is held for a while (microseconds) before it is carried out: what does not wait for it is far ahead of it
/// in the trace then.
const TRACE: [&str; 9] = [
    "-f",
    "-y",
    "-xx",
    "-s",
    "16384",
    "-e",
    "trace=write,writev,pwrite64,sendto,sendmsg,fdatasync,fsync",
    "-e",
    "inject=fdatasync,fsync:delay_enter=5000",
];

#[test]
fn no_acknowledgement_vote_or_answer_leaves_before_the_sync_that_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(why) = tracing_is_possible(&dir.path().join("probe")) {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(std::io::stderr(), "skipped, system calls cannot be traced: {why}");
        return;
    }
    let trace = dir.path().join("trace");
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let series = [this, "--exact", "system_calls::a_series_of_puts"];
    Ran::of(Command::new("strace").args(TRACE).arg("-o").arg(&trace).args(series)).ok();

    let mut observer = Observer::default();
    let lines = BufReader::new(File::open(&trace).unwrap()).lines();
    lines.for_each(|line| observer.line(&line.unwrap()));
    // A put starts when the one before it is committed, so each takes an acknowledgement of its own.
    assert!(observer.acknowledgements >= usize::from(PUTS), "{observer:?}");
    assert!(observer.granted >= 1, "{observer:?}");
    assert!(!observer.answered.is_empty(), "{observer:?}");
}

/// A test of its own, and what the one above runs under strace, to look at what it did.
#[test]
fn a_series_of_puts() {
    let cluster = Cluster::start(NODES, &[]);
    for put in 1..=PUTS {
        let (value, before) = (value(put), (put - 1).to_string());
        // Again, where an election came between: the version sees to it that it is written once.
        eventually("a value is written", || {
            let put = cluster.run(&["put", "key", &value, "--version", &before]);
            let is_written = || cluster.run(&["get", "key"]).text() == format!("{value}\n");
            (put.code == Some(0) || is_written()).then_some(())
        });
    }
}

fn value(put: u8) -> String {
    format!("the value of put {put:03}")
}

/// Tries a trace of a program that does nothing.
fn tracing_is_possible(output: &Path) -> Result<(), String> {
    let mut probe = Command::new("strace");
    probe.args(TRACE).arg("-o").arg(output).args(["sh", "-c", ":"]);
    let tried = probe.output().map_err(|error| format!("strace: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    Err(said.lines().next().unwrap_or("strace fails and does not say why").to_owned())
}

/// What a log holds.
#[derive(Clone, Debug, Default)]
struct Log {
    /// The greatest index that any entry has had.
    last: u64,
    /// The puts whose values are in it.
    puts: BTreeSet<u8>,
    /// Terms, with the candidate that has the vote, and its incarnation.
    votes: BTreeSet<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
struct Node {
    written: Log,
    /// What was written when the sync that is under way began.
    syncing: Log,
    /// What was written when a sync that has succeeded began.
    durable: Log,
}

/// Goes through a trace, and panics where something leaves that is not durable.
#[derive(Debug, Default)]
struct Observer {
    nodes: BTreeMap<u64, Node>,
    /// Syncs of logs that are under way, by thread.
    syncs: BTreeMap<String, u64>,
    acknowledgements: usize,
    granted: usize,
    answered: BTreeSet<u8>,
}

impl Observer {
    /// `THREAD NAME(FD<PATH>, "DATA", …) = RESULT`; a call in whose course another one begins or ends is two lines:
    /// `THREAD NAME(FD<PATH>, "DATA", … <unfinished ...>`, `THREAD <... NAME resumed>…) = RESULT`.
    fn line(&mut self, line: &str) {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        if call.starts_with("<... ") {
            return self.ends(thread, call);
        }
        // Also signals and the ends of threads are told.
        let Some((name, arguments)) = call.split_once('(') else { return };
        let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let node = path.and_then(|(path, _)| node_of_log(&text(path)));
        match (name, node) {
            ("write" | "writev" | "pwrite64", Some(node)) => {
                self.node(node).written.record(&data(arguments));
            }
            ("write" | "writev" | "sendto" | "sendmsg", None) => {
                self.sends(line, &data(arguments));
            }
            ("fdatasync" | "fsync", Some(id)) => {
                let node = self.node(id);
                node.syncing = node.written.clone();
                self.syncs.insert(thread.to_owned(), id);
                if !call.contains("<unfinished ...>") {
                    self.ends(thread, call);
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.entry(id).or_default()
    }

    /// A call has returned. Only syncs matter.
    fn ends(&mut self, thread: &str, call: &str) {
        if let Some(id) = self.syncs.remove(thread)
            && call.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with('0'))
        {
            let node = self.node(id);
            node.durable = node.syncing.clone();
        }
    }

    fn sends(&mut self, line: &str, mut data: &[u8]) {
        const HEADER_BYTES: usize = 20;
        const PACKET: u8 = 3;
        const RESPONSE: u8 = 5;
        while data.starts_with(b"Rf") && data.len() >= HEADER_BYTES {
            let end = HEADER_BYTES + u32_at(data, 4);
            let Some(body) = data.get(HEADER_BYTES..end) else { panic!("half a frame: {line}") };
            match data[2] {
                PACKET => self.packet(line, body),
                RESPONSE => self.response(line, body),
                _ => {}
            }
            data = &data[end..];
        }
    }

    fn packet(&mut self, line: &str, body: &[u8]) {
        const REQUEST_VOTE: u8 = 18;
        const VOTE_RESPONSE: u8 = 19;
        const APPEND_ACCEPTED: u8 = 21;
        const FROM_INCARNATION: usize = 17;
        const TERM: usize = 26;
        const FIELDS: usize = 34;
        let (kind, from, to) = (body[0], u64_at(body, 1), u64_at(body, 9));
        let durable = self.node(from).durable.clone();
        match kind {
            APPEND_ACCEPTED => {
                let matched = u64_at(body, FIELDS);
                assert!(
                    matched <= durable.last,
                    "node {from} acknowledges {matched} with {durable:?}: {line}"
                );
                self.acknowledgements += 1;
            }
            REQUEST_VOTE | VOTE_RESPONSE => {
                let term = u64_at(body, TERM);
                let (is_vote, candidate, incarnation) = match kind {
                    REQUEST_VOTE => (true, from, u64_at(body, FROM_INCARNATION)),
                    _ => (body[FIELDS + 8] == 1, to, u64_at(body, FIELDS)),
                };
                assert!(
                    !is_vote || durable.votes.contains(&(term, candidate, incarnation)),
                    "node {from} votes for {candidate} in term {term} with {durable:?}: {line}"
                );
                self.granted += usize::from(is_vote && kind == VOTE_RESPONSE);
            }
            _ => {}
        }
    }

    fn response(&mut self, line: &str, body: &[u8]) {
        // After the request's id: there is an answer, protocol version, no failure, written, the new version.
        let [1, 1, 1, 0, put] = body[8..] else { return };
        // No write leads to version 0: of a read, this says that there is no such key.
        if put == 0 {
            return;
        }
        let holds = |node: &&Node| node.durable.puts.contains(&put);
        let nodes = self.nodes.values().filter(holds).count();
        assert!(nodes >= QUORUM, "put {put} is answered with its value on {nodes} disks: {line}");
        self.answered.insert(put);
    }
}

impl Log {
    /// Adds a record of the write-ahead log; what else is written to its files says nothing here.
    fn record(&mut self, record: &[u8]) {
        const HEADER_BYTES: usize = 32;
        const HARD_STATE: u8 = 4;
        const ENTRY_HEADER_BYTES: usize = 4 + 24;
        if !record.starts_with(b"rec\x01") {
            return;
        }
        let meta = &record[HEADER_BYTES..HEADER_BYTES + u32_at(record, 12)];
        // The flag alone: no snapshot stands before the hard state.
        if meta[0] == HARD_STATE && meta[17] == 1 {
            self.votes.insert((u64_at(meta, 1), u64_at(meta, 18), u64_at(meta, 26)));
        }
        let mut entries = &record[HEADER_BYTES + meta.len()..HEADER_BYTES + u32_at(record, 8)];
        while !entries.is_empty() {
            let length = u64_at(entries, 20) >> 8;
            let (entry, rest) =
                entries.split_at(ENTRY_HEADER_BYTES + usize::try_from(length).unwrap());
            self.last = self.last.max(u64_at(entry, 12));
            let is_in = |put: &u8| contains(entry, value(*put).as_bytes());
            self.puts.extend((1..=PUTS).filter(is_in));
            entries = rest;
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn u32_at(bytes: &[u8], offset: usize) -> usize {
    let bytes = bytes[offset..offset + 4].try_into().unwrap();
    usize::try_from(u32::from_le_bytes(bytes)).unwrap()
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// The node to whose log a file belongs.
fn node_of_log(path: &str) -> Option<u64> {
    let (dir, _file) = path.rsplit_once("/log/")?;
    dir.rsplit_once("/node")?.1.parse().ok()
}

/// What a call writes, up to the limit of the trace: all that stands in quotation marks.
fn data(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(bytes).collect()
}

/// `\x` and two digits a byte.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.split("\\x").skip(1);
    digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn text(hexadecimal: &str) -> String {
    String::from_utf8_lossy(&bytes(hexadecimal)).into_owned()
}
