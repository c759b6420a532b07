//! Leases: `/v1/leases`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::error::{HttpError, json_response};
use super::routes::{NoParameters, Parameters};
use super::write::carry_out;
use super::{Node, body};
use crate::connect::Consistency;
use crate::store::{Answer, Command, LeaseId, LeaseInfo, Query, Response as Outcome};

/// What asks for a lease is short.
const BODY_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ttl_seconds: f64,
}

/// Which lease a path names.
pub(super) struct Id(LeaseId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, HttpError> {
        match Path::<u64>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Id(LeaseId(id))),
            Err(_) => Err(HttpError::bad("bad-lease", "a lease is a number")),
        }
    }
}

/// A lease that ends when it is not kept alive.
pub(super) async fn grant(
    State(node): State<Arc<Node>>,
    _: Parameters<NoParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let read = body::read(&node, &headers, body, BODY_BYTES_MAX).await?;
    let asked = serde_json::from_slice::<Asked>(&read.bytes);
    let Asked { ttl_seconds } = asked.map_err(|error| HttpError::bad("bad-json", error))?;
    let ttl = Duration::try_from_secs_f64(ttl_seconds).ok().filter(|ttl| !ttl.is_zero());
    let Some(ttl) = ttl else {
        return Err(HttpError::bad("bad-json", "ttl_seconds is a number greater than 0"));
    };
    match carry_out(&node, &headers, Command::Grant { ttl }).await? {
        Outcome::Granted { lease } => {
            let granted = json!({ "id": lease.0, "ttl_seconds": ttl.as_secs_f64() });
            let mut response = json_response(StatusCode::CREATED, &granted);
            if let Ok(location) = HeaderValue::from_str(&format!("/v1/leases/{lease}")) {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
        Outcome::TooMany => Err(HttpError::unavailable("leases-full", "there are too many leases")),
        Outcome::Written { .. }
        | Outcome::Deleted { .. }
        | Outcome::VersionMismatch { .. }
        | Outcome::NoKey
        | Outcome::Committed { .. }
        | Outcome::ConditionFailed { .. }
        | Outcome::KeptAlive { .. }
        | Outcome::Revoked
        | Outcome::NoLease => Err(HttpError::wrong_kind()),
    }
}

/// The lease lives for its whole time from now on.
pub(super) async fn keep_alive(
    State(node): State<Arc<Node>>,
    Id(lease): Id,
    _: Parameters<NoParameters>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    match carry_out(&node, &headers, Command::KeepAlive { lease }).await? {
        Outcome::KeptAlive { ttl } => {
            let kept = json!({ "id": lease.0, "ttl_seconds": ttl.as_secs_f64() });
            Ok(json_response(StatusCode::OK, &kept))
        }
        Outcome::NoLease => Err(HttpError::no_lease(StatusCode::NOT_FOUND)),
        Outcome::Written { .. }
        | Outcome::Deleted { .. }
        | Outcome::VersionMismatch { .. }
        | Outcome::NoKey
        | Outcome::Committed { .. }
        | Outcome::ConditionFailed { .. }
        | Outcome::Granted { .. }
        | Outcome::Revoked
        | Outcome::TooMany => Err(HttpError::wrong_kind()),
    }
}

/// Ends the lease, and deletes its keys.
pub(super) async fn revoke(
    State(node): State<Arc<Node>>,
    Id(lease): Id,
    _: Parameters<NoParameters>,
    headers: HeaderMap,
) -> Result<StatusCode, HttpError> {
    match carry_out(&node, &headers, Command::Revoke { lease }).await? {
        Outcome::Revoked => Ok(StatusCode::NO_CONTENT),
        Outcome::NoLease => Err(HttpError::no_lease(StatusCode::NOT_FOUND)),
        Outcome::Written { .. }
        | Outcome::Deleted { .. }
        | Outcome::VersionMismatch { .. }
        | Outcome::NoKey
        | Outcome::Committed { .. }
        | Outcome::ConditionFailed { .. }
        | Outcome::Granted { .. }
        | Outcome::KeptAlive { .. }
        | Outcome::TooMany => Err(HttpError::wrong_kind()),
    }
}

/// How long it lives, and which keys end with it.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Id(lease): Id,
    _: Parameters<NoParameters>,
) -> Result<Response, HttpError> {
    match node.ask(Query::Lease { lease }, Consistency::Linearizable).await? {
        Answer::Lease(Some(LeaseInfo { ttl, left, keys })) => {
            let info = json!({
                "id": lease.0,
                "ttl_seconds": ttl.as_secs_f64(),
                "left_seconds": left.as_secs_f64(),
                "keys": keys,
            });
            Ok(json_response(StatusCode::OK, &info))
        }
        Answer::Lease(None) => Err(HttpError::no_lease(StatusCode::NOT_FOUND)),
        Answer::Value(_) | Answer::Page(_) | Answer::Changes(_) | Answer::About(_) => {
            Err(HttpError::wrong_kind())
        }
    }
}
