//! Clients that speak HTTP: to whichever node, and to the next one if that does not help.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_sim::history::Ended;
use raft_sim::model::register::{Reply, Request};

use super::{Chaos, KEYS, Told};
use crate::http::client::{Response, try_ask};
use crate::process::PATIENCE;

/// A node that does not answer is given up after this: longer than it is stopped.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Node by node, beginning anywhere.
struct Nodes {
    next: usize,
}

impl Nodes {
    fn ask(
        &mut self,
        chaos: &Chaos,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let address = chaos.http(self.next % 3 + 1).ok_or(io::ErrorKind::NotConnected)?;
        try_ask(&address, method, path, headers, body, TIMEOUT)
    }

    /// Where a node says that the leader is, or the next one.
    fn go_on(&mut self, answer: Option<&Response>) {
        let leader = answer.and_then(|answer| {
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
            usize::try_from(answer["error"]["leader"]["id"].as_u64()?).ok()
        });
        match leader {
            Some(leader) if leader != self.next % 3 + 1 => self.next = leader - 1,
            Some(_) | None => {
                self.next += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Chaos {
    fn http(&self, id: usize) -> Option<String> {
        self.cluster().http_if_it_runs(id)
    }
}

/// The highest version of each key that anybody has heard of.
static VERSIONS: [AtomicU64; KEYS as usize] = [const { AtomicU64::new(0) }; KEYS as usize];

/// Reads and writes by versions, each request once.
pub(super) fn read_and_write(chaos: &Chaos, number: u64, told: &Mutex<Told>) {
    let mut nodes = Nodes { next: usize::try_from(number).unwrap() };
    for operation in number * 7.. {
        if !chaos.goes_on() {
            return;
        }
        let place = usize::try_from(operation * 5 % u64::from(KEYS)).unwrap();
        let key = format!("key-{place}");
        let path = format!("/v1/kv/{key}");
        let now = || chaos.begin.elapsed();
        let (id, answer, is_read) = if operation % 2 == 0 {
            let id = told.lock().unwrap().begin(number, Request::Get { key }, now());
            (id, nodes.ask(chaos, "GET", &path, &[], b""), true)
        } else {
            let version = VERSIONS[place].load(Ordering::SeqCst);
            let value = format!("{number}-{operation}");
            let request = Request::Put { key, value: value.clone(), version };
            let id = told.lock().unwrap().begin(number, request, now());
            let tag = format!("\"{version}\"");
            let condition = match version {
                0 => ("if-none-match", "*"),
                _ => ("if-match", &*tag),
            };
            (id, nodes.ask(chaos, "PUT", &path, &[condition], value.as_bytes()), false)
        };
        let ended = match &answer {
            Ok(answer) => ended(answer, is_read),
            // Nobody knows what became of a write.
            Err(_) if is_read => Ended::Failed,
            Err(_) => Ended::Maybe,
        };
        let version = match &ended {
            Ended::Answered(Reply::Written { version } | Reply::Value(Some((version, _)))) => {
                *version
            }
            Ended::Answered(Reply::VersionMismatch { current }) => *current,
            Ended::Answered(_) | Ended::Maybe | Ended::Failed => 0,
        };
        VERSIONS[place].fetch_max(version, Ordering::SeqCst);
        if !matches!(ended, Ended::Answered(_)) {
            nodes.go_on(answer.as_ref().ok());
        }
        told.lock().unwrap().end(id, ended, now());
    }
}

fn ended(answer: &Response, is_read: bool) -> Ended<Reply<String>> {
    let tag = || answer.header("etag").trim_matches('"').parse().expect("a version");
    match (answer.status, is_read) {
        (200, true) => Ended::Answered(Reply::Value(Some((tag(), answer.text().to_owned())))),
        (404, true) => Ended::Answered(Reply::Value(None)),
        (200 | 201, false) => Ended::Answered(Reply::Written { version: tag() }),
        (412, false) => match answer.json()["error"]["current_version"].as_u64() {
            Some(current) if current > 0 => Ended::Answered(Reply::VersionMismatch { current }),
            Some(_) | None => Ended::Answered(Reply::NoKey),
        },
        (503 | 504, _) => match answer.json()["error"]["may_take_effect"].as_bool() {
            Some(true) => Ended::Maybe,
            Some(false) | None => Ended::Failed,
        },
        _ => panic!("{answer:?}"),
    }
}

/// Writes new keys without a condition, each under a name until it is acknowledged; returns them.
pub(super) fn write_once(chaos: &Chaos, number: u32) -> Vec<String> {
    let mut nodes = Nodes { next: usize::try_from(number).unwrap() };
    let mut written = Vec::new();
    while chaos.goes_on() {
        let name = format!("{number}-{}", written.len());
        let path = format!("/v1/kv/once%2F{name}");
        let begun = Instant::now();
        loop {
            let headers = [("idempotency-key", &*name)];
            let answer = nodes.ask(chaos, "PUT", &path, &headers, b"v");
            match &answer {
                Ok(answer) if answer.status == 201 => break,
                Ok(answer) if ![503, 504].contains(&answer.status) => panic!("{answer:?}"),
                Ok(_) | Err(_) => nodes.go_on(answer.as_ref().ok()),
            }
            assert!(begun.elapsed() < PATIENCE, "{name}: {answer:?}");
        }
        written.push(format!("once/{name}"));
    }
    written
}
