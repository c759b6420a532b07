//! `bench`: a load on the cluster, and how it was borne.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use raft_rsm::Runtime;
use raft_rsm::runtime::TokioRuntime;
use serde_json::{Value, json};

use super::{ClusterArgs, seconds};
use crate::bench::history::History;
use crate::bench::{self, Latencies, Report};
use crate::failure::Failure;
use crate::output::{self, print, print_line};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv-example bench --cluster $CLUSTER
  kv-example bench --cluster $CLUSTER --clients 64 --values 1024 --reads 90 --seconds 60
  kv-example bench --cluster $CLUSTER --sessions --history run.jsonl --json

Each client has a connection of its own to each node, and one request under way. Reads are linearizable; writes are \
conditional on the version that some client has heard of last, so now and then one collides with another and changes \
nothing (`conflict`). `maybe` is a write of which nobody knows whether it took effect, `no` a request that definitely did \
not. The keys begin with bench/ and a number that is new for each run, and are deleted at the end.

Times are those of requests that were answered, within one part of a hundred. The exit code is 2 if none was.")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// The length of the values
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = value_bytes)]
    values: usize,
    /// How many of a hundred requests are reads
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// How long it lasts
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Give each client a session: every write is made exactly once, however often it is sent
    #[arg(long)]
    sessions: bool,
    /// Write every call and answer into this file, as JSON lines: see kv-example/docs/history.md
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Leave the keys in the store
    #[arg(long)]
    keep: bool,
    /// Print an object
    #[arg(long)]
    json: bool,
}

/// What a cluster takes is known to its nodes alone; more than this no cluster does.
fn value_bytes(text: &str) -> Result<usize, String> {
    const VALUE_BYTES_MAX: usize = 64 << 20;
    match text.parse::<usize>() {
        Ok(bytes) if bytes <= VALUE_BYTES_MAX => Ok(bytes),
        Ok(_) | Err(_) => Err(format!("expected a number of bytes from 0 to {VALUE_BYTES_MAX}")),
    }
}

pub(super) async fn bench(args: BenchArgs) -> Result<(), Failure> {
    let BenchArgs { cluster, clients, values, reads, seconds, keys, sessions, history, keep, json } =
        args;
    let history = history.map(|path| History::create(&path)).transpose()?;
    let options = bench::Options {
        cluster: cluster.cluster,
        clients,
        value_bytes: values,
        reads_percent: reads,
        keys,
        duration: seconds,
        deadline: cluster.timeout,
        sessions,
        keep,
        seed: TokioRuntime::current().map_err(Failure::environment)?.random(),
    };
    let bar = output::clock(seconds);
    let report = bench::run(&options, history, &|| bar.tick()).await;
    bar.finish_and_clear();
    let report = report?;
    match json {
        true => print_line(&as_json(&options, &report).to_string())?,
        false => print(as_text(&options, &report).as_bytes())?,
    }
    match (report.operations(), &report.example) {
        (0, Some(example)) => {
            Err(Failure::environment(format!("no request was answered: {example}")))
        }
        _ => Ok(()),
    }
}

fn as_text(options: &bench::Options, report: &Report) -> String {
    let mut text = format!(
        "{} clients{}, values of {} bytes, {} % reads, {} keys, {:.1} s: {} operations, {:.0} a second\n",
        options.clients,
        if options.sessions { " in sessions" } else { "" },
        options.value_bytes,
        options.reads_percent,
        options.keys,
        report.elapsed.as_secs_f64(),
        report.operations(),
        report.per_second(report.operations()),
    );
    let row = |name: &str, latencies: &Latencies| {
        let shown = |percent| match latencies.count() {
            0 => "-".to_owned(),
            _ => format!("{:.2} ms", latencies.percentile(percent).as_secs_f64() * 1e3),
        };
        [
            name.to_owned(),
            latencies.count().to_string(),
            format!("{:.0}", report.per_second(latencies.count())),
            shown(50.0),
            shown(99.0),
            shown(99.9),
            shown(100.0),
        ]
    };
    let heading = ["", "count", "a second", "p50", "p99", "p99.9", "longest"];
    text.push_str(&output::table(
        heading,
        &[row("reads", &report.reads), row("writes", &report.writes)],
    ));
    let errors: Vec<String> =
        report.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !errors.is_empty() {
        text.push_str(&format!("not done: {}\n", errors.join(", ")));
    }
    if let Some(example) = &report.example {
        text.push_str(&format!("one of these: {example}\n"));
    }
    text
}

fn as_json(options: &bench::Options, report: &Report) -> Value {
    let latencies = |latencies: &Latencies| {
        let micros = |percent| latencies.percentile(percent).as_secs_f64() * 1e6;
        json!({
            "count": latencies.count(),
            "per_second": report.per_second(latencies.count()),
            "p50_us": micros(50.0),
            "p99_us": micros(99.0),
            "p99.9_us": micros(99.9),
            "max_us": micros(100.0),
        })
    };
    json!({
        "clients": options.clients,
        "sessions": options.sessions,
        "value_bytes": options.value_bytes,
        "reads_percent": options.reads_percent,
        "keys": options.keys,
        "prefix": report.prefix,
        "seconds": report.elapsed.as_secs_f64(),
        "operations": report.operations(),
        "per_second": report.per_second(report.operations()),
        "reads": latencies(&report.reads),
        "writes": latencies(&report.writes),
        "errors": report.errors,
        "error_example": report.example,
    })
}
