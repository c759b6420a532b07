//! What a node says of itself, as JSON: on the command line and over HTTP it is the same.

use raft_rsm::Status;
use raft_rsm::raft_core::{EntryId, Role};
use serde_json::{Value, json};

/// How a node that answers is doing; `address` is where the others reach it.
#[must_use]
pub fn status_json(address: &str, status: &Status) -> Value {
    json!({
        "id": status.id.0,
        "address": address,
        "reachable": true,
        "role": role(status),
        "term": status.term.0,
        "leader": status.leader.map(|leader| leader.0),
        "commit": status.commit.0,
        "applied": status.applied.0,
        "last": log_end_json(status.last),
        "log_bytes": status.log_bytes,
        "snapshot": status.snapshot.map(|last| json!({
            "index": last.index.0,
            "term": last.term.0,
            "bytes": status.snapshot_bytes,
        })),
        "incarnation": status.incarnation.to_string(),
        "transferring": status.transferring.map(|to| to.0),
        "diverged": status.diverged.map(|diverged| json!({
            "peer": diverged.peer.0,
            "index": diverged.index.0,
        })),
        "refused": Value::from_iter(refused(status)),
    })
}

/// The last entry of a log.
#[must_use]
pub fn log_end_json(id: EntryId) -> Value {
    json!({ "term": id.term.0, "index": id.index.0 })
}

/// What the node had to refuse, and its protocol: they stand still in a healthy cluster.
#[must_use]
pub fn refused(status: &Status) -> [(&'static str, u64); 14] {
    let (refused, counters) = (&status.refused, &status.counters);
    [
        ("packets", refused.packets),
        ("packets_senseless", refused.packets_senseless),
        ("chunks_damaged", refused.chunks_damaged),
        ("snapshots_too_long", refused.snapshots_too_long),
        ("snapshots_by_peers", refused.snapshots_by_peers),
        ("requests", refused.requests),
        ("misaddressed", counters.misaddressed),
        ("forgotten_incarnations", counters.forgotten_incarnations),
        ("malformed", counters.malformed),
        ("second_leader", counters.second_leader),
        ("conflicts_with_committed", counters.conflicts_with_committed),
        ("acknowledged_unsent", counters.acknowledged_unsent),
        ("appends_dropped", counters.appends_dropped),
        ("snapshots_refused", counters.snapshots_refused),
    ]
}

/// All that [`role`] can say.
pub const ROLES: [&str; 5] = ["follower", "pre-candidate", "candidate", "leader", "stopped"];

/// The role of a node, in one word.
#[must_use]
pub fn role(status: &Status) -> &'static str {
    if !status.running {
        return "stopped";
    }
    match status.role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
