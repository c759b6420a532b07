//! One key: `/v1/kv/{key}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::condition::condition;
use super::error::{HttpError, etag, json_response};
use super::held::holding;
use super::key::Key;
use super::routes::{NoParameters, Parameters};
use super::write::carry_out;
use super::{Node, body};
use crate::connect::Consistency;
use crate::store::{Answer, Command, LeaseId, Query, Response as Outcome, Version, Versioned};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetParameters {
    #[serde(default)]
    consistency: Consistency,
}

/// The value as it is.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Key(key): Key,
    Parameters(GetParameters { consistency }): Parameters<GetParameters>,
) -> Result<Response, HttpError> {
    match node.ask(Query::Get { key }, consistency).await? {
        Answer::Value(Some(versioned)) => {
            // It outlives the key for as long as it is read.
            let room = node.responses.take(versioned.value.len())?;
            Ok(holding(value_response(versioned), room))
        }
        Answer::Value(None) => Err(HttpError::no_key()),
        Answer::Page(_) | Answer::Changes(_) | Answer::Lease(_) | Answer::About(_) => {
            Err(HttpError::wrong_kind())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutParameters {
    lease: Option<u64>,
}

/// Creates or replaces a value.
pub(super) async fn put(
    State(node): State<Arc<Node>>,
    Key(key): Key,
    Parameters(PutParameters { lease }): Parameters<PutParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let version = condition(&headers)?;
    let read = body::read(&node, &headers, body, node.limits.value_bytes_max).await?;
    let (value, lease) = (read.bytes.clone(), lease.map(LeaseId));
    let command = Command::Set { key, value, version, lease };
    match carry_out(&node, &headers, command).await? {
        Outcome::Written { version } => {
            let created = version == Version::ABSENT.next();
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let mut response = json_response(status, &json!({ "version": version.0 }));
            response.headers_mut().insert(ETAG, etag(version));
            Ok(response)
        }
        Outcome::VersionMismatch { current } => Err(HttpError::version_mismatch(current)),
        Outcome::NoKey => Err(HttpError::version_mismatch(Version::ABSENT)),
        Outcome::NoLease => Err(HttpError::no_lease(StatusCode::CONFLICT)),
        Outcome::TooMany => Err(HttpError::new(
            StatusCode::CONFLICT,
            "lease-full",
            "too many keys are tied to the lease",
        )),
        Outcome::Deleted { .. }
        | Outcome::Committed { .. }
        | Outcome::ConditionFailed { .. }
        | Outcome::Granted { .. }
        | Outcome::KeptAlive { .. }
        | Outcome::Revoked => Err(HttpError::wrong_kind()),
    }
}

/// Removes the key.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    Key(key): Key,
    _: Parameters<NoParameters>,
    headers: HeaderMap,
) -> Result<StatusCode, HttpError> {
    let version = condition(&headers)?;
    if version == Some(Version::ABSENT) {
        return Err(HttpError::bad("bad-condition", "only a key that exists can be deleted"));
    }
    match carry_out(&node, &headers, Command::Delete { key, version }).await? {
        Outcome::Deleted { .. } => Ok(StatusCode::NO_CONTENT),
        Outcome::VersionMismatch { current } => Err(HttpError::version_mismatch(current)),
        Outcome::NoKey => Err(HttpError::no_key()),
        Outcome::Written { .. }
        | Outcome::Committed { .. }
        | Outcome::ConditionFailed { .. }
        | Outcome::Granted { .. }
        | Outcome::KeptAlive { .. }
        | Outcome::Revoked
        | Outcome::NoLease
        | Outcome::TooMany => Err(HttpError::wrong_kind()),
    }
}

impl Node {
    pub(super) async fn ask(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<Answer, HttpError> {
        match self.raft.query_with(query, consistency.into()).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(HttpError::of_read(error, self).await),
        }
    }
}

fn value_response(versioned: Versioned) -> Response {
    let Versioned { version, value, created, modified, lease } = versioned;
    let mut response = Response::new(Body::from(value));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ETAG, etag(version));
    headers.insert("kv-created-revision", HeaderValue::from(created.0));
    headers.insert("kv-modified-revision", HeaderValue::from(modified.0));
    if let Some(lease) = lease {
        headers.insert("kv-lease", HeaderValue::from(lease.0));
    }
    response
}
