//! The node in numbers, in Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use raft_rsm::Status;

use super::latency::Latencies;
use super::{Node, WATCHES_MAX};
use crate::connect::Consistency;
use crate::report::{ROLES, refused, role};
use crate::store::{Answer, Holds, Query};

/// A state machine that is busy for longer is left out: what the node itself counts is wanted just then.
const ASKED_FOR: Duration = Duration::from_millis(200);

const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What is counted of requests.
#[derive(Default)]
pub(super) struct Metrics {
    answered: Mutex<Answered>,
    in_flight: AtomicU64,
}

/// There are only so many routes, methods and statuses, whatever is asked for.
#[derive(Clone, Default)]
struct Answered {
    /// By route, method and status.
    counts: BTreeMap<(String, &'static str, u16), u64>,
    /// By route.
    latencies: BTreeMap<String, Latencies>,
}

/// A request that is not answered yet.
pub(super) struct InFlight<'m> {
    metrics: &'m Metrics,
    begun: Instant,
}

impl Metrics {
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { metrics: self, begun: Instant::now() }
    }

    fn answered(&self) -> MutexGuard<'_, Answered> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight<'_> {
    /// It is answered.
    pub(super) fn end(self, route: &str, method: &Method, status: StatusCode) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let took = self.begun.elapsed();
        let mut answered = self.metrics.answered();
        *answered.counts.entry((route.to_owned(), method, status.as_u16())).or_default() += 1;
        answered.latencies.entry(route.to_owned()).or_default().add(took);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn get(State(node): State<Arc<Node>>) -> Response {
    let mut text = Text::default();
    of_replica(&mut text, &node.raft.status());
    // A node that cannot say it now says the rest.
    let asked = node.ask(Query::About, Consistency::Stale);
    if let Ok(Ok(Answer::About(about))) = tokio::time::timeout(ASKED_FOR, asked).await {
        of_store(&mut text, &about.holds);
    }
    of_http(&mut text, &node);
    ([(CONTENT_TYPE, FORMAT)], text.0).into_response()
}

fn of_replica(text: &mut Text, status: &Status) {
    let own = role(status);
    let roles = ROLES.map(|role| ([("role", role)], u64::from(role == own)));
    text.family("raft_role", "gauge", "Whether the node has this role.", roles);
    let leader = status.leader.map_or(0, |leader| leader.0);
    let (snapshot, diverged) = (status.snapshot.map_or(0, |last| last.index.0), status.diverged);
    for (name, help, value) in [
        ("raft_term", "The node's term.", status.term.0),
        ("raft_leader_id", "The leader that the node knows, 0 if none.", leader),
        (
            "raft_commit_index",
            "The last entry that the node knows to be committed.",
            status.commit.0,
        ),
        (
            "raft_applied_index",
            "The last entry that the state machine has applied.",
            status.applied.0,
        ),
        ("raft_last_index", "The last entry of the log.", status.last.index.0),
        ("raft_durable_index", "The last entry that is durable.", status.durable.0),
        ("raft_log_bytes", "Bytes of the log on disk.", status.log_bytes),
        ("raft_log_tail_bytes", "Bytes of the log in memory.", status.tail_bytes),
        ("raft_snapshot_index", "The last entry in the newest snapshot, 0 if none.", snapshot),
        (
            "raft_snapshot_bytes",
            "Bytes of the newest snapshot, where known.",
            status.snapshot_bytes,
        ),
        (
            "raft_diverged",
            "Whether another member is not what this one is.",
            diverged.is_some().into(),
        ),
    ] {
        text.single(name, "gauge", help, value);
    }
    let reasons = refused(status).map(|(reason, count)| ([("reason", reason)], count));
    let help = "What the node or its protocol had to refuse.";
    text.family("raft_refused_total", "counter", help, reasons);
}

fn of_store(text: &mut Text, holds: &Holds) {
    let Holds { keys, leases, history_bytes, history_from, history_to: _, history_age } = *holds;
    text.single("kv_keys", "gauge", "Keys in the store.", keys);
    text.single("kv_leases", "gauge", "Leases that live.", leases);
    let help = "Bytes of what has happened lately, for those who watch.";
    text.single("kv_history_bytes", "gauge", help, history_bytes);
    let help = "The first revision from which on watches can begin.";
    text.single("kv_history_first_revision", "gauge", help, history_from.0);
    let help =
        "How long ago the oldest of it happened, by the time of the log; 0 if there is none.";
    text.single("kv_history_seconds", "gauge", help, history_age.map_or(0, |age| age.as_secs()));
}

fn of_http(text: &mut Text, node: &Node) {
    let Answered { counts, latencies } = node.metrics.answered().clone();
    let counts = counts.into_iter().map(|((route, method, status), count)| {
        ([("route", route), ("method", method.to_owned()), ("status", status.to_string())], count)
    });
    text.family("kv_http_requests_total", "counter", "Requests that were answered.", counts);
    text.latencies(
        "kv_http_request_seconds",
        "Until there was a response, whose body may take longer.",
        &latencies,
    );
    let in_flight = node.metrics.in_flight.load(Ordering::Relaxed);
    text.single("kv_http_requests_in_flight", "gauge", "Requests without an answer.", in_flight);
    let open = node.connections.count() as u64;
    text.single("kv_http_connections", "gauge", "Connections that are open.", open);
    let help = "Connections that were refused, since all were in use.";
    text.single("kv_http_connections_refused_total", "counter", help, node.connections.refused());
    let watches = (WATCHES_MAX - node.watches.available_permits()) as u64;
    text.single("kv_http_watches", "gauge", "Watches under way.", watches);
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help, [([("", ""); 0], value)]);
    }

    /// A histogram, by route.
    fn latencies(&mut self, name: &str, help: &str, routes: &BTreeMap<String, Latencies>) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (route, latencies) in routes {
            for (bound, count) in latencies.buckets() {
                let labels = format!("route=\"{route}\",le=\"{bound}\"");
                let _ = writeln!(self.0, "{name}_bucket{{{labels}}} {count}");
            }
            let (sum, count) = (latencies.sum().as_secs_f64(), latencies.count());
            let _ = writeln!(self.0, "{name}_sum{{route=\"{route}\"}} {sum}");
            let _ = writeln!(self.0, "{name}_count{{route=\"{route}\"}} {count}");
        }
    }

    fn family<const N: usize, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'static str, V); N], u64)>,
    ) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels = labels.map(|(label, value)| format!("{label}=\"{value}\"")).join(",");
            let _ = match labels.is_empty() {
                true => writeln!(self.0, "{name} {value}"),
                false => writeln!(self.0, "{name}{{{labels}}} {value}"),
            };
        }
    }
}
