//! Clients of real processes of which the leader is killed or stopped again and again: what they are told is linearizable,
//! and what is to be done once is done once.
//!
//! `CHAOS_SECONDS=60 cargo test -p kv-example --test it chaos` goes on for as long; by default it is a few seconds.

mod binary;
mod http;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kv_example::bench::history::{Call, Event, Line, Outcome};
use raft_sim::checkers::linearizability::{Verdict, check};
use raft_sim::history::{Ended, History, OperationId};
use raft_sim::model::register::{Reply, Request, VersionedStore};

use crate::process::Cluster;

/// Clients that read and write a few keys: their history is checked.
const READERS_AND_WRITERS: u32 = 14;
/// Clients that write a new key each time, without a condition: its version counts how often.
const ONCE: u32 = 6;
/// So few that clients meet.
const KEYS: u32 = 8;

type Told = History<Request<String, String>, Reply<String>>;

fn seconds() -> Duration {
    let seconds = std::env::var("CHAOS_SECONDS").ok().map(|text| text.parse().expect("a number"));
    Duration::from_secs(seconds.unwrap_or(4))
}

#[test]
fn chaos_over_the_binary_protocol() {
    let chaos = Chaos::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let (report, once) = chaos.run(|chaos| {
        std::thread::scope(|scope| {
            let once = scope.spawn(|| binary::write_once(chaos));
            let report = binary::bench(chaos, &path);
            (report, once.join().unwrap())
        })
    });
    let told = read(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(report["operations"], told.outcomes().answered - conflicts(&told), "{report}");
    chaos.judge("binary", &told, &once);
}

#[test]
fn chaos_over_http() {
    let chaos = Chaos::start(&["--http", "127.0.0.1:0"]);
    let told = Mutex::new(Told::new());
    let once = chaos.run(|chaos| {
        std::thread::scope(|scope| {
            for number in 0..READERS_AND_WRITERS {
                let told = &told;
                scope.spawn(move || http::read_and_write(chaos, u64::from(number), told));
            }
            let writers: Vec<_> = (0..ONCE)
                .map(|number| scope.spawn(move || http::write_once(chaos, number)))
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        })
    });
    chaos.judge("HTTP", &told.into_inner().unwrap(), &once);
}

/// A cluster, and what happens to it.
struct Chaos {
    cluster: Mutex<Cluster>,
    begin: Instant,
    /// The clients have ended.
    over: AtomicBool,
    kills: AtomicU64,
    stops: AtomicU64,
}

impl Chaos {
    fn start(options: &[&str]) -> Chaos {
        let cluster = Cluster::start(3, options);
        cluster.leader();
        let (over, kills, stops) = Default::default();
        Chaos { cluster: Mutex::new(cluster), begin: Instant::now(), over, kills, stops }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// Whether clients are to begin something new.
    fn goes_on(&self) -> bool {
        self.begin.elapsed() < seconds()
    }

    /// What `clients` returns, while the leader is killed and stopped in turn.
    fn run<T>(&self, clients: impl FnOnce(&Chaos) -> T) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| self.disturb());
            let result = clients(self);
            self.over.store(true, Ordering::SeqCst);
            result
        })
    }

    /// The clients wait for no more than they must, once it is over: so all nodes run then.
    fn disturb(&self) {
        const AWAY: Duration = Duration::from_millis(700);
        const QUIET: Duration = Duration::from_millis(1_000);
        while self.goes_on() && !self.over.load(Ordering::SeqCst) {
            let leader = self.cluster().leader();
            if self.kills.load(Ordering::SeqCst) <= self.stops.load(Ordering::SeqCst) {
                self.cluster().kill(leader);
                std::thread::sleep(AWAY);
                self.cluster().restart(leader);
                self.kills.fetch_add(1, Ordering::SeqCst);
            } else {
                self.cluster().node(leader).signal("STOP");
                std::thread::sleep(AWAY);
                self.cluster().node(leader).signal("CONT");
                self.stops.fetch_add(1, Ordering::SeqCst);
            }
            std::thread::sleep(QUIET);
        }
    }

    fn judge(&self, protocol: &str, told: &Told, once: &[String]) {
        let verdict = check(&VersionedStore::<String, String>::new(), told);
        assert!(matches!(verdict, Verdict::Linearizable), "{verdict:#?}");
        let versions = versions(&self.cluster());
        for key in once {
            assert_eq!(versions.get(key), Some(&1), "{key} was acknowledged");
        }
        let written = versions.iter().filter(|(key, _)| key.starts_with("once/"));
        let twice: Vec<_> = written.filter(|(_, version)| **version != 1).collect();
        assert!(twice.is_empty(), "written more than once: {twice:?}");
        let outcomes = told.outcomes();
        let (answered, seconds) = (outcomes.answered - conflicts(told) + once.len(), seconds());
        let (kills, stops) = (self.kills.load(Ordering::SeqCst), self.stops.load(Ordering::SeqCst));
        println!(
            "{protocol}: {seconds:?}, {kills} kills and {stops} stops of the leader: {answered} requests done, {} of \
             them exactly once; {} conflicts, {} maybe, {} failed",
            once.len(),
            conflicts(told),
            outcomes.maybe,
            outcomes.failed
        );
        assert!(kills > 0 && answered as u64 >= seconds.as_secs() * 1_000 / 60, "{answered} done");
    }
}

/// Writes that met another version than they expected: answered, and not done.
fn conflicts(told: &Told) -> usize {
    let answers = told.operations().iter().filter_map(|operation| operation.answer());
    answers
        .filter(|(_, reply)| matches!(reply, Reply::VersionMismatch { .. } | Reply::NoKey))
        .count()
}

/// The version of each key, as the store has it in the end.
fn versions(cluster: &Cluster) -> BTreeMap<String, u64> {
    let scanned = cluster.run(&["scan", "--json"]).ok();
    let entries = scanned.text().lines().map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        (entry["key"].as_str().unwrap().to_owned(), entry["version"].as_u64().unwrap())
    });
    entries.collect()
}

/// A history as it is documented, for the checker.
fn read(text: &str) -> Told {
    let mut told = Told::new();
    let mut open: BTreeMap<(u32, u64), (OperationId, bool)> = BTreeMap::new();
    for line in text.lines() {
        let Line { time_us, client, op, event } = serde_json::from_str(line).unwrap();
        let now = Duration::from_micros(time_us);
        match event {
            Event::Call(call) => {
                let (request, is_read) = match call {
                    Call::Get { key } => (Request::Get { key: key.to_owned() }, true),
                    Call::Put { key, version, value } => {
                        let (key, value) = (key.to_owned(), value.to_owned());
                        (Request::Put { key, value, version }, false)
                    }
                };
                let id = told.begin(u64::from(client), request, now);
                open.insert((client, op), (id, is_read));
            }
            Event::Answer(outcome) => {
                let (id, is_read) = open.remove(&(client, op)).expect("it was called");
                let ended = match (outcome, is_read) {
                    (Outcome::Ok { version, value }, true) => {
                        Ended::Answered(Reply::Value(value.map(|value| (version, value))))
                    }
                    (Outcome::Ok { version, .. }, false) => {
                        Ended::Answered(Reply::Written { version })
                    }
                    (Outcome::Conflict { version: 0 }, _) => Ended::Answered(Reply::NoKey),
                    (Outcome::Conflict { version }, _) => {
                        Ended::Answered(Reply::VersionMismatch { current: version })
                    }
                    (Outcome::No { .. }, _) => Ended::Failed,
                    (Outcome::Maybe { .. }, _) => Ended::Maybe,
                };
                told.end(id, ended, now);
            }
        }
    }
    told
}
