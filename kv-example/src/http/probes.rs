//! How the node is doing: for operators, and for programs that send traffic to it or start it again.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use raft_rsm::Consistency;
use serde_json::json;

use super::Node;
use super::error::{HttpError, json_response};
use super::routes::{NoParameters, Parameters};
use crate::report::status_json;
use crate::store::Query;

/// A node whose state machine does not get to a question within this is not ready.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// As `kv-example status --json`, for this node.
pub(super) async fn status(State(node): State<Arc<Node>>, _: Parameters<NoParameters>) -> Response {
    let status = node.raft.status();
    let member = status.configuration.member(status.id);
    let address = member.map_or("-", |member| &*member.address);
    json_response(StatusCode::OK, &status_json(address, &status))
}

/// The process lives.
pub(super) async fn healthz() -> Response {
    json_response(StatusCode::OK, &json!({ "healthy": true }))
}

/// The node knows a leader, and its state machine keeps up.
pub(super) async fn readyz(State(node): State<Arc<Node>>) -> Result<Response, HttpError> {
    let status = node.raft.status();
    if !status.running {
        return Err(HttpError::unavailable("stopped", "the node is stopping"));
    }
    let Some(leader) = status.leader else {
        return Err(HttpError::unavailable("no-leader", "no leader is known"));
    };
    // What is asked stands behind what is to be applied.
    let applies = node.raft.query_with(Query::About, Consistency::Stale);
    match tokio::time::timeout(READY_WITHIN, applies).await {
        Ok(Ok(_)) => {
            Ok(json_response(StatusCode::OK, &json!({ "ready": true, "leader": leader.0 })))
        }
        Ok(Err(error)) => Err(HttpError::of_read(error, &node).await),
        Err(_) => {
            Err(HttpError::unavailable("does-not-apply", "the state machine does not keep up"))
        }
    }
}
