//! A load on a cluster, and how it was borne: many clients read and write a few keys as fast as they are answered, on
//! connections of their own. Every call and answer can be written down for an outside checker ([`history`]).

pub mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use hdrhistogram::Histogram;
use raft_rsm::Cluster;

use self::history::{Call, History, Outcome, WriteFailed};
use crate::clerk::{Clerk, PutError};
use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::store::Version;

/// What the load is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nodes and where they listen.
    pub cluster: Cluster,
    /// Clients, each with one request under way.
    pub clients: u32,
    /// The length of the values, in bytes. They begin with a name, which may be longer than that.
    pub value_bytes: usize,
    /// How many of a hundred requests are reads.
    pub reads_percent: u8,
    /// How many keys there are.
    pub keys: u32,
    /// How long it lasts. Requests that are under way then are waited for.
    pub duration: Duration,
    /// A request ends after this, all its tries together.
    pub deadline: Duration,
    /// Whether each client has a session: then it is told "maybe" only when its deadline has passed.
    pub sessions: bool,
    /// Leave the keys in the store.
    pub keep: bool,
    /// Sets the keys of this run apart, and all that is left to chance.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// How long it lasted.
    pub elapsed: Duration,
    /// How long reads took that were answered.
    pub reads: Latencies,
    /// How long writes took that were made.
    pub writes: Latencies,
    /// How many requests ended otherwise, by what they were told.
    pub errors: BTreeMap<&'static str, u64>,
    /// One of the errors, in words.
    pub example: Option<String>,
    /// How the keys of this run begin.
    pub prefix: String,
}

/// How long requests took.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// Up to here it is told apart how long a request took: no deadline is longer.
const LATENCY_MAX: Duration = Duration::from_secs(86_400);

/// A session is closed within this, or ends by itself.
const CLOSING: Duration = Duration::from_secs(2);

/// So many of the keys are deleted at once.
const DELETIONS: usize = 64;

impl Latencies {
    fn new() -> Latencies {
        // Two digits: within a hundredth.
        Latencies(Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are allowed")))
    }

    fn record(&mut self, took: Duration) {
        // It grows as far as that is, so there is room for each.
        let _ = self.0.record(micros(took.min(LATENCY_MAX)));
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// So many of a hundred took no longer than this, within a hundredth. Zero if there were none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.0.value_at_percentile(percent))
    }
}

/// Puts the load on the cluster, and writes each call and answer to `history`. `progress` is told of each request that has
/// ended.
///
/// # Errors
/// The history cannot be written: what was begun until then is finished.
pub async fn run(
    options: &Options,
    history: Option<History>,
    progress: &(dyn Fn() + Sync),
) -> Result<Report, Failure> {
    let prefix = format!("bench/{:016x}/", options.seed);
    let versions = (0..options.keys).map(|_| AtomicU64::new(0)).collect();
    let begin = Instant::now();
    let shared = Shared {
        options,
        prefix: &prefix,
        versions,
        history,
        begin,
        ended: AtomicBool::new(false),
        progress,
    };
    let clients = (0..options.clients)
        .map(|number| {
            let client = connect(&options.cluster, within(options.deadline))?;
            let clerk = match options.sessions {
                true => Clerk::in_session(client),
                false => Clerk::new(client),
            };
            Ok(OneClient::new(number, clerk, &shared).run())
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let all = join_all(clients).await;
    let mut report = Report::new(&prefix);
    for of_one in all {
        report.add(of_one);
    }
    if let Some(history) = &shared.history {
        history.finish()?;
    }
    if !options.keep {
        delete_all(options, &prefix).await?;
    }
    Ok(report)
}

/// The keys of a run are nobody's after it.
async fn delete_all(options: &Options, prefix: &str) -> Result<(), Failure> {
    let clerk = Clerk::new(connect(&options.cluster, within(options.deadline))?);
    let keys: Vec<String> = (0..options.keys).map(|key| format!("{prefix}{key}")).collect();
    for keys in keys.chunks(DELETIONS) {
        // A key may never have been written; and what cannot be deleted now is not worth a failure of all.
        join_all(keys.iter().map(|key| clerk.delete(key, None))).await;
    }
    Ok(())
}

/// What all clients of a run have in common.
struct Shared<'r> {
    options: &'r Options,
    prefix: &'r str,
    /// The highest version of each key that any client has heard of: so writes mostly are about the one that it has.
    versions: Vec<AtomicU64>,
    history: Option<History>,
    begin: Instant,
    /// The history cannot be written any more.
    ended: AtomicBool,
    progress: &'r (dyn Fn() + Sync),
}

struct OneClient<'r> {
    number: u32,
    clerk: Clerk,
    shared: &'r Shared<'r>,
    random: Random,
    report: Report,
}

impl<'r> OneClient<'r> {
    fn new(number: u32, clerk: Clerk, shared: &'r Shared<'r>) -> OneClient<'r> {
        let random = Random(shared.options.seed ^ (u64::from(number) << 32));
        let report = Report::new(shared.prefix);
        OneClient { number, clerk, shared, random, report }
    }

    async fn run(mut self) -> Report {
        let Options { duration, keys, reads_percent, .. } = *self.shared.options;
        for operation in 0.. {
            if self.shared.begin.elapsed() >= duration || self.shared.ended.load(Ordering::Relaxed)
            {
                break;
            }
            let key = self.random.below(keys);
            let reads = self.random.below(100) < u32::from(reads_percent);
            let name = (self.number, operation);
            let begun = Instant::now();
            let outcome = match reads {
                true => self.read(name, key).await,
                false => self.write(name, key).await,
            };
            let took = begun.elapsed();
            match (&outcome, reads) {
                (Outcome::Ok { .. }, true) => self.report.reads.record(took),
                (Outcome::Ok { .. }, false) => self.report.writes.record(took),
                (Outcome::Conflict { .. } | Outcome::No { .. } | Outcome::Maybe { .. }, _) => {
                    self.report.error(&outcome);
                }
            }
            (self.shared.progress)();
        }
        self.report.elapsed = self.shared.begin.elapsed();
        // The nodes need not remember it for longer; if they do not hear of it, it ends by itself.
        let _ = tokio::time::timeout(CLOSING, self.clerk.close()).await;
        self.report
    }

    async fn read(&self, name: (u32, u64), key: u32) -> Outcome {
        let key_name = format!("{}{key}", self.shared.prefix);
        self.note_call(name, &Call::Get { key: &key_name });
        let outcome = match self.clerk.get(&key_name).await {
            Ok(found) => Outcome::Ok {
                version: found.as_ref().map_or(0, |found| found.version.0),
                value: found.map(|found| history::name_of(&found.value)),
            },
            Err(error) => Outcome::No { reason: error.to_string() },
        };
        self.note_answer(name, key, &outcome);
        outcome
    }

    async fn write(&self, name: (u32, u64), key: u32) -> Outcome {
        let key_name = format!("{}{key}", self.shared.prefix);
        let version = self.shared.versions[key as usize].load(Ordering::Relaxed);
        let value = history::value(name, self.shared.options.value_bytes);
        let value_name = history::name_of(&value);
        self.note_call(name, &Call::Put { key: &key_name, version, value: &value_name });
        let outcome = match self.clerk.put(&key_name, Bytes::from(value), Version(version)).await {
            Ok(version) => Outcome::Ok { version: version.0, value: None },
            Err(PutError::VersionMismatch { current }) => Outcome::Conflict { version: current.0 },
            Err(PutError::NoKey) => Outcome::Conflict { version: 0 },
            Err(error @ PutError::Maybe) => Outcome::Maybe { reason: error.to_string() },
            Err(PutError::Client(error)) if error.may_take_effect() => {
                Outcome::Maybe { reason: error.to_string() }
            }
            Err(PutError::Client(error)) => Outcome::No { reason: error.to_string() },
        };
        self.note_answer(name, key, &outcome);
        outcome
    }

    fn note_call(&self, name: (u32, u64), call: &Call<'_>) {
        self.note(|history| history.call(name, call));
    }

    fn note_answer(&self, name: (u32, u64), key: u32, outcome: &Outcome) {
        let known = match outcome {
            Outcome::Ok { version, .. } | Outcome::Conflict { version } => *version,
            // It may be the next one: that is found out by the next conflict.
            Outcome::Maybe { .. } | Outcome::No { .. } => 0,
        };
        self.shared.versions[key as usize].fetch_max(known, Ordering::Relaxed);
        self.note(|history| history.answer(name, outcome));
    }

    /// Writes to the history, if there is one. That it failed, [`History::finish`] says; until then nothing more is begun.
    fn note(&self, write: impl FnOnce(&History) -> Result<(), WriteFailed>) {
        if let Some(history) = &self.shared.history
            && write(history).is_err()
        {
            self.shared.ended.store(true, Ordering::Relaxed);
        }
    }
}

impl Report {
    /// Of nothing yet.
    fn new(prefix: &str) -> Report {
        Report {
            elapsed: Duration::ZERO,
            reads: Latencies::new(),
            writes: Latencies::new(),
            errors: BTreeMap::new(),
            example: None,
            prefix: prefix.to_owned(),
        }
    }

    fn error(&mut self, outcome: &Outcome) {
        *self.errors.entry(outcome.kind()).or_default() += 1;
        if let Outcome::Maybe { reason } | Outcome::No { reason } = outcome {
            self.example = Some(reason.clone());
        }
    }

    fn add(&mut self, of_one: Report) {
        self.elapsed = self.elapsed.max(of_one.elapsed);
        // Both have the same bounds.
        let _ = self.reads.0.add(of_one.reads.0);
        let _ = self.writes.0.add(of_one.writes.0);
        for (kind, count) in of_one.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.example = of_one.example.or(self.example.take());
    }

    /// How many requests were answered or made.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.reads.count() + self.writes.count()
    }

    /// So many of these a second.
    #[must_use]
    pub fn per_second(&self, count: u64) -> f64 {
        let micros = micros(self.elapsed).max(1);
        count as f64 * 1e6 / micros as f64
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Which key is next, and whether it is read: any even spread will do (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = (mixed ^ (mixed >> 31)) >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_turn_and_none_beyond_them() {
        let mut random = Random(7);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }

    #[test]
    fn reports_of_several_clients_are_one() {
        let mut all = Report { elapsed: Duration::from_secs(2), ..Report::new("") };
        for milliseconds in [1, 2, 3, 100] {
            let mut one = Report::new("");
            one.reads.record(Duration::from_millis(milliseconds));
            one.error(&Outcome::Conflict { version: 1 });
            all.add(one);
        }
        assert_eq!((all.operations(), all.errors["conflict"]), (4, 4));
        assert!((all.per_second(4) - 2.0).abs() < 1e-9);
        let (median, most) = (all.reads.percentile(50.0), all.reads.percentile(100.0));
        assert!(
            median.abs_diff(Duration::from_millis(2)) < Duration::from_micros(30),
            "{median:?}"
        );
        assert!(most.abs_diff(Duration::from_millis(100)) < Duration::from_millis(1), "{most:?}");
    }
}
